"""Architecture tuning: rounds, costs, failures, going on after a kill, and that it is better than chance."""

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.parallel import one_thread
from naaplib.search import tuning
from naaplib.search.acquisition import KINDS, normal_scores, propose
from naaplib.search.journal import Journal
from naaplib.search.rounds import cheap_design
from naaplib.training.checkpoints import FolderInUse

ENCODINGS = [(a, b, c) for a in range(8) for b in range(8) for c in ("x", "y", "z")]
SETTINGS = tuning.Settings(n_initial=3, n_initial_cheap=6, n_initial_alone=5, n_cheap=4)


def worth(encoding: tuple[int, int, str]) -> float:
    """Highest at (5, 2, "y")."""
    a, b, c = encoding
    return -((a - 5) ** 2) - (b - 2) ** 2 + 2 * (c == "y")


def cheap(encoding: tuple[int, int, str]) -> float:
    """Another unit, and somewhat another order."""
    return 100 + worth(encoding) / 10 + 0.1 * (encoding[2] == "x")


@pytest.fixture(scope="module")
def space() -> tuning.SearchSpace:
    """192 architectures."""
    return tuning.SearchSpace("by hand", ENCODINGS)


def two(space: tuning.SearchSpace, **given: object) -> tuning.Search:
    """A search with two fidelities, a cheap evaluation costing a quarter."""
    arguments = {"evaluate": worth, "cost": 40, "evaluate_cheaply": cheap, "cheap_cost": 10, "settings": SETTINGS}
    return tuning.Search(space, **(arguments | given))


def test_rounds_and_costs_by_hand(space: tuning.SearchSpace) -> None:
    """Three full and six cheap ones drawn, then rounds of one full and four cheap, as far as the budget goes."""
    trace = two(space).run(8.8)
    assert "".join(name[0] for name in trace["fidelity"]) == "fffcccccc" + "fcccc" * 2
    assert trace["step"].tolist() == list(range(1, 20))
    is_full = trace["fidelity"] == "full"
    assert trace["spent"].tolist() == np.where(is_full, 1, 0.25).cumsum().tolist()
    assert trace["encoding"].tolist() == [ENCODINGS[row] for row in trace["position"]]
    expected = [worth(e) if f else cheap(e) for e, f in zip(trace["encoding"], is_full, strict=True)]
    assert trace["value"].tolist() == expected
    assert trace["best"].tolist() == trace["value"].where(is_full).cummax().ffill().tolist()
    for _, part in trace.groupby("fidelity"):
        assert part["position"].is_unique
    seen: set[int] = set()
    for row in trace.itertuples():
        assert row.fidelity == "full" or row.position not in seen  # nothing cheap of what is known already
        seen.add(row.position)


