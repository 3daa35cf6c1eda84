"""Ranking by scores: tables by hand and against plain bootstraps, their laws, published numbers, what figures show."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from naaplib import metrics
from naaplib.architectures import cells
from naaplib.evaluation import ranking
from naaplib.studies.training_free_scores import figures

TAUS = ["tau_a", "tau_b", "with_baseline", "gain", "partial"]


def make_scores(n: int = 30) -> tuple[pd.Series, pd.DataFrame]:
    """Accuracies with ties, a size that tells something of them, a score of few values, and one that lacks three."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=n)
    measured = size + rng.normal(size=n)
    scores = pd.DataFrame({
        "n_params": size, "few": np.round(measured + rng.normal(size=n)), "gaps": measured + size**2,
    })  # fmt: skip
    scores.loc[[2, 5, 11], "gaps"] = np.nan
    return pd.Series(np.round(measured, 1)), scores


def make_values(draws: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Tidy values of one score: by condition, a list of repeats for each architecture."""
    rows = [
        (f"net {architecture}", condition, repeat, value)
        for condition, table in draws.items()
        for architecture, values in enumerate(table)
        for repeat, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["architecture", "condition", "repeat", "value"])


def bootstrap_plainly(values: np.ndarray, n_resamples: int, seed: int) -> pd.DataFrame:
    """Taus of one resample after the other, from the drawn rows of (measured, score, size)."""
    rows = []
    for draw in np.random.default_rng(seed).integers(values.shape[1], size=(n_resamples, values.shape[1])):
        tau, own, between = (metrics.kendall_tau(*pair) for pair in combinations(values[:, draw], 2))
        tau_a = metrics.kendall_tau(values[0, draw], values[1, draw], variant="a", rows=draw)
        rows.append([tau_a, tau, between, tau - own, metrics.partial_correlation(tau, own, between=between)])
    return pd.DataFrame(rows, columns=TAUS)


# What a score tells, and what it adds


def test_ranks_by_hand() -> None:
    """Four networks, six pairs: the size has one of them wrong, and the score has it tied and the others right."""
    scores = pd.DataFrame({"n_params": [1.0, 3.0, 2.0, 4.0], "score": [1.0, 2.0, 2.0, 3.0]})
    found = ranking.ranks(pd.Series([0.1, 0.2, 0.3, 0.4]), scores, baseline="n_params", n_resamples=10)
    size, score = found.to_dict("records")
    assert (size["score"], size["n"], size["tie_share"]) == ("n_params", 4, 0)
    assert [size[name] for name in TAUS] == pytest.approx([4 / 6, 4 / 6, 1, 0, np.nan], nan_ok=True)
    assert (score["score"], score["n"], score["tie_share"]) == ("score", 4, 1 / 6)
    tau, own = 5 / np.sqrt(6 * 5), 4 / 6  # tau is also that of score and size
    partial = (tau - own * tau) / np.sqrt((1 - own**2) * (1 - tau**2))
    assert [score[name] for name in TAUS] == pytest.approx([5 / 6, tau, tau, tau - own, partial])
    ends = [f"{name}_{end}" for name in TAUS for end in ("low", "high")]
    assert set(found) == {"score", "n", "tie_share", *TAUS, *ends}


@pytest.mark.parametrize("rows_at_once", [7, 1024])
def test_intervals_equal_a_plain_bootstrap(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow twin: tau by tau on drawn rows, with ties and gaps; in one block of rows, and in many."""
    monkeypatch.setattr(ranking, "ROWS", rows_at_once)
    measured, scores = make_scores()
    found = ranking.ranks(measured, scores, baseline="n_params", n_resamples=40, level=0.8, seed=3).set_index("score")
    for name in scores:
        here = scores[name].notna()
        values = np.stack([measured[here], scores.loc[here, name], scores.loc[here, "n_params"]])
        ends = bootstrap_plainly(values, 40, seed=3).quantile([0.1, 0.9])
        for end, expected in zip(("low", "high"), ends[TAUS].to_numpy(), strict=True):
            np.testing.assert_allclose(found.loc[name, [f"{tau}_{end}" for tau in TAUS]].astype(float), expected)


def test_neither_order_nor_scale_matters() -> None:
    """Law: rows in another order change no tau, and a score that rises with another is as good to the last digit."""
    measured, scores = make_scores()
    found = ranking.ranks(measured, scores, baseline="n_params", n_resamples=20)
    stretched = scores.assign(few=np.exp(scores["few"]), n_params=scores["n_params"] ** 3)
    pd.testing.assert_frame_equal(ranking.ranks(measured**3, stretched, baseline="n_params", n_resamples=20), found)
    shuffled = np.random.default_rng(1).permutation(len(measured))
    other = ranking.ranks(measured.iloc[shuffled], scores.iloc[shuffled], baseline="n_params", n_resamples=20)
    pd.testing.assert_frame_equal(other[["n", "tie_share", *TAUS]], found[["n", "tie_share", *TAUS]])


def test_networks_are_matched_by_name() -> None:
    """Scores in another order of rows than what was measured, and of fewer or more networks, give the same."""
    measured, scores = make_scores()
    found = ranking.ranks(measured, scores, baseline="n_params", n_resamples=20)
    more = pd.concat([scores.iloc[::-1], pd.DataFrame({"n_params": [1.0]}, index=[99])])
    pd.testing.assert_frame_equal(ranking.ranks(measured, more, baseline="n_params", n_resamples=20), found)


def test_networks_drawn_twice_make_no_pair_with_themselves() -> None:
    """Law: a perfect score has tau-a and tau-b 1 on every resample."""
    ten = pd.Series(range(10), dtype=float)
    found = ranking.ranks(ten, pd.DataFrame({"n_params": -ten, "best": ten}), baseline="n_params", n_resamples=500)
    assert found.loc[1, ["tau_a", "tau_b", "tau_b_low", "tau_b_high"]].tolist() == [1, 1, 1, 1]
    assert found.loc[1, ["tau_a_low", "tau_a_high"]].tolist() == [1, 1]
    assert found.loc[0, ["tau_b", "gain", "gain_low", "gain_high"]].tolist() == [-1, 0, 0, 0]
    assert found.loc[1, ["with_baseline", "gain", "gain_low"]].tolist() == [-1, 2, 2]


def test_scores_that_tell_nothing_have_no_numbers() -> None:
    """NaN, without a warning, where all values are equal or missing; tau-a of a constant score is 0."""
    measured, scores = make_scores()
    odd = scores.assign(constant=1.0, missing=np.nan, one=scores["few"].where(scores.index == 3))
    found = (
        ranking.ranks(measured, odd, baseline="n_params", n_resamples=10)
        .set_index("score")
        .loc[["constant", "missing", "one"]]
    )
    assert found["n"].tolist() == [30, 0, 1]
    assert found.loc["constant", ["tie_share", "tau_a", "tau_a_low"]].tolist() == [1, 0, 0]
    assert found[["tau_b", "tau_b_low", "gain", "partial_high"]].isna().all(axis=None)
    assert found.loc[["missing", "one"]].drop(columns="n").isna().all(axis=None)


def test_published_taus_of_counts_on_all_cells(nasbench201) -> None:
    """Published numbers: parameters and ReLU units of 15,625 cells against their accuracy on CIFAR-10, both taus."""
    reached = nasbench201.query("epochs == 200 and runs == 'mean' and dataset == 'CIFAR-10'").set_index("architecture")
    counts = cells.sizes([cells.from_string(text) for text in reached.index]).set_index(reached.index)
    columns = ["n_params", "n_relu_units"]
    found = ranking.ranks(reached["accuracy"], counts[columns], baseline="n_params", n_resamples=1).set_index("score")
    assert found["n"].tolist() == [15625] * 2
    assert found["tau_a"].round(3).tolist() == [0.552, 0.509]
    assert found["tau_b"].round(3).tolist() == [0.578, 0.580]
    assert found.loc["n_relu_units", "tie_share"] == pytest.approx(0.231, abs=5e-4)


def test_matrix_by_hand() -> None:
    """Each two scores on the networks that have both; with itself 1; none where fewer than two networks have both."""
    scores = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 1.0, np.nan], "c": [np.nan, np.nan, 2.0]})
    found = ranking.matrix(scores)
    assert found[["score", "other", "n"]].to_numpy().tolist() == [
        ["a", "a", 3], ["a", "b", 2], ["a", "c", 1], ["b", "a", 2], ["b", "b", 2], ["b", "c", 0],
        ["c", "a", 1], ["c", "b", 0], ["c", "c", 1],
    ]  # fmt: skip
    np.testing.assert_equal(found["tau_b"].tolist(), [1, -1, np.nan, -1, 1, np.nan, np.nan, np.nan, np.nan])


