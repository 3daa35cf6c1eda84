"""Random and guided search as the replication ran them, from its predictions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def best_of(values: ArrayLike, n_drawn: ArrayLike) -> NDArray[np.float64]:
    """Return the expected highest of some random draws with replacement; exact.

    Parameters
    ----------
    values : array_like, shape (n_archs,)
        Accuracies. Give losses with the opposite sign, and reverse the sign of the result.
    n_drawn : array_like of int, shape (n_budgets,)
        Numbers of draws, at least 1.

    Returns
    -------
    ndarray, shape (n_budgets,)
    """
    levels, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    below = np.concatenate([[0], counts.cumsum()]) / counts.sum()  # P(one draw <= level), and 0 before the first
    return np.array([np.diff(below**n) @ levels for n in _budgets(n_drawn)])


def random_search(
    values: ArrayLike, n_drawn: ArrayLike, *, n_singles: int = 60, n_repeats: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Return random search as the study computed it, beside actual random search.

    The study draws `n_singles` fresh architectures at every budget 1, 2, 3, ..., takes the mean of their accuracies,
    and plots the highest mean so far. None of it is the best of the architectures drawn.

    Parameters
    ----------
    values : array_like, shape (n_archs,)
        As in `best_of`.
    n_drawn : array_like of int, shape (n_budgets,)
        Budgets to report, at least 1.
    n_singles : int
        Number of architectures in a mean.
    n_repeats, seed : int
        Repeats of the study's procedure, and their seed.

    Returns
    -------
    DataFrame
        n_drawn; mean_of_singles and mean_of_singles_sd, over repeats; best_of, the exact expectation.
    """
    budgets, table = _budgets(n_drawn), np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    curves = np.stack([rng.choice(table, (max(budgets), n_singles)).mean(axis=1) for _ in range(n_repeats)])
    curves = np.maximum.accumulate(curves, axis=1)[:, np.array(budgets) - 1]
    return pd.DataFrame({
        "n_drawn": budgets, "mean_of_singles": curves.mean(axis=0),
        "mean_of_singles_sd": curves.std(axis=0, ddof=1) if n_repeats > 1 else math.nan,
        "best_of": best_of(table, budgets),
    })  # fmt: skip


def replay(
    measured: ArrayLike, predicted: ArrayLike, *, n_train: int, n_validated: ArrayLike, n_runs: int = 1000
) -> pd.DataFrame:
    """Replay the study's search on stored predictions, beside random search.

    At every K, N + K architectures are drawn anew. The K with the highest predictions among *them* are selected, and
    the best of these counts. Random search trains as many networks. All runs have the same predictor: their standard
    deviation is that of the draws.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `best_of`, for architectures drawn at random.
    n_train : int
        N, networks trained for the predictor.
    n_validated : array_like of int, shape (n_budgets,)
        K, at least 1.
    n_runs : int

    Returns
    -------
    DataFrame
        n_validated, n_trained (N + K), found and found_sd (over runs), random (expected best of N + K, exact), gain
        (found minus random), gain_low and gain_high (95 % normal interval, for the finite number of runs only).
    """
    truth, guess = np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)
    rng, rows = np.random.default_rng(0), []
    for k in _budgets(n_validated):
        drawn = rng.integers(truth.size, size=(n_runs, n_train + k))  # in random order, so that ties are too
        kept = np.take_along_axis(drawn, np.argpartition(-guess[drawn], k - 1, axis=1)[:, :k], axis=1)
        found = truth[kept].max(axis=1)
        rows.append((k, n_train + k, found.mean(), found.std(ddof=1)))
    table = pd.DataFrame(rows, columns=["n_validated", "n_trained", "found", "found_sd"])
    table["random"] = best_of(truth, table["n_trained"])
    table["gain"] = table["found"] - table["random"]
    half = 1.96 * table["found_sd"] / math.sqrt(n_runs)
    return table.assign(gain_low=table["gain"] - half, gain_high=table["gain"] + half)


def _budgets(numbers: ArrayLike) -> list[int]:
    budgets: list[int] = np.asarray(numbers).tolist()
    if not budgets or min(budgets) < 1:
        raise ValueError(f"budgets are {budgets}; there must be one, and all must be 1 or more")
    return budgets
