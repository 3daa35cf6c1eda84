"""Architecture tuning: Bayesian optimisation over a finite list, with deep ensembles and two fidelities.

The tool of the architecture-tuning study (Ouertatani et al., Neural Architecture Tuning: A BO-Powered NAS Tool, OLA
2024). Its `create_search_space`, `SearchInstance` and `create_img_class_evaluator` are `SearchSpace`, `Search` and
`naaplib.search.image_classification` here. The paper does not say how candidates are proposed, nor how evaluations are
divided between fidelities; `Settings` has this project's choices.
"""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from naaplib.estimators.calibration import mean_and_spread, rescale, spread_factor
from naaplib.search.acquisition import KINDS, normal_scores, propose
from naaplib.search.journal import Journal
from naaplib.search.search_space import Encoding, SearchSpace, load
from naaplib.training.checkpoints import claim
from naaplib.training.network import one_thread

__all__ = ["FIDELITIES", "Search", "SearchSpace", "Settings", "load"]

FIDELITIES = ("full", "cheap")
_EXACT = 1e-9  # of a full evaluation, by which sums of costs may be off

Evaluate = Callable[[Any], float]


@dataclass(frozen=True)
class Settings:
    """How a search proposes what to evaluate.

    The defaults were chosen on ImageNet16-120 in NAS-Bench-201, and on no other table.

    Parameters
    ----------
    n_initial, n_initial_cheap : int
        Architectures that are drawn at random for a full, and others for a cheap evaluation, before any is proposed.
        Without a cheap evaluation, `n_initial_alone` are drawn.
    n_initial_alone : int
    n_full, n_cheap : int
        Full and cheap evaluations of each round after that, all proposed by what is known when the round begins, to be
        best when fully evaluated. The full ones come first.
    cheap_weight : float
        Of a cheap evaluation's squared error in fitting the ensemble; a full one's is 1.
    acquisition : str
        One of ``naaplib.search.acquisition.KINDS``.
    """

    n_initial: int = 5
    n_initial_cheap: int = 80
    n_initial_alone: int = 10
    n_full: int = 1
    n_cheap: int = 8
    cheap_weight: float = 0.5
    acquisition: str = "thompson"

    def __post_init__(self) -> None:
        least = {"n_initial": 1, "n_initial_cheap": 0, "n_initial_alone": 1, "n_full": 1, "n_cheap": 0}
        for name, n in least.items():
            if getattr(self, name) < n:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {n}")
        if self.acquisition not in KINDS or not self.cheap_weight > 0:
            raise ValueError(
                f"acquisition is {self.acquisition!r}, one of {', '.join(KINDS)}; cheap_weight {self.cheap_weight}, "
                f"above 0"
            )


class _Evaluation(NamedTuple):
    position: int
    fidelity: int
    value: float  # NaN if it failed
    failure: str


