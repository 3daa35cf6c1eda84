"""Settings of neural predictors: the replication's, and the improved ones."""

from __future__ import annotations

from typing import Any

from naaplib.estimators.predictors.estimator import NeuralPredictor

WIDTHS = {43: 48, 86: 72, 129: 96, 172: 144, 334: 210, 860: 320}  # N training rows, and the units that go with them


def published_width(n_train: int) -> int:
    """Return the units of each layer that go with a number of training rows.

    The source is Figure 5 of Trirat and Sawadwuthikul; a number between two of theirs takes the nearer, of two as near
    the smaller.

    Examples
    --------
    >>> published_width(129)
    96
    """
    return WIDTHS[min(WIDTHS, key=lambda n: abs(n - n_train))]


def deep(**changes: Any) -> NeuralPredictor:
    """Make the predictor that the paper describes for networks in layers.

    The source is Trirat and Sawadwuthikul, Section III, settings for ProxylessNAS: eighteen graph convolutions of 96
    units, and two dense layers. Their code has the settings of `faithful` instead. The text names no activation of
    the dense layers; without one the two would be a single linear map, and so they have a ReLU here.

    Parameters
    ----------
    **changes
        Parameters of `NeuralPredictor` with other values.

    Examples
    --------
    >>> deep().n_hidden
    (512, 128)
    """
    printed: dict[str, Any] = {
        "n_layers": 18,
        "width": 96,
        "n_hidden": (512, 128),
        "head_relu": True,
        "penalty": 1e-5,
        "learning_rate": 1e-3,
        "horizon": None,  # the learning rate "is gradually decayed to zero"
    }
    return faithful(**printed | changes)


def faithful(**changes: Any) -> NeuralPredictor:
    """Make the predictor exactly as the replication's code does.

    The source is Trirat and Sawadwuthikul, section IV-C, and their code, which differs from the paper: padded nodes are
    pooled with the others, the dense layer before the output has no activation, the percentage is clipped and has no
    gradient above a sigmoid of 0.9, the cosine ends after 10,000 steps in any case, and "weight decay" is a penalty in
    the loss.

    Parameters
    ----------
    **changes
        Parameters of `NeuralPredictor` with other values.
    """
    published: dict[str, Any] = {
        "width": 144,
        "head_relu": False,
        "masked": False,
        "output": "shifted",
        "penalty": 1e-3,
        "n_epochs": 300,
        "batch_size": 10,
        "learning_rate": 1e-4,
        "classifier_learning_rate": 2e-4,
        "horizon": 10_000,
    }
    return NeuralPredictor(**published | changes)


def tuned(**changes: Any) -> NeuralPredictor:
    """Make the improved predictor as it was before its parts were validated.

    It has all changes to the replication: the dense layer has a ReLU, padding is ignored, the cosine ends at the last
    step, and the target is standardised or replaced by normal scores, so that a few failed architectures do not
    dominate the error. Recorded searches use it. `NeuralPredictor` itself has the improved predictor of today.

    Parameters
    ----------
    **changes
        Parameters of `NeuralPredictor` with other values.

    Examples
    --------
    >>> tuned(width=16, seed=0).get_params()["head_relu"]
    True
    """
    before: dict[str, Any] = {"head_relu": True, "normalisation": "symmetric"}
    return NeuralPredictor(**before | changes)
