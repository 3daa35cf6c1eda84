"""Analysis of the stored predictions of the Neural Predictor replication.

The replication is Trirat and Sawadwuthikul (2021).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics

DATASETS = {
    "nasbench": "NAS-Bench-101",
    "nasbench_two": "NAS-Bench-101 w/ classifier",
    "cifar100": "ProxylessNAS on CIFAR-100",
    "caltech": "ProxylessNAS on Caltech-101",
    "oxford": "ProxylessNAS on Oxford Pet",
    "nlp": "NAS-Bench-NLP",
}
SPLITS = {"train": "train", "val": "validation", "test_10": "test, ten points", "test": "test"}
MEASURES = ("mse", "kendall_tau", "r2")
TOLERANCE = 1.5e-5  # predictions have five decimals: one in the last, and half for rounding
N_SHOWN = 8  # Table I's test points besides the lowest and the highest prediction

Values = NDArray[np.float64]


def table1(predictions: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Recompute the paper's Table I from the stored predictions.

    Parameters
    ----------
    predictions : DataFrame
        Columns dataset, split, y_true, y_pred, as `.derived.stored` returns them: accuracies in percent,
        for NAS-Bench-NLP losses in nats per token. A dataset without a split "train" has no baseline.
    printed : DataFrame
        Columns dataset, split, mse, kendall_tau, r2, with three decimals.

    Returns
    -------
    DataFrame
        One row per dataset and split, in the table's order and with its names: dataset, split, n, mse (squared
        percentage points or nats), kendall_tau (tau-b), r2; mean_mse, the error of predicting the mean of the training
        rows; mse, kendall_tau and r2 as printed (suffix _printed); misprints, names of the measures whose printed value
        is neither the recomputed one rounded to three decimals nor truncated there.

        The table's test set is "test, ten points" if there is such a split. The printed values of the full "test" set
        are then NaN.
    """
    shown = printed.set_index(["dataset", "split"])[list(MEASURES)].astype(float)
    groups = dict(list(predictions.groupby(["dataset", "split"])))
    rows = []
    for dataset, name in DATASETS.items():
        for split, label in SPLITS.items():
            if (dataset, split) not in groups:
                continue
            measured, predicted = groups[dataset, split][["y_true", "y_pred"]].to_numpy(float).T
            found = _measures(measured, predicted)
            row: dict[str, object] = {"dataset": name, "split": label, **found, "mean_mse": math.nan}
            if (dataset, "train") in groups:
                mean = groups[dataset, "train"]["y_true"].mean()
                row["mean_mse"] = metrics.mse(measured, np.full_like(measured, mean))
            cut = split == "test" and (dataset, "test_10") in groups
            key = (name, "test" if split == "test_10" else label)
            values = dict(shown.loc[key]) if key in shown.index and not cut else dict.fromkeys(MEASURES, math.nan)
            row |= {f"{measure}_printed": values[measure] for measure in MEASURES}
            row["misprints"] = ", ".join(m for m in MEASURES if not _may_print(found[m], values[m]))
            rows.append(row)
    return pd.DataFrame(rows)


