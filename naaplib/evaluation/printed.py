"""Cells of tables as text: values with intervals, and ours beside printed ones."""

from __future__ import annotations

from collections.abc import Sequence

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


def with_interval(table: pd.DataFrame, columns: str | Sequence[str], *, spec: str = ".2f") -> list[str]:
    """Return a value and its bounds in one cell of text a row; "" where it is missing.

    Parameters
    ----------
    table : DataFrame
    columns : str or sequence of three str
        The value's column, where the bounds' end in _low and _high, or all three.
    spec : str
        Format of a number.

    Examples
    --------
    >>> with_interval(pd.DataFrame({"n": [1234.5], "n_low": [1000.0], "n_high": [2000.25]}), "n", spec=",.1f")
    ['1,234.5 (1,000.0 to 2,000.2)']
    """
    names = [f"{columns}{end}" for end in ("", "_low", "_high")] if isinstance(columns, str) else list(columns)
    rows = table[names].to_numpy(dtype=float)
    return ["" if np.isnan(x) else f"{x:{spec}} ({low:{spec}} to {high:{spec}})" for x, low, high in rows]


def across(table: pd.DataFrame, rows: str, *, columns: str, values: str) -> pd.DataFrame:
    """Lay out a table by two of its columns, in order of their values; "" where empty.

    Examples
    --------
    >>> table = pd.DataFrame({"of": ["b", "a"], "at": [3, 6], "text": ["x", "y"]})
    >>> across(table, "of", columns="at", values="text").to_numpy().tolist()
    [['b', 'x', ''], ['a', '', 'y']]
    """
    laid = table.pivot_table(index=rows, columns=columns, values=values, aggfunc="first", sort=False)
    laid = laid.reindex(index=table[rows].unique(), columns=table[columns].unique()).fillna("")
    return laid.rename(columns=str).rename_axis(columns=None).reset_index()
