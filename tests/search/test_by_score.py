"""Search by score: Algorithm 1, many runs of it at once, and what they find."""

import math

import numpy as np
import pandas as pd
import pytest

from naaplib.search import by_score
from naaplib.search.by_score import best_of_random, choose

NAN = math.nan


def made_pool(n_archs: int = 40) -> pd.DataFrame:
    """Accuracies, a score with seven values and gaps, and seconds, by identifier."""
    rng = np.random.default_rng(3)
    pool = pd.DataFrame({"accuracy": rng.uniform(0.5, 0.9, n_archs), "n_relu_units": rng.integers(0, 7, n_archs)})
    pool["wot"] = np.where(np.arange(n_archs) % 5 == 0, NAN, pool["accuracy"] + rng.normal(0, 0.1, n_archs))
    pool["seconds"] = rng.uniform(0.1, 0.3, n_archs)
    return pool.assign(nothing=0.0).set_index(pd.Index([f"arch-{i}" for i in range(n_archs)]))


def test_best_of_random_by_hand() -> None:
    """The first of the two best wins, and all are scored once, in their order."""
    asked = []
    scores = {"a": -3.0, "b": -1.0, "c": NAN, "d": -1.0, "e": -2.0}

    def score(architecture: str) -> float:
        asked.append(architecture)
        return scores[architecture]

    assert best_of_random(iter("abcde"), score) == ("b", -1.0)
    assert asked == list("abcde")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([-5.0, -4.0], 1, id="negative scores can win"),
        pytest.param([0.0, -4.0], 0, id="a score of 0 can win"),
        pytest.param([NAN, 1.0, NAN], 1, id="no score never wins, be it first or last"),
        pytest.param([-math.inf, -9.0], 1, id="minus infinity is no score"),
        pytest.param([1.0, math.inf], 1, id="infinity is the highest"),
    ],
)
def test_what_the_printed_algorithm_gets_wrong(scores: list[float], expected: int) -> None:
    """Any score beats none: the best score does not begin at 0."""
    assert best_of_random(range(len(scores)), scores.__getitem__)[0] == expected


@pytest.mark.parametrize("scores", [[], [NAN], [NAN, -math.inf]])
def test_search_without_any_score_says_so(scores: list[float]) -> None:
    """An error, not an architecture that nothing speaks for."""
    with pytest.raises(ValueError, match="none of the architectures drawn has a score"):
        best_of_random(range(len(scores)), scores.__getitem__)


@pytest.mark.parametrize("column", ["accuracy", "n_relu_units", "wot"])
def test_runs_at_once_are_the_algorithm_run_by_run(column: str) -> None:
    """Slow twin: on its own draws each run of `choose` finds what `best_of_random` does, ties and gaps included."""
    scores = made_pool()[column].to_numpy(float)
    winners, draws = choose(scores, n_samples=8, n_runs=300, seed=0)
    expected = [best_of_random(draw, lambda i: scores[i])[0] for draw in draws]
    assert winners.tolist() == expected


def test_random_ties_win_with_a_score_as_high() -> None:
    """The other rule finds as high a score in every run, among those drawn, and elsewhere in some."""
    scores = made_pool()["n_relu_units"].to_numpy(float)
    first, draws = choose(scores, 8, n_runs=300, seed=0)
    any_of_them, same_draws = choose(scores, 8, n_runs=300, seed=0, ties="random")
    assert same_draws.tolist() == draws.tolist()
    assert scores[any_of_them].tolist() == scores[first].tolist()
    assert (draws == any_of_them[:, None]).any(axis=1).all()
    assert (any_of_them != first).any()


def test_constant_score_takes_the_first_drawn() -> None:
    """Law: with nothing to choose by, the algorithm returns the first architecture that it drew."""
    winners, draws = choose(np.zeros(50), n_samples=9, n_runs=100, seed=1)
    assert winners.tolist() == draws[:, 0].tolist()


