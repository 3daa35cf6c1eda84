"""Tests of the neural graph features."""

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.cells import OPERATIONS, enumerate_cells
from naaplib.architectures.schemes import enumerate_schemes, feature_table
from naaplib.estimators.graf import OperationGraph, features, from_nodes, of_cells, of_schemes, prune_cell

C3, C1, SKIP, POOL, NONE = "nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "none"


def paths(graph, allowed):
    """Return the operations of every path from input to output over allowed edges, one list a path."""

    def onwards(node):
        if node == graph.n_nodes - 1:
            return [[]]
        return [
            [name] * (name is not None) + rest
            for source, target, name in graph.edges
            if source == node and (name is None or name in allowed)
            for rest in onwards(target)
        ]

    return onwards(0)


def slow(graph, names, missing):
    """Compute the features of one graph from the list of all its paths."""
    row = {}
    for name in names:
        on_paths = [path.count(name) for path in paths(graph, names)] or [0]
        row |= {f"count({name})": sum(edge[2] == name for edge in graph.edges)}
        row |= {f"most({name})": max(on_paths), f"fewest({name})": min(on_paths)}
    for number in range(1, 2 ** len(names)):
        allowed = [name for i, name in enumerate(names) if number >> i & 1]
        lengths = [len(path) for path in paths(graph, allowed)]
        edges = [edge for edge in graph.edges if edge[2] is None or edge[2] in allowed]
        inner = range(1, graph.n_nodes - 1)
        key = "|".join(allowed)
        row |= {
            f"shortest({key})": min(lengths, default=missing),
            f"longest({key})": max(lengths, default=0),
            f"input({key})": sum(edge[0] == 0 for edge in edges),
            f"output({key})": sum(edge[1] == graph.n_nodes - 1 for edge in edges),
            f"in({key})": np.mean([sum(edge[1] == node for edge in edges) for node in inner]) if inner else 0,
            f"out({key})": np.mean([sum(edge[0] == node for edge in edges) for node in inner]) if inner else 0,
        }
    return row


def random_graph(rng, names):
    n_nodes = int(rng.integers(2, 6))
    pairs = [(i, j) for i in range(n_nodes) for j in range(i + 1, n_nodes)]
    chosen = [pairs[k] for k in rng.integers(len(pairs), size=rng.integers(1, 8))]
    return OperationGraph(n_nodes, tuple((i, j, [*names, None][rng.integers(len(names) + 1)]) for i, j in chosen))


def test_features_of_a_small_graph_are_those_counted_by_hand() -> None:
    """Features of a small graph are those counted by hand."""
    graph = OperationGraph(3, ((0, 1, "a"), (1, 2, "a"), (0, 2, "b"), (0, 1, "b")))
    row = features([graph], ["a", "b"]).iloc[0]
    assert row[["count(a)", "most(a)", "fewest(a)", "count(b)", "most(b)", "fewest(b)"]].tolist() == [2, 2, 0, 2, 1, 0]
    assert row[["shortest(a)", "longest(a)", "input(a)", "output(a)", "in(a)", "out(a)"]].tolist() == [2, 2, 1, 1, 1, 1]
    assert row[["shortest(b)", "longest(b)", "input(b)", "output(b)", "in(b)", "out(b)"]].tolist() == [1, 1, 2, 1, 1, 0]
    assert row[["shortest(a|b)", "longest(a|b)", "input(a|b)", "in(a|b)", "out(a|b)"]].tolist() == [1, 2, 3, 2, 1]


def test_features_of_random_graphs_of_several_sizes_equal_those_from_all_their_paths() -> None:
    """Features of random graphs of several sizes equal those from all their paths."""
    rng, names = np.random.default_rng(0), ["a", "b", "c"]
    graphs = [random_graph(rng, names) for _ in range(60)]
    missing = 1 + max(sum(edge[2] is not None for edge in graph.edges) for graph in graphs)
    expected = pd.DataFrame([slow(graph, names, missing) for graph in graphs], dtype=float)
    found = features(graphs, names)
    assert found.shape == (60, 9 + 6 * 7)
    pd.testing.assert_frame_equal(found, expected[list(found)])


def test_renumbering_inner_nodes_and_reordering_edges_changes_nothing() -> None:
    """Renumbering inner nodes and reordering edges changes nothing."""
    rng, names = np.random.default_rng(1), ["a", "b"]
    edges = [(0, 1, "a"), (0, 2, "b"), (0, 3, "a"), (1, 4, "b"), (2, 4, "b"), (3, 4, "a"), (0, 4, "b")]
    expected = features([OperationGraph(5, tuple(edges))], names)
    for _ in range(5):
        place = [0, *(1 + rng.permutation(3)), 4]  # no edge between these three, so that any order is topological
        renamed = [(place[source], place[target], name) for source, target, name in edges]
        other = OperationGraph(5, tuple(renamed[i] for i in rng.permutation(len(edges))))
        pd.testing.assert_frame_equal(features([other], names), expected)


