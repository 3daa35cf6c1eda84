"""Simulated clock of a multi-fidelity search with several workers.

A free worker takes the next evaluation that the plan has asked for. The plan asks for more when all of these have
ended: random search for everything at once, HyperBand for a rung, BOHB for as many as there are workers, since its
model learns from their scores. So workers wait at the end of a rung, or of a batch of BOHB. `naaplib.search.study`
evaluates in the same batches with ``n_jobs``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from naaplib.search.budget import Ledger, incumbents
from naaplib.search.plans import Plan, affordable, at_random, in_rounds, proceed
from naaplib.search.samplers import Model, Objective, draw, quiet
from naaplib.search.strategies import brackets, remembers

STRATEGIES = ("random search", "successive halving", "HyperBand", "BOHB")


def search(
    strategy: str, objective: Objective, *, total_budget: int, max_budget: int, seconds: Callable[[Any, int], float],
    n_workers: int, eta: int = 3, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Run a search of `naaplib.search.strategies` on the clock of several workers.

    With one worker the evaluations are those of the strategy's own function. With more, those of random search and
    HyperBand stay the same, and BOHB's model lags behind by a batch.

    Parameters
    ----------
    strategy : str
        One of `STRATEGIES`; successive halving repeats HyperBand's first bracket.
    objective, total_budget, max_budget, eta, seed
        As in `.strategies.hyperband`.
    seconds : callable
        Function of a configuration and a number of epochs: the time that a worker needs for them, in any unit.
    n_workers : int

    Returns
    -------
    DataFrame
        As `schedule` returns it.

    Examples
    --------
    >>> from naaplib.search.tabular_objective import TableObjective
    >>> curves = [[0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]]  # accuracy by epoch
    >>> settings = {"total_budget": 12, "max_budget": 4, "seconds": lambda _, n_epochs: 2 * n_epochs}
    >>> found = search("random search", TableObjective(curves), n_workers=2, **settings)
    >>> found[["worker", "start", "end"]].to_numpy().tolist()
    [[0.0, 0.0, 8.0], [1.0, 0.0, 8.0], [0.0, 8.0, 16.0]]
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; it must be one of {', '.join(STRATEGIES)}")
    if n_workers < 1:
        raise ValueError(f"n_workers must be 1 or more, not {n_workers}")
    ledger = Ledger(objective.evaluate, total_budget, told={})
    rng, plans = np.random.default_rng(seed), brackets(max_budget, eta)
    if strategy == "random search":
        plan = at_random(ledger, objective, budget=max_budget, rng=rng, n_jobs=n_workers)
        return schedule(ledger, plan, seconds=seconds, n_workers=n_workers)
    with quiet():
        model = Model(objective, rng, random_share=1 / 3, min_points=8) if strategy == "BOHB" else None
        plan = in_rounds(
            ledger,
            plans[:1] if strategy == "successive halving" else plans,
            propose=model.propose if model else lambda: draw(objective, rng),
            may_fall=remembers(objective),
            tell=model.tell if model else None,
            n_jobs=n_workers,
        )
        return schedule(ledger, plan, seconds=seconds, n_workers=n_workers)


def schedule(ledger: Ledger, plan: Plan, *, seconds: Callable[[Any, int], float], n_workers: int) -> pd.DataFrame:
    """Evaluate what a plan asks for, and note which worker does it when.

    Parameters
    ----------
    ledger, plan
        As in `.plans.drive`. Unlike there, the plan's last steps are cut where the budget ends.
    seconds, n_workers
        As in `search`. An evaluation takes time for the epochs that it adds.

    Returns
    -------
    DataFrame
        As `.budget.Ledger.table` returns it, in the order in which evaluations end, with worker (from 0), start and
        end. The incumbent is the best of those that have ended.
    """
    rows: list[tuple[float, ...]] = []
    clock, asked = 0.0, next(plan, [])
    with ledger:
        while steps := affordable(ledger, asked):
            scores: list[float] = []
            free = [(clock, worker) for worker in range(n_workers)]
            for step in steps:
                start, worker = heapq.heappop(free)
                paid = ledger.cost(step.configuration, step.budget)
                scores.append(ledger.evaluate(**step._asdict()))
                end = start + (seconds(step.configuration, paid) if paid else 0.0)
                heapq.heappush(free, (end, worker))
                rows.append((worker, start, end))
            clock = max(free)[0]
            asked = proceed(plan, scores) if len(steps) == len(asked) else []
    times = pd.DataFrame(rows, columns=["worker", "start", "end"])
    table = pd.concat([ledger.table(), times], axis=1).sort_values("end", kind="stable", ignore_index=True)
    return table.assign(incumbent=incumbents(table))


def idle_share(table: pd.DataFrame, *, n_workers: int) -> float:
    """Return the share of the workers' time that no evaluation uses.

    Time counts until the last evaluation ends.

    Parameters
    ----------
    table : DataFrame
        As `schedule` returns it.
    n_workers : int
    """
    return float(1 - (table["end"] - table["start"]).sum() / (n_workers * table["end"].max()))
