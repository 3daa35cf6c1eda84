"""Searches with several workers, by wall time."""

import numpy as np
import pandas as pd
import pytest

from naaplib.search import workers as clock
from naaplib.search.tabular_objective import TableObjective
from naaplib.studies.search_strategies import workers
from naaplib.studies.search_strategies.tables import Benchmark

RNG = np.random.default_rng(0)
TRUE = RNG.random(30)
CURVES = TRUE[:, None] + RNG.normal(0, 0.2, (30, 9))
PATHS = [(f"a{i % 5}", f"b{i // 5}") for i in range(30)]
IDS = list(range(101, 131))
MADE = Benchmark("made", {"plain": CURVES}, true=TRUE, paths=PATHS, max_budget=9, total_budget=90, model_ids=IDS)
MACS = pd.Series(RNG.uniform(1e6, 3e6, 40), index=range(95, 135))


@pytest.fixture(scope="module")
def record() -> pd.DataFrame:
    """Three repeats with one and four workers."""
    return workers.searches(MADE, MACS, scores=["plain"], n_workers=[1, 4], n_repeats=3, eta=3)


def test_a_search_by_its_own(record: pd.DataFrame) -> None:
    """Slow twin: the accuracy of the incumbent after each end, by networks' own times; a row for each change."""
    times = (MACS.loc[IDS] / MACS.loc[IDS].mean()).to_numpy()
    table = clock.search(
        "HyperBand", TableObjective(CURVES, PATHS), total_budget=90, max_budget=9, seed=2, n_workers=4,
        seconds=lambda place, n_epochs: times[place] * n_epochs,
    )  # fmt: skip
    own = record.query("strategy == 'HyperBand' and n_workers == 4 and repeat == 2")
    values = TRUE[table["incumbent"].astype(int)]
    changes = [0, *(np.flatnonzero(np.diff(values)) + 1)]
    assert own["wall_time"].to_numpy() == pytest.approx(table["end"].to_numpy()[changes])
    assert own["found"].to_numpy() == pytest.approx(values[changes])
    assert own["makespan"].to_numpy() == pytest.approx(table["end"].max())
    assert own["idle"].iloc[0] == clock.idle_share(table, n_workers=4)


MADE_UP = pd.DataFrame(
    [
        ("s", "a", 1, 0, 40, 0.0, 10, 0.5), ("s", "a", 1, 0, 40, 0.0, 20, 0.7), ("s", "a", 1, 1, 60, 0.0, 15, 0.6),
        ("s", "a", 4, 0, 20, 0.5, 5, 0.7), ("s", "a", 4, 1, 15, 0.25, 12, 0.6), ("s", "a", 4, 1, 15, 0.25, 14, 0.5),
    ],
    columns=[*workers.KEY, "repeat", "makespan", "idle", "wall_time", "found"],
)  # fmt: skip


def test_times_by_hand() -> None:
    """The last change up to a time, that time included; NaN before the first."""
    found = workers.at_times(MADE_UP, [4, 10, 14, 100])
    np.testing.assert_array_equal(found["s", "a", 1], [[np.nan, 0.5, 0.5, 0.7], [np.nan, np.nan, np.nan, 0.6]])
    np.testing.assert_array_equal(found["s", "a", 4], [[np.nan, 0.7, 0.7, 0.7], [np.nan, np.nan, 0.5, 0.5]])
    drawn = workers.curves(MADE_UP, [4, 10, 14, 100]).set_index(["n_workers", "wall_time"])
    assert list(drawn.index) == [(1, 100), (4, 14), (4, 100)]
    assert drawn.loc[(4, 14), "mean"] == pytest.approx(0.6)


def test_summary_by_hand() -> None:
    """Ratios and differences of pairs, then their means; one worker is compared with itself."""
    found = workers.summary(MADE_UP, early=15).set_index("n_workers")
    assert found.loc[4, ["makespan", "speed_up", "idle", "found"]].tolist() == pytest.approx([17.5, 3, 0.375, 0.6])
    assert found.loc[4, "found_early"] == pytest.approx(0.6)
    assert found.loc[4, "gained_early"] == pytest.approx((0.2 - 0.1) / 2)
    assert found.loc[1, ["speed_up", "gained_early", "idle"]].tolist() == [1, 0, 0]
    assert found.loc[4, "speed_up_low"] == 2
    shown = workers.readable(found.reset_index())
    assert shown.to_dict("records")[0] == {
        "strategy": "s", "goes by": "a", "speed-up": "3.00", "idle": "38%", "found": pytest.approx(0.6),
        "gain early": "0.0500 (-0.1000 to 0.2000)",
    }  # fmt: skip
