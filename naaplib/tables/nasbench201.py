"""Public benchmark tables, all in one tidy shape: what an architecture reached, one row a measurement.

Columns of every table: architecture (the benchmark's own text for it), distinct (equal for architectures that the
benchmark holds to be the same), dataset, epochs (that it was trained), runs (what the number is of), then the measure.
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
    """Test accuracies of all cells of NAS-Bench-201 (Dong and Yang, ICLR 2020), on three datasets.

    Returns
    -------
    DataFrame, shape (140,625, 6)
        Nine rows a cell. Sorted by the benchmark's number of the cell, which is the row's position divided by nine,
        then by dataset, epochs, runs. Columns:

        - architecture: the cell as ``|op~j|+|op~j|op~j|+|op~j|op~j|op~j|``, an operation and the node it comes from.
        - distinct: the benchmark's text for what a cell computes when skip connections are followed and what comes
          from a node without input is nothing; 6,466 of them. Cells that share it compute the same function, but for
          convolutions of nothing, whose batch normalisation can still learn a shift, and which cost parameters. Cells
          that differ in it may compute the same nevertheless.
        - dataset: "CIFAR-10", "CIFAR-100" or "ImageNet16-120".
        - epochs: 12 or 200.
        - runs: "single", one training; or "mean" (200 epochs only), over the trainings that the benchmark stores.
        - accuracy: fraction of test images, in [0, 1], rounded to six digits: the percentages in the files carry the
          noise of single precision, and equal ones would pass for different.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks a file, or has another one.
    ValueError
        If a file is not the table that is meant: other columns, cells missing or twice, an impossible accuracy.

    Notes
    -----
    What is known of the numbers. The script that wrote the means is published beside them: it asked the benchmark for
    the test accuracy on CIFAR-10 after training on all 50,000 training images, and on CIFAR-100 and ImageNet16-120 for
    that on the half of the test images (5,000 and 3,000) which the benchmark does not use for validation. Every single
    accuracy is a whole number of 10,000, 5,000 or 3,000 images, as it must be.

    What the files do not say. How many trainings a mean is of; their decimals are those of half or of third images,
    and never both for one cell, so it is two (6,554 cells) or three (7,546) on each dataset, and either for the 1,525
    others. Which training a single one is, and whether the mean has it too. Whether 12 epochs are trainings of their
    own, with a learning rate that falls within them, which the benchmark has. There is no accuracy on validation
    images, so that a search on this table is shown what it is judged by.
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
    """A file of NAS-Bench-201, one row a cell; its percentages are checked, columns of row numbers are ignored."""
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
    """Accuracies of NAS-Bench-201's cells on a data set, one row a cell in the table's order, columns epochs, runs."""
    part = table[table["dataset"] == dataset]
    wide = part.pivot_table(index="architecture", columns=["epochs", "runs"], values="accuracy")
    return wide.loc[part["architecture"].unique()]
