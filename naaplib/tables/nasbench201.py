"""NAS-Bench-201 as a tidy table: one row per measurement.

All benchmark tables have the columns architecture (the benchmark's text for it), distinct (equal for architectures that
the benchmark regards as the same), dataset, epochs (of training), runs ("single", or "mean" over runs), and then the
measure.
"""

from __future__ import annotations

import pandas as pd

from naaplib.sources import find

N_CELLS = 15625
NASBENCH201 = {
    "nasbench201/nats_bench_12_epochs.csv": {
        "Cifar10TestAccuracy12Epochs": ("CIFAR-10", 12, "single"),
        "Cifar100TestAccuracy12Epochs": ("CIFAR-100", 12, "single"),
        "ImageNet16TestAccuracy12Epochs": ("ImageNet16-120", 12, "single"),
        "Cifar10TestAccuracy200Epochs": ("CIFAR-10", 200, "single"),
        "Cifar100TestAccuracy200Epochs": ("CIFAR-100", 200, "single"),
        "ImageNet16TestAccuracy200Epochs": ("ImageNet16-120", 200, "single"),
    },
    "nasbench201/nats_bench_200_epochs.csv": {
        "CIFAR10TestAccuracy200Epochs": ("CIFAR-10", 200, "mean"),
        "CIFAR100TestAccuracy200Epochs": ("CIFAR-100", 200, "mean"),
        "ImageNetTestAccuracy200Epochs": ("ImageNet16-120", 200, "mean"),
    },
}


def nasbench201() -> pd.DataFrame:
    """Read test accuracies of all cells of NAS-Bench-201, on three datasets.

    The source is Dong and Yang (ICLR 2020).

    Returns
    -------
    DataFrame, shape (140,625, 6)
        Nine rows per cell, sorted by the benchmark's number of the cell (the row's position divided by nine), then by
        dataset, epochs, runs. Columns:

        - architecture: the cell as ``|op~j|+|op~j|op~j|+|op~j|op~j|op~j|``, an operation and the node it comes from.
        - distinct: the benchmark's text for a cell after skip connections are followed and nodes without input are
          removed. It has 6,466 values. Cells that share it compute the same function, but for convolutions of zeros,
          which cost parameters, and whose batch normalisation can still learn a shift. Cells that differ in it may
          still compute the same.
        - dataset: "CIFAR-10", "CIFAR-100" or "ImageNet16-120".
        - epochs: 12 or 200.
        - runs: "single", one training; or "mean" (200 epochs only), over the trainings that the benchmark stores.
        - accuracy: fraction of test images, in [0, 1], rounded to six digits, because the percentages in the files have
          the noise of single precision.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks a file, or has another one.
    ValueError
        If a file has other columns, missing or duplicate cells, or an impossible accuracy.

    Notes
    -----
    The script that wrote the means is published beside them. On CIFAR-10, they are test accuracies after training on
    all 50,000 training images. On CIFAR-100 and ImageNet16-120, they are accuracies on the half of the test images
    (5,000 and 3,000) that the benchmark does not use for validation. Every single accuracy is a whole number of 10,000,
    5,000 or 3,000 images.

    The files leave four things open. They do not give the number of trainings in a mean; its decimals show two (6,554
    cells) or three (7,546), and leave 1,525 cells open. They do not name the training of a single accuracy, nor if the
    mean includes it. They do not tell if 12 epochs are trainings with a learning rate schedule of their own, which the
    benchmark has. They have no validation accuracy, so a search on this table sees the accuracy that evaluates it.
    """
    short, long = NASBENCH201
    frames = {
        short: _read(short, "ArchitectureString"),
        long: _read(long, "ArchitectureString", "UniqueString"),
    }
    cells = frames[long]["ArchitectureString"]
    if not cells.equals(frames[short]["ArchitectureString"]):
        raise ValueError(f"{short} and {long} do not hold the same cells in the same order")
    keys = {"cell": cells.index, "architecture": cells, "distinct": frames[long]["UniqueString"]}
    parts = [
        pd.DataFrame(keys | {"dataset": dataset, "epochs": epochs, "runs": runs, "accuracy": frames[name][column]})
        for name, measures in NASBENCH201.items()
        for column, (dataset, epochs, runs) in measures.items()
    ]
    table = pd.concat(parts).sort_values(["cell", "dataset", "epochs", "runs"], ignore_index=True)
    table["accuracy"] = (table["accuracy"] / 100).round(6)
    return table.drop(columns="cell")


def _read(name: str, *texts: str) -> pd.DataFrame:
    """Read a file of NAS-Bench-201, one row per cell, and check its percentages.

    Columns of row numbers are ignored.
    """
    frame = pd.read_csv(find(name))
    measures = list(NASBENCH201[name])
    if missing := [column for column in (*texts, *measures) if column not in frame]:
        raise ValueError(f"{name} has no columns {missing}; it has {list(frame)}")
    n_cells = frame["ArchitectureString"].nunique()
    if not n_cells == len(frame) == N_CELLS:
        raise ValueError(f"{name} must have {N_CELLS:,} rows, one a cell; it has {len(frame):,} of {n_cells:,} cells")
    possible = frame[measures].apply(lambda column: column.between(0, 100))  # False for NaN
    if not possible.all(axis=None):
        row = int(possible.all(axis=1).idxmin())
        column = possible.loc[row].idxmin()
        raise ValueError(f"{name}, row {row + 1}: {column} is {frame.loc[row, column]}; it must be a percentage")
    return frame


def accuracies(table: pd.DataFrame, dataset: str = "CIFAR-10") -> pd.DataFrame:
    """Pivot accuracies of cells on a dataset: one row per cell, in the table's order.

    The columns are epochs and runs.
    """
    part = table[table["dataset"] == dataset]
    wide = part.pivot_table(index="architecture", columns=["epochs", "runs"], values="accuracy")
    return wide.loc[part["architecture"].unique()]
