from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from graphs_made import make_graphs
from sklearn.base import clone

from naaplib.estimators.predictors.presets import faithful, tuned
from naaplib.search import guided_runs
from naaplib.search.guided_runs import RANDOM, Search, Space, searches, sentence, training_costs
from naaplib.training.devices import resolve

SMALL = {"n_epochs": 5, "width": 4, "n_hidden": 4}


def make_space() -> Space:
    """Thirty architectures in two encodings that differ; the signal errs a little."""
    rng = np.random.default_rng(0)
    encodings = make_graphs(30, seed=1), make_graphs(30, n_features=4, seed=2)
    judged = encodings[1].mask.sum(1).numpy() / 10 + rng.random(30) / 20
    return Space(
        "made",
        encodings,
        signal=judged + rng.normal(0, 0.01, 30),
        judged=judged,
        costs=rng.uniform(1, 2, 30),
        n_trained=14,
    )


TINY = Space(
    "tiny",
    (),
    signal=np.array([1.0, 2, 3, 4]),
    judged=np.array([0.1, 0.2, 0.4, 0.3]),
    costs=np.array([1.0, 2, 4, 2]),
    n_trained=3,
)
ORDERS = {RANDOM: np.array([[0, 1, 2], [1, 0, 3]]), "guided": np.array([[2, 0, 1], [2, 3, 0]])}
# judged values of the best so far: random .1 .2 .4 and .2 .2 .3; guided .4 .4 .4 and .4 .3 .3
# trainings that are finished at costs: random 1 3 7 and 2 3 5; guided 4 5 7 and 4 6 7


def test_training_costs_three_forward_passes_of_every_image() -> None:
    """By hand: 100 million multiply-accumulates an image, 50,000 images, 200 epochs, in 10^15."""
    assert training_costs([100e6, 1e6], 200).tolist() == pytest.approx([3, 0.03])


def test_the_searches_by_name() -> None:
    """A tuned GCN for every N, the other systems at the default N, with the epochs of their kind."""
    found = searches([5, 8], 8, n_epochs=(3, 2), classify_above=0.9)
    expected = {
        "GCN, N = 5": (5, tuned(n_epochs=2)), "GCN, N = 8": (8, tuned(n_epochs=2)),
        "MLP": (8, tuned(kind="mlp", n_epochs=2)), "CNN": (8, tuned(kind="cnn", n_epochs=2)),
        "GCN, two stages": (8, tuned(classify_above=0.9, n_epochs=2)), "GCN, faithful": (8, faithful(n_epochs=3)),
    }  # fmt: skip
    assert list(found) == list(expected)
    assert {name: (one.n_train, one.predictor.get_params()) for name, one in found.items()} == {
        name: (n_train, predictor.get_params()) for name, (n_train, predictor) in expected.items()
    }
    assert list(searches([5, 8], 8, n_epochs=(3, 2), classify_above=None)) == [
        name for name in expected if name != "GCN, two stages"
    ]
    assert list(searches([5, 8], 8, n_epochs=(3, 2), classify_above=0.9, kinds=False)) == ["GCN, N = 5", "GCN, N = 8"]


@pytest.mark.parametrize(("asked", "given"), [("auto", str(resolve("auto"))), ("cpu", "cpu"), ("meta", "meta")])
def test_every_predictor_gets_the_device(asked: str, given: str) -> None:
    """Of all kinds; "auto" as what it stands for."""
    found = searches([5, 8], 8, n_epochs=(3, 2), classify_above=0.9, device=asked)
    assert {one.predictor.device for one in found.values()} == {given}


