"""Search by pruning a supernet: TE-NAS's, by two indicators of untrained networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Edges = tuple[tuple[str, ...], ...]


def prune(edges: Edges, indicators: Callable[[Edges], ArrayLike]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Remove the least important operation of every edge until one is left on each.

    In a round each operation that is not the last of its edge is removed by itself (Chen et al. 2021, algorithm 1). The
    relative changes of two indicators rank the operations: first the one whose removal lowers the condition number
    most, and first the one whose removal raises the number of linear regions most; equal changes share a rank. On each
    edge, the operation with the smallest sum of ranks goes; the first of `edges` among equals.

    Parameters
    ----------
    edges : tuple of tuple of str
        The operations of each edge.
    indicators : callable
        Maps edges to an array (n_repeats, 2): condition number of the tangent kernel (inf where it is singular), and
        number of linear regions, of networks with weights drawn n_repeats times, in the same order for all edges.

    Returns
    -------
    cell : tuple of str
        The operation that is left on each edge.
    trace : DataFrame
        One row per removal that was tried: round (from 1), edge (from 0), operation, condition_change and
        regions_change (relative, mean over repeats; positive where the removal lowers the indicator), rank (sum of two,
        from 0), pruned.

    Examples
    --------
    Here a network's condition number counts its slow operations, and all have equal regions:

    >>> count = lambda edges: [[1 + sum(name == "slow" for names in edges for name in names), 8]]
    >>> prune((("slow", "fast"), ("fast", "slow")), count)[0]
    ('fast', 'fast')
    """
    if not edges or not all(edges):
        raise ValueError(f"every edge must have an operation, not {edges!r}")
    rounds: list[pd.DataFrame] = []
    while any(len(names) > 1 for names in edges):
        whole = np.asarray(indicators(edges), dtype=float)
        rows: list[dict[str, object]] = []
        for edge, names in enumerate(edges):
            for name in names if len(names) > 1 else ():
                less = (*edges[:edge], tuple(other for other in names if other != name), *edges[edge + 1 :])
                change = _change(whole, np.asarray(indicators(less), dtype=float))
                rows.append({"round": len(rounds) + 1, "edge": edge, "operation": name})
                rows[-1] |= {"condition_change": change[0], "regions_change": change[1]}
        tried = pd.DataFrame(rows)
        ranks = tried[["condition_change", "regions_change"]].rank(method="dense")
        tried["rank"] = (ranks["condition_change"].max() - ranks.iloc[:, 0] + ranks.iloc[:, 1] - 1).astype(int)
        tried["pruned"] = False
        tried.loc[tried.groupby("edge")["rank"].idxmin(), "pruned"] = True
        gone = tried[tried["pruned"]].set_index("edge")["operation"]
        edges = tuple(tuple(name for name in names if name != gone.get(edge)) for edge, names in enumerate(edges))
        rounds.append(tried)
    trace = pd.concat(rounds, ignore_index=True) if rounds else pd.DataFrame()
    return tuple(names[0] for names in edges), trace


def _change(whole: NDArray[np.float64], less: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean relative decrease of both indicators; an infinite one is the worst there is."""
    with np.errstate(invalid="ignore"):
        change = np.where(whole == less, 0, np.where(np.isinf(whole), 1, (whole - less) / whole))
    return change.mean(axis=0)
