"""Deep ensembles over a finite list of architectures: pretrained on cheap metrics, fitted at several fidelities.

After Ouertatani et al. (Neural Architecture Tuning: A BO-Powered NAS Tool, OLA 2024, section 2): networks that differ
in their random starts, each with one body, one head for each cheap metric and one for each fidelity. The paper leaves
open how many there are, what they look like and how they are trained. The defaults are this project's, chosen by the
order of ImageNet16-120 in NAS-Bench-201 after 40 random full evaluations and 100 short ones, and by no other table.
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
_LARGEST = 10.0  # a feature that is of order one
_CHUNK = 1 << 22  # hidden units of as many rows as are predicted at once

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """What the members look like.

    Parameters
    ----------
    widths : tuple of int
        Units of the hidden layers of a body; each layer is dense, with SiLU.
    n_fidelities : int
        Heads that `DeepEnsemble.fit` trains. Fidelity 0 is the one that a search is for, the others are cheaper.
    """

    widths: tuple[int, ...] = (64, 64, 64)
    n_fidelities: int = 1

    def __post_init__(self) -> None:
        if not self.widths or min(*self.widths, self.n_fidelities) < 1:
            raise ValueError(f"widths are {self.widths}, n_fidelities {self.n_fidelities}; all must be at least 1")


PRETRAINING = Schedule(n_epochs=20, batch_size=256)
FITTING = Schedule(n_epochs=100, rate=0.01, decay=1.0)


class DeepEnsemble:
    """Members that predict a value of every architecture of a list, at each fidelity.

    A member depends on the features, the design and its seed, and on no other member: all are trained side by side, as
    batched products of matrices. On one thread all results are the same bit for bit.

    Parameters
    ----------
    features : array_like, shape (n_archs, n_features)
        As from `naaplib.estimators.ensembles.encodings.encode`.
    seeds : sequence of int
        One a member; ``numpy.random.SeedSequence(seed).generate_state(n_members)`` draws some.
    design : Design
    dtype : torch.dtype
        Of the arithmetic: torch.float32 or torch.float64.

    Attributes
    ----------
    weights : list of Tensor
        Of bodies and heads of fidelities, as of `naaplib.estimators.ensembles.dense`: the state that every fit begins
        with, and all that `naaplib.estimators.ensembles.files` keeps.
    is_pretrained : bool
    """

    def __init__(
        self,
        features: ArrayLike,
        seeds: Iterable[int] = range(5),
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
        if largest > max(_LARGEST, len(table) ** 0.5):  # which standardised columns never exceed
            raise ValueError(
                f"features go up to {largest:.4g}; bring their columns to mean 0 and standard deviation 1, as "
                f"naaplib.estimators.ensembles.encodings.encode does"
            )
        self.features = torch.from_numpy(table).to(dtype)
        self.is_pretrained = False
        generators = self._generators(0)
        self.weights = initialise([table.shape[1], *design.widths, design.n_fidelities], generators, dtype)
        self._fitted: list[Tensor] | None = None
        self._scales = np.tile([0.0, 1.0], (design.n_fidelities, 1))

    @torch.inference_mode(False)
    def pretrain(
        self,
        metrics: ArrayLike,
        rows: ArrayLike | None = None,
        schedule: Schedule = PRETRAINING,
        mode: str = "simultaneous",
        log: Sequence[bool] | None = None,
    ) -> DeepEnsemble:
        """Train the bodies to predict cheap metrics, each by a linear head that is then dropped.

        Parameters
        ----------
        metrics : array_like, shape (n_rows, n_metrics)
            In any units: each is standardised. NaN: not known, and left out. A constant one is of no use and left out.
        rows : array_like of int, shape (n_rows,), or None
            Positions of the architectures that the metrics are of; None: of all.
        schedule : Schedule
        mode : {"simultaneous", "sequential"}
            All metrics in each step, or one metric after the other, for the schedule's epochs each.
        log : sequence of bool, length n_metrics, or None
            Whose logarithm is predicted; None: those that are positive with a skewness above 1.

        Returns
        -------
        DeepEnsemble
            Itself. `fit` begins with these bodies from now on.
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
        heads = initialise([self.design.widths[-1], targets.shape[1]], generators, self.dtype)
        each = torch.eye(targets.shape[1], dtype=self.dtype, device="cpu")
        for counted in each.sum(dim=0, keepdim=True) if mode == "simultaneous" else each:
            importance = (known * counted).expand(len(self.seeds), -1, -1)
            train([*body, *heads], self.features[places], targets.nan_to_num(), importance, schedule, generators)
        self.weights[:-2] = body
        self.is_pretrained, self._fitted = True, None
        return self

    @torch.inference_mode(False)
    def fit(
        self,
        rows: ArrayLike,
        values: ArrayLike,
        fidelities: ArrayLike | None = None,
        weights: Sequence[float] | None = None,
        schedule: Schedule = FITTING,
    ) -> DeepEnsemble:
        """Train bodies and heads of fidelities on what evaluations gave, beginning each time as if it was the first.

        Parameters
        ----------
        rows : array_like of int, shape (n_rows,)
            Positions of evaluated architectures.
        values : array_like, shape (n_rows,)
            Finite. Standardised for the training, each fidelity by itself.
        fidelities : array_like of int, shape (n_rows,), or None
            At which they were evaluated; None: 0.
        weights : sequence of float, length n_fidelities, or None
            Of an evaluation's squared error, by its fidelity; None: 1 for fidelity 0, 0.5 for the others. The paper
            gives the high fidelity more weight by more epochs and does not say how many.
        schedule : Schedule

        Returns
        -------
        DeepEnsemble
            Itself.
        """
        places, targets, levels, counted = self._observations(rows, values, fidelities, weights)
        self._fitted = self._fit(places, targets, counted.expand(len(self.seeds), -1, -1), schedule)
        self._scales = levels
        return self

    def members(self, which: Sequence[int]) -> DeepEnsemble:
        """Some of the members, as they are before any fit; they share the features.

        Parameters
        ----------
        which : sequence of int
            Their numbers, from 0; at least one.
        """
        some = DeepEnsemble(np.zeros((1, 1)), [self.seeds[i] for i in which], self.design, self.dtype)
        some.features, some.is_pretrained = self.features, self.is_pretrained
        some.weights = [part[list(which)] for part in self.weights]
        return some

    def predict(self, fidelity: int = 0, rows: ArrayLike | None = None) -> Values:
        """Each member's values at a fidelity, in the unit of those that `fit` was given.

        Parameters
        ----------
        fidelity : int
            One that had values.
        rows : array_like of int, shape (n_rows,), or None
            Positions; None: of all architectures.

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
        fidelities: ArrayLike | None = None,
        weights: Sequence[float] | None = None,
        schedule: Schedule = FITTING,
        n_folds: int = 5,
    ) -> Values:
        """Each member's value of every evaluation, fitted without it and those in its fold, all folds at once.

        Parameters
        ----------
        n_folds : int
            Row i is in the fold i % n_folds. As many as rows: each is left out alone.
        rows, values, fidelities, weights, schedule
            As for `fit`, which this does not change. An architecture's evaluations at other fidelities stay in.

        Returns
        -------
        ndarray, shape (n_members, n_rows)
            In the unit of the values. Their means and standard deviations are those of all rows.
        """
        places, targets, levels, counted = self._observations(rows, values, fidelities, weights)
        n_rows, n_members = len(places), len(self.seeds)
        if not 2 <= n_folds <= n_rows:
            raise ValueError(f"n_folds is {n_folds}; it must be from 2 to the number of rows, {n_rows}")
        fold = torch.from_numpy(np.arange(n_rows) % n_folds)
        kept = (fold != torch.from_numpy(np.arange(n_folds))[:, None]).to(self.dtype)[
            :, :, None
        ] * counted  # fold, row, fidelity
        trained = self._fit(places, targets, kept.repeat_interleave(n_members, dim=0), schedule, n_folds)
        with torch.no_grad():
            found = forward(trained, self.features[places]).unflatten(0, (n_folds, n_members))
        level = counted.argmax(dim=1)
        picked = found[fold, :, torch.from_numpy(np.arange(n_rows)), level].T.double().numpy()
        centre, spread = levels[level.numpy()].T
        return centre + spread * picked

    def _generators(self, stage: int) -> list[torch.Generator]:
        """One a member, for each stage of its life others."""
        states = [np.random.SeedSequence((seed, stage)).generate_state(1, np.uint64)[0] for seed in self.seeds]
        return [torch.Generator("cpu").manual_seed(int(state)) for state in states]

    def _rows(self, rows: ArrayLike, n: int | None = None) -> Tensor:
        """Positions, checked."""
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
        """Positions, targets (n_rows, 1), mean and spread of each fidelity, weights (n_rows, n_fidelities)."""
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
        """Weights of so many copies of all members, trained on what each is given weights of."""
        trained = [part.repeat(n_copies, 1, 1) for part in self.weights]
        generators = [one for _ in range(n_copies) for one in self._generators(2)]
        train(trained, self.features[places], targets, weights, schedule, generators)
        return trained
