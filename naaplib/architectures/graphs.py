"""Graphs of architectures of known search spaces, for predictors on graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from naaplib.architectures import nasbench101
from naaplib.architectures.cells import EDGES, OPERATIONS, Cell, to_string
from naaplib.architectures.dense_graphs import Graphs, stack
from naaplib.architectures.schemes import Scheme, block_shapes

Recipe = Sequence[tuple[str, str, Sequence[str]]]

N_LAYERS = 22
N_LAYER_CODES = 7
RECIPE_OPERATIONS = (
    "activation_leaky_relu", "activation_sigm", "activation_tanh", "blend", "elementwise_prod", "elementwise_sum",
    "linear",
)  # fmt: skip
SKIPPED = 6  # the code of an absent ProxylessNAS layer


def of_schemes(schemes: Sequence[Scheme]) -> Graphs:
    """Convert NAAP-440 schemes to chains of input, blocks and output.

    An edge around every residual block stands for its skip connection.

    Parameters
    ----------
    schemes : sequence of Scheme

    Returns
    -------
    Graphs
        Graphs padded to the deepest scheme. A node has 9 features: 1 for the input, 1 for a block, 1 for the output,
        and for a block, all of order one, kernel size / 3, log2 of its width / 5, stride, 1 if residual, log2 of the
        side of its output / 5, log10 of its multiply-accumulates / 6. For a residual block, an edge leads from the node
        before it to the node after it.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> of_schemes(enumerate_schemes()).shape
    (440, 6, 9)
    """
    features, adjacencies = [], []
    for scheme in schemes:
        shapes = block_shapes(scheme)
        n = len(shapes) + 2
        node, edge = np.zeros((n, 9)), np.eye(n, k=1)
        node[0, 0] = node[-1, 2] = node[1:-1, 1] = 1
        for i, shape in enumerate(shapes, start=1):
            sizes = math.log2(shape.c_out) / 5, shape.stride, shape.residual, math.log2(shape.side_out) / 5
            node[i, 3:] = shape.kernel_size / 3, *sizes, math.log10(shape.macs) / 6
            if shape.residual:
                edge[i - 1, i + 1] = 1
        features.append(node)
        adjacencies.append(edge)
    return stack(features, adjacencies)


def of_cells(cells: Sequence[Cell], prune: bool = False) -> Graphs:
    """Convert NAS-Bench-201 cells to graphs with the operations as nodes.

    Parameters
    ----------
    cells : sequence of Cell
    prune : bool
        True removes "none", and then each node that is on no path from input to output. Cells that compute the same for
        that reason then have the same graph.

    Returns
    -------
    Graphs
        Graphs of 8 nodes, or up to 8 if pruned: the input, the operations in the order of `cells.EDGES`, the output.
        Features are one-hot in the order input, `cells.OPERATIONS`, output. An operation follows those that end in the
        node it starts from, or the input.

    Raises
    ------
    ValueError
        If a cell is not six of `cells.OPERATIONS`.

    Examples
    --------
    >>> of_cells([("nor_conv_3x3",) * 6]).shape
    (1, 8, 7)
    """
    for cell in cells:
        to_string(cell)  # raises if it is not a cell
    codes = np.array([[*map(OPERATIONS.index, cell)] for cell in cells], dtype=int).reshape(-1, len(EDGES))
    n_nodes, last = len(EDGES) + 2, max(target for _, target in EDGES)
    edge = np.zeros((n_nodes, n_nodes), dtype=bool)
    for i, (source, target) in enumerate(EDGES, start=1):
        edge[0, i], edge[i, -1] = source == 0, target == last
        edge[i, 1:-1] = [other == target for other, _ in EDGES]
    kinds = np.column_stack([np.zeros(len(codes), int), codes + 1, np.full(len(codes), len(OPERATIONS) + 1)])
    node = np.eye(len(OPERATIONS) + 2)[kinds]
    edges = np.broadcast_to(edge, (len(codes), n_nodes, n_nodes))
    keeps = np.ones((len(codes), n_nodes), dtype=bool)
    if prune:
        keeps[:, 1:-1] = codes != OPERATIONS.index("none")
        keeps = _between(edges & keeps[:, :, None] & keeps[:, None, :])
    return _gather(node, edges, keeps)


def _between(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the nodes on a path from the first node to the last, and these two."""
    paths = edges | np.eye(edges.shape[1], dtype=bool)
    for _ in range(edges.shape[1].bit_length()):
        paths = (paths.astype(np.float32) @ paths.astype(np.float32)) > 0
    result = paths[:, 0, :] & paths[:, :, -1]
    result[:, [0, -1]] = True
    return result


def _gather(features: NDArray[Any], edges: NDArray[np.bool_], keeps: NDArray[np.bool_]) -> Graphs:
    """Graphs of the selected nodes, in their order, padded at the end."""
    order = np.argsort(~keeps, axis=1, kind="stable")
    mask = np.take_along_axis(keeps, order, 1)
    node = np.take_along_axis(features, order[..., None], 1) * mask[..., None]
    edge = np.take_along_axis(np.take_along_axis(edges, order[:, :, None], 1), order[:, None, :], 2)
    edge = edge & mask[:, :, None] & mask[:, None, :]
    dense_node, dense_edge = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in (node, edge))
    return Graphs(dense_node, dense_edge, torch.from_numpy(mask))


