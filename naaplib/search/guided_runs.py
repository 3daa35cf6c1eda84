"""Repeated guided searches of whole spaces, compared with random search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.architectures.graphs import Graphs
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.presets import faithful, tuned
from naaplib.estimators.predictors.runs import predict_many
from naaplib.search import guided
from naaplib.training.devices import resolve

Values = NDArray[np.float64]
RANDOM = "random"
N_TRAINING_IMAGES = 50_000
PASSES = 3  # forward passes: one forward, and a backward pass at twice its cost


@dataclass(frozen=True)
class Space:
    """Benchmark of architectures to search, with all results known.

    Parameters
    ----------
    name : str
    encodings : Graphs, Graphs
        As replicated predictors read the architectures, and as improved ones do.
    signal : ndarray, shape (n_archs,)
        Validation accuracy: seen by a search once an architecture is trained, and the predictors' target.
    judged : ndarray, shape (n_archs,)
        Test accuracy.
    costs : ndarray, shape (n_archs,)
        Cost of training each architecture, in 10^15 multiply-accumulates.
    n_trained : int
        Largest budget in trainings, N + K.
    """

    name: str
    encodings: tuple[Graphs, Graphs]
    signal: Values
    judged: Values
    costs: Values
    n_trained: int


@dataclass(frozen=True)
class Search:
    """A guided search: the size of its predictor's training set, and the predictor."""

    n_train: int
    predictor: NeuralPredictor


def training_costs(macs: Any, n_epochs: int) -> Values:
    """Return the cost of a training on CIFAR-10, in 10^15 multiply-accumulates.

    An image costs one forward pass, and a backward pass of twice that cost.
    """
    return PASSES * N_TRAINING_IMAGES * n_epochs * np.asarray(macs, dtype=float) / 1e15


def searches(
    n_train: Sequence[int],
    default: int,
    *,
    n_epochs: tuple[int, int],
    classify_above: float | None,
    kinds: bool = True,
    device: str = "cpu",
) -> dict[str, Search]:
    """Return guided searches by name: an improved GCN for every N, and others.

    The other systems are searched at the default N.

    Parameters
    ----------
    n_train : sequence of int
    default : int
        One of `n_train`.
    n_epochs : (int, int)
        To train replicated and improved predictors.
    classify_above : float or None
        Threshold of the two-stage search; None leaves that search out.
    kinds : bool
        True for all systems, False for the GCNs of each N alone.
    device : str
        Device for training predictors, see `.devices.resolve`.
    """
    where = str(resolve(device))
    make = partial(tuned, n_epochs=n_epochs[1], device=where)
    found = {f"GCN, N = {n}": Search(n, make()) for n in n_train}
    if kinds:
        found["MLP"] = Search(default, make(kind="mlp"))
        found["CNN"] = Search(default, make(kind="cnn"))
        if classify_above is not None:
            found["GCN, two stages"] = Search(default, make(classify_above=classify_above))
        found["GCN, faithful"] = Search(default, faithful(n_epochs=n_epochs[0], device=where))
    return found


def run(
    space: Space, named: Mapping[str, Search], *, n_runs: int, seed: int, folder: Path | None, n_jobs: int
) -> dict[str, NDArray[np.int64]]:
    """Run every search, random search first, and return orders (n_runs, n_trained).

    An order has the indices of the architectures that a run trains. Runs are independent: each has its own training
    set. Runs with the same number begin with the same architectures in all searches. A guided search departs from
    random search where its predictor begins.
    """
    n_archs = len(space.signal)
    orders = {RANDOM: guided.random_orders(n_archs, space.n_trained, n_runs=n_runs, seed=seed)}
    for name, search in named.items():
        training = guided.random_orders(n_archs, search.n_train, n_runs=n_runs, seed=seed)
        seen = space.encodings[search.predictor.masked]
        predicted = predict_many(
            search.predictor,
            seen,
            targets=space.signal,
            training=training,
            seeds=range(n_runs),
            asked=None,
            folder=folder,
            n_jobs=n_jobs,
        )
        orders[name] = guided.guided_orders(
            training, predicted, n_validated=space.n_trained - search.n_train, seed=seed
        )
    return orders


