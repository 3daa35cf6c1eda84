"""What a search has trained and paid for: evaluations within a budget, written down so that a search can go on."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from naaplib.search.journal import Journal

COLUMNS = ["step", "bracket", "rung", "configuration", "budget", "paid", "spent", "score", "incumbent"]


class BudgetSpentError(Exception):
    """The budget is spent; raised by `Ledger.evaluate`, and caught where the ledger's context ends."""


class Ledger:
    """Evaluations of one search; a context within which `evaluate` works, and which ends it when the budget is spent.

    Training goes on from what was trained before: an evaluation pays for the epochs that its configuration was not
    trained for yet. One that was evaluated at that budget before is not evaluated again.

    Parameters
    ----------
    evaluate : callable
        From a configuration and a budget to a score; see `naaplib.search.proposals.Objective`.
    total_budget : int
        Epochs in all. An evaluation that would exceed it is not begun, and ends the search.
    told : mapping
        What the search is, as JSON: strategy, arguments, seed. Not the budget: a search may go on with a larger one.
    trace : path, optional
        File that every finished evaluation is appended to, one JSON object a line, after a first line with `told`. If
        it is there, its scores are taken in the place of evaluations for as long as there are any; a last line that is
        torn is dropped.

    Attributes
    ----------
    spent : int
        Epochs paid so far.

    Raises
    ------
    ValueError
        If the trace is of another search, or a score is not a number.
    """

    def __init__(
        self,
        evaluate: Callable[[Any, int], float],
        total_budget: int,
        told: Mapping[str, object],
        trace: str | Path | None = None,
    ) -> None:
        if total_budget < 1:
            raise ValueError(f"total_budget is {total_budget}; it must be at least 1 epoch")
        self.spent = 0
        self._evaluate, self._total = evaluate, total_budget
        self._journal = Journal(trace, told)
        self._known: deque[dict[str, Any]] = deque()
        self._trained: dict[str, int] = {}
        self._scores: dict[tuple[str, int], float] = {}
        self._incumbent: tuple[int, float, str] | None = None  # budget, score, configuration
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> Ledger:
        """Read the trace, and open it to write on."""
        self._journal.__enter__()
        self._known.extend(self._journal.entries)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Close the trace; the end of the budget is no error."""
        self._journal.__exit__()
        return isinstance(error, BudgetSpentError)

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
        name = json.dumps(configuration)
        paid = max(budget - self._trained.get(name, 0), 0)
        if self.spent + paid > self._total:
            raise BudgetSpentError
        score = self._score(name, configuration, budget)
        self.spent += paid
        self._trained[name] = max(budget, self._trained.get(name, 0))
        if self._incumbent is None or (budget, score) > self._incumbent[:2]:
            self._incumbent = budget, score, name
        row = (len(self._rows) + 1, bracket, rung, name, budget, paid, self.spent, score, self._incumbent[2])
        self._rows.append(row)
        return score

    def _score(self, name: str, configuration: Any, budget: int) -> float:
        if (name, budget) in self._scores:
            return self._scores[name, budget]
        told = {"configuration": json.loads(name), "budget": budget}
        if self._known:
            known = self._known.popleft()
            score = known.pop("score", math.nan)
            if known != told:
                raise ValueError(
                    f"{self._journal.path} has {known} where this search comes to {told}: its objective is another"
                )
        else:
            score = float(self._evaluate(configuration, budget))
            if math.isnan(score):
                raise ValueError(
                    f"the score of {name} after {budget} epochs is NaN: give it a value, the worst if it failed"
                )
            self._journal.add(told | {"score": score})
        self._scores[name, budget] = score
        return score

    def table(self) -> pd.DataFrame:
        """Evaluations in their order.

        Returns
        -------
        DataFrame
            step (from 1), bracket and rung (from 0), configuration (as JSON), budget, paid (epochs), spent (so far),
            score, and incumbent: the configuration that the search would return after this step, which is that with the
            best score at the largest budget there is so far; of equals the first.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS)
