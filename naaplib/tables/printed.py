"""Tables that papers print, as data; `papers/README.md` describes each."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "papers"


def table(name: str) -> pd.DataFrame:
    """Read a printed table.

    Parameters
    ----------
    name : str
        Name such as ``"naap440_table3"``.

    Returns
    -------
    DataFrame
        One row per printed cell, in printed order.

    Raises
    ------
    ValueError
        If there is no such table; the message lists the names.

    Examples
    --------
    >>> list(table("naap440_table3"))
    ['algorithm', 'epochs', 'mae', 'violations', 'monotonicity_printed']
    """
    path = FOLDER / f"{name}.csv"
    names = sorted(file.stem for file in FOLDER.glob("*.csv"))
    if name not in names:
        raise ValueError(f"no printed table is called {name!r}; there are: {', '.join(names)}")
    return pd.read_csv(path)
