"""The comparison: same networks for all, prices as they are, means and intervals by hand, names apart in the figure."""

import re

import pandas as pd
import pytest

from naaplib.evaluation import style
from naaplib.sources import ROOT
from naaplib.studies.comparison import figures, tables, tasks
from naaplib.tables import naap440

MADE = "tests/data/naap440-made.csv"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A made table of 220 networks."""
    return naap440.read(ROOT / MADE)


def oracles(table: pd.DataFrame) -> pd.DataFrame:
    """Two zero-cost proxies: the accuracy, and its opposite."""
    scores = pd.DataFrame({"oracle": table["MaxAccuracy"], "opposite": -table["MaxAccuracy"]})
    return scores.set_index(pd.Index(table["ModelId"]))


@pytest.fixture(scope="module")
def runs(table: pd.DataFrame) -> pd.DataFrame:
    """All estimators on one split, with one proxy that is the accuracy itself, and one that is its opposite."""
    return tasks.compare(
        table, naap440.splits(table, [5]), scores=oracles(table), epochs=[3], algorithms=["Linear Regression"],
        n_graph_epochs=1, seed=0,
    )  # fmt: skip


def test_a_proxy_that_knows_the_accuracy_ranks_all_pairs(runs: pd.DataFrame) -> None:
    """Tau is 1 and nothing is violated; the opposite has tau -1 and violates every pair; neither has an error."""
    by_name = runs.set_index("estimator")
    n = int(by_name.loc["oracle", "n"])
    assert by_name.loc["oracle", ["kendall_tau", "violations"]].tolist() == [1, 0]
    assert by_name.loc["opposite", ["kendall_tau", "violations"]].tolist() == [-1, n * (n - 1) / 2]
    assert by_name.loc[["oracle", "opposite", "parameters"], "mae"].isna().all()


def test_prices_are_those_of_the_family(runs: pd.DataFrame, table: pd.DataFrame) -> None:
    """Sizes, proxies and a network's own accuracy need no other network; what learns needs the training part."""
    n_train = len(table) - int(runs["n"].iloc[0])
    free = runs["family"].isin([tasks.SIZE, tasks.PROXY, tasks.OWN])
    assert (runs.loc[free, "n_networks"] == 0).all()
    learns = runs["family"].isin([tasks.PAPER, tasks.BLOCKS, tasks.GRAF, tasks.GRAPHS])
    assert (runs.loc[learns, "n_networks"] == n_train).all()
    assert (runs.loc[runs["family"].isin([tasks.OWN, tasks.CURVES]), "epochs"] == 3).all()
    assert set(runs["family"]) == set(tasks.FAMILIES)


def test_a_method_never_sees_later_epochs_or_test_accuracies(runs: pd.DataFrame, table: pd.DataFrame) -> None:
    """Other accuracies of test networks, and other epochs after the third, change no prediction's order."""
    changed = table.copy()
    later = [name for name in table if name.startswith("e") and int(name[1:].partition("A")[0].partition("L")[0]) > 3]
    changed[later] = 0.5
    found = tasks.compare(
        changed, naap440.splits(table, [5]), scores=oracles(table), epochs=[3], algorithms=["Linear Regression"],
        n_graph_epochs=0, seed=0,
    )  # fmt: skip
    rest = runs[runs["family"] != tasks.GRAPHS]
    assert found[["estimator", "epochs"]].to_numpy().tolist() == rest[["estimator", "epochs"]].to_numpy().tolist()
    assert found["kendall_tau"].tolist() == rest["kendall_tau"].tolist()


def test_small_training_sets_are_the_beginning_of_large_ones(table: pd.DataFrame) -> None:
    """The result for a size does not depend on the other sizes, and all other networks are ranked."""
    measured, X = table["MaxAccuracy"].to_numpy(float), tasks.scheme_features(table)
    size = {"n_draws": 2, "seed": 3}
    names = ["blocks, extremely randomised trees"]
    both = tasks.by_size(measured, X, estimators=names, n_train=[12, 30], **size)
    assert both["n"].tolist() == [208, 208, 190, 190]
    alone = tasks.by_size(measured, X, estimators=names, n_train=[12], **size)
    # the generator of a set is its own: a set of 12 begins a set of 30
    assert both[both["n_train"] == 12]["kendall_tau"].tolist() == alone["kendall_tau"].tolist()


def made_runs() -> pd.DataFrame:
    """Three splits of two estimators; the second is worse by .1, .2 and .3."""
    rows = [
        {"split": split, "family": tasks.BLOCKS, "estimator": name, "epochs": 0, "n_networks": 10, "n": 5,
         "kendall_tau": 0.9 - lack * split / 10, "violations": 1.0 + lack, "mae": 0.1}
        for split in (1, 2, 3) for name, lack in (("a", 0), ("b", 1))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_gaps_are_paired_by_split() -> None:
    """The mean of the differences, with an interval between the smallest and the largest of them."""
    gaps = tables.differences(made_runs(), ("a", 0), n_resamples=500).set_index("estimator")
    assert gaps.loc["a", ["gap", "low", "high"]].tolist() == [0, 0, 0]
    assert gaps.loc["b", "gap"] == pytest.approx(-0.2)
    assert -0.3 <= gaps.loc["b", "low"] < -0.2 < gaps.loc["b", "high"] <= -0.1


def test_means_are_over_splits_and_the_best_comes_first() -> None:
    """By hand."""
    found = tables.summarise(made_runs(), 100)
    assert found["estimator"].tolist() == ["a", "b"]
    assert found["kendall_tau"].tolist() == pytest.approx([0.9, 0.7])
    assert found["violations"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([(0.004, 0.005)], "0.0040 on a new training of each test network; the published .* erred by 0.0050."),
        (
            [(0.004, 0.005), (0.006, 0.005), (0.001, None)],
            "0.0050 on 2 new trainings of each test network; .* erred by 0.0050.",
        ),
    ],
)
def test_the_answer_takes_all_seeds_and_calls_no_error_smaller(errors: list, said: str) -> None:
    """The mean over the seeds stands beside that of the published training, without a verdict."""
    advice = pd.DataFrame({"epochs": [0, 9, 0, 0], "needs": [0, 0, 43, 400], "kendall_tau": [0.7, 0.8, 0.9, 0.95]})
    text = tables.sentence(advice, pd.DataFrame(errors, columns=["mae", "published_mae"]))
    assert re.search(f"announced before the data erred by {said}$", text)
    assert "announced" not in tables.sentence(advice)


def test_estimators_stand_in_rows_by_what_they_need_and_then_by_tau() -> None:
    """Those that learn from other networks come first; no two share a row, and each name is at its mark."""
    taus = {"few": (0.7, 400), "best": (0.9, 400), "count": (0.5, 0), "proxy": (0.6, 0)}
    rows = pd.DataFrame([
        {"family": tasks.BLOCKS, "estimator": name, "n_networks": n, "kendall_tau": tau,
         "kendall_tau_low": tau - 0.1, "kendall_tau_high": tau + 0.1} for name, (tau, n) in taus.items()
    ])  # fmt: skip
    fig, axes = style.subplots()
    figures.draw_untrained(axes, rows)
    drawn = [(line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("o", "s")]
    names = {text.get_position()[1]: text.get_text() for text in axes.texts if text.get_text() in taus}
    assert [(names[place], tau) for place, tau in sorted(drawn)] == [
        ("best", 0.9), ("few", 0.7), ("proxy", 0.6), ("count", 0.5)
    ]  # fmt: skip
    assert len(names) == len(drawn) == 4
    style.plt.close(fig)