def of_nasbench101(texts: Iterable[str]) -> Graphs:
    """Convert NAS-Bench-101 cells to graphs.

    Parameters
    ----------
    texts : iterable of str
        As `naaplib.architectures.nasbench101.from_string` reads them; vertices off all paths are kept.

    Returns
    -------
    Graphs
        Graphs padded to 7 nodes, with one-hot features in the order in, c1, c3, mp, out.

    Raises
    ------
    ValueError
        As in `from_string`.

    Examples
    --------
    >>> of_nasbench101(["111 in c3 out"]).shape
    (1, 7, 5)
    """
    cells = [nasbench101.from_string(text) for text in texts]
    one_hot = np.eye(len(nasbench101.OPERATIONS))
    features = [one_hot[[nasbench101.OPERATIONS.index(name) for name in cell.operations]] for cell in cells]
    return stack(features, [cell.edges.astype(float) for cell in cells], n_nodes=nasbench101.N_VERTICES)


def layer_codes(texts: Iterable[str]) -> NDArray[np.int64]:
    """Convert ProxylessNAS texts to arrays of layer codes.

    Parameters
    ----------
    texts : iterable of str
        22 codes, separated by spaces: 0, 1, 2 for inverted bottlenecks with kernels of 3, 5, 7 pixels and expansion 3;
        3, 4, 5 for the same with expansion 6; 6 for no layer. (The first layer has no expansion.)

    Returns
    -------
    ndarray, shape (n_archs, 22)

    Examples
    --------
    >>> layer_codes(["0 " * 21 + "6"])[:, -2:].tolist()
    [[0, 6]]
    """
    rows = [[int(code) for code in text.split()] for text in texts]
    for row in rows:
        if len(row) != N_LAYERS or not all(0 <= code < N_LAYER_CODES for code in row):
            raise ValueError(f"an architecture must be {N_LAYERS} codes from 0 to {N_LAYER_CODES - 1}, not {row}")
    return np.array(rows, dtype=np.int64).reshape(-1, N_LAYERS)


def of_layers(texts: Iterable[str], prune: bool = False) -> Graphs:
    """Convert ProxylessNAS texts (see `layer_codes`) to chains of 22 nodes.

    Features are one-hot over the seven codes. As in the replication, every architecture has the same edges, and an
    absent layer is a node too, unless `prune` is true. A layer's position, which decides its width and stride, is not a
    feature.
    """
    codes = layer_codes(texts)
    node = np.eye(N_LAYER_CODES)[codes]
    if prune:
        kept = [one[row != SKIPPED] for one, row in zip(node, codes, strict=True)]
        return stack(kept, [np.eye(len(one), k=1) for one in kept], n_nodes=N_LAYERS)
    return stack(node, [np.eye(N_LAYERS, k=1)] * len(codes), n_nodes=N_LAYERS)


def of_recipes(recipes: Iterable[Recipe], aligned: bool = True) -> Graphs:
    """Convert NAS-Bench-NLP's recurrent cells to graphs.

    Parameters
    ----------
    recipes : iterable of recipes
        A recipe is a list of (name of a node, its operation, names of its inputs), as in the benchmark's release.
        Inputs that are not nodes (x, h_prev_0 and so on) are inputs of the cell.
    aligned : bool
        True: one node for each input of the cell, in alphabetical order, then the recipe's nodes in its order; one-hot
        features in the order of `RECIPE_OPERATIONS`, then 1 for an input; an edge leads from a node to each that uses
        it. False: as in the replication's code. Rows of features follow the recipe, but rows of the adjacency matrix
        follow the order in which names occur, each node before its inputs, so that the two disagree about the nodes. An
        edge leads from a later name to an earlier one; inputs have no feature.

    Returns
    -------
    Graphs
        Graphs padded to 25 nodes, with 8 features if aligned, else 7. All names that occur count as nodes.
    """
    features, adjacencies = [], []
    for recipe in recipes:
        named = [name for name, _, _ in recipe]
        if len(set(named)) < len(named):
            raise ValueError(f"a recipe must name each of its nodes once, not {named}")
        if aligned:
            order = sorted({name for _, _, inputs in recipe for name in inputs} - set(named)) + named
        else:
            order = list(dict.fromkeys(name for node, _, inputs in recipe for name in (node, *inputs)))
        place = {name: i for i, name in enumerate(order)}
        node = np.zeros((len(order), len(RECIPE_OPERATIONS) + aligned))
        edge = np.zeros((len(order), len(order)))
        if aligned:
            node[: len(order) - len(named), -1] = 1
        for row, (name, operation, inputs) in enumerate(recipe):
            if operation not in RECIPE_OPERATIONS:
                raise ValueError(f"an operation must be one of {', '.join(RECIPE_OPERATIONS)}, not {operation!r}")
            node[place[name] if aligned else row, RECIPE_OPERATIONS.index(operation)] = 1
            for used in inputs:
                pair = place[used], place[name]
                edge[pair if aligned else (max(pair), min(pair))] = 1
        features.append(node)
        adjacencies.append(edge)
    return stack(features, adjacencies, n_nodes=25)
