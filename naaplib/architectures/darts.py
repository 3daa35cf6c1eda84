"""Networks of the DARTS space.

Two cells are chosen: one keeps the image's side, the other halves it (Liu, Simonyan and Yang, ICLR 2019, section 3 and
appendix A). Details that the paper leaves open follow the authors' code (quark0/darts, ``cnn/model.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from naaplib.architectures.schemes import IMAGE_CHANNELS, N_CLASSES, require_whole

Cell = tuple[tuple[str, int], ...]  # operation and source of each of eight edges, two for each node

OPERATIONS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
N_NODES = 4
STEM = 3  # channels of the stem, in those of the first cells
PAIRS = tuple(tuple(combinations(range(2 + node), 2)) for node in range(N_NODES))  # sources that a node may have
CHOICES = tuple(n for _ in range(2) for pairs in PAIRS for n in (len(pairs), len(OPERATIONS), len(OPERATIONS)))


class Genotype(NamedTuple):
    """The two cells of a network.

    Sources 0 and 1 are the two cells before, 2 to 5 the cell's own nodes.
    """

    normal: Cell
    reduction: Cell


def from_numbers(numbers: Sequence[int]) -> Genotype:
    """Decode a choice from the space.

    Parameters
    ----------
    numbers : sequence of int, length 24
        For each node of the normal cell, then of the reduction cell: which of `PAIRS` its sources are, and the place in
        `OPERATIONS` of the operation from each. Each is at least 0 and below its entry in `CHOICES`.

    Raises
    ------
    ValueError
        If there are not 24 numbers, or one is out of range.

    Examples
    --------
    >>> from_numbers([0, 3, 2] * 8).normal[:2]
    (('sep_conv_3x3', 0), ('skip_connect', 1))
    """
    if len(numbers) != len(CHOICES):
        raise ValueError(f"a choice is {len(CHOICES)} numbers, three for each node of two cells, not {len(numbers)}")
    if wrong := [i for i, (given, n) in enumerate(zip(numbers, CHOICES, strict=True)) if not 0 <= given < n]:
        raise ValueError(f"number {wrong[0] + 1} must be from 0 to {CHOICES[wrong[0]] - 1}, not {numbers[wrong[0]]}")
    cells: list[Cell] = []
    for start in (0, 3 * N_NODES):
        edges: list[tuple[str, int]] = []
        for node, pairs in enumerate(PAIRS):
            pair, *operations = numbers[start + 3 * node : start + 3 * node + 3]
            edges += [(OPERATIONS[place], source) for place, source in zip(operations, pairs[pair], strict=True)]
        cells.append(tuple(edges))
    return Genotype(*cells)


def _check(cell: Cell) -> None:
    if len(cell) != 2 * N_NODES:
        raise ValueError(f"a cell is {2 * N_NODES} edges, two for each of {N_NODES} nodes, not {len(cell)}")
    for i, (operation, source) in enumerate(cell):
        if operation not in OPERATIONS:
            raise ValueError(f"an edge's operation must be of {', '.join(OPERATIONS)}, not {operation!r}")
        if not 0 <= source < 2 + i // 2:
            raise ValueError(f"edge {i + 1} must come from 0 to {1 + i // 2}, not {source}")


def _convolved(c_in: int, c_out: int) -> nn.Sequential:
    """ReLU, 1x1 convolution, BatchNorm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


