"""Neural predictors: from architectures as graphs to their accuracy, in scikit-learn's protocol, one or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from naaplib.architectures.dense_graphs import Graphs, positions, to_scale
from naaplib.estimators.predictors.networks import Design, Networks, Schedule, initialise, inputs, outputs, train
from naaplib.estimators.predictors.targets import check, cross_entropy, decode, encode, squared_error
from naaplib.training.devices import resolve


class NeuralPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A network that is trained on graphs of architectures and what they reached.

    Features of nodes may be in any unit: `fit` brings columns that are not of order one to scale, by the training
    nodes' means and standard deviations (`naaplib.architectures.dense_graphs.Graphs.scales`), and `predict` likewise.
    `faithful` and `tuned` make the two that this compendium compares; see there for what their parameters come from.

    Parameters
    ----------
    kind : {"gcn", "mlp", "cnn"}
        How the network reads a graph: see `naaplib.estimators.predictors.networks.Networks`.
    n_layers, width, n_hidden : int
        Layers of that kind, units of each, units of the dense layer before the output.
    head_relu : bool
        Whether that dense layer has a ReLU.
    normalisation : {"symmetric", "none"}
        Of the adjacency matrices.
    masked : bool
        Whether padded nodes are left out. If they are, graphs may be padded to any size and the predictions are the
        same; if not, they count, as in the replication, and graphs are to be padded alike in `fit` and `predict`.
    output : {"shifted", "sigmoid", "loss", "standardised", "normal scores"}
        What the last layer's number z stands for, and what the squared error is taken of.

        - "shifted": a percentage, min(100, 100 sigmoid(z) + 10), of an accuracy; "sigmoid": 100 sigmoid(z)
        - "loss": a loss, max(0, z); a network that says 0 of everything at first has no gradient, and says so for ever
        - "standardised": the target less the mean of the training rows, by their standard deviation
        - "normal scores": the normal quantile of the target's rank among the training rows; in between, predictions
          are interpolated, and outside they go on as straight lines, so that they keep the order of z
    classify_above : float or None
        If a number: two stages. A classifier learns which architectures exceed it (in the target's unit), and the
        regressor is trained on the training rows that the classifier keeps (probability above one half).
    dropout : float
        Share of the hidden units that is left out in training.
    penalty : float
        Times the sum of squares of all kernels, in the loss.
    n_epochs, batch_size : int
        The last batch of an epoch is what remains.
    learning_rate, classifier_learning_rate : float
        Of Adam at the first step; it falls as a cosine.
    horizon : int or None
        Step at which the cosine reaches 0, where the rate stays; None: at the last one.
    seed : int or None
        Of weights, the order of rows, and dropout; None: drawn anew in each fit, which cannot be repeated.
    device : str
        Where to train and predict: "cpu", "cuda", or "auto". Random numbers are the same on all. What is trained lies
        on the CPU, so that it can be asked elsewhere.

    Attributes
    ----------
    scales_ : ndarray, shape (2, n_features)
        What features are lessened and divided by.
    n_nodes_, n_features_in_ : int
        Of the graphs as they are read.
    """

    def __init__(
        self,
        kind: str = "gcn",
        n_layers: int = 3,
        width: int = 64,
        n_hidden: int = 128,
        head_relu: bool = True,
        normalisation: str = "symmetric",
        masked: bool = True,
        output: str = "normal scores",
        classify_above: float | None = None,
        dropout: float = 0.1,
        penalty: float = 0.0,
        n_epochs: int = 200,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        classifier_learning_rate: float = 2e-3,
        horizon: int | None = None,
        seed: int | None = 0,
        device: str = "cpu",
    ) -> None:
        self.kind = kind
        self.n_layers = n_layers
        self.width = width
        self.n_hidden = n_hidden
        self.head_relu = head_relu
        self.normalisation = normalisation
        self.masked = masked
        self.output = output
        self.classify_above = classify_above
        self.dropout = dropout
        self.penalty = penalty
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.classifier_learning_rate = classifier_learning_rate
        self.horizon = horizon
        self.seed = seed
        self.device = device

    def fit(self, graphs: Graphs, targets: ArrayLike) -> Self:
        """Train on n_archs graphs and their targets (n_archs,): accuracies as fractions, or losses.

        Raises
        ------
        ValueError
            If a parameter is none of its values, if graphs and targets differ in number, or if a target is NaN or not
            one that the output can have.
        FloatingPointError
            If training diverges.
        """
        rows = np.arange(len(graphs))[None]
        return _fit([self], graphs, targets, rows)[0]

    def predict(self, graphs: Graphs) -> NDArray[np.float64]:
        """Predicted targets, shape (n_archs,), in the order of graphs.

        After two stages, architectures that the classifier rejects get one value, the mean of the training targets that
        do not exceed `classify_above`, or that number itself if there are none.

        Raises
        ------
        ValueError
            If graphs have other features than those trained on, or more nodes than the network can read.
        FloatingPointError
            If a prediction is not finite, as for features far beyond those trained on.
        """
        check_is_fitted(self)
        graphs = self._alike(graphs)
        predicted = decode(self.output, self.targets_, outputs(self.regressor_, graphs, resolve(self.device)))
        if self.classify_above is None:
            return predicted
        return np.where(self.keeps(graphs), predicted, self.rejected_)

    def keeps(self, graphs: Graphs) -> NDArray[np.bool_]:
        """Which architectures the classifier keeps, shape (n_archs,); all of them without two stages."""
        check_is_fitted(self)
        if self.classify_above is None:
            return np.ones(len(graphs), dtype=bool)
        return outputs(self.classifier_, self._alike(graphs), resolve(self.device)) > 0

    def _design(self) -> Design:
        names = ("kind", "n_layers", "width", "n_hidden", "head_relu", "normalisation", "masked")
        return Design(**{name: getattr(self, name) for name in names})

    def _alike(self, graphs: Graphs) -> Graphs:
        """The graphs, padded or trimmed to what the network reads."""
        n_features = graphs.features.shape[2]
        if n_features != self.n_features_in_:
            raise ValueError(
                f"graphs have {n_features} features a node; the predictor was trained on {self.n_features_in_}"
            )
        graphs = (graphs.trim() if self.masked else graphs).scale(self.scales_)
        n_nodes = graphs.features.shape[1]
        if self.kind == "gcn" and self.masked:
            return graphs
        if n_nodes > self.n_nodes_ or (n_nodes < self.n_nodes_ and not self.masked):
            raise ValueError(
                f"graphs have {n_nodes} nodes; this {self.kind} was trained on {self.n_nodes_}"
                + (" at most" if self.masked else ": pad them alike")
            )
        return graphs.pad(self.n_nodes_)


