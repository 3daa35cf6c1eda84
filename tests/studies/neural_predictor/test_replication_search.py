"""Random search restated: exact expectations against plain enumeration and draws, the replay's laws, messages."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from naaplib.studies.neural_predictor import replication_search
from naaplib.tables import derived


@pytest.fixture(scope="module")
def held_out(replication: pd.DataFrame) -> pd.DataFrame:
    """Stored predictions for the 100,000 test cells of NAS-Bench-101."""
    return replication[(replication["dataset"] == "nasbench") & (replication["split"] == "test")]


def test_best_of_equals_enumeration() -> None:
    """The mean of the highest over all draws with replacement, ties among the values included."""
    values = [0.1, 0.4, 0.4, 0.9]
    expected = [np.mean([max(draw) for draw in product(values, repeat=n)]) for n in (1, 2, 5)]
    assert replication_search.best_of(values, [1, 2, 5]).tolist() == pytest.approx(expected)


def test_best_of_ends_at_the_highest() -> None:
    """One draw has the mean, many the maximum; losses with the opposite sign give the lowest."""
    losses = np.array([4.5, 5.0, 7.0])
    assert (-replication_search.best_of(-losses, [1, 10_000])).tolist() == pytest.approx([5.5, 4.5])


@pytest.mark.parametrize("n_drawn", [[], [3, 0]])
def test_budgets_without_a_draw_are_refused(n_drawn: list[int]) -> None:
    """There is no best of nothing."""
    with pytest.raises(ValueError, match=r"budgets are .*; there must be one, and all must be 1 or more"):
        replication_search.best_of([0.5], n_drawn)


def test_random_search_equals_a_plain_loop() -> None:
    """At every budget a fresh mean, and the highest so far; reported at some budgets only, in the given order."""
    values, rng = np.arange(10.0), np.random.default_rng(3)
    curves = []
    for _ in range(4):
        best, curve = -np.inf, []
        for singles in rng.choice(values, (6, 5)):
            best = max(best, singles.mean())
            curve.append(best)
        curves.append(curve)
    found = replication_search.random_search(values, [6, 1], n_singles=5, n_repeats=4, seed=3)
    assert found["n_drawn"].tolist() == [6, 1]
    assert found["mean_of_singles"].tolist() == pytest.approx(np.mean(curves, axis=0)[[5, 0]])
    assert found["mean_of_singles_sd"].tolist() == pytest.approx(np.std(curves, axis=0, ddof=1)[[5, 0]])
    assert found["best_of"].tolist() == replication_search.best_of(values, [6, 1]).tolist()


def test_replay_with_every_candidate_kept() -> None:
    """Without a training sample all that are drawn are trained: random search, whatever is predicted."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    found = replication_search.replay(values, rng.normal(size=50), n_train=0, n_validated=[1, 8], n_runs=4000)
    assert found["n_trained"].tolist() == [1, 8]
    assert found["gain"].abs().max() < 0.06
    assert (found["gain_low"] < found["gain"]).all() and (found["gain"] < found["gain_high"]).all()


def test_replay_of_a_true_and_of_a_false_predictor() -> None:
    """The true order finds the best of all that were drawn; the reverse finds the worst of them, at K = 1."""
    values = np.random.default_rng(0).normal(size=50)
    (true,) = replication_search.replay(values, values, n_train=9, n_validated=[1], n_runs=4000).to_dict("records")
    assert true["random"] == replication_search.best_of(values, [10])[0]
    assert true["found"] == pytest.approx(true["random"], abs=0.03)
    (false,) = replication_search.replay(values, -values, n_train=9, n_validated=[1], n_runs=4000).to_dict("records")
    assert false["found"] == pytest.approx(-replication_search.best_of(-values, [10])[0], abs=0.03)


def test_random_search_again(held_out: pd.DataFrame) -> None:
    """The published curve of random search is the running best of means; the best of as many draws lies far above.

    Published, at 172 and 500 draws: 91.12.
    """
    found = replication_search.random_search(held_out["y_true"], [172, 200, 500])
    assert found["best_of"].round(2).tolist() == [94.54, 94.57, 94.69]
    published = (
        derived.stored("fig7_random_by_samples").set_index("n_samples").loc[[172, 200, 500], "val_avg"].to_numpy()
    )
    assert (np.abs(found["mean_of_singles"] - published) < 2 * found["mean_of_singles_sd"]).all()


def test_the_stored_predictor_finds_no_more_than_random_search(held_out: pd.DataFrame) -> None:
    """At K = 1 nearly a point less, at K = 328 the same, and within 0.1 of the published curve of the predictor."""
    found = replication_search.replay(held_out["y_true"], held_out["y_pred"], n_train=172, n_validated=[1, 100, 328])
    np.testing.assert_allclose(found["found"], [93.6, 94.57, 94.69], atol=0.04)
    assert found["random"].round(2).tolist() == [94.54, 94.62, 94.69]
    assert (found["gain_high"] < 0.01).all()
    published = derived.stored("fig7_np_by_samples").set_index("n_plus_k").loc[500, "np_val_avg"]
    assert found["found"].iloc[-1] == pytest.approx(published, abs=0.1)
