"""Records for notebooks: tables of slow work, each with its own provenance.

`.make_records` makes those that ``results/records/<study>/`` lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from naaplib.cache import Piece
from naaplib.compendium import record_index
from naaplib.compendium.record_index import INDEX, plain


class MissingRecord(FileNotFoundError):
    """A record that a published run lacks; the message says how to make it."""


def read(study: str, pieces: Iterable[Piece]) -> dict[str, pd.DataFrame]:
    """Return the tables of records by their names; make those that are missing.

    Parameters
    ----------
    study : str
        Name of the study, as in ``"accuracy_table"`` or ``"accuracy-table"``.
    pieces : iterable of Piece
        Each is found in ``results/records/<study>/`` by its name and settings. If it is not there, as in a trial or a
        quick copy, it is made into ``build/records/<study>/``, and found there by its code and data too.

    Returns
    -------
    dict of DataFrame
        As read from the CSV files.

    Raises
    ------
    MissingRecord
        If a record is missing in a published run.
    naaplib.sources.WrongData
        If a table is not what the index says it is.
    """
    return {piece.name: record_index.read_table(path, entry) for piece, path, entry in _found(study, pieces)}


def paths(study: str, pieces: Iterable[Piece]) -> list[Path]:
    """Return files of records and their indexes, for ``results.Folder(reads=...)``.

    Missing records are made as by `read`.
    """
    found = [path for _, path, _ in _found(study, pieces)]
    return [*found, *dict.fromkeys(_home(study, path) / INDEX for path in found)]


def _found(study: str, pieces: Iterable[Piece]) -> list[tuple[Piece, Path, dict[str, Any]]]:
    """Return each record with its file and its entry in the index."""
    where = os.environ.get("NAAPLIB_RECORDS", "")  # set by naaplib.compendium.run
    folder = (Path(where) if Path(where).is_absolute() else record_index.RECORDS) / plain(study)
    return [(piece, *_one(study, folder, where, piece)) for piece in pieces]


def _one(study: str, folder: Path, where: str, piece: Piece) -> record_index.Found:
    needed = [_one(study, folder, where, other) for other in piece.needs]
    if found := record_index.find(folder, piece, needed=needed):
        return found
    if where:
        settings = json.dumps(record_index.settings_of(piece))
        raise MissingRecord(
            f"record {piece.name!r} with these settings is not in {folder}: {settings}. "
            f"`make records-{plain(study)}` makes what is missing, and can be stopped and started again."
        )
    return record_index.make(study, record_index.SCRATCH / plain(study), piece=piece, is_published=False, needed=needed)


def _home(study: str, path: Path) -> Path:
    """Return the study's folder that a record's file lies in."""
    return next(parent for parent in path.parents if (parent / INDEX).is_file())
