"""Cached records of trainings, keyed by the settings of each training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from naaplib.cache import find as find_kept
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, train_units
from naaplib.training.population import choose_trainer
from naaplib.training.recipe import SEED, check_order
from naaplib.training.runs import describe

INDEX = "trainings.csv"
N_DIGITS = 5  # as in the published logs
TRAINED = ("device", "torch", "n_units", "seconds")


def obtain(
    run: str,
    work: Work,
    seed: int,
    kept: Path | None,
    folder: Path,
    n_jobs: int = 1,
    engine: str = "processes",
    address: str = "",
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return the records of a training: from the cache, or by training.

    An interrupted training is resumed.

    Parameters
    ----------
    run : str
        Name of the training, as in "seed 1".
    work : Work
    seed : int
    kept : Path or None
        Cache: a folder with `INDEX` and the files that `file_name` names, as a notebook wrote them. None trains.
    folder, n_jobs, engine, address
        As for `.distributed.train_units`.

    Returns
    -------
    records : DataFrame
        ModelId, epoch, loss_mean, loss_median, accuracy (and holdout_accuracy), rounded to five digits as in the
        published logs. Rows are in the order of schemes, then epochs.
    facts : dict
        A row of the index without its last column, the records' SHA-256: the settings that `describe` returns, and
        device, torch, n_units (jobs), seconds (sum over jobs).

    Raises
    ------
    naaplib.sources.WrongData
        If cached records do not match the index.
    RuntimeError
        If the published seed does not give the published order of images, see `.recipe.check_order`.
    """
    if work.trainer != "torch":  # without a compiler it becomes torch's, and is recorded as such
        work = replace(work, trainer=choose_trainer(work.trainer, resolve(work.device), work.precision))
    wanted = describe(run, work, seed)
    if found := find(wanted, kept):
        return found
    if seed == SEED:
        check_order()
    records, units = train_units(work, [seed], folder, n_jobs, engine, address)
    trained = {
        "device": " and ".join(sorted(units["device"].unique())),
        "torch": " and ".join(sorted(units["torch"].unique())),
        "n_units": len(units),
        "seconds": round(units["seconds"].sum()),
    }
    return records.drop(columns="seed").round(N_DIGITS), wanted | trained


def file_name(run: str) -> str:
    """Return the name, without extension, of a training's table of records."""
    return f"records-{run.replace(' ', '-')}"


def find(wanted: dict[str, object], kept: Path | None) -> tuple[pd.DataFrame, dict[str, object]] | None:
    """Look up a training in the cache by its settings, under any name.

    The result has its records and its row of the index, or is None.
    """
    key = {"trainer": "", **{name: value for name, value in wanted.items() if name != "run"}}
    found = find_kept(kept, INDEX, key, file_name)
    if found is None:
        return None
    path, row = found
    facts = {name: int(row[name]) if name in ("n_units", "seconds") else row[name] for name in TRAINED}
    return pd.read_csv(path), wanted | facts


def stack(records: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Concatenate the records of several runs, with the run as the first column."""
    return pd.concat([frame.assign(run=run)[["run", *frame.columns]] for run, frame in records], ignore_index=True)
