"""How soon searches found the best: medians, shares, pairs, and the sentences."""

import math

import numpy as np
import pandas as pd
import pytest

from naaplib.studies.architecture_tuning.searches import RANDOM, TUNING
from naaplib.studies.architecture_tuning.tables import (
    curves,
    differences,
    readable,
    readable_intervals,
    readable_parts,
    sentences,
    summarise,
)

BEST = 0.9
FIRST = {TUNING: [10.0, 20.0, 30.0], "plain": [20.0, math.nan, 50.0], RANDOM: [70.0, 400.0, 90.0]}
ROWS = [
    {
        "benchmark": "G",
        "search": name,
        "seed": seed,
        "first_best": first,
        "10": 0.5 + seed / 10,
        "60": BEST - seed / 100,
    }
    for name, firsts in FIRST.items()
    for seed, first in enumerate(firsts)
]
RUNS = pd.DataFrame(ROWS)


def test_medians_shares_and_regret_by_hand() -> None:
    """What was not found counts as later than all; random search, which goes on, by the budget alone."""
    table = summarise(RUNS, BEST).set_index("search")
    assert table["median"].to_dict() == {TUNING: 20, "plain": 50, RANDOM: 90}
    assert table["found"].to_dict() == {TUNING: 1, "plain": pytest.approx(2 / 3), RANDOM: 0}
    assert (table["n"] == 3).all()
    np.testing.assert_allclose(table["10"], 0.3)
    np.testing.assert_allclose(table["60"], 0.01)
    assert (table.loc[TUNING, "low"], table.loc[TUNING, "high"]) == (10, 30)
    assert table.loc["plain", "high"] == math.inf


def test_interval_is_that_of_a_slow_twin() -> None:
    """Medians of searches drawn again one by one, up to chance."""
    firsts = np.random.default_rng(1).gamma(3, 10, 41).round(1)
    runs = pd.DataFrame({"benchmark": "G", "search": "s", "seed": range(41), "first_best": firsts, "90": BEST})
    row = summarise(runs, BEST).iloc[0]
    rng = np.random.default_rng(7)
    medians = sorted(np.median([firsts[rng.integers(41)] for _ in range(41)]) for _ in range(2000))
    assert row["low"] == pytest.approx(medians[50], abs=2)
    assert row["high"] == pytest.approx(medians[1950], abs=2)


def test_curves_are_mean_regrets() -> None:
    """At each place that all searches have."""
    table = curves(RUNS.assign(**{"10": RUNS["10"].where(RUNS["seed"] > 0)}), BEST)
    assert table["spent"].tolist() == [60.0] * 3
    np.testing.assert_allclose(table["mean"], 0.01)
    np.testing.assert_allclose(curves(RUNS, BEST).query("spent == 10")["mean"], 0.3)


def test_differences_are_of_pairs() -> None:
    """By hand: 10 - 20, 20 - 60 (the budget), 30 - 50; pairs that are not there are left out."""
    table = differences(RUNS, {"part": (TUNING, "plain"), "none": (TUNING, "absent")})
    assert table["part"].tolist() == ["part"]
    row = table.iloc[0]
    assert (row["with"], row["n"]) == (20, 3)
    assert row["without"] == pytest.approx((20 + 60 + 50) / 3)
    assert row["difference"] == pytest.approx((-10 - 40 - 20) / 3)
    assert -40 <= row["low"] <= row["difference"] <= row["high"] <= -10
    fewer = RUNS[(RUNS["search"] != TUNING) | (RUNS["seed"] < 2)]
    row = differences(fewer, {"part": (TUNING, "plain")}).iloc[0]
    assert (row["n"], row["with"], row["without"]) == (2, 15, 40)  # seeds of both alone


def test_pages_say_what_is_beyond_the_budget() -> None:
    """Instead of an infinite number of evaluations; nothing where a search was not run."""
    rows = [
        ("A, one", "x", 1234.5, 1000, 2000),
        ("A, one", "y", 90, 80, math.inf),
        ("B", "y", math.inf, math.inf, math.inf),
    ]
    table = readable(pd.DataFrame(rows, columns=["benchmark", "search", "median", "low", "high"]), 100)
    assert table.columns.tolist() == ["search", "one", "B"]
    assert table.to_numpy().tolist() == [["x", "1,234 (1,000 to 2,000)", ""], ["y", "90 (80 to over 100)", "over 100"]]


def test_pages_have_a_column_for_each_ground() -> None:
    """Of what parts do."""
    rows = [("B", "two", -5.2, -8, -2), ("A, one", "two", -0.2, -1, 4), ("A, one", "all", 3, 1, 6)]
    table = readable_parts(pd.DataFrame(rows, columns=["benchmark", "part", "difference", "low", "high"]))
    assert table.columns.tolist() == ["part", "B", "one"]
    assert table.to_numpy().tolist() == [["two", "-5 (-8 to -2)", "0 (-1 to 4)"], ["all", "", "3 (1 to 6)"]]


def test_pages_have_a_column_of_coverage_for_each_benchmark() -> None:
    """Of one level alone."""
    rows = [("A, one", "raw", 0.95, 0.421), ("A, one", "raw", 0.5, 0.2), ("B", "raw", 0.95, 0.96)]
    table = readable_intervals(pd.DataFrame(rows, columns=["benchmark", "spread", "nominal", "share"]), 0.95)
    assert table.columns.tolist() == ["spread", "one", "B"]
    assert table.to_numpy().tolist() == [["raw", "42%", "96%"]]


def test_the_sentence_says_what_the_intervals_say() -> None:
    """Medians from the lowest to the highest; a part saves or costs only where its interval excludes 0."""
    rows = [("A, one", -5.0, -8.0, -2.0), ("B", 3.0, 1.0, 6.0), ("C", 0.2, -2.0, 4.0)]
    columns = ["benchmark", "difference", "low", "high"]
    parts = [
        pd.DataFrame(rows, columns=columns).assign(part="pretraining"),
        pd.DataFrame(rows[2:], columns=columns).assign(part="all metrics at once"),
        pd.DataFrame(rows[1:], columns=columns).assign(part="not told"),
        pd.DataFrame([*rows[:1], ("A, two", -1, -2, -0.5)], columns=columns).assign(part="two fidelities"),
    ]
    summary = pd.concat([summarise(RUNS.assign(benchmark="A, one"), BEST), summarise(RUNS.assign(benchmark="B"), BEST)])
    found = (
        "Bayesian optimisation with a pretrained ensemble finds the best architecture in a median of **20 full "
        "trainings** on 2 benchmarks, short ones counted by their epochs; random search takes 90."
    )
    assert sentences(summary, pd.concat(parts)) == [
        found,
        "Pretraining on cheap metrics saves trainings on one but costs trainings on B.",
        "Learning all metrics at once, and not one after the other, makes no clear difference.",
        "Adding short trainings saves trainings on one and two.",
    ]
    assert sentences(summary, parts[2]) == [found]
    summary.loc[summary["benchmark"] == "B", "median"] *= 1000
    assert "**20 to 20,000 full trainings**" in sentences(summary, parts[2])[0]
