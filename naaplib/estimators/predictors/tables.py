"""Tables as graphs of one node, so that predictors of graphs also take arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from naaplib.architectures.dense_graphs import Graphs


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
