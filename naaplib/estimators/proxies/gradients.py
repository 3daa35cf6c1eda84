"""Gradients of a network that is not trained: by images, by weights; and the network left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from naaplib.estimators.proxies import products

T = TypeVar("T")

MODES = ("train", "eval")
# How torch says that it cannot take a view of values that lie otherwise in memory.
LAYOUT = ("view size is not compatible", "self.stride(-1) must be 1", "Tensor must have a last dimension with stride 1")


def undisturbed(function: Callable[..., T], network: nn.Module, images: Tensor, mode: str, *arguments: object) -> T:
    """What a function of a network and images returns, while the network ends with the modes and buffers it began with.

    The function gets a copy of the images, on which a network may work in place: with colours last in memory, which
    CPUs convolve faster, and if torch then refuses a `view` that needs colours first, once more with these. Gradients
    are known whatever the caller has turned off.

    Parameters
    ----------
    function : callable of (network, images, *arguments)
    network : Module
    images : Tensor, shape (n_images, ...)
        At least one; floating point.
    mode : {"train", "eval"}
        Of all modules while the function runs.
    arguments
        What else the function takes.

    Raises
    ------
    ValueError
        If the mode is none of these, or the images have not the precision and the device of the network.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {MODES}")
    if images.ndim < 2 or len(images) < 1 or not images.is_floating_point():
        raise ValueError(
            f"images have shape {tuple(images.shape)} and type {images.dtype}: a batch is (n_images, ...), at least "
            f"one image, in floating point"
        )
    weight = next((parameter for parameter in network.parameters() if parameter.is_floating_point()), images)
    if (weight.dtype, weight.device) != (images.dtype, images.device):
        raise ValueError(
            f"the network's parameters are {weight.dtype} on {weight.device}, the images {images.dtype} on "
            f"{images.device}: bring them together with .to()"
        )
    with torch.inference_mode(False):  # where it is on, torch records no gradient
        if any(not is_lazy(one) and one.is_inference() for one in (*network.parameters(), *network.buffers())):
            network = products.copied(network)  # whose tensors are usual ones
        images = images.detach()
        if images.ndim == 4:
            try:
                with _as_found(network, mode):
                    return function(network, images.clone(memory_format=torch.channels_last), *arguments)
            except RuntimeError as error:
                if not str(error).startswith(LAYOUT):
                    raise
        with _as_found(network, mode):
            return function(network, images.clone(memory_format=torch.contiguous_format), *arguments)


@contextmanager
def _as_found(network: nn.Module, mode: str) -> Iterator[None]:
    """A network in a mode while the context lasts; then with its own modes and buffers again."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        network.train(mode == "train")
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))  # a forward may have put another one in its place


@torch.enable_grad()
def by_images(network: nn.Module, images: Tensor) -> Tensor:
    """Gradient of the sum of all outputs by each image.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)

    Returns
    -------
    Tensor of float64, shape (n_images, n_values of an image)
        Zeros where the output does not depend on an image. NaN throughout where an output is not finite.
    """
    leaf = images.detach().clone().requires_grad_()
    output = as_tensor(network(leaf * 1))  # not the leaf itself, on which nothing may work in place
    if not output.isfinite().all():
        return torch.full_like(images, torch.nan, dtype=torch.float64).flatten(1)
    (gradient,) = slopes(output.sum(), [leaf])
    return gradient.double().flatten(1)


@torch.enable_grad()
def by_weights(network: nn.Module, images: Tensor, labels: ArrayLike | Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of products, each with the gradient of the batch's mean cross-entropy by it.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)
    labels : Tensor of int, shape (n_images,)

    Returns
    -------
    list of (weight, gradient), both float64
        Of convolutions, linear, recurrent and attention layers, and of products that are called as functions. Where a
        weight is computed from others, as by weight normalisation, it is the one that multiplies. Empty where the loss
        depends on no such weight that can be trained.

    Raises
    ------
    ValueError
        If a label is no class number, or the output is not (n_images, n_classes) with two classes or more.
    """
    labels = as_labels(images, labels)
    with parametrize.cached(), products.Products(network) as seen:
        logits = as_tensor(network(images))
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        raise ValueError(
            f"the network's output has shape {tuple(logits.shape)}: cross-entropy takes (n_images, n_classes), here "
            f"{len(images)} images, and two classes or more"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, and the network has {logits.shape[1]} "
            f"outputs: labels are class numbers from 0 to {logits.shape[1] - 1}"
        )
    precision = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse for a loss
    loss = functional.cross_entropy(logits.to(precision), labels)
    return with_slopes(loss, products.trained(network, seen.weights))


def by_flow(network: nn.Module, image: Tensor, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights, each with the gradient of SynFlow's output by it; for an image of ones, laid out like another one.

    See `naaplib.estimators.proxies.products.flow`; as `by_weights` returns them.
    """
    output, weights = products.flow(network, torch.ones_like(like, dtype=torch.float64))
    return with_slopes(as_tensor(output).sum(), weights)


@torch.enable_grad()
def by_parameters(network: nn.Module, images: Tensor) -> Tensor:
    """Products of the gradients, by all parameters, of the sums of outputs of each two images: the tangent kernel.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)

    Returns
    -------
    Tensor of float64, shape (n_images, n_images)
        In training mode an image's output depends on the whole batch, and its gradient with it.

    Raises
    ------
    ValueError
        If the output's first axis does not hold the images.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    output = as_tensor(network(images))
    if output.ndim < 1 or len(output) != len(images):
        raise ValueError(
            f"the network's output has shape {tuple(output.shape)}: its first axis must hold the {len(images)} images"
        )
    sums = output.reshape(len(output), -1).sum(dim=1)
    rows = [slopes(one, parameters, keep=True) for one in sums]
    kernel = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=images.device)
    for gradients in zip(*rows, strict=True):  # parameter by parameter, so that one at a time is in double precision
        matrix = torch.stack(gradients).flatten(1).double()
        kernel += matrix @ matrix.T
    return kernel


def slopes(value: Tensor, inputs: Sequence[Tensor], keep: bool = False) -> Sequence[Tensor]:
    """Gradients of a number by each of the inputs, 0 where it does not depend on them; `keep` allows a next call."""
    if not value.requires_grad:
        return [torch.zeros_like(one) for one in inputs]
    return torch.autograd.grad(value, inputs, retain_graph=keep, allow_unused=True, materialize_grads=True)


def with_slopes(value: Tensor, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Those inputs that a number depends on, each with the number's gradient by it; both in float64."""
    if not inputs or not value.requires_grad:
        return []
    found = zip(inputs, torch.autograd.grad(value, inputs, allow_unused=True), strict=True)
    return [(one.detach().double(), slope.double()) for one, slope in found if slope is not None]


def as_tensor(output: object) -> Tensor:
    """A network's output, which must be one tensor.

    Raises
    ------
    TypeError
        If it is something else, as a tuple.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network returned a {type(output).__name__}: scores take networks that return one tensor of outputs; "
            f"wrap it in a module that returns that part only"
        )
    return output


def as_labels(images: Tensor, labels: ArrayLike | Tensor) -> Tensor:
    """Class numbers as a tensor on the images' device; raise ValueError unless there is one an image."""
    labels = torch.as_tensor(labels, device=images.device)
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: there must be one class number an "
            f"image, {len(images)} in all"
        )
    return labels.long().clone()  # a usual tensor, also if it was made in inference mode
