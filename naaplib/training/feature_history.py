"""Feature histories: inputs of last linear layers in recent epochs."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from naaplib.training.cifar10 import normalise
from naaplib.training.single import TEST_BATCH
from naaplib.training.stacked import Head
from naaplib.training.trainer import Trainer, arithmetic
from naaplib.training.watch import Watch, check_classes, evaluation, whole_numbers

KINDS = ("forward", "frozen")


@dataclass(frozen=True, eq=False)
class EpochFeatures:
    """Inputs of the last linear layers in one epoch, and their weights after it.

    Networks are in the order given to the trainer; one network has a first axis of length 1. Networks whose last
    widths differ are padded with columns of zeros to the widest. That changes nothing: a zero column adds nothing to a
    logit, and the gradient of its weights, which begin at zero, is zero, so that they stay there.

    Parameters
    ----------
    epoch : int
    train : Tensor of float16, shape (n_networks, n_train, width)
        Images in the order of the training labels.
    train_labels : Tensor of int64, shape (n_train,)
    held : mapping from name to Tensor of float16, shape (n_networks, n_images, width)
        Features of validation or test images, in evaluation mode after the epoch.
    held_labels : mapping from name to Tensor of int64, shape (n_images,)
    weights : Tensor of float32, shape (n_networks, n_classes, width)
    biases : Tensor of float32, shape (n_networks, n_classes)
    """

    epoch: int
    train: Tensor
    train_labels: Tensor
    held: Mapping[str, Tensor]
    held_labels: Mapping[str, Tensor]
    weights: Tensor
    biases: Tensor


def n_bytes(n_networks: int, n_train: int, *, n_held: int, width: int, n_classes: int = 10, size: int = 10) -> int:
    """Compute the memory of a `FeatureHistory` in advance.

    Parameters
    ----------
    n_networks, n_train : int
    n_held : int
        Number of images in all validation and test sets.
    width : int
        Largest last width of the networks.
    n_classes : int
    size : int
        Number of stored epochs.

    Returns
    -------
    int
        Two bytes per feature, four per weight, without `Trainer.features` or a `Watch`, which collect an epoch.

    Examples
    --------
    All of NAAP-440, with 5,000 validation images and the test images:

    >>> f"{n_bytes(440, 45_000, n_held=15_000, width=40) / 2**30:.1f} GiB"
    '19.7 GiB'
    """
    return size * n_networks * (2 * width * (n_train + n_held) + 4 * n_classes * (width + 1))


class FeatureHistory:
    """Features of the last epochs of a training run, on the features' device.

    The source is Feature histories (2021), section 3.1.3, Algorithm 1.

    Nothing is saved: a run that resumes from a checkpoint begins with an empty history.

    Parameters
    ----------
    held : mapping from name to (images, labels)
        Validation and test images, such as {"holdout": (...), "test": (...)}: for a `Trainer` uint8 as in `Images`,
        for a `Watch` as its model takes them. Labels are int64 of shape (n_images,).
    size : int
        Number of stored epochs. The study's ensembles use 10; one is enough if each epoch is used at once.
    features : {"forward", "frozen"}
        Features of the training images. "forward" takes them from the epoch's training steps, while weights change, as
        in the study; "frozen" takes a pass in evaluation mode after the epoch, which costs about a third of an epoch's
        time.
    max_bytes : int, optional
        Limit of the memory; see `n_bytes`.

    Examples
    --------
    A population calls `FeatureHistory.take` after every epoch:

    >>> from naaplib.training.population import train_population
    >>> def run(schemes, images, x, y):
    ...     history = FeatureHistory({"test": (x, y)})
    ...     train_population(schemes, images, keep_features=True, after_epoch=history.take)
    ...     return history
    """

    def __init__(
        self,
        held: Mapping[str, tuple[Tensor, Tensor | NDArray | Sequence[int]]],
        size: int = 10,
        *,
        features: str = "forward",
        max_bytes: int | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; a history holds 1 epoch or more")
        if features not in KINDS:
            raise ValueError(f"features is {features!r}; it must be one of {', '.join(KINDS)}")
        self.size, self.kind, self.max_bytes = size, features, max_bytes
        self._images = {name: images for name, (images, _) in held.items()}
        self._labels = {name: whole_numbers(labels, f"the labels of {name!r}") for name, (_, labels) in held.items()}
        for name, images in self._images.items():
            if self._labels[name].shape != images.shape[:1]:
                shape = (*self._labels[name].shape,)
                raise ValueError(
                    f"{name!r} has {len(images)} images and labels of shape {shape}; give one label an image"
                )
            if not len(images):
                raise ValueError(f"{name!r} has no images, of which there is no accuracy; leave it out")
        self._records: dict[int, EpochFeatures] = {}

    @property
    def epochs(self) -> list[int]:
        """Stored epochs, in ascending order."""
        return list(self._records)

    def __getitem__(self, epoch: int) -> EpochFeatures:
        """Return the features of an epoch; LookupError if it is not stored."""
        if epoch not in self._records:
            there = f"epochs {', '.join(map(str, self.epochs))}" if self._records else "no epoch so far"
            raise LookupError(f"epoch {epoch} is not in the history, which holds {there}; its size is {self.size}")
        return self._records[epoch]

    def take(self, epoch: int, source: Trainer | Watch) -> None:
        """Record an epoch that was just trained; drop the oldest beyond `size`.

        Parameters
        ----------
        epoch : int
            Epoch from 1, later than those recorded so far.
        source : Trainer or Watch
            With `features` = "forward": a trainer with `keep_features`, or a watch that recorded every training image.

        Raises
        ------
        MemoryError
            At the first epoch, before anything is recorded, if the history would exceed `max_bytes`.
        ValueError
            If the epoch is not later, a label is not a class, or there are no features of its training images. The call
            can be repeated after a correction.
        """
        epoch = operator.index(epoch)
        if epoch < 1:
            raise ValueError(f"epoch is {epoch}; epochs are counted from 1, as `histories.window` counts them")
        if self._records and epoch <= self.epochs[-1]:
            raise ValueError(f"epoch {epoch} was to be recorded after epoch {self.epochs[-1]}; epochs must ascend")
        networks = _Population(source) if isinstance(source, Trainer) else source
        weights, biases = networks.classifiers()
        if not self._records:
            self._check_memory(weights.shape, len(networks.labels))
            check_classes(networks.labels, weights.shape[1], name="the training labels")
            for name, labels in self._labels.items():
                check_classes(labels, weights.shape[1], name=f"the labels of {name!r}")
            self._labels = {name: labels.to(weights.device) for name, labels in self._labels.items()}
        if len(self._records) == self.size:  # first, so that the memory never exceeds its limit
            del self._records[self.epochs[0]]
        held = {name: networks.features(images) for name, images in self._images.items()}
        # last: a watch gives an epoch's features once, and an error must not lose them
        train = networks.seen() if self.kind == "forward" else networks.features(networks.images)
        self._records[epoch] = EpochFeatures(
            epoch,
            train,
            train_labels=networks.labels,
            held=held,
            held_labels=self._labels,
            weights=weights,
            biases=biases,
        )

    def _check_memory(self, shape: torch.Size, n_train: int) -> None:
        n_networks, n_classes, width = shape
        n_held = sum(map(len, self._images.values()))
        needed = n_bytes(n_networks, n_train, n_held=n_held, width=width, n_classes=n_classes, size=self.size)
        if self.max_bytes is not None and needed > self.max_bytes:
            raise MemoryError(
                f"a history of {self.size} epochs, {n_networks} networks, {n_train} training and {n_held} other images "
                f"and {width} features takes {needed:,} bytes; max_bytes is {self.max_bytes:,}. Keep fewer epochs or "
                f"images, or train fewer networks at a time."
            )


class _Population:
    """The networks of a trainer, with the interface of a `Watch`."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.network = trainer, trainer.network
        self.images, self.labels = trainer.images, trainer.labels
        self.width = max(width for _, width in self.network.columns)

    def _heads(self) -> Iterator[tuple[Head, list[int]]]:
        """Return the heads, each with the networks whose linear layers it holds."""
        places = iter(self.network.columns)
        for head in self.network.heads:
            yield head, [next(places)[0] for _ in head.bias]

    def _pad(self, features: Tensor) -> Tensor:
        """Pad features (n, sum of last widths) to float16 (n_networks, n, width)."""
        sizes = [head.n_features for head in self.network.heads]
        padded = features.new_zeros(len(self.network.schemes), len(features), self.width, dtype=torch.float16)
        for (_, members), part in zip(self._heads(), features.split(sizes, dim=1), strict=True):
            each = part.half().unflatten(1, (len(members), -1)).transpose(0, 1)
            padded[members, :, : each.shape[2]] = each
        return padded

    def seen(self) -> Tensor:
        if self.trainer.features is None:
            raise ValueError("the trainer keeps no features; train with keep_features=True, or use features='frozen'")
        return self._pad(self.trainer.features)

    def features(self, images: Tensor) -> Tensor:
        for seen, features in self.trainer.evaluated:  # in this epoch, by the trainer: nothing to compute
            if seen.data_ptr() == images.data_ptr() and seen.shape == images.shape and seen.device == images.device:
                return self._pad(features)
        device, dtype, half = self.trainer.device, self.trainer.dtype, self.trainer.precision == "bf16"
        parts = []
        rounded = torch.autocast(device.type, torch.bfloat16, half, cache_enabled=False)
        with evaluation(self.network), arithmetic(self.trainer.precision), rounded:
            for x in images.split(TEST_BATCH):
                parts.append(self._pad(self.network.features(normalise(x.to(device)).to(dtype))))
        return torch.cat(parts, dim=1)

    def classifiers(self) -> tuple[Tensor, Tensor]:
        first = self.network.heads[0].bias
        n_networks, n_classes = len(self.network.schemes), first.shape[1]
        weights = torch.zeros(n_networks, n_classes, self.width, dtype=torch.float32, device=first.device)
        biases = torch.zeros(n_networks, n_classes, dtype=torch.float32, device=first.device)
        for head, members in self._heads():
            weights[members, :, : head.weight.shape[2]] = head.weight.detach().float()
            biases[members] = head.bias.detach().float()
        return weights, biases
