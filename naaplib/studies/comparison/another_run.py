"""Further trainings, and estimators that see first epochs of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import pandas as pd

from naaplib.cache import Piece
from naaplib.studies.comparison import tasks
from naaplib.tables import naap440
from naaplib.training import job_records
from naaplib.training.plan import PLAN
from naaplib.training.recipe import SEED

RECORD = "another run"
EPOCHS = (3, 6, 9)  # the study's budgets
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
    return [path for name, paths in files(folder, naap440.N_EPOCHS).items() if name != REPEATED for path in paths]


def accuracies(folder: Path) -> dict[str, pd.Series]:
    """Return the highest accuracy of the trainings of `unseen`, by name and ModelId."""
    every = read(folder, naap440.N_EPOCHS)
    return {name: one.groupby("ModelId")["accuracy"].max() for name, one in every.items() if name != REPEATED}


def replaced(table: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Put first epochs of another training into a table in the schema of NAAP-440.

    The accuracy to predict remains, and so do networks and epochs that the records lack.

    Parameters
    ----------
    table : DataFrame
    records : DataFrame
        ModelId, epoch, loss_mean, loss_median and accuracy.

    Returns
    -------
    DataFrame
        In the order of the table.
    """
    table = table.set_index("ModelId")
    for epoch, rows in records.groupby("epoch"):
        for name, column in naap440.EPOCH_MEASURES.items():
            values = rows.set_index("ModelId")[column].round(naap440.N_DIGITS)
            table.loc[values.index, f"e{epoch}{name}"] = values
    return table.reset_index()


def compare(
    table: pd.DataFrame, others: dict[str, pd.DataFrame], *, split_indices: Sequence[int], algorithms: Sequence[str],
    seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Score estimators that see first epochs of other trainings.

    Parameters
    ----------
    table : DataFrame
        In the schema of NAAP-440, with the training whose highest accuracy is predicted.
    others : dict of DataFrame
        As `read` returns them. One of the test networks alone changes what an estimator is asked, not what it
        learns from, and is scored on the study's split.
    split_indices : sequence of int
    algorithms : sequence of str
    seed : int
        As in `naaplib.studies.comparison.tasks.compare`.

    Returns
    -------
    DataFrame
        epochs_of (name of the training), then the columns of `tasks.compare`; rows with own epochs only.
    """
    found = []
    for name, records in others.items():
        is_whole = set(table["ModelId"]) <= set(records["ModelId"])
        rows = tasks.compare(
            replaced(table, records),
            naap440.splits(table, split_indices if is_whole else [naap440.PAPER]),
            scores=pd.DataFrame(index=table["ModelId"]),
            epochs=EPOCHS,
            algorithms=algorithms,
            n_graph_epochs=0,
            seed=seed,
            untrained=(),
        )
        rows = rows[rows["epochs"] > 0]
        rows.insert(0, "epochs_of", name)
        found.append(rows)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["epochs_of"])


def beside(runs: pd.DataFrame, others: pd.DataFrame, *, estimators: Sequence[str]) -> pd.DataFrame:
    """Put scores with epochs of another training beside those of its own.

    Parameters
    ----------
    runs : DataFrame
        As `tasks.compare` returns them.
    others : DataFrame
        As `compare` returns them.
    estimators : sequence of str

    Returns
    -------
    DataFrame
        One row per other training, estimator and epochs: epochs_of, estimator, epochs, n (splits), and means over these
        splits of violations, kendall_tau and mae with epochs of the training itself, and with those of the other
        (``_other``); violations_more, their difference, and its standard error over splits, missing for one split.
    """
    key, measures = ["split", "estimator", "epochs"], ["violations", "kendall_tau", "mae"]
    pairs = others.merge(runs[[*key, *measures]], on=key, suffixes=("_other", ""))
    pairs = pairs[pairs["estimator"].isin(estimators)].assign(
        violations_more=lambda rows: rows["violations_other"] - rows["violations"]
    )
    by = pairs.groupby(["epochs_of", "estimator", "epochs"], sort=False)
    columns = [name for measure in measures for name in (measure, f"{measure}_other")]
    found = by.size().rename("n").to_frame().join(by[[*columns, "violations_more"]].mean())
    return found.assign(violations_more_se=by["violations_more"].sem()).reset_index()


def piece(trainings: Path, *, split_indices: Sequence[int], algorithms: Sequence[str], seed: int) -> Piece:
    """Return the record of `compare` on the published table."""
    settings = {"epochs": list(EPOCHS), "algorithms": list(algorithms), "split_indices": list(split_indices)}
    return Piece(
        RECORD,
        settings | {"seed": seed, "runs": list(files(trainings, max(EPOCHS)))},
        partial(_make, trainings, split_indices, algorithms=algorithms, seed=seed),
        partial(_reads, trainings),
    )


def _reads(trainings: Path) -> list[Path]:
    return [naap440.find("published"), *chain(*files(trainings, max(EPOCHS)).values())]


def _make(trainings: Path, split_indices: Sequence[int], algorithms: Sequence[str], seed: int) -> pd.DataFrame:
    table = tasks.read_table("published")
    others = read(trainings, max(EPOCHS))
    return compare(table, others, split_indices=split_indices, algorithms=algorithms, seed=seed).round(6)
