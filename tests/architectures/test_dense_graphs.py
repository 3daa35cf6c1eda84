import numpy as np
import pytest
import torch
from graphs_made import make_graphs
from scipy import sparse
from sklearn.model_selection import KFold, train_test_split

from naaplib.architectures.dense_graphs import Graphs, positions, stack, to_scale


def numbered(n: int = 8) -> Graphs:
    """Graphs of two nodes whose first feature is their number, so that each can be told."""
    return stack([[[number, 1], [number, 0]] for number in range(n)], [np.eye(2, k=1)] * n)


def numbers(graphs: Graphs) -> list[int]:
    return graphs.features[:, 0, 0].int().tolist()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
def test_positions_of_any_integer_type_are_positions(kind: str) -> None:
    """Of numpy, and of torch where it has the type: the same graphs in the same order."""
    places = np.array([7, 0, 1, 1], dtype=kind)
    assert numbers(numbered()[places]) == [7, 0, 1, 1]
    assert numbers(numbered()[torch.tensor([7, 0, 1, 1], dtype=getattr(torch, kind))]) == [7, 0, 1, 1]
    assert numbers(numbered()[places[0]]) == [7]


def test_graphs_are_indexed_as_arrays_are() -> None:
    """Slices in either direction, lists, masks, positions from the end, and what scikit-learn asks for."""
    graphs, array = numbered(), np.arange(8)
    wanted = (
        slice(1, 6, 2),
        slice(None, None, -1),
        slice(6, 2, -2),
        [3, -1],
        array % 3 == 0,
        [True, False] * 4,
        [],
        -2,
    )
    for rows in wanted:
        expected = np.atleast_1d(array[np.array(rows, int) if isinstance(rows, list) and not rows else rows]).tolist()
        assert numbers(graphs[rows]) == numbers(graphs[rows, ...]) == expected
    assert graphs.shape == (8, 2, 2)
    assert [numbers(one) for one in graphs] == [[number] for number in range(8)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0.0, 1.0], r"they are float64 of shape \(2,\)"),
        ([True, False], r"or 8 truth values; they are bool of shape \(2,\)"),
        ([[0, 1]], r"they are int64 of shape \(1, 2\)"),
        ([0, 8], "rows go from 0 to 8; there are 8"),
        (np.array([2**63], np.uint64), "there are 8"),
        ("first", "they are <U5"),
    ],
)
def test_what_are_no_rows_is_an_error(rows, message: str) -> None:
    """With what came and what is allowed."""
    with pytest.raises(IndexError, match=message):
        numbered()[rows]
    with pytest.raises(IndexError, match=message):
        positions(rows, 8)


def test_scikit_learn_splits_graphs() -> None:
    """As it splits an array of their numbers, by chance or in strata; folds are graphs too."""
    graphs, array = numbered(), np.arange(8)
    for strata in (None, array > 3):
        parts = train_test_split(graphs, array, random_state=1, stratify=strata)
        assert [numbers(part) for part in parts[:2]] == [part.tolist() for part in parts[2:]]
    for train, held in KFold(4).split(graphs):
        assert numbers(graphs[train]) + numbers(graphs[held]) == train.tolist() + held.tolist()


def test_sparse_and_torch_tables_are_read() -> None:
    """Sparse matrices of scipy and torch, sixteen-bit numbers and tensors with gradients are as arrays."""
    node, edge = np.array([[1.0, 2.0], [3.0, 4.0]]), np.eye(2, k=1)
    expected = stack([node], [edge])
    one, links = torch.tensor(node), torch.tensor(edge)
    given = [
        (sparse.csr_matrix(node), sparse.coo_array(edge)),
        (one.clone().requires_grad_(), links),
        (one.bfloat16(), links.to_sparse()),
        (node.astype(np.float16), edge.astype(bool)),
    ]
    for features, adjacency in given:
        found = stack([features], [adjacency])
        assert torch.equal(found.features, expected.features) and torch.equal(found.adjacency, expected.adjacency)
    for wrong in (sparse.eye(2), 0.5 * edge):
        with pytest.raises(ValueError, match="edges have no weights, and a network that needs self loops adds them"):
            stack([node], [wrong])
    with pytest.raises(ValueError, match=r"graph 0: features must be finite, and below 3\.4e38"):
        stack([1e300 * node], [edge])


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, None), (torch.float16, None), (torch.float32, "meta")])
def test_torchs_defaults_are_of_no_effect(dtype: torch.dtype, device: str | None) -> None:
    """Graphs are of float32 on the CPU, whatever torch would make by itself."""
    expected = make_graphs(5)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        found = make_graphs(5)[[0, 1, 2, 3, 4]]
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)
    assert torch.equal(found.features, expected.features) and torch.equal(found.adjacency, expected.adjacency)


def test_features_of_order_one_are_not_scaled() -> None:
    """Ones, zeros and a few units stay bit for bit, and are the very same tensors."""
    graphs = make_graphs(6)
    graphs = Graphs(graphs.features * 2.5, graphs.adjacency, graphs.mask)
    assert (graphs.scales() == [[0.0] * 3, [1.0] * 3]).all()
    assert graphs.scale(graphs.scales()) is graphs
    assert to_scale(graphs, np.array([[0, 1], [2, 3]]))[1] is graphs


def test_scales_by_hand() -> None:
    """Large, small, constant and zero columns over three nodes; padding counts in none, and stays 0."""
    node = np.array([[1.0, 100, 1e-4, 500, 0], [0.0, 200, 3e-4, 500, 0], [1.0, 300, 2e-4, 500, 0]])
    graphs = stack([node[:1], node[1:]], [np.zeros((1, 1)), np.zeros((2, 2))])
    deviation = (2 / 3) ** 0.5
    expected = [[0, 200, 2e-4, 500, 0], [1, 100 * deviation, 1e-4 * deviation, 500, 1]]
    np.testing.assert_allclose(graphs.scales(), expected, rtol=1e-6)
    scaled = graphs.scale(graphs.scales())
    np.testing.assert_allclose(scaled.features[0, 0], [1, -1 / deviation, -1 / deviation, 0, 0], rtol=1e-5)
    assert scaled.features[0, 1].tolist() == [0] * 5
    scales, whole, rows = to_scale(graphs, np.array([[0], [1]]))
    assert rows.tolist() == [[0], [1]]
    for one, of_set, number in zip(scales, (graphs[:1], graphs[1:]), (0, 1), strict=True):
        assert torch.equal(whole[number].features, of_set.scale(of_set.scales()).features)
        assert (one == of_set.scales()).all()
