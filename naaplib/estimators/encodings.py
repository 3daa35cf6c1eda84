"""Encodings as features: tuples of categories and numbers, one an architecture, to a matrix that networks can read."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def encode(encodings: Sequence[Sequence[Hashable]], categorical: Collection[int] = ()) -> Features:
    """Features of a finite list of encodings.

    A position that holds numbers in every encoding becomes one column, standardised over the list: mean 0, standard
    deviation 1 (divided by n). One that holds text, truth values or None in every encoding is a category: one column of
    0 and 1 for each value that occurs, in the order of first occurrence. A position at which all encodings agree has no
    column.

    Parameters
    ----------
    encodings : sequence of sequences, all of one length
    categorical : collection of int
        Positions whose numbers are names, as of operations, and not amounts.

    Returns
    -------
    ndarray, shape (n_archs, n_features)
        Columns in the order of positions.

    Raises
    ------
    ValueError
        If there are none, they differ in length, a position holds numbers and categories or something else or numbers
        that are not finite, all are equal, or `categorical` names no position.

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
    length = len(encodings[0])
    for i, encoding in enumerate(encodings):
        if isinstance(encoding, str) or len(encoding) != length:
            raise ValueError(f"encoding {i} is {encoding!r}; each must be a tuple of {length} entries, as the first is")
    if unknown := sorted(set(categorical) - set(range(length))):
        raise ValueError(f"categorical names the positions {unknown}; encodings have 0 to {length - 1}")
    columns = [_columns(position, [one[position] for one in encodings], position in categorical)
               for position in range(length)]  # fmt: skip
    features = np.concatenate([np.empty((len(encodings), 0)), *columns], axis=1)
    if not features.shape[1]:
        raise ValueError(f"all {len(encodings)} encodings are equal; there is nothing to tell them apart by")
    return features


def _columns(position: int, entries: list[Hashable], categorical: bool) -> Features:
    """Features of one position, (n_archs, n_columns)."""
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
