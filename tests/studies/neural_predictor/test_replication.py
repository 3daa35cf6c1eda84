"""The replication's stored predictions: published numbers again, rules by hand and against plain loops, messages."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from naaplib import metrics
from naaplib.studies.neural_predictor import figures, replication
from naaplib.tables import printed

TESTS = ("nasbench", "nasbench_two", "nlp")
ROWS = ["dataset", "split", "mse", "kendall_tau", "r2"]


@pytest.fixture(scope="module")
def stored(replication: pd.DataFrame) -> pd.DataFrame:
    """All stored predictions, under a name that leaves the module its own."""
    return replication


@pytest.fixture(scope="module")
def table(stored: pd.DataFrame) -> pd.DataFrame:
    """Table I again, from all stored predictions."""
    return replication.table1(stored, printed.table("neural_predictor_table1")).set_index(["dataset", "split"])


def part(stored: pd.DataFrame, dataset: str, split: str) -> pd.DataFrame:
    return stored[(stored["dataset"] == dataset) & (stored["split"] == split)]


# Table I


def test_full_test_sets(table: pd.DataFrame) -> None:
    """Squared error, tau and R2 on the whole test sets, which the paper does not print."""
    found = table.xs("test", level="split").loc[[replication.DATASETS[name] for name in TESTS]]
    assert found["n"].tolist() == [100_000, 51_290, 10_000]
    assert found[list(replication.MEASURES)].round(3).to_numpy().tolist() == [
        [7.555, 0.690, 0.643], [2.993, 0.597, 0.136], [0.354, 0.148, -0.027],
    ]  # fmt: skip
    assert found[[f"{measure}_printed" for measure in replication.MEASURES]].isna().all(axis=None)


def test_all_but_four_printed_cells_come_out_again(table: pd.DataFrame) -> None:
    """Of 54 cells, four are not the recomputed number, rounded or cut off; in one, a tau stands in an error's place.

    The other three are off by no more than 0.0021.
    """
    misprints = table["misprints"]
    assert misprints[misprints != ""].to_dict() == {
        ("ProxylessNAS on Caltech-101", "test"): "r2",
        ("ProxylessNAS on Oxford Pet", "validation"): "mse",
        ("ProxylessNAS on Oxford Pet", "test"): "kendall_tau",
        ("NAS-Bench-NLP", "validation"): "mse",
    }
    pet = table.loc[("ProxylessNAS on Oxford Pet", "validation")]
    assert (round(pet["mse"], 3), pet["mse_printed"], np.trunc(1000 * pet["kendall_tau"])) == (0.81, 0.224, 224)
    shown = table.dropna(subset="mse_printed")
    assert len(shown) == 18
    gaps = np.stack([(shown[name] - shown[f"{name}_printed"]).abs() for name in replication.MEASURES])
    assert (gaps > 0.0021).sum() == 1


def test_every_printed_row_has_its_place(table: pd.DataFrame) -> None:
    """The columns of printed numbers hold the printed table; what it calls test is ten points in three data sets."""
    found = table.dropna(subset="mse_printed").reset_index()
    found["split"] = found["split"].replace("test, ten points", "test")
    columns = ["dataset", "split", *(f"{name}_printed" for name in replication.MEASURES)]
    expected = printed.table("neural_predictor_table1")[ROWS].to_numpy().tolist()
    assert found[columns].to_numpy().tolist() == expected
    sizes = table["n"].to_numpy().tolist()
    assert sizes == [79, 40, 10, 100_000, 42, 28, 10, 51_290, 76, 5, 5, 208, 40, 40, 212, 10, 10, 79, 40, 10, 10_000]


def test_mean_of_training_rows_as_a_baseline(table: pd.DataFrame) -> None:
    """Predicting one number beats the stored predictor on the tests of Caltech-101, Oxford Pet and NAS-Bench-NLP."""
    test = table.xs("test", level="split")
    assert test["mean_mse"].round(2).tolist() == [21.26, 3.47, 0.43, 9.18, 0.57, 0.35]
    assert (test["mean_mse"] < test["mse"]).tolist() == [False, False, False, True, True, True]


def test_table_by_hand() -> None:
    """Two training rows of mean 2; a test row at 5 that is predicted as 4, and one at 3 as 3."""
    predictions = pd.DataFrame({
        "dataset": "nlp", "split": ["train"] * 2 + ["test"] * 2, "y_true": [1.0, 3, 5, 3], "y_pred": [2.0, 2, 4, 3],
    })  # fmt: skip
    shown = pd.DataFrame([("NAS-Bench-NLP", "test", 0.5, 1.0, 0.501)], columns=ROWS)
    train, test = replication.table1(predictions, shown).to_dict("records")
    assert (train["split"], train["n"], train["mse"], train["mean_mse"], train["misprints"]) == ("train", 2, 1, 1, "")
    assert np.isnan(train["mse_printed"])
    assert (test["split"], test["n"], test["mse"], test["kendall_tau"], test["r2"]) == ("test", 2, 0.5, 1, 0.5)
    assert (test["mean_mse"], test["r2_printed"], test["misprints"]) == (5, 0.501, "r2")


@pytest.mark.parametrize(
    ("value", "shown", "agrees"),
    [
        (0.3796, 0.379, True), (0.3796, 0.38, True), (0.3796, 0.381, False), (0.2678, 0.269, False),
        (-0.0367, -0.036, True), (-0.0367, -0.037, True), (-0.0367, -0.035, False),
    ],
)  # fmt: skip
def test_rounding_and_cutting_off(value: float, shown: float, agrees: bool) -> None:
    """A printed number may be rounded or cut off towards zero, and nothing else."""
    predictions = pd.DataFrame({"dataset": "nlp", "split": "val", "y_true": [0.0, 1.0], "y_pred": [0.0, 1.0]})
    predictions.loc[0, "y_pred"] = np.sqrt((1 - value) / 2)  # of a total of squares of one half: an R2 of `value`
    table = pd.DataFrame([("NAS-Bench-NLP", "validation", np.nan, np.nan, shown)], columns=ROWS)
    (row,) = replication.table1(predictions, table).to_dict("records")
    assert row["r2"] == pytest.approx(value)
    assert (row["misprints"] == "") == agrees


# Ten points


@pytest.mark.parametrize("dataset", TESTS)
def test_rule_gives_the_stored_ten_points(stored: pd.DataFrame, dataset: str) -> None:
    """The positions that the rule gives hold the ten stored pairs, in their order, up to the fifth decimal."""
    full = part(stored, dataset, "test")[["y_true", "y_pred"]].to_numpy()
    ten = part(stored, dataset, "test_10")[["y_true", "y_pred"]].to_numpy()
    np.testing.assert_allclose(full[replication.ten_points(full[:, 1])], ten, rtol=0, atol=6e-6)


def test_ten_points_by_hand() -> None:
    """Sixteen above the lowest: every second, from the first; 18: the last eight of the nine at a stride of two."""
    rising = np.arange(19.0)
    assert replication.ten_points(rising[:17]).tolist() == [0, 0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert replication.ten_points(rising).tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert replication.ten_points(-rising[:9]).tolist() == [8, 0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_too_few_predictions_for_ten_points() -> None:
    """Fewer than eight above the lowest leave no stride."""
    with pytest.raises(ValueError, match="7 predictions lie above the lowest; at least 8 must"):
        replication.ten_points(np.arange(8))


def test_subsets_of_all_rows_and_of_few() -> None:
    """A subset of all rows has the metrics of all; smaller ones differ, and more of them continue fewer."""
    rng = np.random.default_rng(0)
    measured = rng.normal(size=40)
    predicted = measured + rng.normal(size=40)
    whole = replication.subsets(measured, predicted, n_rows=40, n_subsets=2)
    assert whole["mse"].tolist() == pytest.approx([metrics.mse(measured, predicted)] * 2)
    assert whole["kendall_tau"].tolist() == pytest.approx([metrics.kendall_tau(measured, predicted)] * 2)
    few = replication.subsets(measured, predicted, n_subsets=5, seed=1)
    assert (few["n"] == 10).all() and few["r2"].nunique() == 5
    pd.testing.assert_frame_equal(replication.subsets(measured, predicted, n_subsets=9, seed=1).head(5), few)
    with pytest.raises(ValueError, match="n_rows is 41; it must lie between 2 and the number of rows, 40"):
        replication.subsets(measured, predicted, n_rows=41)


def test_ten_points_say_little(stored: pd.DataFrame) -> None:
    """On ten random rows of the test set of NAS-Bench-101, tau lies anywhere from .45 to .88, error from .6 to 7."""
    full = part(stored, "nasbench", "test")
    found = replication.subsets(full["y_true"], full["y_pred"])[["mse", "kendall_tau"]].quantile([0.05, 0.5, 0.95])
    np.testing.assert_allclose(found["mse"], [0.6, 2.2, 7.0], atol=0.15)
    np.testing.assert_allclose(found["kendall_tau"], [0.45, 0.70, 0.89], atol=0.03)


# Seen cells


def test_cells_by_hand() -> None:
    """Predictions that go on in small steps are one cell's, over all sets."""
    found = replication.same_cells([3.0, 1.0], [1.00001, 2.0, 3.00002], tolerance=1.5e-5)
    assert [numbers.tolist() for numbers in found] == [[2, 0], [0, 1, 3]]


