"""Budget tracker of a search: evaluations, their cost, and a trace to resume from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from naaplib.search.identity import name_of
from naaplib.search.journal import RETRY, Journal, attempt, report

COLUMNS = ["step", "bracket", "rung", "configuration", "budget", "paid", "spent", "score", "incumbent"]


class BudgetSpentError(Exception):
    """The budget is spent. `Ledger.evaluate` raises it, the context catches it."""


class Ledger:
    """Budget tracker of one search, and a context that ends when the budget is spent.

    `evaluate` works inside the context. Training resumes from earlier epochs, so that an evaluation costs only the
    epochs that its configuration was not trained for yet. The same configuration at the same budget is evaluated once.

    An evaluation fails if it raises an exception, or if its score is NaN or infinity. It still costs its epochs, it is
    recorded with a warning, and its score is minus infinity.

    Parameters
    ----------
    evaluate : callable
        Maps a configuration and a budget to a score; see `.samplers.Objective`.
    total_budget : int
        Total number of epochs. An evaluation that would exceed it does not start, and the search ends.
    told : mapping
        Metadata that identifies the search, as JSON: strategy, arguments, seed. The budget is not among them, since
        a search may be resumed with a larger one.
    trace : path, optional
        File with one JSON object a line: first `told`, then every finished evaluation. If the file exists, its scores
        replace evaluations until they are used up. An incomplete last line is dropped.
    resume : bool or "retry"
        Treatment of an existing trace: see `.journal.Journal`.

    Attributes
    ----------
    spent : int
        Epochs spent so far.

    Raises
    ------
    ValueError
        If the trace belongs to another search.
    RuntimeError
        If the first three evaluations at a budget fail by the same kind of exception.
    naaplib.training.checkpoints.FolderInUse
        If another search is using the trace.
    """

    def __init__(
        self,
        evaluate: Callable[[Any, int], float],
        total_budget: int,
        told: Mapping[str, object],
        trace: str | Path | None = None,
        resume: bool | str = True,
    ) -> None:
        if not total_budget >= 1:
            raise ValueError(f"total_budget is {total_budget}; it must be at least 1 epoch")
        self.spent = 0
        self._evaluate, self._total = evaluate, total_budget
        self._journal = Journal(trace, told, resume)
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        self._trained: dict[str, int] = {}
        self._scores: dict[tuple[str, int], float] = {}
        self._failures: dict[int, list[str]] = {}  # by budget; "" for a success
        self._incumbent: tuple[bool, int, float, str] | None = None  # has a score, budget, score, configuration
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> Ledger:
        """Read the trace, and open it for writing."""
        self._journal.__enter__()
        entries = [entry for entry in self._journal.entries if RETRY not in entry]
        self._known = {(json.dumps(entry["configuration"]), entry["budget"]): entry for entry in entries}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Close the trace; the end of the budget is not an error."""
        self._journal.__exit__()
        return isinstance(error, BudgetSpentError)

    def trained(self, configuration: Any) -> int:
        """Return the epochs that a configuration has been trained for."""
        return self._trained.get(name_of(configuration), 0)

    def evaluate(self, configuration: Any, budget: int, bracket: int, rung: int) -> float:
        """Return the score of a configuration after `budget` epochs.

        Parameters
        ----------
        configuration : object that JSON can hold
            Its JSON is its identity.
        budget : int
            Total number of epochs of this configuration.
        bracket, rung : int
            Labels for the table.

        Raises
        ------
        BudgetSpentError
            If the total budget would be exceeded.
        """
        name = name_of(configuration)
        paid = max(budget - self._trained.get(name, 0), 0)
        if self.spent + paid > self._total:
            raise BudgetSpentError
        score = self._score(name, configuration, budget)
        self.spent += paid
        self._trained[name] = max(budget, self._trained.get(name, 0))
        rank = (score > -math.inf, budget, score)
        if self._incumbent is None or rank > self._incumbent[:3]:
            self._incumbent = (*rank, name)
        row = (len(self._rows) + 1, bracket, rung, name, budget, paid, self.spent, score, self._incumbent[3])
        self._rows.append(row)
        return score

    def _score(self, name: str, configuration: Any, budget: int) -> float:
        if (name, budget) not in self._scores:
            told = {"configuration": json.loads(name), "budget": budget}
            if self._known and not self._journal.is_mended and (first := next(iter(self._known))) != (name, budget):
                raise ValueError(
                    f"{self._journal.path} has {first[0]} with budget {first[1]} where this search comes to {name} "
                    f"with budget {budget}: its objective is another. Name another file, or give resume=False"
                )
            failures = self._failures.setdefault(budget, [])
            if found := self._known.pop((name, budget), None):
                failure, score = found.get("failure", ""), found["score"]
                failures.append(failure)
            else:
                score, failure, error = attempt(self._evaluate, configuration, budget)
                failures.append(failure)
                self._journal.add(told | ({"score": None, "failure": failure} if failure else {"score": score}))
                if failure:
                    report(f"the evaluation of {name} after {budget} epochs", failures, error)
            self._scores[name, budget] = -math.inf if failure else score
        return self._scores[name, budget]

    def table(self) -> pd.DataFrame:
        """Return the evaluations in their order.

        Returns
        -------
        DataFrame
            step (from 1), bracket and rung (from 0), configuration (as JSON), budget, paid (epochs of this step), spent
            (epochs so far), score, incumbent. The incumbent is the configuration that the search would return after
            this step: the best score at the largest budget so far, the first among equals. A configuration with
            score minus infinity is the incumbent only where there is no other.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS)
