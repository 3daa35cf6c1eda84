"""Tests of extrapolation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.studies.comparison import extrapolation
from naaplib.tables import naap440


@pytest.fixture(scope="module")
def made(made_path: Path) -> pd.DataFrame:
    """The made table."""
    return naap440.read(made_path)


def test_splits_divide_by_accuracy() -> None:
    """Each training accuracy lies on its side of all test accuracies, and sizes are halves."""
    measured = np.random.default_rng(0).permutation(40) / 100
    found = extrapolation.splits(measured)
    better, worse, outer = found.values()
    assert [mask.sum() for mask in found.values()] == [20, 20, 20]
    assert measured[better].min() > measured[~better].max()
    assert (worse == ~better).all()
    assert sorted(measured[outer]) == [i / 100 for i in [*range(10), *range(30, 40)]]
    with pytest.raises(ValueError, match="3 architectures cannot be divided"):
        extrapolation.splits([1, 2, 3])


def test_the_follow_ups_features_are_counts_of_blocks(made: pd.DataFrame) -> None:
    """Skips are residual blocks; layers of partial receptive field have stride 2 and kernel 1."""
    schemes = enumerate_schemes()[: len(made)]
    six, eight = extrapolation.feature_sets(made, schemes).values()
    assert list(eight) == [*six, "NumSkipConnections", "NumPartialRFLayers"]
    for i, scheme in enumerate(schemes):
        assert eight["NumSkipConnections"].iloc[i] == len([block for block in scheme if block.residual])
        assert eight["NumPartialRFLayers"].iloc[i] == len([b for b in scheme if (b.kernel_size, b.stride) == (1, 2)])


def test_scores_are_means_over_seeds() -> None:
    """Two seeds, by hand: one predicts the order and is .1 too high, one the same for all."""
    rows = [
        {"split": "s", "features": "f", "estimator": "e", "seed": seed, "measured": m, "predicted": p}
        for seed, values in [(0, (0.3, 0.4, 0.5)), (1, (0.2, 0.2, 0.2))]
        for m, p in zip((0.2, 0.3, 0.4), values, strict=True)
    ]
    row = extrapolation.scored(pd.DataFrame(rows)).iloc[0]
    assert (row["n_test"], row["n_seeds"]) == (3, 2)
    assert row["kendall_tau"] == pytest.approx(0.5)
    assert row["violations"] == pytest.approx(0.75)
    assert row["mae"] == pytest.approx(0.1)
    assert row["bias"] == pytest.approx(0.0)
    assert row["bias_sd"] == pytest.approx(0.2 / np.sqrt(2))


def test_a_linear_target_is_extrapolated_by_a_line_and_not_by_trees(made: pd.DataFrame) -> None:
    """Where accuracy is the logarithm of the parameters, a line orders what it has not seen; one neighbour cannot."""
    linear = made.assign(MaxAccuracy=np.log(made["NumParams"]) / 20)
    schemes = enumerate_schemes()[: len(made)]
    algorithms = ["Linear Regression", "1-NN"]
    found = extrapolation.regressors(linear, schemes, algorithms=algorithms)
    assert len(found) == 3 * 2 * 2
    by_name = found.groupby("estimator")
    assert by_name["kendall_tau"].min()["Linear Regression"] > 0.99
    assert by_name["mae"].min()["1-NN"] > 10 * by_name["mae"].max()["Linear Regression"]


def test_each_estimator_and_the_gcn_is_scored_on_each_split(made: pd.DataFrame) -> None:
    """One row an estimator and split, with the features that it uses."""
    schemes = enumerate_schemes()[: len(made)]
    found = extrapolation.estimators(made, schemes, names=["blocks, ridge"], gcn_epochs=1)
    assert found[["features", "estimator"]].drop_duplicates().to_numpy().tolist() == [
        ["blocks", "blocks, ridge"],
        ["graphs", "GCN"],
    ]
    assert len(found) == 6
    assert np.isfinite(found[list(extrapolation.SCORES)]).all(axis=None)
