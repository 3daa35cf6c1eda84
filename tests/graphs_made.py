"""Small made graphs, for tests of what reads them."""

import numpy as np

from naaplib.architectures.graphs import Graphs, stack


def make_graphs(n_archs: int = 30, n_features: int = 3, seed: int = 0, n_nodes: int | None = None) -> Graphs:
    """Chains of two to five nodes with further edges at random and random one-hot features, padded."""
    rng = np.random.default_rng(seed)
    features, adjacencies = [], []
    for _ in range(n_archs):
        n = rng.integers(2, 6)
        features.append(np.eye(n_features)[rng.integers(n_features, size=n)])
        adjacencies.append(np.maximum(np.eye(n, k=1), np.triu(rng.random((n, n)) < 0.3, 1)))
    return stack(features, adjacencies, n_nodes=n_nodes)
