"""Make ``estimates-made.csv``: accuracies and estimates as chapter 07 records them, of networks of the made table.

Run from the project's root: ``python tests/data/make_estimates.py``; the table is the same on every run.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
N_ARCHS, N_EPOCHS = 20, 9
COLUMNS = ["original", "optimised", "ensemble of 10 epochs"]


def make() -> pd.DataFrame:
    """Every eleventh network; estimates scatter less about the final accuracy the further down the list."""
    table = pd.read_csv(HERE / "naap440-made.csv").iloc[::11][:N_ARCHS]
    rng = np.random.default_rng(11)
    rows = []
    for model_id, final in zip(table["ModelId"], table["MaxAccuracy"], strict=True):
        for epoch in range(1, N_EPOCHS + 1):
            for images in ("held out", "test"):
                scatter = rng.normal(0, [0.03, 0.02, 0.01]) / np.sqrt(epoch)
                values = (final - 0.3 / epoch + scatter).clip(0, 1).round(5)
                rows.append((model_id, epoch, images, *values))
    return pd.DataFrame(rows, columns=["ModelId", "epoch", "images", *COLUMNS])


if __name__ == "__main__":
    make().to_csv(HERE / "estimates-made.csv", index=False, lineterminator="\n")
