"""Networks on graphs, trained side by side: graph-convolutional, dense and CNN.

All tensors have a leading axis of networks, which share only a design; batched products replace a loop over them.
Sources are the neural predictor of Wen et al. (ECCV 2020) and its replication by Trirat and Sawadwuthikul, whose code
settles details that the paper leaves open.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from naaplib.architectures.dense_graphs import Graphs, normalise
from naaplib.estimators.predictors.design import Design, Schedule

_PREDICTED_AT_ONCE = 1000
_EPSILON = 1e-7  # for Adam, as in Keras, which the replication used
_DRAWN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # independent of torch's defaults


def inputs(graphs: Graphs, design: Design, *, device: str | torch.device = "cpu") -> tuple[Tensor, ...]:
    """Compute the inputs of `Networks` from graphs; the first axis is architectures.

    Returns
    -------
    tuple of Tensor
        For a GCN: both normalised adjacency matrices (n_archs, n_nodes, n_nodes), that of the reversed edges second,
        their products with the features (n_archs, n_nodes, n_features), and the weights of nodes in the mean (n_archs,
        1, n_nodes). For the others: features beside the rows of the normalised adjacency matrix, (n_archs, n_nodes,
        n_features + n_nodes), and the mask of nodes that count (n_archs, n_nodes, 1).
    """
    mask = graphs.mask if design.masked else torch.ones_like(graphs.mask)
    mask = mask[..., None].float().to(device)
    features, adjacency = graphs.features.to(device, torch.float32), graphs.adjacency.to(device, torch.float32)
    along = normalise(adjacency, design.normalisation)
    if design.kind == "gcn":
        against = normalise(adjacency.transpose(1, 2), design.normalisation)
        return along, against, along @ features, against @ features, (mask / mask.sum(1, keepdim=True)).transpose(1, 2)
    return torch.cat([features, along], 2) * mask, mask


class Networks(nn.Module):
    """Several networks of one design.

    - "gcn": a layer is the mean of two graph convolutions, ReLU(Â X W + b), one along the edges and one against them;
      the last layer's nodes are averaged.
    - "mlp": dense layers with ReLU on features and adjacency, flattened.
    - "cnn": convolutions over the nodes in their order, of three nodes each, with ReLU, each followed by the maximum
      over pairs of neighbours; the remaining nodes are averaged.

    Dense layers, dropout, and one output follow.

    Parameters
    ----------
    design : Design
    kernels : sequence of Tensor, each (n_networks, c_in, c_out)
    biases : sequence of Tensor, each (n_networks, 1, c_out)
        Kernels and biases of all layers, in the order of their use.
    """

    def __init__(self, design: Design, kernels: Sequence[Tensor], *, biases: Sequence[Tensor]) -> None:
        super().__init__()
        self.design = design
        self.kernels, self.biases = nn.ParameterList(kernels), nn.ParameterList(biases)

    def split(self) -> list[Networks]:
        """Return each network by itself, with its own weights."""
        parts = [[weight.detach().split(1) for weight in weights] for weights in (self.kernels, self.biases)]
        kernels, biases = ([[part.clone() for part in of_one] for of_one in zip(*part, strict=True)] for part in parts)
        return [Networks(self.design, own, biases=shifts) for own, shifts in zip(kernels, biases, strict=True)]

    def forward(self, rows: Sequence[Tensor], keep: Tensor | None = None) -> Tensor:
        """Compute one output per network and architecture.

        Parameters
        ----------
        rows : sequence of Tensor
            Inputs from `inputs`, each (n_networks, n_rows, ...).
        keep : Tensor, shape (n_networks, n_rows, n_hidden[-1]), or None
            Dropout factors of the last hidden units.

        Returns
        -------
        Tensor, shape (n_networks, n_rows)
        """
        hidden = self._read(*rows)
        for index in range(-1 - len(self.design.n_hidden), -1):
            hidden = self._dense(hidden, index)
            if self.design.head_relu:
                hidden = hidden.relu_()
        if keep is not None:
            hidden = hidden * keep
        return self._dense(hidden, -1)[..., 0]

    def _dense(self, x: Tensor, index: int) -> Tensor:
        """Apply a dense layer over all axes between the first and the last."""
        flat = torch.baddbmm(self.biases[index], x.flatten(1, -2), self.kernels[index])
        return flat.unflatten(1, x.shape[1:-1])

    def _read(self, *rows: Tensor) -> Tensor:
        """Apply the layers of the kind to the graphs: (n_networks, n_rows, width)."""
        if self.design.kind == "gcn":
            return self._convolve_graphs(*rows)
        if self.design.kind == "cnn":
            return self._convolve_sequences(*rows)
        x = rows[0].flatten(2)
        for layer in range(self.design.n_layers):
            x = self._dense(x, layer).relu_()
        return x

    def _convolve_graphs(self, along: Tensor, against: Tensor, sent: Tensor, met: Tensor, weights: Tensor) -> Tensor:
        for layer in range(self.design.n_layers):
            x = self._dense(sent, 2 * layer).relu_().add(self._dense(met, 2 * layer + 1).relu_()).mul_(0.5)
            if layer < self.design.n_layers - 1:
                sent, met = along @ x, against @ x
        return (weights @ x)[..., 0, :]

    def _convolve_sequences(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in range(self.design.n_layers):
            padded = nn.functional.pad(x, (0, 0, 1, 1))
            x = torch.cat([padded[:, :, shift : shift + x.shape[2]] for shift in range(3)], 3)
            x, mask = (_pairs(part) for part in (self._dense(x, layer).relu() * mask, mask))
        return (x * mask).sum(2) / mask.sum(2)


@torch.inference_mode(False)
def initialise(design: Design, n_nodes: int, *, n_features: int, generators: Sequence[torch.Generator]) -> Networks:
    """Make networks with Glorot's uniform kernels and biases of 0.

    Parameters
    ----------
    design : Design
    n_nodes, n_features : int
        Sizes of the graphs.
    generators : sequence of Generator, length n_networks
        Generators on the CPU, one per network.
    """
    kernels, biases = [], []
    for c_in, c_out, n_taps in _shapes(design, n_nodes, n_features):
        limit = math.sqrt(6 / (c_in + n_taps * c_out))
        drawn = [torch.rand(c_in, c_out, generator=generator, **_DRAWN) for generator in generators]
        kernels.append((2 * torch.stack(drawn) - 1) * limit)
        biases.append(torch.zeros(len(generators), 1, c_out, **_DRAWN))
    return Networks(design, kernels, biases=biases)


@torch.inference_mode(False)
@torch.enable_grad()
def train(
    networks: Networks,
    tables: Sequence[Tensor],
    *,
    rows: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    generators: Sequence[torch.Generator],
) -> None:
    """Train each network on its own rows, independently and side by side.

    Parameters
    ----------
    networks : Networks
        Changed in place.
    tables : sequence of Tensor
        Inputs of all architectures, from `inputs`.
    rows, targets : Tensor, shape (n_networks, n_train)
        Positions in the tables, and the targets there.
    loss : callable
        Function of outputs and targets, both (n_networks, n_rows), that returns the loss of each row.
    schedule : Schedule
    generators : sequence of Generator, length n_networks
        Generators on the CPU, one per network; each epoch draws the order of rows and dropout.

    Raises
    ------
    FloatingPointError
        If an output of a trained network for its rows is not finite.
    """
    n_train, device = rows.shape[1], rows.device
    horizon = schedule.horizon or schedule.n_epochs * math.ceil(n_train / schedule.batch_size)
    groups: list[dict[str, Any]] = [
        {"params": list(networks.kernels), "weight_decay": 2 * schedule.penalty},  # the gradient of the penalty
        {"params": list(networks.biases)},
    ]
    adam = torch.optim.Adam(groups, eps=_EPSILON, fused=True)
    step = 0
    for _ in range(schedule.n_epochs):
        if step >= horizon:  # the learning rate is 0 from here on
            break
        order = torch.stack([torch.randperm(n_train, generator=one, device="cpu") for one in generators]).to(device)
        shape = n_train, networks.design.n_hidden[-1]
        drawn = torch.stack([torch.rand(shape, generator=one, **_DRAWN) for one in generators]).to(device)
        keep = (drawn >= schedule.dropout).float() / (1 - schedule.dropout)
        for start in range(0, n_train, schedule.batch_size):
            batch = order[:, start : start + schedule.batch_size]
            chosen = rows.gather(1, batch)
            for group in adam.param_groups:
                group["lr"] = schedule.rate * (1 + math.cos(math.pi * min(step / horizon, 1))) / 2
            numbers = networks([table[chosen] for table in tables], keep[:, start : start + schedule.batch_size])
            adam.zero_grad()
            loss(numbers, targets.gather(1, batch)).mean(1).sum().backward()
            adam.step()
            step += 1
    with torch.no_grad():
        parts = [networks([table[some] for table in tables]) for some in rows.split(schedule.batch_size, 1)]
    if n_lost := int((~torch.cat(parts, 1).isfinite().all(1)).sum()):
        raise FloatingPointError(
            f"{n_lost} of {len(rows)} networks give numbers that are not finite after training: it diverged. Lower the "
            f"learning rate, which is {schedule.rate}"
        )


@torch.no_grad()
def outputs(network: Networks, graphs: Graphs, *, device: str | torch.device = "cpu") -> NDArray[np.float64]:
    """Compute the outputs (n_archs,) of one network; FloatingPointError for NaN, inf."""
    place, found = torch.device(device), [np.empty(0)]
    network = network if place.type == "cpu" else copy.deepcopy(network).to(place)
    for start in range(0, len(graphs), _PREDICTED_AT_ONCE):
        tables = inputs(graphs[start : start + _PREDICTED_AT_ONCE], network.design, device=place)
        found.append(network([table[None] for table in tables])[0].cpu().double().numpy())
    numbers = np.concatenate(found)
    if n_lost := int((~np.isfinite(numbers)).sum()):
        raise FloatingPointError(
            f"what is predicted of {n_lost} of {len(graphs)} graphs is not finite: are their features finite, and in "
            f"the unit of those trained on?"
        )
    return numbers


def _shapes(design: Design, n_nodes: int, n_features: int) -> list[tuple[int, int, int]]:
    """Inputs and outputs of every kernel, and Keras's count of outputs for Glorot."""
    first = {"gcn": n_features, "mlp": n_nodes * (n_features + n_nodes), "cnn": 3 * (n_features + n_nodes)}
    n_taps = 3 if design.kind == "cnn" else 1
    layers = [(first[design.kind], design.width, n_taps)]
    layers += [(n_taps * design.width, design.width, n_taps)] * (design.n_layers - 1)
    if design.kind == "gcn":
        layers = [layer for layer in layers for _ in ("along", "against")]
    sizes = design.width, *design.n_hidden, 1
    return [*layers, *((before, after, 1) for before, after in itertools.pairwise(sizes))]


