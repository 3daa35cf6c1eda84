"""Evaluator for architecture tuning: train a network on the user's images."""

from __future__ import annotations

import math
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from naaplib.architectures import mobileone
from naaplib.parallel import one_thread
from naaplib.training import image_folders, torchrun
from naaplib.training.devices import resolve
from naaplib.training.image_folders import Labelled, LabelledTensors, drawing, word
from naaplib.training.trainer import arithmetic

WARMUP = 0.05  # fraction of the steps in which the learning rate rises
MIDDLE, SPREAD = 0.5, 0.25  # mean and standard deviation assumed for pixel values from 0 to 1, in each channel
LEAST = {"n_classes": 2, "n_epochs": 1, "batch_size": 1, "n_processes": 1, "n_workers": 0}
_HERE = threading.Lock()  # all trainings in this process share torch's generator and number of threads
WEIGHTS, STEPS, ORDER, IMAGES = range(4)  # purposes of random draws, each with its own generator


@dataclass(frozen=True)
class ImageClassification:
    """Train the network of an encoding, and return its validation accuracy.

    Called with an encoding, it returns the fraction of validation images classified correctly after the last epoch,
    or NaN if the training diverged. The cost is `n_epochs`; ``dataclasses.replace(evaluator, n_epochs=12)`` is
    a low-fidelity evaluation. The evaluator of the architecture-tuning study (Ouertatani et al. 2024,
    section 3) does the same for the datasets of one library. Its recipe is not printed; this one is ours.

    The optimiser is stochastic gradient descent with Nesterov momentum on cross-entropy. The learning rate rises
    linearly over the first 5 % of the steps and then falls to 0 along half a cosine. Each epoch shuffles the images,
    and leaves out those that do not fill its last batch. On a CPU, each process uses one thread and
    the result is the same bit for bit, with any number of workers. torch's global generators stay as they are. Threads
    that call at once wait for one another, unless other processes train.

    Parameters
    ----------
    build : callable or str
        Maps an encoding to a network on the CPU, which maps images (n, channels, side, side) to (n, n_classes). The
        seed determines its draws from torch's generator. As text: "module:function". Several processes must be able
        to import the function, or a `functools.partial` of it: no lambda, and no function of a script or notebook.
    train, validation : dataset
        Rows of an image and its class, 0 to n_classes - 1. PIL images and uint8 tensors are scaled to [-2, 2];
        other tensors are used as they are. Draws of transforms from torch's generator are a deterministic function
        of the seed, the epoch and the row.
    n_classes, n_epochs : int
    batch_size : int
        Images per step, over all processes.
    rate, momentum, weight_decay : float
        `rate` is the highest learning rate.
    fold : bool
        Validate the network with each `.mobileone.Block` folded, as in deployment.
    seed : int
    device : str
        As torch names it, or "auto": see `.devices.resolve`.
    precision : str
        "fp32", or "tf32" to let GPUs round products.
    n_processes : int
        1 trains in this process. More are started by torchrun on this machine, one per GPU, and share each batch.
        BatchNorm then sees the images of its process alone; otherwise the steps are the same up to rounding.
    n_workers : int
        Processes that read and transform images ahead, per training process. 0 is slow with large images.

    Raises
    ------
    ValueError
        If a number is out of range, or this process or another one cannot find the function.
    """

    build: Callable[[Any], nn.Module] | str
    train: Labelled
    validation: Labelled
    n_classes: int
    n_epochs: int = 240
    batch_size: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    fold: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    n_processes: int = 1
    n_workers: int = field(default=0, compare=False)  # without effect on the result

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if min(self._size, len(self.validation)) < self.n_processes:
            raise ValueError(
                f"batches of {self._size} images, and {len(self.validation)} images to validate on, cannot be shared "
                f"by {self.n_processes} process(es): give more images or fewer processes"
            )
        _find(self.build)
        resolve(self.device)  # here: a search would take the error for a failed network
        if self.n_processes > 1:
            torchrun.pack(self.build)
            n_gpus = torch.cuda.device_count()
            if self._kind == "cuda" and self.n_processes > n_gpus:
                raise ValueError(f"{self.n_processes} processes need a GPU each, but there are {n_gpus}")

    @classmethod
    def from_folder(
        cls,
        build: Callable[[Any], nn.Module] | str,
        folder: str | Path,
        *,
        image_side: int = 224,
        n_epochs: int = 240,
        validation_share: float = 0.2,
        seed: int = 0,
        **others: Any,
    ) -> ImageClassification:
        """Train on a folder of images, with a part of each class for validation.

        See `.image_folders.read`.

        Parameters
        ----------
        build : callable or str
        folder : path
            Has one folder of images per class; classes are numbered in the order of their names.
        image_side : int
            Side in pixels.
        n_epochs : int
        validation_share : float
            Fraction of the images of each class.
        seed : int
            Seed of the training and of the choice of validation images.
        **others
            Further parameters of the class.

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or a class in it has no images.
        ValueError
            If a class has one image, or the share is not between 0 and 1.
        """
        train, validation, classes = image_folders.read(
            Path(folder).expanduser(), image_side, share=validation_share, seed=seed
        )
        return cls(build, train, validation=validation, n_classes=len(classes), n_epochs=n_epochs, seed=seed, **others)

    def __call__(self, encoding: Any) -> float:
        """Return a network's validation accuracy, NaN if it diverged.

        NaN stands for a loss or outputs that are not finite. Errors are passed on.

        Raises
        ------
        ValueError
            If the network does not give one number for each class and image, or a label is not a class.
        TypeError
            If the network does not return a tensor.
        RuntimeError
            If one of several processes failed; the message has its last lines.
        """
        if self.n_processes == 1:
            with _HERE:
                return self._evaluate(encoding)
        return torchrun.call(partial(self._evaluate, encoding), self.n_processes, on_gpus=self._kind == "cuda")

    @property
    def _kind(self) -> str:
        return str(resolve(self.device))

    @property
    def _size(self) -> int:
        """Number of images per step."""
        return min(self.batch_size, len(self.train))

    def _evaluate(self, encoding: Any, rank: int = 0) -> float:
        """Do one process's part; all processes return the same."""
        device = torch.device(f"cuda:{rank}" if self._kind == "cuda" and self.n_processes > 1 else self._kind)
        with one_thread(device), arithmetic(self.precision):
            with drawing(self.seed, WEIGHTS):
                network = _find(self.build)(encoding).to(device)
            with drawing(self.seed, STEPS, rank, device=device):
                return self._accuracy(network, rank) if self._fit(network, rank) else math.nan

    def _fit(self, network: nn.Module, rank: int) -> bool:
        """Train the network; return True if the loss stayed finite.

        A loss that is not finite ends the training with its epoch.
        """
        learner = DistributedDataParallel(network) if self.n_processes > 1 else network
        optimizer = torch.optim.SGD(
            network.parameters(), self.rate, self.momentum, weight_decay=self.weight_decay, nesterov=self.momentum > 0
        )
        n_steps = len(self.train) // self._size
        network.train()
        for step, (x, labels) in enumerate(self._load(self.train, self._batches(rank), network)):
            for group in optimizer.param_groups:
                group["lr"] = self.rate * rate_share(step, n_steps * self.n_epochs)
            losses = functional.cross_entropy(self._logits(learner, x), labels, reduction="sum")
            loss = losses * self.n_processes / self._size  # its mean over processes is the mean over the batch
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % n_steps == 0 and not math.isfinite(self._sum(loss.detach())):
                return False
        return True

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, rank: int) -> float:
        if self.n_processes > 1:
            for buffer in network.buffers():  # running statistics differ: all take the first process's
                distributed.broadcast(buffer, 0)
        network.eval()
        network = mobileone.fold(network) if self.fold else network
        rows, size = range(len(self.validation))[rank :: self.n_processes], -(-self._size // self.n_processes)
        batches = ([(0, row) for row in rows[i : i + size]] for i in range(0, len(rows), size))
        n_right = torch.zeros((), device=next(network.parameters()).device)
        for x, labels in self._load(self.validation, batches, network):
            logits = self._logits(network, x)
            n_right += torch.where(logits.isfinite().all(), (logits.argmax(dim=1) == labels).sum(), math.nan)
        return self._sum(n_right) / len(self.validation)

    def _logits(self, network: nn.Module, x: Tensor) -> Tensor:
        logits = network(x)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"the network returned a {type(logits).__name__}: it must return one tensor, (n, {self.n_classes}). "
                f"Wrap it in a network that returns the logits alone"
            )
        if logits.shape != (len(x), self.n_classes):
            raise ValueError(
                f"the network gives outputs of shape {tuple(logits.shape)} for {len(x)} images; needed are "
                f"{(len(x), self.n_classes)}, one number for each class: let build make {self.n_classes} outputs"
            )
        return logits

    def _batches(self, rank: int) -> Iterator[list[tuple[int, int]]]:
        """Yield (epoch, row) of each image of a process, one step after the other."""
        n_used = len(self.train) // self._size * self._size
        for epoch in range(self.n_epochs):
            generator = torch.Generator().manual_seed(word(self.seed, ORDER, epoch))
            order = torch.randperm(len(self.train), generator=generator)[:n_used]
            for rows in order.split(self._size):
                yield [(epoch, row) for row in rows[rank :: self.n_processes].tolist()]

    def _load(
        self, images: Labelled, batches: Iterable[list[tuple[int, int]]], network: nn.Module
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, channels, side, side) and labels (n,) for the network."""
        weight = next(network.parameters())
        items: Any = LabelledTensors(images, self.n_classes, seeds=(self.seed, IMAGES))
        sampler: Any = batches
        on_gpu = weight.device.type == "cuda"
        for x, labels in DataLoader(items, batch_sampler=sampler, num_workers=self.n_workers, pin_memory=on_gpu):
            x = x.to(weight.device, non_blocking=True)
            x = (x.to(weight.dtype) / 255 - MIDDLE) / SPREAD if x.dtype == torch.uint8 else x.to(weight.dtype)
            yield x, labels.to(weight.device, non_blocking=True)

    def _sum(self, value: Tensor) -> float:
        """Return the sum of a value over processes."""
        if self.n_processes > 1:
            distributed.all_reduce(value)
        return value.item()


def rate_share(step: int, n_steps: int) -> float:
    """Return the learning rate of a step, from 0, as a fraction of the highest."""
    n_rising = math.ceil(WARMUP * n_steps)
    if step < n_rising:
        return (step + 1) / n_rising
    return (1 + math.cos(math.pi * (step - n_rising) / (n_steps - n_rising))) / 2


def _find(build: Callable[[Any], nn.Module] | str) -> Callable[[Any], nn.Module]:
    if not isinstance(build, str):
        return build
    try:
        return pkgutil.resolve_name(build)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"build is {build!r}, which is not found: {error}; write 'module:function'") from error
