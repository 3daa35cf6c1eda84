"""Predictors of NAS-Bench-201 cells, tested where none of them was chosen.

Estimators and their hyperparameters were chosen on CIFAR-100 and ImageNet16-120, with other training sets (seeds 7, 8
and 9). Neural graph features with trees, boosting and a Gaussian process had been tried on CIFAR-10 before, in
exploration; the features of pruned cells and their combination had not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from naaplib.architectures.cells import from_string
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.evaluation import training_sets
from naaplib.sources import ROOT, find
from naaplib.tables import nasbench201

N_TRAIN = 172  # as chapter 08
SEED = 20261126  # of training sets that no choice has seen
DATASET = "CIFAR-10"
PROXIES = ROOT / "results" / "records" / "training-free-scores" / "cells.csv"
TARGETS = ("single", "mean")
ESTIMATORS = (
    "GRAF, extremely randomised trees", "GRAF, boosting", "pruned GRAF, boosting", "pruned GRAF, Gaussian process",
    "pruned GRAF, combined",
)  # fmt: skip


def evaluated(
    table: pd.DataFrame, names: Sequence[str] = ESTIMATORS, *, dataset: str = DATASET, targets: str = "mean",
    n_train: int = N_TRAIN, n_sets: int = 20, seed: int = SEED,
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
    order = training_sets.split(len(X), n_train, n_validation=0, n_sets=n_sets, seed=seed)
    training, is_test = order[:, :n_train], training_sets.masks(order, n_train, n_validation=0)["test"]
    parts = {"test": is_test, "new": is_test & ~training_sets.seen(distinct, training)}
    found = []
    for name in names:
        fitted = (structural.make(name, seed=i).fit(X.iloc[rows], trained_on[rows]) for i, rows in enumerate(training))
        predicted = np.stack([model.predict(X) for model in fitted])
        scores = training_sets.evaluate(measured, predicted, parts=parts, scale=100)
        keys = {"estimator": name, "dataset": dataset, "targets": targets, "n_train": n_train}
        found.append(scores.assign(**keys)[[*keys, *scores]])
    return pd.concat(found, ignore_index=True)


def proxy_features(proxies: pd.DataFrame) -> pd.DataFrame:
    """Convert zero-cost proxies to features that estimators on pruned cells use.

    Scales differ by many orders, so that each proxy z becomes ``sign(z) log(1 + |z|)``.

    Examples
    --------
    >>> proxy_features(pd.DataFrame({"synflow": [0.0, np.e - 1]})).round(3).to_dict("list")
    {'pruned:proxy synflow': [0.0, 1.0]}
    """
    return (np.sign(proxies) * np.log1p(np.abs(proxies))).add_prefix("pruned:proxy ")


def read_proxies(path: Path) -> pd.DataFrame:
    """Read the zero-cost proxies that a record of zero-cost proxies holds.

    Returns
    -------
    DataFrame, shape (n_cells, n_proxies)
        Indexed by the cell's position in the benchmark; cells for which a proxy is not defined are left out.
    """
    found = pd.read_csv(path)
    found = found[found["condition"] == "default"]
    wide = found.pivot_table(index="architecture", columns="score", values="value")
    return wide[np.isfinite(wide).all(axis=1)].rename_axis(columns=None)


def evaluated_with_proxies(
    table: pd.DataFrame, proxies: pd.DataFrame, *, names: Sequence[str] = ESTIMATORS[2:], dataset: str = DATASET,
    n_train: int = N_TRAIN, n_sets: int = 20, seed: int = SEED,
) -> pd.DataFrame:  # fmt: skip
    """Score estimators with and without zero-cost proxies as further features.

    Parameters
    ----------
    table : DataFrame
        As in `evaluated`.
    proxies : DataFrame
        As `read_proxies` returns it. No other cells are drawn or tested.
    names : sequence of str
        Estimators on pruned cells.
    dataset, n_train, n_sets, seed
        As in `evaluated`; training sets are drawn among the cells with proxies. Targets are means over trainings.

    Returns
    -------
    DataFrame
        As from `evaluated`, for the part "test", with a column proxies: "with" or "without".
    """
    values = nasbench201.accuracies(table, dataset)[200, "mean"].iloc[proxies.index]
    measured = values.to_numpy()
    plain = structural.cell_features(from_string(text) for text in values.index)
    added = pd.concat([plain, proxy_features(proxies).reset_index(drop=True)], axis=1)
    order = training_sets.split(len(plain), n_train, n_validation=0, n_sets=n_sets, seed=seed)
    parts = {"test": training_sets.masks(order, n_train, n_validation=0)["test"]}
    found = []
    for name in names:
        for label, X in (("without", plain), ("with", added)):
            predicted = [
                structural.make(name, seed=i).fit(X.iloc[rows], measured[rows]).predict(X)
                for i, rows in enumerate(order[:, :n_train])
            ]
            scores = training_sets.evaluate(measured, np.stack(predicted), parts=parts, scale=100)
            keys = {"estimator": name, "proxies": label, "dataset": dataset, "targets": "mean", "n_train": n_train}
            found.append(scores.assign(**keys)[[*keys, *scores]])
    return pd.concat(found, ignore_index=True)


def pieces(n_sets: int = 20) -> list[Piece]:
    """Return the records of the test on CIFAR-10, one for each kind of targets."""
    settings = {"dataset": DATASET, "n_train": N_TRAIN, "n_sets": n_sets, "seed": SEED, "estimators": list(ESTIMATORS)}
    return [_piece(targets, settings) for targets in TARGETS]


def proxies_piece(n_sets: int = 20) -> Piece:
    """Return the record of estimators with and without zero-cost proxies."""
    sizes = {"n_train": N_TRAIN, "n_sets": n_sets, "seed": SEED}

    def make() -> pd.DataFrame:
        found = evaluated_with_proxies(nasbench201.nasbench201(), read_proxies(PROXIES), **sizes)  # type: ignore[arg-type]
        return found.round({"mse": 4, "kendall_tau": 5, "r2": 5})

    settings = sizes | {"dataset": DATASET, "estimators": list(ESTIMATORS[2:])}
    return Piece(f"cells, {N_TRAIN} trained/proxies", settings, make, lambda: [*_files(), PROXIES], code=__name__)


def _piece(targets: str, settings: dict[str, object]) -> Piece:
    sizes = {name: settings[name] for name in ("n_train", "n_sets", "seed")}

    def make() -> pd.DataFrame:
        found = evaluated(nasbench201.nasbench201(), targets=targets, **sizes)  # type: ignore[arg-type]
        return found.round({"mse": 4, "kendall_tau": 5, "r2": 5})

    name = f"cells, {settings['n_train']} trained/{targets} accuracies"
    return Piece(name, settings | {"targets": targets}, make, _files, code=__name__)


def _files() -> list[Path]:
    return [find(name) for name in nasbench201.NASBENCH201]
