"""Convert encodings and zero-cost metrics to columns that networks can learn."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import skew

Columns = NDArray[np.float64]


def encode(encodings: Sequence[Sequence[Hashable]], categorical: Collection[int] = ()) -> Columns:
    """Compute features of a finite list of encodings.

    A position that holds numbers in every encoding becomes one column, standardised over the list: mean 0, standard
    deviation 1 (divided by n). A position that holds text, booleans or None in every encoding is a category: it becomes
    one column of 0 and 1 for each value, in the order of first occurrence. A constant position has no column.

    Parameters
    ----------
    encodings : sequence of sequences, all of one length
    categorical : collection of int
        Positions whose numbers are names, such as codes of operations.

    Returns
    -------
    ndarray, shape (n_archs, n_features)
        Columns are in the order of positions.

    Raises
    ------
    ValueError
        If there are no encodings, all are equal, they differ in length, a position mixes numbers and categories or
        holds anything else, a number is not finite, or `categorical` has an invalid position.

    Examples
    --------
    >>> encode([("conv", 1, "same"), ("pool", 1, "same"), ("conv", 4, "same"), ("pool", 4, "same")])
    array([[ 1.,  0., -1.],
           [ 0.,  1., -1.],
           [ 1.,  0.,  1.],
           [ 0.,  1.,  1.]])
    """
    if not len(encodings):
        raise ValueError("there are no encodings")
    for i, encoding in enumerate(encodings):
        if not isinstance(encoding, (tuple, list)):
            raise ValueError(f"encoding {i} is {encoding!r}; each must be a tuple")
        if len(encoding) != len(encodings[0]):
            raise ValueError(
                f"encoding {i} is {encoding!r}; each must have {len(encodings[0])} entries, as the first has"
            )
    length = len(encodings[0])
    if unknown := sorted(set(categorical) - set(range(length))):
        raise ValueError(f"categorical names the positions {unknown}; encodings have 0 to {length - 1}")
    columns = [_columns(position, [one[position] for one in encodings], position in categorical)
               for position in range(length)]  # fmt: skip
    features = np.concatenate([np.empty((len(encodings), 0)), *columns], axis=1)
    if not features.shape[1]:
        raise ValueError(f"all {len(encodings)} encodings are equal; there is nothing to tell them apart by")
    return features


def standardise(metrics: ArrayLike, log: Sequence[bool] | None = None) -> Columns:
    """Standardise zero-cost metrics over the architectures with known values.

    Each metric gets mean 0 and standard deviation 1.

    Parameters
    ----------
    metrics : array_like, shape (n_rows, n_metrics)
        Metrics; NaN marks unknown values.
    log : sequence of bool, length n_metrics, or None
        True for each metric to take the logarithm of; None takes those that are positive with a skewness above 1.

    Returns
    -------
    ndarray, shape (n_rows, n_used)
        Standardised metrics, NaN if unknown, without constant metrics.
    """
    known = np.array(metrics, dtype=float)
    if known.ndim != 2 or np.isinf(known).any():
        raise ValueError(f"metrics must be numbers or NaN (n_rows, n_metrics); their shape is {known.shape}")
    varied = [i for i, one in enumerate(known.T) if len(np.unique(one[~np.isnan(one)])) > 1]
    if not varied:
        raise ValueError("no metric varies; there is nothing to pretrain on")
    if log is not None and len(log) != known.shape[1]:
        raise ValueError(f"log has {len(log)} entries; there are {known.shape[1]} metrics")
    for i in varied:
        column = known[:, i]
        is_positive = np.nanmin(column) > 0
        if log is not None and log[i] and not is_positive:
            raise ValueError(f"metric {i} has values that are not positive; it has no logarithm")
        if log[i] if log is not None else is_positive and skew(column, nan_policy="omit") > 1:
            known[:, i] = np.log(column)
    known = known[:, varied]
    return (known - np.nanmean(known, axis=0)) / np.nanstd(known, axis=0)


def _columns(position: int, entries: list[Hashable], categorical: bool) -> Columns:
    """Compute the features of one position, (n_archs, n_columns)."""
    kinds = {_kind(entry, position) for entry in entries}
    if len(kinds) > 1 and not categorical:
        raise ValueError(
            f"position {position} holds numbers in some encodings and categories in others; name it in `categorical`"
        )
    number = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    if len(number) == 1:
        return np.empty((len(entries), 0))
    if categorical or kinds == {"category"}:
        return np.eye(len(number))[[number[entry] for entry in entries]]
    amounts = np.array(entries, dtype=float)
    return ((amounts - amounts.mean()) / amounts.std())[:, None]


def _kind(entry: Hashable, position: int) -> str:
    if entry is None or isinstance(entry, (str, bool, np.bool_)):
        return "category"
    if isinstance(entry, Real) and math.isfinite(entry):
        return "number"
    raise ValueError(f"position {position} holds {entry!r}; entries must be finite numbers, text, truth values or None")
