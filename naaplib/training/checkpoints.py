"""Checkpoints: files that say what they belong to, survive a kill at any moment, and continue a run."""

from __future__ import annotations

import os
import platform
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

KEPT = 2  # the newest, and the one before in case the disk holds the newest only in part


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
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
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


def _is_whole(path: Path) -> bool:
    """Whether all parts of the zip file that torch writes are there, with the bytes that were written."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
