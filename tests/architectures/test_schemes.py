"""Schemes: the published population, its features, and what is refused."""

import doctest
import hashlib
import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures import cells, cifar_networks, mobileone, scheme_networks, schemes, swiftformer
from naaplib.architectures.schemes import Block, BlockOptions, BlockShape, Space

PUBLISHED_COLUMNS = ["NumParams", "NumMACs", "NumLayers", "NumStages", "FirstLayerWidth", "LastLayerWidth"]


@pytest.fixture(scope="module")
def population() -> list[schemes.Scheme]:
    return schemes.enumerate_schemes()


@pytest.fixture(scope="module")
def features(population: list[schemes.Scheme]) -> pd.DataFrame:
    return schemes.feature_table(population)


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(schemes)
    assert (result.attempted >= 5, result.failed) == (True, 0)


def test_population_is_the_published_one_in_its_order(population: list[schemes.Scheme]) -> None:
    """Our JSON of the 440 schemes has the checksum of the published generated_schemes.json."""
    text = schemes.to_json(population)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "83b7209a63c76e31fc2f8330e249f456cff6f9d2a2831ce971e245d105348c66"


def test_published_file_reads_as_the_population(published_schemes_path, population: list[schemes.Scheme]) -> None:
    """The published file, read, gives the 440 enumerated schemes, in order."""
    assert schemes.from_json(published_schemes_path.read_text()) == population


def test_scheme_columns_equal_the_published_table(published_path, features: pd.DataFrame) -> None:
    """All 440 rows of the six scheme columns are exact, parameters and MACs in the published convention included."""
    published = pd.read_csv(published_path).sort_values("ModelId", ignore_index=True)
    columns = ["ModelId", *PUBLISHED_COLUMNS]
    pd.testing.assert_frame_equal(features[columns], published[columns])


def test_sums_over_the_population(features: pd.DataFrame) -> None:
    """Sums over the published columns; known without the data."""
    assert (features["NumParams"].sum(), features["NumMACs"].sum()) == (4_204_928, 233_740_512)


def test_enumeration_is_a_filter_on_all_combinations() -> None:
    """Slow twin: every combination of options, filtered by the rules of the paper's section 2, sorted depth first."""
    options = [
        ((3,), (12, 16), (2,)),
        ((3,), (16, 24), (2,)),
        ((1, 3), (16, 24, 32), (1, 2)),
        ((1, 3), (32, 40), (1, 2)),
    ]
    found = []
    for depth in (3, 4):
        triples = [list(product(*options[i], (False, True))) for i in range(depth)]
        for combination in product(*triples):
            if sum(stride == 2 for _, _, stride, _ in combination) > 3:
                continue
            widths = [3] + [width for _, width, _, _ in combination]
            if any(
                residual and (stride == 2 or widths[i] != width)
                for i, (_, width, stride, residual) in enumerate(combination)
            ):
                continue
            found.append(combination)
    # A prefix sorts before its extensions; options ascend, no skip comes before a skip.
    expected = [tuple(Block(*block) for block in combination) for combination in sorted(found)]
    assert schemes.enumerate_schemes() == expected


@pytest.mark.parametrize(("depth", "stages", "count"), [(3, 2, 32), (3, 3, 24), (4, 2, 144), (4, 3, 240)])
def test_counts_by_depth_and_stages(features: pd.DataFrame, depth: int, stages: int, count: int) -> None:
    """Counts by depth and stages, which the paper's constraints imply."""
    assert ((features["NumLayers"] == depth) & (features["NumStages"] == stages)).sum() == count


def test_range_of_parameters_and_number_of_skips(features: pd.DataFrame) -> None:
    """The smallest and largest network, and how many have a skip."""
    assert (features["NumParams"].min(), features["NumParams"].max()) == (2_566, 22_954)
    assert (features["n_skips"] > 0).sum() == 104


def test_features_by_hand() -> None:
    """A two-block network on 4 x 4 images, counted on paper."""
    scheme = (Block(3, 2, 2), Block(1, 2, 1, residual=True))
    (row,) = schemes.feature_table([scheme], side=4).to_dict("records")
    assert row == {
        "ModelId": 1,
        "NumParams": (9 * 3 * 2 + 4) + (2 * 2 + 4) + (2 * 10 + 10),
        "NumMACs": (54 * 4 + 4 * 8) + (4 * 4 + 4 * 8) + 2 * (4 + 1) + 20,
        "NumLayers": 2,
        "NumStages": 1,
        "FirstLayerWidth": 2,
        "LastLayerWidth": 2,
        "n_plain_macs": 54 * 4 + 4 * 4 + 20,
        "n_skips": 1,
        "n_relu_units": 8 + 8,
    }


