"""The NAAP-440 table: find, read, check, build, write and split it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.architectures.schemes import Scheme, enumerate_schemes, feature_table
from naaplib.cache import writing
from naaplib.sources import ROOT
from naaplib.sources import find as find_file

N_EPOCHS = 90
N_DIGITS = 4
SPLIT_SIZE = 11  # architectures per bin, one of them for testing (NAAP-440, section 2)
PAPER = 5  # index of the paper's split: the centre of each bin
TIES = ("log-name", "ModelId")
SCHEME_COLUMNS = ["NumParams", "NumMACs", "NumLayers", "NumStages", "FirstLayerWidth", "LastLayerWidth"]
EPOCH_MEASURES = {"LossMean": "loss_mean", "LossMedian": "loss_median", "Accuracy": "accuracy"}
COLUMNS = [
    *("ModelId", "IsTest", *SCHEME_COLUMNS, "MaxAccuracy"),
    *(f"e{epoch}{measure}" for epoch in range(1, N_EPOCHS + 1) for measure in EPOCH_MEASURES),
]
_ACCURACIES = [f"e{epoch}Accuracy" for epoch in range(1, N_EPOCHS + 1)]
REGENERATED = "results/03-accuracy-table/table.csv"
ALLOWED = "'published', 'regenerated' or the path of a CSV file, or of a folder that holds one"
TRAIN = "make records-accuracy-table 03-accuracy-table"
_SHOWN_FAULTS = 20


class FaultyTable(ValueError):
    """A table that breaks the schema; the message lists the faults, each with its row."""


def find(source: str | Path) -> Path:
    """Find the table that a notebook's `source` parameter names.

    Parameters
    ----------
    source : str or Path
        "published" is the authors' file. "regenerated" is `REGENERATED`, the table that chapter 03 writes
        once all networks have all epochs. Anything else is the path of a CSV file in the same schema, or of a folder of
        a trial: chapter 03's table in it is taken, or its one CSV file. Paths are absolute or relative to the project's
        root.

    Returns
    -------
    Path
        Path of an existing file; the published file has the expected bytes.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or `source` is neither a name nor a path of a CSV file or of a folder with one.
    """
    if source == "published":
        return find_file("naap440/naap440.csv")
    if source == "regenerated":
        path = ROOT / REGENERATED
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"the regenerated table is not there yet: {path}. Chapter 03-accuracy-table writes it when all have "
            f"{N_EPOCHS} epochs: {TRAIN}. Until then use source = 'published'"
        )
    path = ROOT / source
    if path.is_dir():
        return _in_folder(path)
    if path.suffix != ".csv":
        raise ValueError(f"source is {str(source)!r}; it must be {ALLOWED}")
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; source may also be 'published' or 'regenerated'")
    return path


def _in_folder(folder: Path) -> Path:
    """Return the table in a folder of a trial."""
    chapter, name = Path(REGENERATED).parts[-2:]
    found = [path for path in (folder / chapter / name, folder / name) if path.is_file()]
    found = found[:1] or sorted(folder.glob("*.csv"))
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} CSV files and none is called {name}" if found else "no CSV file"
    raise FileNotFoundError(f"{folder} holds {what}: name the table itself. {chapter} writes {name} into a trial")


def read(path: str | Path, n_archs: int | None = None) -> pd.DataFrame:
    """Read and check a table.

    Parameters
    ----------
    path : str or Path
        CSV file in the published schema, as `find` returns it.
    n_archs : int, optional
        Required number of rows; any number if not given.

    Returns
    -------
    DataFrame, shape (n_archs, 279)
        In the file's row order, with the columns of `COLUMNS`: accuracies as fractions in [0, 1], losses in nats.

    Raises
    ------
    FaultyTable
        As in `validate`; the message begins with the path.

    Examples
    --------
    ``read(find("published"), n_archs=440)`` returns the published table, if `make data` has fetched it.
    """
    table = pd.read_csv(path).copy()  # a copy is one block of memory; pandas warns about new columns in 279 blocks
    try:
        validate(table, n_archs)
    except FaultyTable as faults:
        raise FaultyTable(f"{path}: {faults}") from None
    return table


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Check a table and write it in the format of the published file.

    The format has four digits at most, no index, and Unix line ends.

    The file gets its name when it is complete. The published table, read and written, differs only in its line ends.

    Parameters
    ----------
    table : DataFrame, shape (n_archs, 279)
    path : str or Path
    """
    validate(table)
    with writing(Path(path)) as stream:
        table.round(N_DIGITS).to_csv(stream, index=False, lineterminator="\n")


