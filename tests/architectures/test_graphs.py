import json
import time

import numpy as np
import pandas as pd
import pytest
import torch

from naaplib.architectures import nasbench101 as of_101
from naaplib.architectures.cells import EDGES, OPERATIONS, Cell, enumerate_cells
from naaplib.architectures.graphs import (
    RECIPE_OPERATIONS,
    Graphs,
    layer_codes,
    of_cells,
    of_layers,
    of_nasbench101,
    of_recipes,
    of_schemes,
    stack,
)
from naaplib.architectures.schemes import Block, enumerate_schemes

N, S, C1, C3, P = OPERATIONS


def edges(graphs: Graphs, number: int = 0) -> set[tuple[int, int]]:
    """Edges of one graph as pairs of nodes."""
    return {(int(i), int(j)) for i, j in graphs.adjacency[number].nonzero()}


def words(graphs: Graphs, names: tuple[str, ...], number: int = 0) -> list[str]:
    """The kinds of one graph's nodes, from one-hot features; "" for a node without a feature."""
    rows = graphs.features[number][graphs.mask[number]]
    return [names[int(row.argmax())] if row.any() else "" for row in rows]


def test_graphs_of_any_origin_are_padded() -> None:
    """Nodes first, padding last and zero; to the largest, or to a number given."""
    graphs = stack([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], [[[0]], [[0, 1], [0, 0]]])
    assert graphs.features.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    assert graphs.adjacency.tolist() == [[[0, 0], [0, 0]], [[0, 1], [0, 0]]]
    assert graphs.mask.tolist() == [[True, False], [True, True]]
    assert stack([[[1.0]]], [[[0]]], n_nodes=3).mask.tolist() == [[True, False, False]]


def test_padding_is_added_and_taken_away() -> None:
    """And refuses to take nodes away."""
    graphs = stack([np.ones((2, 1)), np.ones((3, 1))], [np.eye(2, k=1), np.eye(3, k=1)])
    padded = graphs.pad(6)
    assert padded.adjacency.shape == (2, 6, 6)
    for one, other in zip(vars(padded.trim()).values(), vars(graphs).values(), strict=True):
        assert torch.equal(one, other)
    assert graphs[:1].trim().mask.shape == (1, 2)
    with pytest.raises(ValueError, match="graphs of 6 nodes cannot be padded to 5; trim them first"):
        padded.pad(5)


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0], np.array([True, False, True])])
def test_graphs_are_indexed_by_architecture(rows) -> None:
    """By a slice, positions, or a mask."""
    graphs = stack([[[value]] for value in (1.0, 2.0, 3.0)], [[[0]]] * 3)
    assert graphs[rows].features.flatten().tolist() == np.array([1.0, 2.0, 3.0])[rows].tolist()
    assert len(graphs[rows]) == 2


def test_one_position_and_none_give_graphs_too() -> None:
    """Of one architecture, and of no architecture."""
    graphs = stack([[[value]] for value in (1.0, 2.0, 3.0)], [[[0]]] * 3)
    assert (graphs[1].features.tolist(), graphs[[]].features.shape) == ([[[2.0]]], (0, 1, 1))


@pytest.mark.parametrize(
    ("features", "adjacencies", "n_nodes", "message"),
    [
        ([[[1.0]]], [], None, "one adjacency matrix a graph, and a graph; got 1 and 0"),
        ([], [], None, "and a graph; got 0 and 0"),
        ([[[1.0]], [[1.0, 2.0]]], [[[0]]] * 2, None, r"graph 1: features must be \(n_i, 1\), not \(1, 2\)"),
        ([[[1.0]]], [[[0, 1]]], None, r"graph 0: 1 nodes need a square adjacency matrix, not \(1, 2\)"),
        ([[[1.0], [1.0]]], [[[0, 2], [0, 0]]], None, "graph 0: adjacency must be of 0 and 1, and 0 on the diagonal"),
        ([[[1.0]]], [[[1]]], None, "graph 0: adjacency must be of 0 and 1, and 0 on the diagonal"),
        ([[1.0]], [[[0]]], None, r"graph 0: features must be \(n_i, n_features\), not \(1,\)"),
        ([1.0], [[[0]]], None, r"graph 0: features must be \(n_i, n_features\), not \(\)"),
        ([[[np.nan]]], [[[0]]], None, "graph 0: features must be finite"),
        ([[[1.0], [1.0]]], [np.zeros((2, 2))], 1, "the largest graph has 2 nodes, more than n_nodes=1"),
    ],
)
def test_wrong_graphs_are_named(features, adjacencies, n_nodes, message: str) -> None:
    """By their number, with what is wrong."""
    with pytest.raises(ValueError, match=message):
        stack(features, adjacencies, n_nodes=n_nodes)