# How steady a ranking is


def test_stability_by_hand() -> None:
    """Three networks: two draws that agree on one pair of three; another condition, drawn once, that reverses the mean.

    Means are 1.5, 2.5, 2; mean squares are 0.5 between networks and 1 within: (0.5 - 1) / (0.5 + 1).
    """
    values = make_values({"weights": [[1, 2], [2, 3], [3, 1]], "noise": [[3], [1], [2]]})
    found = ranking.stability(values.sample(frac=1, random_state=0), "weights").set_index("condition")
    expected = pd.DataFrame(
        {
            "n": 3, "n_repeats": [2, 1], "within": [-1 / 3, np.nan], "within_least": [-1 / 3, np.nan],
            "between_share": [-1 / 3, np.nan], "with_reference": [1.0, -1.0],
        },
        index=pd.Index(["weights", "noise"], name="condition"),
    )  # fmt: skip
    pd.testing.assert_frame_equal(found.loc[expected.index], expected)


def test_agreement_within_is_over_all_pairs_of_repeats() -> None:
    """Of three repeats, two are equal and the third is reversed: tau 1, -1, -1."""
    (found,) = ranking.stability(make_values({"x": [[1, 1, 4], [2, 2, 3], [3, 3, 2]]}), "x").to_dict("records")
    assert (found["within"], found["within_least"]) == (pytest.approx(-1 / 3), -1)


