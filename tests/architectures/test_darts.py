"""The DARTS space: choices, networks as the authors' code builds them, and their size."""

import doctest
import math
import random

import pytest
import torch
from torch import nn

from naaplib.architectures import darts
from naaplib.architectures.darts import CHOICES, Genotype

# The cells that DARTS found on CIFAR-10, which the authors' code names DARTS_V2.
FOUND = Genotype(
    (
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ),
    (
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1), ("max_pool_3x3", 0),
        ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ),
)  # fmt: skip
SKIPS = darts.from_numbers([0, 2, 2] * 8)


def n_parameters(network: nn.Module) -> int:
    """Number of all trained weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(darts)
    assert (result.attempted >= 3, result.failed) == (True, 0)


def test_the_published_network_has_the_printed_size() -> None:
    """The authors' script logs "param size = 3.349342MB" for it, in millions and without the auxiliary tower."""
    assert n_parameters(darts.build(FOUND)) == 3_349_342


def test_there_are_as_many_choices_as_the_paper_says() -> None:
    """About 10^18, section 4 of the appendix; and each number has its meaning."""
    assert math.prod(CHOICES) == (1 * 3 * 6 * 10 * 7**8) ** 2
    last = darts.from_numbers([n - 1 for n in CHOICES])
    assert last.normal == last.reduction
    assert [source for _, source in last.normal] == [0, 1, 1, 2, 2, 3, 3, 4]
    assert {operation for operation, _ in last.normal} == {"dil_conv_5x5"}


def test_every_operation_keeps_or_halves_the_side() -> None:
    """And the channels, also odd ones; in an order that only the cell's edges decide."""
    x = torch.randn(2, 5, 8, 8)
    for name in darts.OPERATIONS:
        for stride in (1, 2):
            assert darts._operation(name, 5, stride)(x).shape == (2, 5, 8 // stride, 8 // stride), (name, stride)


def test_a_cell_of_skips_by_hand() -> None:
    """Each node is the sum of its two sources; the nodes stand side by side."""
    layer = darts._CellLayer(SKIPS.normal, (6, 6, 4), halves=False, halved_before=False).eval()
    x, y = torch.randn(1, 6, 4, 4), torch.randn(1, 6, 4, 4)
    one, other = (into(given) for into, given in zip(layer.inputs, (x, y), strict=True))
    torch.testing.assert_close(layer(x, y), torch.cat([one + other] * 4, dim=1))


def test_reductions_come_after_a_third_and_two_thirds() -> None:
    """Sides and channels of seven cells."""
    network = darts.build(FOUND, 4, n_cells=7).eval()
    before = last = network.stem(torch.zeros(1, 3, 16, 16))
    shapes = []
    for cell in network.cells:
        before, last = last, cell(before, last)
        shapes.append(tuple(last.shape[1:3]))
    assert shapes == [(16, 16), (16, 16), (32, 8), (32, 8), (64, 4), (64, 4), (64, 4)]


def test_any_choice_is_a_network_that_learns() -> None:
    """Finite gradients for every weight of some drawn networks."""
    draw = random.Random(0)
    for _ in range(3):
        network = darts.build(darts.from_numbers([draw.randrange(n) for n in CHOICES]), 4, n_cells=3, n_classes=3)
        network(torch.randn(4, 3, 8, 8)).sum().backward()
        used = [weights.grad for weights in network.parameters() if weights.grad is not None]
        assert used and all(bool(grad.isfinite().all()) for grad in used)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0] * 23, "a choice is 24 numbers, three for each node of two cells, not 23"),
        ([1] + [0] * 23, "number 1 must be from 0 to 0, not 1"),
        ([0] * 23 + [7], "number 24 must be from 0 to 6, not 7"),
        ([0, -1] + [0] * 22, "number 2 must be from 0 to 6, not -1"),
    ],
)
def test_bad_numbers_are_refused(numbers: list[int], message: str) -> None:
    """With their place and range."""
    with pytest.raises(ValueError, match=message):
        darts.from_numbers(numbers)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (SKIPS.normal[:6], "a cell is 8 edges, two for each of 4 nodes, not 6"),
        ((("conv", 0), *SKIPS.normal[1:]), "must be of max_pool_3x3, .*, not 'conv'"),
        ((("skip_connect", 2), *SKIPS.normal[1:]), "edge 1 must come from 0 to 1, not 2"),
    ],
)
def test_bad_cells_are_refused(cell: darts.Cell, message: str) -> None:
    """Before anything is built."""
    with pytest.raises(ValueError, match=message):
        darts.build(Genotype(SKIPS.normal, cell))
    with pytest.raises(ValueError, match="n_cells must be 3 or more"):
        darts.build(SKIPS, n_cells=2)