def test_a_scheme_is_a_chain_with_edges_around_residual_blocks() -> None:
    """By hand: three blocks, the third of which adds its input to its output."""
    scheme = (Block(3, 16, 2), Block(5, 32, 1), Block(1, 32, 1, residual=True))
    graphs = of_schemes([scheme, scheme[:1]])
    assert edges(graphs) == {(0, 1), (1, 2), (2, 3), (3, 4), (2, 4)}
    assert edges(graphs, 1) == {(0, 1), (1, 2)}
    assert graphs.mask.sum(1).tolist() == [5, 3]
    first, third = graphs.features[0, 1].tolist(), graphs.features[0, 3].tolist()
    macs = np.log10([9 * 3 * 16 * 256, 32 * 32 * 256]) / 6
    assert first == pytest.approx([0, 1, 0, 1, 4 / 5, 2, 0, 4 / 5, macs[0]])
    assert third == pytest.approx([0, 1, 0, 1 / 3, 1, 1, 1, 4 / 5, macs[1]])
    assert graphs.features[0, [0, 4], :3].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_edges_around_residual_blocks_in_a_row() -> None:
    """One around each, as around one that comes last, to the output."""
    scheme = (Block(3, 16, 2), Block(3, 16, 1, residual=True), Block(3, 16, 1, residual=True))
    assert edges(of_schemes([scheme])) == {(0, 1), (1, 2), (2, 3), (3, 4), (1, 3), (2, 4)}


def test_every_scheme_has_a_graph_of_its_own() -> None:
    """All 440 differ, and none has a feature beyond a few units."""
    graphs = of_schemes(enumerate_schemes())
    flat = torch.cat([graphs.features.flatten(1), graphs.adjacency.flatten(1)], 1)
    assert len(flat.unique(dim=0)) == 440
    assert graphs.features.abs().max() <= 4


def test_a_cells_operations_are_nodes_in_the_order_of_its_edges() -> None:
    """By hand, for two cells: which operation follows which depends on the edges only."""
    kinds = ("in", *OPERATIONS, "out")
    graphs = of_cells([(C3, S, N, P, C1, C3), (N, N, N, N, N, S)])
    assert words(graphs, kinds) == ["in", C3, S, N, P, C1, C3, "out"]
    assert words(graphs, kinds, 1) == ["in", N, N, N, N, N, S, "out"]
    expected = {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)}
    assert edges(graphs) == edges(graphs, 1) == expected
    ends = {(i + 1, j + 1) for i, (_, t) in enumerate(EDGES) for j, (s, _) in enumerate(EDGES) if s == t}
    assert {(i, j) for i, j in expected if i > 0 and j < 7} == ends


@pytest.mark.parametrize("cell", [(N,) * 5, (N,) * 12, "|none~0|", ("conv",) * 6])
def test_what_is_no_cell_has_no_graph(cell) -> None:
    """Neither two cells in one, nor a text, nor an unknown operation; no cells have no graphs."""
    with pytest.raises(ValueError, match=r"a cell must be 6 operations|a cell's operations must be of none"):
        of_cells([cell])
    assert len(of_cells([])) == 0


CHAIN = {(0, 1), (1, 2), (2, 3)}