def validate(table: pd.DataFrame, n_archs: int | None = None) -> None:
    """Check columns, types, ranges, identifiers, and that all 90 epochs are present.

    Parameters
    ----------
    table : DataFrame
        See `read`.
    n_archs : int, optional
        Required number of rows.

    Raises
    ------
    FaultyTable
        If there is a fault. The message lists up to twenty, each with its row (1 is the first after the header) and
        ModelId.
    """
    faults = _faults_of_columns(table)
    if not faults:
        if n_archs is not None and len(table) != n_archs:
            faults.append(f"{len(table)} rows, expected {n_archs}")
        faults += [fault for column in COLUMNS for fault in _faults_of_values(table, column)]
    if not faults:
        faults = _faults_between_columns(table)
    if faults:
        more = f"\n- and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise FaultyTable(f"{len(faults)} fault(s)\n- " + "\n- ".join(faults[:_SHOWN_FAULTS]) + more)


def build(records: pd.DataFrame, schemes: Sequence[Scheme] | None = None) -> pd.DataFrame:
    """Make the table from training records.

    Parameters
    ----------
    records : DataFrame
        One row per architecture and epoch, in any order, with ModelId (1-based position in `schemes`), epoch (1 to 90),
        loss_mean and loss_median over the batches in nats, and accuracy on the test images in [0, 1].
    schemes : sequence of Scheme, optional
        All schemes of the space, in the order of ModelId; the 440 published ones if not given.

    Returns
    -------
    DataFrame, shape (n_archs, 279)
        A valid table, sorted by ModelId and rounded to four digits, with IsTest from `split` and its defaults.
    """
    measures = list(EPOCH_MEASURES.values())
    wide = records.pivot(index="ModelId", columns="epoch", values=measures)  # noqa: PD010 - it refuses an epoch twice
    table = feature_table(enumerate_schemes() if schemes is None else schemes).set_index("ModelId")
    if unknown := sorted(set(wide.index) - set(table.index)):
        raise ValueError(f"records of ModelId {unknown[:10]}, but the schemes are numbered 1 to {len(table)}")
    table = table.loc[wide.index, SCHEME_COLUMNS]
    by_epoch = {
        f"e{epoch}{measure}": wide[column, epoch]
        for measure, column in EPOCH_MEASURES.items()
        for epoch in wide[column]
    }
    table = pd.concat([table, pd.DataFrame(by_epoch).round(N_DIGITS)], axis="columns").assign(IsTest=0)
    if absent := [column for column in _ACCURACIES if column not in table]:
        raise ValueError(f"the records have no epoch {absent[0][1:-8]}: all of 1 to {N_EPOCHS} are needed")
    table["MaxAccuracy"] = table[_ACCURACIES].max(axis="columns")
    table = table.reset_index()[COLUMNS]
    table["IsTest"] = split(table).astype(int)
    validate(table)
    return table


def split(table: pd.DataFrame, index: int = PAPER, *, ties: str = "log-name") -> NDArray[np.bool_]:
    """Select test rows by the paper's rule: one of eleven neighbours in accuracy.

    The source is NAAP-440, section 2 and figure 3.

    The default is the paper's split, the published IsTest. In the order of ascending MaxAccuracy, the rows at positions
    `index`, `index` + 11, `index` + 22, ... are for testing.

    Parameters
    ----------
    table : DataFrame, shape (n_archs, n_columns)
        Table with ModelId and MaxAccuracy, in any row order.
    index : int
        From 0 to 10; the paper takes the centre, 5. The eleven splits share no test row.
    ties : {"log-name", "ModelId"}
        Order of equal accuracies: by the file name of the training log as text ("scheme_10" before "scheme_2"), as in
        the published file, or by ModelId. On the published table, the two rules differ in two rows of the paper's
        split.

    Returns
    -------
    ndarray of bool, shape (n_archs,)
        True for test rows, in the table's row order.

    Examples
    --------
    >>> table = pd.DataFrame({"ModelId": range(1, 23), "MaxAccuracy": [i / 100 for i in range(22)]})
    >>> np.flatnonzero(split(table)).tolist()
    [5, 16]
    """
    if not 0 <= index < SPLIT_SIZE:
        raise ValueError(f"index is {index}; it must lie between 0 and {SPLIT_SIZE - 1}")
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; it must be one of {TIES}")
    names = table["ModelId"].to_numpy()
    order = np.lexsort((names.astype(str) if ties == "log-name" else names, table["MaxAccuracy"].to_numpy()))
    is_test = np.zeros(len(table), dtype=bool)
    is_test[order[index::SPLIT_SIZE]] = True
    return is_test


