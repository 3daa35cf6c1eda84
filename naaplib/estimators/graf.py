"""Neural graph features: what can be counted in the graph of an architecture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib.architectures.cells import EDGES, OPERATIONS, Cell
from naaplib.architectures.schemes import Scheme

SKIP = "skip"
SCHEME_OPERATIONS = ("conv1x1", "conv3x3", "conv1x1/2", "conv3x3/2", SKIP)


@dataclass(frozen=True)
class OperationGraph:
    """An acyclic graph from node 0 to node n_nodes - 1 with an operation on each edge.

    Parameters
    ----------
    n_nodes : int
        Number of nodes; the first is the input, the last the output.
    edges : tuple of (int, int, str or None)
        Source, target and operation of each edge. A source is smaller than its target; two nodes may have several
        edges. An edge with the operation None is a mere wire: every path may use it, and it adds no length.

    Raises
    ------
    ValueError
        If an edge does not lead from a node to a later one.
    """

    n_nodes: int
    edges: tuple[tuple[int, int, str | None], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple((int(s), int(t), name) for s, t, name in self.edges))
        if self.n_nodes < 2:
            raise ValueError(f"a graph needs an input and an output, so 2 nodes or more, not {self.n_nodes}")
        if wrong := [edge for edge in self.edges if not 0 <= edge[0] < edge[1] < self.n_nodes]:
            raise ValueError(f"edges must lead from a node to a later one of {self.n_nodes}, not as {wrong[0]}")


def from_nodes(operations: Sequence[str | None], adjacency: ArrayLike) -> OperationGraph:
    """Convert a graph with operations on its nodes to one with operations on edges.

    Each node becomes an edge with its operation, from a node that collects its inputs to one that hands on its output.
    The edges of the given graph become wires.

    Parameters
    ----------
    operations : sequence of str or None, length n_nodes
        Operation of each node, in topological order. The first node is the input and the last the output; these two,
        and others without an operation, have None.
    adjacency : array_like, shape (n_nodes, n_nodes)
        Non-zero at (i, j) if the output of node i is an input of node j.

    Examples
    --------
    >>> from_nodes([None, "conv3x3", None], [[0, 1, 1], [0, 0, 1], [0, 0, 0]]).edges
    ((0, 1, None), (0, 3, None), (1, 2, 'conv3x3'), (2, 3, None))
    """
    links = np.asarray(adjacency) != 0
    n = len(operations)
    if links.shape != (n, n) or n < 2:
        raise ValueError(f"{n} operations need an adjacency matrix of {n} x {n}, at least 2 x 2, not {links.shape}")
    if np.tril(links).any():
        raise ValueError(
            "the nodes must be in topological order: the adjacency matrix must have no entry on or below its diagonal"
        )
    first, last, at = [], [], 0  # places at which a node begins and ends
    for name in operations:
        first.append(at)
        at += name is not None
        last.append(at)
        at += 1
    edges: list[tuple[int, int, str | None]] = []
    for node, name in enumerate(operations):
        if name is not None:
            edges.append((first[node], last[node], name))
        edges += [(last[node], first[j], None) for j in np.flatnonzero(links[node])]
    return OperationGraph(at, tuple(edges))


def features(graphs: Sequence[OperationGraph], operations: Sequence[str]) -> pd.DataFrame:
    """Compute the neural graph features (GRAF) of architectures.

    The source is Kadlecová et al. 2024, "Surprisingly Strong Performance Prediction with Neural Graph Features".

    Parameters
    ----------
    graphs : sequence of OperationGraph
        Not necessarily of one size.
    operations : sequence of str
        All operations of the search space. The number of features doubles with each.

    Returns
    -------
    DataFrame, shape (n_archs, n_features), of float
        For each operation: "count", the number of its edges; "most" and "fewest", its largest and smallest number of
        occurrences on one path from input to output. For each non-empty set of operations, in the graph of their edges
        and the wires: "shortest" and "longest", the number of operations on the shortest and longest path from input
        to output (without a path: one more than the largest graph has operations, and 0); "input" and "output", the
        out-degree of the input and the in-degree of the output; "in" and "out", the mean degrees of the inner nodes.
        Columns are named "count(a)" and "shortest(a|b)". A different numbering of the inner nodes changes nothing.

    Raises
    ------
    ValueError
        If a graph has an operation that is not among `operations`, or these are not different.

    Examples
    --------
    >>> residual = OperationGraph(2, ((0, 1, "conv"), (0, 1, "skip")))
    >>> found = features([residual], ["conv", "skip"])
    >>> found[["count(conv)", "shortest(conv)", "output(conv|skip)"]].to_numpy().tolist()
    [[1.0, 1.0, 2.0]]
    """
    names = list(operations)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"operations must be one or more different ones, not {names}")
    for graph in graphs:
        if unknown := [name for _, _, name in graph.edges if name is not None and name not in names]:
            raise ValueError(f"operation {unknown[0]!r} is not one of {', '.join(names)}")
    missing = 1 + max((sum(name is not None for _, _, name in graph.edges) for graph in graphs), default=0)
    groups: dict[tuple[int, tuple[tuple[int, int, bool], ...]], list[int]] = {}
    for row, graph in enumerate(graphs):
        skeleton = tuple((source, target, name is None) for source, target, name in graph.edges)
        groups.setdefault((graph.n_nodes, skeleton), []).append(row)
    columns = _columns(names)
    values = np.zeros((len(graphs), len(columns)))
    for (n_nodes, skeleton), rows in groups.items():
        codes = [[-1 if name is None else names.index(name) for _, _, name in graphs[row].edges] for row in rows]
        shape = _Skeleton(n_nodes, skeleton)
        values[rows] = shape.features(np.array(codes, dtype=int).reshape(len(rows), -1), len(names), missing)
    return pd.DataFrame(values, columns=columns)


def _subsets(n: int) -> Iterator[tuple[int, ...]]:
    for size in range(1, n + 1):
        yield from combinations(range(n), size)


def _columns(names: Sequence[str]) -> list[str]:
    single = [f"{kind}({name})" for name in names for kind in ("count", "most", "fewest")]
    sets = ["|".join(names[i] for i in subset) for subset in _subsets(len(names))]
    kinds = ("shortest", "longest", "input", "output", "in", "out")
    return single + [f"{kind}({chosen})" for chosen in sets for kind in kinds]


class _Skeleton:
    """Nodes and edges of graphs that differ in their operations only."""

    def __init__(self, n_nodes: int, edges: Sequence[tuple[int, int, bool]]) -> None:
        self.n_nodes = n_nodes
        self.edges = [(source, target) for source, target, _ in edges]
        self.wires = np.array([wire for _, _, wire in edges], dtype=bool)
        ends = np.array(self.edges, dtype=int).reshape(-1, 2)
        self.leaves = ends[:, 0, None] == np.arange(n_nodes)  # (n_edges, n_nodes)
        self.enters = ends[:, 1, None] == np.arange(n_nodes)

    def features(self, codes: NDArray[np.int64], n_operations: int, missing: int) -> NDArray[np.float64]:
        """Compute features of graphs with the operations `codes` (n_archs, n_edges)."""
        columns = []
        everything = np.ones(codes.shape, dtype=bool)
        for operation in range(n_operations):
            here = codes == operation
            most, fewest = self._lengths(everything, here.astype(float))
            columns += [here.sum(1), np.where(np.isfinite(most), most, 0), np.where(np.isfinite(fewest), fewest, 0)]
        length = np.broadcast_to((~self.wires).astype(float), codes.shape)
        for subset in _subsets(n_operations):
            allowed = np.isin(codes, subset)
            longest, shortest = self._lengths(allowed | self.wires, length)
            columns += [np.where(np.isfinite(shortest), shortest, missing), np.where(np.isfinite(longest), longest, 0)]
            columns += self._degrees(allowed | self.wires)
        return np.column_stack(columns)

    def _lengths(
        self, allowed: NDArray[np.bool_], length: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longest and shortest path (n_archs,) over allowed edges; -inf and inf if there is none."""
        longest = np.full((self.n_nodes, len(allowed)), -np.inf)
        longest[0] = 0
        shortest = -longest
        for edge in sorted(range(len(self.edges)), key=lambda edge: self.edges[edge][1]):
            source, target = self.edges[edge]
            ways = longest[source] + np.where(allowed[:, edge], length[:, edge], -np.inf)
            longest[target] = np.maximum(longest[target], ways)
            ways = shortest[source] + np.where(allowed[:, edge], length[:, edge], np.inf)
            shortest[target] = np.minimum(shortest[target], ways)
        return longest[-1], shortest[-1]

    def _degrees(self, allowed: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """Degrees of input and output, and mean in- and out-degree of inner nodes, (n_archs,) each."""
        out, into = (allowed.astype(float) @ ends for ends in (self.leaves, self.enters))
        inner = slice(1, self.n_nodes - 1)
        n_inner = max(self.n_nodes - 2, 1)
        return [out[:, 0], into[:, -1], into[:, inner].sum(1) / n_inner, out[:, inner].sum(1) / n_inner]


def of_cells(cells: Iterable[Cell], prune: bool = False) -> pd.DataFrame:
    """Compute the neural graph features of NAS-Bench-201 cells.

    Parameters
    ----------
    cells : iterable of Cell
        Six operations each, as `naaplib.architectures.cells.from_string` returns them.
    prune : bool
        True first turns into "none" each operation that is on no path from input to output without a "none".

    Returns
    -------
    DataFrame, shape (n_archs, 201), one row a cell in the given order
        As `features` of all five operations returns it. A "none" is an edge like the others.

    Examples
    --------
    >>> cell = ("nor_conv_3x3", "none", "none", "skip_connect", "none", "nor_conv_3x3")
    >>> of_cells([cell])[["count(none)", "longest(nor_conv_3x3)", "longest(skip_connect)"]].to_numpy().tolist()
    [[3.0, 0.0, 1.0]]
    """
    cells = [prune_cell(cell) if prune else cell for cell in cells]
    graphs = [
        OperationGraph(4, tuple((s, t, name) for (s, t), name in zip(EDGES, cell, strict=True))) for cell in cells
    ]
    return features(graphs, OPERATIONS)


def prune_cell(cell: Cell) -> Cell:
    """Turn into "none" each operation of a cell that the output does not depend on.

    It is on no path from input to output without a "none". The network computes the same function, but for what
    convolutions of zeros can learn.

    >>> prune_cell(("nor_conv_3x3", "none", "none", "skip_connect", "none", "nor_conv_3x3"))
    ('none', 'none', 'none', 'skip_connect', 'none', 'none')
    """
    live = [(edge, name != "none") for edge, name in zip(EDGES, cell, strict=True)]
    reached, needed = {0}, {EDGES[-1][1]}
    for (source, target), alive in sorted(live, key=lambda one: one[0][1]):
        reached |= {target} if alive and source in reached else set()
    for (source, target), alive in sorted(live, key=lambda one: -one[0][0]):
        needed |= {source} if alive and target in needed else set()
    return tuple(
        name if source in reached and target in needed else "none"
        for (source, target), name in zip(EDGES, cell, strict=True)
    )


def of_schemes(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Compute the neural graph features of NAAP-440 schemes.

    A scheme is a chain: each block is an edge with one of `SCHEME_OPERATIONS` ("/2" for a stride above 1), and its skip
    connection is a second edge beside it. Widths are no part of the graph.

    Returns
    -------
    DataFrame, shape (n_schemes, 201)
        Indexed by ModelId, the 1-based position.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> of_schemes(enumerate_schemes())[["count(conv3x3/2)", "longest(conv1x1|conv3x3/2)"]].loc[1].tolist()
    [2.0, 3.0]
    """
    graphs = []
    for scheme in schemes:
        edges: list[tuple[int, int, str | None]] = []
        for i, block in enumerate(scheme):
            edges.append((i, i + 1, f"conv{block.kernel_size}x{block.kernel_size}{'/2' if block.stride > 1 else ''}"))
            if block.residual:
                edges.append((i, i + 1, SKIP))
        graphs.append(OperationGraph(len(scheme) + 1, tuple(edges)))
    found = features(graphs, SCHEME_OPERATIONS)
    return found.set_index(pd.RangeIndex(1, len(found) + 1, name="ModelId"))
