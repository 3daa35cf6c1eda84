"""Architecture tuning: two-fidelity Bayesian optimisation over a finite list.

The surrogate is a deep ensemble. This is the tool of the architecture-tuning study (Ouertatani et al., Neural
Architecture Tuning: A BO-Powered NAS Tool, OLA 2024). Its `create_search_space`, `SearchInstance` and
`create_img_class_evaluator` are `SearchSpace`, `Search` and `naaplib.search.image_classification` here. The paper
gives neither the acquisition function nor the division of evaluations between fidelities; `Settings` has this
project's choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from naaplib.search import surrogate_values
from naaplib.search.identity import describe, whole
from naaplib.search.journal import RETRY, Journal, Outcome, attempt, report
from naaplib.search.rounds import Evaluation, Settings, n_idle, positions, sizes
from naaplib.search.search_space import Encoding, SearchSpace, load, settle

__all__ = ["FIDELITIES", "Search", "SearchSpace", "Settings", "load"]

FIDELITIES = ("full", "cheap")
SUFFIX = ".jsonl"
_SETTINGS = Settings()
_EXACT = 1e-9  # tolerance of rounding in sums of costs, in full evaluations

Evaluate = Callable[[Any], float]


class Search:
    """Search a space for the architecture with the highest value.

    The study calls this `SearchInstance` (section 3.2). A search can be stopped at any evaluation and resumed.

    Parameters
    ----------
    space : SearchSpace
    evaluate : callable
        Maps an encoding to the value to maximise. An evaluation fails if it raises an exception (as when memory is
        exhausted) or its value is not finite. A failure has its cost, is recorded, counts as the worst value seen,
        and is not evaluated again. The search stops if the first three fail by the same kind of exception.
        KeyboardInterrupt and SystemExit end it.
    cost : float
        Cost of an evaluation, in any unit.
    evaluate_cheaply : callable, optional
        Low-fidelity evaluation that orders architectures nearly as `evaluate` does, such as a shorter training. Its
        values may have another unit.
    cheap_cost : float, optional
        Cost of a low-fidelity evaluation, in the unit of `cost` and below it.
    seed : int
    folder : path, optional
        Every evaluation is written to its ``trace.jsonl``, after metadata that identifies the search: its arguments,
        and the code of its evaluations with the functions and values of yours that they use. The space is saved in
        ``space.npz``. The same call resumes the search, with the latencies of the saved space. None writes nothing.
        A name that ends in ".jsonl" is that of the trace itself; the space then lies beside it, as ".npz".
    settings : Settings
    resume : bool or "retry"
        Treatment of a search in the folder. True: resume it, and refuse another search or evaluation. "retry": resume
        it although the code was fixed, and evaluate the failures again; True does so too if nothing has succeeded.
        False: start again; the old files get free names, such as ``trace-1.jsonl``.
    told : mapping, optional
        More metadata that identifies the search, as JSON.

    Raises
    ------
    ValueError
        If costs and evaluations do not match, or the folder holds another search. The message says how they differ.

    Examples
    --------
    >>> space = SearchSpace("widths", [(width, act) for width in (8, 16, 32) for act in ("relu", "silu")])
    >>> search = Search(space, lambda encoding: 1 - 1 / encoding[0] - 0.01 * (encoding[1] == "silu"))
    >>> trace = search.run(budget=6)
    >>> len(trace), search.best()
    (6, (32, 'relu'))
    """

    def __init__(
        self,
        space: SearchSpace,
        evaluate: Evaluate,
        *,
        cost: float = 1.0,
        evaluate_cheaply: Evaluate | None = None,
        cheap_cost: float | None = None,
        seed: int = 0,
        folder: str | Path | None = None,
        settings: Settings = _SETTINGS,
        resume: bool | str = True,
        told: Mapping[str, object] | None = None,
    ) -> None:
        if (evaluate_cheaply is None) != (cheap_cost is None):
            raise ValueError("evaluate_cheaply and cheap_cost go together: give both or neither")
        if not 0 < cost < math.inf or (cheap_cost is not None and not 0 < cheap_cost < cost):
            raise ValueError(f"cost is {cost}, cheap_cost {cheap_cost}; both must be positive, cheap_cost below cost")
        self.space, self.seed, self.settings = space, whole("seed", seed, least=0), settings
        self._evaluate = [evaluate] if evaluate_cheaply is None else [evaluate, evaluate_cheaply]
        self._costs = [1.0] if cheap_cost is None else [1.0, float(cheap_cost / cost)]  # in full evaluations
        self._done: list[Evaluation] = []
        self._errors: dict[tuple[int, int], Exception] = {}  # by index and fidelity, until they are reported
        self._again: list[int] = []  # indices of failures to evaluate again
        self._start, self._number = 0, 0  # evaluations and rounds before the current round
        self._path: Path | None = None
        self._told: dict[str, object] = {}
        if folder is not None:
            path = Path(folder).expanduser()
            self._path = path if path.suffix == SUFFIX else path / "trace.jsonl"
            self._told |= {"tool": "architecture tuning", "space": space.identity(), "costs": self._costs}
            self._told |= {"seed": self.seed, "settings": asdict(settings)}
            self._told |= describe(**dict(zip(("evaluate", "evaluate_cheaply"), self._evaluate, strict=False)))
            self._told |= dict(told or {})
            kept = path.with_suffix(".npz") if path == self._path else path / "space.npz"
            with Journal(self._path, self._told, resume=resume, companions=[kept]) as journal:
                self.space = settle(space, kept, has_begun=bool(journal.entries))
                self._take(journal)
        self._made_of = self._parts()

    def run(self, budget: float, workers: int = 1, *, patience: int | None = None) -> pd.DataFrame:
        """Evaluate until the budget is spent, or everything is evaluated.

        Parameters
        ----------
        budget : float
            Total cost in full evaluations, earlier ones included; a cheap one costs a fraction of one. An evaluation
            that would exceed the budget does not start. A search may be run again with a larger budget.
        workers : int
            Threads that evaluate in parallel within a round. A round has one full evaluation, unless
            `Settings.n_full` is larger.
        patience : int or None
            Stop after so many full evaluations in a row, behind those of the first round, that did not raise the best
            value; None stops at the budget alone. A stopped search goes on without it, or with more.

        Returns
        -------
        DataFrame
            As `trace` returns it.

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
        if patience is not None:
            patience = whole("patience", patience, least=1)
        with self.journal() as journal, ThreadPoolExecutor(whole("workers", workers, least=1)) as pool:
            n_drawn = sizes(self.space, self.settings, before=[], two=len(self._costs) == 2)[1]
            for proposals in self.batches(journal, budget):
                if patience is not None and n_idle(self._done, n_drawn) >= patience:
                    break
                outcomes = (pool.map if workers > 1 else map)(self._try, proposals)
                for proposal, outcome in zip(proposals, outcomes, strict=True):
                    self.record(journal, proposal, outcome=outcome)
        return self.trace()

    def journal(self) -> Journal:
        """Return the journal of the search, for the context in which it evaluates."""
        if self._parts() != self._made_of:
            raise ValueError(
                "the space was changed after this search was made: preprocess it first, then make a Search"
            )
        return Journal(self._path, self._told)

    def batches(self, journal: Journal, budget: float) -> Iterator[list[tuple[int, int]]]:
        """Yield evaluations that may run side by side, as (index, fidelity).

        All of a batch are to be recorded before the next is asked for. The first load the evaluations of the journal.
        """
        if self._path is not None:
            self._take(journal)
        while self._again:
            old = self._done[self._again[0]]
            yield [(old.position, old.fidelity)]
        is_left = True
        while is_left and (proposals := self._proposals()):
            affordable = self._affordable(proposals, budget)
            is_left = len(affordable) == len(proposals)
            yield affordable

    def past(self) -> list[Evaluation]:
        """Return the evaluations so far, without those that will be done again."""
        return [one for place, one in enumerate(self._done) if place not in self._again]

    def record(self, journal: Journal, proposal: tuple[int, int], *, outcome: Outcome) -> Evaluation:
        """Record an outcome, as `.journal.attempt` returns it, and warn of a failure."""
        value, failure, error = outcome
        if error is not None:
            self._errors[proposal] = error
        if value == -math.inf:
            value, failure = math.nan, f"its value is {value}"
        found = Evaluation(*proposal, value, failure)
        if self._again:
            self._done[place := self._again.pop(0)] = found
        else:
            place = len(self._done)
            self._done.append(found)
        self._keep(journal, place)
        return found

    def trace(self) -> pd.DataFrame:
        """Return all evaluations in their order.

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
        """Return the encoding with the highest full value, the first among equals."""
        full = [one for one in self._done if one.fidelity == 0 and not math.isnan(one.value)]
        if not full:
            raise ValueError(
                "no full evaluation has succeeded yet; run the search first, or see why in trace()['failure']"
            )
        return self.space.encodings[max(full, key=lambda one: one.value).position]

    def predict(self, calibrated: bool = True) -> pd.DataFrame:
        """Predict the full evaluation's value of every architecture.

        Parameters
        ----------
        calibrated : bool
            Scale the members' standard deviation to fit cross-validated errors of the evaluations so far: see
            `.calibration.spread_factor`.

        Returns
        -------
        DataFrame
            One row per architecture: mean, spread (the standard deviation).
        """
        return surrogate_values.predict(self.space, self._done, settings=self.settings, calibrated=calibrated)

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Predict an interval for the full evaluation's value of every architecture.

        It is the mean of the members, plus and minus their standard deviation times a conformal factor: see
        `.calibration.conformal_factor`. The errors are of all evaluations so far, each predicted by members fitted
        without it. A search does not draw its evaluations at random, so that the share is no guarantee; chapter 10
        measures it.

        Parameters
        ----------
        level : float
            Share of the values that the intervals are to hold, between 0 and 1.

        Returns
        -------
        DataFrame
            One row per architecture: mean, low, high.
        """
        return surrogate_values.intervals(self.space, self._done, settings=self.settings, level=level)

    def _parts(self) -> tuple[object, ...]:
        """Return the parts of the space that must not change during a search."""
        return id(self.space.ensemble), self.space.ensemble.is_pretrained, id(self.space.metrics), self.space.mode

    def _take(self, journal: Journal) -> None:
        """Load the evaluations of the journal."""
        self._start, self._number = 0, 0
        self._done = [Evaluation.of(entry) for entry in journal.entries]
        self._again = [i for i, entry in enumerate(journal.entries) if RETRY in entry]

    def _keep(self, journal: Journal, place: int) -> None:
        """Record an evaluation, and warn if it failed."""
        one = self._done[place]
        journal.add(one._asdict() | {"value": None if math.isnan(one.value) else one.value})
        if one.failure:
            alike = [other.failure for other in self._done[: place + 1] if other.fidelity == one.fidelity]
            what = f"the {FIDELITIES[one.fidelity]} evaluation of {self.space.encodings[one.position]}"
            report(what, alike, error=self._errors.pop((one.position, one.fidelity), None))

    def _try(self, proposal: tuple[int, int]) -> Outcome:
        """Evaluate an index at a fidelity."""
        position, fidelity = proposal
        return attempt(self._evaluate[fidelity], self.space.encodings[position])

    def _affordable(self, proposals: list[tuple[int, int]], budget: float) -> list[tuple[int, int]]:
        """Return the proposals before the first that would exceed the budget."""
        spent = np.cumsum(
            [self._costs[level] for level in [one.fidelity for one in self._done] + [p[1] for p in proposals]]
        )
        n = int((spent[len(self._done) :] <= budget + _EXACT).sum())
        return proposals[:n]

    def _proposals(self) -> list[tuple[int, int]]:
        """Return the rest of the current round as (index, fidelity), empty at the end.

        The seed and the evaluations before a round determine it, so that a resumed search continues as if it had not
        been stopped.
        """
        while True:
            before = self._done[: self._start]
            n_cheap, n_full = sizes(self.space, self.settings, before=before, two=len(self._costs) == 2)
            if (end := self._start + n_cheap + n_full) > len(self._done):
                words = self.seed, self._number
                made = positions(self.space, self.settings, before=before, size=(n_cheap, n_full), words=words)
                return made[len(self._done) - self._start :]
            if not n_full:
                return []
            self._start, self._number = end, self._number + 1
