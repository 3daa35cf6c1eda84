"""Neural predictors of accuracy from graphs, as scikit-learn estimators."""

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
from naaplib.estimators.predictors.design import Design, Schedule
from naaplib.estimators.predictors.networks import Networks, initialise, inputs, outputs, read, read_again, train
from naaplib.estimators.predictors.targets import check, cross_entropy, decode, encode, squared_error
from naaplib.training.devices import resolve


class NeuralPredictor(RegressorMixin, BaseEstimator):
    """A network that predicts accuracy from the graph of an architecture.

    Features of nodes may be in any unit: `fit` standardises those that are not of order one by the training nodes'
    means and standard deviations (`naaplib.architectures.dense_graphs.Graphs.scales`), and so does `predict`. An array
    (n_archs, n_features) counts as graphs of one node.
    `.presets.faithful` makes the replicated predictor, and `.presets.tuned` the improved one before its last revision.

    Parameters
    ----------
    kind : {"gcn", "mlp", "cnn"}
        Kind of network; see `naaplib.estimators.predictors.networks.Networks`.
    n_layers, width : int
        Number of layers of that kind, and units of each.
    n_hidden : int or sequence of int
        Units of the dense layer between pooling and output, or of several such layers.
    head_relu : bool
        True adds a ReLU to those dense layers. On validation rows of chapter 08 it does not help.
    normalisation : {"symmetric", "none"}
        Normalisation of the adjacency matrices. "none" helps on some spaces and harms on others: let validation choose.
    masked : bool
        True ignores padded nodes, so that predictions do not depend on padding. If false, they count, as in the
        replication, and graphs must have the same padding in `fit` and `predict`.
    output : {"shifted", "sigmoid", "loss", "standardised", "normal scores"}
        Meaning of the last layer's output z, and unit of the squared error.

        - "shifted": a percentage, min(100, 100 sigmoid(z) + 10), of an accuracy; "sigmoid": 100 sigmoid(z)
        - "loss": a loss, max(0, z); a network whose initial outputs are all 0 has no gradient and never learns
        - "standardised": the target, standardised over the training rows
        - "normal scores": the normal quantile of the target's rank among the training rows; predictions are
          interpolated between training targets and extrapolated linearly outside, so that the order of z is preserved
    classify_above : float or None
        A number gives two stages: a classifier learns if an architecture exceeds it (in the target's unit), and the
        regressor is trained on the training rows that the classifier accepts (probability above one half).
    dropout : float
        Dropout rate of the hidden units.
    penalty : float
        Weight decay as a factor on the sum of squares of all kernels in the loss.
    n_epochs, batch_size : int
        The last batch of an epoch may be smaller.
    learning_rate, classifier_learning_rate : float
        Learning rates of Adam at the first step; they fall as a cosine.
    horizon : int or None
        Step at which the cosine reaches 0 and stays there; None takes the last step.
    seed : int or None
        Seed of weights, order of rows, and dropout; None draws a new seed in each fit, which is not reproducible.
    device : str
        Device of training and prediction: "cpu", "cuda", or "auto". Random numbers are the same on all. The trained
        network is stored on the CPU, so that other machines can use it.

    Attributes
    ----------
    scales_ : ndarray, shape (2, n_features)
        Means and scales of the features.
    n_nodes_, n_features_in_ : int
        Sizes of the graphs that the network reads.
    """

    def __init__(
        self,
        kind: str = "gcn",
        n_layers: int = 3,
        *,
        width: int = 64,
        n_hidden: int | Sequence[int] = 128,
        head_relu: bool = False,
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

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Train on graphs and their targets (n_archs,): fractions, or losses.

        Raises
        ------
        ValueError
            If a parameter is invalid, if graphs and targets differ in number, or if a target is NaN or outside the
            range of the output.
        FloatingPointError
            If training diverges.
        """
        graphs, targets = read(self, X, y=y)
        return _fit([self], graphs, targets, np.arange(len(graphs))[None])[0]

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the targets of graphs, shape (n_archs,), in their order.

        With two stages, all architectures that the classifier rejects get the mean of the training targets up to
        `classify_above`, or that number if there are none.

        Raises
        ------
        ValueError
            If graphs have other features than the training graphs, or more nodes than the network can read.
        FloatingPointError
            If a prediction is not finite, as for features far from the training data.
        """
        check_is_fitted(self)
        graphs = self._alike(read_again(self, X))
        predicted = decode(self.output, self.targets_, z=outputs(self.regressor_, graphs, device=resolve(self.device)))
        if self.classify_above is None:
            return predicted
        return np.where(self.keeps(X), predicted, self.rejected_)

    def keeps(self, X: Any) -> NDArray[np.bool_]:
        """Mark the architectures that the classifier accepts; all without two stages."""
        check_is_fitted(self)
        graphs = read_again(self, X)
        if self.classify_above is None:
            return np.ones(len(graphs), dtype=bool)
        return outputs(self.classifier_, self._alike(graphs), device=resolve(self.device)) > 0

    def _design(self) -> Design:
        names = ("kind", "n_layers", "width", "head_relu", "normalisation", "masked")
        n_hidden = self.n_hidden if isinstance(self.n_hidden, Sequence) else [self.n_hidden]
        return Design(**{name: getattr(self, name) for name in names}, n_hidden=tuple(n_hidden))

    def _alike(self, graphs: Graphs) -> Graphs:
        """Pad or trim the graphs to the size that the network reads."""
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


def fit_many(
    predictor: NeuralPredictor, graphs: Graphs, *, targets: ArrayLike, training: ArrayLike, seeds: Sequence[int]
) -> list[NeuralPredictor]:
    """Train one predictor on each of many training sets, side by side.

    The result equals ``[clone(predictor).set_params(seed=seed).fit(graphs[rows], targets[rows]) for rows, seed in
    ...]`` up to rounding, and is computed several times as fast (see benchmarks/predictors.csv).

    Parameters
    ----------
    predictor : NeuralPredictor, which does not change
    graphs : Graphs, length n_archs
    targets : array_like, shape (n_archs,)
        As in `NeuralPredictor.fit`; rows in no training set may be NaN.
    training : array_like of int, shape (n_sets, n_train)
        Positions of the rows of each training set. Their order matters, because batches are drawn from it.
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
    """Fit predictors that differ only in their seed, each on its row of `training`."""
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
        classifiers = _train(
            predictors,
            cross_entropy,
            rate=first.classifier_learning_rate,
            graphs=graphs,
            training=training,
            targets=labels,
        )
        kept = [
            np.flatnonzero(outputs(network, graphs[rows], device=resolve(first.device)) > 0)
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
        networks = _train(
            some, squared_error(first.output), rate=first.learning_rate, graphs=graphs, training=rows, targets=wanted
        )
        for predictor, network, one in zip(some, networks, reached, strict=True):
            predictor.regressor_, predictor.targets_ = network, one
    if first.classify_above is not None:  # last, so that a failed fit changes nothing
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
    """Train networks side by side, one per predictor; rows are (n_sets, n_train)."""
    first = predictors[0]
    design, device = first._design(), resolve(first.device)
    stage = int(loss is cross_entropy)
    sequences = [np.random.SeedSequence(None if one.seed is None else [one.seed, stage]) for one in predictors]
    words = [sequence.generate_state(2) for sequence in sequences]
    generators = [torch.Generator("cpu").manual_seed(int(high) << 31 | int(low)) for high, low in words]
    _, n_nodes, n_features = graphs.features.shape
    networks = initialise(design, n_nodes, n_features=n_features, generators=generators).to(device)
    schedule = Schedule(
        first.n_epochs, first.batch_size, rate=rate, horizon=first.horizon, penalty=first.penalty, dropout=first.dropout
    )
    rows, wanted = torch.from_numpy(training), torch.from_numpy(targets.astype(np.float32))
    train(
        networks,
        inputs(graphs, design, device=device),
        rows=rows.to(device),
        targets=wanted.to(device),
        loss=loss,
        schedule=schedule,
        generators=generators,
    )
    return networks.cpu().split()
