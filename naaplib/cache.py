"""Records of slow work, atomic files, and a cache of finished tables."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from naaplib.sources import ROOT, WrongData, sha256

_SCRATCH: ContextVar[Path] = ContextVar("scratch", default=ROOT / "build" / "scratch")


@dataclass(frozen=True)
class Piece:
    """One table of slow work: its name, its settings, and how to make it.

    Parameters
    ----------
    name : str
        Name within its study, as in ``"90 epochs/seed 1"``; a slash makes a folder.
    settings : mapping
        Everything that the table depends on besides code and files: numbers, texts, lists and mappings.
    make : callable
        Returns the table, which is kept as CSV. Its arguments are the tables of `needs`. Files of unfinished work may
        lie in `scratch`.
    reads : sequence of Path, or callable that returns one
        Data files that `make` reads. They may be absent where the table is only read. A callable is called when the
        table is made.
    shares : str
        Name of unfinished work that records of equal settings and data share; "" shares nothing.
    code : str
        Dotted name of the module whose code, with all that it imports, makes the table; "" is the study's
        ``records``.
    needs : sequence of Piece
        Other records of the study that this one is made from.

    Examples
    --------
    >>> piece = Piece("squares", {"n": 3}, lambda: pd.DataFrame({"square": [i * i for i in range(3)]}))
    >>> piece.make()["square"].tolist()
    [0, 1, 4]
    """

    name: str
    settings: Mapping[str, object]
    make: Callable[..., pd.DataFrame]
    reads: Sequence[Path] | Callable[[], Sequence[Path]] = ()
    shares: str = ""
    code: str = ""
    needs: Sequence[Piece] = ()

    def files(self) -> list[Path]:
        """Return the data files that `make` reads."""
        return list(self.reads() if callable(self.reads) else self.reads)


def scratch() -> Path:
    """Return the folder for unfinished work of the record that is being made.

    It belongs to this record, these settings and this code alone; it is removed when the record is done.
    """
    return _SCRATCH.get()


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Let `scratch` return a folder within a context."""
    token = _SCRATCH.set(folder)
    try:
        yield
    finally:
        _SCRATCH.reset(token)


def digest(value: object) -> str:
    """Return the SHA-256 of a value of numbers, texts, lists and mappings, as JSON.

    Examples
    --------
    >>> digest({"a": 1, "b": [2]}) == digest({"b": (2,), "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def find(
    folder: Path | None, index: str, *, wanted: Mapping[str, object], file_name: Callable[[str], str]
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