def test_share_between_networks_is_the_one_that_was_put_in() -> None:
    """Simulation: sd 2 between and 1 within networks make a share of 0.8; equal repeats make 1, noise about 0."""
    rng = np.random.default_rng(0)
    networks, noise = rng.normal(0, 2, (2000, 1)), rng.normal(0, 1, (2000, 3))
    draws = {"both": networks + noise, "equal": np.repeat(networks, 3, axis=1), "noise": noise}
    found = ranking.stability(make_values({name: table.tolist() for name, table in draws.items()}), "both")
    assert found["condition"].tolist() == ["both", "equal", "noise"]
    np.testing.assert_allclose(found["between_share"], [0.8, 1, 0], atol=0.02)
    assert found.loc[1, "within"] == 1


def test_conditions_are_compared_on_the_networks_that_have_all_values() -> None:
    """A network without one value is left out everywhere; a condition without any value is a row without numbers."""
    values = make_values({"x": [[1, 1], [2, 2], [3, 3], [0, 9]], "y": [[1], [2], [3], [np.nan]], "z": [[np.nan]] * 4})
    found = ranking.stability(values, "x").set_index("condition")
    assert found["n"].tolist() == [3, 3, 0]
    assert found["n_repeats"].tolist() == [2, 1, 0]
    assert (found.loc["x", "within"], found.loc["y", "with_reference"]) == (1, 1)
    assert found.loc["z"].drop(["n", "n_repeats"]).isna().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranking.ranks(*make_scores(), baseline="size"), "baseline is 'size'; .* scores: n_params, few, gaps"),
        (lambda: ranking.stability(make_values({"x": [[1]]}), "y"), "reference is 'y'; .* conditions: x"),
        (
            lambda: ranking.stability(pd.concat([make_values({"x": [[1], [2]]})] * 2), "x"),
            "2 of 4 rows are of a repeat that came before",
        ),
    ],
)
def test_misuse_is_refused_with_what_came_and_what_is_allowed(call, message: str) -> None:
    """Each wrong argument has its own message."""
    with pytest.raises(ValueError, match=message):
        call()


# Figures


def test_taus_are_drawn_where_they_are(axes: Axes) -> None:
    """Best mean on top, data sets about their row, each with its interval and its baseline's line."""
    taus = pd.DataFrame({
        "dataset": ["one", "one", "two", "two"], "score": ["n_params", "snip", "n_params", "snip"],
        "tau_b": [0.5, 0.3, 0.6, 0.4], "tau_b_low": [0.4, 0.2, 0.5, 0.3], "tau_b_high": [0.7, 0.4, 0.8, 0.5],
    })  # fmt: skip
    figures.draw_taus(axes, taus, baseline="n_params")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["snip", "n params"]
    points = {line.get_label(): line for line in axes.get_lines() if line.get_label() in ("one", "two")}
    np.testing.assert_allclose(points["one"].get_xydata(), [[0.3, 0.2], [0.5, 1.2]])
    np.testing.assert_allclose(points["two"].get_xydata(), [[0.4, -0.2], [0.6, 0.8]])
    bars = [segment[:, 0].tolist() for part in axes.collections for segment in part.get_segments()]
    assert bars == [[0.2, 0.4], [0.4, 0.7], [0.3, 0.5], [0.5, 0.8]]
    dotted = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert dotted == [0.5, 0.6]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["one", "two"]


