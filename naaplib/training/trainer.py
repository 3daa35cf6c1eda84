"""Networks in training side by side: their state, and one step for all of them, on a CPU or as CUDA graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from naaplib.architectures.networks import Network
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.network import TEST_BATCH
from naaplib.training.recipe import PUBLISHED, Recipe
from naaplib.training.stacked import VARIANTS, Layer, StackedNetwork

PRECISIONS = ("fp32", "tf32", "bf16", "fp64")


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Let GPUs round products to TF32 only where asked for, and use deterministic convolutions; then as before."""
    matmul, tf32 = torch.backends.cuda.matmul, precision == "tf32"
    before = matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        matmul.allow_tf32 = tf32
        try:
            yield
        finally:
            matmul.allow_tf32 = before


class Trainer:
    """Networks in training: their weights, momentum and running statistics, and one step for all of them.

    Parameters
    ----------
    networks : sequence of Network
    parts : sequence of Images
        As `hold_out` returns them; the first is trained on.
    recipe : Recipe
    device : str or torch.device
    precision : str
    keep_features : bool
    stack : bool, optional
        As for `StackedNetwork`; by default on a GPU.

    Attributes
    ----------
    network : StackedNetwork
    features : Tensor of float16, shape (n_train_images, sum of last widths), or None
        Of the epoch's training forward passes, images in the order of `parts`; columns as `network.columns` lists
        them. Weights move while they are taken.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        parts: Sequence[Images],
        recipe: Recipe = PUBLISHED,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        keep_features: bool = False,
        stack: bool | None = None,
    ) -> None:
        self.device, self.precision, self.recipe = torch.device(device), precision, recipe
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        network = StackedNetwork(networks, self.device.type == "cuda" if stack is None else stack)
        self.network = network.to(self.device, self.dtype)
        images = parts[0].to(self.device)
        self.images, self.labels = images.train_images, images.train_labels
        self.parameters = list(self.network.parameters())
        self.weights = _flatten(self.parameters)
        self.gradients, self.momentum = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        n, n_batches = len(self.images), -(-len(self.images) // recipe.batch_size)
        # All that changes from step to step lies on the device, so that a step can be recorded once and replayed.
        self.rate = torch.zeros((), dtype=self.dtype, device=self.device)
        self.order = torch.zeros(n, dtype=torch.int64, device=self.device)
        self.step = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.within = torch.arange(recipe.batch_size, device=self.device)
        self.losses = torch.zeros(n_batches, len(networks), dtype=self.dtype, device=self.device)
        shape = (n, sum(width for _, width in self.network.columns))
        self.features = torch.zeros(shape, dtype=torch.float16, device=self.device) if keep_features else None
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def train_epoch(self, order: Tensor, rate: float) -> NDArray[np.float64]:
        """Go once through the training images in the given order.

        Parameters
        ----------
        order : Tensor of int64, shape (n_images,)
        rate : float
            Learning rate.

        Returns
        -------
        ndarray, shape (n_batches, n_networks)
            Mean cross-entropy of each batch in the order of the steps, networks in the order given.
        """
        self.network.train()
        sizes = [len(batch) for batch in order.split(self.recipe.batch_size)]
        if self.device.type == "cuda":
            for size in sorted(set(sizes) - set(self.graphs)):
                self.graphs[size] = self._record(size)
        self.rate.fill_(rate)
        self.order.copy_(order)
        self.step.zero_()
        for size in sizes:
            self.graphs[size].replay() if size in self.graphs else self._step(size)
        return self.losses.to(
            "cpu", torch.float64, copy=True
        ).numpy()  # the first time in an epoch that the host waits for the device

    def _step(self, size: int) -> None:
        """Train all networks on the next `size` images of the order."""
        batch = self.order[self.step * self.recipe.batch_size + self.within[:size]]
        x = normalise(self.images[batch]).to(self.dtype)
        half = torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16", cache_enabled=False)
        with half:
            features = self.network.features(x)
            logits = self.network.classify(features)
        losses = cross_entropies(logits.to(self.dtype), self.labels[batch])
        gradients = torch.autograd.grad(losses.sum(), self.parameters)
        with torch.no_grad():
            torch.cat([gradient.flatten() for gradient in gradients], out=self.gradients)
            self.gradients.add_(self.weights, alpha=self.recipe.weight_decay)
            self.momentum.mul_(self.recipe.momentum).add_(self.gradients)
            self.weights.addcmul_(self.momentum, self.rate, value=-1)
            self.losses.index_copy_(0, self.step, losses[None])
            if self.features is not None:
                self.features.index_copy_(0, batch, features.half())
            self.step.add_(1)

    def _record(self, size: int) -> torch.cuda.CUDAGraph:
        """Record one step as a CUDA graph; what the steps before the recording changed is put back."""
        before = {name: value.clone() for name, value in self.state().items() if isinstance(value, Tensor)}
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up in the first steps, which must not be recorded
                self.step.zero_()
                self._step(size)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(size)
        self.load_state(before)
        return graph

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Fraction of images that each network classifies correctly, BatchNorm using running statistics.

        Parameters
        ----------
        images : Tensor of uint8, shape (n, 3, side, side)
        labels : Tensor of int64, shape (n,)

        Returns
        -------
        ndarray, shape (n_networks,)
        """
        self.network.eval()
        n_correct = torch.zeros(len(self.network.schemes), dtype=torch.int64, device=self.device)
        half = torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16", cache_enabled=False)
        for x, y in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
            with half:
                logits = self.network(normalise(x.to(self.device)).to(self.dtype))
            n_correct += (logits.argmax(dim=2) == y.to(self.device)).sum(dim=1)
        return n_correct.cpu().numpy() / len(labels)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        buffers = {name: value for name, value in self.network.named_buffers() if name != "places"}
        variants = [layer.variant for layer in self.network.layers]
        return {"weights": self.weights, "momentum": self.momentum, **buffers, "variants": variants}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; other keys are passed over."""
        for name, target in self.state().items():
            if isinstance(target, Tensor):
                target.copy_(state[name])
        for layer, variant in zip(self.network.layers, state.get("variants", []), strict=False):
            layer.variant = variant


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each network: logits (n_networks, n, n_classes) and labels (n,) to (n_networks,)."""
    n_networks, n, _ = logits.shape
    each = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(n_networks), reduction="none")
    return each.view(n_networks, n).mean(dim=1)


