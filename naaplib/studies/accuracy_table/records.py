"""Finished trainings: records kept with what they are records of, so that no one need train them again."""

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
    """Records of a training: those in `kept` if they are of the same training, else it is done, or gone on with.

    Parameters
    ----------
    run : str
        What the training is called, as in "seed 1".
    work : Work
    seed : int
    kept : Path or None
        Folder that holds `INDEX` and the files that `file_name` names, as a notebook wrote them before; None trains.
    folder, n_jobs, engine, address
        As for `.distributed.train_units`.

    Returns
    -------
    records : DataFrame
        ModelId, epoch, loss_mean, loss_median, accuracy (and holdout_accuracy), rounded to five digits as in the
        published logs; in the order of the schemes, then epochs.
    facts : dict
        A row of the index, but for its last column, the records' SHA-256: what `describe` returns and where it was
        trained: device, torch, n_units, seconds (of all units, added up).

    Raises
    ------
    naaplib.sources.WrongData
        If kept records are not what the index says.
    RuntimeError
        If the published seed does not give the published order of images, see `.recipe.check_order`.
    """
    if work.trainer != "torch":  # torch's where there is no compiler, and then recorded as such
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
    """Name, without extension, of the table that holds a training's records."""
    return f"records-{run.replace(' ', '-')}"


def find(wanted: dict[str, object], kept: Path | None) -> tuple[pd.DataFrame, dict[str, object]] | None:
    """Records and facts of a kept training that is the wanted one, under whatever name; None where there is none."""
    key = {"trainer": "", **{name: value for name, value in wanted.items() if name != "run"}}
    found = find_kept(kept, INDEX, key, file_name)
    if found is None:
        return None
    path, row = found
    facts = {name: int(row[name]) if name in ("n_units", "seconds") else row[name] for name in TRAINED}
    return pd.read_csv(path), wanted | facts


def stack(records: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Records of several runs below each other, with the run's name as the first column."""
    return pd.concat([frame.assign(run=run)[["run", *frame.columns]] for run, frame in records], ignore_index=True)
