"""Predictions of every family of estimators on the same networks and splits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from naaplib import metrics
from naaplib.architectures import graphs, schemes
from naaplib.estimators import learning_curves, regressors, structural
from naaplib.estimators.predictors.estimator import fit_many
from naaplib.estimators.predictors.presets import tuned
from naaplib.evaluation import training_sets
from naaplib.studies.comparison import announced
from naaplib.tables import features, naap440
from naaplib.training.recipe import PUBLISHED

Values = NDArray[np.float64]
SIZE, PROXY, OWN, CURVES = "size", "zero-cost proxy", "own accuracy", "learning curves"
PAPER, BLOCKS, GRAF, GRAPHS = "paper's features", "features of blocks", "GRAF", "graph network"
FAMILIES = (SIZE, PROXY, OWN, CURVES, PAPER, BLOCKS, GRAF, GRAPHS)
PROCESS, SIX = announced.ESTIMATOR, "six features, gradient boosting"
CYCLE = PUBLISHED.cycle  # epochs between restarts of the learning rate
_EXTRAPOLATED = ("pow3", "mmf4")
_LOSSES = "sum of training losses"
_OF_SIX = "Gradient Boosting (N=100)"  # the regressor of `SIX`

Row = tuple[str, str, int, int, Values]  # family, estimator, epochs, networks trained beforehand, predictions


def compare(
    table: pd.DataFrame,
    splits: Mapping[int | str, NDArray[np.bool_]],
    *,
    scores: pd.DataFrame,
    epochs: Sequence[int],
    algorithms: Sequence[str],
    n_graph_epochs: int,
    seed: int,
    untrained: Sequence[str] = structural.NAAP440,
) -> pd.DataFrame:
    """Score every estimator on the test networks of every split of NAAP-440.

    Parameters
    ----------
    table : DataFrame
        As `naaplib.tables.naap440.read` returns it.
    splits : mapping from key to ndarray of bool, shape (n_archs,)
        True for test rows.
    scores : DataFrame
        Zero-cost proxies, one column each, indexed by ModelId.
    epochs : sequence of int
        Numbers of a network's own epochs that an estimator may see, without 0.
    algorithms : sequence of str
        Regressors of `naaplib.estimators.regressors` on the paper's features.
    n_graph_epochs : int
        Epochs of the graph network's own training; 0 leaves it out.
    seed : int
    untrained : sequence of str
        Estimators of `naaplib.estimators.structural` that see no epoch.

    Returns
    -------
    DataFrame
        One row per split and estimator: split, family, estimator, epochs, n_networks (trained beforehand), n (test
        networks), kendall_tau, violations (a tie counts one half), mae (missing for a score that is no accuracy).
    """
    measured, rows = table["MaxAccuracy"].to_numpy(float), []
    scored, alone = list(_untrained(table, scores)), {n: list(_own_epochs(table, n)) for n in epochs}
    X, drawn = scheme_features(table), scheme_graphs(table)
    for key, is_test in splits.items():
        found = [*scored, *_curves(table, alone, ~is_test)]
        found += _regressors(table, epochs, is_train=~is_test, algorithms=algorithms, seed=seed)
        found += _structural(table, X, epochs=epochs, is_train=~is_test, scores=scores, seed=seed, untrained=untrained)
        if n_graph_epochs:
            found.append(_graph_network(measured, drawn, is_train=~is_test, n_epochs=n_graph_epochs, seed=seed))
        for family, name, n_epochs, n_networks, predicted in found:
            pair = measured[is_test], predicted[is_test]
            is_accuracy = family not in (SIZE, PROXY) and name != _LOSSES
            rows.append({
                "split": key, "family": family, "estimator": name, "epochs": n_epochs, "n_networks": n_networks,
                "n": int(is_test.sum()), "kendall_tau": metrics.kendall_tau(*pair),
                "violations": metrics.violations(*pair), "mae": metrics.mae(*pair) if is_accuracy else np.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _untrained(table: pd.DataFrame, scores: pd.DataFrame) -> Iterator[Row]:
    """Sizes and zero-cost proxies, which need no trained network."""
    yield SIZE, "parameters", 0, 0, table["NumParams"].to_numpy(float)
    yield SIZE, "multiply-accumulates", 0, 0, table["NumMACs"].to_numpy(float)
    for name, column in scores.loc[table["ModelId"]].items():
        yield PROXY, str(name), 0, 0, column.to_numpy(float)


def _accuracies(table: pd.DataFrame, n_epochs: int, measure: str = "Accuracy") -> Values:
    return table[[f"e{epoch}{measure}" for epoch in range(1, n_epochs + 1)]].to_numpy(float)


def _own_epochs(table: pd.DataFrame, n_epochs: int) -> Iterator[Row]:
    """Methods that see a network's own epochs, and nothing of other networks."""
    seen = _accuracies(table, n_epochs)
    yield OWN, "highest accuracy so far", n_epochs, 0, learning_curves.best(seen)
    yield CURVES, _LOSSES, n_epochs, 0, -_accuracies(table, n_epochs, "LossMean").sum(1)
    for family in _EXTRAPOLATED:
        predicted = learning_curves.fit(seen, naap440.N_EPOCHS, family=family, cycle=CYCLE)
        yield CURVES, f"extrapolation, {family}", n_epochs, 0, predicted


