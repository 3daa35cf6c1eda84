"""Train networks side by side, on a CPU or as CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from naaplib.architectures.scheme_networks import Network
from naaplib.architectures.schemes import Scheme
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.recipe import PUBLISHED, Recipe
from naaplib.training.single import TEST_BATCH
from naaplib.training.stacked import StackedNetwork

PRECISIONS = ("fp32", "tf32", "bf16", "fp64")
# torch's settings for rounding products of float32. An operation with "none" takes its library's setting, and a
# library with "none" takes "generic".
LIBRARIES = [("generic", "all"), ("cuda", "all"), ("mkldnn", "all")]
OPERATIONS = [(library, name) for library in ("cuda", "mkldnn") for name in ("matmul", "conv", "rnn")]
CUDNN = {"enabled": True, "benchmark": False, "deterministic": True}


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Set the precision of products on GPUs, and use deterministic convolutions.

    The context restores every setting afterwards. Inside it, read settings by torch's newer names, `fp32_precision`;
    the older names, `allow_tf32`, raise errors there.

    Parameters
    ----------
    precision : str
        One of `PRECISIONS`; "tf32" alone rounds.
    """
    # Not torch's public names: in torch 2.11, the one of mkldnn writes to "generic".
    read, write = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    cudnn = torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in CUDNN}
    before = []
    try:
        for place in LIBRARIES + OPERATIONS:
            before.append((place, read(*place)))  # its own value, because its parents are "none" by now
            write(*place, "none")
        for library, name in OPERATIONS:
            write(library, name, "tf32" if library == "cuda" and precision == "tf32" else "ieee")
        for name, value in CUDNN.items():
            setattr(cudnn, name, value)
        yield
    finally:
        for name, value in flags.items():
            setattr(cudnn, name, value)
        for place, kept in before:
            write(*place, kept)


