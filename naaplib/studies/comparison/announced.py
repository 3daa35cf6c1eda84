"""The announced predictor without any epoch.

It was fixed before any training with a further seed was looked at. Features, model and hyperparameters were chosen on
26 November 2026, on the 400 training networks of the published split alone: by violations in ten-fold cross-validation
with folds of 40 like the published test set (22.8 a fold, standard deviation 7.0; 24 Gaussian processes with other
features, kernels and priors had 22.7 to 24.0, boosting 26.4), and by Kendall's tau from 43 of the 400 to the others.
Nothing here may change after the commit that announces it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from sklearn.base import BaseEstimator

from naaplib import metrics
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.evaluation import intervals
from naaplib.tables import naap440

DATE = "2026-11-26"
RECORD = "announced predictions"
ESTIMATOR = "blocks, Gaussian process"  # of naaplib.estimators.structural
FEATURES = "naaplib.tables.features.smooth_blocks"
SETTINGS = {
    "model": "Gaussian process, RBF kernel with a length scale for each feature, and white noise",
    "fit": "largest posterior density, at most 200 L-BFGS steps",
    "prior of each log length scale": {"median": 8.0, "sd": 1.5},
    "prior of the log amplitude": {"median": 4.0, "sd": 2.0},
    "prior of the log noise": {"median": 0.01, "sd": 1.0},
    "scaling": "features standardised, constant ones dropped",
    "target": "MaxAccuracy, standardised",
}


def make() -> BaseEstimator:
    """Return the announced estimator, unfitted.

    Its input is what `naaplib.estimators.structural.scheme_features` returns.
    """
    return structural.make(ESTIMATOR)


def predictions() -> pd.DataFrame:
    """Predict the published test networks from the published training networks.

    Returns
    -------
    DataFrame, shape (40, 2)
        ModelId and predicted (fraction), in the order of ModelId. No accuracy of a test network is used.
    """
    table = naap440.read(naap440.find("published"), n_archs=440).set_index("ModelId")
    is_test = table["IsTest"].to_numpy(dtype=bool)
    X = structural.scheme_features(enumerate_schemes()).loc[table.index]
    model = make().fit(X[~is_test], table["MaxAccuracy"].to_numpy()[~is_test])
    found = pd.DataFrame({"ModelId": table.index[is_test], "predicted": model.predict(X[is_test]).round(6)})
    return found.sort_values("ModelId", ignore_index=True)


def pieces() -> list[Piece]:
    """Return the record of the announced predictions."""
    settings = {"date": DATE, "estimator": ESTIMATOR, "features": FEATURES, "n_train": 400} | SETTINGS
    return [Piece(RECORD, settings, predictions, reads=lambda: [naap440.find("published")])]


def score(announced: pd.DataFrame, accuracies: Mapping[str, pd.Series], *, n_resamples: int = 1000) -> pd.DataFrame:
    """Compare announced predictions with several trainings and their mean.

    Parameters
    ----------
    announced : DataFrame
        ModelId and predicted, as `predictions` returns them.
    accuracies : mapping from name of a training to Series
        Accuracy of each network, indexed by ModelId, in any order. Networks that were not announced are ignored.
    n_resamples : int
        Number of bootstrap samples of networks for the 95 % intervals.

    Returns
    -------
    DataFrame
        A row for each training, and one, "mean", for the mean of all if there are several: against, n, mae, mae_low,
        mae_high, kendall_tau, kendall_tau_low, kendall_tau_high, violations, bias (mean of predicted minus measured).
        The last columns compare with the other trainings in place of the prediction: others_mae and others_tau, of the
        mean of the other trainings (missing for the mean).

    Raises
    ------
    ValueError
        If there is no training, or one lacks an announced network.

    Examples
    --------
    >>> announced = pd.DataFrame({"ModelId": [1, 2, 3], "predicted": [0.5, 0.6, 0.7]})
    >>> found = score(announced, {"seed 1": pd.Series([0.52, 0.6, 0.71], index=[1, 2, 3])})
    >>> found[["against", "mae", "kendall_tau", "violations"]].round(3).to_numpy().tolist()
    [['seed 1', 0.01, 1.0, 0.0]]
    """
    if not accuracies:
        raise ValueError("there is no training to compare with: give the accuracies of one or more")
    predicted = announced.set_index("ModelId")["predicted"]
    measured = pd.DataFrame({name: column.reindex(predicted.index) for name, column in accuracies.items()})
    if lacking := measured.columns[measured.isna().any()].tolist():
        missing = predicted.index[measured[lacking[0]].isna()].tolist()
        raise ValueError(f"training {lacking[0]!r} has no accuracy of the announced networks {missing}")
    if several := len(accuracies) > 1:
        measured["mean"] = measured.mean(axis=1)
    rows = []
    for name, column in measured.items():
        row = {"against": name, "n": len(column)} | _compare(column, predicted, n_resamples)
        if several and name != "mean":
            others = measured.drop(columns=[name, "mean"]).mean(axis=1)
            row |= {"others_mae": metrics.mae(column, others), "others_tau": metrics.kendall_tau(column, others)}
        rows.append(row)
    return pd.DataFrame(rows)


def _compare(measured: pd.Series, predicted: pd.Series, n_resamples: int) -> dict[str, float]:
    row: dict[str, float] = {}
    for measure in (metrics.mae, metrics.kendall_tau):
        row[measure.__name__] = measure(measured, predicted)
        low, high = intervals.bootstrap_interval(measured, predicted, metric=measure, n_resamples=n_resamples)
        row |= {f"{measure.__name__}_low": low, f"{measure.__name__}_high": high}
    return row | {"violations": metrics.violations(measured, predicted), "bias": float((predicted - measured).mean())}
