"""Cells: texts, spaces, networks as the benchmarks describe them, and their sizes."""

import doctest
import time
from itertools import pairwise

import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.architectures import cells
from naaplib.architectures.cells import EDGES, OPERATIONS, SIZE_CELL

EVERY_3X3 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
EVERY_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
CELL_0 = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
CELL_1 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
CELL_OF_36 = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"

UNIFORM = [(operation,) * 6 for operation in OPERATIONS]
MIXED = [cells.enumerate_cells()[i] for i in (1234, 7890, 15000)]

CIFAR10 = {"n_classes": 10, "side": 32}
CIFAR100 = {"n_classes": 100, "side": 32}
IMAGENET16 = {"n_classes": 120, "side": 16}


def of(cell: str, **setting: int) -> dict[str, int]:
    """The sizes of one cell, given as text."""
    return cells.sizes([cells.from_string(cell)], **setting).iloc[0].to_dict()


def counted(network: nn.Module, side: int) -> dict[str, int]:
    """Sizes of a network by counting in its modules while one image passes; slow twin of `sizes`."""
    found = {"n_params": sum(p.numel() for p in network.parameters()), "macs": 0, "n_relu_units": 0}

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            found["macs"] += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            found["macs"] += module.weight.numel() + module.bias.numel()
        elif isinstance(module, nn.ReLU):
            found["n_relu_units"] += output[0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return found


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(cells)
    assert (result.attempted >= 1, result.failed) == (True, 0)


def test_space_is_every_choice_once_and_texts_read_back() -> None:
    """15,625 different cells, whose 15,625 different texts stand for them."""
    every = cells.enumerate_cells()
    texts = [cells.to_string(cell) for cell in every]
    assert (len(set(every)), len(set(texts))) == (15_625, 15_625)
    assert [cells.from_string(text) for text in texts] == every


def test_cells_are_listed_with_the_last_edge_fastest() -> None:
    """The first differ in the edge from node 2 to node 3; the last one averages everywhere."""
    every = cells.enumerate_cells()
    assert every[:5] == [("none",) * 5 + (operation,) for operation in OPERATIONS]
    assert every[-1] == ("avg_pool_3x3",) * 6


def test_published_table_holds_exactly_these_cells(nasbench201: pd.DataFrame) -> None:
    """The texts of the benchmark's table are those of our cells, none missing."""
    assert set(nasbench201["architecture"]) == {cells.to_string(cell) for cell in cells.enumerate_cells()}


def test_text_of_a_cell_by_hand() -> None:
    """Operations stand in the order of the edges: by target node, then by source node."""
    cell = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
    text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert (cells.to_string(cell), cells.from_string(text)) == (text, cell)


def test_size_space_is_every_choice_of_five_widths() -> None:
    """32,768 different ones; number 12 of the benchmark is 8:8:8:16:40 (NATS-Bench, notebooks/issue-21.ipynb)."""
    every = cells.enumerate_widths()
    assert len(set(every)) == 32_768
    assert (every[0], every[12], every[-1]) == ((8,) * 5, (8, 8, 8, 16, 40), (64,) * 5)


def test_output_of_a_cell_by_hand() -> None:
    """A node is the sum over its edges: with skips only, the output is four times the input, one for each path."""
    layer = cells.build(("skip_connect",) * 6, n_cells=1).layers[0]
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(layer(x), 4 * x)


@pytest.mark.parametrize("edge", range(6))
def test_each_edge_joins_its_nodes(edge: int) -> None:
    """Without one skip, as many paths from node 0 to node 3 are lost as lead through that edge."""
    cell = ["skip_connect"] * 6
    cell[edge] = "none"
    present = [pair for i, pair in enumerate(EDGES) if i != edge]
    paths = [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]
    n_paths = sum(all(step in present for step in pairwise(path)) for path in paths)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(cells.build(tuple(cell), n_cells=1).layers[0](x), n_paths * x)


def test_average_leaves_padding_out() -> None:
    """The average of ones is one at the border too; four paths of one to three averages in a row add up."""
    layer = cells.build(("avg_pool_3x3",) * 6, n_cells=1).layers[0]
    ones = torch.ones(1, 16, 5, 5)
    torch.testing.assert_close(layer(ones), 4 * ones)


def test_convolution_is_rectified_first_and_normalised_last() -> None:
    """An edge gives what ReLU, its convolution without bias and BatchNorm by batch statistics give, in that order."""
    cell = ("none", "none", "none", "nor_conv_3x3", "none", "none")
    layer = cells.build(cell, n_cells=1).layers[0]
    (weight,) = [p for p in layer.parameters() if p.dim() == 4]
    x = torch.randn(3, 16, 6, 6)
    y = nn.functional.conv2d(x.clamp(min=0), weight, padding=1)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(layer(x), (y - mean) / (var + 1e-5).sqrt())


def test_reduction_averages_and_mixes_its_shortcut() -> None:
    """With a body scaled to nothing, what is left is the 1x1 convolution of the average over 2x2 pixels."""
    reduction = cells.build(UNIFORM[0], n_cells=1).layers[1]
    nn.init.zeros_(reduction.body[-1][-1].weight)
    x = torch.randn(2, 16, 8, 8)
    averaged = x.reshape(2, 16, 4, 2, 4, 2).mean((3, 5))
    expected = torch.einsum("oi,nihw->nohw", reduction.shortcut[1].weight[:, :, 0, 0], averaged)
    torch.testing.assert_close(reduction(x), expected)


def test_nothing_stays_in_the_graph() -> None:
    """A convolution behind "none" gets a gradient, of zero, and not no gradient at all."""
    network = cells.build(("nor_conv_1x1", "none", "none", "skip_connect", "none", "none"), n_channels=2, n_cells=1)
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    gradients = [p.grad for p in network.layers[0].parameters()]
    assert [float(gradient.abs().sum()) for gradient in gradients] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("cell", UNIFORM + MIXED, ids=cells.to_string)
def test_forward_shapes_mode_and_finite_logits(cell: cells.Cell) -> None:
    """Logits for every image and class, from a network in training mode without a ReLU in place."""
    network = cells.build(cell, n_channels=4, n_cells=1, n_classes=7)
    logits = network(torch.randn(3, 3, 16, 16))
    assert (logits.shape, network.training, bool(logits.isfinite().all())) == ((3, 7), True, True)
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))


