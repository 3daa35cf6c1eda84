"""Retrain last linear layers of many networks and epochs at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 26  # features and logits in a batch of all networks that are trained at once


@dataclass(frozen=True)
class Schedule:
    """Training schedule: stochastic gradient descent with momentum on cross-entropy.

    The defaults are those of the study (Feature histories, 2021, section A.1).

    Parameters
    ----------
    n_epochs : int
    batch_size : int
        Images per step; the last batch of an epoch may be smaller.
    rate : float
        Learning rate of the first step. It falls linearly with each step, to 0 after the last. (The study does not
        specify if it falls by step or by epoch.)
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


@torch.inference_mode(False)  # and before no_grad: it turns gradients on
@torch.no_grad()
def retrain(
    features: Tensor,
    labels: Tensor,
    *,
    weights: Tensor,
    biases: Tensor,
    schedule: Schedule = STUDY,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Fine-tune n linear layers in parallel, each on its own features.

    Each step uses batched matrix products.

    Parameters
    ----------
    features : Tensor, shape (n, n_train, width)
        Features of n networks, or of networks in several epochs; images are in the order of the labels.
    labels : Tensor of int64, shape (n_train,)
        Class numbers from 0.
    weights : Tensor, shape (n, n_classes, width)
        Initial weights; not changed.
    biases : Tensor, shape (n, n_classes)
    schedule : Schedule
    seed : int
        Seed of the order of images: one permutation per epoch, the same for all n, drawn on the CPU.
    dtype : torch.dtype
        Type of the arithmetic and the result.

    Returns
    -------
    weights, biases : Tensor
        Retrained layers, of the same shapes.

    Raises
    ------
    FloatingPointError
        If a result is not finite.
    """
    if features.ndim != 3 or weights.ndim != 3:
        shapes = f"{(*features.shape,)} and {(*weights.shape,)}"
        raise ValueError(f"features must be (n, n_train, width) and weights (n, n_classes, width), not {shapes}")
    n, n_train, width = features.shape
    n_classes = weights.shape[1]
    if labels.shape != (n_train,) or weights.shape != (n, n_classes, width) or biases.shape != (n, n_classes):
        raise ValueError(
            f"features of shape {(n, n_train, width)} need labels ({n_train},), weights ({n}, n_classes, {width}) and "
            f"biases ({n}, n_classes), not {(*labels.shape,)}, {(*weights.shape,)} and {(*biases.shape,)}"
        )
    if n_train and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels are from {labels.min()} to {labels.max()}; they must be from 0 to {n_classes - 1}")
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
    """Train weights and biases in place.

    The gradient of cross-entropy by a logit is softmax, minus 1 at the label.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    n_train, device = len(labels), features.device
    indicators = torch.eye(w.shape[1], dtype=w.dtype, device=device)
    momentum_w, momentum_b = torch.zeros_like(w), torch.zeros_like(b)
    n_steps, step = schedule.n_epochs * -(-n_train // schedule.batch_size), 0
    for _ in range(schedule.n_epochs):
        order = torch.randperm(n_train, generator=generator, device="cpu").to(device)
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


@torch.no_grad()
def probabilities(features: Tensor, layers: tuple[Tensor, Tensor]) -> Tensor:
    """Compute softmax outputs of n linear layers, each on its own features.

    The result has shape (n, n_images, n_classes) and the weights' type.

    Features (n, n_images, width) are as in `retrain`, and layers are weights (n, n_classes, width) and biases
    (n, n_classes), as it returns them.
    """
    weights, biases = layers
    return _softmax(features.to(weights.dtype), weights, biases).transpose(1, 2)


def _softmax(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Compute softmax outputs (n, n_classes, n_images).

    Softmax over an axis that is not the last one is several times faster on CPUs.
    """
    return torch.baddbmm(b[:, :, None], w, x.transpose(1, 2)).softmax(dim=1)
