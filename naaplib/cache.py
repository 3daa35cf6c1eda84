"""Finished work, kept in tables beside an index of what they are, so that no one need do it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from naaplib.sources import WrongData, sha256


def find(
    folder: Path | None, index: str, wanted: Mapping[str, object], file_name: Callable[[str], str]
) -> tuple[Path, dict[str, str]] | None:
    """The kept table that is of the wanted work.

    Parameters
    ----------
    folder : Path or None
        As a notebook wrote it before; None has nothing.
    index : str
        Name of the CSV file that lists the tables: a row each, with columns run and sha256 and what the work was.
    wanted : mapping from column to value
        What the work must have been, compared as text; a column that the index lacks is empty.
    file_name : callable
        From a run's name to that of its table, without extension.

    Returns
    -------
    (Path, dict) or None
        The table's file and its row of the index, as text; None where there is none.

    Raises
    ------
    WrongData
        If the table is gone or is not what the index says.
    """
    if folder is None or not (folder / index).is_file():
        return None
    rows = pd.read_csv(folder / index, dtype=str, keep_default_na=False)
    if absent := sorted({"run", "sha256"} - set(rows)):
        raise WrongData(f"{folder / index} is no index: it has no column {', '.join(absent)}. Restore or remove it.")
    for row in rows.to_dict("records"):
        if any(row.get(name, "") != str(value) for name, value in wanted.items()):
            continue
        path = folder / f"{file_name(row['run'])}.csv"
        if not path.is_file() or sha256(path) != row["sha256"]:
            raise WrongData(
                f"{path} is not what {folder / index} says it is: it is gone or was edited. Restore both, or remove "
                f"both to do the work anew."
            )
        return path, {str(name): value for name, value in row.items()}
    return None
