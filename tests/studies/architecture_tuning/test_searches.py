"""Architecture tuning many times over: as its searches one by one, kept in pieces, the same for any number of them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures import cells, graphs
from naaplib.estimators.ensembles.calibration import coverage
from naaplib.search import guided
from naaplib.search.tuning import Settings
from naaplib.studies.architecture_tuning import searches
from naaplib.studies.architecture_tuning.searches import (
    GUIDED,
    RANDOM,
    TUNING,
    VARIANTS,
    Benchmark,
    Variant,
    calibration,
    run,
    search,
)

EVERY = cells.enumerate_cells()
CELLS = [EVERY[i] for i in np.linspace(0, len(EVERY) - 1, 60).astype(int)]
N_PARAMS = cells.sizes(CELLS)["n_params"].to_numpy(float)
RNG = np.random.default_rng(0)
FULL = np.log(N_PARAMS) + RNG.normal(0, 0.3, 60)
BENCHMARK = Benchmark(
    "made",
    CELLS,
    full=FULL,
    cheap=FULL + RNG.normal(0, 0.3, 60),
    costs=(20, 2),
    metrics=pd.DataFrame({"n_params": N_PARAMS, "failure": ""}),
    graphs=graphs.of_cells(CELLS, prune=True),
)
SMALL = Settings(n_initial=3, n_initial_cheap=6, n_initial_alone=4, n_cheap=3)
FEW = {
    TUNING: Variant(settings=SMALL, n_members=2),
    "one fidelity": Variant(settings=SMALL, n_members=2, two_fidelities=False, pretraining=None),
}
AT = [1.0, 4.0, 8.0, 12.0]


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    """Two searches of each kind."""
    return run(BENCHMARK, FEW, others=[RANDOM, "TPE", "Gaussian process"], n_seeds=2, at=AT, n_train=5)


def test_rows_are_what_the_searches_found(runs: pd.DataFrame) -> None:
    """A variant's own trace, read where it says."""
    assert list(runs) == ["benchmark", "search", "seed", "first_best", "1", "4", "8", "12"]
    assert runs["search"].tolist() == [name for name in [*FEW, RANDOM, "TPE", "Gaussian process"] for _ in range(2)]
    for row in runs[runs["search"].isin(FEW)].to_dict("records"):
        own = search(BENCHMARK, FEW[row["search"]], seed=row["seed"])
        trace = own.run(AT[-1])
        hits = trace.loc[trace["best"] == FULL.max(), "spent"]
        assert row["first_best"] == hits.iloc[0] if len(hits) else math.isnan(row["first_best"])
        for x in AT:
            seen = trace.loc[trace["spent"] <= x, "best"]
            assert row[f"{x:g}"] == seen.iloc[-1]


def test_encodings_can_have_graph_features_too() -> None:
    """Those that vary and are not there before, behind the operations; the rest of the benchmark stays."""
    counted = pd.DataFrame({"a": [1.0, 2.0, 2.0], "none": 0.0, "again": [1.0, 2.0, 2.0], "b": [0.0, 0.0, 1.0]})
    few = replace(BENCHMARK, encodings=[("x", 1), ("y", 1), ("y", 2)], graph_features=counted)
    described = few.described()
    assert described.encodings == [("x", 1, 1.0, 0.0), ("y", 1, 2.0, 0.0), ("y", 2, 2.0, 1.0)]
    assert replace(described, encodings=few.encodings) == replace(few, graph_features=None)
    with pytest.raises(ValueError, match="made has no graph features"):
        BENCHMARK.described()


def test_random_search_goes_on_to_the_best(runs: pd.DataFrame) -> None:
    """Beyond the budget, and as its order has it."""
    for row in runs[runs["search"] == RANDOM].to_dict("records"):
        (order,) = guided.random_orders(60, 60, n_runs=1, seed=row["seed"])
        assert row["first_best"] == order.tolist().index(int(FULL.argmax())) + 1
        assert row["8"] == FULL[order[:8]].max()


