"""Estimate accuracy early from classifiers retrained on recent epochs' features.

The source is Feature histories (CMU-RI-TR-21-09, 2021), sections 3.1 and A.1. The module `linear` retrains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from naaplib.estimators.histories.linear import STUDY, Schedule, probabilities, retrain
from naaplib.training.feature_history import EpochFeatures, FeatureHistory


def correct(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mark images whose most probable class is their label; ties take the first.

    Parameters
    ----------
    probabilities : Tensor, shape (n, n_images, n_classes)
    labels : Tensor, shape (n_images,)

    Returns
    -------
    Tensor of bool, shape (n, n_images)
    """
    return probabilities.argmax(dim=2) == labels


def window(epoch: int, k: int = 10, *, cycle: int | None = None) -> list[int]:
    """List the epochs whose classifiers form the ensemble after an epoch.

    Parameters
    ----------
    epoch : int
        Last epoch, from 1.
    k : int
        Number of epochs; all epochs if there were fewer (the study does not define this case).
    cycle : int, optional
        Epochs per cycle of the learning rate. The window then holds the last epoch of each cycle, so that all have the
        same phase, and k counts cycles. Before the end of the first cycle, the window is the epoch itself.

    Returns
    -------
    list of int
        Epochs in ascending order.

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
    """Classifiers retrained on each recent epoch, and their mean outputs.

    The study's three classifiers (section 3.1.2) are *original*, the network's own; *optimised*, the one retrained on
    an epoch's features; and *ensemble*, the mean of the softmax outputs of the retrained ones of a window. The outputs
    of a retrained classifier do not depend on the window. So each is trained once, when its epoch is added, and its
    outputs are cached for any window.

    Parameters
    ----------
    size : int
        Number of epochs whose outputs are cached, which limits the windows. An epoch takes (4 * n_classes + 1) bytes
        per network and image.
    schedule : Schedule
    seed : int
        Seed of the order of images in retraining, the same for every epoch.
    dtype : torch.dtype
    """

    def __init__(
        self, size: int = 10, schedule: Schedule = STUDY, *, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; an ensemble keeps 1 epoch or more")
        self.size, self.schedule, self.seed, self.dtype = size, schedule, seed, dtype
        self._labels: Mapping[str, Tensor] = {}
        self._original: dict[int, dict[str, Tensor]] = {}
        self._retrained: dict[int, dict[str, Tensor]] = {}

    @property
    def epochs(self) -> list[int]:
        """Epochs whose outputs are cached, in ascending order."""
        return list(self._retrained)

    def add(self, *records: EpochFeatures) -> None:
        """Retrain the classifiers of the next epoch of a run.

        Several epochs are retrained at once, from a copy of their features.

        Epochs must ascend from 1, else ValueError. At most `size` epochs stay in the cache; the oldest are dropped
        first.
        """
        epochs = [*self.epochs, *(record.epoch for record in records)]
        if not records or epochs != sorted(set(epochs)) or epochs[0] < 1:
            raise ValueError(
                f"epochs would be kept as {epochs}; add one or more, each once, in ascending order, counted from 1"
            )
        retrained = retrain(
            records[0].train if len(records) == 1 else torch.cat([record.train for record in records]),
            records[0].train_labels,
            weights=torch.cat([record.weights for record in records]),
            biases=torch.cat([record.biases for record in records]),
            schedule=self.schedule,
            seed=self.seed,
            dtype=self.dtype,
        )
        n_networks = len(records[0].weights)
        for record, w, b in zip(records, *(part.split(n_networks) for part in retrained), strict=True):
            self._labels = record.held_labels
            own = record.weights.to(self.dtype), record.biases.to(self.dtype)
            self._original[record.epoch] = {
                name: correct(probabilities(x, own), record.held_labels[name]) for name, x in record.held.items()
            }
            self._retrained[record.epoch] = {name: probabilities(x, (w, b)) for name, x in record.held.items()}
        for epoch in epochs[: -self.size]:
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
        """Mark the images that each network classified correctly after an epoch.

        The result is bool, (n_networks, n_images).

        It is computed from features in 16 bits. So an image between two classes may differ from the network's own test.
        """
        self._check(images, [epoch])
        return self._original[epoch][images]

    def correct(self, images: str, epochs: Sequence[int]) -> Tensor:
        """Mark the images that the mean of the retrained classifiers gets right.

        Parameters
        ----------
        images : str
            Name of a set of images in the history.
        epochs : sequence of int
            Epochs of the window; one epoch alone gives the *optimised* classifier.

        Returns
        -------
        Tensor of bool, shape (n_networks, n_images)
        """
        self._check(images, epochs)
        mean = torch.stack([self._retrained[epoch][images] for epoch in epochs]).mean(dim=0)
        return correct(mean, self._labels[images])

    def accuracies(self, windows: Mapping[str, Sequence[int]]) -> pd.DataFrame:
        """Compute accuracies after the latest epoch.

        Parameters
        ----------
        windows : mapping from name to sequence of int
            Epochs of each ensemble; see `window`.

        Returns
        -------
        DataFrame, shape (n_sets * n_networks, 5 or more)
            Columns epoch, images (name of the set), network (index from 0), original, optimised, and one for each
            window. Accuracies are fractions in [0, 1]. Sets and networks are in the order of the history.
        """
        if not self.epochs:
            raise ValueError("no epoch was added so far; an ensemble needs one epoch or more")
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
    *,
    schedule: Schedule = STUDY,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> pd.DataFrame:
    """Estimate accuracies from a feature history by ensembles of classifiers.

    Parameters
    ----------
    history : FeatureHistory
    epochs : sequence of int
        Epochs of the ensemble, ascending and all in the history; see `window`. The columns original and optimised
        belong to the last epoch.
    schedule, seed, dtype
        As in `naaplib.estimators.histories.linear.retrain`. All classifiers are trained at once, on a copy of the
        features.

    Returns
    -------
    DataFrame, shape (n_sets * n_networks, 6)
        Columns epoch, images, network, original, optimised, ensemble, as in `Ensemble.accuracies`.
    """
    if not len(epochs):
        raise ValueError("epochs are none; an ensemble needs one epoch or more, as `window` gives them")
    ensemble = Ensemble(len(epochs), schedule, seed=seed, dtype=dtype)
    ensemble.add(*(history[epoch] for epoch in epochs))
    return ensemble.accuracies({"ensemble": epochs})