def test_constant_score_with_random_ties_takes_any() -> None:
    """Law: each of the places in the draw wins equally often, within four standard errors."""
    n_archs, n_samples, n_runs = 1_000_000, 4, 4000  # so many that hardly any is drawn twice
    winners, draws = choose(np.zeros(n_archs), n_samples, n_runs=n_runs, seed=1, ties="random")
    counts = (draws == winners[:, None]).sum(axis=0)
    spread = math.sqrt(n_runs * 1 / 4 * 3 / 4)
    assert np.abs(counts - n_runs / 4).max() < 4 * spread


def test_draws_are_uniform_and_with_replacement() -> None:
    """Every architecture is drawn about equally often, and some twice in one run."""
    _, draws = choose(np.arange(10.0), n_samples=10, n_runs=2000, seed=0)
    counts = np.bincount(draws.ravel(), minlength=10)
    assert np.abs(counts - 2000).max() < 4 * math.sqrt(20_000 * 0.1 * 0.9)
    assert np.mean([len(set(draw)) == 10 for draw in draws.tolist()]) < 0.01  # by chance 10! / 10^10 = 0.0004


def test_chance_of_the_best_by_hand() -> None:
    """The best of 10 architectures is found by 1 - 0.9^5 = 41% of runs with N = 5, within four standard errors."""
    winners, _ = choose(np.arange(10.0), n_samples=5, n_runs=5000, seed=2)
    expected = 1 - 0.9**5
    assert abs((winners == 9).mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / 5000)


@pytest.mark.parametrize("ties", by_score.TIES)
def test_the_seed_decides(ties: str) -> None:
    """The same seed finds the same; another draws otherwise."""
    scores = made_pool()["n_relu_units"]
    one, again, other = (choose(scores, 8, n_runs=50, seed=seed, ties=ties) for seed in (0, 0, 1))
    assert [part.tolist() for part in one] == [part.tolist() for part in again]
    assert one[1].tolist() != other[1].tolist()


def test_a_longer_search_continues_a_shorter_one() -> None:
    """With the same seed, the first draws of N = 100 are those of N = 10, so that the best score never falls."""
    scores = made_pool(200)["accuracy"].to_numpy()
    (few, draws_of_10), (many, draws_of_100) = (choose(scores, n, n_runs=60, seed=0) for n in (10, 100))
    assert draws_of_100[:, :10].tolist() == draws_of_10.tolist()
    assert (scores[many] >= scores[few]).all()
    assert (scores[many] > scores[few]).any()


def test_architectures_without_a_score_never_win() -> None:
    """Drawn they are, found they are not."""
    winners, draws = choose([NAN, -7.0, -math.inf, NAN], n_samples=60, n_runs=100, seed=0)
    assert (set(winners.tolist()), set(draws.ravel().tolist())) == ({1}, {0, 1, 2, 3})


@pytest.mark.parametrize(
    ("scores", "numbers", "message"),
    [
        ([1.0, 2.0], (0, 5), "n_samples is 0, n_runs 5; both must be at least 1"),
        ([1.0, 2.0], (3, 0), "n_samples is 3, n_runs 0; both must be at least 1"),
        ([NAN, -math.inf], (3, 5), r"in 5 of 5 runs none of the 3 architectures .* as 2 of 2 are"),
        ([], (3, 5), r"scores has shape \(0,\)"),
        ([[1.0, 2.0]], (3, 5), r"scores has shape \(1, 2\)"),
    ],
)
def test_what_cannot_be_searched_is_refused(scores: list, numbers: tuple[int, int], message: str) -> None:
    """What came and what is allowed."""
    with pytest.raises(ValueError, match=message):
        choose(scores, numbers[0], n_runs=numbers[1], seed=0)


def test_unknown_rule_of_ties_is_refused() -> None:
    """What came and what is allowed."""
    with pytest.raises(ValueError, match=r"ties is 'last'; it must be one of \('first', 'random'\)"):
        choose([1.0, 2.0], 3, n_runs=5, seed=0, ties="last")


