"""Evaluate any predictor of accuracy on a benchmark, beside the known ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import Bunch
from tqdm import tqdm

from naaplib.architectures.dense_graphs import Graphs
from naaplib.estimators import regressors
from naaplib.estimators.predictors import NeuralPredictor
from naaplib.evaluation import ranking
from naaplib.parallel import bar_disabled
from naaplib.tables.load import folds, load_naap440

BENCHMARKS: dict[str, Callable[[], Bunch]] = {"naap440": load_naap440}
PAPER = 5  # key of the paper's split of NAAP-440
MEASURES = ("kendall_tau", "violations", "mae")
Splits = Mapping[int | str, NDArray[np.bool_]]


def evaluate(
    estimators: Any,
    benchmark: str | Bunch | tuple[Any, Any] = "naap440",
    *,
    splits: str | int | Splits | None = None,
    seeds: Sequence[int] = (0,),
    n_resamples: int = 1000,
    level: float = 0.95,
    progress: bool = True,
) -> pd.DataFrame:
    """Evaluate predictors of accuracy on a benchmark: tau, violations, MAE, intervals.

    Parameters
    ----------
    estimators : mapping from name to estimator, sequence, or one
        An estimator is any object with ``fit(X, y)`` and ``predict(X)``, or a name in
        ``naaplib.estimators.regressors.ALGORITHMS``. It is copied for every split. Without ``fit`` it predicts. One
        that has ``reads = "graphs"``, or is a `NeuralPredictor`, gets graphs instead of features.
    benchmark : "naap440", Bunch or (X, y)
        A name; what `naaplib.tables.load.load_naap440` returns, with other features for example; or features (n_archs,
        n_features) and accuracies (n_archs,) of your own.
    splits : {"paper", "eleven"}, int, or mapping from key to ndarray of bool, optional
        Test rows. "paper" is NAAP-440's published split and "eleven", its default, the eleven of the same rule; a
        number divides at random into so many parts, ten by default for your own data; or one mask per split.
    seeds : sequence of int
        Values for every parameter called ``random_state`` or ``seed``; one run for each.
    n_resamples, level
        Number of resamples and coverage of bootstrap percentile intervals over test architectures. Splits and seeds
        are averaged, and fixed; pairs of an architecture with itself, in a sample that has it twice, do not count.
    progress : bool
        True shows a progress bar on a terminal.

    Returns
    -------
    DataFrame
        One row per estimator, highest tau first: estimator, n_splits, n_train, n_test, kendall_tau (tau-b),
        violations (a tied prediction counts one half), mae, each as the mean over splits and seeds with its interval
        (_low, _high), and seconds (of one fit and prediction, mean). Tau is NaN for constant predictions.

    Raises
    ------
    ValueError
        If a name is unknown, a split is no mask with test and training rows, or predictions have another shape.

    Examples
    --------
    >>> X, y = np.arange(40.0)[:, None], np.arange(40) / 40
    >>> evaluate("Linear Regression", (X, y), splits=4)[["n_test", "kendall_tau", "violations"]].values.tolist()
    [[10.0, 1.0, 0.0]]

    ``evaluate({"mine": MyPredictor(), "forest": "Random Forest (N=200)"})`` compares on NAAP-440.
    """
    predicted = predictions(estimators, benchmark, splits=splits, seeds=seeds, progress=progress)
    return summarise(predicted, n_resamples=n_resamples, level=level)


def predictions(
    estimators: Any,
    benchmark: str | Bunch | tuple[Any, Any] = "naap440",
    *,
    splits: str | int | Splits | None = None,
    seeds: Sequence[int] = (0,),
    progress: bool = True,
) -> pd.DataFrame:
    """Fit estimators on the training rows of every split, and predict the test rows.

    Parameters are those of `evaluate`. Estimators get the training rows in ascending order of accuracy, as in
    `naaplib.evaluation.protocols`.

    Returns
    -------
    DataFrame
        One row per estimator, split, seed and test row: estimator, split, seed, architecture, n_train, measured,
        predicted, seconds (of this fit and prediction).
    """
    named = _named(estimators)
    bunch = _benchmark(benchmark)
    y = np.asarray(bunch.target, dtype=float)
    order = np.argsort(y, kind="stable")
    masks = {key: _mask(key, mask, len(y)) for key, mask in _splits(bunch, splits, len(y)).items()}
    names = np.asarray(getattr(bunch.target, "index", np.arange(len(y))))
    if not np.isfinite(y).all():
        raise ValueError(
            f"y is not finite at positions {np.flatnonzero(~np.isfinite(y))[:10].tolist()}: leave those out"
        )
    tasks = [(name, key, seed) for name in named for key in masks for seed in seeds]
    if not tasks:
        raise ValueError(f"there is nothing to evaluate: {len(masks)} splits and {len(seeds)} seeds; give one of each")
    parts = []
    bar = tqdm(tasks, "evaluate", unit="fit", disable=bar_disabled() if progress else True)
    for name, key, seed in bar:
        bar.set_postfix_str(name)
        test, train = order[masks[key][order]], order[~masks[key][order]]
        start = time.perf_counter()
        try:
            model = _fresh(named[name], seed)
            inputs = bunch.graphs if _reads_graphs(model) else bunch.data
            if hasattr(model, "fit"):
                model.fit(_rows(inputs, train), y[train])
            predicted = np.asarray(model.predict(_rows(inputs, test)), dtype=float)
        except Exception as error:
            error.add_note(f"in estimator {name!r}, split {key}, seed {seed}")
            raise
        if predicted.shape != test.shape or not np.isfinite(predicted).all():
            raise ValueError(
                f"estimator {name!r} predicted an array of shape {predicted.shape}, of which "
                f"{int((~np.isfinite(predicted)).sum())} values are not finite; it must be {test.shape}, all finite"
            )
        parts.append(pd.DataFrame({
            "estimator": name, "split": key, "seed": seed, "architecture": names[test], "n_train": len(train),
            "measured": y[test], "predicted": predicted, "seconds": time.perf_counter() - start,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def summarise(predicted: pd.DataFrame, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Summarise predictions, as `evaluate` does; `seed` is that of the resamples."""
    rows = []
    for name, of_estimator in predicted.groupby("estimator", sort=False):
        runs = [run for _, run in of_estimator.groupby(["split", "seed"], sort=False)]
        rng = np.random.default_rng(seed)
        sizes = {run["split"].iloc[0]: len(run) for run in runs}
        drawn = {
            split: ranking.resample_counts(n, n_resamples, rng=rng) for split, n in sizes.items()
        }  # the same for all seeds
        found = [
            ranking.measures(run["measured"], run["predicted"], counts=drawn[run["split"].iloc[0]]) for run in runs
        ]
        row: dict[str, object] = {
            "estimator": name, "n_splits": of_estimator["split"].nunique(), "n_train": runs[0]["n_train"].iloc[0],
            "n_test": len(runs[0]),
        }  # fmt: skip
        for measure in MEASURES:
            values = np.mean([one[measure] for one in found], axis=0)
            row |= ranking.with_interval(measure, values, level=level)
        row["seconds"] = np.mean([run["seconds"].iloc[0] for run in runs])
        rows.append(row)
    return pd.DataFrame(rows).sort_values("kendall_tau", ascending=False, kind="stable", ignore_index=True)


