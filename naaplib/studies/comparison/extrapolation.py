"""Prediction beyond the accuracies that were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.architectures.graphs import of_schemes
from naaplib.architectures.schemes import Scheme, enumerate_schemes
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.estimators.predictors.presets import tuned
from naaplib.estimators.regressors import ALGORITHMS
from naaplib.evaluation import protocols
from naaplib.tables import features, naap440

GCN = "GCN"
SEEDS = (0, 1, 2)
N_DIGITS = 5
SCORES = ("kendall_tau", "violations", "mae", "bias")


def splits(measured: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """Select the test rows of three extrapolations, by rank of the accuracy.

    The source is the follow-up study of the table's authors (arXiv 2211.12419).

    Parameters
    ----------
    measured : array_like, shape (n_archs,)
        Accuracies; equal ones keep the order of their rows.

    Returns
    -------
    dict from name to ndarray of bool, shape (n_archs,)
        True for test rows: "better half from worse", "worse half from better", "outer quarters from middle half".

    Examples
    --------
    >>> splits([0.5, 0.8, 0.6, 0.7])["better half from worse"].tolist()
    [False, True, False, True]
    """
    values = np.asarray(measured, dtype=float)
    if values.size < 4:
        raise ValueError(f"{values.size} architectures cannot be divided into quarters; there must be 4 or more")
    rank = np.empty(values.size, dtype=int)
    rank[np.argsort(values, kind="stable")] = np.arange(values.size)
    upper = rank >= values.size // 2
    quarter = values.size // 4
    outer = (rank < quarter) | (rank >= values.size - quarter)
    return {
        "better half from worse": upper, "worse half from better": ~upper, "outer quarters from middle half": outer,
    }  # fmt: skip


def feature_sets(table: pd.DataFrame, schemes: Sequence[Scheme]) -> dict[str, pd.DataFrame]:
    """Return the study's six features, and these with the follow-up's two.

    Parameters
    ----------
    table : DataFrame, shape (n_archs, n_columns)
        As `naaplib.tables.naap440.read` returns it.
    schemes : sequence of Scheme
        Scheme of each row.
    """
    six = features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=0)
    added = {
        "NumSkipConnections": [sum(block.residual for block in scheme) for scheme in schemes],
        "NumPartialRFLayers": [sum(b.stride > 1 and b.kernel_size == 1 for b in scheme) for scheme in schemes],
    }
    return {"six": six, "six and follow-up": six.assign(**{name: np.array(v, float) for name, v in added.items()})}


def regressors(
    table: pd.DataFrame,
    schemes: Sequence[Scheme],
    *,
    seeds: Sequence[int] = (0,),
    algorithms: Sequence[str] = ALGORITHMS,
) -> pd.DataFrame:
    """Score the study's algorithms on the three extrapolations.

    Parameters
    ----------
    table, schemes
        As in `feature_sets`.
    seeds : sequence of int
        Seeds of the algorithms that draw random numbers.
    algorithms : sequence of str

    Returns
    -------
    DataFrame
        As `scored` returns it.
    """
    measured = table["MaxAccuracy"].to_numpy()
    sets: dict[int | str, pd.DataFrame] = dict(feature_sets(table, schemes).items())
    parts: dict[int | str, NDArray[np.bool_]] = dict(splits(measured).items())
    found = protocols.predict(measured, sets, algorithms=algorithms, seeds=seeds, splits=parts)
    return scored(found.rename(columns={"algorithm": "estimator"}))


def estimators(
    table: pd.DataFrame, schemes: Sequence[Scheme], *, seeds: Sequence[int] = (0,),
    names: Sequence[str] = structural.NAAP440, gcn_epochs: int = 200,
) -> pd.DataFrame:  # fmt: skip
    """Score estimators on blocks, on graph features, and the GCN likewise.

    Parameters
    ----------
    table, schemes, seeds
        As in `regressors`.
    names : sequence of str
        Names from ``structural.NAAP440``.
    gcn_epochs : int
        Number of epochs to train the GCN for; 0 leaves it out. Its target is standardised, because normal scores know
        no value beyond those of the training rows.

    Returns
    -------
    DataFrame
        As `scored` returns it.
    """
    measured, X = table["MaxAccuracy"].to_numpy(), structural.scheme_features(schemes)
    graphs, rows = of_schemes(schemes), []
    for split, is_test in splits(measured).items():
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        for seed in seeds:
            predicted: Mapping[tuple[str, str], NDArray[np.float64]] = {
                (name.split(", ")[0], name): structural.make(name, seed=seed)
                .fit(X.iloc[train], measured[train])
                .predict(X.iloc[test])
                for name in names
            }
            if gcn_epochs:
                model = tuned(output="standardised", n_epochs=gcn_epochs, seed=seed)
                values = model.fit(graphs[train], measured[train]).predict(graphs[test])
                predicted = {**predicted, ("graphs", GCN): values}
            for (of, name), values in predicted.items():
                keys = {"split": split, "features": of, "estimator": name, "seed": seed}
                here = {"ModelId": table["ModelId"].to_numpy()[test], "measured": measured[test], "predicted": values}
                rows.append(pd.DataFrame(keys | here))
    return scored(pd.concat(rows, ignore_index=True))


def pieces(*, source: str = "published", seeds: Sequence[int] = SEEDS, gcn_epochs: int = 200) -> list[Piece]:
    """Return the records of extrapolation: the study's algorithms, and the estimators.

    Parameters
    ----------
    source : str
        Table to read, as for `naaplib.tables.naap440.find`.
    seeds : sequence of int
        Seeds of estimators that draw random numbers.
    gcn_epochs : int
        As in `estimators`.
    """

    def table() -> pd.DataFrame:
        return naap440.read(naap440.find(source))

    def of_algorithms() -> pd.DataFrame:
        return regressors(table(), enumerate_schemes(), seeds=seeds).round(N_DIGITS)

    def of_estimators() -> pd.DataFrame:
        return estimators(table(), enumerate_schemes(), seeds=seeds, gcn_epochs=gcn_epochs).round(N_DIGITS)

    settings = {"source": source, "seeds": list(seeds)}
    sources = partial(_files, source)
    return [
        Piece("extrapolation/algorithms", settings, of_algorithms, sources, code=__name__),
        Piece("extrapolation/estimators", settings | {"gcn_epochs": gcn_epochs}, of_estimators, sources, code=__name__),
    ]


def _files(source: str) -> list[Path]:
    return [naap440.find(source)]


def scored(predictions: pd.DataFrame) -> pd.DataFrame:
    """Score predictions of extrapolations, as means over seeds.

    Parameters
    ----------
    predictions : DataFrame
        split, features, estimator, seed, measured, predicted.

    Returns
    -------
    DataFrame
        One row a split, feature set and estimator, in their order: split, features, estimator, n_test, n_seeds,
        kendall_tau (0 for a constant prediction), violations (a tie counts one half), mae, bias (mean of predicted
        minus measured), and the standard deviation over seeds of each, as in kendall_tau_sd; missing for one seed.
    """
    rows = []
    for key, runs in predictions.groupby(["split", "features", "estimator"], sort=False):
        values = pd.DataFrame([_score(run) for _, run in runs.groupby("seed", sort=False)])
        row = dict(zip(("split", "features", "estimator"), key, strict=True))
        row |= {"n_test": len(runs) // len(values), "n_seeds": len(values)}
        row |= values.mean().to_dict() | values.std().add_suffix("_sd").to_dict()
        rows.append(row)
    return pd.DataFrame(rows)


def _score(run: pd.DataFrame) -> dict[str, float]:
    measured, predicted = run["measured"].to_numpy(), run["predicted"].to_numpy()
    tau = metrics.kendall_tau(measured, predicted) if np.ptp(predicted) else 0.0
    counts = tau, metrics.violations(measured, predicted), metrics.mae(measured, predicted)
    return dict(zip(SCORES, (*counts, float((predicted - measured).mean())), strict=True))
