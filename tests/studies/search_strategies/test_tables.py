from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.search import budget, strategies
from naaplib.search.tabular_objective import TableObjective, found, paths
from naaplib.studies.search_strategies.tables import (
    RANDOM,
    STRATEGIES,
    Benchmark,
    benchmark,
    curves,
    gains,
    readable,
    run,
    sentence,
)

RNG = np.random.default_rng(0)
WORTH = RNG.random(30)
PLAIN = WORTH[:, None] + RNG.normal(0, 0.2, (30, 9))
SHARP = np.repeat(WORTH[:, None], 9, axis=1)
PATHS = [(f"a{i % 5}", f"b{i // 5}") for i in range(30)]
GROUND = Benchmark("made", {"plain": PLAIN, "sharp": SHARP}, true=WORTH, paths=PATHS, max_budget=9, total_budget=90)
AT = [1, 9, 45, 90]


@pytest.fixture(scope="module")
def searched() -> dict[tuple[str, str], np.ndarray]:
    """Four repeats."""
    return run(GROUND, 3, n_repeats=4, at=AT)


def test_every_strategy_is_run_with_every_score_and_seed(searched) -> None:
    """As one after the other, seeded by the number of the repeat."""
    assert list(searched) == [(strategy, score) for strategy in STRATEGIES for score in ("plain", "sharp")]
    for score, table in (("plain", PLAIN), ("sharp", SHARP)):
        for seed in range(4):
            traces = {
                RANDOM: strategies.random_search(TableObjective(table, PATHS), 90, budget=9, seed=seed),
                "HyperBand": strategies.hyperband(TableObjective(table, PATHS), 90, max_budget=9, eta=3, seed=seed),
                "BOHB": strategies.bohb(TableObjective(table, PATHS), 90, max_budget=9, eta=3, seed=seed),
            }
            for strategy, trace in traces.items():
                np.testing.assert_array_equal(searched[strategy, score][seed], found(trace, WORTH, at=AT))


def test_traces_are_kept_and_taken_up(searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a search; with them nothing is evaluated."""
    first = run(GROUND, 3, n_repeats=4, at=AT, folder=tmp_path, n_jobs=2)
    assert len(list(tmp_path.iterdir())) == 3 * 2 * 4
    monkeypatch.setattr(budget, "attempt", None)
    again = run(GROUND, 3, n_repeats=4, at=AT, folder=tmp_path)
    for key, values in searched.items():
        np.testing.assert_array_equal(first[key], values)
        np.testing.assert_array_equal(again[key], values)


def test_curves_are_means_where_all_have_found_something(searched) -> None:
    """Random search has nothing after one epoch; regret is what is missing to the best there is."""
    table = curves(GROUND, searched, at=AT).set_index(["strategy", "score", "spent"])
    assert (RANDOM, "plain", 1) not in table.index
    values = searched["HyperBand", "plain"][:, 2]
    row = table.loc[("HyperBand", "plain", 45)]
    assert row["n"] == 4
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["regret"] == pytest.approx(WORTH.max() - values.mean())


def test_gains_are_of_pairs_with_one_seed(searched) -> None:
    """Over random search by the plain score, and over the same strategy by it; none over itself."""
    table = gains(GROUND, searched, at=AT, spent=90).set_index(["strategy", "score"])
    blank = table.isna()
    assert blank.loc[(RANDOM, "plain")].sum() == 6
    assert blank.loc[("BOHB", "plain"), ["over_plain", "over_plain_low", "over_plain_high"]].all()
    assert blank.to_numpy().sum() == 6 + 2 * 3
    ours, own, random = (searched[key][:, 3] for key in (("BOHB", "sharp"), ("BOHB", "plain"), (RANDOM, "plain")))
    row = table.loc[("BOHB", "sharp")]
    assert row["found"] == pytest.approx(ours.mean())
    assert row["over_plain"] == pytest.approx((ours - own).mean())
    assert row["over_random"] == pytest.approx((ours - random).mean())
    assert row["over_plain_low"] <= row["over_plain"] <= row["over_plain_high"]


def test_a_ground_is_cut_from_tables() -> None:
    """The first epochs, and what belongs to the same networks by number; an epoch that is missing is an error."""
    ids = [30, 7, 200]
    scores = pd.DataFrame(np.arange(12.0).reshape(3, 4), index=ids, columns=[1, 2, 3, 4])
    schemes = dict(enumerate(enumerate_schemes(), start=1))
    worth = pd.Series(np.arange(440) / 1000, index=range(1, 441))
    made = benchmark(
        "made",
        {"a": scores, "b": scores.loc[[7, 200, 30]] + 1},
        true=worth,
        schemes=schemes,
        max_budget=3,
        total_budget=12,
    )
    assert made.scores["a"].tolist() == [[0, 1, 2], [4, 5, 6], [8, 9, 10]]
    assert made.scores["b"].tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    assert made.true.tolist() == [0.029, 0.006, 0.199]
    assert made.paths == paths([schemes[i] for i in ids])
    scores.loc[7, 2] = np.nan
    with pytest.raises(ValueError, match="made: not every network has every epoch up to 3 of a"):
        benchmark("made", {"a": scores}, true=worth, schemes=schemes, max_budget=3, total_budget=12)


def test_the_sentence_says_what_the_intervals_say() -> None:
    """Of HyperBand by the plain score against random search, and by the estimate against the plain score."""
    rows = []
    for name, signs in (("One", (1, -1)), ("two", (0, 1))):
        for score, sign in zip(("plain", "fine"), signs, strict=True):
            row = {"benchmark": name, "strategy": "HyperBand", "score": score, "spent": 5184, "n": 3, "found": 0.75}
            for gain in ("over_random", "over_plain"):
                row |= {gain: 0.01 * sign, f"{gain}_low": 0.01 * sign - 0.005, f"{gain}_high": 0.01 * sign + 0.005}
            rows.append(row)
    assert sentence(pd.DataFrame(rows), "fine") == (
        "At equal cost HyperBand finds better networks than random search on One and no clearly better networks than "
        "random search on the two networks; going by the fine in place of accuracy helps there."
    )
    assert sentence(pd.DataFrame(rows[:2]), "fine").endswith(
        "on One; going by the fine in place of accuracy harms there."
    )
    assert sentence(pd.DataFrame(rows[:1]), "fine").endswith("random search on One.")


def test_the_table_for_a_page_has_no_empty_comparison(searched) -> None:
    """A gain with its interval in one cell; random search stands there once, by the plain score."""
    table = gains(GROUND, searched, at=AT, spent=90)
    shown = readable(table)
    assert list(shown) == ["strategy", "goes by", "found", "from random search", "from plain"]
    assert shown[["strategy", "goes by"]].to_numpy().tolist() == [
        [RANDOM, "plain"], *([name, score] for name in ("HyperBand", "BOHB") for score in ("plain", "sharp"))
    ]  # fmt: skip
    assert shown.iloc[0, 3:].tolist() == ["", ""]
    row = table[(table["strategy"] == "BOHB") & (table["score"] == "sharp")].iloc[0]
    expected = f"{row['over_plain']:.4f} ({row['over_plain_low']:.4f} to {row['over_plain_high']:.4f})"
    assert shown["from plain"].iloc[-1] == expected.replace("-0.0000", "0.0000")
