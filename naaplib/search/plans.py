"""Plans: generators of the evaluations that a multi-fidelity search asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np

from naaplib.search.budget import Ledger
from naaplib.search.samplers import Proposal, Suggester, draw, others

Rungs = list[tuple[int, int]]  # configurations and budget of each rung
Tell = Callable[..., None]  # takes a proposal, its budget and, by its name, its score


class Step(NamedTuple):
    """An evaluation that a plan asks for."""

    configuration: Any
    budget: int
    bracket: int
    rung: int


Plan = Generator[list[Step], list[float], None]  # yields steps that may run side by side, is sent their scores


def drive(ledger: Ledger, plan: Plan) -> None:
    """Evaluate what a plan asks for, one step after the other, until it ends."""
    steps = next(plan, [])
    while steps:
        scores = [ledger.evaluate(**step._asdict()) for step in steps]
        steps = proceed(plan, scores)


def proceed(plan: Plan, scores: list[float]) -> list[Step]:
    """Send a plan the scores of its steps; return the next ones, none at its end."""
    try:
        return plan.send(scores)
    except StopIteration:
        return []


def affordable(ledger: Ledger, steps: list[Step]) -> list[Step]:
    """Return the steps before the first that would exceed the budget."""
    costs = np.cumsum([ledger.cost(step.configuration, step.budget) for step in steps])
    return steps[: int((costs <= ledger.left).sum())]


def at_random(ledger: Ledger, objective: Suggester, *, budget: int, rng: np.random.Generator, n_jobs: int = 1) -> Plan:
    """Plan different configurations drawn at random, each for `budget` epochs.

    With several jobs, all that the budget allows may run side by side.
    """
    found, number = others(lambda: draw(objective, rng)), 0
    while drawn := list(islice(found, 1 if n_jobs == 1 else max(ledger.left // budget, 1))):
        yield [Step(one.configuration, budget, number + i, 0) for i, one in enumerate(drawn)]
        number += len(drawn)


def in_rounds(
    ledger: Ledger,
    plans: list[Rungs],
    *,
    propose: Callable[[], Proposal],
    may_fall: bool,
    tell: Tell | None = None,
    n_jobs: int = 1,
) -> Plan:
    """Plan brackets in turn, until the budget ends or all of them have cost nothing.

    Unless budgets may fall, a bracket draws no configuration that is trained for longer than its first rung. With
    several jobs, a rung may run side by side; a sampler that learns from scores proposes `n_jobs` configurations at a
    time.
    """
    n_free = 0
    for bracket in count():
        rungs, before = plans[bracket % len(plans)], ledger.spent
        first = math.inf if may_fall else rungs[0][1]
        fit = others(propose, lambda found: ledger.trained(found) <= first)  # noqa: B023 - called in this turn of the loop
        going: Iterator[tuple[int, Proposal]] = enumerate(fit)
        for rung, (n, budget) in enumerate(rungs):
            scored, size = [], n_jobs if n_jobs == 1 or tell is not None else n
            entrants = islice(going, n)
            while some := list(islice(entrants, size)):
                scores = yield [Step(found.configuration, budget, bracket, rung) for _, found in some]
                for (number, found), score in zip(some, scores, strict=True):
                    if tell is not None:
                        tell(found, budget, score=score)
                    scored.append((-score, number, found))
            going = iter([(number, found) for _, number, found in sorted(scored, key=lambda row: row[:2])])
        n_free = n_free + 1 if ledger.spent == before else 0
        if n_free == len(plans):
            return