def test_leakage_by_hand() -> None:
    """Two rows of a training cell, two of another cell and one of a third."""
    measured, predicted = [1.0, 3.0, 4.0, 6.0, 9.0], [2.0, 2.0, 5.0, 5.0, 7.0]
    found = replication.leakage([2.0, 8.0], measured, predicted=predicted).set_index("part")
    assert found["n"].to_dict() == {
        "all": 5, "training cells": 2, "other cells": 3, "each cell once": 3, "each other cell once": 2,
    }  # fmt: skip
    assert found["n_cells"].tolist() == [3, 1, 2, 3, 2]
    assert found["share"].tolist() == [1, 0.4, 0.6, 1, 2 / 3]
    assert found["mse"].tolist() == pytest.approx([8 / 5, 1, 2, 4 / 3, 2])
    assert "training cells" not in replication.leakage([0.0], measured, predicted=predicted)["part"].tolist()


def test_rows_of_training_cells_among_the_unseen(stored: pd.DataFrame) -> None:
    """36 % of 100,000 test rows, and 40 % of the validation rows, carry the prediction of a training cell.

    On these the error is a sixteenth of that on the others.
    """
    training, test = part(stored, "nasbench", "train")["y_pred"], part(stored, "nasbench", "test")
    assert np.unique(replication.same_cells(training)[0]).size == 51
    found = replication.leakage(training, test["y_true"], predicted=test["y_pred"]).set_index("part")
    expected = {"training cells": [0.36, 0.72, 0.66, 0.96], "other cells": [0.64, 11.37, 0.61, 0.37]}
    assert found.loc[list(expected), ["share", "mse", "kendall_tau", "r2"]].round(2).T.to_dict("list") == expected
    once = found.loc["each cell once"]
    assert (once["n"], round(once["mse"], 1), round(once["r2"], 2)) == (12_895, 23.6, 0.12)
    held = part(stored, "nasbench", "val")
    found = replication.leakage(training, held["y_true"], predicted=held["y_pred"]).set_index("part")
    assert found.loc["training cells", "share"] == 0.4


