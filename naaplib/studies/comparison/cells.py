"""Predictors of NAS-Bench-201 cells, tested where none of them was chosen.

Estimators and their hyperparameters were chosen on CIFAR-100 and ImageNet16-120, with other training sets (seeds 7, 8
and 9). Neural graph features with trees, boosting and a Gaussian process had been tried on CIFAR-10 before, in
exploration; the features of pruned cells and their combination had not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from naaplib.architectures.cells import from_string
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.evaluation import training_sets
from naaplib.sources import find
from naaplib.tables import nasbench201

SEED = 20261126  # of training sets that no choice has seen
DATASET = "CIFAR-10"
TARGETS = ("single", "mean")
ESTIMATORS = (
    "GRAF, extremely randomised trees", "GRAF, boosting", "pruned GRAF, boosting", "pruned GRAF, Gaussian process",
    "pruned GRAF, combined",
)  # fmt: skip


def evaluated(
    table: pd.DataFrame, names: Sequence[str] = ESTIMATORS, *, dataset: str = DATASET, targets: str = "mean",
    n_train: int = 172, n_sets: int = 20, seed: int = SEED,
) -> pd.DataFrame:  # fmt: skip
    """Score estimators without any epoch on random training sets of cells.

    Parameters
    ----------
    table : DataFrame
        As `naaplib.tables.nasbench201.nasbench201` returns it.
    names : sequence of str
        Names from ``structural.NASBENCH201``.
    dataset : str
        Dataset of the accuracies, after 200 epochs.
    targets : {"single", "mean"}
        Accuracies to train on: of one training of each cell, as for the graph predictors, or means over trainings. True
        values are means in both cases.
    n_train, n_sets, seed : int
        Size, number and seed of the training sets.

    Returns
    -------
    DataFrame
        One row an estimator, set and part: estimator, dataset, targets, n_train, set (from 0), part, n, mse (in squared
        percentage points), kendall_tau, r2. Parts are "test", all cells but the training set, and "new", those that are
        no duplicate of a training cell either.
    """
    if targets not in TARGETS:
        raise ValueError(f"targets are {targets!r}; they must be one of {TARGETS}")
    values = nasbench201.accuracies(table, dataset)
    measured, trained_on = values[200, "mean"].to_numpy(), values[200, targets].to_numpy()
    distinct = table.groupby("architecture", sort=False)["distinct"].first().loc[values.index].to_numpy(object)
    X = structural.cell_features(from_string(text) for text in values.index)
    order = training_sets.split(len(X), n_train, 0, n_sets, seed)
    training, is_test = order[:, :n_train], training_sets.masks(order, n_train, 0)["test"]
    parts = {"test": is_test, "new": is_test & ~training_sets.seen(distinct, training)}
    found = []
    for name in names:
        fitted = (structural.make(name, seed=i).fit(X.iloc[rows], trained_on[rows]) for i, rows in enumerate(training))
        predicted = np.stack([model.predict(X) for model in fitted])
        scores = training_sets.evaluate(measured, predicted, parts, scale=100)
        keys = {"estimator": name, "dataset": dataset, "targets": targets, "n_train": n_train}
        found.append(scores.assign(**keys)[[*keys, *scores]])
    return pd.concat(found, ignore_index=True)


def pieces(n_train: int = 172, n_sets: int = 20, seed: int = SEED) -> list[Piece]:
    """Return the records of the test on CIFAR-10, one for each kind of targets."""
    settings = {"dataset": DATASET, "n_train": n_train, "n_sets": n_sets, "seed": seed, "estimators": list(ESTIMATORS)}
    return [_piece(targets, settings) for targets in TARGETS]


def _piece(targets: str, settings: dict[str, object]) -> Piece:
    sizes = {name: settings[name] for name in ("n_train", "n_sets", "seed")}

    def make() -> pd.DataFrame:
        found = evaluated(nasbench201.nasbench201(), targets=targets, **sizes)  # type: ignore[arg-type]
        return found.round({"mse": 4, "kendall_tau": 5, "r2": 5})

    name = f"cells, {settings['n_train']} trained/{targets} accuracies"
    return Piece(name, settings | {"targets": targets}, make, lambda: [find(file) for file in nasbench201.NASBENCH201])
