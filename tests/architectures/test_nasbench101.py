"""NAS-Bench-101: texts, widths and networks as the benchmark has them, and their sizes."""

import doctest

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.architectures import nasbench101
from naaplib.estimators.proxies import scores

# Cells whose `trainable_parameters` the benchmark's authors and users print: the README's Inception-like one (the
# dataset's answer to its query), and the first of the dataset's iteration.
PRINTED = {
    "111010000010001100011 in c1 c3 c3 c3 mp out": 2_694_282,
    "100110100001001010101 in c3 mp c3 c3 c1 out": 8_555_530,
}
ONLY_EDGE, SKIP = "1 in out", "111 in c3 out"


def parts(text: str) -> nn.Module:
    """The first cell of a network of eight channels."""
    return nasbench101.build(text, 8, n_cells=1).layers[1].eval()


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(nasbench101)
    assert (result.attempted >= 4, result.failed) == (True, 0)


@pytest.mark.parametrize("text", PRINTED)
def test_networks_have_the_printed_number_of_parameters(text: str) -> None:
    """Built and computed."""
    built = sum(parameter.numel() for parameter in nasbench101.build(text).parameters())
    assert (built, nasbench101.sizes([text])["n_params"].item()) == (PRINTED[text], PRINTED[text])


def test_sizes_are_those_of_built_networks(nasbench101_cells: list[str]) -> None:
    """Of some of the published cells, and of the smallest ones; counted by the proxies while images pass."""
    texts = [*nasbench101_cells[::400], ONLY_EDGE, SKIP]
    image = torch.zeros(1, 3, 32, 32)
    computed = nasbench101.sizes(texts, 12, n_cells=2)
    for text, row in zip(texts, computed.to_dict("records"), strict=True):
        network = nasbench101.build(text, 12, n_cells=2)
        counts = [score(network, *given).value for score, *given in (
            (scores.n_parameters,), (scores.macs, image), (scores.relu_count, image)
        )]  # fmt: skip
        assert list(row.values()) == counts, text


def test_every_published_cell_keeps_its_vertices(nasbench101_cells: list[str]) -> None:
    """The benchmark lists pruned cells; and no inner vertex is wider than what it leads to."""
    for text in nasbench101_cells:
        graph = nasbench101.from_string(text)
        assert nasbench101.prune(graph).operations == graph.operations
        found = nasbench101.widths(graph, 128)
        leads = graph.edges[1:-1, -1]
        assert not leads.any() or sum(np.array(found)[leads]) == 128
        for vertex, following in enumerate(graph.edges[1:-1, 1:-1]):
            assert all(0 <= found[vertex] - found[other] <= 1 or leads[vertex] for other in np.flatnonzero(following))


@pytest.fixture
def nasbench101_cells(nasbench101: pd.DataFrame) -> list[str]:
    """Texts of the published cells."""
    return nasbench101["architecture"].tolist()


def test_a_vertex_applies_its_operation_to_the_sum_of_its_inputs() -> None:
    """By hand: max pooling of a convolution and of a projection, and the input's own projection added at the end."""
    cell = parts("111101 in c3 mp out")  # in -> c3, mp, out; c3 -> mp; mp -> out
    x = torch.randn(2, 8, 6, 6)
    c3, mp = cell.operations
    first = c3(cell.projections["1"](x))
    expected = mp(first + cell.projections["2"](x)) + cell.projections["3"](x)
    assert torch.equal(cell(x), expected)


def test_ends_are_concatenated_and_wider_inputs_lose_a_channel() -> None:
    """Three vertices share eight channels, 3, 3 and 2; the last takes two of the second's three."""
    cell = parts("1100001111 in c1 c3 mp out")
    assert cell.widths == [8, 3, 3, 2, 8]
    x = torch.randn(2, 8, 4, 4)
    c1, c3, mp = cell.operations
    first, second = c1(cell.projections["1"](x)), c3(cell.projections["2"](x))
    assert torch.equal(cell(x), torch.cat([first, second, mp(second[:, :2])], dim=1))


def test_input_joined_to_output_is_one_projection() -> None:
    """The smallest cell."""
    cell = parts(ONLY_EDGE)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(cell(x), cell.projections["1"](x))
    assert nasbench101.build(ONLY_EDGE)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_vertices_off_all_paths_are_not_built() -> None:
    """A convolution that leads nowhere, and one that nothing leads to."""
    for text in ("110010 in c3 c1 out", "010011 in c1 c3 out"):
        assert nasbench101.sizes([text]).equals(nasbench101.sizes(["101 in c3 out"])), text
        assert len(nasbench101.build(text, 8, n_cells=1).layers[1].operations) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11010 in c3 mp out", "4 operations need 6 zeros and ones for their edges"),
        ("1 in c5", "must be one of in, c1, c3, mp, out, not 'c5'"),
        ("111 in in out", "'in' first, 'out' last, and others in between"),
        ("001 in c3 out", "no path leads from 'in' to 'out'"),
        ("", "'in' first, 'out' last, and others in between: ''"),
    ],
)
def test_bad_texts_are_refused(text: str, message: str) -> None:
    """With what came and what is allowed."""
    with pytest.raises(ValueError, match=message):
        nasbench101.from_string(text)


def test_bad_sizes_are_refused() -> None:
    """Too few channels to share, sides that cannot be halved twice, and numbers below 1."""
    with pytest.raises(ValueError, match="4 vertices"):
        nasbench101.build(next(iter(PRINTED)), 3)
    with pytest.raises(ValueError, match="multiple of 4 pixels, not 30"):
        nasbench101.sizes([SKIP], side=30)
    with pytest.raises(ValueError, match="n_cells"):
        nasbench101.build(SKIP, n_cells=0)