def test_weights_come_from_the_current_generator() -> None:
    """The same seed gives the same weights, another one others."""
    weights = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            weights.append(nn.utils.parameters_to_vector(cells.build(SIZE_CELL, n_cells=1).parameters()))
    assert (torch.equal(weights[0], weights[1]), torch.equal(weights[0], weights[2])) == (True, False)


@pytest.mark.parametrize("cell", UNIFORM + MIXED, ids=cells.to_string)
def test_sizes_equal_counts_in_the_built_network(cell: cells.Cell) -> None:
    """Parameters, multiply-accumulates and ReLU units, at the benchmark's size."""
    assert cells.sizes([cell]).iloc[0].to_dict() == counted(cells.build(cell), 32)


def test_sizes_of_another_skeleton_equal_counts() -> None:
    """Channels, cells, classes and side are arguments of both."""
    setting = {"n_channels": 6, "n_cells": 2, "n_classes": 3}
    row = cells.sizes(MIXED[:1], **setting, side=12).iloc[0].to_dict()
    assert row == counted(cells.build(MIXED[0], **setting), 12)


@pytest.mark.parametrize("widths", [(8,) * 5, (64,) * 5, (8, 64, 16, 48, 24), (40, 8, 8, 32, 64), (16, 24, 32, 8, 8)])
def test_sizes_of_widths_equal_counts_in_the_built_network(widths: tuple[int, ...]) -> None:
    """Also where a cell changes the width, and its skip connection with it."""
    network = cells.build_sized(widths)
    assert cells.sizes_of_widths([widths]).iloc[0].to_dict() == counted(network, 32)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_a_skip_that_changes_width_has_no_relu() -> None:
    """It is a 1x1 convolution of the input as it is, and BatchNorm, as the benchmark has it."""
    layer = cells.build_sized((8, 8, 16, 8, 8)).layers[2]
    skip = layer.edges[3]
    x = torch.randn(4, 8, 6, 6)
    y = torch.einsum("oi,nihw->nohw", skip[0].weight[:, :, 0, 0], x)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(skip(x), (y - mean) / (var + 1e-5).sqrt())


