"""Supernets of NAS-Bench-201's cells: every edge sums several operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from naaplib.architectures import cells
from naaplib.architectures.schemes import N_CLASSES

Edges = tuple[tuple[str, ...], ...]  # the operations left on each of cells.EDGES

WHOLE: Edges = (cells.OPERATIONS[1:],) * len(cells.EDGES)  # "none" adds nothing to a sum


class _Sum(nn.Module):
    """Sum of the outputs of several operations."""

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (operation(x) for operation in self.operations)
        return sum(others, first)


def build(edges: Edges, *, n_channels: int = 16, n_cells: int = 5, n_classes: int = N_CLASSES) -> nn.Module:
    """Build the network whose cells sum several operations on every edge.

    Its form is that of `naaplib.architectures.cells.build`. The weights of an operation depend on torch's generator
    alone, not on the other operations of its edge: two supernets from one seed share the weights of what they share.

    Parameters
    ----------
    edges : tuple of tuple of str, length 6
        At least one of the ``OPERATIONS`` of `naaplib.architectures.cells` for each of its ``EDGES``.
    n_channels, n_cells, n_classes : int
        As for `naaplib.architectures.cells.build`.

    Returns
    -------
    Module
        In training mode, with torch's default weights.

    Raises
    ------
    ValueError
        If there are not six edges, an edge has no operation, or one is unknown.

    Examples
    --------
    A supernet of one operation an edge is the network of a cell:

    >>> one = build(tuple((name,) for name in cells.SIZE_CELL), n_channels=4, n_cells=1)
    >>> n_weights = sum(weights.numel() for weights in one.parameters())
    >>> n_weights == cells.sizes([cells.SIZE_CELL], n_channels=4, n_cells=1)["n_params"].item()
    True
    """
    if len(edges) != len(cells.EDGES) or not all(edges):
        raise ValueError(f"a supernet has {len(cells.EDGES)} edges with at least one operation each, not {edges!r}")
    if unknown := sorted({name for names in edges for name in names} - set(cells.OPERATIONS)):
        raise ValueError(f"an edge's operations must be of {', '.join(cells.OPERATIONS)}, not {unknown[0]!r}")
    alone: dict[str, Any] = {
        name: cells.build((name,) * len(cells.EDGES), n_channels, n_cells=n_cells, n_classes=n_classes)
        for name in cells.OPERATIONS
    }
    network: Any = alone[cells.OPERATIONS[0]]
    for place, layer in enumerate(network.layers):
        if hasattr(layer, "edges"):  # a cell, not a reduction
            layer.edges = nn.ModuleList(
                _Sum([alone[name].layers[place].edges[edge] for name in names]) for edge, names in enumerate(edges)
            )
    return network
