import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from naaplib.search import strategies
from naaplib.search.strategies import bohb, brackets, hyperband, random_search, successive_halving
from naaplib.search.table import TableObjective

RNG = np.random.default_rng(0)
FINAL = RNG.random(60)
CURVES = FINAL[:, None] + RNG.normal(0, 0.3, (60, 27)) / np.sqrt(np.arange(1, 28))
PATHS = [(f"a{i % 3}", f"b{i // 3 % 4}", f"c{i // 12}") for i in range(60)]
RUNGS = [(9, 1), (3, 3), (1, 9)]
Search = Callable[..., pd.DataFrame]
SEARCHES: dict[str, Search] = {
    "random": lambda objective, total, **more: random_search(objective, total, 9, **more),
    "halving": lambda objective, total, **more: successive_halving(objective, total, RUNGS, **more),
    "hyperband": lambda objective, total, **more: hyperband(objective, total, 27, 3, **more),
    "bohb": lambda objective, total, **more: bohb(objective, total, 27, 3, min_points=4, **more),
}


def objective() -> TableObjective:
    """Sixty made learning curves, on which early epochs mislead."""
    return TableObjective(CURVES, PATHS)


def test_brackets_are_the_published_ones() -> None:
    """Li et al. (2018, table 1): R = 81, eta = 3."""
    assert brackets(81, 3) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_brackets_of_the_feature_history_study() -> None:
    """R = 128, eta = 2: first rungs by Algorithm 1; each rung is half of the one before, for twice the epochs."""
    found = brackets(128, 2)
    assert [rungs[0] for rungs in found] == [
        (128, 1), (74, 2), (43, 4), (26, 8), (16, 16), (11, 32), (8, 64), (8, 128)
    ]  # fmt: skip
    for rungs in found:
        for (n, budget), (n_next, budget_next) in pairwise(rungs):
            assert budget_next == 2 * budget
            assert n_next == rungs[0][0] // (budget_next // rungs[0][1])
            assert n_next <= n


@pytest.mark.parametrize("eta", [2, 3, 5, 10])
def test_powers_of_eta_have_as_many_brackets_as_they_should(eta: int) -> None:
    """Where a floating-point logarithm would be one off, as with 243 and 3 or 1000 and 10, and one below and above."""
    for power in range(1, 8):
        assert [len(brackets(eta**power + more, eta)) for more in (-1, 0, 1)] == [power, power + 1, power + 1]


def test_other_budgets_are_rounded_down() -> None:
    """R = 90, the epochs of NAAP-440; a single epoch is one bracket."""
    assert [budget for _, budget in brackets(90, 3)[0]] == [1, 3, 10, 30, 90]
    assert brackets(1, 3) == [[(1, 1)]]
    with pytest.raises(ValueError, match="max_budget is 0 and eta 1; they must be at least 1 and 2"):
        brackets(0, 1)


