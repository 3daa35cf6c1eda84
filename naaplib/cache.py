"""A cache of finished tables, with an index of the settings that made each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from naaplib.sources import WrongData, sha256


def find(
    folder: Path | None, index: str, wanted: Mapping[str, object], file_name: Callable[[str], str]
) -> tuple[Path, dict[str, str]] | None:
    """Find the cached table that was made with the given settings.

    Parameters
    ----------
    folder : Path or None
        Folder of the cache, as a notebook wrote it; None stands for an empty cache.
    index : str
        Name of the CSV file that lists the tables. It has one row per table, with columns run and sha256 and the
        settings.
    wanted : mapping from column to value
        Settings to look for, compared as text. A column that the index lacks counts as empty.
    file_name : callable
        Maps a run's name to the name of its table, without extension.

    Returns
    -------
    (Path, dict) or None
        The table's file and its row of the index, as text; None if no table has these settings.

    Raises
    ------
    WrongData
        If the table is missing, or its checksum differs from the index.
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