# The classifier


def test_rates_by_hand() -> None:
    """Three kept, one of them no better than the threshold; two dropped, one of them better."""
    found = replication.classified([92, 93, 91], [95, 10])
    assert found == pytest.approx(
        {"n": 5, "precision": 2 / 3, "accuracy": 3 / 5, "false_negative_rate": 1 / 3, "false_positive_rate": 1 / 2}
    )
    assert np.isnan(replication.classified([90], [90])["false_negative_rate"])
    kept = replication.classified([92, 90])
    assert kept["precision"] == 0.5 and np.isnan(kept["accuracy"])


def test_published_rates_follow_from_the_counts() -> None:
    """97,496 and 2,034 accurate cells kept and dropped, 5,131 and 95,339 others: the accuracy of .96417, of 200,000."""
    kept, dropped = np.repeat([92.0, 90.0], [97_496, 5_131]), np.repeat([92.0, 90.0], [2_034, 95_339])
    found = replication.classified(kept, dropped)
    assert (found["n"], np.trunc(1e5 * found["accuracy"])) == (200_000, 96_417)
    assert (round(found["false_negative_rate"], 4), round(found["false_positive_rate"], 4)) == (0.0204, 0.0511)


def test_kept_test_rows_are_accurate(stored: pd.DataFrame) -> None:
    """95 % of the test rows that the stored classifier kept lie above 91 %, as on the 200,000 rows of its own test."""
    found = replication.classified(part(stored, "nasbench_two", "test")["y_true"])
    assert (found["n"], round(found["precision"], 3)) == (51_290, 0.952)


