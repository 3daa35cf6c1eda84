"""Deep ensembles over a finite list of architectures.

They are pretrained on zero-cost metrics and fitted at several fidelities. The source is Ouertatani et al. (Neural
Architecture Tuning: A BO-Powered NAS Tool, OLA 2024, section 2). Members differ in their random weights; each has one
body, one head per zero-cost metric and one per fidelity. The paper leaves number, size and training of the members
open. The defaults are this project's: they were selected by the rank correlation on ImageNet16-120 in NAS-Bench-201
after 40 random full evaluations and 100 low-fidelity ones, and on no other table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from naaplib.estimators.ensembles.dense import Schedule, forward, initialise, train
from naaplib.estimators.ensembles.encodings import standardise

MODES = ("simultaneous", "sequential")
_LARGEST = 10.0  # largest feature of order one
_CHUNK = 1 << 22  # hidden units per batch of predicted rows

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """Architecture of the members.

    Parameters
    ----------
    widths : tuple of int
        Units of a body's hidden layers, which are dense with SiLU.
    n_fidelities : int
        Heads that `DeepEnsemble.fit` trains. Fidelity 0 is the full evaluation; the others are cheaper.
    """

    widths: tuple[int, ...] = (64, 64, 64)
    n_fidelities: int = 1

    def __post_init__(self) -> None:
        if not self.widths or min(*self.widths, self.n_fidelities) < 1:
            raise ValueError(f"widths are {self.widths}, n_fidelities {self.n_fidelities}; all must be at least 1")


PRETRAINING = Schedule(n_epochs=20, batch_size=256)
FITTING = Schedule(n_epochs=100, rate=0.01, decay=1.0)


class DeepEnsemble:
    """A surrogate of networks that predict all architectures at each fidelity.

    A member depends on the features, the design and its seed, but not on other members. All are trained side by side by
    batched matrix products. Results on one thread are reproducible bit for bit.

    Parameters
    ----------
    features : array_like, shape (n_archs, n_features)
        Features from `naaplib.estimators.ensembles.encodings.encode`.
    seeds : sequence of int
        One seed per member, such as from ``numpy.random.SeedSequence(seed).generate_state(n_members)``.
    design : Design
    dtype : torch.dtype
        Type of the arithmetic: torch.float32 or torch.float64.

    Attributes
    ----------
    weights : list of Tensor
        Weights of bodies and fidelity heads, as in `naaplib.estimators.ensembles.dense`. Every fit begins with them,
        and `naaplib.estimators.ensembles.files` saves them.
    is_pretrained : bool
    """

    def __init__(
        self,
        features: ArrayLike,
        seeds: Iterable[int] = range(5),
        *,
        design: Design = Design(),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        table = np.asarray(features, dtype=float)
        if table.ndim != 2 or not table.size or not np.isfinite(table).all():
            raise ValueError(f"features must be finite numbers (n_archs, n_features); their shape is {table.shape}")
        self.seeds, self.design, self.dtype = tuple(int(seed) for seed in seeds), design, dtype
        if not self.seeds:
            raise ValueError("there are no seeds; an ensemble needs one a member")
        largest = np.abs(table).max()
        if largest > max(_LARGEST, len(table) ** 0.5):  # standardised columns never exceed it
            raise ValueError(
                f"features go up to {largest:.4g}; bring their columns to mean 0 and standard deviation 1, as "
                f"naaplib.estimators.ensembles.encodings.encode does"
            )
        self.features = torch.from_numpy(table).to(dtype)
        self.is_pretrained = False
        generators = self._generators(0)
        self.weights = initialise([table.shape[1], *design.widths, design.n_fidelities], generators, dtype=dtype)
        self._fitted: list[Tensor] | None = None
        self._scales = np.tile([0.0, 1.0], (design.n_fidelities, 1))

    @torch.inference_mode(False)
    def pretrain(
        self,
        metrics: ArrayLike,
        rows: ArrayLike | None = None,
        *,
        schedule: Schedule = PRETRAINING,
        mode: str = "simultaneous",
        log: Sequence[bool] | None = None,
    ) -> DeepEnsemble:
        """Pretrain the bodies to predict zero-cost metrics, with temporary linear heads.

        Parameters
        ----------
        metrics : array_like, shape (n_rows, n_metrics)
            Metrics in any units; each is standardised. NaN (unknown) and constant metrics are ignored.
        rows : array_like of int, shape (n_rows,), or None
            Positions of the architectures that have these metrics; None for all.
        schedule : Schedule
        mode : {"simultaneous", "sequential"}
            All metrics in each step, or one metric after the other, for the schedule's epochs each.
        log : sequence of bool, length n_metrics, or None
            True for each metric whose logarithm is predicted; None takes those that are positive with a skewness above
            1.

        Returns
        -------
        DeepEnsemble
            The ensemble itself. Later fits begin with these bodies.
        """
        if self.is_pretrained:
            raise ValueError("this ensemble has been pretrained; make another one to pretrain it otherwise")
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
        targets = torch.from_numpy(standardise(metrics, log)).to(self.dtype)
        places = self._rows(np.arange(len(self.features)) if rows is None else rows, len(targets))
        known = (~targets.isnan()).to(self.dtype)
        generators = self._generators(1)
        body = [part.clone() for part in self.weights[:-2]]
        heads = initialise([self.design.widths[-1], targets.shape[1]], generators, dtype=self.dtype)
        each = torch.eye(targets.shape[1], dtype=self.dtype, device="cpu")
        for counted in each.sum(dim=0, keepdim=True) if mode == "simultaneous" else each:
            importance = (known * counted).expand(len(self.seeds), -1, -1)
            train(
                [*body, *heads], self.features[places], targets=targets.nan_to_num(), importance=importance,
                schedule=schedule, generators=generators,
            )  # fmt: skip
        self.weights[:-2] = body
        self.is_pretrained, self._fitted = True, None
        return self

    @torch.inference_mode(False)
    def fit(
        self,
        rows: ArrayLike,
        values: ArrayLike,
        *,
        fidelities: ArrayLike | None = None,
        weights: Sequence[float] | None = None,
        schedule: Schedule = FITTING,
    ) -> DeepEnsemble:
        """Train bodies and fidelity heads on evaluations, from the initial state.

        Parameters
        ----------
        rows : array_like of int, shape (n_rows,)
            Positions of evaluated architectures.
        values : array_like, shape (n_rows,)
            Finite values, standardised for each fidelity in training.
        fidelities : array_like of int, shape (n_rows,), or None
            Fidelity of each evaluation; None stands for 0.
        weights : sequence of float, length n_fidelities, or None
            Weight of an evaluation's squared error, by fidelity; None takes 1 for fidelity 0 and 0.5 for the others.
            The paper gives the high fidelity more weight by more epochs, of unknown number.
        schedule : Schedule

        Returns
        -------
        DeepEnsemble
            The ensemble itself.
        """
        places, targets, levels, counted = self._observations(rows, values, fidelities, weights)
        self._fitted = self._fit(places, targets, counted.expand(len(self.seeds), -1, -1), schedule)
        self._scales = levels
        return self

    def members(self, which: Sequence[int]) -> DeepEnsemble:
        """Return an ensemble of some members in their state before any fit.

        It shares the features.

        Parameters
        ----------
        which : sequence of int
            Indices of at least one member, from 0.
        """
        some = DeepEnsemble(np.zeros((1, 1)), [self.seeds[i] for i in which], design=self.design, dtype=self.dtype)
        some.features, some.is_pretrained = self.features, self.is_pretrained
        some.weights = [part[list(which)] for part in self.weights]
        return some

    def predict(self, fidelity: int = 0, rows: ArrayLike | None = None) -> Values:
        """Predict each member's values at a fidelity, in the unit of the fitted values.

        Parameters
        ----------
        fidelity : int
            A fidelity that was fitted.
        rows : array_like of int, shape (n_rows,), or None
            Positions; None for all architectures.

        Returns
        -------
        ndarray, shape (n_members, n_rows)
        """
        if self._fitted is None:
            raise ValueError("this ensemble has not been fitted; call fit first")
        if not 0 <= fidelity < self.design.n_fidelities or np.isnan(self._scales[fidelity]).any():
            raise ValueError(f"fidelity {fidelity} had no values when the ensemble was fitted")
        x = self.features if rows is None else self.features[self._rows(rows)]
        size = max(_CHUNK // (len(self.seeds) * max(self.design.widths)), 1)
        with torch.no_grad():
            found = torch.cat([forward(self._fitted, part)[..., fidelity] for part in x.split(size)], dim=1)
        centre, spread = self._scales[fidelity]
        return centre + spread * found.double().numpy()

    @torch.inference_mode(False)
    def cross_predict(
        self,
        rows: ArrayLike,
        values: ArrayLike,
        *,
        fidelities: ArrayLike | None = None,
        weights: Sequence[float] | None = None,
        schedule: Schedule = FITTING,
        n_folds: int = 5,
    ) -> Values:
        """Predict every evaluation with members that were fitted without its fold.

        All folds are fitted at once.

        Parameters
        ----------
        n_folds : int
            Number of folds; row i is in the fold i % n_folds. With one fold per row, it is leave-one-out.
        rows, values, fidelities, weights, schedule
            As in `fit`; fitted members do not change. An architecture's evaluations at other fidelities stay in
            training.

        Returns
        -------
        ndarray, shape (n_members, n_rows)
            Predictions in the unit of the values. The standardisation uses the means and standard deviations of all
            rows.
        """
        places, targets, levels, counted = self._observations(rows, values, fidelities, weights)
        n_rows, n_members = len(places), len(self.seeds)
        if not 2 <= n_folds <= n_rows:
            raise ValueError(f"n_folds is {n_folds}; it must be from 2 to the number of rows, {n_rows}")
        fold = torch.from_numpy(np.arange(n_rows) % n_folds)
        kept = (fold != torch.from_numpy(np.arange(n_folds))[:, None]).to(self.dtype)
        kept = kept[:, :, None] * counted  # fold, row, fidelity
        trained = self._fit(
            places, targets, weights=kept.repeat_interleave(n_members, dim=0), schedule=schedule, n_copies=n_folds
        )
        with torch.no_grad():
            found = forward(trained, self.features[places]).unflatten(0, (n_folds, n_members))
        level = counted.argmax(dim=1)
        picked = found[fold, :, torch.from_numpy(np.arange(n_rows)), level].T.double().numpy()
        centre, spread = levels[level.numpy()].T
        return centre + spread * picked

    def _generators(self, stage: int) -> list[torch.Generator]:
        """Return one generator per member; each training stage has its own."""
        states = [np.random.SeedSequence((seed, stage)).generate_state(1, np.uint64)[0] for seed in self.seeds]
        return [torch.Generator("cpu").manual_seed(int(state)) for state in states]

    def _rows(self, rows: ArrayLike, n: int | None = None) -> Tensor:
        """Check and return positions."""
        places = np.asarray(rows)
        if places.ndim != 1 or (n is not None and len(places) != n):
            raise ValueError(f"rows must be {'positions' if n is None else n}, in one dimension, not {places.shape}")
        if places.dtype.kind not in "iu" or (
            len(places) and not 0 <= places.min() <= places.max() < len(self.features)
        ):
            raise ValueError(f"rows must be whole numbers from 0 to {len(self.features) - 1}")
        return torch.from_numpy(places.astype(np.int64))

    def _observations(
        self, rows: ArrayLike, values: ArrayLike, fidelities: ArrayLike | None, weights: Sequence[float] | None
    ) -> tuple[Tensor, Tensor, Values, Tensor]:
        """Check evaluations and standardise their targets.

        Returns
        -------
        positions, targets (n_rows, 1), mean and standard deviation of each fidelity, weights (n_rows, n_fidelities)
        """
        given, n = np.asarray(values, dtype=float), self.design.n_fidelities
        levels = np.zeros(len(given), dtype=int) if fidelities is None else np.asarray(fidelities)
        shares = np.array([1.0] + [0.5] * (n - 1) if weights is None else weights, dtype=float)
        if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
            raise ValueError("values must be at least one finite number, in one dimension")
        if levels.shape != given.shape or levels.dtype.kind not in "iu" or not 0 <= levels.min() <= levels.max() < n:
            raise ValueError(f"fidelities must be one for each value, from 0 to {n - 1}")
        if shares.shape != (n,) or not (shares > 0).all() or not np.isfinite(shares).all():
            raise ValueError(f"weights must be {n} positive numbers, one a fidelity; they are {shares.tolist()}")
        places = self._rows(rows, len(given))
        scales, targets = np.full((n, 2), np.nan), np.empty(len(given))
        for level in range(n):
            if (here := levels == level).any():
                scales[level] = given[here].mean(), given[here].std() or 1.0
                targets[here] = (given[here] - scales[level, 0]) / scales[level, 1]
        counted = torch.from_numpy(np.eye(n)[levels] * shares).to(self.dtype)
        return places, torch.from_numpy(targets)[:, None].to(self.dtype), scales, counted

    def _fit(
        self, places: Tensor, targets: Tensor, weights: Tensor, schedule: Schedule, n_copies: int = 1
    ) -> list[Tensor]:
        """Train `n_copies` copies of all members by their weights of the evaluations."""
        trained = [part.repeat(n_copies, 1, 1) for part in self.weights]
        generators = [one for _ in range(n_copies) for one in self._generators(2)]
        train(
            trained, self.features[places], targets=targets, importance=weights, schedule=schedule,
            generators=generators,
        )  # fmt: skip
        return trained
