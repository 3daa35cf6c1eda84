"""The study of features: complete tables on made data, the printed figures on the published table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.evaluation import intervals
from naaplib.studies.feature_ablation import records as slow
from naaplib.studies.feature_ablation import tables
from naaplib.tables import naap440


@pytest.fixture(scope="module")
def made(made_path: Path) -> pd.DataFrame:
    """The made table."""
    return naap440.read(made_path)


@pytest.fixture(scope="module")
def published(published_path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The published table and its 40 test rows."""
    table = naap440.read(published_path)
    return table, naap440.split(table, ties="log-name")


def runs(source: Path | str, name: str, **others: object) -> pd.DataFrame:
    """The table of one record, made now: of one seed and the paper's split, unless others are given."""
    given = {"ties": "log-name", "algorithms": [], "first_seed": 0, "n_seeds": 1, "training_lengths": [3],
             "split_indices": [5], "n_folds": 2, "cv_seed": 0, "n_jobs": 1}  # fmt: skip
    (piece,) = [piece for piece in slow.pieces(source=str(source), **(given | others)) if piece.name == name]
    return piece.make()


def test_table_1_has_every_printed_row_with_its_features(made_path: Path) -> None:
    """Eight rows in printed order; all six features order made networks better than all but the one they depend on."""
    found = tables.table_1(runs(made_path, slow.SCHEME, algorithms=["Linear Regression"])).set_index("features")
    assert found.index.tolist()[-1] == "LogNumParams & NumStages"
    assert len(found) == 8
    assert found["violations_printed"].tolist() == [50, 57, 57, 58, 60, 81, 111, 48]
    assert found.loc["All but LogNumParams", "mae"] > found.loc["All", "mae"]


def test_table_2_leaves_out_the_cell_without_features(made_path: Path) -> None:
    """Lengths by feature counts, sorted; a length that the paper does not print has nothing to agree with."""
    found = tables.table_2(runs(made_path, slow.EPOCHS, training_lengths=[4, 0]))
    assert found[["epochs", "n_scheme_features"]].to_numpy().tolist() == [[0, 2], [0, 6], [4, 0], [4, 2], [4, 6]]
    assert found["violations_printed"].isna().tolist() == [False, False, True, True, True]
    assert found["agrees"].tolist()[2:] == ["", "", ""]


def test_logarithms_come_out_as_printed(published: tuple[pd.DataFrame, np.ndarray]) -> None:
    """89 to 64 violations, 2.3 % to 1.7 %, exactly; 58, 46, 45 with both logged, as Table 3 prints."""
    found = tables.logarithms(*published, n_jobs=1).set_index(["logarithm_of", "epochs"])
    assert found.loc[("none", 0), ["mae", "violations"]].round(4).tolist() == [0.0231, 89]
    assert found.loc[("parameters", 0), ["mae", "violations"]].round(4).tolist() == [0.0169, 64]
    assert found.loc["parameters and MACs", "violations"].tolist() == [58, 46, 45]
    assert found.loc["parameters", "violations"].tolist() == [64, 56, 47, 46]


def test_table_2_agrees_at_nine_epochs(published_path: Path) -> None:
    """The cells of one row, five seeds: all within 5 violations of the printed 78, 37 and 25."""
    draws = {"first_seed": 20220905, "n_seeds": 5, "n_jobs": 2}
    found = tables.table_2(runs(published_path, slow.EPOCHS, training_lengths=[9], **draws))
    assert found["violations_printed"].tolist() == [78, 37, 25]
    assert set(found["agrees"]) <= {"exact", "within 5"}


def test_naive_reference_of_the_published_table(published: tuple[pd.DataFrame, np.ndarray]) -> None:
    """MAE 0.043; 390 violations or none, by how ties count; random orders within three standard errors of 390."""
    table, is_test = published
    found = tables.naive_reference(table["MaxAccuracy"], is_test)
    assert round(found.loc[0, "mae"], 3) == 0.043
    assert found.loc[0, ["violations", "violations_published"]].tolist() == [390, 0]
    assert abs(found.loc[1, "violations"] - 390) < 3 * found.loc[1, "standard_error"]


def test_comparison_holds_every_predictor_on_every_split(made_path: Path, made: pd.DataFrame) -> None:
    """Forests first, then the given predictions, which score as metrics say; perfect ones score 0."""
    splits = {index: naap440.split(made, index) for index in (5, 2)}
    perfect = pd.concat(
        [
            pd.DataFrame({"split": index, "measured": best, "predicted": best})
            for index, best in ((index, made["MaxAccuracy"][is_test]) for index, is_test in splits.items())
        ]
    )
    found = tables.compare_on_splits(runs(made_path, slow.SPLITS, split_indices=[5, 2]), perfect, name="a guess")
    assert found["predictor"].unique().tolist()[-1] == "a guess"
    assert found["split"].tolist() == [2, 5, 2, 5, 2, 5]
    assert found["violations"].tolist()[-2:] == [0, 0]
    assert (found["mae"][:4] > 0).all()