def _depthwise(c: int, kernel: int, *, stride: int, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise and 1x1 convolution, BatchNorm."""
    padding = dilation * (kernel // 2)
    deep = nn.Conv2d(c, c, kernel, stride, padding=padding, dilation=dilation, groups=c, bias=False)
    return nn.Sequential(nn.ReLU(), deep, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))


class _Halved(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second a pixel further, side by side, BatchNorm."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(c_in, c_out - c_out // 2, 1, 2, bias=False)
        self.relu, self.bn = nn.ReLU(), nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))


def _operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else _Halved(c, c)
    kind, _, size = name.rpartition("_")
    kernel = int(size[0])
    if kind == "max_pool":
        return nn.MaxPool2d(kernel, stride, padding=1)
    if kind == "avg_pool":
        return nn.AvgPool2d(kernel, stride, padding=1, count_include_pad=False)
    if kind == "dil_conv":
        return _depthwise(c, kernel, stride=stride, dilation=2)
    return nn.Sequential(_depthwise(c, kernel, stride=stride), _depthwise(c, kernel, stride=1))


class _CellLayer(nn.Module):
    """Two inputs, brought to the cell's width; nodes that sum two edges each; the nodes side by side."""

    def __init__(self, cell: Cell, widths: Sequence[int], *, halves: bool, halved_before: bool) -> None:
        super().__init__()
        before, last, c = widths
        self.inputs = nn.ModuleList(
            [_Halved(before, c) if halved_before else _convolved(before, c), _convolved(last, c)]
        )
        self.sources = [source for _, source in cell]
        self.edges = nn.ModuleList(_operation(name, c, 2 if halves and source < 2 else 1) for name, source in cell)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [into(x) for into, x in zip(self.inputs, (before, last), strict=True)]
        found = list(zip(self.edges, self.sources, strict=True))
        for node in range(N_NODES):
            one, other = (edge(states[source]) for edge, source in found[2 * node : 2 * node + 2])
            states.append(one + other)
        return torch.cat(states[2:], dim=1)


class _Network(nn.Module):
    """Stem, cells, average over pixels, and a linear layer."""

    def __init__(self, genotype: Genotype, n_channels: int, n_cells: int, n_classes: int) -> None:
        super().__init__()
        before = last = STEM * n_channels
        conv = nn.Conv2d(IMAGE_CHANNELS, last, 3, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(last))
        self.cells, halved_before, c = nn.ModuleList(), False, n_channels
        for i in range(n_cells):
            halves = i in (n_cells // 3, 2 * n_cells // 3)
            c *= 2 if halves else 1
            cell = genotype.reduction if halves else genotype.normal
            self.cells.append(_CellLayer(cell, (before, last, c), halves=halves, halved_before=halved_before))
            before, last, halved_before = last, N_NODES * c, halves
        self.linear = nn.Linear(last, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, side, side) to logits (n, n_classes)."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.linear(last.mean(dim=(2, 3)))


def build(genotype: Genotype, n_channels: int = 36, *, n_cells: int = 20, n_classes: int = N_CLASSES) -> nn.Module:
    """Build the network of two cells, without auxiliary tower and path dropout.

    The network consists of a 3x3 convolution with BatchNorm, `n_cells` cells, the average over pixels, and a linear
    layer. The cells after a third and after two thirds of all are reduction cells: there the edges from the cell's
    inputs have a stride of 2, and channels double.

    Parameters
    ----------
    genotype : Genotype
        As from `from_numbers`.
    n_channels : int
        Channels of each node of the first cells.
    n_cells : int
        At least 3.
    n_classes : int
        The defaults are those of the paper's evaluation on CIFAR-10.

    Returns
    -------
    Module, on the CPU, in training mode, with torch's default weights from its current generator
        Maps images (n, 3, side, side) to logits (n, n_classes); side is a multiple of 4 pixels.

    Raises
    ------
    ValueError
        If a cell is not eight edges, an operation is unknown, a source is not there yet, or a number is too small.

    Examples
    --------
    >>> network = build(from_numbers([0, 2, 2] * 8), 4, n_cells=3)
    >>> network(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    for cell in genotype:
        _check(cell)
    require_whole(n_channels=n_channels, n_cells=n_cells, n_classes=n_classes)
    if n_cells < 3:
        raise ValueError(f"n_cells must be 3 or more, so that two can be reduction cells, not {n_cells}")
    return _Network(genotype, n_channels, n_cells, n_classes)