def test_block_shapes_by_hand() -> None:
    """Channels, sides and multiply-accumulates follow the scheme from the image on; an odd side rounds up."""
    scheme = (Block(3, 12, 2), Block(1, 12, 1, residual=True), Block(5, 8, 2))
    assert schemes.block_shapes(scheme, side=30) == [
        BlockShape(3, 12, kernel_size=3, stride=2, side_out=15, residual=False, macs=9 * 3 * 12 * 225),
        BlockShape(12, 12, kernel_size=1, stride=1, side_out=15, residual=True, macs=12 * 12 * 225),
        BlockShape(12, 8, kernel_size=5, stride=2, side_out=8, residual=False, macs=25 * 12 * 8 * 64),
    ]


def test_identifiers_tell_schemes_apart(population: list[schemes.Scheme]) -> None:
    """No two of the 440 share an identifier, and it reads as block after block."""
    names = [schemes.identifier(scheme) for scheme in population]
    assert len(set(names)) == 440
    assert names[0] == "k3w12s2-k3w16s2-k1w16s1"


def test_json_returns_what_it_was_given(population: list[schemes.Scheme]) -> None:
    """Reading undoes writing."""
    assert schemes.from_json(schemes.to_json(population[::37])) == population[::37]


def test_a_user_can_define_a_larger_space() -> None:
    """A fifth optional block after the published four keeps the 440 and extends them in place."""
    fifth = BlockOptions(kernel_sizes=[3], widths=[40, 48], strides=[1], residuals=[False, True])
    larger = schemes.enumerate_schemes(replace(schemes.NAAP440, blocks=(*schemes.NAAP440.blocks, fifth)))
    assert [scheme for scheme in larger if len(scheme) < 5] == schemes.enumerate_schemes()
    # After each four-block scheme: width 40, width 48, and a skip where the fourth is 40 wide, which half of those
    # are that have no skip themselves.
    four = [scheme for scheme in larger if len(scheme) == 4]
    assert len(larger) == 440 + 2 * len(four) + sum(scheme[-1].width == 40 for scheme in four)


def test_a_space_of_shallow_networks() -> None:
    """Depth may start at one block, and no stride above 1 need be allowed; block 1 never has a skip."""
    options = BlockOptions(kernel_sizes=(3,), widths=(3,), strides=(1, 2), residuals=(False, True))
    flat = schemes.enumerate_schemes(Space((options, options), min_blocks=1, max_strided=0))
    first = Block(3, 3, 1)
    assert flat == [(first,), (first, first), (first, replace(first, residual=True))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 16, 1), "a block's kernel_size must be odd, not 2"),
        ((3, 0, 1), "a block's width must be a whole number, 1 or more, not 0"),
        ((3, 16.0, 1), "a block's width must be a whole number, 1 or more, not 16.0"),
        ((3, 16, True), "a block's stride must be a whole number, 1 or more, not True"),
        ((3, 16, 2, True), "a residual block needs stride 1, not 2: its input and output shapes differ"),
        ((3, 16, 1, 1), "a block's residual must be true or false, not 1"),
    ],
)
def test_impossible_blocks_are_refused(arguments: tuple, message: str) -> None:
    """A block that no network can have is refused with what came and what is allowed."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        Block(*arguments)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((), "a scheme must have at least one block"),
        ((Block(3, 3, 1, True),), "block 1 cannot be residual: its input is the image"),
        (
            (Block(3, 12, 1), Block(3, 16, 1, True)),
            "block 2 cannot be residual: it makes 12 channels into 16; a skip needs equal widths",
        ),
    ],
)
def test_impossible_schemes_are_refused(blocks: schemes.Scheme, message: str) -> None:
    """Blocks that do not fit each other are refused with the block's number."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        schemes.block_shapes(blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3,), (), (1,)), r"widths must be one or more different options, not \(\)"),
        (((3, 3), (16,), (1,)), r"kernel_sizes must be one or more different options, not \(3, 3\)"),
        (((4,), (16,), (1,)), "a block's kernel_size must be odd, not 4"),
        (((3,), (16,), (1,), ("yes",)), "a block's residual must be true or false, not 'yes'"),
    ],
)
def test_impossible_options_are_refused(arguments: tuple, message: str) -> None:
    """Options of a block are checked when a space is written down, not when it is enumerated."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        BlockOptions(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_blocks": 5}, "min_blocks must be from 1 to the 4 blocks, not 5"),
        ({"max_strided": -1}, "max_strided must be 0 or more, not -1"),
        ({"blocks": ((3, 16, 1),)}, "a space's blocks must be BlockOptions, one for each block"),
    ],
)
def test_impossible_spaces_are_refused(change: dict, message: str) -> None:
    """A space that has no sense is refused with what is allowed."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(schemes.NAAP440, **change)