def splits(
    table: pd.DataFrame, indices: Iterable[int] = range(SPLIT_SIZE), *, ties: str = "log-name"
) -> dict[int | str, NDArray[np.bool_]]:
    """Map several indices to their splits by `split`, in the given order."""
    return {index: split(table, index, ties=ties) for index in indices}


def _faults_of_columns(table: pd.DataFrame) -> list[str]:
    absent = [column for column in COLUMNS if column not in table]
    foreign = [str(column) for column in table if column not in COLUMNS]
    return [
        *(f"column {column} is absent" for column in absent),
        *(f"column {column} does not belong to the schema" for column in foreign),
        *(
            ["the columns are not in the published order"]
            if not absent and not foreign and list(table) != COLUMNS
            else []
        ),
    ]


def _requirement(column: str) -> tuple[str, Callable[[pd.Series], pd.Series]]:
    """Describe the valid values of a column, in words and as a test."""
    if column == "IsTest":
        return "0 or 1", lambda v: v.isin([0, 1])
    if column in ("ModelId", *SCHEME_COLUMNS):
        return "a whole number of at least 1", lambda v: (v >= 1) & (v % 1 == 0)
    if column.endswith("Accuracy"):
        return "a fraction in [0, 1]", lambda v: v.between(0, 1)
    return "finite and not negative", lambda v: (v >= 0) & np.isfinite(v)


def _faults_of_values(table: pd.DataFrame, column: str) -> list[str]:
    wanted, holds = _requirement(column)
    values = pd.to_numeric(table[column], errors="coerce")
    wrong = np.flatnonzero(~holds(values).to_numpy()).tolist()
    faults = [f"{_row(table, i)}: {column} is {table[column].iloc[i]}, must be {wanted}" for i in wrong]
    if not faults and not pd.api.types.is_numeric_dtype(table[column]):
        faults = [f"column {column} holds {table[column].dtype}, must hold numbers"]
    whole = column in ("ModelId", "IsTest", *SCHEME_COLUMNS)
    if not faults and whole and not pd.api.types.is_integer_dtype(table[column]):
        faults = [f"column {column} holds {table[column].dtype}, must hold whole numbers"]
    if column == "ModelId":
        twice = np.flatnonzero(table[column].duplicated().to_numpy()).tolist()
        faults += [f"{_row(table, i)}: this ModelId was there before" for i in twice]
    return faults


def _faults_between_columns(table: pd.DataFrame) -> list[str]:
    best = table[_ACCURACIES].max(axis="columns")
    wrong = np.flatnonzero((table["MaxAccuracy"] - best).abs().to_numpy() > 0.5 * 10.0**-N_DIGITS).tolist()
    return [
        f"{_row(table, i)}: MaxAccuracy is {table['MaxAccuracy'].iloc[i]}, but the best epoch has {best.iloc[i]}"
        for i in wrong
    ]


def _row(table: pd.DataFrame, i: int) -> str:
    return f"row {i + 1} (ModelId {table['ModelId'].iloc[i]})"


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Convert the 90 epochs of a table to one row per network and epoch.

    `build` makes a table from such rows.

    Parameters
    ----------
    table : DataFrame, shape (n_archs, 279)
        As `naaplib.tables.naap440.read` returns it.

    Returns
    -------
    DataFrame, shape (n_archs * 90, 5)
        ModelId, epoch (from 1), loss_mean, loss_median (nats), accuracy (fraction); networks in the table's order.
    """
    by_epoch = [
        table[["ModelId"]].assign(
            epoch=epoch, **{name: table[f"e{epoch}{column}"] for column, name in EPOCH_MEASURES.items()}
        )
        for epoch in range(1, N_EPOCHS + 1)
    ]
    return pd.concat(by_epoch).sort_index(kind="stable").reset_index(drop=True)