@pytest.mark.parametrize(
    ("cell", "kinds", "expected"),
    [
        ((C3, S, N, P, N, C1), [S, P, C1], {(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)}),  # the first leads to nothing
        ((C3, N, N, P, N, C1), [P], {(0, 1), (1, 2)}),  # and the last one is led to by nothing
        ((C3, N, N, N, N, C1), [], set()),
        ((N, N, N, N, N, N), [], set()),
        ((C1, N, N, N, S, N), [C1, S], CHAIN),  # by way of node 1
        ((N, C1, N, N, N, S), [C1, S], CHAIN),  # by way of node 2, which makes the same network
        ((N, C3, P, N, C1, S), [C3, S], CHAIN),  # what starts at node 1 gets nothing
        ((C1, N, C3, N, N, P), [C1, C3, P], CHAIN | {(3, 4)}),
        ((C1, S, C3, N, N, P), [C1, S, C3, P], {(0, 1), (0, 2), (1, 3), (2, 4), (3, 4), (4, 5)}),
        (
            (C3, S, C3, P, C1, C3),  # nothing to leave out
            [C3, S, C3, P, C1, C3],
            {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)},
        ),
    ],
)
def test_pruning_leaves_what_is_on_a_path(cell: Cell, kinds: list[str], expected: set) -> None:
    """By hand: dead ends on either side go; a cell that passes nothing on is input and output without an edge."""
    graphs = of_cells([cell], prune=True)
    assert words(graphs, ("in", *OPERATIONS, "out")) == ["in", *kinds, "out"]
    assert edges(graphs) == expected
    assert (graphs.features[0, len(kinds) + 2 :].sum(), graphs.adjacency.shape) == (0, (1, 8, 8))


def test_graphs_of_all_cells_take_seconds() -> None:
    """All 15,625, pruned or not, in less than three seconds."""
    cells = enumerate_cells()
    start = time.perf_counter()
    graphs = of_cells(cells), of_cells(cells, prune=True)
    assert time.perf_counter() - start < 3
    assert [len(one) for one in graphs] == [15_625, 15_625]


def test_pruning_all_cells_is_a_walk_through_each() -> None:
    """Against a search from both ends, for every seventh cell."""
    cells = enumerate_cells()[::7]
    graphs = of_cells(cells, prune=True)
    for number, cell in enumerate(cells):
        links = [(source, target, i) for i, (source, target) in enumerate(EDGES) if cell[i] != N]
        reached, reaching = {0}, {3}
        for _ in range(3):
            reached |= {target for source, target, _ in links if source in reached}
            reaching |= {source for source, target, _ in links if target in reaching}
        kept = [cell[i] for source, target, i in links if source in reached and target in reaching]
        assert words(graphs, ("in", *OPERATIONS, "out"), number)[1:-1] == kept


def test_nasbench101_cells_are_read_from_their_text() -> None:
    """By hand, two cells of four and of seven nodes."""
    graphs = of_nasbench101(["110101 in c3 mp out", "111000100011000100101 in mp c1 mp c3 c1 out"])
    assert edges(graphs) == {(0, 1), (0, 2), (1, 2), (2, 3)}
    assert words(graphs, of_101.OPERATIONS) == ["in", "c3", "mp", "out"]
    assert graphs.mask.sum(1).tolist() == [4, 7]
    assert words(graphs, of_101.OPERATIONS, 1) == ["in", "mp", "c1", "mp", "c3", "c1", "out"]
    assert edges(graphs, 1) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 6), (2, 3), (3, 4), (4, 5), (5, 6)}


def test_published_nasbench101_cells_obey_its_rules(nasbench101: pd.DataFrame) -> None:
    """From input to output, at most nine edges, every node on a path (Ying et al., 2019, section 2)."""
    graphs = of_nasbench101(nasbench101["architecture"])
    kinds = [words(graphs, of_101.OPERATIONS, number) for number in range(len(graphs))]
    assert {(one[0], one[-1], "in" in one[1:], "out" in one[:-1]) for one in kinds} == {("in", "out", False, False)}
    assert int(graphs.adjacency.sum((1, 2)).max()) == 9
    is_input, is_output = graphs.features[..., 0] > 0, graphs.features[..., -1] > 0
    assert torch.equal(graphs.adjacency.any(1) | is_input, graphs.mask)
    assert torch.equal(graphs.adjacency.any(2) | is_output, graphs.mask)


