"""What scores cost, where they have no value, what they add: on tables small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest

from naaplib.evaluation import protocols
from naaplib.studies.training_free_scores import tables

ROWS = [
    # architecture, repeat, score, value, reason, seconds, build_seconds
    ("2", 1, "n_params", 10.0, "", 0.1, 0.5),
    ("2", 1, "nas_wot", 4.0, "", 2.0, 0.5),
    ("2", 2, "n_params", 10.0, "", 0.1, 0.7),
    ("2", 2, "nas_wot", 8.0, "", 4.0, 0.7),
    ("1", 1, "n_params", 7.0, "", 0.3, 0.9),
    ("1", 1, "nas_wot", np.nan, "128 images switch the ReLUs in 2 ways", 6.0, 0.9),
    ("1", 2, "n_params", 7.0, "", 0.3, 0.9),
    ("1", 2, "nas_wot", 5.0, "", 8.0, 0.9),
]


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two architectures, two scores, two repeats, one of eight without a value."""
    columns = ["architecture", "repeat", "score", "value", "reason", "seconds", "build_seconds"]
    return pd.DataFrame(ROWS, columns=columns).assign(condition="default")


def test_wide_averages_repeats_that_have_a_value(scores) -> None:
    """Architectures and scores in order of appearance; a repeat without a value is left out of the mean."""
    expected = pd.DataFrame({"n_params": [10.0, 7.0], "nas_wot": [6.0, 5.0]}, index=pd.Index(["2", "1"]))
    pd.testing.assert_frame_equal(tables.wide(scores), expected, check_names=False)


def test_wide_is_nan_where_no_repeat_has_a_value(scores) -> None:
    """An architecture that never has a score stays in the table."""
    scores.loc[scores["score"] == "nas_wot", "value"] = np.nan
    assert tables.wide(scores)["nas_wot"].isna().tolist() == [True, True]


def test_side_table_has_a_spread_for_scores_that_chance_enters(scores) -> None:
    """Sorted by ModelId, with the number of repeats; counts have no spread; one value has none either."""
    expected = pd.DataFrame({
        "ModelId": [1, 2], "n_repeats": [2, 2], "n_params": [7.0, 10.0], "nas_wot": [5.0, 6.0],
        "nas_wot_sd": [np.nan, np.std([4, 8], ddof=1)],
    })  # fmt: skip
    pd.testing.assert_frame_equal(tables.side_table(scores), expected)


def test_costs_are_medians_relative_to_the_reference(scores) -> None:
    """Medians over all timings, also of scores without a value; networks made are timed once a repeat."""
    costs = tables.costs(scores).set_index("score")
    assert costs["seconds"].to_dict() == pytest.approx({
        "n_params": 0.2, "nas_wot": 5.0, "(making the network)": 0.8,
    })  # fmt: skip
    assert costs["relative"].to_dict() == pytest.approx({
        "n_params": 0.04, "nas_wot": 1.0, "(making the network)": 0.16,
    })  # fmt: skip
    assert costs["n"].tolist() == [4, 4, 4]
    assert costs["n_without"].tolist() == [0, 1, 0]
    assert costs.loc["nas_wot", "seconds_10"] == pytest.approx(2.6)


def test_costs_without_the_reference_have_no_ratio(scores) -> None:
    """A run of counts only is not an error."""
    assert tables.costs(scores[scores["score"] == "n_params"])["relative"].isna().all()


def test_seconds_of_a_search_include_making_the_network(scores) -> None:
    """Mean over repeats of score and making."""
    assert tables.seconds(scores).loc["2"].to_dict() == pytest.approx({"n_params": 0.7, "nas_wot": 3.6})


def test_hours_add_up_scores_and_networks_made_once(scores) -> None:
    """20.8 seconds of scores and 3.0 of four networks made."""
    assert tables.hours(scores) == pytest.approx(23.8 / 3600)


def test_reasons_are_counted_whatever_their_numbers(scores) -> None:
    """Reasons that differ in numbers only are one."""
    scores.loc[3, ["value", "reason"]] = [np.nan, "64 images switch the ReLUs in 3 ways"]
    found = tables.reasons(scores)
    assert found.to_dict("records") == [
        {"score": "nas_wot", "reason": "... images switch the ReLUs in ... ways", "n": 2}
    ]


def test_penalised_scores_are_products(scores) -> None:
    """Below the target the intended factor is 1 and the printed one is the size itself; both readings of three."""
    found = tables.penalised(pd.Series([3.0, 5.0]), pd.Series([0.1, 0.5]))
    assert list(found) == [
        "no penalty", "gaussian, intended", "gaussian, printed", "hyperbolic secant, intended",
        "hyperbolic secant, printed", "rayleigh, intended", "rayleigh, printed",
    ]  # fmt: skip
    assert found.loc[0].to_list() == pytest.approx([3.0] + 3 * [3.0, 0.3])
    assert (found.loc[1, found.columns[1:]] < 5).all()
    assert found.loc[1, "gaussian, intended"] == pytest.approx(5 * np.exp(-((0.3 / 0.4) ** 2) / 2))


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    """A score that knows the accuracy and one that is noise, added to a feature that is half noise."""
    rng = np.random.default_rng(0)
    truth = pd.Series(rng.normal(size=60), index=pd.RangeIndex(1, 61, name="ModelId"))
    plain = pd.DataFrame({"half": truth + rng.normal(size=60)})
    side = pd.DataFrame({"ModelId": truth.index, "knows": truth.to_numpy(), "noise": rng.normal(size=60)})
    splits = {0: np.arange(60) % 6 == 0, 1: np.arange(60) % 6 == 1}
    return tables.added(truth, {"half": plain}, scores=side, names=["knows", "noise"], splits=splits, seed=1, n_jobs=1)