def test_a_larger_budget_goes_on(space: tuning.SearchSpace) -> None:
    """As if it had been the budget from the start, also where it ended within a round; a smaller one does nothing."""
    straight = two(space).run(12)
    search = two(space)
    for budget in (0.2, 2.6, 7.3, 3, 12):
        search.run(budget)
    pd.testing.assert_frame_equal(search.trace(), straight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_is_fit_and_propose(space: tuning.SearchSpace, kind: str) -> None:
    """A slow twin of the first round that is not drawn: all members fitted, then those looked at that it drew."""
    settings = tuning.Settings(n_initial_alone=5, n_full=3, acquisition=kind)
    trace = tuning.Search(space, worth, seed=7, settings=settings).run(8)
    rows, values = trace["position"].to_numpy()[:5], normal_scores(trace["value"][:5])
    rng = np.random.default_rng([7, 1])
    drawn = rng.integers(5, size=2)[:1] if kind == "thompson" else range(5)
    with one_thread():
        predicted = space.ensemble.fit(rows, values).predict()[list(drawn)]
    expected = propose(predicted, rows, n_proposals=3, kind=kind, best=values.max(), seed=int(rng.integers(2**32)))
    assert trace["position"].tolist()[5:] == expected.tolist()


def test_it_finds_the_best_sooner_than_random_search(space: tuning.SearchSpace) -> None:
    """Of 192 in under 30 evaluations, where random search needs 96 in the median."""
    steps = []
    for seed in range(3):
        trace = tuning.Search(space, worth, seed=seed).run(40)
        steps.append(int((trace["best"] < worth((5, 2, "y"))).sum()) + 1)
    assert np.median(steps) < 30


class Killed(BaseException):
    """The process is gone."""


def test_a_search_killed_at_any_evaluation_goes_on(space: tuning.SearchSpace, tmp_path: Path) -> None:
    """With a torn line behind: the same trace, in the table and in the file, and nothing evaluated twice."""
    calls: list[tuple] = []
    world = SimpleNamespace(dies_at=10**6)  # what the objective meets, and is no part of it

    def counted(encoding: tuple, value: float) -> float:
        if len(calls) == world.dies_at:
            raise Killed
        calls.append(encoding)
        return value

    def search(folder: Path) -> pd.DataFrame:
        calls.clear()
        return two(space, folder=folder, evaluate=lambda e: counted(e, worth(e)),
                   evaluate_cheaply=lambda e: counted(e, cheap(e))).run(8)  # fmt: skip

    straight = search(tmp_path / "whole")
    lines = (tmp_path / "whole" / "trace.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == len(straight) + 1
    for n in range(len(straight)):
        folder = tmp_path / str(n)
        world.dies_at = n
        with pytest.raises(Killed):
            search(folder)
        with (folder / "trace.jsonl").open("ab") as stream:
            stream.write(lines[n + 1][:5])
        world.dies_at = 10**6
        pd.testing.assert_frame_equal(search(folder), straight)
        assert len(calls) == len(straight) - n
        assert (folder / "trace.jsonl").read_bytes() == b"".join(lines)


def test_failures_are_recorded_and_survived(space: tuning.SearchSpace, tmp_path: Path) -> None:
    """Exceptions, running out of memory, NaN and infinity: each with its text, paid for, not tried again."""
    faults = {0: lambda: 1 / 0, 1: lambda: math.nan, 2: lambda: math.inf, 3: lambda: [].pop()}

    def faulty(encoding: tuple[int, int, str]) -> float:
        if encoding[2] == "x":
            return faults[encoding[0] % 4]()
        if encoding[2] == "z":
            raise MemoryError("too large")
        return worth(encoding)

    with pytest.warns(UserWarning, match=r"the full evaluation of .* failed: "):
        trace = two(space, evaluate=faulty, folder=tmp_path, seed=2).run(20)
    full = trace[trace["fidelity"] == "full"]
    assert full["position"].is_unique
    failed = full[full["failure"] != ""]
    assert len(failed) > 2
    assert failed["value"].isna().all()
    assert failed["encoding"].map(lambda encoding: encoding[2] != "y").all()
    assert full["value"].notna().eq(full["encoding"].map(lambda encoding: encoding[2] == "y")).all()
    texts = {"MemoryError: too large", "ZeroDivisionError: division by zero", "its value is nan", "its value is inf"}
    assert set(failed["failure"]) <= texts | {"IndexError: pop from empty list"}
    again = two(space, evaluate=faulty, folder=tmp_path, seed=2)
    pd.testing.assert_frame_equal(again.trace(), trace)
    assert again.best()[2] == "y"
    assert worth(again.best()) == full["value"].max()
    assert again.predict()["mean"].notna().all()


def test_where_nothing_succeeds_there_is_no_best(space: tuning.SearchSpace) -> None:
    """The search goes on to the end of its budget nevertheless."""
    search = tuning.Search(space, lambda _: math.nan, settings=SETTINGS)
    with pytest.raises(ValueError, match="no full evaluation has succeeded yet"):
        search.best()
    with pytest.raises(ValueError, match="0 full evaluations are done; predictions need 2"):
        search.predict()
    with pytest.warns(UserWarning, match="its value is nan"):
        assert len(search.run(8)) == 8
    with pytest.raises(ValueError, match="no full evaluation has succeeded yet"):
        search.best()


def test_small_spaces_are_searched_to_the_end() -> None:
    """Every architecture once at each fidelity at most, every one fully; more budget changes nothing."""
    small = tuning.SearchSpace("small", ENCODINGS[:12])
    search = two(small)
    trace = search.run(1000)
    full = trace[trace["fidelity"] == "full"]
    assert sorted(full["position"]) == list(range(12))
    assert trace.loc[trace["fidelity"] == "cheap", "position"].is_unique
    assert search.best() == max(ENCODINGS[:12], key=worth)
    pd.testing.assert_frame_equal(search.run(2000), trace)


def test_side_by_side_is_the_same(space: tuning.SearchSpace) -> None:
    """Threads evaluate a round's proposals; the trace is in the order proposed."""
    pd.testing.assert_frame_equal(two(space).run(9, workers=3), two(space).run(9))


def test_predictions_follow_the_values(space: tuning.SearchSpace) -> None:
    """In their unit: the order of what is not evaluated is learnt, and intervals hold about what they say."""
    search = tuning.Search(space, lambda e: 50 + 5 * worth(e), seed=1)
    trace = search.run(60)
    predicted = search.predict().drop(trace["position"])
    truths = 50 + 5 * np.array([worth(ENCODINGS[row]) for row in predicted.index])
    assert np.corrcoef(predicted["mean"], truths)[0, 1] > 0.9
    inside = np.abs(truths - predicted["mean"]) < 2 * predicted["spread"]
    assert 0.7 < inside.mean() <= 1


def test_intervals_hold_what_they_promise(space: tuning.SearchSpace) -> None:
    """Nearly: of the architectures left, in the unit of the values; a higher level has wider ones."""
    search = tuning.Search(space, lambda e: 50 + 5 * worth(e), seed=1)
    trace = search.run(60)
    found, narrow = (search.intervals(level).drop(trace["position"]) for level in (0.95, 0.5))
    truths = 50 + 5 * np.array([worth(ENCODINGS[row]) for row in found.index])
    assert ((found["low"] <= truths) & (truths <= found["high"])).mean() > 0.85
    assert (narrow["high"] - narrow["low"] < found["high"] - found["low"]).all()
    np.testing.assert_allclose(found["mean"], search.predict().drop(trace["position"])["mean"])
    with pytest.raises(ValueError, match="level is 2; it must lie between 0 and 1"):
        search.intervals(2)


def test_a_patient_search_stops(space: tuning.SearchSpace, tmp_path: Path) -> None:
    """After so many full evaluations without a better one; again it does nothing, and without patience it goes on."""
    search = two(space, folder=tmp_path)
    trace = search.run(60, patience=4)
    full = trace.loc[trace["fidelity"] == "full", "value"].to_numpy()
    first = max(full.argmax() + 1, SETTINGS.n_initial)
    assert len(full) == first + 4
    assert len(search.run(60, patience=4)) == len(trace)
    assert len(two(space, folder=tmp_path).run(60, patience=4)) == len(trace)
    assert search.run(trace["spent"].max() + 2)["spent"].max() > trace["spent"].max()
    with pytest.raises(ValueError, match="patience is 0; it must be at least 1"):
        search.run(60, patience=0)


def test_the_cheap_design_follows_the_space(space: tuning.SearchSpace) -> None:
    """By default; a number given stays."""
    n_cheap = cheap_design(len(space))[0]
    own = tuning.Settings(n_initial=2)
    trace = two(space, settings=own).run(2 + n_cheap / 4)
    assert (trace["fidelity"] == "cheap").sum() == n_cheap
    assert cheap_design(15_625)[0] == cheap_design(10**6)[0] > cheap_design(440)[0]
    assert len(two(space, settings=tuning.Settings(n_initial=2, n_initial_cheap=7)).run(3.75)) == 9


def test_the_folder_is_one_searchs_only(space: tuning.SearchSpace, tmp_path: Path) -> None:
    """Another process at work, or another search before: refused, and nothing changed."""
    two(space, folder=tmp_path).run(3)
    kept = (tmp_path / "trace.jsonl").read_bytes()
    told = json.loads(kept.splitlines()[0])
    with Journal(tmp_path / "trace.jsonl", told), pytest.raises(FolderInUse, match="another search is at work"):
        two(space, folder=tmp_path)
    for other, named in (
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"cost": 41}, "costs is "),
        ({"settings": tuning.Settings()}, "settings, n_cheap is 4 there and None here"),
        ({"evaluate": cheap}, "values, evaluate is 'worth' there and 'cheap' here"),
    ):
        with pytest.raises(ValueError, match=f"is of another search: .*{named}"):
            two(space, folder=tmp_path, **other)
    with pytest.raises(ValueError, match="is of another search: space, encodings is '"):
        two(tuning.SearchSpace("other", ENCODINGS[:100]), folder=tmp_path)
    assert (tmp_path / "trace.jsonl").read_bytes() == kept
    assert json.loads(kept.splitlines()[0])["seed"] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cheap_cost": None}, "go together"),
        ({"evaluate_cheaply": None}, "go together"),
        ({"cheap_cost": 40}, "cheap_cost below cost"),
        ({"cost": 0}, "both must be positive"),
        ({"cheap_cost": -1}, "both must be positive"),
    ],
)
def test_costs_that_cannot_be_are_refused(space: tuning.SearchSpace, given: dict, message: str) -> None:
    """Each with what is allowed."""
    with pytest.raises(ValueError, match=message):
        two(space, **given)


