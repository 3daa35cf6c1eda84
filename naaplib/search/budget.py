"""What a search has trained and paid for: evaluations within a budget, written down so that a search can go on."""

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
    """The budget is spent; raised by `Ledger.evaluate`, and caught where the ledger's context ends."""


class Ledger:
    """Evaluations of one search; a context within which `evaluate` works, and which ends it when the budget is spent.

    Training goes on from what was trained before: an evaluation pays for the epochs that its configuration was not
    trained for yet. One that was evaluated at that budget before is not evaluated again.

    An evaluation that raises an exception, or whose score is NaN or infinity, has failed: it is paid for, written down
    and warned of, and its score is minus infinity.

    Parameters
    ----------
    evaluate : callable
        From a configuration and a budget to a score; see `naaplib.search.samplers.Objective`.
    total_budget : int
        Epochs in all. An evaluation that would exceed it is not begun, and ends the search.
    told : mapping
        What the search is, as JSON: strategy, arguments, seed. Not the budget: a search may go on with a larger one.
    trace : path, optional
        File that every finished evaluation is appended to, one JSON object a line, after a first line with `told`. If
        it is there, its scores are taken in the place of evaluations for as long as there are any; a last line that is
        torn is dropped.
    resume : bool or "retry"
        What is done with a trace that is there: see `naaplib.search.journal.Journal`.

    Attributes
    ----------
    spent : int
        Epochs paid so far.

    Raises
    ------
    ValueError
        If the trace is of another search.
    RuntimeError
        If the first three evaluations at a budget fail by the same kind of exception.
    naaplib.training.checkpoints.FolderInUse
        If another search is at work on the trace.
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
        self._failures: dict[int, list[str]] = {}  # by budget, "" for an evaluation that did not fail
        self._incumbent: tuple[bool, int, float, str] | None = None  # whether it has a score; budget, score, which
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> Ledger:
        """Read the trace, and open it to write on."""
        self._journal.__enter__()
        entries = [entry for entry in self._journal.entries if RETRY not in entry]
        self._known = {(json.dumps(entry["configuration"]), entry["budget"]): entry for entry in entries}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Close the trace; the end of the budget is no error."""
        self._journal.__exit__()
        return isinstance(error, BudgetSpentError)

    def trained(self, configuration: Any) -> int:
        """Epochs that a configuration was trained for so far."""
        return self._trained.get(name_of(configuration), 0)

    def evaluate(self, configuration: Any, budget: int, bracket: int, rung: int) -> float:
        """Score of a configuration after so many epochs.

        Parameters
        ----------
        configuration : object that JSON can hold
            Told apart by its JSON.
        budget : int
            Epochs, in all.
        bracket, rung : int
            For the table.

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
        """Evaluations in their order.

        Returns
        -------
        DataFrame
            step (from 1), bracket and rung (from 0), configuration (as JSON), budget, paid (epochs), spent (so far),
            score, and incumbent: the configuration that the search would return after this step, which is that with the
            best score at the largest budget there is so far; of equals the first. One whose score is minus infinity is
            the incumbent only where there is no other.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS)
