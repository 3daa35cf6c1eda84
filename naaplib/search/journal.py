"""What a search writes down as it goes, so that it can go on: JSON, one object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class Journal:
    """A file that entries are appended to, after a first line that says what it is of; a context for writing.

    Parameters
    ----------
    path : path or None
        If it is there it is gone on with, without a last line that is torn. None: nothing is kept.
    told : mapping
        What the search is, as JSON.

    Attributes
    ----------
    entries : list of dict
        What was there when the context was entered.

    Raises
    ------
    ValueError
        Where the context begins, if the file is of another search.
    """

    def __init__(self, path: str | Path | None, told: Mapping[str, object]) -> None:
        self.path = None if path is None else Path(path)
        self.entries: list[dict[str, Any]] = []
        self._told = json.loads(json.dumps(told))  # as it is read back: tuples are lists
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        """Read the file, and open it to write on."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read(self.path)
            with self.path.open("ab") as stream:
                stream.truncate(whole)
            self._file = self.path.open("a", encoding="utf-8")
            if not whole:
                self.add(self._told)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, entry: Mapping[str, object]) -> None:
        """Append an entry; it is on the disk when this returns."""
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path) -> int:
        """Take what the file knows; returns the length in bytes of its whole lines."""
        if not path.is_file():
            return 0
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in data.splitlines()]
        except ValueError as error:
            raise ValueError(f"{path} is no trace of a search: {error}. Name another file") from None
        if lines and lines[0] != self._told:
            raise ValueError(
                f"{path} is of another search: it says {lines[0]}, and this is {self._told}. Name another file, or "
                f"remove this one to begin anew"
            )
        self.entries = lines[1:]
        return len(data)
