"""Evaluation of predictors over many training sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LinearRegression

from naaplib import metrics

MEASURES = ("mse", "kendall_tau", "r2")
Masks = NDArray[np.bool_]


def split(n_archs: int, n_train: int, *, n_validation: int, n_sets: int, seed: int) -> NDArray[np.int64]:
    """Draw random splits: indices (n_sets, n_archs), each row a permutation.

    A row has n_train training rows, then n_validation validation rows, then test rows. Each set has its own generator,
    so that more sets continue fewer.
    """
    if n_train + n_validation >= n_archs:
        raise ValueError(f"{n_train} rows to train on and {n_validation} to validate leave none of {n_archs} to test")
    words = np.random.SeedSequence(seed).spawn(n_sets)
    return np.stack([np.random.default_rng(word).permutation(n_archs) for word in words])


def masks(order: NDArray[np.int64], n_train: int, *, n_validation: int) -> dict[str, Masks]:
    """Return the parts of splits as masks (n_sets, n_archs): train, validation, test."""
    place = np.argsort(order, axis=1)
    held = place >= n_train
    return {
        "train": ~held,
        "validation": held & (place < n_train + n_validation),
        "test": place >= n_train + n_validation,
    }


def seen(distinct: ArrayLike, training: NDArray[np.int64]) -> Masks:
    """Mark the architectures that are, or duplicate, one of a training set.

    Parameters
    ----------
    distinct : array_like, shape (n_archs,)
        Isomorphism class: equal for duplicates.
    training : ndarray of int, shape (n_sets, n_train)

    Returns
    -------
    ndarray of bool, shape (n_sets, n_archs)
    """
    codes, uniques = pd.factorize(np.asarray(distinct))
    present = np.zeros((len(training), len(uniques)), dtype=bool)
    np.put_along_axis(present, codes[training], True, axis=1)
    return present[:, codes]


def first_of_distinct(distinct: ArrayLike, among: Masks) -> Masks:
    """Mark the first of each class of duplicates in each row of a mask.

    Both masks are (n_sets, n_archs).
    """
    codes = pd.factorize(np.asarray(distinct))[0]
    result = np.zeros_like(among)
    for chosen, mask in zip(result, among, strict=True):
        places = np.flatnonzero(mask)
        chosen[places[np.unique(codes[places], return_index=True)[1]]] = True
    return result


def evaluate(
    measured: ArrayLike, predicted: NDArray[np.float64], *, parts: Mapping[str, Masks], scale: float = 1.0
) -> pd.DataFrame:
    """Compute metrics of every training set's predictor on every part.

    Parameters
    ----------
    measured : array_like, shape (n_archs,)
    predicted : ndarray, shape (n_sets, n_archs)
    parts : mapping from name to mask (n_sets, n_archs)
        Rows to evaluate on. A part with fewer than two rows is left out.
    scale : float
        Factor for both before the squared error: 100 gives squared percentage points.

    Returns
    -------
    DataFrame
        set (from 0), part, n, mse, kendall_tau (tau-b), r2; the last two are NaN where all measured values are equal,
        tau also where all predictions are.
    """
    truth, rows = np.asarray(measured, dtype=float), []
    for number, values in enumerate(predicted):
        for part, mask in parts.items():
            if len(chosen := np.flatnonzero(mask[number])) > 1:
                pair = truth[chosen], values[chosen]
                found = [scale**2 * metrics.mse(*pair), metrics.kendall_tau(*pair), metrics.r2(*pair)]
                rows.append([number, part, len(chosen), *found])
    return pd.DataFrame(rows, columns=["set", "part", "n", *MEASURES])


def summarise(table: pd.DataFrame, by: Sequence[str], *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return mean, standard deviation and interval of each measure over training sets.

    Parameters
    ----------
    table : DataFrame
        As `evaluate` returns it, with the columns of `by`.
    by : sequence of str
        Columns that identify a row of the result, in order of first appearance.
    n_resamples, seed
        Settings of 95 % bootstrap percentile intervals of the mean over training sets. The test rows of the sets
        overlap: the intervals show the variation between training sets, not between tables of architectures.

    Returns
    -------
    DataFrame
        by, n_sets, n (rows of a part, on average), and each measure, its _sd (n - 1), _low and _high.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        row = dict(zip(by, key, strict=True)) | {"n_sets": len(group), "n": group["n"].mean()}
        draws = np.random.default_rng(seed).integers(len(group), size=(n_resamples, len(group)))
        for name in [name for name in MEASURES if name in group]:
            values = group[name].to_numpy()
            means = values[draws].mean(1)
            row |= {name: values.mean(), f"{name}_sd": group[name].std()}
            row |= dict(zip((f"{name}_low", f"{name}_high"), np.quantile(means, (0.025, 0.975)), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def constant(measured: ArrayLike, training: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict the mean of each training set for every architecture, (n_sets, n_archs)."""
    truth = np.asarray(measured, dtype=float)
    return np.repeat(truth[training].mean(1, keepdims=True), truth.size, axis=1)


def one_feature(measured: ArrayLike, feature: ArrayLike, *, training: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict by a straight line in one feature, (n_sets, n_archs).

    Each training set fits its own line; `feature` is (n_archs,).
    """
    truth, x = np.asarray(measured, dtype=float), np.asarray(feature, dtype=float)[:, None]
    return np.stack([LinearRegression().fit(x[rows], truth[rows]).predict(x) for rows in training])
