"""The tables that papers print, as data to lay beside ours; `papers/README.md` says what each holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "papers"


def table(name: str) -> pd.DataFrame:
    """A printed table.

    Parameters
    ----------
    name : str
        As in ``"naap440_table3"``.

    Returns
    -------
    DataFrame
        One row per printed cell, in printed order.

    Raises
    ------
    ValueError
        For another name, with the names that there are.
    """
    path = FOLDER / f"{name}.csv"
    names = sorted(file.stem for file in FOLDER.glob("*.csv"))
    if name not in names:
        raise ValueError(f"no printed table is called {name!r}; there are: {', '.join(names)}")
    return pd.read_csv(path)