def _named(estimators: Any) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        found = {str(name): one for name, one in estimators.items()}
    else:
        several = estimators if isinstance(estimators, list | tuple) else [estimators]
        found = {}
        for one in several:
            name = one if isinstance(one, str) else type(one).__name__
            if name in found:
                raise ValueError(f"two estimators are called {name!r}: give a mapping from name to estimator")
            found[name] = one
    if not found:
        raise ValueError("there are no estimators to evaluate")
    for name, one in found.items():
        if isinstance(one, str):
            regressors.make(one)  # an unknown name ends in a ValueError that lists them
        elif not hasattr(one, "predict"):
            raise ValueError(f"estimator {name!r} is a {type(one).__name__} without predict(X)")
    return found


def _fresh(estimator: Any, seed: int) -> Any:
    if isinstance(estimator, str):
        return regressors.make(estimator, seed)
    model = clone(estimator, safe=False)
    if hasattr(model, "get_params") and hasattr(model, "set_params"):
        names = [name for name in model.get_params() if name.split("__")[-1] in ("random_state", "seed")]
        model.set_params(**dict.fromkeys(names, seed))
    return model


def _reads_graphs(model: Any) -> bool:
    return isinstance(model, NeuralPredictor) or getattr(model, "reads", "features") == "graphs"


def _rows(inputs: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(inputs, pd.DataFrame):
        return inputs.iloc[rows].to_numpy(dtype=float)
    if isinstance(inputs, Graphs | np.ndarray):
        return inputs[rows]
    return [inputs[i] for i in rows]


def _benchmark(benchmark: str | Bunch | tuple[Any, Any]) -> Bunch:
    if isinstance(benchmark, str):
        if benchmark not in BENCHMARKS:
            raise ValueError(f"there is no benchmark {benchmark!r}; there are: {', '.join(BENCHMARKS)}, or give (X, y)")
        return BENCHMARKS[benchmark]()
    if isinstance(benchmark, tuple):
        X, y = benchmark
        data = X if isinstance(X, Graphs | pd.DataFrame | list) else np.asarray(X, dtype=float)
        if len(data) != len(y):
            raise ValueError(f"X has {len(data)} rows and y {len(y)}; both must be one per architecture")
        return Bunch(data=data, graphs=data, target=y, splits=None)
    return benchmark


def _splits(bunch: Bunch, splits: str | int | Splits | None, n_archs: int) -> Splits:
    own = bunch.get("splits")
    if isinstance(splits, int) or (splits is None and own is None):
        return folds(n_archs, 10 if splits is None else int(splits))
    if isinstance(splits, Mapping):
        return splits
    if own is None or splits not in (None, "eleven", "paper"):
        raise ValueError(
            f"splits is {splits!r}; it must be 'paper' or 'eleven' (of NAAP-440), a number of parts, or a mapping "
            f"from key to mask"
        )
    return {PAPER: own[PAPER]} if splits == "paper" else own


def _mask(key: object, mask: Any, n: int) -> NDArray[np.bool_]:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (n,) or not 0 < mask.sum() < n:
        raise ValueError(f"split {key!r} must be {n} truth values, True for the test rows and False for the others")
    return mask
