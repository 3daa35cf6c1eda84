import numpy as np
import pytest

from naaplib.search.guided import at_cost, best_so_far, guided_orders, random_orders, summary


def slow_guided(training: list[int], predicted: list[float], n_validated: int) -> list[int]:
    """One run, one choice at a time, without ties."""
    order = list(training)
    for _ in range(n_validated):
        left = [i for i in range(len(predicted)) if i not in order]
        order.append(max(left, key=lambda i: -np.inf if np.isnan(predicted[i]) else predicted[i]))
    return order


def slow_best(order: list[int], signal: np.ndarray, judged: np.ndarray) -> list[float]:
    """One run, one training at a time."""
    found, best = [], None
    for i in order:
        if best is None or signal[i] > signal[best]:
            best = i
        found.append(judged[best])
    return found


def test_random_orders_have_no_repeats_and_continue() -> None:
    """More runs and more trainings continue fewer; runs differ."""
    orders = random_orders(50, 30, n_runs=4, seed=1)
    assert all(len(set(run)) == 30 for run in orders.tolist())
    assert (random_orders(50, 12, n_runs=2, seed=1) == orders[:2, :12]).all()
    assert len({tuple(run) for run in orders.tolist()}) == 4
    assert sorted(random_orders(5, 5, n_runs=1, seed=0)[0]) == [0, 1, 2, 3, 4]
    for n_trained, n_runs in ((51, 1), (0, 1), (5, 0)):
        with pytest.raises(ValueError, match=f"n_trained is {n_trained}, of 50 architectures, and n_runs {n_runs}"):
            random_orders(50, n_trained, n_runs=n_runs, seed=0)


def test_the_best_predicted_of_all_others_are_trained() -> None:
    """Against a loop, with values that are missing."""
    rng = np.random.default_rng(0)
    training = random_orders(40, 7, n_runs=5, seed=2)
    predicted = rng.normal(size=(5, 40))
    predicted[rng.random((5, 40)) < 0.02] = np.nan
    orders = guided_orders(training, predicted, n_validated=20, seed=0)
    assert orders.tolist() == [slow_guided(*run, 20) for run in zip(training.tolist(), predicted.tolist(), strict=True)]
    assert (guided_orders(training, predicted, n_validated=0, seed=0) == training).all()


def test_missing_predictions_come_last_and_training_rows_never() -> None:
    """Even if the training rows are predicted to be best."""
    training, predicted = np.array([[0, 1]]), [[9.0, 8.0, np.nan, 2.0, -np.inf, 3.0]]
    assert guided_orders(training, predicted, n_validated=2, seed=0).tolist() == [[0, 1, 5, 3]]
    assert set(guided_orders(training, predicted, n_validated=4, seed=0)[0, 4:].tolist()) == {2, 4}
    with pytest.raises(ValueError, match="5 architectures are to be validated; there are 4 besides those trained on"):
        guided_orders(training, predicted, n_validated=5, seed=0)
    with pytest.raises(ValueError, match=r"predicted must be \(n_runs, n_archs\), with 1 runs; its shape is \(2, 1\)"):
        guided_orders(training, [[1.0], [2.0]], n_validated=0, seed=0)


def test_equal_predictions_are_taken_in_random_order() -> None:
    """Not by position, which in a benchmark's table is not by chance."""
    training = np.zeros((200, 1), dtype=int)
    first = guided_orders(training, np.ones((200, 11)), n_validated=1, seed=3)[:, 1]
    assert set(first.tolist()) == set(range(1, 11))
    assert (first == guided_orders(training, np.ones((200, 11)), n_validated=1, seed=3)[:, 1]).all()


def test_what_is_found_is_the_best_by_the_signal() -> None:
    """Against a loop with ties; what it is worth may fall when the signal errs."""
    rng = np.random.default_rng(1)
    signal, judged = rng.integers(6, size=30).astype(float), rng.random(30)
    orders = random_orders(30, 25, n_runs=6, seed=0)
    assert best_so_far(orders, signal, judged=judged).tolist() == [
        slow_best(run, signal, judged) for run in orders.tolist()
    ]
    assert best_so_far(np.array([[0, 1, 2]]), [1.0, 3.0, 2.0], judged=[0.5, 0.4, 0.9]).tolist() == [[0.5, 0.4, 0.4]]
    with pytest.raises(ValueError, match="the signal of an architecture that is trained is NaN"):
        best_so_far(np.array([[0]]), [np.nan], judged=[1.0])


def test_curves_are_read_at_what_a_budget_buys() -> None:
    """By hand: trainings of cost 2, 3 and 1; a budget counts what is finished within it."""
    curves, orders = np.array([[0.1, 0.2, 0.3]]), np.array([[1, 0, 2]])
    found = at_cost(curves, orders, costs=[3.0, 2.0, 1.0], budgets=[1, 2, 4.9, 5, 6, 6.1])
    np.testing.assert_array_equal(found, [[np.nan, 0.1, 0.1, 0.2, 0.3, np.nan]])


def test_summaries_are_over_runs() -> None:
    """Mean and sd by hand; the interval holds the mean and narrows to it where runs agree."""
    table = summary(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert table["mean"].tolist() == [2, 5]
    assert table["sd"].tolist() == pytest.approx([np.sqrt(2), 0])
    assert table[["low", "high"]].to_numpy().flatten().tolist() == pytest.approx([1, 3, 5, 5])
    assert summary(np.array([[1.0]]))["sd"].isna().all()
