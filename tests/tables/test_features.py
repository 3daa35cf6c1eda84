"""Features: the study's own in its order, scores beside them, and every block of a scheme by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.schemes import Block, enumerate_schemes
from naaplib.tables import features, naap440


@pytest.fixture(scope="module")
def made(made_path: Path) -> pd.DataFrame:
    """The made table."""
    return naap440.read(made_path)


def test_scheme_and_epoch_features_in_the_studys_order(made: pd.DataFrame) -> None:
    """Scheme columns as asked for, logged ones renamed, then three numbers an epoch."""
    shown = features.published(made, ["NumParams", "NumStages"], n_epochs=2)
    assert list(shown) == [
        *("LogNumParams", "NumStages"),
        *("e1LossMean", "e1LossMedian", "e1Accuracy", "e2LossMean", "e2LossMedian", "e2Accuracy"),
    ]
    assert shown.index.name == "ModelId"
    assert shown.index.tolist() == made["ModelId"].tolist()


def test_parameters_and_macs_are_both_logged_or_neither(made: pd.DataFrame) -> None:
    """Natural logarithms of the two columns that grow by factors; the others stay as they are."""
    logged = features.published(made, features.SIX_SCHEME_COLUMNS, n_epochs=0)
    raw = features.published(made, features.SIX_SCHEME_COLUMNS, n_epochs=0, log=False)
    assert list(logged) == ["LogNumParams", "LogNumMACs", *features.SIX_SCHEME_COLUMNS[2:]]
    assert list(raw) == features.SIX_SCHEME_COLUMNS
    assert logged["LogNumParams"].to_numpy() == pytest.approx(np.log(made["NumParams"].to_numpy()))
    assert logged["LogNumMACs"].to_numpy() == pytest.approx(np.log(made["NumMACs"].to_numpy()))
    assert logged["NumLayers"].tolist() == made["NumLayers"].tolist() == raw["NumLayers"].tolist()


def test_epochs_alone_are_features_too(made: pd.DataFrame) -> None:
    """The column of Table 2 without scheme features."""
    shown = features.published(made, [], n_epochs=90)
    assert shown.shape == (220, 270)
    assert shown["e90Accuracy"].tolist() == made["e90Accuracy"].tolist()


@pytest.mark.parametrize(
    ("columns", "n_epochs", "message"),
    [
        (["NumLayer"], 0, r"unknown scheme columns \['NumLayer'\]; there are \['NumParams'"),
        (["MaxAccuracy"], 0, "unknown scheme columns"),
        (["NumParams"], 91, "n_epochs is 91; it must lie between 0 and 90"),
        ([], 0, "there is no feature left"),
    ],
)
def test_impossible_features_are_refused(made: pd.DataFrame, columns: list[str], n_epochs: int, message: str) -> None:
    """Wrong names, the target itself, too many epochs and nothing at all."""
    with pytest.raises(ValueError, match=message):
        features.published(made, columns, n_epochs=n_epochs)


SHOWN = pd.DataFrame({"NumStages": [2.0, 3.0]}, index=pd.Index([7, 2], name="ModelId"))
SCORES = pd.DataFrame(
    {"ModelId": [1, 2, 7], "nas_wot": [1.5, 2.5, 7.5], "n_relu": [10, 20, 70], "synflow": [np.nan, np.inf, np.nan]}
).assign(reason="none")


def test_scores_follow_the_features_row_by_row() -> None:
    """Matched by ModelId whatever the order, in the order asked for, as floats; what is not asked for may be absent."""
    shown = features.with_scores(SHOWN, SCORES, names=["n_relu", "nas_wot"])
    expected = pd.DataFrame({"NumStages": [2.0, 3.0], "n_relu": [70.0, 20.0], "nas_wot": [7.5, 2.5]}, index=SHOWN.index)
    pd.testing.assert_frame_equal(shown, expected)
    pd.testing.assert_frame_equal(features.with_scores(SHOWN, SCORES[::-1], names=["n_relu", "nas_wot"]), expected)


def test_no_scores_change_nothing() -> None:
    """The features as they came."""
    pd.testing.assert_frame_equal(features.with_scores(SHOWN, SCORES, names=[]), SHOWN)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["naswot"], r"unknown scores \['naswot'\]; there are \['nas_wot', 'n_relu', 'synflow'\]"),
        (["reason"], r"unknown scores \['reason'\]"),
        (["ModelId"], r"unknown scores \['ModelId'\]"),
        (["n_relu", "n_relu"], r"scores \['n_relu'\] would be there twice"),
        (["synflow"], r"score synflow is not finite for ModelId \[7, 2\]: leave out the score, or these arch"),
    ],
)
def test_scores_that_cannot_be_taken_are_refused(names: list[str], message: str) -> None:
    """Wrong names with the right ones; text; the key; the same twice; missing and infinite values with their rows."""
    with pytest.raises(ValueError, match=message):
        features.with_scores(SHOWN, SCORES, names=names)


def test_a_score_that_is_a_feature_already_is_refused() -> None:
    """No column hides another."""
    with pytest.raises(ValueError, match=r"scores \['NumStages'\] would be there twice"):
        features.with_scores(SHOWN, SCORES.assign(NumStages=2), names=["NumStages"])


def test_every_architecture_needs_one_row_of_scores() -> None:
    """None and two are both named."""
    with pytest.raises(ValueError, match=r"no row of ModelId \[7\]: compute them, or leave out these architectures"):
        features.with_scores(SHOWN, SCORES[:2], names=["nas_wot"])
    with pytest.raises(ValueError, match=r"more than one row of ModelId \[1\]"):
        features.with_scores(SHOWN, pd.concat([SCORES, SCORES[:1]]), names=["nas_wot"])


def test_blocks_by_hand() -> None:
    """A scheme of four blocks: receptive fields 3, 7, 15, 15 and the products that make its multiply-accumulates."""
    scheme = (
        Block(kernel_size=3, width=12, stride=2, residual=False),
        Block(kernel_size=3, width=16, stride=2, residual=False),
        Block(kernel_size=3, width=16, stride=1, residual=True),
        Block(kernel_size=1, width=32, stride=2, residual=False),
    )
    row = features.blocks([scheme]).loc[1]
    assert row.filter(regex="Kernel").tolist() == [3, 3, 3, 1]
    assert row.filter(regex="Width").tolist() == [12, 16, 16, 32]
    assert row.filter(regex="Stride").tolist() == [2, 2, 1, 2]
    assert row.filter(regex="Skip").tolist() == [0, 0, 1, 0]
    assert row.filter(regex="MACs").tolist() == [27 * 12 * 256, 108 * 16 * 64, 144 * 16 * 64, 16 * 32 * 16]
    assert row.filter(regex="ReceptiveField").tolist() == [3, 7, 15, 15]


def test_an_absent_block_passes_on_what_it_gets() -> None:
    """Three blocks beside four: stride 1, the receptive field before, and no kernel, width, skip or work."""
    three = (Block(3, 12, 2, False), Block(3, 16, 2, False), Block(3, 32, 2, False))
    both = features.blocks([three, (*three, Block(1, 32, 1, True))])
    absent = both.loc[1].filter(regex="^b4")
    assert absent.to_dict() == {
        "b4Kernel": 0, "b4Width": 0, "b4Stride": 1, "b4Skip": 0, "b4MACs": 0, "b4ReceptiveField": 15,
    }  # fmt: skip
    assert both.loc[2, "b4Skip"] == 1


def test_blocks_tell_all_440_schemes_apart() -> None:
    """No two schemes have the same block features, where the study's two scheme features know 236 pairs."""
    schemes = enumerate_schemes()
    blocks = features.blocks(schemes)
    assert blocks.shape == (440, 24)
    assert not blocks.duplicated().any()
    assert blocks.index.tolist() == list(range(1, 441))


