"""Dense networks that train side by side, each with its own weights and rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_CHECKED_AT_ONCE = 1 << 14  # rows per forward pass of the check


@dataclass(frozen=True)
class Schedule:
    """Training schedule: Adam with decoupled weight decay and cosine learning rate.

    Parameters
    ----------
    n_epochs : int
    rate : float
        Learning rate of the first step; it falls to 0 as a cosine.
    decay : float
        Weight decay of kernels and biases, multiplied by the learning rate.
    batch_size : int or None
        Rows per step, in each network's own order; the last batch of an epoch may be smaller. None takes all rows.
    """

    n_epochs: int
    rate: float = 0.003
    decay: float = 0.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.n_epochs < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise ValueError(f"n_epochs is {self.n_epochs}, batch_size {self.batch_size}; they must be at least 1")
        if not 0 < self.rate < math.inf or not 0 <= self.decay < math.inf:
            raise ValueError(f"rate is {self.rate}, decay {self.decay}; they must be finite, above 0 and not below 0")


@torch.inference_mode(False)
def initialise(sizes: Sequence[int], generators: Sequence[torch.Generator], *, dtype: torch.dtype) -> list[Tensor]:
    """Draw uniform weights with the variance of He et al., on the CPU.

    The bounds are plus and minus the root of six over a layer's inputs (Delving Deep into Rectifiers, ICCV 2015).
    Networks with smaller initial weights agree more with each other than with the targets.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of inputs, of units of each hidden layer, and of outputs.
    generators : sequence of Generator, length n_networks
        One per network.
    dtype : torch.dtype

    Returns
    -------
    list of Tensor
        Kernels (n_networks, c_in, c_out) and biases (n_networks, 1, c_out) of each layer, in order.
    """
    weights = []
    for c_in, c_out in pairwise(sizes):
        drawn = [torch.rand(c_in + 1, c_out, generator=one, dtype=torch.float64, device="cpu") for one in generators]
        uniform = ((2 * torch.stack(drawn) - 1) * math.sqrt(6 / c_in)).to(dtype)
        weights += [uniform[:, :-1].contiguous(), uniform[:, -1:].contiguous()]
    return weights


def forward(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Compute the outputs of networks with SiLU after each hidden layer.

    Parameters
    ----------
    weights : sequence of Tensor
        Weights from `initialise`.
    x : Tensor, shape (n_rows, n_features) or (n_networks, n_rows, n_features)
        The same rows for all networks, or separate rows.

    Returns
    -------
    Tensor, shape (n_networks, n_rows, n_outputs)
    """
    x = x.expand(len(weights[0]), -1, -1)
    for i in range(0, len(weights), 2):
        if i:
            x = torch.nn.functional.silu(x)
        x = torch.baddbmm(weights[i + 1], x, weights[i])
    return x


@torch.inference_mode(False)
@torch.enable_grad()
def train(
    weights: Sequence[Tensor],
    features: Tensor,
    *,
    targets: Tensor,
    importance: Tensor,
    schedule: Schedule,
    generators: Sequence[torch.Generator],
) -> None:
    """Train networks by weighted squared errors, independently and side by side.

    Parameters
    ----------
    weights : sequence of Tensor
        Weights from `initialise`; changed in place.
    features : Tensor, shape (n_rows, n_features)
    targets : Tensor, shape (n_rows, n_outputs)
        Finite values, also at an importance of 0.
    importance : Tensor, shape (n_networks, n_rows, n_outputs)
        Weight of each squared error; 0 ignores it. The loss of a step is the weighted mean over its rows and outputs.
    schedule : Schedule
    generators : sequence of Generator, length n_networks
        Generators on the CPU, one per network; each epoch with batches draws the network's order of rows.

    Raises
    ------
    FloatingPointError
        If an output of the trained networks for these rows is not finite.
    """
    n_rows, size = len(features), schedule.batch_size or len(features)
    n_steps, step = schedule.n_epochs * math.ceil(n_rows / size), 0
    for part in weights:
        part.requires_grad_()
    adam = torch.optim.AdamW(weights, weight_decay=schedule.decay, fused=True)
    targets = targets.expand(importance.shape)
    for _ in range(schedule.n_epochs):
        batches: list[Tensor | None] = [None]
        if size < n_rows:
            batches = list(
                torch.stack([torch.randperm(n_rows, generator=one, device="cpu") for one in generators]).split(size, 1)
            )
        for batch in batches:
            x, goal, counted = features, targets, importance
            if batch is not None:
                index = batch[:, :, None].expand(-1, -1, targets.shape[2])
                x, goal, counted = features[batch], targets.gather(1, index), importance.gather(1, index)
            adam.param_groups[0]["lr"] = schedule.rate * (1 + math.cos(math.pi * step / n_steps)) / 2
            errors = (forward(weights, x) - goal).square()
            total = counted.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(targets.dtype).tiny)
            adam.zero_grad()
            (errors * (counted / total)).sum().backward()
            adam.step()
            step += 1
    for part in weights:
        part.requires_grad_(False)
        part.grad = None
    if not all(forward(weights, x).isfinite().all() for x in features.split(_CHECKED_AT_ONCE)):
        raise FloatingPointError(
            "networks put out numbers that are not finite after training: it diverged. Lower the schedule's rate, "
            f"which is {schedule.rate}, or its decay, which is {schedule.decay}"
        )
