"""One call for every search: it proposes what the strategies do, resumes, and runs in parallel."""

import json
import math
import random
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import matplotlib.axes
import pandas as pd
import pytest

import naaplib
from naaplib.search import strategies, tuning
from naaplib.search.study import Study, search
from naaplib.training.checkpoints import FolderInUse

SPACE = {"rate": [0.01, 0.03, 0.1], "width": range(8, 65)}
SMALL = {"kernel": [1, 3, 5], "width": [8, 16, 32, 64], "act": ["relu", "silu"]}
METHODS = ("random", "halving", "hyperband", "bohb", "tuning")


def accuracy(params: dict[str, Any], n_epochs: int) -> float:
    """A made accuracy, which more epochs raise."""
    return 1 - 1 / (n_epochs * params.get("rate", 0.1) * params["width"])


class Twin:
    """The same space and accuracy as an objective of the strategies."""

    name = "twin"

    def suggest(self, trial: Any) -> tuple[float, int]:
        return trial.suggest_categorical("rate", SPACE["rate"]), trial.suggest_int("width", 8, 64)

    def evaluate(self, configuration: tuple[float, int], budget: int) -> float:
        return accuracy(dict(zip(SPACE, configuration, strict=True)), budget)


TWINS = {
    "random": lambda: strategies.random_search(Twin(), 120, budget=9, seed=3),
    "halving": lambda: strategies.successive_halving(Twin(), 120, rungs=strategies.brackets(9, 3)[0], seed=3),
    "hyperband": lambda: strategies.hyperband(Twin(), 120, max_budget=9, seed=3),
    "bohb": lambda: strategies.bohb(Twin(), 120, max_budget=9, seed=3),
}


@pytest.mark.parametrize("method", TWINS)
def test_a_study_proposes_what_the_strategy_does(method: str) -> None:
    """Trial by trial, with the strategy's costs and incumbents."""
    trace = TWINS[method]()
    table = search(SPACE, accuracy, budget=120, method=method, max_epochs=9, seed=3).trials_dataframe()
    given = [[rate, width] for rate, width in zip(table["params_rate"], table["params_width"], strict=True)]
    assert given == [json.loads(text) for text in trace["configuration"]]
    assert table["value"].tolist() == trace["score"].tolist()
    assert table["cost"].tolist() == trace["paid"].tolist()
    assert table["spent"].tolist() == trace["spent"].tolist()
    best = [accuracy(dict(zip(SPACE, json.loads(text), strict=True)), 9) for text in trace["incumbent"].tail(1)]
    assert table["best"].tolist()[-1:] == best