def test_searches_train_what_their_predictor_ranks_highest() -> None:
    """Against a loop that trains one predictor at a time, on the encoding of its kind and the signal."""
    space = make_space()
    named = {"tuned": Search(8, tuned(**SMALL)), "faithful": Search(8, faithful(**SMALL | {"learning_rate": 1e-2}))}
    orders = guided_runs.run(space, named, n_runs=3, seed=5, folder=None, n_jobs=1)
    assert list(orders) == [RANDOM, "tuned", "faithful"]
    for name, seen in (("tuned", space.encodings[1]), ("faithful", space.encodings[0])):
        for run, order in enumerate(orders[name].tolist()):
            rows = order[:8]
            predictor = clone(named[name].predictor).set_params(seed=run)
            predicted = predictor.fit(seen[rows], space.signal[rows]).predict(seen)
            left = [i for i in range(30) if i not in rows]
            chosen = sorted(left, key=lambda i: -predicted[i])[:6]
            assert len(set(order)) == 14
            np.testing.assert_allclose(predicted[order[8:]], predicted[chosen], rtol=1e-5)


def test_runs_with_one_number_begin_alike() -> None:
    """A guided search has trained what random search has until its predictor begins; runs differ from one another."""
    named = {"four": Search(4, tuned(**SMALL)), "eight": Search(8, tuned(**SMALL))}
    orders = guided_runs.run(make_space(), named, n_runs=3, seed=5, folder=None, n_jobs=1)
    assert {name: order.shape for name, order in orders.items()} == {
        RANDOM: (3, 14), "four": (3, 14), "eight": (3, 14)
    }  # fmt: skip
    for name, search in named.items():
        assert (orders[name][:, : search.n_train] == orders[RANDOM][:, : search.n_train]).all()
        assert (orders[name][:, search.n_train] != orders[RANDOM][:, search.n_train]).any()
    assert len({tuple(run) for run in orders[RANDOM][:, :4].tolist()}) == 3
    other = guided_runs.run(make_space(), {}, n_runs=2, seed=5, folder=None, n_jobs=1)
    assert other[RANDOM].tolist() == orders[RANDOM][:2].tolist()


def test_random_phases_look_alike() -> None:
    """Curves of all searches are one before the first predictor begins, so that no difference is one of draws."""
    named = {"four": Search(4, tuned(**SMALL)), "eight": Search(8, tuned(**SMALL))}
    orders = guided_runs.run(make_space(), named, n_runs=3, seed=5, folder=None, n_jobs=1)
    table = guided_runs.curves(make_space(), orders, budgets=[1, 4]).groupby("n_trained")[["mean", "low", "high"]]
    assert (table.max() == table.min()).all(axis=None)
    assert guided_runs.gains(make_space(), orders, budgets=[4, 6])[["search", "n_trained"]].to_numpy().tolist() == [
        ["four", 6]
    ]


def test_curves_are_of_what_was_found_at_each_budget() -> None:
    """By hand: means over two runs, with the interval between them; budgets in the order given."""
    table = guided_runs.curves(TINY, ORDERS, budgets=[1, 3])
    assert list(table) == ["space", "search", "n_trained", "mean", "sd", "low", "high"]
    assert table[["space", "search", "n_trained"]].to_numpy().tolist() == [
        ["tiny", RANDOM, 1], ["tiny", RANDOM, 3], ["tiny", "guided", 1], ["tiny", "guided", 3]
    ]  # fmt: skip
    assert table["mean"].tolist() == pytest.approx([0.15, 0.35, 0.4, 0.35])
    assert table["sd"].tolist() == pytest.approx([0.1 / np.sqrt(2)] * 2 + [0, 0.1 / np.sqrt(2)])
    assert table["low"].tolist() == pytest.approx([0.1, 0.3, 0.4, 0.3])
    assert table["high"].tolist() == pytest.approx([0.2, 0.4, 0.4, 0.4])


def test_curves_by_cost_leave_out_what_is_not_known_of_every_run() -> None:
    """By hand: at cost 1 one random run has trained nothing, at 6 one is over; no guided run is done before 4."""
    table = guided_runs.curves_by_cost(TINY, ORDERS, costs=[1, 2, 3, 5, 6, 8])
    assert list(table) == ["space", "search", "cost", "mean", "sd", "low", "high"]
    assert table[["search", "cost"]].to_numpy().tolist() == [
        [RANDOM, 2], [RANDOM, 3], [RANDOM, 5], ["guided", 5], ["guided", 6]
    ]  # fmt: skip
    assert table["mean"].tolist() == pytest.approx([0.15, 0.2, 0.25, 0.4, 0.35])
    assert guided_runs.curves_by_cost(TINY, ORDERS, costs=[0.5, 9]).empty