def _pairs(x: Tensor) -> Tensor:
    """Maximum over pairs of neighbouring nodes, axis -2; an odd last one is unchanged."""
    x = nn.functional.pad(x, (0, 0, 0, x.shape[-2] % 2))
    return x.unflatten(-2, (-1, 2)).amax(-2)


def read(estimator: BaseEstimator, X: Any, *, y: Any) -> tuple[Graphs, Any]:
    """Return training graphs and targets; an array is checked as scikit-learn does."""
    if isinstance(X, Graphs):
        return X, y
    X, y = validate_data(estimator, X, y, dtype=np.float64, y_numeric=True)
    return one_node(X), y


def read_again(estimator: BaseEstimator, X: Any) -> Graphs:
    """Return graphs to predict; an array must have the columns of the training's."""
    return X if isinstance(X, Graphs) else one_node(validate_data(estimator, X, dtype=np.float64, reset=False))


def one_node(rows: ArrayLike) -> Graphs:
    """Return rows (n_archs, n_features) as graphs of one node each.

    >>> one_node([[0.5, 1.0], [0.2, 3.0]]).shape
    (2, 1, 2)
    """
    features = torch.from_numpy(np.asarray(rows, dtype=np.float32))[:, None]
    return Graphs(features, torch.zeros(len(features), 1, 1), torch.ones(len(features), 1, dtype=torch.bool))
