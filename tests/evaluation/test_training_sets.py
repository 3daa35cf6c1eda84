import numpy as np
import pandas as pd
import pytest

from naaplib.evaluation.training_sets import (
    constant,
    evaluate,
    first_of_distinct,
    masks,
    one_feature,
    seen,
    split,
    summarise,
)

Y = np.array([0.1, 0.2, 0.3, 0.4, 0.5])


def test_splits_are_permutations_that_more_sets_continue() -> None:
    """And the parts cover every architecture once."""
    order = split(20, 8, n_validation=5, n_sets=3, seed=1)
    assert (np.sort(order, axis=1) == np.arange(20)).all()
    assert (split(20, 8, n_validation=5, n_sets=2, seed=1) == order[:2]).all()
    parts = masks(order, 8, n_validation=5)
    assert {name: mask.sum(1).tolist() for name, mask in parts.items()} == {
        "train": [8] * 3, "validation": [5] * 3, "test": [7] * 3
    }  # fmt: skip
    assert (sum(mask.astype(int) for mask in parts.values()) == 1).all()
    assert sorted(order[1, 8:13]) == np.flatnonzero(parts["validation"][1]).tolist()
    with pytest.raises(ValueError, match="15 rows to train on and 5 to validate leave none of 20 to test"):
        split(20, 15, n_validation=5, n_sets=1, seed=1)


def test_cells_equal_to_one_trained_on_are_seen() -> None:
    """By hand, two training sets."""
    expected = [[True, False, True, False, False], [False, True, False, True, True]]
    assert seen(list("abacc"), np.array([[2], [1]]))[0].tolist() == expected[0]
    assert seen(list("abacc"), np.array([[1, 4]])).tolist() == [expected[1]]


def test_the_first_of_those_that_are_the_same_stands_for_them() -> None:
    """Of those in the mask."""
    among = np.array([[False, True, True, True, True]])
    assert first_of_distinct(list("abacc"), among).tolist() == [[False, True, True, True, False]]


def test_metrics_are_of_each_part() -> None:
    """By hand: squared error in the unit asked for, tau-b, R2; a part with fewer than two rows is left out."""
    predicted = np.array([[0.1, 0.2, 0.3, 0.5, 0.4]])
    parts = {"all": np.ones((1, 5), bool), "one": np.eye(5, dtype=bool)[:1], "two": np.array([[0, 0, 0, 1, 1]], bool)}
    table = evaluate(Y, predicted, parts=parts, scale=100)
    assert table["part"].tolist() == ["all", "two"]
    assert table["n"].tolist() == [5, 2]
    assert table["mse"].tolist() == pytest.approx([200 / 5, 100])
    assert table["kendall_tau"].tolist() == pytest.approx([0.8, -1])
    assert table["r2"].tolist() == pytest.approx([1 - 0.02 / 0.1, -3])


def test_summaries_are_over_training_sets() -> None:
    """Mean, standard deviation, and an interval of the mean that lies within the values."""
    rows = {"system": ["a", "a", "a", "b"], "n": 4, "mse": [1.0, 2, 3, 5], "kendall_tau": 0.5, "r2": [0.0, 0, 0, 1]}
    table = summarise(pd.DataFrame(rows), ["system"]).set_index("system")
    assert table.loc["a", ["n_sets", "mse", "mse_sd", "kendall_tau_low", "kendall_tau_high"]].tolist() == [
        3,
        2,
        1,
        0.5,
        0.5,
    ]
    assert 1 <= table.loc["a", "mse_low"] < 2 < table.loc["a", "mse_high"] <= 3
    assert table.loc["b", "mse_low"] == table.loc["b", "mse"] == 5


def test_baselines_see_their_training_rows_only() -> None:
    """The mean, and a straight line: exact where the feature is."""
    training = np.array([[0, 1], [3, 4]])
    np.testing.assert_allclose(constant(Y, training), [[0.15] * 5, [0.45] * 5])
    feature = np.array([1.0, 2, 3, 4, 9])
    line = one_feature(Y, feature, training=training)
    np.testing.assert_allclose(line[0], feature / 10)
    np.testing.assert_allclose(line[1, 3:], [0.4, 0.5])
