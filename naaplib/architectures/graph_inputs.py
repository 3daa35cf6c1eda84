"""Graphs of any networks: from networkx, or from modules that torch.fx can trace."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from naaplib.architectures.dense_graphs import Graphs, stack

OTHER = "other"  # the operation of a node whose own was not in the vocabulary


class NotTraceable(ValueError):
    """A module that torch.fx cannot trace."""


def traced(module: nn.Module, image: torch.Tensor | None = None) -> nx.DiGraph:
    """Trace a module with torch.fx, and return the graph of its operations.

    Parameters
    ----------
    module : Module
        A module without control flow that depends on values. It does not change.
    image : Tensor, shape (1, ...), optional
        Input for which the sizes of all outputs are computed, in one pass; without it, they are missing.

    Returns
    -------
    networkx.DiGraph
        One node for each operation, in the order of calls. Attributes: op ("input", "output", the class of a module,
        such as "Conv2d", or the name of a function, such as "add"), log_params (log10 of 1 + the number of parameters),
        and with an image log_size (log10 of 1 + the number of values of the output for one image) and channels (log2 of
        1 + their number, / 5).

    Raises
    ------
    NotTraceable
        If torch.fx cannot trace the module. Build its graph by hand then, as a `networkx.DiGraph`.

    Examples
    --------
    >>> graph = traced(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))
    >>> [graph.nodes[node]["op"] for node in graph]
    ['input', 'Conv2d', 'ReLU', 'output']
    """
    try:
        program = fx.symbolic_trace(module)
        if image is not None:
            modes = [(one, one.training) for one in program.modules()]
            program.eval()  # running statistics stay as they are
            try:
                with torch.no_grad():
                    ShapeProp(program).propagate(image)
            finally:
                for one, training in modes:
                    one.training = training
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise NotTraceable(
            f"torch.fx cannot trace this {type(module).__name__} ({type(error).__name__}: {text}): give its graph as "
            f"a networkx.DiGraph whose nodes have an attribute 'op'"
        ) from None
    graph = nx.DiGraph()
    for node in program.graph.nodes:
        n_params = 0
        if node.op == "call_module":
            called = program.get_submodule(node.target)
            op, n_params = type(called).__name__, sum(one.numel() for one in called.parameters())
        elif node.op == "get_attr":
            op, found = "weight", operator.attrgetter(node.target)(program)
            n_params = found.numel() if isinstance(found, torch.Tensor) else 0
        else:
            op = {"placeholder": "input", "output": "output"}.get(node.op) or _function_name(node.target)
        attributes: dict[str, Any] = {"op": op, "log_params": math.log10(1 + n_params)}
        if image is not None:
            shape: tuple[int, ...] = tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))
            n_channels = shape[1] if len(shape) > 1 else 0
            size = math.prod(shape[1:]) if len(shape) > 1 else 0
            attributes |= {"log_size": math.log10(1 + size), "channels": math.log2(1 + n_channels) / 5}
        graph.add_node(node.name, **attributes)
        graph.add_edges_from((used.name, node.name) for used in node.all_input_nodes)
    return graph


def vocabulary(graphs: Iterable[nx.DiGraph]) -> tuple[list[str], list[str]]:
    """List the operations and numeric attributes of nodes, in alphabetical order.

    >>> graph = nx.DiGraph()
    >>> graph.add_node(0, op="conv", width=0.5)
    >>> vocabulary([graph])
    (['conv'], ['width'])
    """
    operations: set[str] = set()
    numbers: set[str] = set()
    for graph in graphs:
        for _, attributes in graph.nodes(data=True):
            operations.add(str(attributes.get("op", OTHER)))
            numbers |= {name for name, value in attributes.items() if name != "op" and _is_number(value)}
    return sorted(operations - {OTHER}), sorted(numbers)


def from_networkx(graphs: Iterable[nx.DiGraph], words: tuple[list[str], list[str]] | None = None) -> Graphs:
    """Convert directed graphs of networkx to `Graphs`.

    Parameters
    ----------
    graphs : iterable of networkx.DiGraph
        Nodes have an attribute op, a text, and any attributes that are numbers, which should be of order one. A missing
        number is 0. Nodes are in topological order, with ties in the graph's own; in a graph with cycles, all are.
    words : (operations, numbers), optional
        As `vocabulary` returns them for the training graphs; by default, those of the given graphs.

    Returns
    -------
    Graphs
        Features are one-hot in the order of the operations, then 1 for any other operation, then the numbers.

    Examples
    --------
    >>> graph = nx.DiGraph([("a", "b")])
    >>> graph.nodes["a"]["op"], graph.nodes["b"]["op"] = "conv", "pool"
    >>> from_networkx([graph]).features.tolist()
    [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    graphs = list(graphs)
    operations, numbers = vocabulary(graphs) if words is None else words
    place = {name: i for i, name in enumerate(operations)}
    features, adjacencies = [], []
    for graph in graphs:
        if not graph.is_directed() or not len(graph):
            raise ValueError("a graph must be a networkx.DiGraph with at least one node")
        graph = graph.copy()
        graph.remove_edges_from(list(nx.selfloop_edges(graph)))
        order = list(graph)
        if nx.is_directed_acyclic_graph(graph):
            first = {node: i for i, node in enumerate(order)}
            order = list(nx.lexicographical_topological_sort(graph, key=first.__getitem__))
        rows = np.zeros((len(order), len(operations) + 1 + len(numbers)))
        for i, node in enumerate(order):
            attributes: Mapping[str, Any] = graph.nodes[node]
            rows[i, place.get(str(attributes.get("op", OTHER)), len(operations))] = 1
            for j, name in enumerate(numbers):
                rows[i, len(operations) + 1 + j] = attributes.get(name, 0)
        features.append(rows)
        adjacencies.append(nx.to_numpy_array(graph, nodelist=order, weight=None))
    return stack(features, adjacencies)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _function_name(target: Any) -> str:
    return str(target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)).strip("_")