def test_gains_are_differences_of_pairs() -> None:
    """By hand: after one training the runs find 0.3 and 0.2 more, after three no more."""
    table = guided_runs.gains(TINY, ORDERS, budgets=[3, 1])
    assert list(table) == ["space", "search", "n_trained", "found", "random", "gain", "low", "high"]
    assert table[["space", "search", "n_trained"]].to_numpy().tolist() == [["tiny", "guided", 3], ["tiny", "guided", 1]]
    assert table["found"].tolist() == pytest.approx([0.35, 0.4])
    assert table["random"].tolist() == pytest.approx([0.35, 0.15])
    assert table["gain"].tolist() == pytest.approx([0, 0.25])
    assert table.loc[1, ["low", "high"]].tolist() == pytest.approx([0.2, 0.3])
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0, 0])  # in both runs both found the same
    same = guided_runs.gains(TINY, {RANDOM: ORDERS[RANDOM][:1], "guided": ORDERS["guided"][:1]}, budgets=[1])
    assert same[["gain", "low", "high"]].to_numpy().tolist() == [pytest.approx([0.3] * 3)]


def test_a_search_that_has_trained_what_random_search_has_is_left_out() -> None:
    """Its gain would be 0 whatever its predictor does."""
    orders = ORDERS | {"late": np.array([[0, 1, 3], [1, 0, 2]])}
    table = guided_runs.gains(TINY, orders, budgets=[2, 3])
    assert table[["search", "n_trained"]].to_numpy().tolist() == [["guided", 2], ["guided", 3], ["late", 3]]


def test_a_search_is_judged_by_what_its_signal_shows() -> None:
    """With another signal the same trainings find something else; what is found stays in the judge's unit."""
    other = replace(TINY, signal=-TINY.signal)
    table = guided_runs.gains(other, ORDERS, budgets=[3])
    assert table[["found", "random"]].to_numpy().tolist() == [pytest.approx([0.1, 0.1])]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.03, "beats"),
        (-0.03, -0.01, "loses to"),
        (-0.01, 0.03, "does not clearly beat"),
        (0.0, 0.03, "does not clearly beat"),
    ],
)
def test_the_sentence_says_who_wins(low: float, high: float, verdict: str) -> None:
    """Only where the interval excludes 0; rows of other searches, budgets and spaces are not told."""
    columns = ["space", "search", "n_trained", "found", "random", "gain", "low", "high"]
    rows = [
        ("A", "GCN", 10, 0.5, 0.5, 0.0, -1, 1),
        ("A", "MLP", 20, 0.5, 0.5, 0.0, -1, 1),
        ("A", "GCN", 20, 0.94, 0.92, 0.02, low, high),
        ("B", "GCN", 20, 0.7, 0.6, 0.1, 0.05, 0.15),
    ]
    text = sentence(pd.DataFrame(rows, columns=columns), {"A": ("GCN", 20), "B": ("GCN", 20)})
    assert text == (
        f"On A, after 20 trainings, a search guided by a graph network {verdict} random search: accuracy **0.9400** "
        "against 0.9200. On B, after 20 trainings, a search guided by a graph network beats random search: accuracy "
        "**0.7000** against 0.6000."
    )


@pytest.mark.parametrize("read", [guided_runs.curves, guided_runs.gains])
@pytest.mark.parametrize("n", [0, 4])
def test_budgets_that_no_search_reaches_are_refused(read, n: int) -> None:
    """Of none, and of more than are trained: the error says what there is."""
    with pytest.raises(ValueError, match=rf"from 1 to 3 on tiny, not \[2, {n}\]"):
        read(TINY, ORDERS, budgets=[2, n])
