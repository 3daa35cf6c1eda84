"""Tests of permutation importance and accumulated local effects."""

import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.evaluation.importance import accumulated_effects, permutation_importance


def made(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    width = rng.integers(1, 4, n)
    return pd.DataFrame(
        {"width": width, "depth": (width + rng.integers(0, 2, n)) // 2, "noise": rng.normal(size=n)}, dtype=float
    )


def test_a_feature_that_is_not_used_loses_nothing_and_a_stronger_one_more() -> None:
    """Losses order features by their coefficients; an unused one has exactly none."""
    X = made()
    X["weak"] = np.random.default_rng(1).normal(size=len(X))

    def predict(X: pd.DataFrame) -> pd.Series:
        return 1.0 * X["noise"] + 0.2 * X["weak"]

    groups = {"noise": ["noise"], "weak": ["weak"], "width": ["width"]}
    found = permutation_importance(predict, X, measured=predict(X), groups=groups).groupby("group").mean()
    assert found.loc["width", ["mae_loss", "tau_loss"]].tolist() == [0, 0]
    assert found.loc["noise", "mae_loss"] > found.loc["weak", "mae_loss"] > 0
    assert found.loc["noise", "tau_loss"] > found.loc["weak", "tau_loss"] > 0


def test_columns_of_a_group_move_together() -> None:
    """A prediction from a relation inside the group, which every row has, loses nothing; alone a column loses."""
    X = pd.DataFrame({"a": np.arange(30.0), "b": -np.arange(30.0), "c": np.arange(30.0)})

    def predict(X: pd.DataFrame) -> pd.Series:
        return X["a"] + X["b"] + X["c"]

    found = permutation_importance(predict, X, measured=X["c"], groups={"both": ["a", "b"], "a": ["a"]}, n_repeats=3)
    by_group = found.groupby("group")["mae_loss"].mean()
    assert by_group["both"] == 0
    assert by_group["a"] > 1


def test_strata_hold_rows_among_their_own() -> None:
    """A prediction that depends on the stratum alone loses nothing if rows are permuted within strata."""
    X = made()
    options = {"measured": X["width"], "groups": {"width": ["width"]}, "n_repeats": 4}
    within = permutation_importance(lambda X: X["width"], X, strata={"width": X["width"]}, **options)
    assert (within["mae_loss"] == 0).all()
    assert (permutation_importance(lambda X: X["width"], X, **options)["mae_loss"] > 0.5).all()


def test_scores_are_those_of_the_permuted_prediction() -> None:
    """The first repeat equals a permutation by hand with the same generator."""
    X = made(12)
    found = permutation_importance(
        lambda X: X["noise"], X, measured=X["noise"], groups={"noise": ["noise"]}, n_repeats=1, seed=5
    )
    moved = X["noise"].to_numpy()[np.random.default_rng(5).permutation(12)]
    assert found.loc[0, "mae"] == pytest.approx(metrics.mae(X["noise"], moved))
    assert found.loc[0, "tau_loss"] == pytest.approx(1 - metrics.kendall_tau(X["noise"], moved))


def test_effects_of_an_additive_prediction_are_its_terms() -> None:
    """Although features are correlated, each effect is the feature's own term, centred."""
    X = made()
    found = accumulated_effects(lambda X: X["width"] ** 2 - 5 * X["depth"], X, feature="width")
    assert found["value"].tolist() == [1, 2, 3]
    assert np.diff(found["effect"]) == pytest.approx([3, 5])
    assert found["n"].tolist() == X["width"].value_counts().sort_index().tolist()
    assert found["effect"] @ found["n"] == pytest.approx(0)


def test_effect_of_an_interaction_is_the_mean_over_rows_with_one_of_two_values() -> None:
    """The change from 1 to 2 is computed by hand over the rows that have 1 or 2."""
    X = pd.DataFrame({"a": [1.0, 1.0, 2.0, 3.0], "b": [0.0, 2.0, 7.0, 100.0]})
    found = accumulated_effects(lambda X: X["a"] * X["b"], X, feature="a")
    assert np.diff(found["effect"]) == pytest.approx([(0 + 2 + 7) / 3, (7 + 100) / 2])


def test_a_continuous_feature_is_cut_at_quantiles() -> None:
    """The accumulated effect of a cubic is the cubic at the limits, up to a constant."""
    X = made(400)
    found = accumulated_effects(lambda X: X["noise"] ** 3 + X["width"], X, feature="noise", n_bins=10)
    assert len(found) == 11
    assert np.diff(found["effect"]) == pytest.approx(np.diff(found["value"] ** 3))
    assert found["n"].sum() == 400


def test_what_cannot_be_measured_is_refused() -> None:
    """Messages say what is wrong and what there is."""
    X = made()
    with pytest.raises(ValueError, match=r"group 'x' has columns \['y'\]"):
        permutation_importance(lambda X: X["noise"], X, measured=X["noise"], groups={"x": ["y"]})
    with pytest.raises(ValueError, match=r"strata are given for \['z'\]"):
        permutation_importance(
            lambda X: X["noise"], X, measured=X["noise"], groups={"noise": ["noise"]}, strata={"z": []}
        )
    with pytest.raises(ValueError, match="one value for each of the 200 rows"):
        permutation_importance(
            lambda X: X["noise"], X, measured=X["noise"], groups={"noise": ["noise"]}, strata={"noise": [1]}
        )
    with pytest.raises(ValueError, match="no effect to measure"):
        accumulated_effects(lambda X: X["noise"], X.assign(width=1.0), feature="width")
    with pytest.raises(ValueError, match="there is no feature 'q'"):
        accumulated_effects(lambda X: X["noise"], X, feature="q")
