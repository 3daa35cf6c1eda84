import math

import numpy as np
import pytest
import torch
from graphs_made import make_graphs

from naaplib.architectures.graphs import Graphs, stack
from naaplib.estimators.predictors.design import Design, Schedule
from naaplib.estimators.predictors.networks import initialise, inputs, normalise, train
from naaplib.estimators.predictors.targets import squared_error

GCN = Design("gcn", 2, 4, (5,), head_relu=True, normalisation="symmetric", masked=True)
KINDS = ("gcn", "mlp", "cnn")


def design(kind: str = "gcn", **changes: object) -> Design:
    return Design(**(vars(GCN) | {"kind": kind} | changes))


def make(of: Design, graphs: Graphs, n_networks: int = 1):
    """Networks with biases that are not 0, which those just initialised have."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(n_networks)]
    n_nodes, n_features = graphs.features.shape[1:]
    networks = initialise(of, n_nodes, n_features=n_features, generators=generators)
    for bias in networks.biases:
        torch.nn.init.uniform_(bias, -0.5, 0.5, generator=torch.Generator().manual_seed(9))
    return networks


def read(networks, graphs: Graphs) -> np.ndarray:
    """Numbers of all networks for all graphs, (n_networks, n_archs)."""
    n_networks = len(networks.kernels[0])
    tables = inputs(graphs, networks.design)
    with torch.no_grad():
        return networks([table.expand(n_networks, *table.shape) for table in tables]).numpy()


def slow_normalise(adjacency: np.ndarray) -> np.ndarray:
    """Element by element: 1 / sqrt(successors of i, itself among them) / sqrt(those of j), where i = j or i -> j."""
    n = len(adjacency)
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i == j or adjacency[i, j]:
                result[i, j] = 1 / math.sqrt(1 + sum(adjacency[i])) / math.sqrt(1 + sum(adjacency[j]))
    return result


def slow_gcn(networks, index: int, features: np.ndarray, adjacency: np.ndarray, n_pooled: int) -> float:
    """One network on one graph, node by node, as the paper describes a layer."""
    kernels = [kernel[index].numpy().astype(float) for kernel in (k.detach() for k in networks.kernels)]
    biases = [bias[index, 0].numpy().astype(float) for bias in (b.detach() for b in networks.biases)]
    symmetric = networks.design.normalisation == "symmetric"
    ways = [adjacency, adjacency.T]
    ways = [slow_normalise(way) if symmetric else way + np.eye(len(way)) for way in ways]
    nodes = [list(row) for row in features]
    for layer in range(networks.design.n_layers):
        new = []
        for i in range(len(nodes)):
            parts = []
            for way, place in zip(ways, (2 * layer, 2 * layer + 1), strict=True):
                heard = sum(way[i, j] * np.array(nodes[j]) for j in range(len(nodes)))
                parts.append(np.maximum(heard @ kernels[place] + biases[place], 0))
            new.append((parts[0] + parts[1]) / 2)
        nodes = new
    hidden = sum(nodes[:n_pooled]) / n_pooled @ kernels[-2] + biases[-2]
    hidden = np.maximum(hidden, 0) if networks.design.head_relu else hidden
    return (hidden @ kernels[-1] + biases[-1]).item()


def test_normalisation_is_that_of_a_loop_and_counts_what_leaves_a_node() -> None:
    """Of an edge 0 -> 1 among two nodes, worked by hand; then a random graph."""
    edge = torch.tensor([[0.0, 1], [0, 0]])
    assert normalise(edge, "symmetric").flatten().tolist() == pytest.approx([1 / 2, 1 / math.sqrt(2), 0, 1])
    assert normalise(edge, "none").tolist() == [[1, 1], [0, 1]]
    graph = make_graphs(1, seed=3).adjacency[0]
    np.testing.assert_allclose(normalise(graph, "symmetric"), slow_normalise(graph.numpy()), rtol=1e-6)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("normalisation", ["symmetric", "none"])
@pytest.mark.parametrize("head_relu", [True, False])
def test_a_graph_network_is_a_loop_over_nodes(masked: bool, normalisation: str, head_relu: bool) -> None:
    """Three networks side by side, each against the loop with its own weights, on graphs of several sizes."""
    graphs = make_graphs(6)
    networks = make(design(masked=masked, normalisation=normalisation, head_relu=head_relu), graphs, 3)
    expected = [
        [
            slow_gcn(networks, i, *(np.asarray(part[g]) for part in (graphs.features, graphs.adjacency)), n_pooled)
            for g, n_pooled in enumerate(graphs.mask.sum(1).tolist() if masked else [graphs.mask.shape[1]] * 6)
        ]
        for i in range(3)
    ]
    np.testing.assert_allclose(read(networks, graphs), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head_relu", [True, False])
def test_a_head_of_two_layers_is_worked_by_numpy(head_relu: bool) -> None:
    """From the pooled nodes on: each dense layer with its activation, then the output; dropout is after the last."""
    graphs = make_graphs(6)
    networks = make(design(n_hidden=(5, 3), head_relu=head_relu), graphs, 2)
    assert [tuple(kernel.shape) for kernel in list(networks.kernels)[-3:]] == [(2, 4, 5), (2, 5, 3), (2, 3, 1)]
    rows = [table.expand(2, *table.shape) for table in inputs(graphs, networks.design)]
    keep = torch.tensor([0.0, 2.0, 1.0]).expand(2, 6, 3)
    with torch.no_grad():
        hidden, found = networks._read(*rows).numpy(), networks(rows, keep).numpy()
    kernels, biases = ([weight.detach().numpy() for weight in some] for some in (networks.kernels, networks.biases))
    for index in (-3, -2):
        hidden = hidden @ kernels[index] + biases[index]
        hidden = np.maximum(hidden, 0) if head_relu else hidden
    expected = (hidden * [0.0, 2.0, 1.0]) @ kernels[-1] + biases[-1]
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-4, atol=1e-6)


def test_the_order_of_nodes_changes_nothing() -> None:
    """A network that sees graphs with their nodes permuted says the same."""
    rng = np.random.default_rng(0)
    graphs = make_graphs(10)
    features, adjacencies = [], []
    for feature, adjacency, mask in zip(graphs.features, graphs.adjacency, graphs.mask, strict=True):
        order = rng.permutation(int(mask.sum()))
        features.append(feature.numpy()[order])
        adjacencies.append(adjacency.numpy()[np.ix_(order, order)])
    networks = make(GCN, graphs, 2)
    permuted = read(networks, stack(features, adjacencies))
    np.testing.assert_allclose(permuted, read(networks, graphs), rtol=1e-4, atol=1e-6)
    assert np.ptp(permuted) > 0.01


def test_padding_changes_nothing_if_it_is_masked() -> None:
    """And does if not, as in the replication: a padded node carries a bias into the mean."""
    graphs = make_graphs(8)
    for masked in (True, False):
        networks = make(design(masked=masked), graphs)
        assert np.allclose(read(networks, graphs), read(networks, graphs.pad(9)), rtol=1e-5) == masked


def test_the_dense_and_the_convolutional_network_are_worked_by_hand() -> None:
    """One node with feature 2, all kernels 1, all biases 0: sums of ones."""
    graphs = stack([np.array([[2.0]])], [np.zeros((1, 1))])
    for kind, expected in (("mlp", 3.0), ("cnn", 3.0)):  # 2 and the self loop's 1
        networks = make(
            Design(kind, 1, width=1, n_hidden=(1,), head_relu=False, normalisation="symmetric", masked=True), graphs
        )
        with torch.no_grad():
            for weights, value in ((networks.kernels, 1), (networks.biases, 0)):
                for weight in weights:
                    weight.fill_(value)
        assert read(networks, graphs).item() == pytest.approx(expected)


def test_the_convolutional_network_is_torchs_own() -> None:
    """Convolution over nodes, maximum over pairs and mean, by torch's layers, where no node is padded."""
    rng = np.random.default_rng(0)
    graphs = stack([rng.normal(size=(7, 2)) for _ in range(3)], [np.eye(7, k=1)] * 3)
    networks = make(design("cnn", n_layers=3), graphs)
    (table, _) = inputs(graphs, networks.design)
    x = table.transpose(1, 2)
    for kernel, bias in zip(list(networks.kernels)[:3], networks.biases, strict=False):
        taps = kernel[0].detach().unflatten(0, (3, -1)).permute(2, 1, 0)
        x = torch.nn.functional.conv1d(x, taps, bias[0, 0].detach(), padding=1).relu()
        x = torch.nn.functional.max_pool1d(x, 2, ceil_mode=True)
    hidden = (x.mean(2) @ networks.kernels[-2][0] + networks.biases[-2][0]).relu()
    expected = (hidden @ networks.kernels[-1][0] + networks.biases[-1][0])[:, 0].detach().numpy()
    np.testing.assert_allclose(read(networks, graphs)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_split_say_what_they_said_together(kind: str) -> None:
    """And own their weights."""
    graphs = make_graphs(5)
    networks = make(design(kind), graphs, 3)
    together, alone = read(networks, graphs), networks.split()
    np.testing.assert_allclose(np.concatenate([read(one, graphs) for one in alone]), together, rtol=1e-5)
    torch.nn.init.zeros_(networks.kernels[0])
    np.testing.assert_allclose(np.concatenate([read(one, graphs) for one in alone]), together, rtol=1e-5)


def test_initial_weights_are_glorots() -> None:
    """Uniform within sqrt(6 / (in + out)); a convolution counts its three taps on both sides, as Keras does."""
    graphs = make_graphs(4, n_features=40)
    for kind, fans in (("gcn", (40, 200)), ("cnn", (3 * (40 + graphs.mask.shape[1]), 3 * 200))):
        n_nodes, seeded = graphs.mask.shape[1], [torch.Generator().manual_seed(0)]
        first = initialise(design(kind, width=200), n_nodes, n_features=40, generators=seeded)
        limit = math.sqrt(6 / sum(fans))
        assert first.kernels[0].abs().max().item() == pytest.approx(limit, rel=0.01)
        assert first.kernels[0].std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
        assert all(bias.abs().max() == 0 for bias in first.biases)


def test_training_is_adam_on_the_mean_square_and_the_penalty() -> None:
    """Against torch's optimiser on a loss that is written out: penalty on kernels only, cosine over all steps."""
    graphs, rows = make_graphs(7), torch.arange(7)[None]
    wanted = torch.linspace(0, 1, 7)[None]
    ours, theirs = make(GCN, graphs), make(GCN, graphs)
    schedule = Schedule(n_epochs=3, batch_size=4, rate=0.05, horizon=None, penalty=0.1, dropout=0.3)
    tables = inputs(graphs, GCN)
    train(
        ours,
        tables,
        rows=rows,
        targets=wanted,
        loss=squared_error("standardised"),
        schedule=schedule,
        generators=[torch.Generator().manual_seed(5)],
    )
    generator = torch.Generator().manual_seed(5)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.05, eps=1e-7)
    step = 0
    for _ in range(3):
        order = torch.randperm(7, generator=generator)
        keep = (torch.rand(7, 5, generator=generator) >= 0.3) / 0.7
        for places in (slice(0, 4), slice(4, 7)):
            batch = order[places]
            error = (theirs([table[batch][None] for table in tables], keep[places][None])[0] - wanted[0, batch]) ** 2
            loss = error.mean() + 0.1 * sum((kernel**2).sum() for kernel in theirs.kernels)
            adam.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 6)) / 2
            adam.zero_grad()
            loss.backward()
            adam.step()
            step += 1
    np.testing.assert_allclose(read(ours, graphs), read(theirs, graphs), rtol=1e-3, atol=1e-5)


def test_the_rate_stays_at_zero_beyond_the_horizon() -> None:
    """Training on changes nothing once the cosine has ended; before, it does."""
    graphs, rows = make_graphs(4), torch.arange(4)[None]
    found = []
    for n_epochs in (5, 6, 9):
        networks = make(GCN, graphs)
        schedule = Schedule(n_epochs, batch_size=4, rate=0.05, horizon=6, penalty=0, dropout=0)
        train(
            networks,
            inputs(graphs, GCN),
            rows=rows,
            targets=torch.ones(1, 4),
            loss=squared_error("standardised"),
            schedule=schedule,
            generators=[torch.Generator()],
        )
        found.append(read(networks, graphs))
    assert (found[1] == found[2]).all()
    assert (found[0] != found[1]).any()
