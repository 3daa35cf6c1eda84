"""Networks of the topology and size spaces of NAS-Bench-201 and NATS-Bench.

NAS-Bench-201 (Dong and Yang, ICLR 2020, section 2.1), which is also NATS-Bench's topology space, varies the operations
on the six edges of a cell. The size space of NATS-Bench (Dong, Liu, Musial and Gabrys, TPAMI 2021, section 3) has one
cell and varies the widths of layers. Details that the papers leave open follow the authors' code (AutoDL-Projects).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import product
from numbers import Integral
from operator import add
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from naaplib.architectures.schemes import IMAGE_CHANNELS, IMAGE_SIDE, N_CLASSES, require_whole

Cell = tuple[str, ...]  # the operation on each of EDGES

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (source node, target node); node 0 is the cell's input
SIZE_CELL: Cell = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_3x3")
WIDTHS = tuple(range(8, 65, 8))
_N_WIDTHS = 5
_FORM = "|OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|"
_KERNEL_SIZES = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


def to_string(cell: Cell) -> str:
    """Convert a cell to the benchmark's text.

    For each of nodes 1 to 3, it lists the operations that lead to the node and their source nodes.

    Raises
    ------
    ValueError
        If the cell is not six of `OPERATIONS`.

    Examples
    --------
    >>> to_string(SIZE_CELL)
    '|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|'
    """
    _check_cell(cell)
    texts = {target: "|" for _, target in EDGES}
    for operation, (source, target) in zip(cell, EDGES, strict=True):
        texts[target] += f"{operation}~{source}|"
    return "+".join(texts.values())


def from_string(text: str) -> Cell:
    """Parse the benchmark's text for a cell; the inverse of `to_string`.

    Raises
    ------
    ValueError
        If the text has another form, unknown operations, or an edge with a wrong source.
    """
    pattern = r"([^|+~]+)~([^|+~]+)".join(map(re.escape, re.split(r"OP~\d", _FORM)))
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError(f"a cell's text must be of the form {_FORM!r}, not {text!r}")
    cell, nodes = match.groups()[::2], match.groups()[1::2]
    _check_cell(cell)
    for operation, node, (source, _) in zip(cell, nodes, EDGES, strict=True):
        if node != str(source):
            raise ValueError(f"{operation}~{node} must come from node {source} at its place in {text!r}")
    return cell


def _check_cell(cell: Cell) -> None:
    if len(cell) != len(EDGES):
        raise ValueError(f"a cell must be {len(EDGES)} operations (from_string reads a text), not {cell!r}")
    if unknown := [operation for operation in cell if operation not in OPERATIONS]:
        raise ValueError(f"a cell's operations must be of {', '.join(OPERATIONS)}, not {unknown[0]!r}")


def enumerate_cells() -> list[Cell]:
    """List all 15,625 cells, last edge fastest (the benchmark has another order)."""
    return list(product(OPERATIONS, repeat=len(EDGES)))


def enumerate_widths() -> list[tuple[int, ...]]:
    """List all 32,768 choices of five `WIDTHS`, in the benchmark's order."""
    return list(product(WIDTHS, repeat=_N_WIDTHS))


class _Zero(nn.Module):
    """Multiply by zero, so that the input stays in the graph of gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def _convolution(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution without bias, BatchNorm."""
    conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out))


def _operation(name: str, c_in: int, c_out: int) -> nn.Module:
    if name in _KERNEL_SIZES:
        return _convolution(c_in, c_out, _KERNEL_SIZES[name])
    if name == "skip_connect" and c_in != c_out:  # without a ReLU, unlike the operations above
        return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity() if name == "skip_connect" else _Zero()