def test_a_graph_without_a_path_has_no_longest_path_and_the_shortest_is_longer_than_any() -> None:
    """A graph without a path has no longest path and the shortest is longer than any."""
    graphs = [OperationGraph(3, ((0, 1, "a"),)), OperationGraph(3, ((0, 1, "a"), (1, 2, "a")))]
    found = features(graphs, ["a"])
    assert found["shortest(a)"].tolist() == [3, 2]
    assert found["longest(a)"].tolist() == [0, 2]
    assert found["most(a)"].tolist() == [0, 2]


def test_a_graph_with_operations_on_nodes_has_the_paths_of_its_nodes() -> None:
    """A graph with operations on nodes has the paths of its nodes."""
    adjacency = np.zeros((5, 5))
    adjacency[0, [1, 2]] = adjacency[1, [3, 4]] = adjacency[2, 3] = adjacency[3, 4] = 1
    graph = from_nodes([None, "a", "b", "a", None], adjacency)
    assert sorted(map(tuple, paths(graph, ["a", "b"]))) == [("a",), ("a", "a"), ("b", "a")]
    row = features([graph], ["a", "b"]).iloc[0]
    assert row[["shortest(a)", "longest(a)", "longest(a|b)", "most(a)", "fewest(a)"]].tolist() == [1, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OperationGraph(3, ((2, 1, "a"),)), "from a node to a later one"),
        (lambda: OperationGraph(1, ()), "2 nodes or more, not 1"),
        (lambda: features([OperationGraph(2, ((0, 1, "c"),))], ["a", "b"]), "operation 'c' is not one of a, b"),
        (lambda: features([], ["a", "a"]), "different ones"),
        (lambda: from_nodes([None, None], np.ones((2, 2))), "topological order"),
        (lambda: from_nodes([None, None], np.ones((3, 3))), "adjacency matrix of 2 x 2"),
    ],
)
def test_what_is_no_graph_is_refused(make, message) -> None:
    """What is no graph is refused."""
    with pytest.raises(ValueError, match=message):
        make()


def test_cells_have_201_features_that_equal_those_from_all_their_paths() -> None:
    """Cells have 201 features that equal those from all their paths."""
    cells = enumerate_cells()[::1303]
    found = of_cells(cells)
    assert found.shape == (len(cells), 201)
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    graphs = [OperationGraph(4, tuple((*edge, name) for edge, name in zip(edges, cell, strict=True))) for cell in cells]
    expected = pd.DataFrame([slow(graph, list(OPERATIONS), 7) for graph in graphs], dtype=float)
    pd.testing.assert_frame_equal(found, expected[list(found)])


def test_pruning_removes_what_the_output_does_not_depend_on_and_is_done_once() -> None:
    """Pruning removes what the output does not depend on and is done once."""
    assert prune_cell((C3, NONE, NONE, SKIP, NONE, C3)) == (NONE, NONE, NONE, SKIP, NONE, NONE)
    assert prune_cell((C3, C1, NONE, NONE, POOL, NONE)) == (C3, NONE, NONE, NONE, POOL, NONE)
    assert prune_cell((NONE, C1, C3, NONE, C1, C3)) == (NONE, C1, NONE, NONE, NONE, C3)
    whole = (C3, C1, SKIP, POOL, C3, C1)
    assert prune_cell(whole) == whole
    pruned = [prune_cell(cell) for cell in enumerate_cells()[::97]]
    assert [prune_cell(cell) for cell in pruned] == pruned


def test_cells_that_differ_in_dead_operations_only_have_the_same_pruned_features() -> None:
    """Cells that differ in dead operations only have the same pruned features."""
    cells = [(C3, NONE, NONE, SKIP, NONE, C3), (POOL, NONE, NONE, SKIP, NONE, C1)]
    found = of_cells(cells, prune=True)
    assert (found.iloc[0] == found.iloc[1]).all()
    found = of_cells(cells)
    assert not (found.iloc[0] == found.iloc[1]).all()


def test_schemes_have_the_counts_of_their_blocks_and_skips() -> None:
    """Schemes have the counts of their blocks and skips."""
    schemes = enumerate_schemes()
    found, table = of_schemes(schemes), feature_table(schemes).set_index("ModelId")
    assert found.shape == (440, 201)
    blocks = [f"count({name})" for name in ("conv1x1", "conv3x3", "conv1x1/2", "conv3x3/2")]
    assert (found[blocks].sum(axis=1) == table["NumLayers"]).all()
    assert (found[["count(conv1x1/2)", "count(conv3x3/2)"]].sum(axis=1) == table["NumStages"]).all()
    assert (found["count(skip)"] == table["n_skips"]).all()
    assert (found["longest(conv1x1|conv3x3|conv1x1/2|conv3x3/2|skip)"] == table["NumLayers"]).all()
