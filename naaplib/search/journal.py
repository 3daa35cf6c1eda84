"""Journal of a search, to resume it from; evaluations that may fail."""

from __future__ import annotations

import json
import logging
import math
import os
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

import torch

from naaplib.search.identity import differences, plain
from naaplib.training.checkpoints import FolderInUse, claim_file

MARK, FORMAT, RETRY = "naaplib trace", 2, "retry"
CODE = ("code", "values")  # parts of a search's identity that a fix may change
OUTCOME = ("value", "score", "failure", RETRY)  # keys of an entry that do not identify the evaluation
N_HOPELESS = 3  # first evaluations whose failures of one kind stop a search

Entry = dict[str, Any]
Outcome = tuple[float, str, Exception | None]  # value, failure, its exception: see `attempt`


class Journal:
    """A file of entries after a line that identifies the search, and its context.

    The file has one JSON object a line. Entries are written in the context, under a lock that excludes other searches.
    Nothing is ever removed except an incomplete last line.

    Parameters
    ----------
    path : path or None
        None writes no file. "~" is the home folder.
    told : mapping
        Metadata that identifies the search, as JSON: the user's arguments, and `.identity.describe`.
    resume : bool or "retry"
        - True: resume from the file, if the search is the same. If no evaluation in it succeeded, code and values
          may differ, and the failures are evaluated again.
        - "retry": resume although code and values differ, as after a fix, and evaluate the failures again.
        - False: start again; the file and `companions` get a free name such as ``trace-1.jsonl``.
    companions : sequence of path
        Files that belong to the journal.

    Attributes
    ----------
    entries : list of dict
        Entries of the file on entering the context. The key "retry" is true in those to evaluate again.
    is_mended : bool
        True if some were evaluated again, or will be.

    Raises
    ------
    ValueError
        On entering, if the file is not a journal or belongs to another search. The message says how they differ.
    naaplib.training.checkpoints.FolderInUse
        If another search is using the file.
    """

    def __init__(
        self,
        path: str | Path | None,
        told: Mapping[str, object],
        *,
        resume: bool | str = True,
        companions: Sequence[Path] = (),
    ) -> None:
        if resume not in (True, False, RETRY):
            raise ValueError(f"resume is {resume!r}; it must be True, False or {RETRY!r}")
        self.path = None if path is None else Path(path).expanduser()
        self.entries: list[Entry] = []
        self.is_mended = False
        self._told: Entry = {MARK: FORMAT, **plain(told)}
        self._resume, self._companions = resume, companions
        self._lock: AbstractContextManager[None] | None = None
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        """Lock and read the file, and open it for writing."""
        if self.path is None:
            return self
        lock = claim_file(self.path, "search")
        lock.__enter__()
        self._lock = lock
        try:
            self._open(self.path)
        except BaseException:
            self.__exit__()
            raise
        self._resume = True  # when it is entered again
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            self._lock.__exit__(None, None, None)
            self._lock = None

    def add(self, entry: Mapping[str, object]) -> None:
        """Append an entry, and return once it is on the disk."""
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _open(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file; name a file, which is made if there is none")
        data = path.read_bytes() if path.exists() else b""
        lines, size = _lines(path, data)
        if lines and not self._resume:
            set_aside(path, *self._companions)
            data, lines, size = b"", [], 0
        is_retried = bool(lines) and self._is_retried(path, lines)
        with path.open("ab") as stream:
            stream.truncate(size)
        self._file = path.open("a", encoding="utf-8")
        if size and data[size - 1] != ord("\n"):
            self._file.write("\n")
        if not lines or is_retried:
            lines.append({RETRY: self._told} if lines else self._told)
            self.add(lines[-1])
        self.entries, self.is_mended = _merged(lines[1:]), any(RETRY in line for line in lines)

    def _is_retried(self, path: Path, lines: Sequence[Entry]) -> bool:
        """Return True if failures are evaluated again; refuse another search's file."""
        told: Entry = next((line[RETRY] for line in reversed(lines) if RETRY in line), lines[0])
        if told.get(MARK) != FORMAT:
            raise ValueError(
                f"{path} was written by an earlier version, and lacks what identifies a search: the code that it "
                f"evaluates by. Name another file or folder, or give resume=False, which renames it and begins afresh"
            )
        others, by_code = (differences(_part(told, is_code), _part(self._told, is_code)) for is_code in (False, True))
        is_hopeless = all(entry.get("failure") for entry in _merged(lines[1:]))
        if others or (by_code and not is_hopeless and self._resume != RETRY):
            mended = f", or resume={RETRY!r}, if it was mended so that what has succeeded still counts"
            raise ValueError(
                f"{path} is of another search: {'; '.join(others + by_code)}. Name another file or folder, or give "
                f"resume=False, which renames it and begins afresh{'' if others else mended}"
            )
        return self._resume == RETRY or bool(by_code)


def set_aside(*paths: Path) -> None:
    """Rename existing files, to the first suffix -1, -2, ... that is free for all."""
    number, free = 0, False
    while not free:
        number += 1
        beside = [path.with_name(f"{path.stem}-{number}{path.suffix}") for path in paths]
        free = not any(path.exists() for path in beside)
    for path, other in zip(paths, beside, strict=True):
        if path.exists():
            path.rename(other)


def _part(told: Entry, is_code: bool) -> Entry:
    return {name: value for name, value in told.items() if (name in CODE) == is_code}


def _lines(path: Path, data: bytes) -> tuple[list[Entry], int]:
    """Return a file's entries without an incomplete last line, and their bytes.

    The result is empty if the first line itself is incomplete.
    """
    *texts, last = data.split(b"\n")
    size = len(data) - len(last)
    try:
        lines = [json.loads(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"{path} is no trace of a search: {error}. It is left as it is; name another file") from None
    is_begun = not lines and (json.dumps({MARK: FORMAT})[:-1] + ", ").encode().startswith(last[:21])
    try:
        if last:
            lines, size = [*lines, json.loads(last)], len(data)  # complete but for the line end
    except ValueError:
        pass  # incomplete
    is_ours = all(isinstance(line, dict) for line in lines)
    if not is_ours or not (lines[0].keys() & {MARK, "strategy", "tool"} if lines else is_begun):
        raise ValueError(f"{path} is no trace of a search. It is left as it is; name another file")
    return lines, size


def _merged(lines: Sequence[Entry]) -> list[Entry]:
    """Return entries, with each failure replaced by its second evaluation."""
    entries: list[Entry] = []
    for line in lines:
        if RETRY in line:
            entries = [one | {RETRY: True} if one.get("failure") else one for one in entries]
            continue
        place = next((i for i, one in enumerate(entries) if RETRY in one and _subject(one) == _subject(line)), None)
        if place is None:
            entries.append(line)
        else:
            entries[place] = line
    return entries


def _subject(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key not in OUTCOME}


def attempt(evaluate: Callable[..., float], *given: Any) -> Outcome:
    """Evaluate, and return the value, a description of the failure, its exception.

    The value is NaN if the evaluation failed. The description is "" for a success. NaN and infinity are failures, minus
    infinity is not. `FolderInUse` is passed on.
    """
    try:
        found = evaluate(*given)
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise TypeError(f"it returned {found!r}, a {type(found).__name__}; evaluations return a number") from None
    except FolderInUse:
        raise
    except Exception as error:  # a training may raise anything
        return math.nan, "".join(traceback.format_exception_only(error)).strip(), error
    if math.isnan(value) or value == math.inf:
        return math.nan, f"its value is {value}", None
    return value, "", None


def report(what: str, failures: Sequence[str], *, error: Exception | None) -> None:
    """Warn of the last failure at a fidelity, or stop a search that cannot succeed.

    Parameters
    ----------
    what : str
        Name of the evaluation, for the message.
    failures : sequence of str
        One text for each evaluation at the fidelity so far; "" for a success.
    error : Exception or None
        Exception of the last failure.

    Raises
    ------
    RuntimeError
        If the first three raised the same kind of exception, unless memory was exhausted.
    """
    text = f"{what} failed: {failures[-1]}"
    try:
        warnings.warn(text, stacklevel=3)
    except UserWarning:  # a filter turned the warning into an error; the search continues
        logging.getLogger(__name__).warning(text)
    kinds = {failure.partition(":")[0] for failure in failures}
    is_fault = error is not None and not isinstance(error, MemoryError | torch.OutOfMemoryError)
    if is_fault and len(failures) == N_HOPELESS and len(kinds) == 1:
        raise RuntimeError(
            f"the first {N_HOPELESS} evaluations of their kind all failed by {kinds.pop()}; {text}. Mend it and start "
            f"again, which tries them again; started again as it is, a search that is kept goes on past them"
        ) from error