class _CellLayer(nn.Module):
    """Four nodes; each but the first sums its edges, and the last is the output."""

    def __init__(self, cell: Cell, c_in: int, c_out: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            _operation(name, c_in if source == 0 else c_out, c_out)
            for name, (source, _) in zip(cell, EDGES, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            edges = zip(self.edges, EDGES, strict=True)
            nodes.append(reduce(add, [edge(nodes[source]) for edge, (source, target) in edges if target == node]))
        return nodes[-1]


class _Reduction(nn.Module):
    """A residual block that halves the side."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(c_in, c_out, 3, stride=2), _convolution(c_out, c_out, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class _Network(nn.Module):
    """Stem, layers, BatchNorm, ReLU, average over pixels, and a linear layer.

    The 3 n_cells + 2 layers are three stages of cells, with a reduction before the second and the third.
    """

    def __init__(self, cell: Cell, widths: Sequence[int], n_classes: int) -> None:
        super().__init__()
        require_whole(n_classes=n_classes)
        conv = nn.Conv2d(IMAGE_CHANNELS, widths[0], 3, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(widths[0]))
        self.layers = nn.Sequential()
        for c_in, c_out, reduces in _layers(widths):
            self.layers.append(_Reduction(c_in, c_out) if reduces else _CellLayer(cell, c_in, c_out))
        self.last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.linear = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, side, side) to logits (n, n_classes)."""
        return self.linear(self.last(self.layers(self.stem(x))).mean(dim=(2, 3)))


def _layers(widths: Sequence[Any]) -> Iterator[tuple[Any, Any, bool]]:
    """Input width, output width, and true for a reduction, of every layer."""
    n_cells = len(widths) // 3
    for i, (c_in, c_out) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True)):
        yield c_in, c_out, i % (n_cells + 1) == n_cells


def _topology_widths(n_channels: int, n_cells: int) -> list[int]:
    require_whole(n_channels=n_channels, n_cells=n_cells)
    return [n_channels] * n_cells + [2 * n_channels] * (n_cells + 1) + [4 * n_channels] * (n_cells + 1)


def build(cell: Cell, n_channels: int = 16, *, n_cells: int = 5, n_classes: int = N_CLASSES) -> nn.Module:
    """Build the network of a NAS-Bench-201 cell.

    The network consists of a 3x3 convolution with BatchNorm; three stages of `n_cells` cells, `n_channels`, twice and
    four times as many channels wide, with a residual block that halves the image's side before the second and the
    third; BatchNorm and ReLU; the average over pixels; a linear layer. In a cell a convolution is ReLU, convolution
    without bias, BatchNorm; average pooling does not count the padding; "none" multiplies by zero.

    Parameters
    ----------
    cell : tuple of str, length 6
        The operation on each of `EDGES`, from node 0 to 1, 0 to 2, 1 to 2, 0 to 3, 1 to 3, 2 to 3. `OPERATIONS` are
        "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3" and "avg_pool_3x3".
    n_channels, n_cells, n_classes : int
        The defaults are the benchmark's, for CIFAR-10.

    Returns
    -------
    Module, on the CPU, in training mode, with torch's default weights from its current generator
        Maps images (n, 3, side, side) to logits (n, n_classes); side is a multiple of 4 pixels. No ReLU is in place.

    Raises
    ------
    ValueError
        If the cell is not six of `OPERATIONS`, or a number is less than 1.
    """
    _check_cell(cell)
    return _Network(cell, _topology_widths(n_channels, n_cells), n_classes)


def build_sized(widths: Sequence[int], n_classes: int = N_CLASSES) -> nn.Module:
    """Build the network of five widths from NATS-Bench's size space.

    It has the form of `build` with `SIZE_CELL` and one cell a stage.

    Parameters
    ----------
    widths : sequence of int, length 5
        Output channels of the first stage's cell (and of the stem), the first reduction, the second stage's cell, the
        second reduction, and the third stage's cell; each is one of `WIDTHS`, 8 to 64. If a cell's width differs from
        its input's, the edges from its first node change it; a skip connection there is a 1x1 convolution with
        BatchNorm, without a ReLU.
    n_classes : int

    Returns
    -------
    Module, as from `build`

    Raises
    ------
    ValueError
        If the widths are not five of `WIDTHS`.
    """
    _check_widths(widths)
    return _Network(SIZE_CELL, [int(width) for width in widths], n_classes)


def _check_widths(widths: Sequence[int]) -> None:
    if len(widths) != _N_WIDTHS:
        raise ValueError(f"there must be {_N_WIDTHS} widths, one a layer, not {len(widths)}: {widths!r}")
    if wrong := [width for width in widths if width not in WIDTHS]:
        raise ValueError(f"a width must be one of {', '.join(map(str, WIDTHS))}, not {wrong[0]!r}")