class Search:
    """A search of a space for the architecture with the highest value; stopped at any evaluation, it goes on.

    In the study this is `SearchInstance` (section 3.2).

    Parameters
    ----------
    space : SearchSpace
    evaluate : callable
        Encoding to value, higher being better: what a search is for. If it raises an exception (as when memory is
        exhausted), or what it returns is not finite, the evaluation counts as failed: it is paid for, written down,
        taken for as bad as the worst seen, and not tried again. KeyboardInterrupt and SystemExit end the search.
    cost : float
        Of an evaluation, in any unit.
    evaluate_cheaply : callable, optional
        A cheaper evaluation that orders architectures nearly as `evaluate` does, such as a shorter training. Its values
        may be of another unit.
    cheap_cost : float, optional
        Of a cheap evaluation, in the unit of `cost`, and below it.
    seed : int
    folder : path, optional
        Evaluations are written to ``trace.jsonl`` in it, each when it is done, and a search with the same arguments
        goes on from there. A space that is measured anew is another one: save it, and `load` it. None: nothing is kept.
    settings : Settings

    Raises
    ------
    ValueError
        If costs and evaluations do not go together, or the folder holds another search.
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluate: Evaluate,
        cost: float = 1.0,
        evaluate_cheaply: Evaluate | None = None,
        cheap_cost: float | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        settings: Settings = Settings(),
    ) -> None:
        if (evaluate_cheaply is None) != (cheap_cost is None):
            raise ValueError("evaluate_cheaply and cheap_cost go together: give both or neither")
        if not cost > 0 or (cheap_cost is not None and not 0 < cheap_cost < cost):
            raise ValueError(f"cost is {cost}, cheap_cost {cheap_cost}; both must be positive, cheap_cost below cost")
        self.space, self.seed, self.settings = space, seed, settings
        self._evaluate = [evaluate] if evaluate_cheaply is None else [evaluate, evaluate_cheaply]
        self._costs = [1.0] if cheap_cost is None else [1.0, cheap_cost / cost]  # in full evaluations
        self._folder = None if folder is None else Path(folder)
        told = {"tool": "architecture tuning", "space": space.digest(), "costs": self._costs, "seed": seed}
        self._told = told | {"settings": asdict(settings)}
        self._done: list[_Evaluation] = []
        self._start, self._number = 0, 0  # of the round that the search is in: evaluations before it, rounds before it
        with self._journal():
            pass

    def run(self, budget: float, workers: int = 1) -> pd.DataFrame:
        """Evaluate until the budget is spent, or everything is evaluated.

        Parameters
        ----------
        budget : float
            Full evaluations, those before included; a cheap one counts as its share of one. What would exceed it is
            not begun. A search may be run again with a larger one.
        workers : int
            Evaluations of a round that are made side by side, by threads. A round has one full evaluation, unless
            `Settings.n_full` says otherwise.

        Returns
        -------
        DataFrame
            As `trace` gives it.

        Raises
        ------
        ValueError
            If the budget is not positive.
        naaplib.training.checkpoints.FolderInUse
            If another process searches in the folder.
        """
        if not budget > 0:
            raise ValueError(f"budget is {budget}; it must be positive, in full evaluations")
        with self._journal() as journal, ThreadPoolExecutor(workers) as pool:
            is_left = True
            while is_left and (proposals := self._proposals()):
                affordable = self._affordable(proposals, budget)
                is_left = len(affordable) == len(proposals)
                for found in (pool.map if workers > 1 else map)(self._try, affordable):
                    self._done.append(found)
                    journal.add(found._asdict() | {"value": None if math.isnan(found.value) else found.value})
        return self.trace()

    def trace(self) -> pd.DataFrame:
        """What was evaluated, in its order.

        Returns
        -------
        DataFrame
            step (from 1), position (in the space), encoding, fidelity ("full" or "cheap"), value (NaN if it failed),
            failure (text, empty if it did not), spent (so far, in full evaluations) and best: the highest value of a
            full evaluation so far, NaN before there is one.
        """
        rows = [
            (i, one.position, self.space.encodings[one.position], FIDELITIES[one.fidelity], one.value, one.failure)
            for i, one in enumerate(self._done, start=1)
        ]
        table = pd.DataFrame(rows, columns=["step", "position", "encoding", "fidelity", "value", "failure"])
        n_done = [(table["fidelity"] == name).cumsum() for name in FIDELITIES]
        table["spent"] = sum(n * cost for n, cost in zip(n_done, self._costs, strict=False))
        table["best"] = table["value"].where(table["fidelity"] == FIDELITIES[0]).cummax().ffill()
        return table

    def best(self) -> Encoding:
        """The encoding with the highest value of a full evaluation so far; of equals the first."""
        full = [one for one in self._done if one.fidelity == 0 and not math.isnan(one.value)]
        if not full:
            raise ValueError("no full evaluation has succeeded yet; run the search first")
        return self.space.encodings[max(full, key=lambda one: one.value).position]

    def predict(self, calibrated: bool = True) -> pd.DataFrame:
        """What the ensemble expects of every architecture, in the unit of the full evaluation's values.

        Parameters
        ----------
        calibrated : bool
            Multiply the members' spread by what makes it right for the evaluations so far, each predicted without it:
            see `naaplib.estimators.calibration.spread_factor`.

        Returns
        -------
        DataFrame
            One row an architecture: mean, spread (a standard deviation).
        """
        rows, levels, values = self._history(self._done)
        n_full = int((levels == 0).sum())
        if n_full < 2:
            raise ValueError(f"{n_full} full evaluations are done; predictions need 2 or more")
        weights = [1.0, self.settings.cheap_weight]
        with one_thread():
            predicted = self.space.ensemble.fit(rows, values, levels, weights).predict()
            if calibrated:
                held_out = self.space.ensemble.cross_predict(rows, values, levels, weights)[:, levels == 0]
                predicted = rescale(predicted, spread_factor(held_out, values[levels == 0]))
        mean, spread = mean_and_spread(predicted)
        return pd.DataFrame({"mean": mean, "spread": spread})

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        """The folder, claimed, and what it knows, taken."""
        journal = Journal(None if self._folder is None else self._folder / "trace.jsonl", self._told)
        with claim(self._folder), journal:
            if journal.path is not None:
                self._start, self._number = 0, 0
                known = [entry | {"value": math.nan if entry["value"] is None else entry["value"]}
                         for entry in journal.entries]  # fmt: skip
                self._done = [_Evaluation(**entry) for entry in known]
            yield journal

    def _try(self, proposal: tuple[int, int]) -> _Evaluation:
        """Evaluate a position at a fidelity."""
        position, fidelity = proposal
        encoding = self.space.encodings[position]
        value, failure = math.nan, ""
        try:
            value = float(self._evaluate[fidelity](encoding))
            if not math.isfinite(value):
                value, failure = math.nan, f"its value is {value}"
        except Exception as error:  # whatever a training can raise
            failure = "".join(traceback.format_exception_only(error)).strip()
        if failure:
            warnings.warn(f"the {FIDELITIES[fidelity]} evaluation of {encoding} failed: {failure}", stacklevel=2)
        return _Evaluation(position, fidelity, value, failure)

    def _affordable(self, proposals: list[tuple[int, int]], budget: float) -> list[tuple[int, int]]:
        """Those before the first that would exceed the budget."""
        spent = np.cumsum(
            [self._costs[level] for level in [one.fidelity for one in self._done] + [p[1] for p in proposals]]
        )
        n = int((spent[len(self._done) :] <= budget + _EXACT).sum())
        return proposals[:n]

    def _proposals(self) -> list[tuple[int, int]]:
        """The rest of the round that the search is in, as positions and fidelities; empty at the end of the list.

        A round follows from the seed and from what was done before it, so that a search that was stopped goes on as if
        it had not been.
        """
        while True:
            n_cheap, n_full = self._sizes()
            if (end := self._start + n_cheap + n_full) > len(self._done):
                made = self._round(n_cheap, n_full)
                return made[len(self._done) - self._start :]
            if not n_full:
                return []
            self._start, self._number = end, self._number + 1

    def _sizes(self) -> tuple[int, int]:
        """Cheap and full evaluations of the round."""
        settings, before, two = self.settings, self._done[: self._start], len(self._costs) == 2
        n_cheap, n_full = settings.n_cheap * two, settings.n_full
        if not self._number:
            n_cheap, n_full = (settings.n_initial_cheap, settings.n_initial) if two else (0, settings.n_initial_alone)
        n_full = min(n_full, len(self.space) - sum(one.fidelity == 0 for one in before))
        n_new = len(self.space) - len({one.position for one in before})
        return min(n_cheap, max(n_new - n_full, 0)), n_full

    def _round(self, n_cheap: int, n_full: int) -> list[tuple[int, int]]:
        """So many cheap and full evaluations to make after those of the rounds before."""
        rng = np.random.default_rng([self.seed, self._number])
        if not self._number:
            drawn = rng.permutation(len(self.space)).tolist()
            return [(place, int(i >= n_full)) for i, place in enumerate(drawn[: n_full + n_cheap])]
        before, settings = self._done[: self._start], self.settings
        rows, levels, values = self._history(before)
        for level in set(levels.tolist()):
            values[levels == level] = normal_scores(values[levels == level])
        ensemble, n_members = self.space.ensemble, len(self.space.ensemble.seeds)
        use = [np.arange(n_members)] * 2  # of all members, for each fidelity
        if settings.acquisition == "thompson":  # members do not influence each other: those not drawn need no fit
            drawn, numbers = np.unique(rng.integers(n_members, size=2), return_inverse=True)
            ensemble, use = ensemble.members(drawn.tolist()), [numbers[:1], numbers[1:]]
        with one_thread():
            predicted = ensemble.fit(rows, values, levels, [1.0, settings.cheap_weight]).predict()
        best = float(values[levels == 0].max())
        full = [one.position for one in before if one.fidelity == 0]
        made: list[tuple[int, int]] = []
        for level, n in ((0, n_full), (1, n_cheap)):
            known = [one.position for one in before] + [place for place, _ in made] if level else full
            seed = int(rng.integers(2**32))
            if n:
                found = propose(predicted[use[level]], known, n, settings.acquisition, best, seed=seed)
                made += [(place, level) for place in found.tolist()]
        return made

    def _history(self, done: list[_Evaluation]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, fidelities and values, failures being as bad as the worst at their fidelity."""
        rows, levels = (np.array([one[i] for one in done], dtype=np.int64) for i in (0, 1))
        values = np.array([one.value for one in done], dtype=float)
        for level in set(levels.tolist()):
            here = levels == level
            worst = np.nanmin(values[here]) if np.isfinite(values[here]).any() else 0.0
            values[here] = np.where(np.isnan(values[here]), worst, values[here])
        return rows, levels, values
