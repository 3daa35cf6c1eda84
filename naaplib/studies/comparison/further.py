"""Accuracies of further trainings, which the announced predictor had not seen."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from naaplib.training.recipe import SEED


def files(folder: Path) -> list[Path]:
    """List the records of whole trainings with other seeds than the published one."""
    found = sorted(folder.glob("90-epochs/seed-*/*.csv"))
    return [path for path in found if path.parent.name != f"seed-{SEED}"]


def accuracies(folder: Path, networks: Collection[int]) -> dict[str, pd.Series]:
    """Return the highest accuracy of 90 epochs by training and network.

    Parameters
    ----------
    folder : Path
        Records of trainings: ``90-epochs/seed-<seed>/*.csv`` with ModelId, epoch and accuracy.
    networks : collection of int
        ModelIds; a training that lacks one is left out.

    Returns
    -------
    dict of Series
        By name of the training, as in "seed 1"; each is indexed by ModelId.
    """
    found: dict[str, pd.Series] = {}
    for name in dict.fromkeys(path.parent.name for path in files(folder)):
        parts = [pd.read_csv(path) for path in files(folder) if path.parent.name == name]
        highest = pd.concat(parts).groupby("ModelId")["accuracy"].max()
        if set(networks) <= set(highest.index):
            found[name.replace("-", " ")] = highest.loc[sorted(networks)]
    return found
