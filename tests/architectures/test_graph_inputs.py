"""Graphs from networkx and from traced modules."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from naaplib.architectures.graph_inputs import NotTraceable, from_networkx, traced, vocabulary


class Residual(nn.Module):
    """A convolution around which a skip connection leads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the input."""
        return x + torch.relu(self.norm(self.conv(x)))


def test_a_traced_module_has_its_operations_edges_and_sizes() -> None:
    """Known by hand: a skip is an edge; sizes are those of one image."""
    graph = traced(Residual(), torch.zeros(1, 3, 4, 4))
    assert [graph.nodes[node]["op"] for node in graph] == ["input", "Conv2d", "BatchNorm2d", "relu", "add", "output"]
    assert sorted(graph.edges) == sorted([("x", "conv"), ("conv", "norm"), ("norm", "relu"), ("x", "add"),
                                          ("relu", "add"), ("add", "output")])  # fmt: skip
    conv = graph.nodes["conv"]
    assert conv["log_params"] == pytest.approx(np.log10(1 + 84))
    assert conv["log_size"] == pytest.approx(np.log10(1 + 48))
    assert conv["channels"] == pytest.approx(2 / 5)


def test_tracing_changes_no_module() -> None:
    """Statistics and modes stay, in training mode too."""
    module = Residual()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    traced(module, torch.randn(1, 3, 4, 4))
    assert all((before[name] == value).all() for name, value in module.state_dict().items())
    assert (module.training, module.norm.training) == (True, False)


def test_control_flow_is_refused_with_a_way_out() -> None:
    """The message names networkx."""

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(NotTraceable, match=r"cannot trace this Branch .* networkx\.DiGraph"):
        traced(Branch())


def test_nodes_are_in_topological_order_whatever_the_order_of_insertion() -> None:
    """A chain that is added backwards has its edges above the diagonal; numbers follow the operations."""
    graph = nx.DiGraph()
    for node, op, width in (("c", "pool", 0.5), ("b", "conv", 1.0), ("a", "conv", 2.0)):
        graph.add_node(node, op=op, width=width)
    graph.add_edges_from([("a", "b"), ("b", "c"), ("a", "a")])
    found = from_networkx([graph])
    assert found.features[0].tolist() == [[1, 0, 0, 2.0], [1, 0, 0, 1.0], [0, 1, 0, 0.5]]
    assert found.adjacency[0].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert vocabulary([graph]) == (["conv", "pool"], ["width"])


def test_unknown_operations_are_other_and_missing_numbers_are_0() -> None:
    """With the vocabulary of other graphs."""
    graph = nx.DiGraph()
    graph.add_node(0, op="new")
    graph.add_node(1)
    assert from_networkx([graph], (["conv"], ["width"])).features[0].tolist() == [[0, 1, 0], [0, 1, 0]]


def test_cycles_keep_the_order_and_undirected_graphs_are_refused() -> None:
    """A recurrent cell may have a cycle."""
    found = from_networkx([nx.DiGraph([(0, 1), (1, 0)])])
    assert found.adjacency[0].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"networkx\.DiGraph"):
        from_networkx([nx.Graph([(0, 1)])])