def test_layers_are_a_chain() -> None:
    """Of 22 nodes, or of those that are not left out."""
    text = " ".join(map(str, [2, 5, 6, 6, 0] + [3] * 17))
    graphs = of_layers([text])
    assert edges(graphs) == {(i, i + 1) for i in range(21)}
    assert graphs.features[0].argmax(1).tolist() == layer_codes([text])[0].tolist()
    pruned = of_layers([text], prune=True)
    assert edges(pruned) == {(i, i + 1) for i in range(19)}
    assert pruned.features[0, :4].argmax(1).tolist() == [2, 5, 0, 3]
    for wrong in ("1 2 3", text.replace("2", "7", 1)):
        with pytest.raises(ValueError, match="an architecture must be 22 codes from 0 to 6, not"):
            of_layers([wrong])


PLAIN = [("f", "linear", ("x", "h_prev_0")), ("h_new_0", "activation_tanh", ("f",))]
GATED = [
    ("z", "linear", ("x", "h_prev_0")),
    ("gate", "activation_sigm", ("z",)),
    ("h_new_0", "blend", ("gate", "h_prev_0", "z")),
]


@pytest.mark.parametrize(
    ("recipe", "kinds", "expected"),
    [
        (PLAIN, ["input", "input", "linear", "activation_tanh"], {(0, 2), (1, 2), (2, 3)}),
        (
            GATED,
            ["input", "input", "linear", "activation_sigm", "blend"],
            {(0, 2), (1, 2), (2, 3), (3, 4), (0, 4), (2, 4)},
        ),
        ([("h_new_0", "linear", ("x",))], ["input", "linear"], {(0, 1)}),
        ([("a", "elementwise_sum", ("x", "h_prev_1"))], ["input", "input", "elementwise_sum"], {(0, 2), (1, 2)}),
        (
            [("b", "linear", ("a",)), ("a", "elementwise_prod", ("x", "h_prev_0"))],
            ["input", "input", "linear", "elementwise_prod"],
            {(3, 2), (0, 3), (1, 3)},
        ),
        ([("a", "activation_leaky_relu", ("h_prev_0",))], ["input", "activation_leaky_relu"], {(0, 1)}),
        (  # two states, one of which is a node on the way to the other
            [
                ("h_new_1", "linear", ("x", "h_prev_1")),
                ("h_new_0", "elementwise_sum", ("h_new_1", "h_prev_0")),
            ],
            ["input", "input", "input", "linear", "elementwise_sum"],  # h_prev_0, h_prev_1, x
            {(2, 3), (1, 3), (3, 4), (0, 4)},
        ),
        (  # inputs are in alphabetical order, whichever is mentioned first
            [("a", "linear", ("x",)), ("b", "linear", ("h_prev_2",)), ("c", "elementwise_prod", ("h_prev_0", "a"))],
            ["input", "input", "input", "linear", "linear", "elementwise_prod"],  # h_prev_0, h_prev_2, x
            {(2, 3), (1, 4), (0, 5), (3, 5)},
        ),
        (  # a node that three others use
            [
                ("z", "linear", ("x", "h_prev_0")),
                ("s", "activation_sigm", ("z",)),
                ("t", "activation_tanh", ("z",)),
                ("h_new_0", "blend", ("s", "t", "z")),
            ],
            ["input", "input", "linear", "activation_sigm", "activation_tanh", "blend"],
            {(0, 2), (1, 2), (2, 3), (2, 4), (3, 5), (4, 5), (2, 5)},
        ),
        (  # a node that comes first and is computed last
            [
                ("h_new_0", "activation_tanh", ("sum",)),
                ("sum", "elementwise_sum", ("left", "right")),
                ("left", "linear", ("x",)),
                ("right", "linear", ("h_prev_0",)),
            ],
            ["input", "input", "activation_tanh", "elementwise_sum", "linear", "linear"],
            {(1, 4), (0, 5), (4, 3), (5, 3), (3, 2)},
        ),
    ],
)
def test_recipes_are_aligned(recipe, kinds: list[str], expected: set) -> None:
    """By hand: the cell's inputs, then the recipe's nodes; every edge from what is used to what uses it."""
    graphs = of_recipes([recipe])
    assert words(graphs, (*RECIPE_OPERATIONS, "input")) == kinds
    assert edges(graphs) == expected
    assert graphs.features.shape == (1, 25, 8)


