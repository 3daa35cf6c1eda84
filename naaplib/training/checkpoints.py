"""Checkpoints that identify their run, survive a kill, and resume it."""

from __future__ import annotations

import io
import platform
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from naaplib.cache import writing

KEPT = 2  # the newest, and the one before in case the newest is incomplete on disk


class FolderInUse(RuntimeError):
    """Another process writes its checkpoints to the folder."""


@contextmanager
def claim(folder: str | Path | None) -> Iterator[None]:
    """Lock a folder of checkpoints against other processes inside the context.

    Parameters
    ----------
    folder : path or None
        Folder, created if it does not exist. None locks nothing.

    Raises
    ------
    FolderInUse
        If another process has locked it; nothing in it has changed.
    """
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / "in-use.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(
            f"another run is at work in {folder}: wait until it is done, or name another folder for this one"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim_file(path: Path, work: str) -> Iterator[None]:
    """Lock a file against other processes inside the context.

    The lock is a file beside it, which is removed in the end.

    Parameters
    ----------
    path : Path
        File, which need not exist. Its folder is created.
    work : str
        Word for what writes to it, as in "search".

    Raises
    ------
    FolderInUse
        If another process has locked it; nothing in it has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(
            f"another {work} is at work on {path}: wait until it is done, or name another file or folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # a system may not remove an open file
            Path(lock.lock_file).unlink()
        lock.release()


def write(folder: Path, epoch: int, *, owner: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
    """Save the state after an epoch; the two newest checkpoints remain.

    Parameters
    ----------
    folder : Path
        Folder of one run, created if it does not exist.
    epoch : int
        Number of completed epochs.
    owner : mapping
        Settings that identify the run, in plain Python values. A checkpoint resumes only a run with equal settings.
    state : mapping
        Tensors and plain Python values.

    Returns
    -------
    Path
        Path of the checkpoint, which gets its name when it is complete.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk; earlier checkpoints do not change.
    """
    path = folder / f"epoch-{epoch:04d}.pt"
    content = {
        "owner": dict(owner),
        "epoch": epoch,
        "state": dict(state),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with writing(path) as stream:
            stream.write(buffer.getbuffer())
    except OSError as error:
        raise OSError(
            f"the checkpoint of epoch {epoch} could not be written into {folder}: {error}. The epochs before it are "
            f"kept there: make room, and start the run again to go on from them."
        ) from error
    found = sorted(folder.glob("epoch-*.pt"))
    kept = [one for one in found if one.name <= path.name][-KEPT:]
    for other in set(found) - set(kept):  # older ones, and damaged ones of repeated epochs
        other.unlink()
    return path


def read(folder: Path, owner: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the newest complete checkpoint in a folder, on the CPU, or return None.

    A damaged checkpoint is skipped with a warning, and its epochs are computed again.

    Returns
    -------
    dict with keys owner, epoch, state, versions; or None

    Raises
    ------
    ValueError
        If the checkpoint belongs to another run; the message names the differences.
    """
    for path in sorted(folder.glob("epoch-*.pt"), reverse=True):
        if not _is_whole(path):
            warnings.warn(f"{path} is damaged; the run goes on from the checkpoint before it", stacklevel=2)
            continue
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = content["owner"]
        differences = [
            f"{key} is {theirs.get(key)!r} there and {owner.get(key)!r} here"
            for key in sorted(theirs.keys() | owner.keys())
            if theirs.get(key) != owner.get(key)
        ]
        if differences:
            raise ValueError(
                f"{path} belongs to another run: {'; '.join(differences)}. "
                f"Name another folder for this run, or remove that one."
            )
        return content
    return None


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint by name, complete or not, or None."""
    return max(folder.glob("epoch-*.pt"), default=None)


def epoch_of(path: Path) -> int:
    """Return the number of completed epochs in a checkpoint's name."""
    return int(path.stem.removeprefix("epoch-"))


def _is_whole(path: Path) -> bool:
    """True if a file of torch is complete and its checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
