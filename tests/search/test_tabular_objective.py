from collections import Counter

import numpy as np
import optuna
import pandas as pd
import pytest

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.search.samplers import Draw
from naaplib.search.tabular_objective import END, TableObjective, found, paths

PATHS = [("a",), ("b", "x"), ("b", "y"), ("b", "y", "z"), ("c", "x")]
SCORES = np.arange(10.0).reshape(5, 2)


def test_training_on_is_reading_on() -> None:
    """By hand."""
    objective = TableObjective(SCORES, PATHS)
    assert [objective.evaluate(i, 2) for i in range(5)] == [1, 3, 5, 7, 9]
    assert objective.evaluate(3, 1) == 6
    for budget in (0, 3):
        with pytest.raises(ValueError, match=rf"budget is {budget}; the table has epochs 1 to 2"):
            objective.evaluate(0, budget)


def test_a_draw_is_uniform_over_rows() -> None:
    """However rows are spread over branches: 5,000 draws of five rows, 28 being one standard deviation."""
    objective, rng = TableObjective(SCORES, PATHS), np.random.default_rng(0)
    counts = Counter(objective.suggest(Draw(rng)) for _ in range(5000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(n - 1000) < 4 * 28 for n in counts.values())


def test_choices_are_named_for_their_place_and_options() -> None:
    """Where there is one option nothing is asked; a path that others continue may end."""
    objective = TableObjective(SCORES, PATHS)
    asked = {}
    rng = np.random.default_rng(0)
    while len(asked) < 5:
        trial = Draw(rng)
        asked[objective.suggest(trial)] = trial.params
    assert asked == {
        0: {"1: a | b | c": "a"},
        1: {"1: a | b | c": "b", "2: x | y": "x"},
        2: {"1: a | b | c": "b", "2: x | y": "y", f"3: {END} | z": END},
        3: {"1: a | b | c": "b", "2: x | y": "y", f"3: {END} | z": "z"},
        4: {"1: a | b | c": "c"},
    }


def test_optuna_can_ask_for_every_scheme() -> None:
    """Each of the 440 has a path of its own, and answers that lead to it; names never come with other options."""
    schemes = enumerate_schemes()
    objective = TableObjective(np.zeros((440, 1)), paths(schemes))
    rng = np.random.default_rng(0)
    seen, options = set(), {}
    for _ in range(6000):
        trial = Draw(rng)
        row = objective.suggest(trial)
        if row not in seen:
            seen.add(row)
            fixed = optuna.trial.FixedTrial(trial.params)
            assert objective.suggest(fixed) == row
            for name, domain in trial.domains.items():
                assert options.setdefault(name, domain) == domain
    assert len(seen) == 440
    assert paths(schemes)[:1] == [
        ("3 x 3, 12, stride 2", "3 x 3, 16, stride 2", "1 x 1, 16, stride 1"),
    ]


def test_what_makes_no_table_is_refused() -> None:
    """The wrong shape; as many paths as rows, all different."""
    with pytest.raises(ValueError, match=r"scores must be \(n_archs, n_epochs\), of one each at least, not \(3,\)"):
        TableObjective([1, 2, 3])
    for wrong in (PATHS[:4], [*PATHS[:4], ("a",)]):
        with pytest.raises(ValueError, match="5 architectures need as many different paths, not 4"):
            TableObjective(SCORES, wrong)


def test_what_is_found_is_the_incumbents_worth() -> None:
    """After so many epochs spent; at a step that costs nothing the later row counts."""
    trace = pd.DataFrame({"spent": [2, 5, 5, 9], "incumbent": ["0", "2", "1", "1"]})
    told = found(trace, [10, 20, 30], at=[1, 2, 4, 5, 8, 100])
    np.testing.assert_array_equal(told, [np.nan, 10, 10, 20, 20, 20])


def test_a_table_is_told_apart_by_its_scores_and_paths() -> None:
    """The same has the same name."""
    names = [
        TableObjective(*given).name for given in ((SCORES, PATHS), (SCORES, PATHS), (SCORES + 1, PATHS), (SCORES,))
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