def test_relu_units_take_seven_values() -> None:
    """On NAS-Bench-201 they are 40,960 and 143,360 for every convolution in the cell."""
    every = cells.enumerate_cells()
    n_convolutions = [sum("conv" in operation.split("_") for operation in cell) for cell in every]
    assert cells.sizes(every)["n_relu_units"].tolist() == [40_960 + 143_360 * n for n in n_convolutions]
    assert set(n_convolutions) == set(range(7))


# What the benchmarks' own interface says, in millions, rounded as it was printed:
# issues 24 (cell 0), 18 (cell 1) and 36 (for 12 epochs) of the repository D-X-Y/NATS-Bench.
@pytest.mark.parametrize(
    ("text", "setting", "measure", "published", "digits"),
    [
        (CELL_0, CIFAR10, "macs", 15.64737, 5),
        (CELL_0, CIFAR100, "macs", 15.65322, 5),
        (CELL_0, IMAGENET16, "macs", 3.91948, 5),
        (CELL_1, CIFAR10, "macs", 113.95, 2),
        (CELL_1, CIFAR100, "macs", 113.96, 2),
        (CELL_1, IMAGENET16, "macs", 28.50, 2),
        (CELL_1, CIFAR10, "n_params", 0.802, 3),
        (CELL_1, CIFAR100, "n_params", 0.808, 3),
        (CELL_1, IMAGENET16, "n_params", 0.810, 3),
        (CELL_OF_36, CIFAR10, "macs", 113.95137, 6),
        (CELL_OF_36, CIFAR10, "n_params", 0.802426, 6),
    ],
)
def test_sizes_equal_published_ones(
    text: str, setting: dict[str, int], measure: str, published: float, digits: int
) -> None:
    """FLOPs and parameters of cells as the benchmark gives them on its three datasets."""
    assert round(of(text, **setting)[measure] / 1e6, digits) == published


@pytest.mark.parametrize(
    ("setting", "smallest", "largest"),
    [
        (CIFAR10, (73_306, 7_783_050), (1_531_546, 220_119_690)),
        (CIFAR100, (79_156, 7_788_900), (1_537_396, 220_125_540)),
        (IMAGENET16, (80_456, 1_953_400), (1_538_696, 55_037_560)),
    ],
)
def test_range_of_sizes_is_the_published_one(
    setting: dict[str, int], smallest: tuple[int, int], largest: tuple[int, int]
) -> None:
    """Extremes over the benchmark's file v1.1, as the README of the package MO-HPOBenchExperimentUtils lists them;
    they belong to the cell of nothing and to that of 3x3 convolutions."""
    table = cells.sizes(cells.enumerate_cells(), **setting)[["n_params", "macs"]]
    assert (tuple(table.min()), tuple(table.max())) == (smallest, largest)
    found = [tuple(of(text, **setting)[name] for name in table) for text in (EVERY_NONE, EVERY_3X3)]
    assert found == [smallest, largest]


def test_size_space_has_the_published_sizes() -> None:
    """Number 12 as the benchmark prints it (D-X-Y/NATS-Bench, notebooks/create-query-sss.ipynb), and the extremes,
    which are ideal and nadir point in public code for the problem C-10/MOP3 of EvoXBench (Lu et al., 2023)."""
    table = cells.sizes_of_widths(cells.enumerate_widths())[["n_params", "macs"]]
    assert tuple(table.loc[12]) == (67_378, 7_991_706)
    assert (tuple(table.min()), tuple(table.max())) == ((11_714, 4_481_114), (713_674, 274_399_882))


