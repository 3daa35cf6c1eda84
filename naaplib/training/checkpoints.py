"""Checkpoints: files that say what they belong to, survive a kill at any moment, and continue a run."""

from __future__ import annotations

import io
import os
import platform
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

KEPT = 2  # the newest, and the one before in case the disk holds the newest only in part


class FolderInUse(RuntimeError):  # noqa: N818 - says what is so, which is all its catchers need
    """Another process keeps its checkpoints in the folder."""


@contextmanager
def claim(folder: str | Path | None) -> Iterator[None]:
    """Keep other processes out of a folder of checkpoints for as long as the context lasts, or the process lives.

    Parameters
    ----------
    folder : path or None
        Made if it does not exist. None: nothing is to be claimed.

    Raises
    ------
    FolderInUse
        If another process has claimed it; nothing in it was touched.
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


def write(folder: Path, epoch: int, owner: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
    """Save the state after an epoch; older checkpoints than the one before are removed.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; one run's only.
    epoch : int
        Number of epochs that are done.
    owner : mapping
        What the run is, in plain Python values: a checkpoint continues a run with an equal owner only.
    state : mapping
        Tensors and plain Python values.

    Returns
    -------
    Path
        Of the checkpoint, which is whole: it is written under another name, and renamed.

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk; the checkpoints before it are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch-{epoch:04d}.pt"
    part = path.with_suffix(".part")
    content = {
        "owner": dict(owner),
        "epoch": epoch,
        "state": dict(state),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"the checkpoint of epoch {epoch} could not be written into {folder}: {error}. The epochs before it are "
            f"kept there: make room, and start the run again to go on from them."
        ) from error
    found = sorted(folder.glob("epoch-*.pt"))
    kept = [one for one in found if one.name <= path.name][-KEPT:]
    for other in set(found) - set(kept):  # older ones, and damaged ones of epochs that are run again
        other.unlink()
    return path


def read(folder: Path, owner: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest whole checkpoint in a folder, on the CPU, or None where there is none.

    A damaged one is passed over with a warning; what it held is computed again.

    Returns
    -------
    dict with keys owner, epoch, state, versions; or None

    Raises
    ------
    ValueError
        If the checkpoint belongs to another run; says in what the two differ.
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
    """The newest checkpoint by its name, whether whole or not; None where there is none."""
    return max(folder.glob("epoch-*.pt"), default=None)


def epoch_of(path: Path) -> int:
    """Number of epochs that were done when a checkpoint was written, by its name."""
    return int(path.stem.removeprefix("epoch-"))


def _is_whole(path: Path) -> bool:
    """Whether all parts of the zip file that torch writes are there, with the bytes that were written."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
