"""Searches that train some configurations longer than others, within a budget: random search, HyperBand, BOHB."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from naaplib.search.budget import Ledger
from naaplib.search.identity import describe, whole
from naaplib.search.samplers import Model, Objective, Proposal, draw, others, quiet

Rungs = list[tuple[int, int]]


def brackets(max_budget: int, eta: int) -> list[Rungs]:
    """HyperBand's brackets (Li et al. 2018, Algorithm 1): those that start most configurations first.

    Parameters
    ----------
    max_budget : int
        R, the epochs of the last rung.
    eta : int
        Of a rung's configurations one in so many goes on, to so many times the epochs.

    Returns
    -------
    list of list of (n_configurations, budget)
        Rungs of each bracket. Budgets are whole epochs: R / eta^i, rounded down.

    Examples
    --------
    >>> brackets(81, 3)[:2]
    [[(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)], [(34, 3), (11, 9), (3, 27), (1, 81)]]
    >>> brackets(90, 3)[-1]
    [(5, 90)]
    """
    max_budget, eta = whole("max_budget", max_budget), whole("eta", eta)
    if max_budget < 1 or eta < 2:
        raise ValueError(f"max_budget is {max_budget} and eta {eta}; they must be at least 1 and 2")
    most = 0
    while eta ** (most + 1) <= max_budget:
        most += 1
    found = []
    for s in range(most, -1, -1):
        n = -(-(most + 1) * eta**s // (s + 1))
        found.append([(n // eta**i, max_budget // eta ** (s - i)) for i in range(s + 1)])
    return found


def random_search(
    objective: Objective,
    total_budget: int,
    budget: int,
    seed: int = 0,
    trace: str | Path | None = None,
    *,
    resume: bool | str = True,
) -> pd.DataFrame:
    """Train configurations drawn at random, each for `budget` epochs, none twice.

    Parameters
    ----------
    objective : Objective
    total_budget : int
        Epochs in all; no evaluation is begun that would exceed it.
    budget : int
    seed : int
    trace : path, optional
        Where every finished evaluation is written down, so that the same call resumes a search that was stopped; see
        `naaplib.search.budget.Ledger`. With it is written what identifies the search: its arguments, and the code of
        `suggest` and `evaluate` with the functions and values of yours that they use.
    resume : bool or "retry"
        What is done where `trace` is there. True: resume, and refuse another search or objective. "retry": resume
        though the code was mended, and evaluate again what failed. False: begin afresh; the old file is renamed to a
        free name beside it, such as ``search-1.jsonl``.

    Returns
    -------
    DataFrame
        One row an evaluation, see `naaplib.search.budget.Ledger.table`.
    """
    budget, seed = whole("budget", budget, 1), whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    with _ledger(objective, total_budget, trace, resume, strategy="random search", budget=budget, seed=seed) as ledger:
        for bracket, found in enumerate(others(lambda: draw(objective, rng))):
            ledger.evaluate(found.configuration, budget, bracket, 0)
    return ledger.table()


def successive_halving(
    objective: Objective,
    total_budget: int,
    rungs: Rungs,
    seed: int = 0,
    trace: str | Path | None = None,
    *,
    resume: bool | str = True,
) -> pd.DataFrame:
    """One bracket after the other with the same rungs: the best of each rung are trained on to the next.

    Parameters
    ----------
    rungs : list of (n_configurations, budget)
        As one of `brackets`: budgets do not fall.
    objective, total_budget, seed, trace, resume
        As for `random_search`.

    Returns
    -------
    DataFrame
        As of `random_search`.
    """
    rungs = [(whole("n_configurations", n, 1), whole("budget", budget, 1)) for n, budget in rungs]
    if not rungs or any(budget > later for (_, budget), (_, later) in pairwise(rungs)):
        raise ValueError(f"rungs are {rungs}; there must be one at least, and budgets must not fall")
    seed = whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    with _ledger(
        objective, total_budget, trace, resume, strategy="successive halving", rungs=rungs, seed=seed
    ) as ledger:
        _run(ledger, [rungs], lambda: draw(objective, rng), remembers(objective))
    return ledger.table()


def hyperband(
    objective: Objective,
    total_budget: int,
    max_budget: int,
    eta: int = 3,
    seed: int = 0,
    trace: str | Path | None = None,
    *,
    resume: bool | str = True,
) -> pd.DataFrame:
    """HyperBand (Li et al. 2018), one evaluation at a time: its brackets in turn, again and again.

    A configuration that is promoted trains on, and pays for the further epochs only; so does one that is drawn again in
    a later bracket. Within a bracket none is drawn twice. Of equal scores the one proposed first is promoted. An
    evaluation that fails scores minus infinity, and the search goes on.

    Parameters
    ----------
    max_budget, eta : int
        As for `brackets`.
    objective, total_budget, seed, trace, resume
        As for `random_search`; the last bracket is cut short where the budget ends.

    Returns
    -------
    DataFrame
        As of `random_search`.
    """
    plans, told = _plans(max_budget, eta, seed)
    rng = np.random.default_rng(told["seed"])
    with _ledger(objective, total_budget, trace, resume, strategy="hyperband", **told) as ledger:
        _run(ledger, plans, lambda: draw(objective, rng), remembers(objective))
    return ledger.table()


def bohb(
    objective: Objective,
    total_budget: int,
    max_budget: int,
    eta: int = 3,
    seed: int = 0,
    trace: str | Path | None = None,
    random_share: float = 1 / 3,
    min_points: int = 8,
    *,
    resume: bool | str = True,
) -> pd.DataFrame:
    """BOHB (Falkner et al. 2018): HyperBand whose configurations a density model proposes, Optuna's TPE.

    Each budget has a study of its own, called "budget 9" and so on, to which every score at that budget is told. A new
    configuration is asked of the study of the largest budget that has `min_points` scores; at random, with the
    probability `random_share` and as long as there is none.

    Parameters
    ----------
    random_share : float
        The published value is 1/3.
    min_points : int
        The publication has one more than there are hyper-parameters.
    objective, total_budget, max_budget, eta, seed, trace, resume
        As for `hyperband`.

    Returns
    -------
    DataFrame
        As of `random_search`.
    """
    min_points = whole("min_points", min_points)
    if not 0 <= random_share <= 1 or min_points < 1:
        raise ValueError(f"random_share is {random_share}, min_points {min_points}; from 0 to 1, and at least 1")
    plans, told = _plans(max_budget, eta, seed)
    told |= {"random_share": float(random_share), "min_points": min_points}
    rng = np.random.default_rng(told["seed"])
    model = Model(objective, rng, random_share, min_points)
    with _ledger(objective, total_budget, trace, resume, strategy="bohb", **told) as ledger, quiet():
        _run(ledger, plans, model.propose, remembers(objective), model.tell)
    return ledger.table()


def remembers(objective: Objective) -> bool:
    """Whether the objective can tell scores after fewer epochs than a configuration was trained for."""
    return bool(getattr(objective, "remembers", False))


def _plans(max_budget: int, eta: int, seed: int) -> tuple[list[Rungs], dict[str, Any]]:
    """Brackets, and their numbers as Python's."""
    told = {"max_budget": whole("max_budget", max_budget), "eta": whole("eta", eta), "seed": whole("seed", seed, 0)}
    return brackets(max_budget, eta), told


