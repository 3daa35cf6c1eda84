"""Networks of NAS-Bench-101 (Ying et al., ICML 2019).

A cell is a directed acyclic graph of at most seven vertices: the input, operations, the output. Details that section 2
of the paper leaves open follow the authors' code (google-research/nasbench, ``lib/model_builder.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from naaplib.architectures.schemes import IMAGE_CHANNELS, IMAGE_SIDE, N_CLASSES, require_whole

OPERATIONS = ("in", "c1", "c3", "mp", "out")
N_VERTICES = 7  # at most
N_STACKS = 3
_KERNEL_SIZES = {"c1": 1, "c3": 3}
_MOMENTUM = 0.003  # of BatchNorm's statistics, in torch's sense


class Graph(NamedTuple):
    """A cell of n vertices.

    `edges` (n, n) is strictly upper triangular; `operations` has one of `OPERATIONS` for each vertex.
    """

    edges: NDArray[np.bool_]
    operations: tuple[str, ...]


def from_string(text: str) -> Graph:
    """Parse the text of a cell.

    Parameters
    ----------
    text : str
        The strict upper triangle of the adjacency matrix, row by row, then an operation a vertex, as in
        ``"111 in c3 out"``: "in", "c1" and "c3" for convolutions of 1x1 and 3x3, "mp" for max pooling, "out".

    Raises
    ------
    ValueError
        If the text is not of this form, "in" or "out" occurs anywhere but first or last, or no path connects them.

    Examples
    --------
    >>> from_string("111 in c3 out").edges.astype(int).tolist()
    [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    """
    bits, *operations = text.split() or [""]
    n = len(operations)
    if len(bits) != n * (n - 1) // 2 or set(bits) - {"0", "1"}:
        raise ValueError(f"{n} operations need {n * (n - 1) // 2} zeros and ones for their edges: {text!r}")
    if unknown := [name for name in operations if name not in OPERATIONS]:
        raise ValueError(f"an operation must be one of {', '.join(OPERATIONS)}, not {unknown[0]!r}")
    edges = np.zeros((n, n), dtype=bool)
    edges[np.triu_indices(n, 1)] = [bit == "1" for bit in bits]
    inner = operations[1:-1]
    if operations[:1] != ["in"] or operations[-1:] != ["out"] or "in" in inner or "out" in inner:
        raise ValueError(f"the operations must be 'in' first, 'out' last, and others in between: {text!r}")
    if not _reached(edges)[-1]:
        raise ValueError(f"no path leads from 'in' to 'out': {text!r}")
    return Graph(edges, tuple(operations))


def prune(graph: Graph) -> Graph:
    """Remove vertices that are on no path from input to output.

    The benchmark does so before it builds a network.

    >>> prune(from_string("110010 in c3 mp out")).operations
    ('in', 'c3', 'out')
    """
    kept = _reached(graph.edges) & _reached(graph.edges.T[::-1, ::-1])[::-1]
    operations = (name for name, keeps in zip(graph.operations, kept, strict=True) if keeps)
    return Graph(graph.edges[np.ix_(kept, kept)], tuple(operations))


def _reached(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the vertices to which a path leads from the first; edges lead to later vertices only."""
    reached = np.eye(len(edges), dtype=bool)[0]
    for vertex, following in enumerate(edges):
        reached |= reached[vertex] & following
    return reached


def widths(graph: Graph, c_out: int) -> list[int]:
    """Compute the output channels of each inner vertex of a pruned cell.

    The cell's channels are divided among the vertices that lead to the output, the first ones taking one more if need
    be. Any other vertex is as wide as the widest that it leads to.

    Parameters
    ----------
    graph : Graph
    c_out : int
        Output channels of the cell, at least one for each vertex that leads to the output.

    Examples
    --------
    >>> widths(from_string("1110001011 in c1 c3 mp out"), 128)
    [43, 43, 42]
    """
    n = len(graph.operations)
    to_output = graph.edges[1:-1, -1]
    share, rest = divmod(c_out, int(to_output.sum()) or 1)
    if share < 1:
        raise ValueError(f"{c_out} channels cannot be divided among {to_output.sum()} vertices: take more channels")
    found = [0] * (n - 2)
    for vertex in np.flatnonzero(to_output).tolist():
        found[vertex] = share + (rest > 0)
        rest -= rest > 0
    for vertex in reversed(range(n - 2)):
        if not to_output[vertex]:
            found[vertex] = max(found[other] for other in np.flatnonzero(graph.edges[vertex + 1, 1:-1]))
    return found


def _convolution(c_in: int, c_out: int, kernel_size: int) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, momentum=_MOMENTUM), nn.ReLU())