@pytest.mark.parametrize("budget", [0, -1, math.nan])
def test_budgets_that_cannot_be_are_refused(space: tuning.SearchSpace, budget: float) -> None:
    """Instead of a search that does nothing."""
    with pytest.raises(ValueError, match=f"budget is {budget}; it must be positive"):
        two(space).run(budget)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_initial": 0}, "n_initial is 0; it must be at least 1"),
        ({"n_cheap": -1}, "n_cheap is -1; it must be at least 0"),
        ({"n_full": 0}, "n_full is 0"),
        ({"acquisition": "luck"}, "acquisition is 'luck', one of thompson"),
        ({"cheap_weight": 0}, "cheap_weight 0, above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict, message: str) -> None:
    """Each with what is allowed."""
    with pytest.raises(ValueError, match=message):
        tuning.Settings(**given)


SMALL = [(kernel, width) for kernel in (1, 3, 5) for width in (8, 16, 32)]


def build(encoding: tuple[int, int]) -> nn.Module:
    """A convolution and a ReLU."""
    return nn.Sequential(nn.Conv2d(3, encoding[1], encoding[0]), nn.ReLU(), nn.Flatten())


def measured(encodings: Iterable[tuple] = SMALL, side: int = 8) -> tuning.SearchSpace:
    """As in the program that the README shows: latencies are others each time."""
    space = tuning.SearchSpace("small", encodings, encoding_to_network=build)
    space.preprocess(torch.zeros(2, 3, side, side))
    return space


def ratio(encoding: tuple[int, int]) -> float:
    return encoding[0] / encoding[1]


def test_the_same_program_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though latencies are measured anew; the metrics measured at first count. ~ is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    first = tuning.Search(measured(), ratio, folder="~/search")
    trace = first.run(6)
    calls: list[tuple] = []
    monkeypatch.setattr(tuning, "attempt", lambda f, e: calls.append(e) or (f(e), "", None))
    space = measured()
    assert space.digest() != first.space.digest()
    again = tuning.Search(space, ratio, folder=tmp_path / "search")
    assert again.space.digest() == first.space.digest()
    pd.testing.assert_frame_equal(again.run(6), trace)
    assert not calls
    pd.testing.assert_frame_equal(again.run(9), first.run(9))
    assert sorted(path.name for path in (tmp_path / "search").iterdir()) == ["space.npz", "trace.jsonl"]


def test_another_space_is_refused_by_name(tmp_path: Path) -> None:
    """Other networks, though of the same encodings; a space of which the file is gone."""
    tuning.Search(measured(), ratio, folder=tmp_path).run(2)
    with pytest.raises(ValueError, match="is of another search: space, metrics, macs is '"):
        tuning.Search(measured(side=9), ratio, folder=tmp_path)
    with pytest.raises(ValueError, match=r"space, encodings is '.*space, rows is '"):
        tuning.Search(measured(SMALL[1:]), ratio, folder=tmp_path)
    (tmp_path / "space.npz").rename(tmp_path / "away.npz")
    with pytest.raises(ValueError, match=r"space.npz is gone.* restore it, or give resume=False"):
        tuning.Search(measured(), ratio, folder=tmp_path)


def test_a_search_begun_afresh_keeps_the_old(tmp_path: Path) -> None:
    """Trace and space beside the new ones; what else lies in the folder stays."""
    (tmp_path / "notes.txt").write_text("mine")
    tuning.Search(measured(), ratio, folder=tmp_path).run(2)
    old = {name: (tmp_path / name).read_bytes() for name in ("trace.jsonl", "space.npz")}
    search = tuning.Search(measured(), lambda e: -ratio(e), folder=tmp_path, resume=False)
    assert search.trace().empty
    assert len(search.run(2)) == 2
    assert {name: (tmp_path / name.replace(".", "-1.")).read_bytes() for name in old} == old
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_typo_does_not_spend_the_budget(tmp_path: Path) -> None:
    """The search stops at the third failure; mended, it evaluates all again, and ends as if it had been right."""
    space = tuning.SearchSpace("small", SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=r"the first 3 evaluations .* failed by NameError"):
            tuning.Search(space, lambda e: undefined_name, folder=tmp_path).run(8)  # noqa: F821 - the error is tested
    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 4
    trace = tuning.Search(space, ratio, folder=tmp_path).run(8)
    pd.testing.assert_frame_equal(trace, tuning.Search(space, ratio).run(8))
    pd.testing.assert_frame_equal(tuning.Search(space, ratio, folder=tmp_path).trace(), trace)


def test_failures_can_be_tried_again(tmp_path: Path) -> None:
    """What has succeeded is kept, what failed is evaluated in its place and not paid again; killed, it goes on."""
    space = tuning.SearchSpace("small", SMALL)
    world, calls = SimpleNamespace(is_mended=False), []  # what the objective meets, and is no part of it

    def fragile(encoding: tuple[int, int]) -> float:
        calls.append(encoding)
        if encoding[1] == 16 and not world.is_mended:
            raise IndexError("a fault of one branch")
        return ratio(encoding)

    with pytest.warns(UserWarning, match="a fault of one branch"):
        before = tuning.Search(space, fragile, folder=tmp_path).run(8)
    failed = before["value"].isna()
    assert 1 < failed.sum() < 8
    world.is_mended = True
    calls.clear()
    tuning.Search(space, fragile, folder=tmp_path).run(8)
    assert not calls
    for lines_lost in (0, 1):
        after = tuning.Search(space, fragile, folder=tmp_path, resume="retry" if not lines_lost else True).run(8)
        assert after["encoding"].tolist() == before["encoding"].tolist()
        assert after["value"].tolist() == [ratio(encoding) for encoding in before["encoding"]]
        assert after["spent"].tolist() == before["spent"].tolist()
        assert calls == before.loc[failed, "encoding"].tolist()[-1 if lines_lost else None :]
        calls.clear()
        path = tmp_path / "trace.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def test_failures_are_written_down_where_warnings_are_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The search goes on, and the log tells of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace = tuning.Search(tuning.SearchSpace("small", SMALL), lambda e: 1 / 0, folder=tmp_path).run(2)
    assert trace["failure"].tolist() == ["ZeroDivisionError: division by zero"] * 2
    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 3
    assert caplog.text.count("division by zero") == 2


@pytest.mark.parametrize("n", [2, 3, 4])
def test_predictions_after_few_evaluations(n: int) -> None:
    """From two on, as the error for one says."""
    search = tuning.Search(tuning.SearchSpace("small", SMALL), ratio)
    search.run(1)
    with pytest.raises(ValueError, match="1 full evaluations are done; predictions need 2"):
        search.predict()
    search.run(n)
    predicted = search.predict()
    assert predicted.shape == (9, 2)
    assert np.isfinite(predicted.to_numpy()).all()


def test_a_space_that_changes_under_a_search_is_refused() -> None:
    """Its proposals would be of neither."""
    space = tuning.SearchSpace("small", SMALL)
    search = tuning.Search(space, ratio)
    space.preprocess(metrics=pd.DataFrame({"cost": range(9)}))
    with pytest.raises(ValueError, match="the space was changed after this search was made"):
        search.run(2)


def test_numpy_numbers_are_taken(tmp_path: Path) -> None:
    """In encodings, costs, seeds and settings: the search is that of Python's numbers."""
    rows = [tuple(row) for row in np.array(SMALL)]
    numbers = {"cost": np.int64(4), "evaluate_cheaply": ratio, "cheap_cost": np.float32(1), "seed": np.uint8(2)}
    own = tuning.Settings(n_initial=np.int64(2), n_initial_cheap=3.0, n_cheap=np.int32(1))
    first = tuning.Search(tuning.SearchSpace("s", rows), ratio, folder=tmp_path, settings=own, **numbers).run(4)
    plain = {"cost": 4, "evaluate_cheaply": ratio, "cheap_cost": 1, "seed": 2}
    settings = tuning.Settings(n_initial=2, n_initial_cheap=3, n_cheap=1)
    again = tuning.Search(tuning.SearchSpace("s", iter(SMALL)), ratio, folder=tmp_path, settings=settings, **plain)
    pd.testing.assert_frame_equal(again.trace(), first)