def test_gains_by_hand() -> None:
    """Two splits, two algorithms: violations of all six less those of a set, their mean, and a sign if all agree."""
    cells = [("A", 0, "All", 9), ("A", 5, "All", 7), ("A", 0, "x", 5), ("A", 5, "x", 5),
             ("B", 0, "All", 4), ("B", 5, "All", 6), ("B", 0, "x", 5), ("B", 5, "x", 5)]  # fmt: skip
    scores = pd.DataFrame(cells, columns=["algorithm", "split", "features", "violations"]).assign(seed=0, mae=0.25)
    found = tables.other_algorithms(scores, n_resamples=50).set_index(["algorithm", "features"])
    assert found["violations_paper"].tolist() == [7, 5, 6, 5]
    assert found["violations_mean"].tolist() == [8, 5, 5, 5]
    assert found["gain"].tolist() == [0, 3, 0, 0]
    assert found.loc[("A", "x"), ["low", "high"]].tolist() == [2, 4]
    assert found.loc[("B", "x"), ["low", "high"]].tolist() == [-1, 1]
    shown = tables.readable(found.reset_index())
    assert shown.to_numpy().tolist() == [["All", "8.0", "5.0"], ["x", "5.0 +", "5.0"]]


def test_the_sentence_has_the_gain_of_two_features_by_algorithm() -> None:
    """Signs are written, and other sets left out."""
    rows = [("A", "All", 0, 0, 0), ("A", tables.TWO, 1.25, -0.5, 3), ("B", tables.TWO, -2, -3, -1)]
    text = tables.sentence(pd.DataFrame(rows, columns=["algorithm", "features", "gain", "low", "high"]))
    assert text.endswith("intervals: A +1.2 (-0.5 to +3.0); B -2.0 (-3.0 to -1.0).")


def test_gains_on_one_split_have_no_interval() -> None:
    """The mean is the difference; bounds are missing, and so is the sign."""
    scores = pd.DataFrame({"algorithm": "A", "split": 5, "features": ["All", "x"], "violations": [9, 5]})
    found = tables.other_algorithms(scores.assign(seed=0, mae=0.25))
    assert found["gain"].tolist() == [0, 4]
    assert found[["low", "high"]].isna().all(axis=None)
    assert tables.readable(found)["A"].tolist() == ["9.0", "5.0"]


def test_bins_mark_the_papers_test_architectures(published: tuple[pd.DataFrame, np.ndarray]) -> None:
    """40 bins of 11, ascending; accuracies of the marked ones are those of the published split."""
    table, is_test = published
    found = tables.bins(table["MaxAccuracy"])
    assert found.groupby("bin").size().tolist() == [11] * 40
    assert found.groupby("bin")["is_test"].sum().tolist() == [1] * 40
    assert found["accuracy"].is_monotonic_increasing
    assert found["accuracy"][found["is_test"]].tolist() == sorted(table["MaxAccuracy"][is_test])


def test_summary_by_hand() -> None:
    """Mean, sample sd and range over splits, and the paper's own."""
    scores = pd.DataFrame({
        "predictor": ["b", "b", "a", "a"],
        "split": [0, 5, 0, 5],
        "mae": [0.1, 0.3, 0.2, 0.2],
        "violations": [10.0, 14.0, 5.0, 7.0],
    })  # fmt: skip
    found = tables.summarise_splits(scores, published=5).set_index("predictor")
    assert found.index.tolist() == ["b", "a"]
    assert found.filter(like="violations").loc["b"].tolist() == pytest.approx([14, 12, np.sqrt(8), 10, 14])
    assert found.filter(like="mae").loc["a"].tolist() == pytest.approx([0.2, 0.2, 0, 0.2, 0.2])


def test_intervals_are_those_of_the_metrics() -> None:
    """Three metrics on the paper's split, and the error over all test rows."""
    rng = np.random.default_rng(0)
    predictions = pd.DataFrame({"split": [0] * 20 + [5] * 20, "measured": rng.uniform(size=40)})
    predictions["predicted"] = predictions["measured"] + rng.normal(0, 0.1, 40)
    found = tables.score_with_intervals(predictions, published=5, n_resamples=50, seed=3)
    pair = [predictions[column][20:].to_numpy() for column in ("measured", "predicted")]
    assert found["metric"].tolist() == ["mae", "violations", "kendall_tau", "mae, all splits"]
    assert found["n"].tolist() == [20, 20, 20, 40]
    assert found["value"].tolist()[:3] == [metrics.mae(*pair), metrics.violations(*pair), metrics.kendall_tau(*pair)]
    assert found["value"][3] == metrics.mae(predictions["measured"], predictions["predicted"])
    expected = intervals.bootstrap_interval(*pair, metric=metrics.violations, n_resamples=50, seed=3)
    assert (found["low"][1], found["high"][1]) == expected
