import numpy as np
import pandas as pd
import pytest
from graphs_made import make_graphs

from naaplib.estimators.predictors import tuned
from naaplib.report.guided_study import (
    RANDOM,
    Search,
    Space,
    curves,
    curves_by_cost,
    gains,
    run,
    searches,
    sentence,
    training_costs,
)
from naaplib.search import guided

SIGNAL = np.random.default_rng(0).random(40)
GRAPHS = make_graphs(40, n_nodes=6)
SPACE = Space("made", (GRAPHS, GRAPHS), SIGNAL, SIGNAL + 1, np.arange(1.0, 41), 20)


def test_every_n_has_a_search_and_the_default_one_other_systems() -> None:
    """With the settings of faithful and tuned predictors; without a threshold there are no two stages."""
    found = searches([8, 16], 16, (5, 3), 0.9)
    assert list(found) == ["GCN, N = 8", "GCN, N = 16", "MLP", "CNN", "GCN, two stages", "GCN, faithful"]
    assert [search.n_train for search in found.values()] == [8, 16, 16, 16, 16, 16]
    assert [search.predictor.n_epochs for search in found.values()] == [3, 3, 3, 3, 3, 5]
    assert found["GCN, two stages"].predictor.classify_above == 0.9
    assert "GCN, two stages" not in searches([8], 8, (5, 3), None)
    assert list(searches([8], 8, (5, 3), 0.9, kinds=False)) == ["GCN, N = 8"]


def test_runs_train_their_own_sets_and_then_the_best_predicted() -> None:
    """Each run's training set is drawn from the seed, random search's from another."""
    small = {"n_epochs": 2, "width": 4, "n_hidden": 4}
    orders = run(SPACE, {"a": Search(6, tuned(**small)), "b": Search(9, tuned(**small))}, 3, 5, None, 1)
    assert list(orders) == [RANDOM, "a", "b"]
    assert {name: order.shape for name, order in orders.items()} == dict.fromkeys(orders, (3, 20))
    assert (orders["a"][:, :6] == orders["b"][:, :6]).all()
    assert (orders["a"][:, :6] == guided.random_orders(40, 6, 3, 5)).all()
    assert (orders[RANDOM] == guided.random_orders(40, 20, 3, 6)).all()
    assert all(len(set(row)) == 20 for row in orders["a"].tolist())


def test_curves_are_read_at_budgets() -> None:
    """Two runs by hand: the best seen so far, and what it is worth."""
    orders = {"s": np.array([[0, 1, 2], [2, 1, 0]])}
    space = Space("made", (GRAPHS, GRAPHS), np.array([1.0, 3, 2]), np.array([10.0, 30, 20]), np.array([1.0, 2, 3]), 3)
    table = curves(space, orders, [1, 3])
    assert table[["space", "search", "n_trained", "mean"]].to_numpy().tolist() == [
        ["made", "s", 1, 15.0], ["made", "s", 3, 30.0]
    ]  # fmt: skip
    by_cost = curves_by_cost(space, orders, [1, 3, 6, 7])  # the second run's first training costs 3
    assert by_cost["cost"].tolist() == [3, 6]
    assert by_cost["mean"].tolist() == [(30 + 20) / 2, 30]


def test_gains_are_over_random_search_of_equal_length() -> None:
    """By hand, with runs that agree, so that intervals are points."""
    orders = {RANDOM: np.array([[0, 1]] * 2), "s": np.array([[2, 0]] * 2)}
    space = Space("made", (GRAPHS, GRAPHS), np.array([1.0, 2, 5]), np.array([0.1, 0.2, 0.5]), np.ones(3), 2)
    table = gains(space, orders, [1, 2])
    assert table[["search", "n_trained"]].to_numpy().tolist() == [["s", 1], ["s", 2]]
    np.testing.assert_allclose(table[["found", "random"]], [[0.5, 0.1], [0.5, 0.2]])
    np.testing.assert_allclose(table[["gain", "low", "high"]], [[0.4] * 3, [0.3] * 3])


def test_costs_are_of_all_images_and_epochs() -> None:
    """A million multiply-accumulates, 200 epochs, 50,000 images, three passes' worth: 3e13, in units of 1e18."""
    assert training_costs([1e6], 200).tolist() == pytest.approx([3e-5])


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "beats"), (-0.1, 0.3, "does not clearly beat"), (-0.3, -0.1, "loses to")]
)
def test_the_answer_says_what_the_interval_says(low: float, high: float, verdict: str) -> None:
    """With the numbers of the row asked for."""
    row = {"space": "X", "search": "s", "n_trained": 9, "found": 0.5, "random": 0.25, "gain": 0.25}
    row |= {"low": low, "high": high}
    text = sentence(pd.DataFrame([row, row | {"n_trained": 8, "found": 0.1}]), {"X": ("s", 9)})
    assert f"On X, after 9 trainings, a search guided by a graph network {verdict} random search: **0.5000**" in text
