"""Feature histories as estimators: classifiers retrained on recent epochs' features, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from naaplib.training.feature_history import EpochFeatures, FeatureHistory

CHUNK = 1 << 26  # numbers of a batch of features and logits, of as many networks as are trained at once


@dataclass(frozen=True)
class Schedule:
    """How a linear layer is retrained: by stochastic gradient descent with momentum on cross-entropy.

    The defaults are those of the study (Feature histories, 2021, section A.1).

    Parameters
    ----------
    n_epochs : int
    batch_size : int
        Images a step; the last batch of an epoch is smaller where the number of images is no multiple.
    rate : float
        Learning rate of the first step. It falls linearly from step to step: the step after the last would have 0.
        (The study says that it falls linearly, not whether by step or by epoch.)
    momentum, weight_decay : float
        As in ``torch.optim.SGD``; weights and biases decay.
    """

    n_epochs: int = 5
    batch_size: int = 1024
    rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.n_epochs < 0 or self.batch_size < 1:
            raise ValueError(f"n_epochs {self.n_epochs} must be 0 or more, batch_size {self.batch_size} 1 or more")


STUDY = Schedule()


def retrain(
    features: Tensor,
    labels: Tensor,
    weights: Tensor,
    biases: Tensor,
    schedule: Schedule = STUDY,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Train linear layers on, each on features of its own: all of them in each step, as batched products of matrices.

    Parameters
    ----------
    features : Tensor, shape (n, n_train, width)
        Of n networks, or of networks in several epochs, images in the order of the labels.
    labels : Tensor of int64, shape (n_train,)
        Class numbers from 0.
    weights : Tensor, shape (n, n_classes, width)
        To begin with; not changed.
    biases : Tensor, shape (n, n_classes)
    schedule : Schedule
    seed : int
        Of the order of images: one permutation an epoch, the same for all n, drawn on the CPU.
    dtype : torch.dtype
        Of the arithmetic and the result.

    Returns
    -------
    weights, biases : Tensor
        Of the same shapes.

    Raises
    ------
    FloatingPointError
        If a result is not finite.
    """
    n, n_train, width = features.shape
    n_classes = weights.shape[1]
    if labels.shape != (n_train,) or weights.shape != (n, n_classes, width) or biases.shape != (n, n_classes):
        raise ValueError(
            f"features of shape {(n, n_train, width)} need labels ({n_train},), weights ({n}, n_classes, {width}) and "
            f"biases ({n}, n_classes), not {(*labels.shape,)}, {(*weights.shape,)} and {(*biases.shape,)}"
        )
    w, b = weights.detach().to(dtype, copy=True), biases.detach().to(dtype, copy=True)
    size = max(CHUNK // (min(schedule.batch_size, n_train) * (width + 2 * n_classes)), 1)
    for part in zip(features.split(size), w.split(size), b.split(size), strict=True):
        _descend(*part, labels, schedule, seed)
    finite = w.isfinite().flatten(1).all(dim=1) & b.isfinite().all(dim=1)
    if not finite.all():
        raise FloatingPointError(
            f"{int((~finite).sum())} of {n} retrained layers are not finite, the first at place "
            f"{int((~finite).int().argmax())}: if the features are finite (in 16 bits they end at 65,504), lower the "
            f"schedule's rate, which is {schedule.rate}"
        )
    return w, b


def _descend(features: Tensor, w: Tensor, b: Tensor, labels: Tensor, schedule: Schedule, seed: int) -> None:
    """Train weights and biases in place. The gradient of cross-entropy by a logit is softmax less 1 at the label."""
    generator = torch.Generator().manual_seed(seed)
    n_train, device = len(labels), features.device
    indicators = torch.eye(w.shape[1], dtype=w.dtype, device=device)
    momentum_w, momentum_b = torch.zeros_like(w), torch.zeros_like(b)
    n_steps, step = schedule.n_epochs * -(-n_train // schedule.batch_size), 0
    for _ in range(schedule.n_epochs):
        order = torch.randperm(n_train, generator=generator).to(device)
        for rows in order.split(schedule.batch_size):
            x = features.index_select(1, rows).to(w.dtype)  # layer, image, feature
            slope = _softmax(x, w, b)  # layer, class, image
            slope.sub_(indicators.index_select(1, labels[rows])).div_(len(rows))
            rate = schedule.rate * (1 - step / n_steps)
            momentum_w.mul_(schedule.momentum).baddbmm_(slope, x).add_(w, alpha=schedule.weight_decay)
            momentum_b.mul_(schedule.momentum).add_(slope.sum(dim=2)).add_(b, alpha=schedule.weight_decay)
            w.sub_(momentum_w, alpha=rate)
            b.sub_(momentum_b, alpha=rate)
            step += 1


def probabilities(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Softmax outputs (n, n_images, n_classes), in the weights' type, of n linear layers on features of their own.

    Features (n, n_images, width), weights (n, n_classes, width) and biases (n, n_classes) are as for `retrain`.
    """
    return _softmax(features.to(weights.dtype), weights, biases).transpose(1, 2)


def _softmax(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Softmax outputs (n, n_classes, n_images): over an axis that is not the last CPUs form it several times faster."""
    return torch.baddbmm(b[:, :, None], w, x.transpose(1, 2)).softmax(dim=1)


def correct(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Whether the most probable class, of equally probable ones the first, is the image's own.

    Probabilities (n, n_images, n_classes) and labels (n_images,) to bool (n, n_images).
    """
    return probabilities.argmax(dim=2) == labels


def window(epoch: int, k: int = 10, cycle: int | None = None) -> list[int]:
    """The epochs whose classifiers an ensemble after an epoch is made of.

    Parameters
    ----------
    epoch : int
        From 1.
    k : int
        How many epochs, or all that there were where there were fewer (the study does not say).
    cycle : int, optional
        Length of the learning rate's cycle: only epochs that end one are taken, so that all are in the same phase. k
        then counts cycles. Before the first one has ended, the epoch itself is all there is.

    Returns
    -------
    list of int
        In ascending order.

    Examples
    --------
    >>> window(12, 10)
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    >>> window(2, 10)
    [1, 2]
    >>> window(13, 3, cycle=3), window(3, 3, cycle=3), window(2, 3, cycle=3)
    ([6, 9, 12], [3], [2])
    """
    step = 1 if cycle is None else cycle
    if epoch < 1 or k < 1 or step < 1:
        raise ValueError(f"epoch is {epoch}, k {k} and cycle {cycle}; all must be 1 or more")
    return [step * i for i in range(max(epoch // step - k, 0) + 1, epoch // step + 1)] or [epoch]


class Ensemble:
    """Retrained classifiers of recent epochs, and what they say together of images that are not trained on.

    The study's three classifiers (section 3.1.2) are *original*, the network's own; *optimised*, the one retrained on
    an epoch's features; and *ensemble*, the mean of the softmax outputs of the retrained ones of a window. What a
    retrained classifier says does not depend on the window, so each is trained once, when its epoch is added, and only
    its outputs are kept; any window can then be asked for.

    Parameters
    ----------
    size : int
        Epochs whose outputs are kept: as far back as windows are to reach. An epoch takes (4 * n_classes + 1) bytes a
        network and image.
    schedule : Schedule
    seed : int
        Of the order of images in retraining, in every epoch alike.
    dtype : torch.dtype
    """

    def __init__(
        self, size: int = 10, schedule: Schedule = STUDY, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; an ensemble keeps 1 epoch or more")
        self.size, self.schedule, self.seed, self.dtype = size, schedule, seed, dtype
        self._labels: Mapping[str, Tensor] = {}
        self._original: dict[int, dict[str, Tensor]] = {}
        self._retrained: dict[int, dict[str, Tensor]] = {}

    @property
    def epochs(self) -> list[int]:
        """Epochs whose outputs are kept, in the order in which they were added."""
        return list(self._retrained)

    def add(self, *records: EpochFeatures) -> None:
        """Retrain the classifiers of an epoch; of several epochs all at once, which copies their training features."""
        retrained = retrain(
            records[0].train if len(records) == 1 else torch.cat([record.train for record in records]),
            records[0].train_labels,
            torch.cat([record.weights for record in records]),
            torch.cat([record.biases for record in records]),
            self.schedule,
            self.seed,
            self.dtype,
        )
        n_networks = len(records[0].weights)
        for record, w, b in zip(records, *(part.split(n_networks) for part in retrained), strict=True):
            self._labels = record.held_labels
            own = record.weights.to(self.dtype), record.biases.to(self.dtype)
            self._original[record.epoch] = {
                name: correct(probabilities(x, *own), record.held_labels[name]) for name, x in record.held.items()
            }
            self._retrained[record.epoch] = {name: probabilities(x, w, b) for name, x in record.held.items()}
        for epoch in self.epochs[: -self.size]:
            del self._original[epoch], self._retrained[epoch]

    def _check(self, images: str, epochs: Sequence[int]) -> None:
        if images not in self._labels:
            raise ValueError(f"there are no images named {images!r}; there are {', '.join(map(repr, self._labels))}")
        if missing := [epoch for epoch in epochs if epoch not in self._retrained]:
            raise LookupError(
                f"epochs {missing} are not kept, but {self.epochs}: take a larger size, which is {self.size}, or a "
                f"shorter window"
            )
        if not epochs:
            raise ValueError("an ensemble needs one epoch or more")

    def original(self, images: str, epoch: int) -> Tensor:
        """Which images each network itself classified correctly after an epoch; bool, (n_networks, n_images).

        From features in 16 bits, so that an image on the border between classes may differ from the network's own test.
        """
        self._check(images, [epoch])
        return self._original[epoch][images]

    def correct(self, images: str, epochs: Sequence[int]) -> Tensor:
        """Which images the mean of the retrained classifiers of some epochs classifies correctly.

        Parameters
        ----------
        images : str
            Name of a set of images in the history.
        epochs : sequence of int
            The window; one epoch alone gives the *optimised* classifier.

        Returns
        -------
        Tensor of bool, shape (n_networks, n_images)
        """
        self._check(images, epochs)
        mean = torch.stack([self._retrained[epoch][images] for epoch in epochs]).mean(dim=0)
        return correct(mean, self._labels[images])

    def accuracies(self, windows: Mapping[str, Sequence[int]]) -> pd.DataFrame:
        """Accuracies after the epoch that was added last.

        Parameters
        ----------
        windows : mapping from name to sequence of int
            Epochs of each ensemble that is asked for; see `window`.

        Returns
        -------
        DataFrame, shape (n_sets * n_networks, 5 or more)
            epoch; images: name of the set; network: place from 0; original; optimised; then one column for each
            window. Fractions in [0, 1]. Sets in the order of the history, networks in theirs.
        """
        epoch = self.epochs[-1]
        tables = []
        for images in self._labels:
            each = {"original": self.original(images, epoch), "optimised": self.correct(images, [epoch])}
            each |= {name: self.correct(images, epochs) for name, epochs in windows.items()}
            counts = torch.stack([kept.sum(dim=1) for kept in each.values()], dim=1).cpu().numpy()
            table = pd.DataFrame(counts / len(self._labels[images]), columns=list(each))
            table.insert(0, "epoch", epoch)
            table.insert(1, "images", images)
            table.insert(2, "network", range(len(table)))
            tables.append(table)
        return pd.concat(tables, ignore_index=True)


def estimate(
    history: FeatureHistory,
    epochs: Sequence[int],
    schedule: Schedule = STUDY,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """Accuracy of the original, the optimised and the ensemble of classifiers from a history.

    Parameters
    ----------
    history : FeatureHistory
    epochs : sequence of int
        The ensemble's, all in the history; see `window`. The last one's are the original and the optimised.
    schedule, seed, dtype
        As for `retrain`. All epochs' classifiers are trained at once, from a copy of the features.

    Returns
    -------
    DataFrame, shape (n_sets * n_networks, 6)
        epoch, images, network, original, optimised, ensemble: as `Ensemble.accuracies` has them.
    """
    ensemble = Ensemble(len(epochs), schedule, seed, dtype)
    ensemble.add(*(history[epoch] for epoch in epochs))
    return ensemble.accuracies({"ensemble": epochs})
