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
from naaplib.search.journal import RETRY, Journal, Outcome, attempt, report

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
        *,
        told: Mapping[str, object],
        trace: str | Path | None = None,
        resume: bool | str = True,
    ) -> None:
        if not total_budget >= 1:
            raise ValueError(f"total_budget is {total_budget}; it must be at least 1 epoch")
        self.spent = 0
        self._evaluate, self._total = evaluate, total_budget
        self._journal = Journal(trace, told, resume=resume)
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        self._trained: dict[str, int] = {}
        self._scores: dict[tuple[str, int], float] = {}
        self._failures: dict[int, list[str]] = {}  # by budget; "" for a success
        self._rows: list[tuple[object, ...]] = []

    def __enter__(self) -> Ledger:
        """Read the trace, and open it for writing."""
        self._journal.__enter__()
        entries = [entry for entry in self._journal.entries if RETRY not in entry]
        named = {(json.dumps(entry["configuration"]), entry["budget"]): entry for entry in entries}
        self._known = {name: entry for name, entry in named.items() if name not in self._scores}
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

    def evaluate(self, configuration: Any, budget: int, *, bracket: int, rung: int) -> float:
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
        if self.cost(configuration, budget) > self.left:
            raise BudgetSpentError
        if not self.recall(configuration, budget):
            self.settle(configuration, budget, outcome=attempt(self._evaluate, configuration, budget))
        return self.count(configuration, budget, bracket=bracket, rung=rung)

    @property
    def left(self) -> int:
        """Epochs that are left of the budget."""
        return self._total - self.spent

    def cost(self, configuration: Any, budget: int) -> int:
        """Return the epochs that an evaluation adds to those of its configuration."""
        return max(budget - self.trained(configuration), 0)

    def recall(self, configuration: Any, budget: int) -> bool:
        """Return True if the score is known already, from this search or its trace."""
        name = name_of(configuration)
        if (name, budget) in self._scores:
            return True
        if self._known and not self._journal.is_mended and (first := next(iter(self._known))) != (name, budget):
            raise ValueError(
                f"{self._journal.path} has {first[0]} with budget {first[1]} where this search comes to {name} "
                f"with budget {budget}: its objective is another. Name another file, or give resume=False"
            )
        if (found := self._known.pop((name, budget), None)) is None:
            return False
        failure = found.get("failure", "")
        self._failures.setdefault(budget, []).append(failure)
        self._scores[name, budget] = -math.inf if failure else found["score"]
        return True

    def settle(self, configuration: Any, budget: int, *, outcome: Outcome) -> None:
        """Write the outcome of an evaluation, as `.journal.attempt` returns it."""
        name, (score, failure, error) = name_of(configuration), outcome
        failures = self._failures.setdefault(budget, [])
        failures.append(failure)
        told = {"configuration": json.loads(name), "budget": budget}
        self._journal.add(told | ({"score": None, "failure": failure} if failure else {"score": score}))
        if failure:
            report(f"the evaluation of {name} after {budget} epochs", failures, error=error)
        self._scores[name, budget] = -math.inf if failure else score

    def count(self, configuration: Any, budget: int, *, bracket: int, rung: int) -> float:
        """Add a known evaluation to the table and its cost to the epochs spent."""
        name, paid = name_of(configuration), self.cost(configuration, budget)
        score = self._scores[name, budget]
        self.spent += paid
        self._trained[name] = max(budget, self._trained.get(name, 0))
        self._rows.append((len(self._rows) + 1, bracket, rung, name, budget, paid, self.spent, score))
        return score

    def table(self) -> pd.DataFrame:
        """Return the evaluations in their order.

        Returns
        -------
        DataFrame
            step (from 1), bracket and rung (from 0), configuration (as JSON), budget, paid (epochs of this step), spent
            (epochs so far), score, incumbent (as `incumbents` has it).
        """
        table = pd.DataFrame(self._rows, columns=COLUMNS[:-1])
        return table.assign(incumbent=incumbents(table))


def incumbents(table: pd.DataFrame) -> list[str]:
    """Find the configuration that a search would return after each of its evaluations.

    It has the best score at the largest budget so far, the first among equals. A configuration with score minus
    infinity is the incumbent only where there is no other.

    Parameters
    ----------
    table : DataFrame
        configuration, budget, score, in the order in which evaluations end.

    Examples
    --------
    >>> incumbents(pd.DataFrame({"configuration": ["a", "b", "c"], "budget": [1, 1, 3], "score": [0.5, 0.4, 0.3]}))
    ['a', 'a', 'c']
    """
    found: list[str] = []
    best: tuple[bool, int, float] | None = None
    for name, budget, score in zip(table["configuration"], table["budget"], table["score"], strict=True):
        rank = (score > -math.inf, budget, score)
        is_better = best is None or rank > best
        best = rank if is_better else best
        found.append(name if is_better else found[-1])
    return found