class Stepper:
    """Epochs of a trainer with all state on its device, as CUDA graphs on a GPU.

    A subclass has the attributes of `Trainer`, but for `network` and `features`, and methods `_step`, `evaluate` and
    `state`.
    """

    schemes: list[Scheme]
    recipe: Recipe
    precision: str
    device: torch.device
    rate: Tensor
    order: Tensor
    step: Tensor
    losses: Tensor
    graphs: dict[int, torch.cuda.CUDAGraph]

    def _make_graphs(self) -> None:
        """Prepare for recordings, which share one stream and one pool of memory."""
        self.graphs = {}
        if self.device.type == "cuda":
            self.stream, self.pool = torch.cuda.Stream(self.device), torch.cuda.graph_pool_handle()

    def train_epoch(self, order: Tensor, rate: float) -> NDArray[np.float64]:
        """Train for one epoch on the training images in the given order.

        Parameters
        ----------
        order : Tensor of int64, shape (n_images,)
        rate : float
            Learning rate.

        Returns
        -------
        ndarray, shape (n_batches, n_networks)
            Mean cross-entropy of each batch in the order of the steps, networks in the order given.

        Raises
        ------
        torch.OutOfMemoryError
            If a GPU's memory is too small for a step. The epoch is lost; fewer networks may fit.
        RuntimeError
            If a step cannot be recorded as a CUDA graph. A new process is then needed.
        """
        sizes = [len(batch) for batch in order.split(self.recipe.batch_size)]
        with arithmetic(self.precision):
            if self.device.type == "cuda" and (new := set(sizes) - set(self.graphs)):
                self._record(sorted(new, reverse=True))
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
        raise NotImplementedError

    def evaluate(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return each network's accuracy; BatchNorm uses running statistics.

        Parameters
        ----------
        images : Tensor of uint8, shape (n, 3, side, side)
        labels : Tensor of int64, shape (n,)

        Returns
        -------
        ndarray, shape (n_networks,)
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        raise NotImplementedError

    def _record(self, sizes: list[int]) -> None:
        """Record a step of each size as a CUDA graph, and restore the state.

        Steps before the recording need the same memory and fail first, because an error during the recording loses the
        stream and its memory. The largest size comes first, and all recordings share its memory, since they never run
        at the same time.
        """
        before = {name: value.clone() for name, value in self.state().items()}
        around = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(around)
        # A recording uses the current device, and a stream of its own, which it may fail to leave.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            for size in sizes * 3:  # libraries initialise in the first steps, which must not be recorded
                self.step.zero_()
                self._step(size)
            for size in sizes:
                graph = torch.cuda.CUDAGraph()
                try:
                    with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                        self._step(size)
                except Exception as error:
                    cause = error.__context__ or error  # the end of a broken recording hides the first error
                    raise RuntimeError(
                        f"a step of {len(self.schemes)} networks on {size} images could not be recorded as a "
                        f"CUDA graph: {cause}. Start again in a new process; if memory ran out, with fewer networks."
                    ) from cause
                self.graphs[size] = graph
        around.wait_stream(self.stream)
        self.load_state(before)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state`; ignore other keys."""
        for name, target in self.state().items():
            target.copy_(state[name])


class Trainer(Stepper):
    """Networks in training, with their state, and one step for all of them.

    It trains and evaluates within `arithmetic` of its precision.

    Parameters
    ----------
    networks : sequence of Network
    parts : sequence of Images
        Images from `hold_out`; the first part is for training.
    recipe : Recipe
    device : str or torch.device
        Device; "meta" has no data, and the shapes of a GPU.
    precision : str
    keep_features : bool
    stack : bool, optional
        As in `StackedNetwork`; by default true on a GPU.

    Attributes
    ----------
    network : StackedNetwork
    features : Tensor of float16, shape (n_train_images, sum of last widths), or None
        Features in the epoch's training forward passes, while weights change. Images are in the order of `parts`;
        `network.columns` lists the columns.
    evaluated : list of (images, features)
        Images of evaluations since the last epoch, and their features in float16; empty unless features are kept.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        parts: Sequence[Images],
        *,
        recipe: Recipe = PUBLISHED,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        keep_features: bool = False,
        stack: bool | None = None,
    ) -> None:
        self.precision, self.recipe = precision, recipe
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        on_gpu = torch.device(device).type in ("cuda", "meta")
        network = StackedNetwork(networks, on_gpu if stack is None else stack, recompute=on_gpu)
        self.network, self.schemes = network.to(device, self.dtype), network.schemes
        self.device = self.network.places.device  # with its index: the current GPU may change later
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
        self.evaluated: list[tuple[Tensor, Tensor]] = []
        self._make_graphs()

    def train_epoch(self, order: Tensor, rate: float) -> NDArray[np.float64]:
        """Train for one epoch, as `Stepper` does, and forget earlier evaluations."""
        self.evaluated.clear()
        return super().train_epoch(order, rate)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state`, as `Stepper` does, and forget earlier evaluations."""
        self.evaluated.clear()
        super().load_state(state)

    def _step(self, size: int) -> None:
        """Train all networks on the next `size` images of the order."""
        self.network.train()
        batch = self.order[self.step * self.recipe.batch_size + self.within[:size]]
        x = normalise(self.images[batch]).to(self.dtype)
        with self._rounding():
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

    def _rounding(self) -> torch.autocast:
        """Autocast to "bf16" if it is the precision; without effect on the meta device."""
        kind = "cpu" if self.device.type == "meta" else self.device.type
        return torch.autocast(kind, torch.bfloat16, self.precision == "bf16", cache_enabled=False)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return each network's accuracy, as `Stepper` does; keep features."""
        self.network.eval()
        n_correct = torch.zeros(len(self.network.schemes), dtype=torch.int64, device=self.device)
        # A GPU holds many networks at once: an evaluation should need less memory than a step.
        size = TEST_BATCH if self.device.type == "cpu" else min(TEST_BATCH, self.recipe.batch_size)
        kept = []
        with arithmetic(self.precision):
            for x, y in zip(images.split(size), labels.split(size), strict=True):
                with self._rounding():
                    features = self.network.features(normalise(x.to(self.device)).to(self.dtype))
                    logits = self.network.classify(features)
                if self.features is not None:
                    kept.append(features.half())
                n_correct += (logits.argmax(dim=2) == y.to(self.device)).sum(dim=1)
        if kept:
            self.evaluated.append((images, torch.cat(kept)))
        return n_correct.cpu().numpy() / len(labels)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on."""
        buffers = {name: value for name, value in self.network.named_buffers() if name != "places"}
        return {"weights": self.weights, "momentum": self.momentum, **buffers}


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (n_networks,) of logits (n_networks, n, n_classes).

    The labels have shape (n,).
    """
    n_networks, n, _ = logits.shape
    each = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(n_networks), reduction="none")
    return each.view(n_networks, n).mean(dim=1)


def _flatten(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Make all weights views of one vector, which a step updates in one operation."""
    weights = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, part in zip(parameters, weights.split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view_as(parameter)
    return weights