def faithful(**changes: Any) -> NeuralPredictor:
    """The predictor as the replication's code has it (Trirat and Sawadwuthikul, section IV-C, and their code).

    It differs from the paper in what the code does: padded nodes are pooled with the others, the dense layer before the
    output has no activation, the percentage is clipped so that it has no gradient above a sigmoid of 0.9, the cosine
    ends after 10,000 steps however many are taken, and "weight decay" is a penalty in the loss.

    Parameters
    ----------
    **changes
        Parameters of `NeuralPredictor` to have otherwise.
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
    """The predictor with what hinders it mended; `changes` are parameters of `NeuralPredictor` to have otherwise.

    The dense layer has a ReLU, padding is left out, the cosine ends at the last step, and the target is standardised or
    replaced by normal scores, so that a few architectures that failed do not make up most of the error.
    """
    return NeuralPredictor(**changes)


def fit_many(
    predictor: NeuralPredictor, graphs: Graphs, targets: ArrayLike, training: ArrayLike, seeds: Sequence[int]
) -> list[NeuralPredictor]:
    """Train one predictor on each of many training sets, all side by side.

    Equal to ``[clone(predictor).set_params(seed=seed).fit(graphs[rows], targets[rows]) for rows, seed in ...]`` but for
    rounding, and several times as fast: see benchmarks/predictors.csv.

    Parameters
    ----------
    predictor : NeuralPredictor, which is left as it is
    graphs : Graphs, length n_archs
    targets : array_like, shape (n_archs,)
        As for `NeuralPredictor.fit`; rows that no training set has may be NaN.
    training : array_like of int, shape (n_sets, n_train)
        Positions of the rows of each training set, in an order that matters (batches are drawn from it).
    seeds : sequence of int, length n_sets

    Returns
    -------
    list of NeuralPredictor, fitted, length n_sets
    """
    training = np.asarray(training)
    if training.ndim != 2 or len(training) != len(seeds) or (training.size and training.dtype.kind not in "iu"):
        raise ValueError(
            f"training must be (n_sets, n_train) positions, one set a seed; got {training.shape} and {len(seeds)} "
            f"seeds, and positions of type {training.dtype}"
        )
    if odd := [seed for seed in seeds if not isinstance(seed, Integral)]:
        raise ValueError(f"seeds must be whole numbers, one a set, not {odd[0]!r}")
    training = positions(training.ravel(), len(graphs)).reshape(training.shape)
    predictors = [clone(predictor).set_params(seed=int(seed)) for seed in seeds]
    return _fit(predictors, graphs, targets, training)


@torch.inference_mode(False)
def _fit(
    predictors: list[NeuralPredictor], graphs: Graphs, targets: ArrayLike, training: NDArray[np.int64]
) -> list[NeuralPredictor]:
    """Fit predictors that differ in their seed only, each on its row of `training`."""
    first = predictors[0]
    if first.classify_above is not None and first.output == "loss":
        raise ValueError("classify_above keeps what exceeds it, the worse of losses: predict minus the loss instead")
    y = np.asarray(targets, dtype=float)
    if y.shape != (len(graphs),):
        raise ValueError(f"targets must have shape ({len(graphs)},), one a graph; they have {y.shape}")
    if not training.shape[1]:
        raise ValueError("there are no rows to train on")
    used = y[training]
    check(first.output, used)
    if first.masked:
        graphs = graphs.trim()
    scales, graphs, training = to_scale(graphs, training)
    kept = [np.arange(training.shape[1])] * len(predictors)
    if first.classify_above is not None:
        labels = (used > first.classify_above).astype(float)
        classifiers = _train(predictors, cross_entropy, first.classifier_learning_rate, graphs, training, labels)
        kept = [
            np.flatnonzero(outputs(network, graphs[rows], resolve(first.device)) > 0)
            for network, rows in zip(classifiers, training, strict=True)
        ]
        if any(rows.size < 2 for rows in kept):
            raise ValueError(
                f"a classifier keeps fewer than two of its {training.shape[1]} training rows: classify_above="
                f"{first.classify_above} is too high for targets of up to {used.max():.4g}"
            )
    for size in sorted({rows.size for rows in kept}):
        members = [i for i, rows in enumerate(kept) if rows.size == size]
        some = [predictors[i] for i in members]
        rows, reached = (np.stack([table[i][kept[i]] for i in members]) for table in (training, used))
        wanted = np.stack([encode(first.output, one) for one in reached])
        networks = _train(some, squared_error(first.output), first.learning_rate, graphs, rows, wanted)
        for predictor, network, one in zip(some, networks, reached, strict=True):
            predictor.regressor_, predictor.targets_ = network, one
    if first.classify_above is not None:  # last: a fit that fails leaves no half
        for predictor, network, values in zip(predictors, classifiers, used, strict=True):
            below = values[values <= first.classify_above]
            predictor.classifier_ = network
            predictor.rejected_ = float(below.mean()) if below.size else float(first.classify_above)
    for predictor, of_set in zip(predictors, scales, strict=True):
        predictor.scales_ = of_set
        predictor.n_nodes_, predictor.n_features_in_ = graphs.features.shape[1:]
    return predictors


def _train(
    predictors: Sequence[NeuralPredictor],
    loss: Callable[[Tensor, Tensor], Tensor],
    rate: float,
    graphs: Graphs,
    training: NDArray[np.int64],
    targets: NDArray[np.float64],
) -> list[Networks]:
    """Networks, one a predictor, trained on rows (n_sets, n_train) with targets of that shape, side by side."""
    first = predictors[0]
    design, device = first._design(), resolve(first.device)
    stage = int(loss is cross_entropy)
    sequences = [np.random.SeedSequence(None if one.seed is None else [one.seed, stage]) for one in predictors]
    words = [sequence.generate_state(2) for sequence in sequences]
    generators = [torch.Generator("cpu").manual_seed(int(high) << 31 | int(low)) for high, low in words]
    _, n_nodes, n_features = graphs.features.shape
    networks = initialise(design, n_nodes, n_features, generators).to(device)
    schedule = Schedule(first.n_epochs, first.batch_size, rate, first.horizon, first.penalty, first.dropout)
    rows, wanted = torch.from_numpy(training), torch.from_numpy(targets.astype(np.float32))
    train(networks, inputs(graphs, design, device), rows.to(device), wanted.to(device), loss, schedule, generators)
    return networks.cpu().split()