def _ledger(
    objective: Objective, total_budget: int, trace: str | Path | None, resume: bool | str, **told: Any
) -> Ledger:
    if isinstance(objective, type) or not all(hasattr(objective, name) for name in ("name", "suggest", "evaluate")):
        raise TypeError(f"objective is {objective!r}; it must be an object with a name, suggest and evaluate")
    told |= {"objective": str(objective.name)}
    if trace is not None:
        told |= describe(suggest=objective.suggest, evaluate=objective.evaluate)
    return Ledger(objective.evaluate, total_budget, told, trace, resume)


def _run(
    ledger: Ledger,
    plans: list[Rungs],
    propose: Callable[[], Proposal],
    may_fall: bool,
    tell: Callable[[Proposal, int, float], None] | None = None,
) -> None:
    """Brackets in turn, until the ledger's budget ends them, or until all of them have cost nothing.

    Unless budgets may fall, what was trained for longer than a bracket begins with has no place in it.
    """
    n_free = 0
    for bracket in count():
        rungs, before = plans[bracket % len(plans)], ledger.spent
        first = math.inf if may_fall else rungs[0][1]
        fit = others(propose, lambda found: ledger.trained(found) <= first)  # noqa: B023
        going: Iterator[tuple[int, Proposal]] = enumerate(fit)
        for rung, (n, budget) in enumerate(rungs):
            scored = []
            for number, found in islice(going, n):
                score = ledger.evaluate(found.configuration, budget, bracket, rung)
                if tell is not None:
                    tell(found, budget, score)
                scored.append((-score, number, found))
            going = iter([(number, found) for _, number, found in sorted(scored, key=lambda row: row[:2])])
        n_free = n_free + 1 if ledger.spent == before else 0
        if n_free == len(plans):
            return
