"""Engines of a study: each method as batches of evaluations, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from naaplib.search import tuning
from naaplib.search.budget import Ledger
from naaplib.search.identity import describe, whole
from naaplib.search.journal import Outcome
from naaplib.search.plans import Plan, Step, affordable, at_random, in_rounds, proceed
from naaplib.search.samplers import Model, draw, load_optuna, quiet
from naaplib.search.spaces import Space
from naaplib.search.strategies import brackets

METHODS = ("random", "halving", "hyperband", "bohb", "tuning")
SETTINGS: dict[str, tuple[str, ...]] = {
    "random": (),
    "halving": ("rungs",),
    "hyperband": (),
    "bohb": ("random_share", "min_points"),
    "tuning": ("cheap_epochs", *(field.name for field in fields(tuning.Settings))),
}


@dataclass(frozen=True)
class Request:
    """Arguments of a study."""

    method: str
    space: Space
    objective: Callable[..., float]
    budget: int
    max_epochs: int
    eta: int
    seed: int
    storage: Path | None
    resume: bool | str
    n_jobs: int
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; it must be one of {', '.join(METHODS)}")
        if unknown := [name for name in self.settings if name not in SETTINGS[self.method]]:
            known = ", ".join(SETTINGS[self.method]) or "none of its own"
            raise TypeError(f"method {self.method!r} has no setting {unknown[0]!r}; it has {known}")
        if self.storage is not None and self.storage.suffix != tuning.SUFFIX:
            raise ValueError(f"storage is '{self.storage}'; name a file that ends in {tuning.SUFFIX}")

    def identity(self) -> dict[str, Any]:
        """Return what a resumed study must find again, the user's code excepted."""
        told = {"space": self.space.identity, "max_epochs": self.max_epochs}
        return told if self.method == "random" else told | {"eta": self.eta}


@dataclass
class Due:
    """An evaluation that is due, with the engine's own name for it."""

    params: Any
    n_epochs: int
    is_known: bool
    name: Any


class Engine(Protocol):
    """A method, which is asked for evaluations and sent their outcomes in order."""

    def __enter__(self) -> Engine: ...
    def __exit__(self, *_: object) -> None: ...

    def batch(self) -> list[Due]:
        """Return evaluations that may run side by side; none at the end."""

    def count(self, due: Due, outcome: Outcome | None) -> tuple[float, int]:
        """Record an outcome, None of a known one; return its value and its epochs."""


def make(request: Request) -> Engine:
    """Make the engine of a study's method."""
    return Tuning(request) if request.method == "tuning" else MultiFidelity(request)


class MultiFidelity:
    """Random search, successive halving, HyperBand and BOHB, on a `Ledger`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        told = {"strategy": request.method, "seed": request.seed} | request.identity()
        told |= {name: value for name, value in request.settings.items() if value is not None}
        if request.method == "bohb":  # it proposes so many at a time
            told |= {"n_jobs": request.n_jobs}
            load_optuna()  # which may be missing
        if request.storage is not None:
            told |= describe(evaluate=request.objective, **request.space.functions)
        self.ledger = Ledger(request.objective, request.budget, told=told, trace=request.storage, resume=request.resume)
        self._plan: Plan | None = None
        self._scores: list[float] = []
        self._is_over = False

    def __enter__(self) -> MultiFidelity:
        """Lock the storage."""
        self.ledger.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the storage."""
        self.ledger.__exit__(None, None, None)

    def batch(self) -> list[Due]:
        """Return the steps that the plan asks for, as far as the budget allows."""
        if self._is_over:
            return []
        with ExitStack() as stack:
            if self._request.method == "bohb":
                stack.enter_context(quiet())
            if self._plan is None:
                self._plan = self._made()
                asked = next(self._plan, [])
            else:
                asked = proceed(self._plan, self._scores)
        self._scores, steps = [], affordable(self.ledger, asked)
        self._is_over = len(steps) < len(asked)
        return [Due(step.configuration, step.budget, self.ledger.recall(*step[:2]), step) for step in steps]

    def count(self, due: Due, outcome: Outcome | None) -> tuple[float, int]:
        """Record an outcome in the ledger."""
        step: Step = due.name
        if outcome is not None:
            self.ledger.settle(*step[:2], outcome=outcome)
        cost = self.ledger.cost(*step[:2])
        self._scores.append(self.ledger.count(**step._asdict()))
        return self._scores[-1], cost

    def _made(self) -> Plan:
        """Return the method's plan."""
        one, rng = self._request, np.random.default_rng(self._request.seed)
        if one.method == "random":
            return at_random(self.ledger, one.space, budget=one.max_epochs, rng=rng, n_jobs=one.n_jobs)
        plans = brackets(one.max_epochs, one.eta)
        if one.method == "halving":
            plans = [one.settings.get("rungs") or plans[0]]
        if one.method != "bohb":
            return in_rounds(
                self.ledger, plans, propose=lambda: draw(one.space, rng), may_fall=False, n_jobs=one.n_jobs
            )
        settings: dict[str, Any] = {"random_share": 1 / 3, "min_points": 8} | dict(one.settings)
        model = Model(one.space, rng, **settings)
        return in_rounds(self.ledger, plans, propose=model.propose, may_fall=False, tell=model.tell, n_jobs=one.n_jobs)


class Tuning:
    """Architecture tuning, on a `tuning.Search`; its budget is in epochs here."""

    def __init__(self, request: Request) -> None:
        self._space, full, own = request.space, request.max_epochs, dict(request.settings)
        cheap = whole("cheap_epochs", own.pop("cheap_epochs", max(full // request.eta**2, 1)), least=1)
        ratio = full // cheap
        defaults = {"n_initial": 2, "n_initial_cheap": 2 * ratio, "n_cheap": ratio} if ratio > 1 else {}
        self.search = tuning.Search(
            request.space.listed(),
            request.objective,  # for its identity: the study itself evaluates
            cost=full,
            evaluate_cheaply=request.objective if ratio > 1 else None,
            cheap_cost=cheap if ratio > 1 else None,
            seed=request.seed,
            folder=request.storage,
            settings=tuning.Settings(**defaults | own),
            resume=request.resume,
            told=request.identity() | {"cheap_epochs": cheap},
        )
        self._epochs = (full, cheap)
        self._budget = request.budget / full
        self._journal = self.search.journal()
        self._batches: Iterator[list[tuple[int, int]]] | None = None
        self._is_first = True

    def __enter__(self) -> Tuning:
        """Lock the storage."""
        self._journal.__enter__()
        if self._batches is None:
            self._batches = self.search.batches(self._journal, self._budget)
        return self

    def __exit__(self, *_: object) -> None:
        """Release the storage."""
        self._journal.__exit__()

    def batch(self) -> list[Due]:
        """Return the rest of the search's round, at first after all that is recorded."""
        assert self._batches is not None
        proposals = next(self._batches, [])
        past = self.search.past() if self._is_first else []
        self._is_first = False
        return [self._due(one[:2], one.value) for one in past] + [self._due(one, None) for one in proposals]

    def _due(self, proposal: tuple[int, int], value: float | None) -> Due:
        position, fidelity = proposal
        params = self._space.params(self.search.space.encodings[position])
        return Due(params, self._epochs[fidelity], value is not None, (proposal, value))

    def count(self, due: Due, outcome: Outcome | None) -> tuple[float, int]:
        """Record an outcome in the search."""
        proposal, value = due.name
        if outcome is not None:
            value = self.search.record(self._journal, proposal, outcome=outcome).value
        return value, due.n_epochs
