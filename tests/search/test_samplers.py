from collections import Counter

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from naaplib.search.samplers import N_TRIES, Asked, Between, Draw, Model, OneOf, density_model, draw, others


class Simple:
    """One choice decides the score, the other is noise."""

    def suggest(self, trial) -> tuple[int, int]:
        return trial.suggest_categorical("good", [0, 1, 2, 3, 4, 5]), trial.suggest_int("noise", 0, 99)

    def evaluate(self, configuration: tuple[int, int], budget: int) -> float:
        return float(configuration[0])


def test_a_draw_keeps_what_it_was_asked_and_said() -> None:
    """Both ends of whole numbers come up; weights are proportions."""
    rng = np.random.default_rng(0)
    numbers, letters = Counter(), Counter()
    for _ in range(4000):
        trial = Draw(rng)
        numbers[trial.suggest_int("n", 2, 5)] += 1
        letters[trial.suggest_categorical("c", ["a", "b", "c"], weights=[1, 3, 0])] += 1
        assert list(trial.params) == ["n", "c"]
        assert numbers[trial.params["n"]]
        assert trial.domains == {"n": Between(2, 5), "c": OneOf(("a", "b", "c"))}
    assert set(numbers) == {2, 3, 4, 5}
    assert all(abs(n - 1000) < 4 * 28 for n in numbers.values())
    assert abs(letters["b"] - 3000) < 4 * 28
    assert not letters["c"]


def test_the_model_proposes_what_has_done_well() -> None:
    """After sixty random scores: the best of six options in most proposals, where chance has one in six."""
    rng = np.random.default_rng(0)
    objective = Simple()
    model = Model(objective, rng, random_share=0.0, min_points=8)
    for _ in range(60):
        found = draw(objective, rng)
        model.tell(found, 3, score=objective.evaluate(found.configuration, 3))
    best = np.mean([model.propose().configuration[0] == 5 for _ in range(100)])
    assert best > 0.6


@pytest.mark.parametrize(("share", "n_points"), [(1.0, 60), (0.0, 7)])
def test_without_enough_scores_or_by_its_share_it_proposes_at_random(share: float, n_points: int) -> None:
    """One option in six."""
    rng = np.random.default_rng(0)
    objective = Simple()
    model = Model(objective, rng, random_share=share, min_points=8)
    for number in range(n_points):
        found = draw(objective, rng)
        model.tell(found, 3, score=float(number))
    found = Counter(model.propose().configuration[0] for _ in range(1200))
    assert all(abs(n - 200) < 4 * 13 for n in found.values())


def test_the_largest_budget_with_enough_scores_decides() -> None:
    """Where a small budget praises option 0 and a large one option 5, proposals have option 5; else option 0."""
    for n_large, favourite in ((8, 5), (7, 0)):
        rng = np.random.default_rng(0)
        objective = Simple()
        model = Model(objective, rng, random_share=0.0, min_points=8)
        for _ in range(60):
            found = draw(objective, rng)
            model.tell(found, 1, score=-objective.evaluate(found.configuration, 1))
        n_told = 0
        while n_told < n_large:
            found = draw(objective, rng)
            before = model.n_points[9]
            model.tell(found, 9, score=objective.evaluate(found.configuration, 9))
            n_told += model.n_points[9] - before
        counts = Counter(model.propose().configuration[0] for _ in range(200))
        assert counts[favourite] > counts[5 - favourite]


def test_a_score_is_told_once() -> None:
    """The same configuration at the same budget is passed over."""
    rng = np.random.default_rng(0)
    model = Model(Simple(), rng, random_share=0.0, min_points=8)
    found = draw(Simple(), rng)
    for budget in (1, 1, 3):
        model.tell(found, budget, score=0.5)
    assert model.n_points == {1: 1, 3: 1}


def test_others_differ_until_there_are_none() -> None:
    """All of a few come up, once each; then proposals are tried a stated number of times."""
    calls = []

    class Few:
        def suggest(self, trial) -> int:
            calls.append(1)
            return trial.suggest_int("n", 1, 3)

    rng = np.random.default_rng(0)
    found = [proposal.configuration for proposal in others(lambda: draw(Few(), rng))]
    assert sorted(found) == [1, 2, 3]
    assert len(calls) >= N_TRIES + 3


def trials() -> list:
    """One that draws, and one of Optuna's as objectives are given it."""
    model = Model(Simple(), np.random.default_rng(0), random_share=0.0, min_points=8)
    return [Draw(np.random.default_rng(0)), Asked(density_model(0).ask(), model.key)]


@pytest.mark.parametrize("trial", trials(), ids=["drawn", "asked"])
def test_trials_say_what_there_is(trial) -> None:
    """In place of what other libraries have."""
    with pytest.raises(AttributeError, match="a trial has suggest_categorical and suggest_int, and no suggest_float"):
        trial.suggest_float("rate", 0.001, 0.1, log=True)
    with pytest.raises(TypeError, match="suggest_int takes a name, low and high, and no step: list the values"):
        trial.suggest_int("width", 8, 64, step=8)
    with pytest.raises(ValueError, match="width is to be from 9 to 8"):
        trial.suggest_int("width", 9, 8)
    with pytest.raises(ValueError, match=r"high of width is 8.5; it must be a whole number"):
        trial.suggest_int("width", 1, 8.5)
    with pytest.raises(ValueError, match="width has no choices"):
        trial.suggest_categorical("width", [])


@pytest.mark.parametrize("trial", trials(), ids=["drawn", "asked"])
@pytest.mark.parametrize(
    "choices", [np.arange(8, 65, 8), np.array(["a", "b"]), [np.float64(0.1)], (np.bool_(True), None)]
)
def test_numpy_choices_are_taken_as_python_s(trial, choices) -> None:
    """What is answered is what JSON can hold."""
    found = trial.suggest_categorical(f"choice {choices!r}", choices)
    assert type(found) in (int, str, float, bool, type(None))
    assert found in list(choices)
    assert type(trial.suggest_int("n", np.int64(2), 5.0)) is int


def test_names_in_a_study_are_those_of_their_options() -> None:
    """The first keep their name, others get a number; ranges of numbers share one."""
    model = Model(Simple(), np.random.default_rng(0), random_share=0.0, min_points=8)
    given = [
        CategoricalDistribution(["a"]),
        CategoricalDistribution(["b"]),
        IntDistribution(1, 2),
        IntDistribution(1, 3),
    ]
    for _ in range(2):
        assert [model.key("x", one) for one in given] == ["x", "x (2)", "x (3)", "x (3)"]
    assert model.key("y", given[1]) == "y"


def test_others_are_fit() -> None:
    """What is not is passed over, and not for good."""
    rng, most = np.random.default_rng(0), [5]

    class Few:
        def suggest(self, trial) -> int:
            return trial.suggest_int("n", 1, 9)

    found = others(lambda: draw(Few(), rng), lambda n: n <= most[0])
    assert {next(found).configuration for _ in range(5)} == {1, 2, 3, 4, 5}
    most[0] = 9
    assert sorted(one.configuration for one in found) == [6, 7, 8, 9]
