"""Pruning a supernet: rounds, ranks and ties, against numbers that can be checked by hand."""

import numpy as np
import pytest

from naaplib.search import pruning


def test_ranks_are_sums_of_both_orders() -> None:
    """Removing a lowers the condition number most, b raises the regions most; equal changes share a rank."""
    values = {"abc": (10, 8), "bc": (4, 8), "ac": (8, 10), "ab": (8, 8)}
    cell, trace = pruning.prune((("a", "b", "c"),), lambda edges: [values.get("".join(edges[0]), (1, 1))])
    first = trace[trace["round"] == 1].set_index("operation")
    assert first["condition_change"].tolist() == pytest.approx([0.6, 0.2, 0.2])
    assert first["regions_change"].tolist() == pytest.approx([0.0, -0.25, 0.0])
    assert first["rank"].tolist() == [0 + 1, 1 + 0, 1 + 1]
    assert first["pruned"].tolist() == [True, False, False]  # the first of two equals
    assert len(cell) == 1


def test_one_operation_of_every_edge_goes_in_a_round() -> None:
    """Four operations on six edges: three rounds of 24, 18 and 12 removals, and one operation left."""
    edges = (("a", "b", "c", "d"),) * 6
    n_calls = 0

    def indicators(edges: pruning.Edges) -> list[list[float]]:
        nonlocal n_calls
        n_calls += 1
        return [[1 + sum(ord(name) for names in edges for name in names), 5]]

    cell, trace = pruning.prune(edges, indicators)
    assert trace.groupby("round").size().tolist() == [24, 18, 12]
    assert trace.groupby(["round", "edge"])["pruned"].sum().unique().tolist() == [1]
    assert cell == ("a",) * 6  # the heaviest goes first
    assert n_calls == 24 + 18 + 12 + 3


def test_a_singular_kernel_is_the_worst() -> None:
    """An operation whose removal makes the kernel singular stays; one that makes it singular goes."""
    inf = float("inf")
    cell, _ = pruning.prune((("a", "b"),), lambda edges: [[{"ab": 9, "a": inf, "b": 8}["".join(edges[0])], 1]])
    assert cell == ("b",)
    cell, trace = pruning.prune((("a", "b"),), lambda edges: [[{"ab": inf, "a": 5, "b": inf}["".join(edges[0])], 1]])
    assert cell == ("a",)
    assert np.isfinite(trace["condition_change"]).all()


def test_an_edge_without_an_operation_is_refused() -> None:
    """There would be nothing to leave on it."""
    with pytest.raises(ValueError, match="every edge"):
        pruning.prune((("a",), ()), lambda edges: [[1, 1]])
