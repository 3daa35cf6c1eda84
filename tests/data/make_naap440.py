"""Make ``naap440-made.csv``: every other scheme of the space with smooth, invented training curves.

Nothing in it was measured. Run from the project's root: ``python tests/data/make_naap440.py``; the file is the same on
every run.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from naaplib.architectures.schemes import enumerate_schemes, feature_table
from naaplib.tables import naap440

EVERY = 2  # 220 of 440 schemes: 20 for testing, and a file of a third of a megabyte
SEED = 440


def make() -> pd.DataFrame:
    """A valid table of 220 rows: larger networks are better, curves swing in cycles of three epochs."""
    rng = np.random.default_rng(SEED)
    scheme = feature_table(enumerate_schemes()).iloc[::EVERY]
    strength = np.log(scheme["NumParams"] / 2566) / np.log(10)  # 0 to about 1
    best = 0.53 + 0.2 * strength + 0.02 * (scheme["NumStages"] == 2) + rng.normal(0, 0.005, len(scheme))
    epochs = np.arange(1, naap440.N_EPOCHS + 1)
    shape = (len(scheme), epochs.size)
    approach = np.exp(-epochs / 12) + 0.15 * (epochs % 3 == 1)  # the first epoch of a cycle has the highest rate
    accuracy = best.to_numpy()[:, None] - 0.22 * approach + rng.normal(0, 0.006, shape)
    loss = 2.9 * (1 - accuracy) + rng.normal(0, 0.01, shape)
    records = pd.DataFrame({
        "ModelId": np.repeat(scheme["ModelId"].to_numpy(), epochs.size),
        "epoch": np.tile(epochs, len(scheme)),
        "loss_mean": loss.round(2).ravel(),
        "loss_median": (loss + rng.normal(0, 0.005, shape)).round(2).ravel(),
        "accuracy": accuracy.round(4).ravel(),
    })  # fmt: skip
    return naap440.build(records)


if __name__ == "__main__":
    naap440.write(make(), Path(__file__).with_name("naap440-made.csv"))
