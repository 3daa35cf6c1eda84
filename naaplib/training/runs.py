"""Identity of a training run, independent of hardware."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from naaplib.architectures.schemes import to_json
from naaplib.training import cifar10
from naaplib.training.distributed import Work


def describe(run: str, work: Work, *, seed: int) -> dict[str, object]:
    """Return the settings that identify a training run, independent of hardware.

    They are the first columns of the index.
    """
    numbers = {name: value for name, value in asdict(work.recipe).items() if name != "n_epochs"}
    return {
        "run": run,
        "seed": seed,
        "n_archs": len(work.schemes),
        "n_epochs": work.n_epochs,
        "schemes": _digest(f"{list(work.schemes)}\n{to_json(list(work.schemes.values()))}".encode()),
        "recipe": json.dumps(numbers),
        "images": _images(work.images_file),
        "n_holdout": work.n_holdout,
        "precision": work.precision,
        "perturbation": f"{work.perturbation:g}",
        **({} if work.trainer == "torch" else {"trainer": work.trainer}),  # torch's index has no such column
    }


def _images(file: str) -> str:
    return file or "CIFAR-10" if file in ("", *cifar10.DATA_SETS) else _digest(Path(file).read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
