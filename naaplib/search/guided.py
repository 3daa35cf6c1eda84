"""Predictor-guided search: train N architectures, then the K best predicted.

This is the search of Wen et al. (2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.int64]
Curves = NDArray[np.float64]


def random_orders(n_archs: int, n_trained: int, *, n_runs: int, seed: int) -> Positions:
    """Draw orders of architectures: random search, and training sets of a predictor.

    Parameters
    ----------
    n_archs, n_trained, n_runs : int
    seed : int
        Each run has its own generator, so that more runs, or more architectures trained, continue fewer.

    Returns
    -------
    ndarray, shape (n_runs, n_trained)
        Indices of different architectures, in the order trained.

    Examples
    --------
    >>> orders = random_orders(n_archs=100, n_trained=5, n_runs=2, seed=0)
    >>> bool((orders == random_orders(100, 20, n_runs=2, seed=0)[:, :5]).all())
    True
    """
    if not 0 < n_trained <= n_archs or n_runs < 1:
        raise ValueError(
            f"n_trained is {n_trained}, of {n_archs} architectures, and n_runs {n_runs}; both are too few or many"
        )
    words = np.random.SeedSequence(seed).spawn(n_runs)
    return np.stack([np.random.default_rng(word).permutation(n_archs)[:n_trained] for word in words])


def guided_orders(training: Positions, predicted: ArrayLike, *, n_validated: int, seed: int) -> Positions:
    """Return the architectures that guided searches train, in their order.

    A search trains the predictor's training set first, and then the architectures with the best predictions.

    Parameters
    ----------
    training : ndarray of int, shape (n_runs, n_train)
    predicted : array_like, shape (n_runs, n_archs)
        Higher is better; NaN and minus infinity come last. Ties are broken at random. Predictions for a run's training
        set are ignored, since those architectures are trained already.
    n_validated : int
        K; 0 is allowed.
    seed : int
        Seed of the random tie-break.

    Returns
    -------
    ndarray, shape (n_runs, n_train + n_validated)
        Indices in the order trained.

    Examples
    --------
    >>> guided_orders(np.array([[3, 0]]), [[0.9, 0.7, 0.8, 0.1, 0.6]], n_validated=2, seed=0)
    array([[3, 0, 2, 1]])
    """
    values = np.array(predicted, dtype=float)
    n_runs, n_train = training.shape
    if values.ndim != 2 or len(values) != n_runs:
        raise ValueError(f"predicted must be (n_runs, n_archs), with {n_runs} runs; its shape is {values.shape}")
    n_left = values.shape[1] - n_train
    if not 0 <= n_validated <= n_left:
        raise ValueError(
            f"{n_validated} architectures are to be validated; there are {n_left} besides those trained on"
        )
    values = np.where(np.isnan(values), -np.inf, values)
    lots = np.random.default_rng(seed).random(values.shape)
    taken = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(taken, training, True, axis=1)
    ranked = np.stack([np.lexsort(keys) for keys in zip(lots, -values, taken, strict=True)])
    return np.concatenate([training, ranked[:, :n_validated]], axis=1)


def best_so_far(orders: Positions, signal: ArrayLike, *, judged: ArrayLike) -> Curves:
    """Return the true accuracy of a search's best architecture after each training.

    Parameters
    ----------
    orders : ndarray of int, shape (n_runs, n_trained)
    signal : array_like, shape (n_archs,)
        Validation accuracy that the search sees once it has trained an architecture. The first of the highest wins.
    judged : array_like, shape (n_archs,)
        True (test) accuracy.

    Returns
    -------
    ndarray, shape (n_runs, n_trained)
        `judged` of the best by `signal` among the first 1, 2, ... trained. It may fall where the two disagree.

    Examples
    --------
    >>> best_so_far(np.array([[2, 0, 1]]), signal=[0.8, 0.9, 0.7], judged=[0.85, 0.84, 0.75])
    array([[0.75, 0.85, 0.84]])
    """
    seen = np.asarray(signal, dtype=float)[orders]
    if np.isnan(seen).any():
        raise ValueError(
            "the signal of an architecture that is trained is NaN: give it a value, the worst if it failed"
        )
    is_new = np.ones(seen.shape, dtype=bool)
    is_new[:, 1:] = seen[:, 1:] > np.maximum.accumulate(seen, axis=1)[:, :-1]
    place = np.maximum.accumulate(np.where(is_new, np.arange(seen.shape[1]), 0), axis=1)
    return np.take_along_axis(np.asarray(judged, dtype=float)[orders], place, axis=1)


def at_cost(curves: Curves, orders: Positions, *, costs: ArrayLike, budgets: Sequence[float]) -> Curves:
    """Read curves at costs of training instead of numbers of trainings.

    Parameters
    ----------
    curves : ndarray, shape (n_runs, n_trained)
        As `best_so_far` returns them for these `orders`.
    orders : ndarray of int, shape (n_runs, n_trained)
    costs : array_like, shape (n_archs,)
        Cost of training each architecture, in the unit of the budgets.
    budgets : sequence of float

    Returns
    -------
    ndarray, shape (n_runs, n_budgets)
        The curve after all trainings that a budget buys. NaN where it buys none, or more than the curve has.

    Examples
    --------
    >>> at_cost(np.array([[0.7, 0.8, 0.9]]), np.array([[0, 1, 2]]), costs=[2, 3, 4], budgets=[1, 5.5, 9])
    array([[nan, 0.8, 0.9]])
    """
    spent = np.asarray(costs, dtype=float)[orders].cumsum(axis=1)
    n_bought = np.stack([np.searchsorted(run, budgets, side="right") for run in spent])
    known = (n_bought > 0) & (np.asarray(budgets) <= spent[:, -1:])
    return np.where(known, np.take_along_axis(curves, np.maximum(n_bought - 1, 0), axis=1), np.nan)


def summary(curves: Curves, n_resamples: int = 1000) -> pd.DataFrame:
    """Return the mean of curves (n_runs, n_places) over runs, with intervals.

    Returns
    -------
    DataFrame
        One row per place: mean, sd (standard deviation, n - 1), and low and high, a 95 % bootstrap percentile interval
        of the mean over runs. NaN where any run is.
    """
    n_runs = len(curves)
    draws = np.random.default_rng(0).integers(n_runs, size=(n_resamples, n_runs))
    weights = np.stack([np.bincount(draw, minlength=n_runs) for draw in draws]) / n_runs
    low, high = np.quantile(weights @ curves, (0.025, 0.975), axis=0)
    sd = curves.std(axis=0, ddof=1) if n_runs > 1 else np.full(curves.shape[1], np.nan)
    return pd.DataFrame({"mean": curves.mean(axis=0), "sd": sd, "low": low, "high": high})
