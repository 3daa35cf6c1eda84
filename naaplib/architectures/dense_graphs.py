"""Graphs in one padded dense form: stacked, checked, indexed and scaled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# A feature whose largest absolute value lies between these is of order one, and is not scaled.
LEAST, LARGEST = 0.1, 10.0


@dataclass(frozen=True)
class Graphs:
    """Architectures as graphs, padded to one number of nodes.

    Parameters
    ----------
    features : Tensor of float32, shape (n_archs, n_nodes, n_features)
        Zero where padded.
    adjacency : Tensor of float32, shape (n_archs, n_nodes, n_nodes)
        1 at [g, i, j] for an edge from node i to node j of graph g, else 0; no self loops.
    mask : Tensor of bool, shape (n_archs, n_nodes)
        True for nodes, False for padding, which comes last.

    `stack` makes them from single graphs and checks them. They have a length, and an index selects architectures: a
    slice, an array of integers, one integer, or a boolean mask. The result is always `Graphs`, so scikit-learn splits
    them as it splits arrays.
    """

    features: Tensor
    adjacency: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_archs, n_nodes, n_features), which tells scikit-learn the number of rows."""
        n_archs, n_nodes, n_features = self.features.shape
        return n_archs, n_nodes, n_features

    def __getitem__(self, rows: Any) -> Graphs:
        if isinstance(rows, tuple) and len(rows) == 2 and rows[1] is Ellipsis:
            rows = rows[0]  # as scikit-learn indexes
        if not isinstance(rows, slice) or (rows.step or 1) < 0:
            rows = torch.from_numpy(positions(rows, len(self)))
        return Graphs(self.features[rows], self.adjacency[rows], self.mask[rows])

    def pad(self, n_nodes: int) -> Graphs:
        """Return the graphs with further padding, up to `n_nodes` nodes."""
        n_more = n_nodes - self.mask.shape[1]
        if n_more < 0:
            raise ValueError(f"graphs of {self.mask.shape[1]} nodes cannot be padded to {n_nodes}; trim them first")
        pad = torch.nn.functional.pad
        features, adjacency = pad(self.features, (0, 0, 0, n_more)), pad(self.adjacency, (0, n_more, 0, n_more))
        return Graphs(features, adjacency, pad(self.mask, (0, n_more)))

    def trim(self) -> Graphs:
        """Return the graphs with the least padding that the largest of them needs."""
        n_nodes = int(self.mask.sum(1).max()) if len(self) else 0
        return Graphs(self.features[:, :n_nodes], self.adjacency[:, :n_nodes, :n_nodes], self.mask[:, :n_nodes])

    def scales(self) -> NDArray[np.float64]:
        """Compute the mean and scale of each feature over all nodes.

        The result has shape (2, n_features).

        The scale is the standard deviation or, for a constant feature, its absolute value. A feature of order one,
        whose largest absolute value lies between `LEAST` and `LARGEST`, and one that is 0 everywhere have mean 0 and
        scale 1.
        """
        largest = self.features.abs().amax((0, 1)).double().cpu().numpy()
        found = np.stack([np.zeros_like(largest), np.ones_like(largest)])
        columns = np.flatnonzero(((largest < LEAST) | (largest > LARGEST)) & (largest > 0))
        if columns.size:
            nodes = self.features[self.mask].double().cpu().numpy()[:, columns]
            spread = nodes.std(0)
            found[:, columns] = nodes.mean(0), np.where(spread > 1e-6 * largest[columns], spread, largest[columns])
        return found

    def scale(self, scales: NDArray[np.float64]) -> Graphs:
        """Return the graphs with features standardised by `scales`; padding stays 0."""
        if (scales == [[0], [1]]).all():
            return self
        centre, spread = torch.from_numpy(scales).to(self.features.device)
        features = ((self.features.double() - centre) / spread).to(torch.float32)
        return Graphs(features * self.mask[..., None], self.adjacency, self.mask)