# Recurrent cells


def test_displaced_by_hand() -> None:
    """Two inputs come between the first operation and the second, and an operation may be read before its turn."""
    plain = [["f", "linear", ["x", "h_prev_0"]], ["h_new_0", "activation_tanh", ["f"]]]
    early = [["a", "blend", ["b"]], ["b", "linear", ["x"]], ["c", "activation_tanh", ["x"]]]  # a b x c
    found = replication.displaced([json.dumps(plain), json.dumps(early)])
    assert found.to_numpy().tolist() == [[2, 1], [3, 1]]


def test_early_stopping_by_hand() -> None:
    """Three models with a last loss; at epoch 2, one has none, and the two others are in the wrong order."""
    losses = pd.DataFrame([[3.0, 2.0, 1.0], [2.0, 1.0, 2.0], [5.0, np.nan, 3.0], [1.0, 1.0, np.nan]], columns=[1, 2, 3])
    found = replication.early_stopping(losses, [1, 2, 3])
    assert found.to_numpy().tolist() == [[1, 3, pytest.approx(1 / 3)], [2, 2, -1], [3, 3, 1]]
    with pytest.raises(ValueError, match=r"epochs \[4\] are not among the columns, 1 to 3"):
        replication.early_stopping(losses, [1, 4])


def test_no_recipe_is_aligned(nasbench_nlp: pd.DataFrame) -> None:
    """All 14,322 recipes have operations at other nodes' edges: 95,518 of 110,288; the first one never is."""
    found = replication.displaced(nasbench_nlp["architecture"].unique())
    assert (len(found), (found["n_displaced"] > 0).sum()) == (14_322, 14_322)
    assert found.sum().tolist() == [110_288, 95_518]
    assert (found["n_displaced"] < found["n_operations"]).all()


def test_an_early_loss_ranks_better_than_the_predictor(nasbench_nlp: pd.DataFrame, table: pd.DataFrame) -> None:
    """Losses after 1, 5 and 10 epochs of 50, of the 11,598 runs that came to an end."""
    runs = nasbench_nlp[nasbench_nlp["status"] == "OK"]
    losses = runs.pivot_table(index="model", columns="epochs", values="validation_loss")
    found = replication.early_stopping(losses, [1, 5, 10])
    assert found["n"].tolist() == [11_598] * 3
    assert found["kendall_tau"].round(3).tolist() == [0.473, 0.703, 0.802]
    assert found["kendall_tau"].min() > 3 * table.loc[("NAS-Bench-NLP", "test"), "kendall_tau"]


# Figures


def test_spread_of_subsets_and_two_lines(axes: Axes) -> None:
    """Every subset that has a value is in a bar; the lines are at the two values."""
    drawn = pd.DataFrame({"n": 10, "kendall_tau": [0.1, 0.2, 0.2, np.nan]})
    figures.draw_ten_points(axes, drawn, chosen=0.8, full=0.7)
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert [line.get_xdata()[0] for line in axes.get_lines()] == [0.8, 0.7]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Kendall's tau-b", "random sets of 10")


def test_seen_and_other_cells_are_told_apart(axes: Axes) -> None:
    """A mark a row, crosses for training cells; what lies outside the limits is counted."""
    figures.draw_seen(
        axes, [92.0], measured=[91.0, 93.0, 94.0, 10.0], predicted=[92.0, 92.0, 90.0, 91.0], limits=(80, 100)
    )
    other, seen, _ = axes.get_lines()
    assert seen.get_xydata().tolist() == [[91, 92], [93, 92]]
    assert other.get_xydata().tolist() == [[94, 90], [10, 91]]
    assert seen.get_marker() != other.get_marker()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "other cells (50% of rows)", "training cells (50% of rows)",
    ]  # fmt: skip
    assert axes.get_xlabel() == "measured (1 rows lie beyond)"