def test_search_is_choose_in_a_table() -> None:
    """Slow twin: every row from `choose` and the pool, one run at a time; scores and baselines on the same draws."""
    pool = made_pool()
    actual = by_score.search(
        pool, "accuracy", scores={"wot": "seconds", "n_relu_units": "nothing"}, n_samples=[6, 12], n_runs=20, seed=4
    )
    rows = []
    for n in (6, 12):
        for name in ("wot", "n_relu_units", "random", "best of N"):
            column = {"random": "nothing", "best of N": "accuracy"}.get(name, name)  # a constant takes the first drawn
            winners, draws = choose(pool[column], n, n_runs=20, seed=4)
            cost = {"wot": pool["seconds"], "best of N": pool["seconds"] * NAN}.get(name, pool["nothing"])
            for k in range(20):
                found = pool.index[winners[k]]
                seconds = sum(cost.iloc[i] for i in draws[k])
                rows.append((name, n, k + 1, found, pool.loc[found, "accuracy"], seconds))
    expected = pd.DataFrame(rows, columns=["score", "n_samples", "run", "found", "accuracy", "seconds"])
    pd.testing.assert_frame_equal(actual, expected)


def test_no_score_beats_the_best_drawn() -> None:
    """Law: run by run, nothing exceeds "best of N"; the accuracy itself as a score attains it."""
    pool = made_pool().assign(oracle=lambda table: table["accuracy"])
    runs = by_score.search(
        pool, "accuracy", scores={"oracle": "seconds", "wot": "seconds"}, n_samples=[5, 10], n_runs=100, seed=0
    )
    wide = runs.pivot_table(index=["n_samples", "run"], columns="score", values="accuracy")
    assert (wide["oracle"] == wide["best of N"]).all()
    assert (wide.le(wide["best of N"], axis=0)).all(axis=None)
    assert wide["wot"].mean() > wide["random"].mean()


def test_summary_by_hand() -> None:
    """Two runs each: means, sds with n - 1, a further column by what was found, and NaN where a run's value is."""
    runs = pd.DataFrame({
        "score": ["wot", "wot", "best of N", "best of N"],
        "n_samples": 10,
        "run": [1, 2, 1, 2],
        "found": ["b", "a", "b", "b"],
        "accuracy": [0.5, 0.75, 0.75, 0.75],
        "seconds": [2.0, 4.0, NAN, 4.0],
    })  # fmt: skip
    sizes = pd.Series({"a": 1.0, "b": 3.0}, name="size")
    actual = by_score.summary(runs.join(sizes, on="found"), ["accuracy", "seconds", "size"])
    expected = pd.DataFrame({
        "n_samples": [10, 10],
        "score": ["wot", "best of N"],
        "n_runs": [2, 2],
        "accuracy_mean": [0.625, 0.75],
        "accuracy_sd": [0.125 * math.sqrt(2), 0.0],
        "seconds_mean": [3.0, NAN],
        "seconds_sd": [math.sqrt(2), NAN],
        "size_mean": [2.0, 3.0],
        "size_sd": [math.sqrt(2), 0.0],
    })  # fmt: skip
    pd.testing.assert_frame_equal(actual, expected)


def test_what_a_table_must_have() -> None:
    """Accuracies without gaps, labels without duplicates, scores, and none of them with the name of a baseline."""
    pool = made_pool()
    cases = {
        "1 of 40 values of accuracy are missing": pool.assign(accuracy=pool["accuracy"].where(pool.index != "arch-7")),
        "index has duplicates": pool.rename(index={"arch-1": "arch-2"}),
        "wot: in 5 of 5 runs none of the 3": pool.assign(wot=NAN),
    }
    for message, table in cases.items():
        with pytest.raises(ValueError, match=message):
            by_score.search(table, "accuracy", scores={"wot": "seconds"}, n_samples=[3], n_runs=5, seed=0)
    with pytest.raises(ValueError, match=r"columns \['random'\] have the name of a baseline"):
        by_score.search(
            pool.assign(random=1.0), "accuracy", scores={"random": "seconds"}, n_samples=[3], n_runs=5, seed=0
        )
