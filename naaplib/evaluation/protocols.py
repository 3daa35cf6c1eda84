"""Protocols: predictions and scores of algorithms on splits, as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.estimators import regressors

CELL = ["split", "features", "algorithm"]


def predict(
    measured: ArrayLike,
    feature_sets: Mapping[int | str, pd.DataFrame],
    *,
    algorithms: Sequence[str],
    seeds: Sequence[int],
    splits: Mapping[int | str, NDArray[np.bool_]],
    n_jobs: int = 2,
) -> pd.DataFrame:
    """Fit every algorithm on the training rows of every split; predict the test rows.

    Estimators get the rows in ascending order of measured accuracy, as in the study's script; ties keep their order.
    Bootstraps and neighbours at equal distance depend on it. An ensemble is fitted once, at the largest size, and
    smaller sizes are read off it (`.regressors.predict_prefixes`).

    Parameters
    ----------
    measured : array_like, shape (n_archs,)
        Accuracies.
    feature_sets : mapping from key to DataFrame, shape (n_archs, n_features)
        Indexed by ModelId, with rows in the order of `measured`. Keys are all int or all str.
    algorithms : sequence of str
        Names from ``regressors.ALGORITHMS``.
    seeds : sequence of int
        One run per seed. Deterministic algorithms are run once, under the first seed.
    splits : mapping from key to ndarray of bool, shape (n_archs,)
        True for test rows. Keys are all int or all str.
    n_jobs : int
        Number of processes; the result does not depend on it.

    Returns
    -------
    DataFrame
        One row per split, feature set, algorithm, seed and test row: split, features, algorithm, seed, ModelId,
        measured, predicted. Keys are in the order given, test rows in ascending order of measured accuracy.

    Examples
    --------
    >>> features = pd.DataFrame({"depth": range(8)})
    >>> is_test = np.arange(8) % 2 == 1
    >>> settings = {"algorithms": ["Linear Regression"], "seeds": [0], "splits": {"odd": is_test}, "n_jobs": 1}
    >>> found = predict(range(8), {"depth": features}, **settings)
    >>> found[["ModelId", "predicted"]].round(6).to_numpy().tolist()
    [[1.0, 1.0], [3.0, 3.0], [5.0, 5.0], [7.0, 7.0]]
    >>> scores = median_run(score(found))
    >>> int(scores["n_test"].item()), scores["violations"].item()
    (4, 0.0)
    """
    measured = np.asarray(measured, dtype=float)
    _check(measured, feature_sets, algorithms=algorithms, seeds=seeds, splits=splits)
    order = np.argsort(measured, kind="stable")
    families: dict[str, list[str]] = {}
    for algorithm in algorithms:
        families.setdefault(regressors.ensemble(algorithm)[0], []).append(algorithm)
    tasks = [
        (split, features, family, seed)
        for split in splits
        for features in feature_sets
        for family, names in families.items()
        for seed in (seeds if regressors.draws(names[0]) else seeds[:1])
    ]
    arrays = {key: frame.to_numpy(dtype=float)[order] for key, frame in feature_sets.items()}
    is_test = {key: np.asarray(mask)[order] for key, mask in splits.items()}
    fitted = Parallel(n_jobs=n_jobs)(
        delayed(_predict_family)(families[family], seed, X=arrays[features], y=measured[order], is_test=is_test[split])
        for split, features, family, seed in tasks
    )
    found = {
        (split, features, algorithm, seed): values
        for (split, features, _, seed), by_algorithm in zip(tasks, fitted, strict=True)
        for algorithm, values in by_algorithm.items()
    }
    model_ids = next(iter(feature_sets.values())).index.to_numpy()[order]
    cells = [
        (split, features, algorithm, seed)
        for split in splits
        for features in feature_sets
        for algorithm in algorithms
        for seed in seeds
        if (split, features, algorithm, seed) in found
    ]
    sizes = [found[cell].size for cell in cells]
    columns = {name: np.repeat([cell[i] for cell in cells], sizes) for i, name in enumerate([*CELL, "seed"])}
    return pd.DataFrame(columns | {
        "ModelId": np.concatenate([model_ids[is_test[cell[0]]] for cell in cells]),
        "measured": np.concatenate([measured[order][is_test[cell[0]]] for cell in cells]),
        "predicted": np.concatenate([found[cell] for cell in cells]),
    })  # fmt: skip


def _check(
    measured: NDArray[np.float64],
    feature_sets: Mapping[int | str, pd.DataFrame],
    algorithms: Sequence[str],
    seeds: Sequence[int],
    splits: Mapping[int | str, NDArray[np.bool_]],
) -> None:
    if unknown := [name for name in algorithms if name not in regressors.ALGORITHMS]:
        raise ValueError(f"there is no algorithm {unknown}; there are: {', '.join(regressors.ALGORITHMS)}")
    for what, given in [("features", feature_sets), ("algorithms", algorithms), ("seeds", seeds), ("splits", splits)]:
        if len(given) == 0 or len(set(given)) < len(given):
            raise ValueError(f"{what} must be one or more different ones, not {list(given)}")
    first = next(iter(feature_sets.values())).index
    for key, frame in feature_sets.items():
        if len(frame) != measured.size or not frame.index.equals(first):
            raise ValueError(
                f"feature set {key!r} has {len(frame)} rows that must be the {measured.size} measured architectures, "
                "in the same order as in the other sets"
            )
    for key, mask in splits.items():
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != measured.shape or not 0 < mask.sum() < mask.size:
            raise ValueError(
                f"split {key!r} must be a boolean array of shape {measured.shape}, True for some rows (test) and False "
                f"for others (training), not {mask.dtype} of shape {mask.shape} with {int(mask.sum())} test rows"
            )


def _predict_family(
    names: Sequence[str], seed: int, X: NDArray[np.float64], y: NDArray[np.float64], is_test: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    largest = max(names, key=lambda name: regressors.ensemble(name)[1])
    model = regressors.make(largest, seed).fit(X[~is_test], y[~is_test])
    if len(names) == 1:
        return {largest: model.predict(X[is_test])}
    sizes = {name: regressors.ensemble(name)[1] for name in names}
    prefixes = regressors.predict_prefixes(model, X[is_test], sizes=list(sizes.values()))
    return {name: prefixes[size] for name, size in sizes.items()}


def score(predictions: pd.DataFrame) -> pd.DataFrame:
    """Compare predicted with measured accuracies, run by run.

    Parameters
    ----------
    predictions : DataFrame
        As `predict` returns it.

    Returns
    -------
    DataFrame
        One row per split, feature set, algorithm and seed, in their order in `predictions`: split, features,
        algorithm, seed, n_test, mae, mse, r2, kendall_tau (tau-b), violations_published (a tied prediction counts 0),
        violations (it counts one half).
    """
    rows = []
    for key, run in predictions.groupby([*CELL, "seed"], sort=False):
        pair = run["measured"].to_numpy(), run["predicted"].to_numpy()
        rows.append(
            (
                *key, len(run), metrics.mae(*pair), metrics.mse(*pair), metrics.r2(*pair), metrics.kendall_tau(*pair),
                metrics.violations(*pair, ties="published"), metrics.violations(*pair),
            )
        )  # fmt: skip
    columns = [*CELL, "seed", "n_test", "mae", "mse", "r2", "kendall_tau", "violations_published", "violations"]
    return pd.DataFrame(rows, columns=columns)


def median_run(scores: pd.DataFrame, by: str = "violations_published") -> pd.DataFrame:
    """Return each cell's run with the median violations, as the study prints it.

    Parameters
    ----------
    scores : DataFrame
        As `score` returns it.
    by : str
        Column that orders the runs; ties keep the order of their seeds.

    Returns
    -------
    DataFrame
        One row per split, feature set and algorithm, in their order in `scores`. An even number of runs has the lower
        median.
    """
    runs = scores.sort_values(by, kind="stable").groupby(CELL, sort=False)
    chosen = sorted(run.index[(len(run) - 1) // 2] for _, run in runs)
    return scores.loc[chosen].reset_index(drop=True)