def test_a_rung_promotes_the_best_of_the_one_before() -> None:
    """Slow twin of every bracket: sorted by score, of equals the one proposed first; no one is proposed twice in it."""
    rounded = TableObjective(CURVES.round(1), PATHS)  # so that there are equals
    trace = hyperband(rounded, 1_000, 27, 3, seed=3)
    plans = brackets(27, 3)
    whole = trace[trace["bracket"] < trace["bracket"].max()]
    assert whole["bracket"].nunique() > len(plans)
    for number, part in whole.groupby("bracket"):
        rungs = [rows["configuration"].tolist() for _, rows in part.groupby("rung")]
        scores = [dict(zip(rows["configuration"], rows["score"], strict=True)) for _, rows in part.groupby("rung")]
        plan = plans[number % len(plans)]
        assert [len(rung) for rung in rungs] == [n for n, _ in plan]
        assert part.groupby("rung")["budget"].unique().str[0].tolist() == [budget for _, budget in plan]
        assert len(set(rungs[0])) == len(rungs[0])
        for rung, (before, promoted) in enumerate(pairwise(rungs)):
            ranked = sorted(before, key=lambda name: (-scores[rung][name], rungs[0].index(name)))
            assert promoted == ranked[: len(promoted)]


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("total", [1, 40, 333])
def test_the_budget_is_kept_and_nothing_is_paid_twice(name: str, total: int) -> None:
    """What a configuration has cost is the largest budget it was trained to."""
    trace = SEARCHES[name](objective(), total, seed=1)
    assert trace["paid"].sum() <= total
    assert (trace["spent"] == trace["paid"].cumsum()).all()
    by = trace.groupby("configuration")
    assert (by["paid"].sum() == by["budget"].max()).all()
    rows = [json.loads(text) for text in trace["configuration"]]
    assert trace["score"].tolist() == [CURVES[i, b - 1] for i, b in zip(rows, trace["budget"], strict=True)]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_seed_has_one_trace_and_another_seed_another(name: str) -> None:
    """Digit for digit; and a shorter search is the beginning of a longer."""
    first, again, other = (SEARCHES[name](objective(), 300, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert first["configuration"].tolist() != other["configuration"].tolist()
    short = SEARCHES[name](objective(), 100, seed=1)
    pd.testing.assert_frame_equal(short, first[: len(short)], check_exact=True)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_killed_at_any_moment_goes_on(name: str, tmp_path: Path) -> None:
    """With the trace of one that was not; only what is missing is evaluated."""

    class Counting(TableObjective):
        n_calls, dies_at = 0, 1_000

        def evaluate(self, configuration: int, budget: int) -> float:
            if self.n_calls == self.dies_at:
                raise KeyboardInterrupt
            self.n_calls += 1
            return super().evaluate(configuration, budget)

    straight = SEARCHES[name](objective(), 120, seed=4)
    n = len(straight[["configuration", "budget"]].drop_duplicates())
    for dies_at in {0, 1, 5, n // 2, n - 1}:
        path = tmp_path / f"{dies_at}"
        table = Counting(CURVES, PATHS)
        table.dies_at = dies_at
        with pytest.raises(KeyboardInterrupt):
            SEARCHES[name](table, 120, seed=4, trace=path)
        table = Counting(CURVES, PATHS)
        found = SEARCHES[name](table, 120, seed=4, trace=path)
        pd.testing.assert_frame_equal(found, straight, check_exact=True)
        assert table.n_calls == n - dies_at


@pytest.mark.parametrize("name", SEARCHES)
def test_a_space_that_is_used_up_ends_the_search(name: str) -> None:
    """With four configurations and no end of budget: all are trained as far as the search goes, and no further."""
    trace = SEARCHES[name](TableObjective(CURVES[:4]), 10**6, seed=0)
    assert set(trace["configuration"]) == {"0", "1", "2", "3"}
    assert trace["spent"].iloc[-1] <= 4 * 27


def test_random_search_trains_none_twice() -> None:
    """Each for its budget; what it would return is the best of them."""
    trace = random_search(objective(), 9 * 25, 9, seed=0)
    assert len(trace) == len(set(trace["configuration"])) == 25
    assert set(trace["budget"]) == {9}
    best = trace.loc[trace["score"].idxmax(), "configuration"]
    assert trace["incumbent"].iloc[-1] == best


def test_bohb_without_a_model_is_random() -> None:
    """With every proposal random, or never enough scores for a model: its first bracket is as long as HyperBand's."""
    for more in ({"random_share": 1.0}, {"min_points": 10**6}):
        trace = bohb(objective(), 300, 27, 3, seed=0, **more)
        assert trace.groupby("bracket").size()[0] == 27 + 9 + 3 + 1
    with pytest.raises(ValueError, match="random_share is 2, min_points 8; from 0 to 1, and at least 1"):
        bohb(objective(), 300, 27, random_share=2)


def test_optunas_voice_is_left_as_it_was() -> None:
    """Its verbosity is a global setting."""
    before = optuna.logging.get_verbosity()
    bohb(objective(), 100, 27)
    assert optuna.logging.get_verbosity() == before


def test_each_budget_has_its_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named for it; scores are told to the study of their budget, each configuration once."""
    studies = {}
    create = optuna.create_study

    def note(**given):
        studies[given["study_name"]] = create(**given)
        return studies[given["study_name"]]

    monkeypatch.setattr(optuna, "create_study", note)
    trace = bohb(objective(), 400, 27, 3, seed=0)
    assert set(studies) == {f"budget {budget}" for budget in (1, 3, 9, 27)}
    for budget in (1, 3, 9, 27):
        done = [t.value for t in studies[f"budget {budget}"].trials if t.state == optuna.trial.TrialState.COMPLETE]
        scored = trace[trace["budget"] == budget].drop_duplicates("configuration")["score"]
        assert done == scored.tolist()
    assert strategies.bohb.__defaults__[-2:] == (1 / 3, 8)
