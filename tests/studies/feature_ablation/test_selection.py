"""Selection: the rule by hand, folds by a literal loop, and test accuracies that cannot influence what is predicted."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor

from naaplib.studies.feature_ablation.selection import (
    Choice,
    choose,
    choose_by_split,
    cross_validate,
    out_of_fold,
    predict_chosen,
)

FEW = {
    "Neighbours": {"1": KNeighborsRegressor(1), "3": KNeighborsRegressor(3)},
    "Linear": {"plain": LinearRegression()},
    "Mean": {"plain": DummyRegressor()},
}


def rows(n: int = 44) -> tuple[pd.DataFrame, np.ndarray]:
    """Two features indexed by ModelId, and a target that is nearly linear in them."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"], index=pd.RangeIndex(1, n + 1, name="ModelId"))
    return features, 0.6 + (features @ [0.05, -0.02]).to_numpy() + rng.normal(0, 0.005, n)


def select_and_predict(
    features: pd.DataFrame, measured: np.ndarray, splits: dict, n_folds: int = 5, seed: int = 0
) -> tuple[dict[int | str, Choice], pd.DataFrame]:
    """The whole rule with few candidates: out-of-fold predictions, choices, and predictions of test rows."""
    choices = choose_by_split(cross_validate(features, measured, splits, FEW, n_folds=n_folds, seed=seed, n_jobs=1))
    return choices, predict_chosen(features, measured, splits, FEW, choices=choices, n_jobs=1)


def test_the_rule_by_hand() -> None:
    """Best setting of each family, families by error, and the average that errs least."""
    measured = np.array([0.0, 0.0])
    choice = choose(
        measured,
        {
            ("A", "poor"): np.array([9.0, 9.0]),
            ("B", "only"): np.array([-0.5, 3.0]),
            ("A", "good"): np.array([1.0, -2.0]),
            ("C", "only"): np.array([5.0, 5.0]),
        },
    )
    assert choice.members == (("A", "good"), ("B", "only"))
    assert choice.describe() == "A (good) + B (only)"
    assert choice.scores["mae"].tolist() == [9, 1.75, 1.5, 5]
    assert choice.scores["best_in_family"].tolist() == [False, True, True, True]
    assert choice.averages["mae"].tolist() == pytest.approx([1.5, 0.375, (5.5 + 6) / 6])
    assert choice.averages["families"].tolist() == ["A", "A + B", "A + B + C"]
    assert choice.averages["chosen"].tolist() == [False, True, False]


def test_of_equals_the_first_and_the_smaller_number_win() -> None:
    """Two families that predict alike: averaging them gains nothing, so the first stands alone."""
    same = np.array([0.1, 0.2])
    choice = choose(np.zeros(2), {("B", "x"): same, ("B", "y"): same, ("A", "x"): same})
    assert choice.members == (("B", "x"),)


def test_out_of_fold_predictions_equal_a_literal_loop() -> None:
    """Every row is predicted by a model that was fitted to the other folds."""
    features, measured = rows()
    expected = np.full(44, np.nan)
    for rest, fold in KFold(4, shuffle=True, random_state=3).split(features):
        model = LinearRegression().fit(features.iloc[rest], measured[rest])
        expected[fold] = model.predict(features.iloc[fold])
    assert out_of_fold(LinearRegression(), features, measured, n_folds=4, seed=3).tolist() == expected.tolist()


def test_a_rows_own_accuracy_does_not_reach_its_prediction() -> None:
    """Changing one accuracy changes predictions of the other folds only."""
    features, measured = rows()
    changed = measured.copy()
    changed[0] += 1
    before, after = (out_of_fold(LinearRegression(), features, y, n_folds=4, seed=3) for y in (measured, changed))
    assert before[0] == after[0]
    assert (before != after).sum() == 33


def test_out_of_fold_predictions_of_splits_are_those_of_their_training_rows() -> None:
    """Two splits: columns are named by family and setting, and each equals `out_of_fold` on the split's rows."""
    features, measured = rows()
    splits = {i: np.arange(44) % 4 == i for i in (2, 0)}
    found = cross_validate(features, measured, splits, FEW, n_folds=3, seed=1, n_jobs=1)
    assert found.columns.tolist()[3:] == ["Neighbours: 1", "Neighbours: 3", "Linear: plain", "Mean: plain"]
    assert found["split"].unique().tolist() == [2, 0]
    for split, is_test in splits.items():
        part = found[found["split"] == split]
        expected = out_of_fold(FEW["Linear"]["plain"], features[~is_test], measured[~is_test], n_folds=3, seed=1)
        assert part["Linear: plain"].tolist() == expected.tolist()
        assert part["ModelId"].tolist() == features.index[~is_test].tolist()
        assert part["measured"].tolist() == measured[~is_test].tolist()


def test_test_accuracies_influence_nothing_that_is_chosen_or_predicted() -> None:
    """With absurd accuracies in the test rows, choices, their errors and predictions stay the same."""
    features, measured = rows()
    splits = {7: np.arange(44) % 4 == 0}
    absurd = np.where(splits[7], 1e6, measured)
    one, other = (select_and_predict(features, y, splits) for y in (measured, absurd))
    assert one[0][7].members == other[0][7].members == (("Linear", "plain"),)
    pd.testing.assert_frame_equal(one[0][7].scores, other[0][7].scores)
    assert one[1]["predicted"].tolist() == other[1]["predicted"].tolist()
    assert other[1]["measured"].tolist() == [1e6] * 11


def test_every_split_is_predicted_by_its_own_choice() -> None:
    """Two splits, in order: the average of the chosen estimators, refitted to all training rows of the split."""
    features, measured = rows()
    splits = {i: np.arange(44) % 11 == i for i in (5, 0)}
    choices, predictions = select_and_predict(features, measured, splits, n_folds=3, seed=1)
    assert list(choices) == predictions["split"].unique().tolist() == [5, 0]
    for split, is_test in splits.items():
        found = predictions[predictions["split"] == split]
        members = [
            FEW[family][setting].fit(features[~is_test], measured[~is_test]).predict(features[is_test])
            for family, setting in choices[split].members
        ]
        assert found["predicted"].tolist() == pytest.approx(np.mean(members, axis=0).tolist())
        assert found["ModelId"].tolist() == features.index[is_test].tolist()
        assert found["measured"].tolist() == measured[is_test].tolist()