GOOD = {"kernel_size": 3, "width": 12, "stride": 2, "residual": False}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "schemes must be a JSON list of lists of blocks, not of type dict"),
        ([GOOD], "scheme 1 must be a list of blocks, not of type dict"),
        ([[GOOD], [GOOD, 3]], "scheme 2, block 2 must be an object with kernel_size, width, stride, residual, not int"),
        ([[{"width": 12}]], r"scheme 1, block 1 must be an object with .*, not \['width'\]"),
        ([[GOOD | {"width": "12"}]], "scheme 1, block 1: a block's width must be a whole number, 1 or more, not '12'"),
        ([[]], "scheme 1: a scheme must have at least one block"),
        ([[GOOD, GOOD | {"width": 16, "stride": 1, "residual": True}]], "scheme 1: block 2 cannot be residual: .*"),
    ],
)
def test_malformed_json_is_refused(value: object, message: str) -> None:
    """JSON of another form is refused with the scheme and block at fault."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        schemes.from_json(json.dumps(value))


def test_text_that_is_not_json_is_refused() -> None:
    """Text that cannot be parsed is refused with where parsing stopped."""
    with pytest.raises(ValueError, match=r"schemes must be JSON: .*line 1 column 3"):
        schemes.from_json("[[")


@pytest.mark.parametrize("side", [-1, 0, 32.5, 32.0, True, "32", None])
def test_an_image_has_a_whole_side(side) -> None:
    """Counts for a side that no image has are refused, in tables, in cells and in residual networks."""
    scheme = schemes.enumerate_schemes()[0]
    with pytest.raises(ValueError, match=r"side must be a whole number, 1 or more, not "):
        schemes.feature_table([scheme], side=side)
    with pytest.raises(ValueError, match="side must be a multiple of 4 pixels"):
        cells.sizes([cells.SIZE_CELL], side=side)
    with pytest.raises(ValueError, match="side must be a whole number"):
        cifar_networks.resnet_cost((1, 1), (8, 8), side=side)
    assert schemes.feature_table([scheme], side=np.int64(32)).equals(schemes.feature_table([scheme]))


@pytest.mark.parametrize("n_classes", [-1, 0, 2.5, True])
def test_a_network_has_a_whole_number_of_classes(n_classes) -> None:
    """Wherever a network is built or counted."""
    scheme = schemes.enumerate_schemes()[0]
    for use in (
        lambda: scheme_networks.build(scheme, n_classes),
        lambda: cells.build(cells.SIZE_CELL, 1, n_cells=1, n_classes=n_classes),
        lambda: cells.build_sized((8,) * 5, n_classes),
        lambda: cells.sizes([cells.SIZE_CELL], n_classes=n_classes),
        lambda: cifar_networks.build("vgg16", n_classes, width=0.01),
        lambda: cifar_networks.resnet((1, 1), (8, 8), n_classes=n_classes),
        lambda: cifar_networks.resnet_cost((1, 1), (8, 8), n_classes=n_classes),
        lambda: mobileone.build(n_classes=n_classes),
        lambda: mobileone.n_params(n_classes=n_classes),
        lambda: swiftformer.build(n_classes=n_classes),
        lambda: swiftformer.n_params(n_classes=n_classes),
    ):
        with pytest.raises(ValueError, match="n_classes must be a whole number, 1 or more"):
            use()


def test_other_numbers_that_cannot_be_are_named() -> None:
    """Widths, depths, branches and factors that are fractions, not finite, or too few."""
    for use, message in (
        (lambda: cifar_networks.resnet_cost((1, 1.5), (8, 8)), "each number of blocks and of channels must be a whole"),
        (lambda: cifar_networks.resnet_cost((1, 1), (8, 0)), "each number of blocks and of channels must be a whole"),
        (lambda: cifar_networks.resnet_cost((1,), (8, 8)), "each stage needs a number of blocks and one of channels"),
        (lambda: cifar_networks.build("vgg16", width=math.nan), "width is nan"),
        (lambda: cifar_networks.scale([1] * 4, [1, 1, 1, math.inf]), "four factors above 0"),
        (lambda: mobileone.n_params((2, 8, 10, 1.5)), "four depths of 0 or more"),
        (lambda: mobileone.n_params(multipliers=(1, 1, 1, math.nan)), "four multipliers"),
        (lambda: mobileone.n_params(n_branches=1.5), "at least 1 branch"),
        (lambda: swiftformer.n_params(n_branches=0), "n_branches must be a whole number"),
        (lambda: swiftformer.n_params(depths=(1, 1, 1, 1.5)), "each depth and width must be a whole number"),
        (lambda: cells.build(cells.SIZE_CELL, n_channels=1.5), "n_channels must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_numbers_of_numpy_make_the_same_block() -> None:
    """As a random search draws them; in JSON they are Python's."""
    block = schemes.Block(np.int64(3), np.int32(16), np.uint8(2))
    assert block == schemes.Block(3, 16, 2)
    assert schemes.to_json([(block,)]) == schemes.to_json([(schemes.Block(3, 16, 2),)])
    assert schemes.block_shapes((block,), np.int64(8)) == schemes.block_shapes((block,), 8)