def test_sizes_of_both_spaces_take_seconds() -> None:
    """All 15,625 cells and all 32,768 widths, each in less than five seconds."""
    start = time.perf_counter()
    cells.sizes(cells.enumerate_cells())
    middle = time.perf_counter()
    cells.sizes_of_widths(cells.enumerate_widths())
    assert max(middle - start, time.perf_counter() - middle) < 5


def test_sizes_of_nothing_is_an_empty_table() -> None:
    """No rows, the same columns and types."""
    some, none = cells.sizes(UNIFORM), cells.sizes([])
    assert (len(none), list(none.dtypes.items())) == (0, list(some.dtypes.items()))
    assert list(cells.sizes_of_widths([]).columns) == list(none.columns)


FORM = r"a cell's text must be of the form '\|OP~0\|\+\|OP~0\|OP~1\|\+\|OP~0\|OP~1\|OP~2\|', not '"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORM),
        ("skip_connect", FORM),
        (EVERY_NONE + "+", FORM),
        (" " + EVERY_NONE, FORM),
        (EVERY_NONE + "\n", FORM),
        (EVERY_NONE.replace("+", ""), FORM),
        (EVERY_NONE.replace("none~0|+", "~0|+"), FORM),
        (EVERY_NONE.replace("none~2", "none"), FORM),
        (EVERY_NONE.replace("none~2", "conv~2"), "operations must be of none, skip_connect, .* not 'conv'"),
        (EVERY_NONE.replace("none~2", "none~1"), "none~1 must come from node 2 at its place in "),
        (EVERY_NONE.replace("none~2", "none~x"), "none~x must come from node 2 at its place in "),
    ],
)
def test_texts_that_are_no_cell(text: str, message: str) -> None:
    """The error shows the form, or the operation, or the edge."""
    with pytest.raises(ValueError, match=message):
        cells.from_string(text)


@pytest.mark.parametrize("use", [cells.build, cells.to_string, lambda cell: cells.sizes([cell])])
def test_cells_that_are_none(use) -> None:
    """Neither another number of operations, a text in its place, nor an unknown operation."""
    with pytest.raises(ValueError, match="a cell must be 6 operations"):
        use(("none",) * 5)
    with pytest.raises(ValueError, match="from_string reads a text"):
        use(EVERY_NONE)
    with pytest.raises(ValueError, match="not 'max_pool_3x3'"):
        use(("max_pool_3x3",) * 6)


@pytest.mark.parametrize("use", [cells.build_sized, lambda widths: cells.sizes_of_widths([widths])])
@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((8, 8, 8, 8), r"there must be 5 widths, one a layer, not 4: \(8, 8, 8, 8\)"),
        ((8, 8, 8, 8, 12), "a width must be one of 8, 16, 24, 32, 40, 48, 56, 64, not 12"),
        ((0, 8, 8, 8, 8), "not 0"),
        ((8, 8, 8, 8, 72), "not 72"),
    ],
)
def test_widths_outside_the_size_space(use, widths: tuple[int, ...], message: str) -> None:
    """The error says how many there must be, and which."""
    with pytest.raises(ValueError, match=message):
        use(widths)


def test_skeletons_and_images_that_cannot_be() -> None:
    """No cells or channels, or images that cannot be halved twice."""
    with pytest.raises(ValueError, match="n_cells must be a whole number, 1 or more, not 0"):
        cells.build(SIZE_CELL, n_cells=0)
    with pytest.raises(ValueError, match="n_channels must be a whole number, 1 or more, not 0"):
        cells.sizes([SIZE_CELL], n_channels=0)
    for side in (0, 30):
        with pytest.raises(ValueError, match=f"side must be a multiple of 4 pixels, not {side}"):
            cells.sizes([SIZE_CELL], side=side)