def _curves(table: pd.DataFrame, alone: Mapping[int, Sequence[Row]], is_train: NDArray[np.bool_]) -> Iterator[Row]:
    """Add to the methods of each number of epochs one that learns from whole curves of other networks."""
    measured = table["MaxAccuracy"].to_numpy(float)
    for n, rows in alone.items():
        yield from rows
        curve = learning_curves.features(_accuracies(table, n))
        model = learning_curves.support_vector().fit(curve[is_train], measured[is_train])
        yield CURVES, "support vectors on curves", n, int(is_train.sum()), model.predict(curve)


def _regressors(
    table: pd.DataFrame, epochs: Sequence[int], is_train: NDArray[np.bool_], algorithms: Sequence[str], seed: int
) -> Iterator[Row]:
    """Fit regressors on the paper's six features and accuracies so far; rows in ascending order, as in its script."""
    measured = table["MaxAccuracy"].to_numpy(float)
    order = np.argsort(measured, kind="stable")
    order = order[is_train[order]]
    for n in (0, *epochs):
        X = features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=n).to_numpy(float)
        for name in algorithms:
            model = regressors.make(name, seed).fit(X[order], measured[order])
            yield PAPER, name, n, len(order), model.predict(X)


def _structural(
    table: pd.DataFrame,
    X: pd.DataFrame,
    epochs: Sequence[int],
    is_train: NDArray[np.bool_],
    scores: pd.DataFrame,
    seed: int,
    untrained: Sequence[str],
) -> Iterator[Row]:
    """Fit estimators on features of architectures: alone, with proxies, and with epochs of the network's own."""
    measured = table["MaxAccuracy"].to_numpy(float)
    n_train = int(is_train.sum())

    def fitted(name: str, more: pd.DataFrame | None = None) -> Values:
        given = X if more is None else X.join(more.set_axis(X.index).add_prefix("smooth:"))
        return _fitted(structural.make(name, seed=seed), given[is_train], measured[is_train]).predict(given)

    for name in untrained:
        yield GRAF if name.startswith(GRAF) else BLOCKS, name, 0, n_train, fitted(name)
    if len(scores.columns):
        ranks = scores.loc[table["ModelId"]].rank()
        yield BLOCKS, f"{PROCESS}, with proxies", 0, n_train, fitted(PROCESS, ranks)
    for n in epochs:
        ends = [epoch for epoch in range(1, n + 1) if epoch % CYCLE == 0 or epoch == n]
        own = pd.DataFrame(_accuracies(table, n)[:, [epoch - 1 for epoch in ends]], columns=[f"e{e}" for e in ends])
        yield BLOCKS, PROCESS, n, n_train, fitted(PROCESS, own)


def _graph_network(
    measured: Values, drawn: graphs.Graphs, is_train: NDArray[np.bool_], n_epochs: int, seed: int
) -> Row:
    rows = np.flatnonzero(is_train)[None]
    model = fit_many(tuned(n_epochs=n_epochs), drawn, targets=measured, training=rows, seeds=[seed])[0]
    return GRAPHS, "GCN", 0, rows.size, np.asarray(model.predict(drawn))


def scheme_features(table: pd.DataFrame) -> pd.DataFrame:
    """Return `structural.scheme_features` of a table's networks, in its order."""
    return structural.scheme_features(schemes.enumerate_schemes()).loc[table["ModelId"]]


def scheme_graphs(table: pd.DataFrame) -> graphs.Graphs:
    """Return the graphs of a table's networks, in its order."""
    every = schemes.enumerate_schemes()
    return graphs.of_schemes([every[i - 1] for i in table["ModelId"]])


def by_size(
    measured: Values,
    X: pd.DataFrame,
    *,
    estimators: Sequence[str],
    n_train: Sequence[int],
    n_draws: int,
    seed: int,
    paper: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score estimators that learn from few networks, over many training sets.

    Parameters
    ----------
    measured : ndarray, shape (n_archs,)
    X : DataFrame, shape (n_archs, n_features)
        Features of `naaplib.estimators.structural`.
    estimators : sequence of str
        Names of `naaplib.estimators.structural`.
    n_train : sequence of int
    n_draws : int
        Training sets of each size. A smaller one is the beginning of a larger one.
    seed : int
        Seed of training sets and estimators.
    paper : DataFrame, optional
        The paper's six features; adds `SIX`.

    Returns
    -------
    DataFrame
        One row per size, estimator and draw: n_train, estimator, draw, n (architectures that were not trained on, all
        of which are ranked), kendall_tau.
    """
    orders, rows = training_sets.split(len(measured), max(n_train), n_validation=0, n_sets=n_draws, seed=seed), []
    for n in n_train:
        for draw, order in enumerate(orders):
            train, test = order[:n], order[n:]
            for name in [*estimators, *([SIX] if paper is not None else [])]:
                given = paper if name == SIX else X
                model = regressors.make(_OF_SIX, seed) if name == SIX else structural.make(name, seed=seed)
                assert given is not None
                predicted = _fitted(model, given.iloc[train], measured[train]).predict(given.iloc[test])
                tau = metrics.kendall_tau(measured[test], predicted)
                rows.append({"n_train": n, "estimator": name, "draw": draw, "n": len(test), "kendall_tau": tau})
    return pd.DataFrame(rows)


def _fitted(model: BaseEstimator, X: pd.DataFrame, y: Values) -> BaseEstimator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound does no harm
        return model.fit(X, y)


def read_table(source: str) -> pd.DataFrame:
    """Read the NAAP-440 table that a notebook's parameter names."""
    return naap440.read(naap440.find(source))