def ten_points(predicted: ArrayLike) -> NDArray[np.int64]:
    """Return the ten test rows on which the paper's code computes Table I.

    They are the row with the lowest prediction, the last eight rows at a fixed stride, and the row with the highest
    prediction. The stride is an eighth of the number of rows predicted above the lowest, rounded down.

    Parameters
    ----------
    predicted : array_like, shape (n_archs,)
        Predictions in stored order, which matters.

    Returns
    -------
    ndarray of int, shape (10,)
        Indices in the order of the stored ten points. The first of equal extremes counts.
    """
    values = np.asarray(predicted, dtype=float)
    above = int((values > values.min()).sum()) if values.size else 0
    if above < N_SHOWN:
        raise ValueError(f"{above} predictions lie above the lowest; at least {N_SHOWN} must, to take every eighth")
    strided = np.arange(0, above, above // N_SHOWN)[-N_SHOWN:]
    return np.array([values.argmin(), *strided, values.argmax()])


def subsets(
    measured: ArrayLike, predicted: ArrayLike, *, n_rows: int = 10, n_subsets: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compute metrics on random small test sets, to show their variation.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
    n_rows : int
        Rows of a subset, drawn without replacement; between 2 and n_archs.
    n_subsets, seed : int
        More subsets continue fewer.

    Returns
    -------
    DataFrame, shape (n_subsets, 4)
        n, mse, kendall_tau, r2; NaN as in `naaplib.metrics`.
    """
    pairs = np.stack([np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)])
    if not 2 <= n_rows <= pairs.shape[1]:
        raise ValueError(f"n_rows is {n_rows}; it must lie between 2 and the number of rows, {pairs.shape[1]}")
    rng = np.random.default_rng(seed)
    drawn = (rng.choice(pairs.shape[1], n_rows, replace=False, shuffle=False) for _ in range(n_subsets))
    return pd.DataFrame([_measures(*pairs[:, rows]) for rows in drawn])


def same_cells(*predicted: ArrayLike, tolerance: float = TOLERANCE) -> list[NDArray[np.int64]]:
    """Number the cells, which are identified by their predictions alone.

    Nothing else was stored of them. Equal cells have equal predictions of one trained predictor, up to 32-bit
    arithmetic and the decimals stored. Different cells may have equal predictions too, by chance or because the
    predictor cannot distinguish them: there are fewer numbers than cells.

    Parameters
    ----------
    *predicted : array_like, shape (n_archs,)
        Predictions of one predictor for several sets of cells.
    tolerance : float
        Sorted predictions at most this far apart belong to one cell.

    Returns
    -------
    list of ndarray of int, shape (n_archs,)
        One array per set. Equal numbers, from 0 in ascending order of prediction, are one cell.
    """
    sets = [np.asarray(values, dtype=float) for values in predicted]
    values = np.concatenate(sets)
    order = values.argsort(kind="stable")
    numbers = np.empty(values.size, dtype=np.int64)
    numbers[order] = np.cumsum(np.diff(values[order], prepend=values[order][:1]) > tolerance)
    return np.split(numbers, np.cumsum([len(one) for one in sets])[:-1])


def leakage(training: ArrayLike, measured: ArrayLike, *, predicted: ArrayLike) -> pd.DataFrame:
    """Compute metrics on test rows of training cells, and on the other ones.

    Further parts have every cell once. A training cell is identified by its prediction.

    Parameters
    ----------
    training : array_like, shape (n_training,)
        Predictions for the rows that the predictor was trained on.
    measured, predicted : array_like, shape (n_archs,)
        Values of the rows that the paper calls unseen.

    Returns
    -------
    DataFrame
        One row per part: "all"; "training cells" and "other cells", unless there are fewer than two such rows;
        "each cell once" and "each other cell once", where measured and predicted values are means over a cell's
        rows. Columns: part, n, mse, kendall_tau, r2, n_cells, share (of all rows; in the last two, of all cells).
    """
    known, cells = same_cells(training, predicted)
    frame = pd.DataFrame({
        "cell": cells, "measured": np.asarray(measured, float), "predicted": np.asarray(predicted, float),
        "seen": np.isin(cells, known),
    })  # fmt: skip
    once = frame.groupby("cell", as_index=False).mean()
    once["seen"] = once["seen"] > 0
    parts = {
        "all": frame, "training cells": frame[frame["seen"]], "other cells": frame[~frame["seen"]],
        "each cell once": once, "each other cell once": once[~once["seen"]],
    }  # fmt: skip
    rows = []
    for part, chosen in parts.items():
        if len(chosen) >= 2:
            share = len(chosen) / len(once if "once" in part else frame)
            found = _measures(chosen["measured"].to_numpy(), chosen["predicted"].to_numpy())
            rows.append({"part": part, **found, "n_cells": chosen["cell"].nunique(), "share": share})
    return pd.DataFrame(rows)


def classified(kept: ArrayLike, dropped: ArrayLike = (), *, threshold: float = 91.0) -> dict[str, float]:
    """Return the error rates of a classifier that selects accurate architectures.

    Parameters
    ----------
    kept, dropped : array_like, shape (n_kept,), (n_dropped,)
        Measured accuracies of the architectures that it selected, and of those that it dropped.
    threshold : float
        Architectures above it are the accurate ones, in the unit of the accuracies.

    Returns
    -------
    dict
        n; precision, the share of accurate ones among the selected; accuracy; false_negative_rate, the share of
        accurate ones that were dropped; false_positive_rate, the share of the others that were selected. The last
        three are NaN if `dropped` is empty.
    """
    good, bad = (np.asarray(values, dtype=float) > threshold for values in (kept, dropped))
    shares = {"n": float(good.size + bad.size), "precision": _ratio(good.sum(), good.size)}
    keys = ("accuracy", "false_negative_rate", "false_positive_rate")
    if bad.size == 0:
        return shares | dict.fromkeys(keys, math.nan)
    rates = (
        _ratio(good.sum() + (~bad).sum(), good.size + bad.size),
        _ratio(bad.sum(), good.sum() + bad.sum()),
        _ratio((~good).sum(), (~good).sum() + (~bad).sum()),
    )
    return shares | dict(zip(keys, rates, strict=True))


def displaced(recipes: Iterable[str]) -> pd.DataFrame:
    """Count the rows of recurrent cells in which features and adjacency disagree.

    The replication's feature rows are the operations in the recipe's order. The rows of its adjacency matrix are nodes
    in order of first mention: an operation, then its inputs, the cell's own inputs among them, which have no feature.
    Where the two orders differ, an operation has another node's edges. (Also, every edge is entered both ways and the
    lower triangle is used, so that an edge points to its end that is mentioned first.)

    Parameters
    ----------
    recipes : iterable of str
        JSON texts ``[[node, operation, [input, ...]], ...]``, as in `.graph_benchmarks.nasbench_nlp`.

    Returns
    -------
    DataFrame
        One row per recipe, in the given order: n_operations; n_displaced, the operations not in their own row.
    """
    rows = []
    for recipe in map(json.loads, recipes):
        named = [node for node, _, _ in recipe]
        mentioned = dict.fromkeys(name for node, _, inputs in recipe for name in (node, *inputs))
        rows.append((len(named), sum(a != b for a, b in zip(named, mentioned, strict=False))))
    return pd.DataFrame(rows, columns=["n_operations", "n_displaced"])


def early_stopping(losses: pd.DataFrame, epochs: Sequence[int]) -> pd.DataFrame:
    """Compare the order of models after a few epochs with their last order.

    Parameters
    ----------
    losses : DataFrame, shape (n_models, n_epochs)
        One row per model, one column per epoch, ascending. Models without a last loss are left out, and at each epoch
        those without a loss there.
    epochs : sequence of int
        Columns to report.

    Returns
    -------
    DataFrame
        epochs, n, kendall_tau (tau-b).
    """
    if missing := [epoch for epoch in epochs if epoch not in losses]:
        raise ValueError(f"epochs {missing} are not among the columns, {losses.columns[0]} to {losses.columns[-1]}")
    rows = []
    for epoch in epochs:
        pair = np.stack([losses[epoch], losses[losses.columns[-1]]]).astype(float)
        pair = pair[:, np.isfinite(pair).all(axis=0)]
        rows.append((epoch, pair.shape[1], metrics.kendall_tau(pair[1], pair[0])))
    return pd.DataFrame(rows, columns=["epochs", "n", "kendall_tau"])


def _measures(measured: Values, predicted: Values) -> dict[str, float]:
    """Return the number of rows and the metrics of Table I."""
    pair = measured, predicted
    return {
        "n": measured.size, "mse": metrics.mse(*pair), "kendall_tau": metrics.kendall_tau(*pair),
        "r2": metrics.r2(*pair),
    }  # fmt: skip


def _may_print(value: float, printed: float) -> bool:
    """Return True if a printed value is another one, rounded or truncated, or NaN."""
    return math.isnan(printed) or round(1000 * printed) in (round(1000 * value), math.trunc(1000 * value))


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan
