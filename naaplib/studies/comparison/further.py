"""Complete further trainings of the plan, which the published table lacks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from naaplib.tables.naap440 import N_EPOCHS
from naaplib.training import job_records
from naaplib.training.plan import PLAN
from naaplib.training.recipe import SEED

REPEATED = "the same seed, trained again"


def files(folder: Path, n_epochs: int) -> dict[str, list[Path]]:
    """List the records of each complete training of at least `n_epochs`.

    Parameters
    ----------
    folder : Path
        Records of trainings, as in `naaplib.training.job_records`.
    n_epochs : int

    Returns
    -------
    dict of list of Path
        By name of the training: "seed 1", or `REPEATED`; the shortest training of each seed.
    """
    found: dict[str, list[Path]] = {}
    for run in sorted(PLAN.runs, key=lambda run: run.n_epochs):
        name, jobs = REPEATED if run.seed == SEED else run.name, PLAN.jobs([run])
        if run.n_epochs >= n_epochs and name not in found and all(job_records.is_finished(folder, job) for job in jobs):
            found[name] = [folder / f"{job.stem}.csv" for job in jobs]
    return found


def read(folder: Path, n_epochs: int) -> dict[str, pd.DataFrame]:
    """Read the trainings of `files`.

    Returns
    -------
    dict of DataFrame
        ModelId, epoch, loss_mean, loss_median, accuracy; epochs 1 to `n_epochs`.
    """
    every = {name: pd.concat(map(pd.read_csv, paths)) for name, paths in files(folder, n_epochs).items()}
    return {name: records[records["epoch"] <= n_epochs] for name, records in every.items()}


def unseen(folder: Path) -> list[Path]:
    """List the records of whole trainings with other seeds than the published one."""
    return [path for name, paths in files(folder, N_EPOCHS).items() if name != REPEATED for path in paths]


def accuracies(folder: Path) -> dict[str, pd.Series]:
    """Return the highest accuracy of the trainings of `unseen`, by name and ModelId."""
    every = read(folder, N_EPOCHS)
    return {name: one.groupby("ModelId")["accuracy"].max() for name, one in every.items() if name != REPEATED}