def test_a_score_that_knows_the_accuracy_takes_the_violations_away(gains) -> None:
    """Linear regression on the accuracy itself has none; changes are against the same split without the score."""
    linear = gains[gains["algorithm"] == "Linear Regression"].set_index("added")
    assert linear.index.tolist() == ["nothing", "knows", "noise", "all scores"]
    assert linear.loc["knows", "violations"] == linear.loc["all scores", "violations"] == 0
    assert linear.loc["knows", "change"] == -linear.loc["nothing", "violations"]
    assert linear.loc["knows", "better"] == linear.loc["knows", "n_splits"] == 2
    assert linear.loc["nothing", ["change", "change_sd", "better"]].tolist() == [0, 0, 0]


def test_a_change_is_the_mean_over_splits(gains) -> None:
    """The difference of means equals the mean of differences, as splits are the same."""
    for _, part in gains.groupby("algorithm"):
        plain = part.loc[part["added"] == "nothing", "violations"].iloc[0]
        np.testing.assert_allclose(part["violations"] - plain, part["change"], atol=1e-12)


def test_added_is_the_protocol_of_the_regression_chapter() -> None:
    """The same violations as from the protocol called by hand on the joined features."""
    rng = np.random.default_rng(1)
    truth = pd.Series(rng.normal(size=40), index=pd.RangeIndex(1, 41, name="ModelId"))
    plain, side = pd.DataFrame({"a": rng.normal(size=40)}, index=truth.index), rng.normal(size=40)
    split = {5: np.arange(40) % 4 == 0}
    table = pd.DataFrame({"ModelId": truth.index, "s": side})
    found = tables.added(truth, {"a": plain}, scores=table, names=["s"], splits=split, seed=3, n_jobs=1)
    runs = protocols.score(
        protocols.predict(
            truth, {"x": plain.assign(s=side)}, algorithms=tables.ALGORITHMS, seeds=[3], splits=split, n_jobs=1
        )
    )
    assert found.loc[found["added"] == "s", "violations"].tolist() == runs["violations"].tolist()


@pytest.fixture
def ranked() -> pd.DataFrame:
    """Two data sets, the count of parameters, the ReLU count, two scores."""
    return pd.DataFrame(
        [
            ("NAAP-440", "n_params", 0.6, 0.0, np.nan), ("NAAP-440", "relu_count", 0.4, -0.3, 0.3),
            ("NAAP-440", "nas_wot", 0.5, -0.2, 0.2), ("NAAP-440", "snip", 0.7, 0.05, 0.5),
            ("CIFAR-10", "n_params", 0.55, 0.0, np.nan), ("CIFAR-10", "relu_count", 0.58, 0.01, 0.3),
            ("CIFAR-10", "nas_wot", 0.59, -0.02, 0.4), ("CIFAR-10", "snip", 0.3, -0.4, 0.1),
        ],
        columns=["dataset", "score", "tau_b", "gain_low", "partial"],
    )  # fmt: skip


@pytest.fixture
def cost() -> pd.DataFrame:
    """Relative costs in two spaces."""
    rows = [("NAAP-440", "relu_count", 0.1), ("NAAP-440", "nas_wot", 1.0), ("NAS-Bench-201", "relu_count", 0.02)]
    return pd.DataFrame(rows, columns=["space", "score", "relative"])


def test_verdict_has_one_row_a_score(ranked, cost, gains) -> None:
    """Taus, partial taus and costs side by side, in the order of the scores; gaps where something was not measured."""
    table = tables.verdict(ranked, cost, gains=gains).set_index("score")
    assert table.index.tolist() == ["n_params", "relu_count", "nas_wot", "snip"]
    assert table.loc["nas_wot", ["NAAP-440", "CIFAR-10", "partial CIFAR-10", "cost NAAP-440"]].tolist() == [
        0.5, 0.59, 0.4, 1.0,
    ]  # fmt: skip
    assert table["change"].isna().all()  # none of these scores was added


def test_sentence_names_all_that_is_clearly_better(ranked, gains) -> None:
    """Clearly: the interval of the gain lies above 0. Counts are named too, apart from scores where there is room."""
    first, second, _ = tables.sentences(ranked, gains)
    assert "of 2 scores of untrained networks `snip` ranks networks clearly better than the parameter count" in first
    assert first.endswith("whose tau-b is **0.60**; of other counts none does.")
    assert second == "Clearly better than the parameter count on the cells of NAS-Bench-201: on CIFAR-10 `relu_count`."


def test_sentence_shows_every_feature_set(ranked, gains) -> None:
    """What all scores bring where features are few stands beside what they bring where there are more."""
    rich = gains.assign(features="rich", violations=gains["violations"] / 2)
    text = tables.sentences(ranked, pd.concat([gains, rich], ignore_index=True))[-1]
    least = gains[gains["added"] == "nothing"]["violations"].min()
    assert f"has, as a mean over 2 splits, on half {least:.1f} violations and **" in text
    assert f"; on rich {least / 2:.1f} violations and **" in text
