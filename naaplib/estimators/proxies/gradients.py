"""Gradients of untrained networks by images and by weights.

The network has its original state afterwards.
"""

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
# torch's message for a view that the memory layout does not allow
LAYOUT = ("view size is not compatible", "self.stride(-1) must be 1", "Tensor must have a last dimension with stride 1")


def undisturbed(function: Callable[..., T], network: nn.Module, *, images: Tensor, mode: str, **arguments: object) -> T:
    """Call a function on a network and images; restore modes and buffers afterwards.

    The function gets a copy of the images, which a network may change in place. The copy is in channels-last order,
    which is faster on CPUs; if torch then refuses a `view`, the call is repeated in channels-first order. Gradients are
    enabled in any case.

    Parameters
    ----------
    function : callable of network, images and the further arguments
    network : Module
    images : Tensor, shape (n_images, ...)
        At least one; floating point.
    mode : {"train", "eval"}
        Mode of all modules during the call.
    arguments
        Further arguments of the function.

    Raises
    ------
    ValueError
        If the mode is unknown, or the images differ from the network in precision or device.
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
    with torch.inference_mode(False):  # inference mode records no gradient
        if any(not is_lazy(one) and one.is_inference() for one in (*network.parameters(), *network.buffers())):
            network = products.copied(network)  # with ordinary tensors
        images = images.detach()
        if images.ndim == 4:
            try:
                with _as_found(network, mode):
                    return function(network, images.clone(memory_format=torch.channels_last), **arguments)
            except RuntimeError as error:
                if not str(error).startswith(LAYOUT):
                    raise
        with _as_found(network, mode):
            return function(network, images.clone(memory_format=torch.contiguous_format), **arguments)


@contextmanager
def _as_found(network: nn.Module, mode: str) -> Iterator[None]:
    """Set a network's mode inside the context; restore modes and buffers afterwards."""
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
                setattr(module, name, buffer.copy_(before))  # a forward pass may have replaced it


@torch.enable_grad()
def by_images(network: nn.Module, images: Tensor) -> Tensor:
    """Compute the gradient of the sum of all outputs by each image.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)

    Returns
    -------
    Tensor of float64, shape (n_images, n_values of an image)
        Gradients; 0 if the output does not depend on an image, and all NaN if an output is not finite.
    """
    leaf = images.detach().clone().requires_grad_()
    output = as_tensor(network(leaf * 1))  # not the leaf itself, on which nothing may work in place
    if not output.isfinite().all():
        return torch.full_like(images, torch.nan, dtype=torch.float64).flatten(1)
    (gradient,) = slopes(output.sum(), [leaf])
    return gradient.double().flatten(1)


@torch.enable_grad()
def by_weights(network: nn.Module, images: Tensor, *, labels: ArrayLike | Tensor) -> list[tuple[Tensor, Tensor]]:
    """Compute the gradient of the mean cross-entropy by each multiplying weight.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)
    labels : Tensor of int, shape (n_images,)

    Returns
    -------
    list of (weight, gradient), both float64
        Weights of convolutions, linear, recurrent and attention layers, and of functional calls. If a weight is
        computed from others, as by weight normalisation, it is the computed one. The list is empty if the loss depends
        on no such trainable weight.

    Raises
    ------
    ValueError
        If a label is not a class number, or the output is not (n_images, n_classes) with two or more classes.
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


def by_flow(network: nn.Module, image: Tensor, *, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Compute the gradient of SynFlow's output by each weight, for an image of ones.

    The image has the shape of `like`. See `naaplib.estimators.proxies.products.flow`; the result is as in `by_weights`.
    """
    output, weights = products.flow(network, torch.ones_like(like, dtype=torch.float64))
    return with_slopes(as_tensor(output).sum(), weights)


@torch.enable_grad()
def by_parameters(network: nn.Module, images: Tensor) -> Tensor:
    """Compute the neural tangent kernel: inner products of gradients by parameters.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)

    Returns
    -------
    Tensor of float64, shape (n_images, n_images)
        The kernel of the summed outputs of each two images. In training mode, an image's output and gradient depend on
        the whole batch.

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
    for gradients in zip(*rows, strict=True):  # by parameter, so that only one is in double precision at a time
        matrix = torch.stack(gradients).flatten(1).double()
        kernel += matrix @ matrix.T
    return kernel


def slopes(value: Tensor, inputs: Sequence[Tensor], *, keep: bool = False) -> Sequence[Tensor]:
    """Gradients of a number by each input, 0 if it does not depend on the input.

    `keep` allows another call.
    """
    if not value.requires_grad:
        return [torch.zeros_like(one) for one in inputs]
    return torch.autograd.grad(value, inputs, retain_graph=keep, allow_unused=True, materialize_grads=True)


def with_slopes(value: Tensor, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Inputs that a number depends on, each with its gradient; both in float64."""
    if not inputs or not value.requires_grad:
        return []
    found = zip(inputs, torch.autograd.grad(value, inputs, allow_unused=True), strict=True)
    return [(one.detach().double(), slope.double()) for one, slope in found if slope is not None]


def as_tensor(output: object) -> Tensor:
    """Check that a network's output is one tensor, and return it.

    Raises
    ------
    TypeError
        If it is something else, such as a tuple.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network returned a {type(output).__name__}: scores take networks that return one tensor of outputs; "
            f"wrap it in a module that returns that part only"
        )
    return output


def as_labels(images: Tensor, labels: ArrayLike | Tensor) -> Tensor:
    """Convert class numbers to a tensor on the images' device; one per image."""
    labels = torch.as_tensor(labels, device=images.device)
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: there must be one class number an "
            f"image, {len(images)} in all"
        )
    return labels.long().clone()  # an ordinary tensor, also from inference mode