def positions(rows: Any, n: int) -> NDArray[np.int64]:
    """Convert an index of n rows to positions, by numpy's rules.

    The index holds integers, also negative ones, or is a mask.

    Raises
    ------
    IndexError
        If it is neither, or exceeds the last row.
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows].copy()  # torch does not support negative steps
    places = np.atleast_1d(rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows))
    if places.dtype == bool and places.shape == (n,):
        return np.flatnonzero(places)
    if places.shape == (0,):
        return places.astype(np.int64)  # an empty list has no integer type
    if places.ndim != 1 or places.dtype.kind not in "iu":
        raise IndexError(
            f"rows must be whole numbers in one dimension, or {n} truth values; they are {places.dtype} of shape "
            f"{places.shape}"
        )
    if not -n <= places.min() <= places.max() < n:
        raise IndexError(f"rows go from {places.min()} to {places.max()}; there are {n}")
    places = places.astype(np.int64)
    return np.where(places < 0, places + n, places)


def normalise(adjacency: Tensor, normalisation: str) -> Tensor:
    """Add self loops to adjacency matrices and normalise them.

    Parameters
    ----------
    adjacency : Tensor, shape (..., n_nodes, n_nodes)
        1 at [i, j] for an edge from i to j.
    normalisation : {"symmetric", "none"}
        "symmetric" is D^-1/2 (A + I) D^-1/2, where D are the row sums of A + I: the out-degrees, or the in-degrees of a
        transposed matrix.

    Returns
    -------
    Tensor, shape (..., n_nodes, n_nodes)
    """
    looped = adjacency + torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
    if normalisation == "none":
        return looped
    scale = looped.sum(-1).rsqrt()
    return looped * scale[..., :, None] * scale[..., None, :]


def to_scale(
    graphs: Graphs, training: NDArray[np.int64]
) -> tuple[list[NDArray[np.float64]], Graphs, NDArray[np.int64]]:
    """Scale the features of training graphs, separately for each training set.

    Parameters
    ----------
    graphs : Graphs
    training : ndarray, shape (n_sets, n_train)
        Positions of the graphs in each set.

    Returns
    -------
    list of ndarray, Graphs, ndarray
        The scales of each set; the scaled graphs; and the positions in them. If all features are of order one in every
        set, the graphs are the given ones.

    Raises
    ------
    ValueError
        If a feature of a training graph is not finite.
    """
    if not graphs.features[torch.from_numpy(np.unique(training))].isfinite().all():
        raise ValueError("features of nodes must be finite; leave out the graphs in which they are not")
    scales = [graphs[rows].scales() for rows in training]
    if all((one == [[0], [1]]).all() for one in scales):
        return scales, graphs, training
    parts = [graphs[rows].scale(one) for one, rows in zip(scales, training, strict=True)]
    whole = Graphs(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Graphs)))
    return scales, whole, np.arange(training.size).reshape(training.shape)


def stack(features: Iterable[ArrayLike], adjacencies: Iterable[ArrayLike], *, n_nodes: int | None = None) -> Graphs:
    """Make `Graphs` from features and adjacency matrices; check and pad them.

    Parameters
    ----------
    features : iterable of array_like, each (n_i, n_features)
        One row a node.
    adjacencies : iterable of array_like, each (n_i, n_i)
        1 at [i, j] for an edge from node i to node j, else 0; the diagonal is 0. Sparse matrices are accepted.
    n_nodes : int or None
        Number of nodes after padding; None takes the largest n_i.

    Raises
    ------
    ValueError
        If a graph has other shapes, entries other than 0 and 1, a self loop, a feature that is not finite, or more than
        `n_nodes` nodes; or if graphs differ in their number of features.

    Examples
    --------
    >>> chain = stack([[[1, 0], [0, 1], [0, 1]]], [[[0, 1, 0], [0, 0, 1], [0, 0, 0]]], n_nodes=4)
    >>> chain.shape, chain.mask.tolist()
    ((1, 4, 2), [[True, True, True, False]])
    """
    nodes, edges = [_dense(one) for one in features], [_dense(one) for one in adjacencies]
    if len(nodes) != len(edges) or not nodes:
        raise ValueError(f"there must be one adjacency matrix a graph, and a graph; got {len(nodes)} and {len(edges)}")
    n_features = nodes[0].shape[1] if nodes[0].ndim == 2 else "n_features"
    for number, (node, edge) in enumerate(zip(nodes, edges, strict=True)):
        if node.ndim != 2 or not len(node) or node.shape[1] != n_features:
            raise ValueError(f"graph {number}: features must be (n_i, {n_features}), not {node.shape}")
        if edge.shape != (len(node), len(node)):
            raise ValueError(f"graph {number}: {len(node)} nodes need a square adjacency matrix, not {edge.shape}")
        if not np.isin(edge, (0, 1)).all() or edge.diagonal().any():
            raise ValueError(
                f"graph {number}: adjacency must be of 0 and 1, and 0 on the diagonal: edges have no weights, and a "
                f"network that needs self loops adds them"
            )
        if not np.isfinite(node).all():
            raise ValueError(f"graph {number}: features must be finite, and below 3.4e38")
    largest = max(map(len, nodes))
    n_nodes = largest if n_nodes is None else n_nodes
    if largest > n_nodes:
        raise ValueError(f"the largest graph has {largest} nodes, more than n_nodes={n_nodes}")
    node = np.zeros((len(nodes), n_nodes, nodes[0].shape[1]), np.float32)
    edge = np.zeros((len(nodes), n_nodes, n_nodes), np.float32)
    mask = np.zeros((len(nodes), n_nodes), bool)
    for number, (one, links) in enumerate(zip(nodes, edges, strict=True)):
        n = len(one)
        node[number, :n], edge[number, :n, :n], mask[number, :n] = one, links, True
    return Graphs(torch.from_numpy(node), torch.from_numpy(edge), torch.from_numpy(mask))


def _dense(table: Any) -> NDArray[np.float32]:
    """Convert a table of numpy, scipy or torch to dense float32; overflow gives inf."""
    if isinstance(table, Tensor):
        table = table.detach().cpu().to_dense().float().numpy()
    elif hasattr(table, "toarray"):
        table = table.toarray()
    with np.errstate(over="ignore"):
        return np.asarray(table, dtype=np.float32)