def sizes(
    cells: Iterable[Cell], n_channels: int = 16, *, n_cells: int = 5, n_classes: int = N_CLASSES,
    side: int = IMAGE_SIDE,
) -> pd.DataFrame:  # fmt: skip
    """Compute the cost of the networks of cells, without building them.

    Parameters
    ----------
    cells : iterable of Cell, length n_archs
    n_channels, n_cells, n_classes : int
        As in `build`.
    side : int
        Side of the square input image in pixels, a multiple of 4.

    Returns
    -------
    DataFrame, shape (n_archs, 3), one row a cell in the given order
        - n_params: all trained parameters.
        - macs: for one image, as the benchmark's "FLOPs" count: the multiply-accumulates of the convolutions and the
            linear layer, and one more for each of its biases. BatchNorm, ReLU, pooling and sums are free.
        - n_relu_units: outputs of all ReLUs, for one image.

    Raises
    ------
    ValueError
        As in `build`, or if `side` is not a multiple of 4.

    Notes
    -----
    For some cells, the benchmark's interface gives these costs for 12 epochs and others for 200 (NATS-Bench, issue 36).

    Examples
    --------
    >>> sizes([SIZE_CELL]).to_dict("records")
    [{'n_params': 1288506, 'macs': 184730250, 'n_relu_units': 757760}]
    """
    cells = list(cells)
    for cell in cells:
        _check_cell(cell)
    return _sizes(cells, _topology_widths(n_channels, n_cells), n_classes, side)


def sizes_of_widths(widths: Iterable[Sequence[int]]) -> pd.DataFrame:
    """Compute the cost of the networks of `build_sized`: one row for each five widths."""
    widths = list(widths)
    for chosen in widths:
        _check_widths(chosen)
    layers = np.array(widths, dtype=np.int64).reshape(-1, _N_WIDTHS).T
    return _sizes([SIZE_CELL] * len(widths), list(layers), N_CLASSES, IMAGE_SIDE)


def _sizes(cells: list[Cell], widths: Sequence[Any], n_classes: int, side: int) -> pd.DataFrame:
    """Compute the sizes of n_archs cells; widths are numbers or arrays (n_archs,)."""
    require_whole(n_classes=n_classes)
    if not isinstance(side, Integral) or side < 4 or side % 4:
        raise ValueError(f"the images' side must be a multiple of 4 pixels, not {side}: it is halved twice")
    operations = np.array(cells, dtype=str).reshape(-1, len(EDGES)).T
    # Kernel area, input width, output width, pixels, and whether a BatchNorm follows; an area of 0 is no convolution.
    convolutions: list[tuple[Any, Any, Any, int, Any]] = [(9, IMAGE_CHANNELS, widths[0], side**2, True)]
    relu_units: list[Any] = []
    for c_in, c_out, reduces in _layers(widths):
        if reduces:
            relu_units.append(c_in * side**2)
            side //= 2
            relu_units.append(c_out * side**2)
            convolutions += [(9, c, c_out, side**2, True) for c in (c_in, c_out)]
            convolutions.append((1, c_in, c_out, side**2, False))
            continue
        for (source, _), names in zip(EDGES, operations, strict=True):
            c_source = c_in if source == 0 else c_out
            area = sum((names == name) * size**2 for name, size in _KERNEL_SIZES.items())
            relu_units.append((area > 0) * c_source * side**2)
            area = area + (names == "skip_connect") * (c_source != c_out)
            convolutions.append((area, c_source, c_out, side**2, area > 0))
    relu_units.append(widths[-1] * side**2)
    linear = (widths[-1] + 1) * n_classes
    n_params = sum(area * c_in * c_out + 2 * c_out * normed for area, c_in, c_out, _, normed in convolutions)
    macs = sum(area * c_in * c_out * pixels for area, c_in, c_out, pixels, _ in convolutions)
    return pd.DataFrame(
        {"n_params": n_params + 2 * widths[-1] + linear, "macs": macs + linear, "n_relu_units": sum(relu_units)}
    )
