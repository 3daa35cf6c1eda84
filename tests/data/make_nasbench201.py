"""Make ``nasbench201-made.csv``: some cells with invented accuracies, in the shape of `naaplib.tables.nasbench201`.

Nothing in it was measured. Run from the project's root: ``python tests/data/make_nasbench201.py``; the file is the same
on every run.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from naaplib.architectures import cells

N_CELLS = 60
SEED = 201
DATASETS = {"CIFAR-10": 0.94, "CIFAR-100": 0.73, "ImageNet16-120": 0.47}  # about the best accuracies


def make() -> pd.DataFrame:
    """Cells spread over the space: those with more parameters are better, with noise."""
    rng = np.random.default_rng(SEED)
    every = cells.enumerate_cells()
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, N_CELLS).round().astype(int)]
    strength = np.log(cells.sizes(chosen)["n_params"].to_numpy() / 73306) / np.log(21)  # 0 to about 1
    frames = []
    for dataset, best in DATASETS.items():
        accuracy = best * (0.8 + 0.2 * strength) - rng.uniform(0, 0.03, N_CELLS)
        texts = [cells.to_string(cell) for cell in chosen]
        frames.append(pd.DataFrame({"architecture": texts, "dataset": dataset, "accuracy": accuracy.round(4)}))
    table = pd.concat(frames).assign(distinct=lambda frame: frame["architecture"], epochs=200, runs="mean")
    return table[["architecture", "distinct", "dataset", "epochs", "runs", "accuracy"]]


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("nasbench201-made.csv"), index=False, lineterminator="\n")
