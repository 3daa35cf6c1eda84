"""A graph predictor that takes networks as they come."""

import pickle

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from torch import nn

from naaplib.architectures.graph_inputs import from_networkx, traced
from naaplib.estimators.predictors import NeuralPredictor
from naaplib.estimators.predictors.graph_predictor import GraphPredictor

DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8)
REACHED = [0.5 + 0.05 * depth for depth in DEPTHS]
SMALL = {"width": 8, "n_epochs": 40}


def network(depth: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A chain of convolutions."""
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(3, 3, 3, padding=1), activation())]
    return nn.Sequential(*layers)


def test_modules_and_their_graphs_are_predicted_alike() -> None:
    """Traced beforehand or by the predictor, and as Graphs, the predictions are the same."""
    modules = [network(depth) for depth in DEPTHS]
    graphs = [traced(module, torch.zeros(1, 3, 32, 32)) for module in modules]
    of_modules = GraphPredictor(**SMALL).fit(modules, REACHED).predict(modules)
    assert GraphPredictor(**SMALL).fit(graphs, REACHED).predict(modules).tolist() == of_modules.tolist()
    dense = from_networkx(graphs)
    assert NeuralPredictor(**SMALL).fit(dense, REACHED).predict(dense) == pytest.approx(of_modules)


def test_it_learns_an_order() -> None:
    """Deeper chains reach more: it ranks those it has not seen."""
    seen, other = [0, 1, 3, 4, 6, 7], [2, 5]
    modules = [network(depth) for depth in DEPTHS]
    predictor = GraphPredictor(width=16, n_epochs=100).fit([modules[i] for i in seen], [REACHED[i] for i in seen])
    low, high = predictor.predict([modules[i] for i in other])
    assert low < high


def test_an_operation_that_training_lacked_is_predicted_as_other() -> None:
    """No error, and a number."""
    predictor = GraphPredictor(**SMALL).fit([network(depth) for depth in DEPTHS], REACHED)
    assert np.isfinite(predictor.predict([network(2, nn.SiLU)])).all()
    assert "SiLU" not in predictor.vocabulary_[0]


def test_it_has_the_manners_of_scikit_learn() -> None:
    """Clone, pickle, search over parameters, and an error before fit."""
    graphs = [nx.path_graph(depth + 1, create_using=nx.DiGraph) for depth in DEPTHS]
    predictor = GraphPredictor(n_epochs=3, image_shape=(1, 8, 8))
    assert clone(predictor).get_params() == predictor.get_params()
    with pytest.raises(NotFittedError):
        predictor.predict(graphs)
    predictor.fit(graphs, REACHED)
    assert pickle.loads(pickle.dumps(predictor)).predict(graphs).tolist() == predictor.predict(graphs).tolist()
    search = GridSearchCV(predictor, {"width": [4, 8]}, cv=2).fit(graphs, REACHED)
    assert search.best_params_["width"] in (4, 8)


def test_messages_say_what_a_network_is() -> None:
    """A text is none; after Graphs, modules are refused."""
    with pytest.raises(TypeError, match="network 0 is a str"):
        GraphPredictor().fit(["resnet18"], [0.5])
    dense = from_networkx([nx.path_graph(2, create_using=nx.DiGraph)] * 3)
    predictor = GraphPredictor(n_epochs=1, width=4).fit(dense, [0.1, 0.2, 0.3])
    with pytest.raises(TypeError, match="was trained on Graphs"):
        predictor.predict([network(1)])