def test_a_matrix_is_drawn_once_below_the_diagonal(axes: Axes) -> None:
    """A number for each two scores, none for a missing one; as dark for a negative one as for a positive."""
    scores = pd.DataFrame({"a": [1.0, 2, 3, 4], "b_c": [4.0, 3, 2, 1], "d": [2.0, 1, 4, 3], "e": np.nan})
    figures.draw_matrix(axes, ranking.matrix(scores))
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((0, 0), "−1.00"), ((0, 1), ".33"), ((1, 1), "−.33")
    ]  # fmt: skip
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b c", "d", "e"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b c", "d"]
    shades = axes.images[0].get_array()
    np.testing.assert_allclose(shades[:2].filled(np.nan), [[1, np.nan, np.nan], [1 / 3, 1 / 3, np.nan]])
    assert axes.texts[0].get_color() == "white"


def test_a_matrix_shows_no_negative_zero(axes: Axes) -> None:
    """What rounds to nothing has no sign."""
    taus = pd.DataFrame({"score": list("aabb"), "other": list("abab"), "n": 99, "tau_b": [1, -0.001, -0.001, 1]})
    figures.draw_matrix(axes, taus)
    assert [text.get_text() for text in axes.texts] == [".00"]


def test_penalties_are_told_apart_by_line_and_mark(axes: Axes) -> None:
    """A line each through its factors; a mark for the penalty, full or dashed for the reading."""
    names = ["gaussian, intended", "gaussian, printed", "rayleigh, intended"]
    factors = pd.DataFrame(
        {"penalty": np.repeat(names, 2), "size": [0.1, 0.3] * 3, "factor": [1, 0.9, 0.1, 0.8, 1, 0.2]}
    )
    figures.draw_penalties(axes, factors)
    lines = axes.get_lines()
    for line, (_, part) in zip(lines, factors.groupby("penalty", sort=False), strict=True):
        assert line.get_xydata().tolist() == part[["size", "factor"]].to_numpy().tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-"]
    assert lines[0].get_marker() == lines[1].get_marker() != lines[2].get_marker()


def test_searches_are_drawn_side_by_side(axes: Axes) -> None:
    """Means in the order of what was drawn, about their place, with one sd to either side."""
    searches = pd.DataFrame({
        "score": ["n_params", "random"] * 2, "n_samples": [1000, 1000, 10, 10],
        "accuracy_mean": [0.75, 0.5, 0.625, 0.375], "accuracy_sd": [0.125, 0.25, 0.125, 0.25],
    })  # fmt: skip
    figures.draw_search(axes, searches)
    handles, labels = axes.get_legend_handles_labels()
    assert labels == ["n params", "random"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["10", "1,000"]
    assert handles[0].lines[0].get_xydata().tolist() == [[-0.125, 0.625], [0.875, 0.75]]
    assert handles[1].lines[0].get_xydata().tolist() == [[0.125, 0.375], [1.125, 0.5]]
    ends = [segment[:, 1].tolist() for segment in handles[0].lines[2][0].get_segments()]
    assert ends == [[0.5, 0.75], [0.625, 0.875]]


def test_one_column_against_another(axes: Axes) -> None:
    """A dot a network, drawn as an image only where there are thousands."""
    frame = pd.DataFrame({"n_params": [1.0, 2.0], "test_accuracy": [0.5, 0.75]})
    figures.draw_against(axes, frame, x="n_params", y="test_accuracy")
    figures.draw_against(axes, pd.concat([frame] * 3000), x="n_params", y="test_accuracy")
    few, many = axes.get_lines()
    assert few.get_xydata().tolist() == [[1, 0.5], [2, 0.75]]
    assert (few.get_rasterized(), many.get_rasterized()) == (False, True)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("n params", "test accuracy")


def test_more_scores_than_can_be_told_apart_are_refused(axes: Axes) -> None:
    """Eight marks; a ninth score has none."""
    searches = pd.DataFrame({"score": list("abcdefghi"), "n_samples": 10, "accuracy_mean": 0.5, "accuracy_sd": 0.1})
    with pytest.raises(ValueError, match="9 are too many for one figure; 8 can be told apart"):
        figures.draw_search(axes, searches)
