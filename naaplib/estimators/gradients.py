"""Gradients of a network that is not trained: by images, by weights; and the network left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

T = TypeVar("T")

MODES = ("train", "eval")
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def undisturbed(function: Callable[..., T], network: nn.Module, images: Tensor, mode: str, *arguments: object) -> T:
    """What a function of a network and images returns, while the network ends with the modes and buffers it began with.

    The function gets a copy of the images, on which a network may work in place: with colours last in memory, which
    CPUs convolve faster, and if torch then refuses, as it does a `view` that needs colours first, once more with these.

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
    images = images.detach()
    if images.ndim == 4:
        with suppress(RuntimeError), _as_found(network, mode):
            return function(network, images.clone(memory_format=torch.channels_last), *arguments)
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
    with torch.enable_grad():
        output = as_tensor(network(leaf * 1))  # not the leaf itself, on which nothing may work in place
    if not output.isfinite().all():
        return torch.full_like(images, torch.nan, dtype=torch.float64).flatten(1)
    (gradient,) = slopes(output.sum(), [leaf])
    return gradient.double().flatten(1)


def by_weights(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of convolutions and linear layers, each with the gradient of the batch's mean cross-entropy by it.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)
    labels : Tensor of int, shape (n_images,)

    Returns
    -------
    list of (weight, gradient), both float64
        Empty where no such weight can be trained.
    """
    check_labels(images, labels)
    layers = weights(network)
    if not layers:
        return []
    with torch.enable_grad():
        logits = as_tensor(network(images))
        precision = torch.promote_types(logits.dtype, torch.float32)  # half precision is too coarse for a loss
        loss = functional.cross_entropy(logits.to(precision), labels.long())
    return [(w.detach().double(), g.double()) for w, g in zip(layers, slopes(loss, layers), strict=True)]


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
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        sums = as_tensor(network(images)).flatten(1).sum(dim=1)
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


def weights(network: nn.Module) -> list[Tensor]:
    """Weights of convolutions and linear layers that can be trained, shared ones once, in the network's order."""
    found = [layer.weight for layer in network.modules() if isinstance(layer, LAYERS) and layer.weight.requires_grad]
    return list({id(weight): weight for weight in found}.values())


def layer_calls(network: nn.Module, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights of convolutions and linear layers in the order of calls, each with the call's output, without gradient.

    Parameters
    ----------
    network : Module
    image : Tensor, shape (1, ...)
    """
    calls: list[tuple[Tensor, Tensor]] = []
    layers = [module for module in network.modules() if isinstance(module, LAYERS)]
    hooks = [
        layer.register_forward_hook(lambda layer, _, output: calls.append((layer.weight, output))) for layer in layers
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


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


def check_labels(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless there is one class number an image."""
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}: there must be one class number an "
            f"image, {len(images)} in all"
        )