def test_the_replications_recipes_are_not() -> None:
    """By hand: names in the order f, x, h_prev_0, h_new_0, features in that of the recipe; edges point backwards."""
    graphs = of_recipes([PLAIN], aligned=False)
    assert words(graphs, RECIPE_OPERATIONS) == ["linear", "activation_tanh", "", ""]
    assert edges(graphs) == {(1, 0), (2, 0), (3, 0)}
    gated = of_recipes([GATED], aligned=False)  # z, x, h_prev_0, gate, h_new_0
    assert words(gated, RECIPE_OPERATIONS) == ["linear", "activation_sigm", "blend", "", ""]
    assert edges(gated) == {(1, 0), (2, 0), (3, 0), (4, 3), (4, 2), (4, 0)}


def test_published_recipes_read_back(nasbench_nlp: pd.DataFrame) -> None:
    """Every twentieth: names on nodes and edges are the recipe's; in the replication's form, edges alone are."""
    texts = nasbench_nlp["architecture"].drop_duplicates().iloc[::20]
    recipes = [json.loads(text) for text in texts]
    aligned, misaligned = of_recipes(recipes), of_recipes(recipes, aligned=False)
    kinds = (*RECIPE_OPERATIONS, "input")
    for number, recipe in enumerate(recipes):
        named = [name for name, _, _ in recipe]
        operations = [operation for _, operation, _ in recipe]
        uses = {(used, name) for name, _, inputs in recipe for used in inputs}
        given = sorted({used for used, _ in uses}.difference(named))
        assert words(aligned, kinds, number) == ["input"] * len(given) + operations
        labels = given + named
        assert {(labels[i], labels[j]) for i, j in edges(aligned, number)} == uses
        mentioned: list[str] = []
        for name, _, inputs in recipe:
            mentioned += [word for word in (name, *inputs) if word not in mentioned]
        assert words(misaligned, kinds, number) == operations + [""] * len(given)
        found = edges(misaligned, number)
        assert all(i > j for i, j in found)
        ends = {frozenset(pair) for pair in uses}
        assert {frozenset((mentioned[i], mentioned[j])) for i, j in found} == ends


def test_an_unknown_operation_of_a_recipe_is_named() -> None:
    """With those there are."""
    with pytest.raises(ValueError, match=r"an operation must be one of activation_leaky_relu, .*, not 'gru'"):
        of_recipes([[("a", "gru", ("x",))]])


def test_a_recipe_names_its_nodes_once() -> None:
    """The error has the names."""
    with pytest.raises(ValueError, match=r"a recipe must name each of its nodes once, not \['a', 'a'\]"):
        of_recipes([[("a", "linear", ("x",)), ("a", "linear", ("h_prev_0",))]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("111 out c3 in", "the operations must be 'in' first, 'out' last, and others in between: '111 out c3 in'"),
        ("111 in c3 c1", "'out' last"),
        ("111 in out out", "others in between"),
        ("111 in in out", "others in between"),
        ("100 in c3 out", "no path leads from 'in' to 'out': '100 in c3 out'"),
        ("100100 in c3 mp out", "no path leads"),
        ("0 in out", "no path leads"),
        ("", "the operations must be 'in' first"),
        ("1" * 28 + " in c1 c1 c1 c1 c1 c1 out", "the largest graph has 8 nodes, more than n_nodes=7"),
    ],
)
def test_what_no_image_flows_through_is_no_nasbench101_cell(text: str, message: str) -> None:
    """An input, an output and a path between them are needed; other nodes may hang loose."""
    with pytest.raises(ValueError, match=message):
        of_nasbench101([text])
    assert len(of_nasbench101(["011 in c3 out", "010 in c1 out"])) == 2
