"""Printed numbers beside ours: searches in disjoint blocks, verdicts, ways of computing."""

import numpy as np
import pandas as pd
import pytest

from naaplib.compendium import claims
from naaplib.search import by_score
from naaplib.studies.training_free_scores import verdicts
from naaplib.tables import printed


@pytest.fixture
def searches() -> pd.DataFrame:
    """One dataset, two sizes; NAS-WOT takes 2 s and EPE-NAS 3 s a network, the ReLU count half a second."""
    rows = [
        ("CIFAR-10", n, score, accuracy, 0.01, seconds * n, 10)
        for n in (10, 100)
        for score, accuracy, seconds in (("nas_wot", 0.92, 2.0), ("epe_nas", 0.915, 3.0), ("relu_count", 0.89, 0.5))
    ]
    return pd.DataFrame(
        rows, columns=["dataset", "n_samples", "score", "accuracy_mean", "accuracy_sd", "seconds_mean", "n_runs"]
    )


def test_blocks_share_no_architecture_and_find_their_best() -> None:
    """Ten of twelve make two blocks of five; each finds its highest score, NaN never."""
    pool = pd.DataFrame({"accuracy": np.arange(12) / 12, "score": np.arange(12.0), "cost": 1.0}, index=range(100, 112))
    pool.loc[111, "score"] = np.nan
    runs = verdicts.disjoint(pool, "accuracy", scores={"score": "cost", "accuracy": "cost"}, n_samples=[5, 12], seed=3)
    fives = runs[(runs["n_samples"] == 5) & (runs["score"] == "score")]
    assert fives["run"].tolist() == [1, 2]
    assert fives["found"].nunique() == 2
    whole = runs[runs["n_samples"] == 12].set_index("score")
    assert whole["found"].to_dict() == {"score": 110, "accuracy": 111}
    assert whole["seconds"].tolist() == [12, 12]
    assert by_score.summary(runs)["n_runs"].tolist() == [2, 2, 1, 1]


def test_a_block_larger_than_the_pool_is_refused() -> None:
    """There is no such search without drawing twice."""
    pool = pd.DataFrame({"accuracy": [0.5], "score": [1.0], "cost": [0.0]})
    with pytest.raises(ValueError, match="2 architectures"):
        verdicts.disjoint(pool, "accuracy", scores={"score": "cost"}, n_samples=[2], seed=0)


def test_table_3_has_a_verdict_on_each_accuracy(searches) -> None:
    """Percent beside percent: 92 is within a point of 92.47, and 91.5 of 92.63 is not."""
    beside = verdicts.table_3(printed.table("trainingless_table3"), searches, judge=claims.judge)
    assert beside[["method", "n_samples"]].to_numpy().tolist() == [
        ["NAS-WOT", 10], ["EPE-NAS", 10], ["NAS-WOT", 100], ["EPE-NAS", 100],
    ]  # fmt: skip
    assert beside["test"].tolist() == pytest.approx([92, 91.5, 92, 91.5])
    assert beside["seconds"].tolist() == [20, 30, 200, 300]
    assert beside["verdict"].tolist() == ["reproduced", "not reproduced", "reproduced", "reproduced"]
    shown = verdicts.shown_table_3(beside, claims.REPRODUCED)
    assert shown.iloc[1].tolist() == ["EPE-NAS, N = 10", "2.3 / 30.0", "92.63 ≠ 91.50"]


def test_claims_have_numbers_and_verdicts(searches) -> None:
    """Three quarters of the time saved, three points lost, EPE-NAS slower, half the size, by hand."""
    cost = pd.DataFrame({
        "score": ["n_params", "relu_count", "(making the network)"], "seconds": [0.01, 0.06, 0.04],
    })  # fmt: skip
    penalised = pd.DataFrame({"penalty": ["no penalty", "gaussian, intended"], "kilobytes_mean": [800.0, 300.0]})
    numbers = verdicts.ours(searches, cost, penalised=penalised, pruned_seconds=600, n_small=10)
    expected = {
        "relu_faster": 75, "relu_loses": 3, "epe_faster": -50, "epe_better": -0.5, "te_slower": 30,
        "penalty_costs": 10, "penalty_size": 37.5,
    }  # fmt: skip
    assert {key: value for key, (value, _) in numbers.items()} == pytest.approx(expected)
    judged = verdicts.claims(printed.table("trainingless_claims"), numbers, judge=claims.judge).set_index("key")
    yes = {key for key, verdict in judged["verdict"].items() if verdict == claims.REPRODUCED}
    assert yes == {"relu_faster", "relu_loses", "penalty_costs", "penalty_size"}
    assert list(verdicts.RULES) == list(judged.index)


def test_ways_are_compared_on_the_same_network() -> None:
    """The median of ratios, which a slow network does not dominate."""
    timings = pd.DataFrame({
        "architecture": ["a", "a", "b", "b", "c", "c"], "way": ["one", "three"] * 3,
        "seconds": [1.0, 2.0, 3.0, 3.0, 25.0, 100.0],
    })  # fmt: skip
    found = verdicts.ways(timings, "three").set_index("way")
    assert found["relative"].to_dict() == {"one": 0.5, "three": 1.0}
    assert found["seconds"].to_dict() == {"one": 3.0, "three": 3.0}


def test_what_pruning_found_is_placed_among_all_cells() -> None:
    """Accuracy in percent and the share of cells below it; unknown cells have neither."""
    traces = pd.DataFrame({
        "seed": [1, 1, 2], "round": [1, 2, 1], "architecture": ["x", "x", "y"], "seconds": [5.0, 5.0, 6.0],
    })  # fmt: skip
    found = verdicts.pruned(traces, pd.DataFrame({"CIFAR-10": [0.9, 0.8]}, index=["x", "z"]))
    assert found["n_evaluations"].tolist() == [4, 2]
    assert found["CIFAR-10"].tolist()[0] == pytest.approx(90)
    assert found["better than, CIFAR-10"].tolist()[0] == 50
    assert found.iloc[1, -2:].isna().all()
