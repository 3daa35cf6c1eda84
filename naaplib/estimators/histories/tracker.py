"""Feature histories of any training loop, with an estimate after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.hooks import RemovableHandle

from naaplib.estimators.histories.ensemble import Ensemble, window
from naaplib.estimators.histories.linear import STUDY, Schedule
from naaplib.training.feature_history import EpochFeatures
from naaplib.training.watch import Watch, check_classes, whole_numbers

HELD = "held out"
COLUMNS = ["epoch", "accuracy", "estimate", "low", "high", "seconds", "megabytes"]

Labels = Tensor | NDArray | Sequence[int]
Labelled = tuple[Tensor, Labels] | Dataset | Iterable[tuple[Tensor, Tensor]]


class HistoryTracker:
    """Estimate what a network will reach, after each epoch of any training loop.

    The source is Feature histories (CMU-RI-TR-21-09, 2021): the network's last linear layer is retrained on the
    features of each epoch, and the mean output of the last `k` of them is the estimate. It helps while the learning
    rate is high. On NAAP-440 it ranks networks no better than their own accuracy does: see the chapter on feature
    histories.

    It costs a forward pass over the validation images and the retraining of one layer an epoch, and the memory of one
    epoch's features, two bytes each. The training itself does not change by a bit.

    Parameters
    ----------
    model : Module
        Any model whose output is that of an ``nn.Linear`` applied to (n, width).
    held_out : (images, labels), Dataset, or DataLoader
        Images that it is not trained on, as the model takes them, with class numbers from 0.
    criterion : Module, optional
        Loss function, such as ``nn.CrossEntropyLoss()``, called with the model's outputs and class numbers: the tracker
        reads the labels of each batch from it. Without, call `step` after each forward pass.
    k : int
        Number of epochs in the ensemble.
    cycle : int, optional
        Epochs between restarts of the learning rate; see `naaplib.estimators.histories.ensemble.window`.
    finished : DataFrame, optional
        Finished trainings of the same kind: columns epoch, estimate, and final, the accuracy that was reached. They
        give the intervals; ``tracker.table().assign(final=...)`` makes such rows.
    level : float
        Coverage of the intervals, between 0 and 1.
    schedule : Schedule
        Schedule of retraining; by default the study's.
    seed : int
        Seed of the order of images in retraining.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> y = torch.arange(300) % 3
    >>> x = torch.randn(300, 4) + 2 * torch.eye(4)[y]
    >>> model, criterion = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), nn.CrossEntropyLoss()
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> with HistoryTracker(model, (x[200:], y[200:]), criterion=criterion) as tracker:
    ...     for epoch in range(3):
    ...         for rows in torch.randperm(200).split(20):
    ...             optimizer.zero_grad()
    ...             criterion(model(x[rows]), y[rows]).backward()
    ...             optimizer.step()
    ...         row = tracker.end_epoch()
    >>> tracker.table()["epoch"].tolist(), row["low"] < row["estimate"] < row["high"]
    ([1, 2, 3], True)
    """

    def __init__(
        self,
        model: nn.Module,
        held_out: Labelled,
        *,
        criterion: nn.Module | None = None,
        k: int = 10,
        cycle: int | None = None,
        finished: pd.DataFrame | None = None,
        level: float = 0.9,
        schedule: Schedule = STUDY,
        seed: int = 0,
    ) -> None:
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; it must be between 0 and 1")
        if finished is not None and (missing := {"epoch", "estimate", "final"} - set(finished)):
            raise ValueError(f"finished has no column {', '.join(sorted(missing))}; it needs epoch, estimate and final")
        window(1, k, cycle=cycle)  # raises ValueError
        self._images, labels = _tensors(held_out)
        self._labels = whole_numbers(labels, "the labels of the validation images")
        if len(self._labels) != len(self._images) or not len(self._images):
            raise ValueError(
                f"{len(self._images)} validation images have {len(self._labels)} labels; give one an image"
            )
        self.k, self.cycle, self.finished, self.level = k, cycle, finished, level
        self._watch = Watch(model, torch.zeros(0, dtype=torch.int64))
        self._criterion = criterion
        self._hook: RemovableHandle | None = None
        self._ensemble = Ensemble(k * (cycle or 1), schedule, seed=seed)
        self._batches: list[tuple[Tensor, Tensor]] = []  # of this epoch: features and labels
        self._seconds = 0.0
        self._rows: list[dict[str, float]] = []

    def __enter__(self) -> HistoryTracker:
        """Begin to record forward passes in training mode."""
        self._watch.__enter__()
        if self._criterion is not None:
            self._hook = self._criterion.register_forward_hook(self._note, with_kwargs=True)
        return self

    def __exit__(self, *error: Any) -> None:
        """Remove all hooks from the model and the loss function."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._watch.__exit__(None, None, None)

    def _note(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], __: object) -> None:
        given = [*args, *(kwargs[name] for name in ("input", "target") if name in kwargs)]
        if len(given) > 1 and given[0].requires_grad:  # not in a validation
            self.step(given[1])

    def step(self, labels: Labels) -> None:
        """Record the labels of the batch that the model was just given in training mode."""
        start = time.perf_counter()
        labels = whole_numbers(labels, "the labels of a batch")
        features = self._watch.latest(len(labels)).half()
        self._batches.append((features, labels.to(features.device)))
        self._seconds += time.perf_counter() - start

    def end_epoch(self) -> dict[str, float]:
        """Retrain on the epoch's features, and estimate.

        Returns
        -------
        dict
            The epoch's row of `table`.

        Raises
        ------
        ValueError
            If no batch was recorded, or a label is not one of the model's classes.
        """
        start = time.perf_counter()
        if not self._batches:
            raise ValueError(
                "no batch was recorded in this epoch: give criterion, a loss function that is an nn.Module, or call "
                "step(labels) after each forward pass in training mode"
            )
        epoch = len(self._rows) + 1
        weights, biases = self._watch.classifiers()
        labels = torch.cat([labels for _, labels in self._batches])
        self._labels = self._labels.to(labels.device)
        for some, name in (
            (labels, "the labels of the batches"),
            (self._labels, "the labels of the validation images"),
        ):
            check_classes(some, weights.shape[1], name=name)
        record = EpochFeatures(
            epoch,
            torch.cat([features for features, _ in self._batches])[None],
            train_labels=labels,
            held={HELD: self._watch.features(self._images)},
            held_labels={HELD: self._labels},
            weights=weights,
            biases=biases,
        )
        self._ensemble.add(record)
        found = self._ensemble.accuracies({"estimate": window(epoch, self.k, cycle=self.cycle)}).iloc[0]
        estimate, n_held = float(found["estimate"]), len(self._images)
        low, high = self._interval(epoch, estimate)
        n_bytes = 2 * record.train.nbytes + record.held[HELD].nbytes  # batches, and the tensor that they make
        n_bytes += len(self._ensemble.epochs) * n_held * (4 * weights.shape[1] + 1)
        self._batches = []
        seconds, self._seconds = self._seconds + time.perf_counter() - start, 0.0
        values = (epoch, float(found["original"]), estimate, low, high, seconds, n_bytes / 1e6)
        self._rows.append(dict(zip(COLUMNS, values, strict=True)))
        return self._rows[-1]

    def __call__(self, *_: Any, **__: Any) -> dict[str, float]:
        """End an epoch, as a callback; arguments of the caller are ignored."""
        return self.end_epoch()

    def table(self) -> pd.DataFrame:
        """Return the estimates so far.

        Returns
        -------
        DataFrame
            One row an epoch: epoch, from 1; accuracy, the network's own on validation images; estimate; low and high;
            seconds that the tracker took, and megabytes that it used at most.

            With `finished`, the interval is symmetric: the quantile of their absolute errors after the same number of
            epochs. It holds `level` of similar trainings, and is [0, 1] if they are too few. Without, it is Wilson's
            interval for the number of validation images. That says how exactly the estimate was measured, nothing of
            how the training goes on, so that it is too narrow for the final accuracy.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS).astype({"epoch": int})

    def _interval(self, epoch: int, estimate: float) -> tuple[float, float]:
        if self.finished is None:
            return _wilson(estimate, len(self._images), self.level)
        known = self.finished[self.finished["epoch"] == epoch]
        errors = np.sort((known["final"] - known["estimate"]).abs().to_numpy())
        place = math.ceil((len(errors) + 1) * self.level)
        error = errors[place - 1] if place <= len(errors) else 1.0
        return max(estimate - error, 0.0), min(estimate + error, 1.0)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (Wilson 1927)."""
    z = float(norm.ppf((1 + level) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _tensors(held_out: Labelled) -> tuple[Tensor, Labels]:
    """Return images and labels as one tensor each."""
    if isinstance(held_out, tuple | list) and len(held_out) == 2 and isinstance(held_out[0], Tensor):
        return held_out[0], held_out[1]
    batches: Any = DataLoader(held_out, batch_size=1_000) if isinstance(held_out, Dataset) else held_out
    with torch.random.fork_rng(devices=[]):  # a loader draws a random number when it begins
        pairs = [(images, torch.as_tensor(labels)) for images, labels in batches]
    if not pairs:
        raise ValueError("there are no validation images")
    return torch.cat([images for images, _ in pairs]), torch.cat([labels for _, labels in pairs])