def test_smooth_features_of_a_scheme_by_hand() -> None:
    """Sizes are logarithms; an absent block has the width before it, and no kernel, stride or skip of its own."""
    short = (Block(3, 16, 2), Block(3, 16, 2), Block(1, 32, 1))
    long = (Block(3, 16, 2), Block(3, 32, 2), Block(3, 32, 1, residual=True), Block(1, 64, 2))
    found = features.smooth_blocks([short, long])
    assert found.shape == (2, 26)
    assert found.index.tolist() == [1, 2]
    assert found[[f"b{i}LogWidth" for i in (1, 2, 3, 4)]].to_numpy().tolist() == [[4, 4, 5, 5], [4, 5, 5, 6]]
    assert found[["b4Kernel", "b4Stride", "b4Skip", "b4Present"]].to_numpy().tolist() == [[0, 1, 0, 0], [1, 2, 0, 1]]
    assert found["b3Skip"].tolist() == [0, 1]
    assert found["LogReduction"].tolist() == [2, 3]
    assert found["LogLastWidth"].tolist() == [5, 6]
    macs = 27 * 16 * 256 + 9 * 16 * 16 * 64 + 16 * 32 * 64 + 320
    assert found.loc[1, "LogMACs"] == pytest.approx(np.log2(macs))
    relu_units = 16 * 256 + 16 * 64 + 32 * 64
    assert found.loc[1, "LogReLUUnits"] == pytest.approx(np.log2(relu_units))
    assert found.loc[1, "LogReceptiveField"] == pytest.approx(np.log2(7))