def test_variants_are_what_they_are_called() -> None:
    """Fidelities, pretraining, members, acquisition: one part other than the default each."""
    for name, variant in VARIANTS.items():
        own = search(BENCHMARK, replace(variant, settings=replace(variant.settings, n_initial_cheap=5)), seed=0)
        trace = own.run(6)
        assert (set(trace["fidelity"]) == {"full"}) == ("one fidelity" in name)
        assert own.space.ensemble.is_pretrained != ("without pretraining" in name)
        assert own.space.mode == (None if "without" in name else "sequential" if "after" in name else "simultaneous")
        assert len(own.space.ensemble.seeds) == (int(name.split()[0]) if "members" in name else 5)
        assert own.settings.acquisition == (name if name in ("expected improvement", "upper confidence bound")
                                            else "thompson")  # fmt: skip


def test_finished_searches_are_kept(tmp_path: Path, runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not done again, but for another benchmark, variant or budget; processes change nothing."""
    settings: Any = {"others": [RANDOM], "n_seeds": 2, "n_train": 5, "folder": tmp_path}
    expected = runs[runs["search"].isin([*FEW, RANDOM])].reset_index(drop=True)
    pd.testing.assert_frame_equal(run(BENCHMARK, FEW, **settings, at=AT, n_jobs=2), expected)
    monkeypatch.setattr(searches.Search, "run", lambda *_: pytest.fail("searched again"))
    pd.testing.assert_frame_equal(run(BENCHMARK, FEW, **settings, at=AT), expected)
    for benchmark, variants, at in (
        (replace(BENCHMARK, cheap=BENCHMARK.cheap + 1), FEW, AT),
        (BENCHMARK, {TUNING: replace(FEW[TUNING], n_members=3)}, AT),
        (BENCHMARK, FEW, [*AT, 13.0]),
    ):
        with pytest.raises(pytest.fail.Exception, match="searched again"):
            run(benchmark, variants, others=[], n_seeds=2, at=at, n_train=5, folder=tmp_path)


def test_guided_searches_begin_at_random() -> None:
    """With the architectures that their predictor is trained on; without graphs there is none."""
    table = run(BENCHMARK, {}, others=[GUIDED], n_seeds=2, at=[5.0, 8.0], n_train=5)
    training = guided.random_orders(60, 5, n_runs=2, seed=0)
    assert table["5"].tolist() == FULL[training].max(axis=1).tolist()
    assert (table["8"] >= table["5"]).all()
    with pytest.raises(ValueError, match="made has no graphs"):
        run(replace(BENCHMARK, graphs=None), {}, others=[GUIDED], n_seeds=2, at=[5.0, 8.0], n_train=5)
    with pytest.raises(ValueError, match="no search is called 'luck'; there are random search"):
        run(BENCHMARK, {}, others=["luck"], n_seeds=1, at=AT, n_train=5)


def test_calibration_is_coverage_of_what_is_left() -> None:
    """Of the members' own spread as `coverage` counts it, and of the intervals that a search gives."""
    table = calibration(BENCHMARK, FEW[TUNING], n_seeds=1, budget=10.0, levels=(0.5, 0.9))
    own = search(BENCHMARK, FEW[TUNING], seed=0)
    trace = own.run(10)
    left = np.setdiff1d(np.arange(60), trace.loc[trace["fidelity"] == "full", "position"])
    own.predict(calibrated=False)
    expected = coverage(own.space.ensemble.predict()[:, left], FULL[left], levels=(0.5, 0.9))
    assert table.loc[table["spread"] == "of members", "share"].tolist() == pytest.approx(expected["share"].tolist())
    assert table["nominal"].tolist() == [0.5, 0.9] * 3
    assert not table["share"].iloc[:2].equals(table["share"].iloc[2:4].reset_index(drop=True))
    told = own.intervals(0.9).loc[left]
    inside = [low <= x <= high for low, x, high in zip(told["low"], FULL[left], told["high"], strict=True)]
    assert table["share"].iloc[-1] == np.mean(inside)
    assert (table["n_values"] == len(left)).all()
    assert (table["n"] == 1).all()
