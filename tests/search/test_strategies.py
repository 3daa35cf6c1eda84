import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from naaplib.search import strategies
from naaplib.search.journal import Journal
from naaplib.search.strategies import bohb, brackets, hyperband, random_search, successive_halving
from naaplib.search.tabular_objective import TableObjective
from naaplib.sources import ROOT
from naaplib.training.checkpoints import FolderInUse

RNG = np.random.default_rng(0)
FINAL = RNG.random(60)
CURVES = FINAL[:, None] + RNG.normal(0, 0.3, (60, 27)) / np.sqrt(np.arange(1, 28))
PATHS = [(f"a{i % 3}", f"b{i // 3 % 4}", f"c{i // 12}") for i in range(60)]
RUNGS = [(9, 1), (3, 3), (1, 9)]
Search = Callable[..., pd.DataFrame]
SEARCHES: dict[str, Search] = {
    "random": lambda objective, total, **more: random_search(objective, total, budget=9, **more),
    "halving": lambda objective, total, **more: successive_halving(objective, total, rungs=RUNGS, **more),
    "hyperband": lambda objective, total, **more: hyperband(objective, total, max_budget=27, eta=3, **more),
    "bohb": lambda objective, total, **more: bohb(objective, total, max_budget=27, eta=3, min_points=4, **more),
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
    trace = hyperband(rounded, 1_000, max_budget=27, eta=3, seed=3)
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
    trace = random_search(objective(), 9 * 25, budget=9, seed=0)
    assert len(trace) == len(set(trace["configuration"])) == 25
    assert set(trace["budget"]) == {9}
    best = trace.loc[trace["score"].idxmax(), "configuration"]
    assert trace["incumbent"].iloc[-1] == best


def test_bohb_without_a_model_is_random() -> None:
    """With every proposal random, or never enough scores for a model: its first bracket is as long as HyperBand's."""
    for more in ({"random_share": 1.0}, {"min_points": 10**6}):
        trace = bohb(objective(), 300, max_budget=27, eta=3, seed=0, **more)
        assert trace.groupby("bracket").size()[0] == 27 + 9 + 3 + 1
    with pytest.raises(ValueError, match="random_share is 2, min_points 8; from 0 to 1, and at least 1"):
        bohb(objective(), 300, max_budget=27, random_share=2)


def test_optunas_voice_is_left_as_it_was() -> None:
    """Its verbosity is a global setting."""
    before = optuna.logging.get_verbosity()
    bohb(objective(), 100, max_budget=27)
    assert optuna.logging.get_verbosity() == before


def test_each_budget_has_its_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named for it; scores are told to the study of their budget, each configuration once."""
    studies = {}
    create = optuna.create_study

    def note(**given):
        studies[given["study_name"]] = create(**given)
        return studies[given["study_name"]]

    monkeypatch.setattr(optuna, "create_study", note)
    trace = bohb(objective(), 400, max_budget=27, eta=3, seed=0)
    assert set(studies) == {f"budget {budget}" for budget in (1, 3, 9, 27)}
    for budget in (1, 3, 9, 27):
        done = [t.value for t in studies[f"budget {budget}"].trials if t.state == optuna.trial.TrialState.COMPLETE]
        scored = trace[trace["budget"] == budget].drop_duplicates("configuration")["score"]
        assert done == scored.tolist()
    defaults = strategies.bohb.__kwdefaults__
    assert (defaults["random_share"], defaults["min_points"]) == (1 / 3, 8)


class Mine:
    """An objective of a user's: stateless, but for what a test makes of it."""

    name = "mine"

    def __init__(self, rate: float = 0.1) -> None:
        self.rate = rate

    def suggest(self, trial) -> tuple[int]:
        return (trial.suggest_int("width", 0, 30),)

    def evaluate(self, configuration: tuple[int], budget: int) -> float:
        return configuration[0] * self.rate / budget


USER = """
from naaplib.search import strategies
import sys, time

class Objective:
    name = "rates"

    def suggest(self, trial):
        return trial.suggest_categorical("rate", [0.01, 0.03, 0.1]), trial.suggest_int("width", 8, 64)

    def evaluate(self, configuration, budget):
        rate, width = configuration
        print("evaluated")
        time.sleep(PAUSE)
        return 1 - 1 / (budget * rate * width)

table = strategies.hyperband(Objective(), total_budget=40, max_budget=9, trace="search.jsonl")
print(table.to_csv())
"""


def program(folder: Path, text: str = USER) -> subprocess.Popen:
    """A user's program, started in a folder."""
    (folder / "program.py").write_text(text.replace("PAUSE", "0"))
    return subprocess.Popen([sys.executable, "program.py"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def test_a_program_started_again_resumes_and_an_edited_one_is_refused(tmp_path: Path) -> None:
    """Comments may change; what it evaluates may not, and the message has both lines."""
    first, _ = program(tmp_path).communicate()
    assert "evaluated" in first
    again, _ = program(tmp_path, USER.replace("rate, width =", "# a comment\n        rate, width =")).communicate()
    assert "evaluated" not in again
    assert first.replace("evaluated\n", "") == again
    before = (tmp_path / "search.jsonl").read_bytes()
    _, error = program(tmp_path, USER.replace("1 - 1 /", "2 - 1 /")).communicate()
    assert (
        "code, Objective.evaluate is '    return 1 - 1 / (budget * rate * width)' there and '    return 2 - 1" in error
    )
    assert (tmp_path / "search.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", SEARCHES)
def test_another_objective_or_setting_is_refused(name: str, tmp_path: Path) -> None:
    """Named with both values; resume=False begins afresh beside the old."""
    path = tmp_path / "search.jsonl"
    first = SEARCHES[name](Mine(), 60, trace=path)
    for objective, more, named in (
        (Mine(0.2), {}, "values, Mine.rate is 0.1 there and 0.2 here"),
        (Mine(), {"seed": 1}, "seed is 0 there and 1 here"),
    ):
        with pytest.raises(ValueError, match=f"is of another search: {named}"):
            SEARCHES[name](objective, 60, trace=path, **more)
    found = SEARCHES[name](Mine(0.2), 60, trace=path, resume=False)
    assert found["score"].max() == 2 * first["score"].max()
    pd.testing.assert_frame_equal(SEARCHES[name](Mine(), 60, trace=tmp_path / "search-1.jsonl"), first)


def test_two_processes_do_not_share_a_trace(tmp_path: Path) -> None:
    """One goes on, the other is refused; the trace is that of one."""
    path = tmp_path / "search.jsonl"
    straight = hyperband(Mine(), 40, max_budget=9)

    class Nested(Mine):
        def evaluate(self, configuration: tuple[int], budget: int) -> float:
            with pytest.raises(FolderInUse, match="another search is at work"):
                hyperband(self, 40, max_budget=9, trace=path)
            return super().evaluate(configuration, budget)

    pd.testing.assert_frame_equal(hyperband(Nested(), 40, max_budget=9, trace=path), straight)
    context = multiprocessing.get_context("spawn")
    with Journal(path, {}, resume=False):
        other = context.Process(target=search_elsewhere, args=[path])
        other.start()
        other.join()
    assert other.exitcode == 3


def search_elsewhere(path: Path) -> None:
    """End with 3 if the trace is in use."""
    try:
        hyperband(Mine(), 40, max_budget=9, trace=path)
    except FolderInUse:
        sys.exit(3)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_configuration_that_fails_does_not_end_the_search(name: str, tmp_path: Path) -> None:
    """It is as bad as can be, and a second start has the same table without evaluating it."""

    class Fragile(Mine):
        def evaluate(self, configuration: tuple[int], budget: int) -> float:
            if configuration[0] % 5 == 4:
                raise MemoryError("out of memory")
            return super().evaluate(configuration, budget)

    with pytest.warns(
        UserWarning, match=r"the evaluation of \[\d+\] after \d+ epochs failed: MemoryError: out of memory"
    ):
        table = SEARCHES[name](Fragile(), 200, trace=tmp_path / "trace")
    failed = table["configuration"].map(lambda text: json.loads(text)[0] % 5 == 4)
    assert failed.any()
    assert (table["score"] == -np.inf).eq(failed).all()
    assert not table["incumbent"].iloc[5:].isin(table.loc[failed, "configuration"]).any()
    pd.testing.assert_frame_equal(SEARCHES[name](Fragile(), 200, trace=tmp_path / "trace"), table)


def test_a_fault_in_the_objective_stops_the_search(tmp_path: Path) -> None:
    """At the third evaluation; mended, all are evaluated again."""
    path = tmp_path / "trace"

    class Wrong(Mine):
        def evaluate(self, configuration: tuple[int], budget: int) -> float:
            return configuration.width

    stops = pytest.raises(RuntimeError, match=r"the first 3 .* failed by AttributeError.*has no attribute 'width'")
    with pytest.warns(UserWarning, match="failed: AttributeError"), stops:
        hyperband(Wrong(), 40, max_budget=9, trace=path)
    with pytest.raises(RuntimeError), pytest.warns(UserWarning, match="the table has epochs 1 to 27"):
        hyperband(objective(), 4_000, max_budget=81, trace=tmp_path / "table")
    Wrong.evaluate = Mine.evaluate
    pd.testing.assert_frame_equal(hyperband(Wrong(), 40, max_budget=9, trace=path), hyperband(Mine(), 40, max_budget=9))


@pytest.mark.parametrize("search", [hyperband, bohb])
def test_what_is_trained_is_never_asked_for_less(search: Search) -> None:
    """Of an objective with live networks; one that remembers is asked, as its scores are the same."""

    class Live(Mine):
        remembers = False

        def __init__(self) -> None:
            super().__init__()
            self.trained: dict[tuple, int] = {}
            self.n_wrong = 0

        def evaluate(self, configuration: tuple[int], budget: int) -> float:
            self.n_wrong += self.trained.get(configuration, 0) > budget
            self.trained[configuration] = budget
            return 1 - 1 / (budget + configuration[0])

    live = Live()
    table = search(live, 600, max_budget=27)
    assert live.n_wrong == 0
    assert (table.groupby("configuration")["budget"].diff().dropna() >= 0).all()
    asked = Live()
    asked.remembers = True
    search(asked, 600, max_budget=27)
    assert asked.n_wrong


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: random_search(o, 10, budget=0), "budget is 0; it must be at least 1"),
        (lambda o: random_search(o, 10, budget=-2), "budget is -2; it must be at least 1"),
        (lambda o: random_search(o, 10, budget=1.5), "budget is 1.5; it must be a whole number"),
        (lambda o: random_search(o, 10, budget=1, seed=None), "seed is None; it must be a whole number"),
        (lambda o: random_search(o, 10, budget=1, seed=-1), "seed is -1; it must be at least 0"),
        (lambda o: successive_halving(o, 10, rungs=[]), "there must be one at least"),
        (lambda o: successive_halving(o, 10, rungs=[(9, 3), (3, 1)]), "budgets must not fall"),
        (lambda o: successive_halving(o, 10, rungs=[(9, 0)]), "budget is 0; it must be at least 1"),
        (lambda o: successive_halving(o, 10, rungs=[(0, 1)]), "n_configurations is 0; it must be at least 1"),
        (lambda o: hyperband(o, 10, max_budget=9, eta=2.5), "eta is 2.5; it must be a whole number"),
        (lambda o: hyperband(o, float("nan"), max_budget=9), "total_budget is nan"),
        (lambda o: bohb(o, 10, max_budget=9.5), "max_budget is 9.5; it must be a whole number"),
        (lambda o: bohb(o, 10, max_budget=9, random_share=float("nan")), "random_share is nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused(call: Callable, message: str) -> None:
    """In words of what they are for."""
    with pytest.raises(ValueError, match=message):
        call(Mine())


@pytest.mark.parametrize("wrong", [Mine, object(), "mine"])
def test_what_is_no_objective_is_refused(wrong: object) -> None:
    """A class among them."""
    with pytest.raises(TypeError, match="it must be an object with a name, suggest and evaluate"):
        hyperband(wrong, 10, max_budget=9)


def test_whole_numbers_are_python_s_whatever_they_were(tmp_path: Path) -> None:
    """numpy's, and floats without a fraction: one trace serves all."""
    first = hyperband(Mine(), 40, max_budget=9, eta=3, seed=2, trace=tmp_path / "trace")
    for max_budget, eta, seed in ((np.int64(9), 3.0, np.uint8(2)), (9.0, np.int8(3), 2.0)):
        found = hyperband(Mine(), np.int64(40), max_budget=max_budget, eta=eta, seed=seed, trace=tmp_path / "trace")
        pd.testing.assert_frame_equal(found, first)
        assert {type(n) for n in found["budget"].tolist()} == {int}


def test_bohb_takes_choices_that_depend_on_others() -> None:
    """Options, kinds and ranges that differ under one name; the model learns of them all the same."""

    class Conditional(Mine):
        def suggest(self, trial) -> tuple:
            kind = trial.suggest_categorical("kind", ["a", "b", "c"])
            if kind == "c":
                return kind, trial.suggest_int("size", 1, 9), 50
            size = trial.suggest_categorical("size", np.array([1, 2]) if kind == "a" else ["x", "y", "z"])
            return kind, size, trial.suggest_int("q", 0, 50 if kind == "a" else 20)

        def evaluate(self, configuration: tuple, budget: int) -> float:
            return float(configuration[2] + 100 * (configuration[1] == "y"))

    table = bohb(Conditional(), 400, max_budget=9, seed=0)
    late = table["configuration"].iloc[len(table) // 2 :].map(json.loads)
    assert set(late.str[0]) == {"a", "b", "c"}
    assert json.loads(table["incumbent"].iloc[-1])[1] == "y"
