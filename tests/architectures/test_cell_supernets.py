"""Supernets of cells: one operation an edge is a cell's network, and shared operations share weights."""

import pytest
import torch

from naaplib.architectures import cell_supernets, cells


def outputs(build, images: torch.Tensor) -> torch.Tensor:
    """What a network built from one seed gives."""
    torch.manual_seed(3)
    network = build().eval()
    with torch.no_grad():
        return network(images)


def test_a_sum_adds_the_outputs_of_its_operations() -> None:
    """On its own, a layer's edge with two operations gives the sum of what each gives."""
    torch.manual_seed(0)
    edges = (("skip_connect", "avg_pool_3x3"),) + (("skip_connect",),) * 5
    layer = cell_supernets.build(edges, n_channels=2, n_cells=1).layers[0]
    x = torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(
        layer.edges[0](x), x + torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    )


def test_none_on_an_edge_of_a_sum_changes_nothing() -> None:
    """It adds zero, so that the whole supernet needs no such operation."""
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with_none = tuple((*names, "none") for names in cell_supernets.WHOLE)
    found = [
        outputs(lambda e=e: cell_supernets.build(e, n_channels=4, n_cells=1), images)
        for e in (cell_supernets.WHOLE, with_none)
    ]
    torch.testing.assert_close(*found)


def test_supernets_of_one_seed_share_weights() -> None:
    """Removing an operation leaves the weights of all others as they were."""
    less = (cell_supernets.WHOLE[0][1:], *cell_supernets.WHOLE[1:])
    found = []
    for edges in (cell_supernets.WHOLE, less):
        torch.manual_seed(5)
        found.append(cell_supernets.build(edges, n_channels=4, n_cells=1).layers[0].edges[0].operations[-2][1].weight)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(("edges", "message"), [((("none",),), "six|6 edges"), ((("pool",),) * 6, "not 'pool'")])
def test_other_edges_are_refused(edges: cell_supernets.Edges, message: str) -> None:
    """Six edges, each with operations of the benchmark."""
    with pytest.raises(ValueError, match=message):
        cell_supernets.build(edges)
    assert len(cells.EDGES) == 6