def _flatten(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Make all weights views of one vector, so that a step updates them in one operation."""
    weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, part in zip(parameters, weights.split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view_as(parameter)
    return weights


def measure_variants(trainer: Trainer, size: int, n_repeats: int = 5) -> pd.DataFrame:
    """Time every way to convolve a layer and keep the fastest of each; weights are left as they are.

    Parameters
    ----------
    trainer : Trainer
    size : int
        Images in a batch.
    n_repeats : int
        Timings of each, of which the least counts.

    Returns
    -------
    DataFrame
        One row a layer and variant: layer, n_networks, c_in, c_out, kernel_size, stride, side_in, variant, seconds
        (of one convolution, forward and backward), chosen.
    """
    rows = []
    shapes: list[torch.Size] = []
    network = trainer.network
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape)) for layer in network.layers
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(size, *trainer.images.shape[1:], dtype=trainer.dtype, device=trainer.device))
    for hook in hooks:
        hook.remove()

    def seconds(layer: Layer, x: Tensor) -> float:
        best = float("inf")
        for _ in range(n_repeats + 1):
            _wait(trainer.device)
            start = time.perf_counter()
            y = layer.convolve(x)
            torch.autograd.grad(y.sum(), [layer.weight, x])
            _wait(trainer.device)
            best = min(best, time.perf_counter() - start)
        return best

    with arithmetic(trainer.precision):
        for j, (layer, shape, members) in enumerate(zip(network.layers, shapes, network.members, strict=True)):
            x = torch.randn(shape, dtype=trainer.dtype, device=trainer.device, requires_grad=True)
            times = {}
            for layer.variant in VARIANTS if network.stack else VARIANTS[:1]:
                times[layer.variant] = seconds(layer, x)
            layer.variant = min(times, key=times.__getitem__)
            c_out, c_in, size_, _ = layer.weight.shape
            facts = (j, len(members), c_in, c_out // layer.n_groups, size_, layer.stride, shape[-1])
            rows += [(*facts, variant, value, variant == layer.variant) for variant, value in times.items()]
    names = ["layer", "n_networks", "c_in", "c_out", "kernel_size", "stride", "side_in", "variant", "seconds", "chosen"]
    return pd.DataFrame(rows, columns=names)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
