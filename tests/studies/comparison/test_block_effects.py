"""Tests of importances and effects by block."""

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.studies.comparison import block_effects

SCHEMES = enumerate_schemes()


@pytest.fixture(scope="module")
def made() -> tuple[pd.DataFrame, dict]:
    """Accuracies that only the stride of block 3 and the width of block 2 decide, and one split."""
    accuracy = [0.6 - 0.03 * scheme[2].stride + 0.01 * np.log2(scheme[1].width) for scheme in SCHEMES]
    table = pd.DataFrame({"ModelId": range(1, 441), "MaxAccuracy": accuracy})
    return table, {"one": np.random.default_rng(0).permutation(440) >= 80}


def test_features_of_blocks_determine_a_scheme() -> None:
    """No two schemes share all of them, and no size of a whole scheme is among them."""
    X = block_effects.block_columns(SCHEMES)
    assert not X.duplicated().any()
    assert {column.split(":b")[1][1:] for column in X} == {"Kernel", "LogWidth", "Stride", "Skip", "Present"}


def test_what_decides_is_important_and_the_rest_is_not(made) -> None:
    """The two properties lose, in proportion to their effects; all other blocks and properties lose nothing."""
    table, splits = made
    found = block_effects.importance(table, SCHEMES, splits=splits, n_repeats=3)
    loss = found.set_index("group")["mae_loss"]
    assert loss["stride of block 3"] > 3 * loss["width of block 2"] > 0.005
    assert loss["block 3"] == pytest.approx(loss["stride of block 3"], rel=0.3)
    decided = ["stride of block 3", "width of block 2", "block 3", "block 2", "stride", "width"]
    assert loss.drop(decided).abs().max() < 5e-4
    assert found.groupby("kind", sort=False).size().index.tolist() == ["block and property", "block", "property"]


def test_effects_are_those_of_the_target(made) -> None:
    """The steps of both deciding properties, and none of the others; values are strides and channels."""
    table, splits = made
    found = block_effects.effects(table, SCHEMES, splits=splits).set_index(["block", "property"])
    stride, width = found.loc[(3, "stride")], found.loc[(2, "width")]
    assert stride["value"].tolist() == [1, 2]
    assert np.diff(stride["effect"]) == pytest.approx([-0.03], abs=5e-4)
    assert width["value"].tolist() == [16, 24]
    assert np.diff(width["effect"]) == pytest.approx([0.01 * np.log2(1.5)], abs=5e-4)
    assert found.drop([(3, "stride"), (2, "width")])["effect"].abs().max() < 5e-4
    sizes = found.groupby(level=[0, 1])["n"].sum()
    assert (sizes == 384).all()
    assert len(sizes) == 10  # two widths; and four properties of blocks 3 and 4


def test_summary_counts_splits(made) -> None:
    """Two equal splits have the mean of one and no deviation."""
    table, splits = made
    found = block_effects.effects(table, SCHEMES, splits={"one": splits["one"], "two": splits["one"]})
    summary = block_effects.summary(found, ["block", "property", "value"], of=["effect"])
    assert (summary["n_splits"] == 2).all()
    assert (summary["effect_sd"] == 0).all()
    assert summary["effect"].tolist() == found.loc[found["split"] == "one", "effect"].tolist()


def test_records_name_source_and_draws() -> None:
    """Effects draw nothing, so that their settings have no seed."""
    importances, effects = block_effects.pieces(n_repeats=7)
    assert importances.settings == {"source": "published", "n_repeats": 7, "seed": 0}
    assert effects.settings == {"source": "published"}
