"""Multi-fidelity searches within a budget: random search, HyperBand, BOHB."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from naaplib.search.budget import Ledger
from naaplib.search.identity import describe, whole
from naaplib.search.plans import Rungs, at_random, drive, in_rounds
from naaplib.search.samplers import Model, Objective, draw, quiet


def brackets(max_budget: int, eta: int) -> list[Rungs]:
    """Return HyperBand's brackets (Li et al. 2018, Algorithm 1).

    The bracket that starts most configurations comes first.

    Parameters
    ----------
    max_budget : int
        R, the epochs of the last rung.
    eta : int
        One configuration in `eta` is promoted to the next rung, which has `eta` times the epochs.

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
    *,
    budget: int,
    seed: int = 0,
    trace: str | Path | None = None,
    resume: bool | str = True,
) -> pd.DataFrame:
    """Train different configurations, drawn at random, for `budget` epochs each.

    Parameters
    ----------
    objective : Objective
    total_budget : int
        Epochs of the whole search. An evaluation that would exceed them does not start.
    budget : int
        Epochs of each configuration.
    seed : int
    trace : path, optional
        File of finished evaluations, from which the same call resumes a stopped search; see `.budget.Ledger`. It also
        identifies the search by its arguments and by the code of `suggest` and `evaluate`, with the functions and
        values of yours that they use.
    resume : bool or "retry"
        Treatment of an existing `trace`. True: resume, and refuse another search or objective. "retry": resume
        although the code was fixed, and evaluate the failures again. False: start again; the old file gets a free
        name beside it, such as ``search-1.jsonl``.

    Returns
    -------
    DataFrame
        One row per evaluation, see `.budget.Ledger.table`.

    Examples
    --------
    >>> from naaplib.search.tabular_objective import TableObjective
    >>> curves = [[0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]]  # accuracy by epoch
    >>> trace = random_search(TableObjective(curves), total_budget=8, budget=4, seed=0)
    >>> trace[["budget", "spent"]].to_numpy().tolist()
    [[4, 4], [4, 8]]
    """
    budget, seed = whole("budget", budget, least=1), whole("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    with _ledger(objective, total_budget, trace, resume, strategy="random search", budget=budget, seed=seed) as ledger:
        drive(ledger, at_random(ledger, objective, budget=budget, rng=rng))
    return ledger.table()


def successive_halving(
    objective: Objective,
    total_budget: int,
    *,
    rungs: Rungs,
    seed: int = 0,
    trace: str | Path | None = None,
    resume: bool | str = True,
) -> pd.DataFrame:
    """Repeat one bracket: the best of each rung are trained on to the next.

    Parameters
    ----------
    rungs : list of (n_configurations, budget)
        One of `brackets`; budgets must not fall.
    objective, total_budget, seed, trace, resume
        As for `random_search`.

    Returns
    -------
    DataFrame
        As for `random_search`.

    Examples
    --------
    >>> from naaplib.search.tabular_objective import TableObjective
    >>> curves = [[0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]]  # accuracy by epoch
    >>> trace = successive_halving(TableObjective(curves), total_budget=6, rungs=[(3, 1), (1, 4)])
    >>> trace["budget"].head(4).tolist(), trace["incumbent"].iloc[-1]
    ([1, 1, 1, 4], '0')
    """
    rungs = [(whole("n_configurations", n, least=1), whole("budget", budget, least=1)) for n, budget in rungs]
    if not rungs or any(budget > later for (_, budget), (_, later) in pairwise(rungs)):
        raise ValueError(f"rungs are {rungs}; there must be one at least, and budgets must not fall")
    seed = whole("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    with _ledger(
        objective, total_budget, trace, resume, strategy="successive halving", rungs=rungs, seed=seed
    ) as ledger:
        drive(ledger, in_rounds(ledger, [rungs], propose=lambda: draw(objective, rng), may_fall=remembers(objective)))
    return ledger.table()


def hyperband(
    objective: Objective,
    total_budget: int,
    *,
    max_budget: int,
    eta: int = 3,
    seed: int = 0,
    trace: str | Path | None = None,
    resume: bool | str = True,
) -> pd.DataFrame:
    """Run HyperBand (Li et al. 2018), one evaluation at a time.

    Its brackets take turns until the budget is spent. A promoted configuration resumes training, and costs the further
    epochs alone; so does a configuration that a later bracket draws again. A bracket draws no configuration twice. The
    first proposed among equal scores is promoted. A failed evaluation scores minus infinity, and the search continues.

    Parameters
    ----------
    max_budget, eta : int
        As for `brackets`.
    objective, total_budget, seed, trace, resume
        As for `random_search`; the last bracket ends with the budget.

    Returns
    -------
    DataFrame
        As for `random_search`.

    Examples
    --------
    >>> from naaplib.search.tabular_objective import TableObjective
    >>> curves = [[0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]]  # accuracy by epoch
    >>> trace = hyperband(TableObjective(curves), total_budget=24, max_budget=4, eta=2)
    >>> trace["incumbent"].iloc[-1], int(trace["budget"].max())
    ('1', 4)
    """
    plans, told = _plans(max_budget, eta, seed)
    rng = np.random.default_rng(told["seed"])
    with _ledger(objective, total_budget, trace, resume, strategy="hyperband", **told) as ledger:
        drive(ledger, in_rounds(ledger, plans, propose=lambda: draw(objective, rng), may_fall=remembers(objective)))
    return ledger.table()


def bohb(
    objective: Objective,
    total_budget: int,
    *,
    max_budget: int,
    eta: int = 3,
    seed: int = 0,
    trace: str | Path | None = None,
    random_share: float = 1 / 3,
    min_points: int = 8,
    resume: bool | str = True,
) -> pd.DataFrame:
    """Run BOHB (Falkner et al. 2018): HyperBand with configurations from Optuna's TPE.

    Each budget has its own study, named "budget 9" and so on, which receives every score at that budget. A new
    configuration comes from the study of the largest budget with `min_points` scores. It is drawn at random as long as
    there is none, and with the probability `random_share`.

    Parameters
    ----------
    random_share : float
        The published value is 1/3.
    min_points : int
        The publication uses one more than the number of hyperparameters.
    objective, total_budget, max_budget, eta, seed, trace, resume
        As for `hyperband`.

    Returns
    -------
    DataFrame
        As for `random_search`.

    Examples
    --------
    >>> from naaplib.search.tabular_objective import TableObjective
    >>> curves = [[0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]]  # accuracy by epoch
    >>> trace = bohb(TableObjective(curves), total_budget=24, max_budget=4, eta=2, min_points=2)
    >>> trace["incumbent"].iloc[-1], int(trace["budget"].max())
    ('1', 4)
    """
    min_points = whole("min_points", min_points)
    if not 0 <= random_share <= 1 or min_points < 1:
        raise ValueError(f"random_share is {random_share}, min_points {min_points}; from 0 to 1, and at least 1")
    plans, told = _plans(max_budget, eta, seed)
    told |= {"random_share": float(random_share), "min_points": min_points}
    rng = np.random.default_rng(told["seed"])
    model = Model(objective, rng, random_share=random_share, min_points=min_points)
    with _ledger(objective, total_budget, trace, resume, strategy="bohb", **told) as ledger, quiet():
        drive(ledger, in_rounds(ledger, plans, propose=model.propose, may_fall=remembers(objective), tell=model.tell))
    return ledger.table()


def remembers(objective: Objective) -> bool:
    """Return True if an objective also knows the scores of earlier epochs."""
    return bool(getattr(objective, "remembers", False))


def _plans(max_budget: int, eta: int, seed: int) -> tuple[list[Rungs], dict[str, Any]]:
    """Return the brackets, and their parameters as Python's numbers."""
    told = {
        "max_budget": whole("max_budget", max_budget),
        "eta": whole("eta", eta),
        "seed": whole("seed", seed, least=0),
    }
    return brackets(max_budget, eta), told


def _ledger(
    objective: Objective, total_budget: int, trace: str | Path | None, resume: bool | str, **told: Any
) -> Ledger:
    if isinstance(objective, type) or not all(hasattr(objective, name) for name in ("name", "suggest", "evaluate")):
        raise TypeError(f"objective is {objective!r}; it must be an object with a name, suggest and evaluate")
    told |= {"objective": str(objective.name)}
    if trace is not None:
        told |= describe(suggest=objective.suggest, evaluate=objective.evaluate)
    return Ledger(objective.evaluate, total_budget, told=told, trace=trace, resume=resume)