def _check(budgets: Sequence[int], space: Space) -> None:
    """Raise unless the searches of the space reach every budget."""
    if not all(1 <= n <= space.n_trained for n in budgets):
        raise ValueError(f"numbers of trainings must be from 1 to {space.n_trained} on {space.name}, not {budgets}")


def curves(space: Space, orders: Mapping[str, NDArray[np.int64]], *, budgets: Sequence[int]) -> pd.DataFrame:
    """Return the best architecture's accuracy after each number of trainings.

    Returns
    -------
    DataFrame
        space, search, n_trained, and mean, sd, low, high as in `.guided.summary`.
    """
    _check(budgets, space)
    parts = []
    for name, order in orders.items():
        found = guided.best_so_far(order, space.signal, judged=space.judged)[:, np.array(budgets) - 1]
        parts.append(guided.summary(found).assign(space=space.name, search=name, n_trained=budgets))
    table = pd.concat(parts, ignore_index=True)
    return table[["space", "search", "n_trained", "mean", "sd", "low", "high"]]


def curves_by_cost(space: Space, orders: Mapping[str, NDArray[np.int64]], *, costs: Sequence[float]) -> pd.DataFrame:
    """Return `curves` against training cost, in 10^15 multiply-accumulates.

    The column cost replaces n_trained. A cost is left out if a run has trained nothing by then or does not reach it.
    """
    parts = []
    for name, order in orders.items():
        best = guided.best_so_far(order, space.signal, judged=space.judged)
        found = guided.at_cost(best, order, costs=space.costs, budgets=costs)
        known = np.isfinite(found).all(axis=0)
        table = guided.summary(found[:, known])
        parts.append(table.assign(space=space.name, search=name, cost=np.asarray(costs)[known]))
    table = pd.concat(parts, ignore_index=True)
    return table[["space", "search", "cost", "mean", "sd", "low", "high"]]


def gains(space: Space, orders: Mapping[str, NDArray[np.int64]], *, budgets: Sequence[int]) -> pd.DataFrame:
    """Compare every search with random search after as many trainings, run by run.

    A search is left out while its predictor has not begun, since it has then trained what random search has.

    Returns
    -------
    DataFrame
        space, search, n_trained, found (mean over runs), random, and gain (mean difference of runs with the same
        number) with low and high, as in `.guided.summary`.
    """
    _check(budgets, space)
    best = {name: guided.best_so_far(order, space.signal, judged=space.judged) for name, order in orders.items()}
    rows = []
    for n in budgets:
        for name, found in best.items():
            if np.array_equal(orders[name][:, :n], orders[RANDOM][:, :n]):
                continue
            told = guided.summary((found - best[RANDOM])[:, [n - 1]]).iloc[0]
            row = {"space": space.name, "search": name, "n_trained": n, "found": found[:, n - 1].mean()}
            row |= {"random": best[RANDOM][:, n - 1].mean()}
            rows.append(row | {"gain": told["mean"], "low": told["low"], "high": told["high"]})
    return pd.DataFrame(rows)


def sentence(table: pd.DataFrame, spaces: Mapping[str, tuple[str, int]]) -> str:
    """Return the chapter's answer, from rows of `gains`.

    `spaces` maps the name of each space to a search and a number of trainings.
    """
    texts = []
    for name, (search, n_trained) in spaces.items():
        rows = table[(table["space"] == name) & (table["n_trained"] == n_trained)].set_index("search")
        row = rows.loc[search]
        verdict = "beats" if row["low"] > 0 else "loses to" if row["high"] < 0 else "does not clearly beat"
        texts.append(
            f"On {name}, after {n_trained} trainings, a search guided by a graph network {verdict} random search: "
            f"accuracy **{row['found']:.4f}** against {row['random']:.4f}."
        )
    return " ".join(texts)
