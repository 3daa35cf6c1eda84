"""Architecture tuning: Bayesian optimisation over a finite list, with deep ensembles and two fidelities.

The tool of the architecture-tuning study (Ouertatani et al., Neural Architecture Tuning: A BO-Powered NAS Tool, OLA
2024). Its `create_search_space`, `SearchInstance` and `create_img_class_evaluator` are `SearchSpace`, `Search` and
`naaplib.search.image_classification` here. The paper does not say how candidates are proposed, nor how evaluations
are divided between fidelities; `Settings` has this project's choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from naaplib.estimators.ensembles.calibration import mean_and_spread, rescale, spread_factor
from naaplib.parallel import one_thread
from naaplib.search.identity import describe, whole
from naaplib.search.journal import RETRY, Journal, attempt, report
from naaplib.search.rounds import Evaluation, Settings, history, positions, sizes
from naaplib.search.search_space import Encoding, SearchSpace, load, settle

__all__ = ["FIDELITIES", "Search", "SearchSpace", "Settings", "load"]

FIDELITIES = ("full", "cheap")
_SETTINGS = Settings()
_EXACT = 1e-9  # of a full evaluation, by which sums of costs may be off

Evaluate = Callable[[Any], float]


class Search:
    """A search of a space for the architecture with the highest value; stopped at any evaluation, it goes on.

    In the study this is `SearchInstance` (section 3.2).

    Parameters
    ----------
    space : SearchSpace
    evaluate : callable
        Encoding to value, higher being better: what a search is for. If it raises an exception (as when memory is
        exhausted), or what it returns is not finite, the evaluation counts as failed: it is paid for, written down,
        taken for as bad as the worst seen, and not tried again. The search stops if the first three fail by the same
        kind of exception. KeyboardInterrupt and SystemExit end it.
    cost : float
        Of an evaluation, in any unit.
    evaluate_cheaply : callable, optional
        A cheaper evaluation that orders architectures nearly as `evaluate` does, such as a shorter training. Its values
        may be of another unit.
    cheap_cost : float, optional
        Of a cheap evaluation, in the unit of `cost`, and below it.
    seed : int
    folder : path, optional
        Evaluations are written to ``trace.jsonl`` in it, each when it is done, with what identifies the search: its
        arguments, and the code that it evaluates by with the functions and values of yours that this uses. The space is
        kept in ``space.npz``. The same call resumes the search, by the metrics that were measured at first: latencies
        that are measured anew do not count. None: nothing is kept.
    settings : Settings
    resume : bool or "retry"
        What is done with a search that is in the folder. True: resume it; another search or evaluation is refused.
        "retry": resume it though the code was mended, and evaluate again what failed; where nothing has succeeded, True
        does so too. False: begin afresh; its files are renamed to free names, such as ``trace-1.jsonl``.

    Raises
    ------
    ValueError
        If costs and evaluations do not go together, or the folder holds another search; says in what they differ.
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
        settings: Settings = _SETTINGS,
        *,
        resume: bool | str = True,
    ) -> None:
        if (evaluate_cheaply is None) != (cheap_cost is None):
            raise ValueError("evaluate_cheaply and cheap_cost go together: give both or neither")
        if not 0 < cost < math.inf or (cheap_cost is not None and not 0 < cheap_cost < cost):
            raise ValueError(f"cost is {cost}, cheap_cost {cheap_cost}; both must be positive, cheap_cost below cost")
        self.space, self.seed, self.settings = space, whole("seed", seed, 0), settings
        self._evaluate = [evaluate] if evaluate_cheaply is None else [evaluate, evaluate_cheaply]
        self._costs = [1.0] if cheap_cost is None else [1.0, float(cheap_cost / cost)]  # in full evaluations
        self._done: list[Evaluation] = []
        self._errors: dict[tuple[int, int], Exception] = {}  # of evaluations that are not written down yet
        self._again: list[int] = []  # failures in it that are to be tried again
        self._start, self._number = 0, 0  # of the round that the search is in: evaluations before it, rounds before it
        self._path: Path | None = None
        self._told: dict[str, object] = {}
        if folder is not None:
            self._path = Path(folder).expanduser() / "trace.jsonl"
            self._told |= {"tool": "architecture tuning", "space": space.identity(), "costs": self._costs}
            self._told |= {"seed": self.seed, "settings": asdict(settings)}
            self._told |= describe(**dict(zip(("evaluate", "evaluate_cheaply"), self._evaluate, strict=False)))
            kept = self._path.with_name("space.npz")
            with Journal(self._path, self._told, resume, [kept]) as journal:
                self.space = settle(space, kept, bool(journal.entries))
                self._take(journal)
        self._made_of = self._parts()

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
            If the budget is not positive, or the space was changed after the search was made.
        RuntimeError
            If the first three evaluations at a fidelity fail by the same kind of exception.
        naaplib.training.checkpoints.FolderInUse
            If another process searches in the folder.
        """
        if not budget > 0:
            raise ValueError(f"budget is {budget}; it must be positive, in full evaluations")
        if self._parts() != self._made_of:
            raise ValueError(
                "the space was changed after this search was made: preprocess it first, then make a Search"
            )
        with Journal(self._path, self._told) as journal, ThreadPoolExecutor(whole("workers", workers, 1)) as pool:
            if self._path is not None:
                self._take(journal)
            while self._again:
                old = self._done[place := self._again.pop(0)]
                self._done[place] = self._try((old.position, old.fidelity))
                self._keep(journal, place)
            is_left = True
            while is_left and (proposals := self._proposals()):
                affordable = self._affordable(proposals, budget)
                is_left = len(affordable) == len(proposals)
                for found in (pool.map if workers > 1 else map)(self._try, affordable):
                    self._done.append(found)
                    self._keep(journal, len(self._done) - 1)
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
            raise ValueError(
                "no full evaluation has succeeded yet; run the search first, or see why in trace()['failure']"
            )
        return self.space.encodings[max(full, key=lambda one: one.value).position]

    def predict(self, calibrated: bool = True) -> pd.DataFrame:
        """What the ensemble expects of every architecture, in the unit of the full evaluation's values.

        Parameters
        ----------
        calibrated : bool
            Multiply the members' spread by what makes it right for the evaluations so far, each predicted without it:
            see `naaplib.estimators.ensembles.calibration.spread_factor`.

        Returns
        -------
        DataFrame
            One row an architecture: mean, spread (a standard deviation).
        """
        rows, levels, values = history(self._done)
        n_full = int((levels == 0).sum())
        if n_full < 2:
            raise ValueError(f"{n_full} full evaluations are done; predictions need 2 or more")
        weights = [1.0, self.settings.cheap_weight]
        with one_thread():
            predicted = self.space.ensemble.fit(rows, values, levels, weights).predict()
            if calibrated:
                n_folds = min(5, len(rows))
                held_out = self.space.ensemble.cross_predict(rows, values, levels, weights, n_folds=n_folds)
                held_out = held_out[:, levels == 0]
                predicted = rescale(predicted, spread_factor(held_out, values[levels == 0]))
        mean, spread = mean_and_spread(predicted)
        return pd.DataFrame({"mean": mean, "spread": spread})

    def _parts(self) -> tuple[object, ...]:
        """What a search would differ by if it was exchanged."""
        return id(self.space.ensemble), self.space.ensemble.is_pretrained, id(self.space.metrics), self.space.mode

    def _take(self, journal: Journal) -> None:
        """Take over what the journal knows."""
        self._start, self._number = 0, 0
        self._done = [Evaluation.of(entry) for entry in journal.entries]
        self._again = [i for i, entry in enumerate(journal.entries) if RETRY in entry]

    def _keep(self, journal: Journal, place: int) -> None:
        """Write down an evaluation, then say if it failed."""
        one = self._done[place]
        journal.add(one._asdict() | {"value": None if math.isnan(one.value) else one.value})
        if one.failure:
            alike = [other.failure for other in self._done[: place + 1] if other.fidelity == one.fidelity]
            what = f"the {FIDELITIES[one.fidelity]} evaluation of {self.space.encodings[one.position]}"
            report(what, alike, self._errors.pop((one.position, one.fidelity), None))

    def _try(self, proposal: tuple[int, int]) -> Evaluation:
        """Evaluate a position at a fidelity."""
        position, fidelity = proposal
        value, failure, error = attempt(self._evaluate[fidelity], self.space.encodings[position])
        if error is not None:
            self._errors[proposal] = error
        if value == -math.inf:
            value, failure = math.nan, f"its value is {value}"
        return Evaluation(position, fidelity, value, failure)

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
            before = self._done[: self._start]
            n_cheap, n_full = sizes(self.space, self.settings, before, len(self._costs) == 2)
            if (end := self._start + n_cheap + n_full) > len(self._done):
                words = self.seed, self._number
                made = positions(self.space, self.settings, before, (n_cheap, n_full), words)
                return made[len(self._done) - self._start :]
            if not n_full:
                return []
            self._start, self._number = end, self._number + 1
