"""Records of slow work, atomic files, digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from naaplib.sources import ROOT

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


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that it is there whole or not at all.

    The bytes go into a part file beside it, which takes the file's name when the block ends, and is removed if the
    block fails. The folder is made if need be.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "squares.bin"
    >>> with writing(path) as stream:
    ...     _ = stream.write(bytes([1, 4, 9]))
    >>> list(path.read_bytes()), len(list(path.parent.iterdir()))
    ([1, 4, 9], 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    with writing(path) as stream:
        stream.write(text.encode())