def test_tuning_is_the_search_of_the_tool() -> None:
    """The same evaluations as a `tuning.Search` of all combinations, with its budget in epochs."""
    space = tuning.SearchSpace("all", product(*SMALL.values()))
    own = tuning.Search(
        space, lambda e: accuracy(dict(zip(SMALL, e, strict=True)), 9), cost=9,
        evaluate_cheaply=lambda e: accuracy(dict(zip(SMALL, e, strict=True)), 3), cheap_cost=3, seed=2,
        settings=tuning.Settings(n_initial=2, n_initial_cheap=6, n_cheap=3),
    )  # fmt: skip
    trace = own.run(90 / 9)
    study = search(SMALL, accuracy, budget=90, method="tuning", max_epochs=9, seed=2, cheap_epochs=3)
    table = study.trials_dataframe()
    assert table[["params_kernel", "params_width", "params_act"]].apply(tuple, axis=1).tolist() == list(
        trace["encoding"]
    )
    assert table["value"].tolist() == trace["value"].tolist()
    assert table["n_epochs"].tolist() == [{"full": 9, "cheap": 3}[name] for name in trace["fidelity"]]
    assert table["spent"].iloc[-1] <= 90
    assert study.best_params == dict(zip(SMALL, own.best(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_ask_and_tell_are_the_loop(method: str) -> None:
    """A study that is told the values by hand has the trials of one that evaluates them itself."""
    space = SMALL if method == "tuning" else SPACE
    settings = {"budget": 100, "method": method, "max_epochs": 9, "seed": 1}
    study = Study(space, **settings)
    while (trial := study.ask()) is not None:
        study.tell(trial, accuracy(trial.params, trial.n_epochs))
    pd.testing.assert_frame_equal(study.trials_dataframe(), search(space, accuracy, **settings).trials_dataframe())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [0, 1, 7, 10])
def test_a_study_that_is_stopped_goes_on_from_its_file(method: str, stop: int, tmp_path: Path) -> None:
    """With the trials of one that was not, and more of them within a larger budget; nothing is evaluated twice."""
    space = SMALL if method == "tuning" else SPACE
    calls: list[int] = []
    is_patient = threading.Event()

    def dies(params: dict[str, Any], n_epochs: int) -> float:
        if len(calls) == stop and not is_patient.is_set():
            raise KeyboardInterrupt
        calls.append(n_epochs)
        return accuracy(params, n_epochs)

    settings = {"method": method, "max_epochs": 9, "seed": 1}
    straight = search(space, accuracy, budget=130, **settings).trials_dataframe()
    with pytest.raises(KeyboardInterrupt):
        search(space, dies, budget=100, storage=tmp_path / "file.jsonl", **settings)
    is_patient.set()
    resumed = search(space, dies, budget=130, storage=tmp_path / "file.jsonl", **settings).trials_dataframe()
    pd.testing.assert_frame_equal(resumed, straight)
    assert len(calls) == len(straight.drop_duplicates([*straight.filter(like="params"), "n_epochs"]))


@pytest.mark.parametrize("method", METHODS)
def test_a_study_that_was_interrupted_can_be_optimised_again(method: str) -> None:
    """The trial that was being evaluated is evaluated again, and the search is as if nothing had been."""
    space = SMALL if method == "tuning" else SPACE
    is_patient = False

    def dies(params: dict[str, Any], n_epochs: int) -> float:
        if len(study.trials) == 5 and not is_patient:
            raise KeyboardInterrupt
        return accuracy(params, n_epochs)

    settings = {"budget": 100, "method": method, "max_epochs": 9, "seed": 1}
    study = Study(space, dies, **settings)
    with pytest.raises(KeyboardInterrupt):
        study.optimize()
    is_patient = True
    straight = search(space, accuracy, **settings).trials_dataframe()
    pd.testing.assert_frame_equal(study.optimize().trials_dataframe(), straight)


def slow(params: dict[str, Any], n_epochs: int) -> float:
    """The accuracy after a while that differs from trial to trial."""
    time.sleep(random.Random(params["width"]).random() / 100)
    return accuracy(params, n_epochs)


@pytest.mark.parametrize("method", ["random", "halving", "hyperband", "tuning"])
def test_workers_change_nothing_but_the_time(method: str, tmp_path: Path) -> None:
    """Trials and their order do not depend on the number of workers, and one file serves any number."""
    space = SMALL if method == "tuning" else SPACE
    settings = {"method": method, "max_epochs": 9, "seed": 1}
    one = search(space, accuracy, budget=120, **settings).trials_dataframe()
    three = search(space, slow, budget=120, n_jobs=3, **settings).trials_dataframe()
    pd.testing.assert_frame_equal(three, one)
    search(space, slow, budget=70, n_jobs=2, storage=tmp_path / "a.jsonl", **settings)
    again = search(space, slow, budget=120, n_jobs=3, storage=tmp_path / "a.jsonl", **settings).trials_dataframe()
    pd.testing.assert_frame_equal(again, one)


def test_workers_run_side_by_side() -> None:
    """Six evaluations that wait 0.2 s each take less than five of them, with six workers."""

    def waits(params: dict[str, Any], n_epochs: int) -> float:
        time.sleep(0.2)
        return float(params["width"])

    start = time.perf_counter()
    found = search(SPACE, waits, budget=6, method="random", max_epochs=1, n_jobs=6)
    assert len(found.trials) == 6
    assert time.perf_counter() - start < 1.0


def test_workers_may_be_processes() -> None:
    """joblib's own setting decides; the trials are the same."""
    settings = {"budget": 40, "max_epochs": 9, "seed": 1}
    with joblib.parallel_config(backend="loky"):
        found = search(SPACE, accuracy, n_jobs=2, **settings).trials_dataframe()
    pd.testing.assert_frame_equal(found, search(SPACE, accuracy, **settings).trials_dataframe())


def test_bohb_proposes_as_many_at_a_time_as_there_are_workers(tmp_path: Path) -> None:
    """So its file names their number, and another number is refused."""
    settings = {"method": "bohb", "max_epochs": 9, "min_points": 4, "storage": tmp_path / "b.jsonl"}
    study = search(SPACE, accuracy, budget=120, n_jobs=2, **settings)
    assert study.trials_dataframe()["spent"].iloc[-1] <= 120
    with pytest.raises(ValueError, match="n_jobs is 2 there and 1 here"):
        search(SPACE, accuracy, budget=120, **settings)


def test_trials_may_be_told_in_any_order() -> None:
    """Three of a rung at once; the table has them in the order proposed."""
    study = Study(SPACE, budget=60, max_epochs=9, seed=1, n_jobs=3)
    first = [study.ask() for _ in range(3)]
    for trial in reversed(first):
        study.tell(trial.number, accuracy(trial.params, trial.n_epochs))
    while (trial := study.ask()) is not None:
        study.tell(trial, accuracy(trial.params, trial.n_epochs))
    straight = search(SPACE, accuracy, budget=60, max_epochs=9, seed=1)
    pd.testing.assert_frame_equal(study.trials_dataframe(), straight.trials_dataframe())


def test_what_cannot_be_asked_or_told_is_refused() -> None:
    """A trial whose proposal needs a value; a value for a trial that has one; a study without an objective."""
    study = Study(SPACE, budget=60, max_epochs=9)
    trial = study.ask()
    with pytest.raises(RuntimeError, match="trials 0 were asked for and not told; tell them first"):
        study.ask()
    study.tell(trial, 0.5)
    with pytest.raises(ValueError, match="trial 0 does not wait for a value; none do"):
        study.tell(trial, 0.5)
    with pytest.warns(UserWarning, match="the study has no objective"), pytest.raises(RuntimeError):
        Study(SPACE, budget=60).optimize()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:the .*evaluation of:UserWarning")
def test_a_failed_trial_is_recorded_and_never_the_best(method: str) -> None:
    """NaN, infinity or an exception: state FAIL, no value, its cost; the search continues."""

    def fails(params: dict[str, Any], n_epochs: int) -> float:
        if params["width"] > 32:
            raise MemoryError("too wide")
        return accuracy(params, n_epochs)

    space = SMALL if method == "tuning" else SPACE
    table = (study := search(space, fails, budget=120, method=method, max_epochs=9)).trials_dataframe()
    is_wide = table["params_width"] > 32
    assert (table["state"] == is_wide.map({True: "FAIL", False: "COMPLETE"})).all()
    assert (table["value"].isna() == is_wide).all()
    assert is_wide.sum() > 1
    assert study.best_params["width"] <= 32


def test_a_failure_may_be_told() -> None:
    """None is a failure."""
    study = Study(SPACE, budget=9, method="random", max_epochs=9)
    with pytest.warns(UserWarning, match="it was told to have failed"):
        study.tell(study.ask())
    assert study.trials[0].state == "FAIL"
    with pytest.raises(ValueError, match="no trial has succeeded yet"):
        study.best_params  # noqa: B018 - a property, which raises


def test_spaces_may_be_lists_or_functions() -> None:
    """Encodings are given as tuples, what a function returns as it is; a choice may depend on another."""
    encodings = [(kernel, width) for kernel in (1, 3) for width in (8, 16, 32)]

    def suggest(trial: Any) -> dict[str, Any]:
        depth = trial.suggest_int("depth", 1, 3)
        return {"widths": [trial.suggest_categorical(f"width {i}", [8, 16]) for i in range(depth)]}

    for space in (encodings, tuning.SearchSpace("six", encodings)):
        for method in METHODS:
            study = search(space, lambda e, n: 1 - 1 / (n * e[1]), budget=60, method=method, max_epochs=9)
            assert study.best_params[1] == 32
            assert set(study.trials_dataframe()["params"]) <= set(encodings)
    for method in METHODS[:-1]:
        found = search(suggest, lambda p, n: n * sum(p["widths"]), budget=200, method=method, max_epochs=9)
        assert sum(found.best_params["widths"]) > 24
    with pytest.raises(TypeError, match="method='tuning' needs a list"):
        search(suggest, lambda p, n: 0.0, budget=60, method="tuning")


def test_another_search_is_not_resumed(tmp_path: Path) -> None:
    """The message names what differs: space, epochs, seed, code; one file serves one study at a time."""
    settings = {"budget": 30, "max_epochs": 9, "storage": tmp_path / "file.jsonl"}
    for method, space in (("hyperband", SPACE), ("tuning", SMALL)):
        settings |= {"method": method, "storage": tmp_path / f"{method}.jsonl"}
        search(space, accuracy, **settings)
        for changes, text in [
            ({"max_epochs": 18}, "max_epochs is 9 there and 18 here"),
            ({"seed": 1}, "seed is 0 there and 1 here"),
        ]:
            with pytest.raises(ValueError, match=text):
                search(space, accuracy, **settings | changes)
        with pytest.raises(ValueError, match="is of another search: code"):
            search(space, lambda p, n: 0.0, **settings)
        with pytest.raises(ValueError, match="space"):
            search({**space, "width": [8, 16]}, accuracy, **settings)
        with Study(space, accuracy, **settings), pytest.raises(FolderInUse):
            search(space, accuracy, **settings)
        search(space, accuracy, resume=False, **settings)
        assert (tmp_path / f"{method}-1.jsonl").is_file()


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"method": "grid"},
            ValueError,
            "method is 'grid'; it must be one of random, halving, hyperband, bohb, tuning",
        ),
        ({"min_points": 3}, TypeError, "method 'hyperband' has no setting 'min_points'; it has none of its own"),
        ({"storage": "sqlite:///a.db"}, ValueError, "name a file that ends in .jsonl"),
        ({"budget": 0}, ValueError, "budget is 0; it must be at least 1"),
        ({"space": {}}, ValueError, "space has no names"),
        ({"space": {"width": 8}}, TypeError, r"space\['width'\] is 8; give a list of options, or a range"),
        ({"space": 8}, TypeError, "space is a int; give a dict"),
        ({"space": {"a": range(999), "b": range(999)}, "method": "tuning"}, ValueError, "998,001 combinations"),
    ],
)
def test_what_makes_no_search_is_refused(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    """The message says what came and what is allowed."""
    with pytest.raises(error, match=text):
        search(**{"space": SPACE, "objective": accuracy, "budget": 30} | changes)


def test_a_bar_moves_and_ends_at_the_budget(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """It shows epochs and the best value; with progress=False there is none."""
    monkeypatch.setenv("NAAPLIB_PROGRESS", "1")
    study = search(SPACE, accuracy, budget=27, method="random", max_epochs=9)
    shown = capsys.readouterr().err
    assert "27/27" in shown
    assert f"best={study.best_value:.4g}" in shown
    search(SPACE, accuracy, budget=27, method="random", max_epochs=9, progress=False)
    assert capsys.readouterr().err == ""


def test_the_package_is_the_call() -> None:
    """`naaplib.search` is the function of the front door, and the package that it lives in."""
    study = naaplib.search(SPACE, accuracy, budget=30, max_epochs=9)
    assert isinstance(study, naaplib.Study)
    assert naaplib.search.study.Study is Study
    trajectory = study.trajectory()
    assert list(trajectory.columns) == ["method", "spent", "value", "best"]
    assert not math.isnan(trajectory["best"].iloc[-1])


def test_a_study_draws_itself() -> None:
    """Axes of matplotlib, with one line, which ends at the best value."""
    study = search(SPACE, accuracy, budget=30, max_epochs=9)
    axes = study.plot_trajectory()
    assert isinstance(axes, matplotlib.axes.Axes)
    assert axes.lines[0].get_ydata()[-1] == study.best_value
