from collections import Counter

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from naaplib.search.proposals import N_TRIES, Draw, Model, draw, others


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
        letters[trial.suggest_categorical("c", ["a", "b", "c"], [1, 3, 0])] += 1
        assert list(trial.params) == ["n", "c"]
        assert numbers[trial.params["n"]]
        assert trial.distributions == {"n": IntDistribution(2, 5), "c": CategoricalDistribution(["a", "b", "c"])}
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
        model.tell(found, 3, objective.evaluate(found.configuration, 3))
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
        model.tell(found, 3, float(number))
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
            model.tell(found, 1, -objective.evaluate(found.configuration, 1))
        n_told = 0
        while n_told < n_large:
            found = draw(objective, rng)
            before = model.n_points[9]
            model.tell(found, 9, objective.evaluate(found.configuration, 9))
            n_told += model.n_points[9] - before
        counts = Counter(model.propose().configuration[0] for _ in range(200))
        assert counts[favourite] > counts[5 - favourite]


def test_a_score_is_told_once() -> None:
    """The same configuration at the same budget is passed over."""
    rng = np.random.default_rng(0)
    model = Model(Simple(), rng, 0.0, 8)
    found = draw(Simple(), rng)
    for budget in (1, 1, 3):
        model.tell(found, budget, 0.5)
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
