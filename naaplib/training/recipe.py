"""The published training recipe: settings, learning rates, and order of images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

SEED = 20220819  # the published run's seed of initial weights and order of images
# Digest of the published run's order of 50,000 images in 90 epochs; see `order_digest`.
ORDER_SHA256 = "7938682ae762ac02d7d236f11ebcb9b813412ad2f57eddceafdec5fa4201cc5c"


@dataclass(frozen=True)
class Recipe:
    """Training recipe: SGD with momentum on cross-entropy, with warm restarts.

    The defaults are those of NAAP-440 (Hakim 2022), section 2. Restarts do not reset momentum. There is no
    augmentation.

    Parameters
    ----------
    n_epochs : int
    batch_size : int
        Images per step; the last batch of an epoch may be smaller.
    momentum, weight_decay : float
    initial_rate : float
        Learning rate of the first epoch and after every restart.
    decay : float
        Factor on the learning rate from one epoch to the next.
    cycle : int
        Epochs from one restart to the next.
    """

    n_epochs: int = 90
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 1e-4
    initial_rate: float = 0.1
    decay: float = 0.1
    cycle: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
                raise ValueError(f"a recipe's {field.name} must be a whole number, 1 or more, not {value!r}")
            if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
                raise ValueError(f"a recipe's {field.name} must be a finite number, 0 or more, not {value!r}")
            if not isinstance(value, int | float):  # JSON cannot write numpy's numbers
                object.__setattr__(self, field.name, int(float(value)) if field.type == "int" else float(value))
        if self.momentum >= 1:
            raise ValueError(f"a recipe's momentum must be below 1, not {self.momentum!r}")

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1.

        >>> [round(Recipe().learning_rate(epoch), 9) for epoch in (1, 2, 3, 4, 90)]
        [0.1, 0.01, 0.001, 0.1, 0.001]
        """
        if epoch < 1:
            raise ValueError(f"epochs are counted from 1, there is no epoch {epoch}")
        return self.initial_rate * self.decay ** ((epoch - 1) % self.cycle)


PUBLISHED = Recipe()


def batch_orders(seed: int = SEED, n_epochs: int = 90, *, n_images: int = 50_000) -> Iterator[Tensor]:
    """Generate the order of the training images for each epoch.

    The defaults are those of the published run.

    The published script seeds torch's global generator and draws from it, in each epoch, one number for the iterator
    over the training images, a permutation, and one number for the iterator over the test images. The same draws are
    made here from a separate generator.

    Parameters
    ----------
    seed : int
    n_epochs : int
    n_images : int

    Yields
    ------
    Tensor of int64, shape (n_images,)
        A permutation; step i of the epoch takes the images at positions i * batch_size onwards.

    Examples
    --------
    >>> next(batch_orders())[:5].tolist()
    [2491, 21569, 31995, 1380, 23719]
    """
    generator = torch.Generator().manual_seed(seed)

    def draw_iterator_seed() -> None:
        torch.empty((), dtype=torch.int64).random_(generator=generator)

    for _ in range(n_epochs):
        draw_iterator_seed()
        yield torch.randperm(n_images, generator=generator)
        draw_iterator_seed()


def order_digest(seed: int = SEED, n_epochs: int = 90, *, n_images: int = 50_000) -> str:
    """Compute the SHA-256 of `batch_orders`, as little-endian 32-bit integers.

    >>> order_digest() == ORDER_SHA256
    True
    """
    state = hashlib.sha256()
    for order in batch_orders(seed, n_epochs, n_images=n_images):
        state.update(order.numpy().astype("<i4").tobytes())
    return state.hexdigest()


def check_order() -> None:
    """Raise RuntimeError unless torch draws the published run's order of images."""
    if (found := order_digest()) != ORDER_SHA256:
        raise RuntimeError(
            f"the order of images of the published run has SHA-256 {ORDER_SHA256}, but torch {torch.__version__} draws "
            f"one with {found}: use the version of torch that requirements.lock names"
        )