class _CellLayer(nn.Module):
    """An inner vertex applies its operation to the sum of its inputs; those that lead to the output are concatenated.

    From the cell's input, every edge has a 1x1 convolution. An input that is wider by one channel loses its last.
    """

    def __init__(self, graph: Graph, c_in: int, c_out: int) -> None:
        super().__init__()
        self.edges, self.widths = graph.edges.tolist(), [c_in, *widths(graph, c_out), c_out]
        self.projections = nn.ModuleDict(
            {str(v): _convolution(c_in, self.widths[v], 1) for v in np.flatnonzero(graph.edges[0]).tolist()}
        )
        self.operations = nn.ModuleList(
            _convolution(width, width, _KERNEL_SIZES[name]) if name in _KERNEL_SIZES else nn.MaxPool2d(3, 1, padding=1)
            for name, width in zip(graph.operations[1:-1], self.widths[1:-1], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        vertices = [x]
        last = len(self.widths) - 1
        for vertex, operation in enumerate(self.operations, start=1):
            inputs = [vertices[i][:, : self.widths[vertex]] for i in range(1, vertex) if self.edges[i][vertex]]
            if self.edges[0][vertex]:
                inputs.append(self.projections[str(vertex)](x))
            vertices.append(operation(reduce(add, inputs)))
        ends = [vertices[i] for i in range(1, last) if self.edges[i][last]]
        sums = [torch.cat(ends, dim=1)] if ends else []
        if self.edges[0][last]:
            sums.append(self.projections[str(last)](x))
        return reduce(add, sums)


class _Network(nn.Module):
    """Stem, three stacks of cells with max pooling between them, average over pixels, and a linear layer."""

    def __init__(self, graph: Graph, n_channels: int, n_cells: int, n_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(IMAGE_CHANNELS, n_channels, 3))
        for c_in, c_out, halves in _cells(n_channels, n_cells):
            if halves:
                self.layers.append(nn.MaxPool2d(2))
            self.layers.append(_CellLayer(graph, c_in, c_out))
        self.linear = nn.Linear(c_out, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, side, side) to logits (n, n_classes)."""
        return self.linear(self.layers(x).mean(dim=(2, 3)))


def _cells(n_channels: int, n_cells: int) -> list[tuple[int, int, bool]]:
    """Input width and output width of every cell, and true if the image is halved before it."""
    outputs = [n_channels * 2**stack for stack in range(N_STACKS) for _ in range(n_cells)]
    halved = [stack > 0 and i == 0 for stack in range(N_STACKS) for i in range(n_cells)]
    return list(zip([n_channels, *outputs[:-1]], outputs, halved, strict=True))


def build(text: str, n_channels: int = 128, *, n_cells: int = 3, n_classes: int = N_CLASSES) -> nn.Module:
    """Build the network of a cell of NAS-Bench-101.

    The network consists of a 3x3 convolution; three stacks of `n_cells` cells, `n_channels`, twice and four times as
    many channels wide, with 2x2 max pooling before the second and the third; the average over pixels; a linear layer.
    A convolution is convolution without bias, BatchNorm, ReLU. Vertices that are on no path from input to output are
    left out.

    Parameters
    ----------
    text : str
        As in `from_string`.
    n_channels, n_cells, n_classes : int
        The defaults are the benchmark's.

    Returns
    -------
    Module, on the CPU, in training mode, with torch's default weights from its current generator
        Maps images (n, 3, side, side) to logits (n, n_classes); side is a multiple of 4 pixels.

    Raises
    ------
    ValueError
        As in `from_string`; or if a number is less than 1, or there are fewer channels than vertices share.
    """
    require_whole(n_channels=n_channels, n_cells=n_cells, n_classes=n_classes)
    return _Network(prune(from_string(text)), n_channels, n_cells, n_classes)


def sizes(
    texts: Iterable[str], n_channels: int = 128, *, n_cells: int = 3, n_classes: int = N_CLASSES, side: int = IMAGE_SIDE
) -> pd.DataFrame:
    """Compute the cost of the networks of cells, without building them.

    Parameters
    ----------
    texts : iterable of str, length n_archs
    n_channels, n_cells, n_classes : int
        As in `build`.
    side : int
        Side of the square input image in pixels, a multiple of 4.

    Returns
    -------
    DataFrame, shape (n_archs, 3), one row a cell in the given order
        - n_params: all trained parameters, as the benchmark's ``trainable_parameters``.
        - macs: multiply-accumulates of the convolutions and the linear layer, for one image.
        - n_relu_units: outputs of all ReLUs, for one image.

    Raises
    ------
    ValueError
        As in `build`, or if `side` is not a multiple of 4.

    Examples
    --------
    >>> sizes(["100110100001001010101 in c3 mp c3 c3 c1 out"]).to_dict("records")
    [{'n_params': 8555530, 'macs': 1261835264, 'n_relu_units': 2539520}]
    """
    require_whole(n_channels=n_channels, n_cells=n_cells, n_classes=n_classes)
    if side < 4 or side % 4:
        raise ValueError(f"the images' side must be a multiple of 4 pixels, not {side}: it is halved twice")
    rows = [_sizes(prune(from_string(text)), _cells(n_channels, n_cells), n_classes, side) for text in texts]
    return pd.DataFrame(rows, columns=["n_params", "macs", "n_relu_units"])


def _sizes(graph: Graph, cells: Sequence[tuple[int, int, bool]], n_classes: int, side: int) -> tuple[int, int, int]:
    convolutions = [(9, IMAGE_CHANNELS, cells[0][0], side**2)]  # area of the kernel, widths in and out, pixels
    for c_in, c_out, halves in cells:
        side = side // 2 if halves else side
        own = [c_in, *widths(graph, c_out), c_out]
        convolutions += [(1, c_in, own[v], side**2) for v in np.flatnonzero(graph.edges[0])]
        convolutions += [
            (_KERNEL_SIZES[name] ** 2, width, width, side**2)
            for name, width in zip(graph.operations[1:-1], own[1:-1], strict=True)
            if name in _KERNEL_SIZES
        ]
    linear = cells[-1][1] * n_classes
    n_params = sum(area * a * b + 2 * b for area, a, b, _ in convolutions) + linear + n_classes
    macs = sum(area * a * b * pixels for area, a, b, pixels in convolutions) + linear
    return n_params, macs, sum(b * pixels for _, _, b, pixels in convolutions)
