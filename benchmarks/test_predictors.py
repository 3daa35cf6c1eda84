"""Sixty predictors trained side by side, and one after the other: `python -m pytest benchmarks/test_predictors.py -s`.

Sixty training sets of 172 random cells of NAS-Bench-201 with made accuracies (what they are changes no time), a
twentieth or less of the epochs that the book trains, on a CPU with one thread. `fit_many` and a loop over `fit` take
turns in rounds; CPU seconds are compared, and the predictions of both must agree. Needs no data; takes some two
minutes. Writes ``predictors.csv``.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from naaplib.architectures.cells import enumerate_cells
from naaplib.architectures.graphs import of_cells
from naaplib.compendium import provenance
from naaplib.estimators.predictors.estimator import fit_many
from naaplib.estimators.predictors.presets import faithful, tuned
from naaplib.parallel import one_thread

ROUNDS = (1, 2, 3)
N_RUNS, N_TRAIN = 60, 172
PREDICTORS = {
    "tuned GCN": tuned(n_epochs=10),
    "tuned MLP": tuned(kind="mlp", n_epochs=10),
    "tuned CNN": tuned(kind="cnn", n_epochs=10),
    "faithful GCN": faithful(n_epochs=3),
}
PATH = Path(__file__).with_name("predictors.csv")


@pytest.fixture(scope="module")
def rows():
    """Rows of the table, which is written at the end."""
    found: list[dict[str, object]] = []
    yield found
    pd.DataFrame(found).to_csv(PATH, index=False, lineterminator="\n")


@pytest.mark.parametrize("name", PREDICTORS)
def test_sixty_side_by_side_take_less_than_one_after_the_other(name: str, rows: list[dict[str, object]]) -> None:
    """And predict the same, but for rounding."""
    rng = np.random.default_rng(0)
    every = enumerate_cells()
    chosen = rng.choice(len(every), 1000, replace=False)
    graphs, targets = of_cells([every[i] for i in chosen], prune=True), rng.random(1000)
    training = np.stack([rng.permutation(1000)[:N_TRAIN] for _ in range(N_RUNS)])
    predictor, seeds = PREDICTORS[name], range(N_RUNS)
    for number in ROUNDS:
        with one_thread():
            start = time.process_time()
            together = fit_many(predictor, graphs, targets=targets, training=training, seeds=seeds)
            middle = time.process_time()
            alone = [
                clone(predictor).set_params(seed=seed).fit(graphs[picked], targets[picked])
                for seed, picked in zip(seeds, training, strict=True)
            ]
            end = time.process_time()
        for one, other in zip(together[:3], alone[:3], strict=True):
            np.testing.assert_allclose(one.predict(graphs), other.predict(graphs), atol=1e-3)
        seconds = {"loop_cpu_seconds": round(end - middle, 2), "library_cpu_seconds": round(middle - start, 2)}
        ratio = round((end - middle) / (middle - start), 2)
        device = f"{provenance.describe_run(0)['device']}, one thread"
        told = {
            "predictor": name,
            "n_runs": N_RUNS,
            "n_train": N_TRAIN,
            "n_epochs": predictor.n_epochs,
            "round": number,
        }
        rows.append(told | seconds | {"ratio": ratio, "device": device, "torch": torch.__version__})
        assert ratio > 1
