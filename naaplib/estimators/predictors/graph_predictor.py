"""A graph predictor that takes graphs, networkx graphs, or modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import networkx as nx
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from naaplib.architectures.dense_graphs import Graphs
from naaplib.architectures.graph_inputs import from_networkx, traced, vocabulary
from naaplib.estimators.predictors.estimator import NeuralPredictor


class GraphPredictor(NeuralPredictor):
    """Graph network that takes modules, networkx graphs, or `Graphs`.

    It is the improved graph network (`naaplib.estimators.predictors.estimator.NeuralPredictor`) with scikit-learn's
    manners, and learns the vocabulary of operations in `fit`. An operation that `predict` meets first counts as
    "other". Modules are traced by torch.fx, and the sizes of their outputs are computed for an image of
    `image_shape`.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of one image, (channels, height, width), for modules.
    width, n_layers, n_epochs, batch_size, learning_rate, dropout, seed, device
        As in `NeuralPredictor`.

    Attributes
    ----------
    vocabulary_ : (list of str, list of str) or None
        Operations and numeric attributes of the training graphs; None if they were `Graphs`.

    Examples
    --------
    >>> models = [nn.Sequential(*[nn.Linear(4, 4), nn.ReLU()] * depth) for depth in (1, 2, 3, 5, 6, 7)]
    >>> predictor = GraphPredictor(image_shape=(4,), n_epochs=60).fit(models, [0.52, 0.6, 0.66, 0.73, 0.75, 0.76])
    >>> predictor.predict([nn.Sequential(*[nn.Linear(4, 4), nn.ReLU()] * 4)]).shape
    (1,)
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (3, 32, 32),
        width: int = 64,
        *,
        n_layers: int = 3,
        n_epochs: int = 200,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        dropout: float = 0.1,
        seed: int | None = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(
            width=width, n_layers=n_layers, n_epochs=n_epochs, batch_size=batch_size, learning_rate=learning_rate,
            dropout=dropout, seed=seed, device=device,
        )  # fmt: skip
        self.image_shape = image_shape

    def fit(self, X: Graphs | Iterable[Any], y: ArrayLike) -> Self:
        """Train on networks and their accuracies (n_archs,); see `NeuralPredictor.fit`.

        Raises
        ------
        naaplib.architectures.graph_inputs.NotTraceable
            If torch.fx cannot trace a module.
        TypeError
            If a network is neither a module nor a graph.
        """
        graphs = X if isinstance(X, Graphs) else self._graphs(X)
        words = None if isinstance(graphs, Graphs) else vocabulary(graphs)
        super().fit(graphs if isinstance(graphs, Graphs) else from_networkx(graphs, words), y)
        self.vocabulary_ = words
        return self

    def predict(self, X: Graphs | Iterable[Any]) -> NDArray[Any]:
        """Predict accuracies, shape (n_archs,); see `NeuralPredictor.predict`."""
        check_is_fitted(self)
        if isinstance(X, Graphs):
            return super().predict(X)
        if self.vocabulary_ is None:
            raise TypeError("this predictor was trained on Graphs, and predicts Graphs: convert the networks alike")
        return super().predict(from_networkx(self._graphs(X), self.vocabulary_))

    def _graphs(self, networks: Iterable[Any]) -> list[nx.DiGraph]:
        found = []
        for number, network in enumerate(networks):
            if isinstance(network, nn.Module):
                found.append(traced(network, torch.zeros(1, *self.image_shape)))
            elif isinstance(network, nx.DiGraph):
                found.append(network)
            else:
                raise TypeError(
                    f"network {number} is a {type(network).__name__}; it must be a torch module, a networkx.DiGraph, "
                    f"or all together must be naaplib Graphs"
                )
        return found
