"""Guided searches of whole spaces, many times over, and what they find beside random search."""

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
from naaplib.estimators.predictors.estimator import NeuralPredictor, faithful, tuned
from naaplib.estimators.predictors.runs import predict_many
from naaplib.search import guided
from naaplib.training.devices import resolve

Values = NDArray[np.float64]
RANDOM = "random"
N_TRAINING_IMAGES = 50_000
PASSES = 3  # of a forward pass: forward, and backward at twice its cost


@dataclass(frozen=True)
class Space:
    """Architectures to search, all of whose results are known.

    Parameters
    ----------
    name : str
    encodings : Graphs, Graphs
        As faithful predictors read them, and as tuned ones do.
    signal : ndarray, shape (n_archs,)
        What a search sees of an architecture that it trains, and what predictors are trained on.
    judged : ndarray, shape (n_archs,)
        What it is worth.
    costs : ndarray, shape (n_archs,)
        Of training each, in 10^15 multiply-accumulates.
    n_trained : int
        Largest budget, N + K.
    """

    name: str
    encodings: tuple[Graphs, Graphs]
    signal: Values
    judged: Values
    costs: Values
    n_trained: int


@dataclass(frozen=True)
class Search:
    """A guided search: how many architectures it trains for its predictor, and which that is."""

    n_train: int
    predictor: NeuralPredictor


def training_costs(macs: Any, n_epochs: int) -> Values:
    """10^15 multiply-accumulates of training on CIFAR-10: those of an image, forward and twice backward."""
    return PASSES * N_TRAINING_IMAGES * n_epochs * np.asarray(macs, dtype=float) / 1e15


def searches(
    n_train: Sequence[int],
    default: int,
    n_epochs: tuple[int, int],
    classify_above: float | None,
    kinds: bool = True,
    device: str = "cpu",
) -> dict[str, Search]:
    """Guided searches by name: a tuned GCN for every N, and at the default N the other systems.

    Parameters
    ----------
    n_train : sequence of int
    default : int
        One of n_train.
    n_epochs : (int, int)
        To train faithful and tuned predictors.
    classify_above : float or None
        Threshold of the search in two stages; None: there is none.
    kinds : bool
        Whether there are others than the GCNs of each N.
    device : str
        On which predictors are trained, see `naaplib.training.devices.resolve`.
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
    space: Space, named: Mapping[str, Search], n_runs: int, seed: int, folder: Path | None, n_jobs: int
) -> dict[str, NDArray[np.int64]]:
    """What every search trains, in its order: positions (n_runs, n_trained), random search first.

    Runs are independent: each has a training set of its own. All searches draw alike: those with the same number begin
    with the same architectures, and a guided search departs from random search where its predictor begins.
    """
    n_archs = len(space.signal)
    orders = {RANDOM: guided.random_orders(n_archs, space.n_trained, n_runs, seed)}
    for name, search in named.items():
        training = guided.random_orders(n_archs, search.n_train, n_runs, seed)
        seen = space.encodings[search.predictor.masked]
        predicted = predict_many(search.predictor, seen, space.signal, training, range(n_runs), None, folder, n_jobs)
        orders[name] = guided.guided_orders(training, predicted, space.n_trained - search.n_train, seed)
    return orders


def _check(budgets: Sequence[int], space: Space) -> None:
    """Raise unless every budget is one that the searches of the space reach."""
    if not all(1 <= n <= space.n_trained for n in budgets):
        raise ValueError(f"numbers of trainings must be from 1 to {space.n_trained} on {space.name}, not {budgets}")


def curves(space: Space, orders: Mapping[str, NDArray[np.int64]], budgets: Sequence[int]) -> pd.DataFrame:
    """What each search has found after so many trainings.

    Returns
    -------
    DataFrame
        space, search, n_trained, and mean, sd, low, high as from `guided.summary`.
    """
    _check(budgets, space)
    parts = []
    for name, order in orders.items():
        found = guided.best_so_far(order, space.signal, space.judged)[:, np.array(budgets) - 1]
        parts.append(guided.summary(found).assign(space=space.name, search=name, n_trained=budgets))
    table = pd.concat(parts, ignore_index=True)
    return table[["space", "search", "n_trained", "mean", "sd", "low", "high"]]


def curves_by_cost(space: Space, orders: Mapping[str, NDArray[np.int64]], costs: Sequence[float]) -> pd.DataFrame:
    """As `curves`, after so much training, in 10^15 multiply-accumulates; column cost in the place of n_trained.

    A cost at which a run has trained nothing yet, or which some run does not reach, is left out.
    """
    parts = []
    for name, order in orders.items():
        best = guided.best_so_far(order, space.signal, space.judged)
        found = guided.at_cost(best, order, space.costs, costs)
        known = np.isfinite(found).all(axis=0)
        table = guided.summary(found[:, known])
        parts.append(table.assign(space=space.name, search=name, cost=np.asarray(costs)[known]))
    table = pd.concat(parts, ignore_index=True)
    return table[["space", "search", "cost", "mean", "sd", "low", "high"]]


def gains(space: Space, orders: Mapping[str, NDArray[np.int64]], budgets: Sequence[int]) -> pd.DataFrame:
    """Compare every search with random search after as many trainings, run by run.

    A search that has trained what random search has, since its predictor has not begun, is left out.

    Returns
    -------
    DataFrame
        space, search, n_trained, found (mean over runs), random, and gain (mean difference of runs with the same
        number) with low and high, as from `guided.summary`.
    """
    _check(budgets, space)
    best = {name: guided.best_so_far(order, space.signal, space.judged) for name, order in orders.items()}
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
    """The chapter's answer, from rows of `gains`: for each space a search and a number of trainings."""
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
