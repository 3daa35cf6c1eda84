"""Comparison of our figures with printed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def mark(ours: ArrayLike, printed: ArrayLike, *, allowed: float) -> pd.Series:
    """Describe how each cell of a table compares with the printed one.

    Parameters
    ----------
    ours, printed : array_like, shape (n_cells,)
        Ours are rounded like the printed ones; a printed one may be missing (NaN).
    allowed : float
        Largest difference that seeds and library versions account for, inclusive.

    Returns
    -------
    Series of str, shape (n_cells,)
        "exact", "within 5" (5 is `allowed`), "off by +7" (the signed difference), or "" where nothing is printed.

    Examples
    --------
    >>> mark([52, 64, 70], [52, 67, 60], allowed=5).tolist()
    ['exact', 'within 5', 'off by +10']
    """
    # Ten digits: 0.0079 - 0.0069 must not exceed 0.001.
    differences = np.round(np.asarray(ours, dtype=float) - np.asarray(printed, dtype=float), 10)

    def word(difference: float) -> str:
        if np.isnan(difference):
            return ""
        if difference == 0:
            return "exact"
        return f"within {allowed:g}" if abs(difference) <= allowed else f"off by {difference:+g}"

    return pd.Series([word(difference) for difference in differences], dtype=str)


def beside(ours: ArrayLike, printed: ArrayLike, *, digits: int) -> pd.Series:
    """Write each cell as text: ours with a tick, or with the printed one in brackets.

    A tick means that both are equal.

    Parameters
    ----------
    ours, printed : array_like, shape (n_cells,)
        A printed one may be missing (NaN).
    digits : int
        Decimals to which both are rounded before they are compared.

    Returns
    -------
    Series of str, shape (n_cells,)

    Examples
    --------
    >>> beside([52, 64.0, 7], [52, 67, float("nan")], digits=0).tolist()
    ['52 ✓', '64 (67)', '7']
    """

    def text(one: float, other: float) -> str:
        if np.isnan(other):
            return f"{one:.{digits}f}"
        a, b = f"{one:.{digits}f}", f"{other:.{digits}f}"
        return f"{a} ✓" if a == b else f"{a} ({b})"

    pairs = zip(np.asarray(ours, dtype=float), np.asarray(printed, dtype=float), strict=True)
    return pd.Series([text(one, other) for one, other in pairs], dtype=str)
