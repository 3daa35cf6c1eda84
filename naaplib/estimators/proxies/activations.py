"""Activation patterns of ReLUs: counts, and agreement between images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from naaplib.estimators.proxies.gradients import as_tensor, slopes
from naaplib.estimators.proxies.products import Watch

RELUS = frozenset({
    functional.relu, functional.relu_, functional.relu6, functional.leaky_relu, functional.leaky_relu_,
    functional.prelu, functional.rrelu, functional.rrelu_, torch.relu, torch.relu_, torch.prelu, torch.rrelu,
    Tensor.relu, Tensor.relu_, Tensor.prelu,
})  # fmt: skip
N_AT_ONCE = 1 << 24  # states per batch, 64 MB; integers up to it are exact in float32


class _Relus(Watch):
    """Pass every ReLU's input to `before` and its output to `after` in the context.

    A ReLU is any call of torch's functions, also outside of torch's modules. The input is passed before the call,
    because a call in place overwrites it. ReLUs of values computed from weights alone do not count.
    """

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[Tensor], None],
        after: Callable[[Tensor], None] = lambda output: None,
    ) -> None:
        super().__init__(network)
        self.before, self.after = before, after

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        # torch's module ReLU6 asks for a "hard tanh" from 0 to 6, whose bounds arrive here by name
        if func not in RELUS and not (func is functional.hardtanh and kwargs["min_val"] == 0):
            return func(*args, **kwargs)
        values = args[0] if args else kwargs["input"]
        if self.owns(values):
            return func(*args, **kwargs)
        self.before(values)
        output = func(*args, **kwargs)
        self.after(output)
        return output


def count(network: nn.Module, images: Tensor) -> int:
    """Count the ReLU units for one image, in one pass of the first image.

    Parameters
    ----------
    network : Module
    images : Tensor, shape (n_images, ...)

    Returns
    -------
    int
        The count, 0 if no ReLU is called. A module that is called twice counts twice.
    """
    total = 0

    def add(values: Tensor) -> None:
        nonlocal total
        total += values.numel()

    with torch.no_grad(), _Relus(network, add):
        network(images[:1])
    return total


def agreements(network: nn.Module, images: Tensor, *, reached_only: bool = False) -> tuple[Tensor, Tensor]:
    """Count the ReLU units that agree (both on or both off) for each pair of images.

    A unit is on where its input is greater than 0. With C the (n_images, n_units) matrix of ones and zeros this is
    C C^T + (1 - C) (1 - C)^T, the kernel of NAS-WOT, whose diagonal is n_units; it is computed exactly from C C^T and
    n_units, with one product per layer and the memory of one layer.

    Parameters
    ----------
    network : Module
        Network in the desired mode; its weights do not change.
    images : Tensor, shape (n_images, ...)
    reached_only : bool
        True counts only ReLUs that the gradient of the output's sum passes through, as the reference code of NAS-WOT
        does; costs another pass, forward and backward.

    Returns
    -------
    kernel : Tensor of float64, shape (n_images, n_images), on the images' device
        Whole numbers; all 0 if no ReLU is called.
    output : Tensor
        Output of the network, without gradient.

    Raises
    ------
    ValueError
        If the first axis of a ReLU's input does not hold the images in order. The check takes one more pass of two or
        three images.
    """
    reached = _reached(network, images) if reached_only else None
    n_images, n_units = len(images), 0
    shapes: list[torch.Size] = []
    both_on = torch.zeros(n_images, n_images, dtype=torch.float64, device=images.device)

    def add(values: Tensor) -> None:
        nonlocal n_units
        shapes.append(values.shape)
        if reached is not None and not reached[len(shapes) - 1]:
            return
        if values.ndim == 0 or len(values) % n_images:
            raise ValueError(
                f"a ReLU was called on shape {tuple(values.shape)}: its first axis must hold the {n_images} images"
            )
        # The order of units in memory saves a copy; the kernel does not depend on it.
        order = sorted(range(1, values.ndim), key=values.stride, reverse=True)
        on = (values.detach() > 0).permute(0, *order).reshape(n_images, -1)
        n_units += on.shape[1]
        with torch.autocast(on.device.type, enabled=False):
            for part in on.split(max(1, N_AT_ONCE // n_images), dim=1):
                codes = part.to(torch.float32)
                both_on.add_(codes @ codes.T)

    with torch.no_grad(), _Relus(network, add):
        output = network(images)
    _check_axes(network, images, shapes, _rows(output))
    n_on = both_on.diagonal()
    return n_units - n_on[:, None] - n_on[None, :] + 2 * both_on, output


def _check_axes(network: nn.Module, images: Tensor, shapes: Sequence[torch.Size], n_outputs: int) -> None:
    """Raise ValueError unless the first axis of every ReLU's input holds the images.

    The axis must grow with the number of images and, with several rows per image, follow a permutation of the images. A
    network with a fixed batch size, or with varying layers, is not checked.
    """
    n_few = 3 if len(images) == 2 else 2
    few = images[torch.arange(n_few, device=images.device) % len(images)]
    try:
        found, n_few_outputs = _inputs(network, few)
        several = any(values.numel() for _, values in found)
        turned, _ = _inputs(network, few.flip(0)) if several else (found, 0)
    except (RuntimeError, ValueError):
        return
    of_one_size = n_outputs == len(images) and n_few_outputs != n_few
    if of_one_size or not len(found) == len(turned) == len(shapes):
        return
    for shape, (few_shape, one), (_, other) in zip(shapes, found, turned, strict=True):
        grows = shape[0] * n_few == few_shape[0] * len(images)
        if not grows or (one.numel() and one.shape == other.shape and _interleaved(one, other, n_few)):
            raise ValueError(
                f"a ReLU was called on shape {tuple(shape)}: its first axis does not hold the {len(images)} images one "
                f"after the other; put them first (layers of torch that have `batch_first` take True)"
            )


def _rows(output: object) -> int:
    return len(output) if isinstance(output, Tensor) and output.ndim else 0


def _inputs(network: nn.Module, images: Tensor) -> tuple[list[tuple[torch.Size, Tensor]], int]:
    """Shapes of the ReLUs' inputs, some with values; and the number of outputs.

    Values are included if an input has more rows than there are images.
    """
    found: list[tuple[torch.Size, Tensor]] = []

    def keep(values: Tensor) -> None:
        found.append((values.shape, values.detach()[: None if len(values) > len(images) else 0].clone()))

    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), _Relus(network, keep):
        output = network(images.clone())
    return found, _rows(output)


def _interleaved(values: Tensor, turned: Tensor, n_images: int) -> bool:
    """True if rows of n images, permuted with them, alternate image by image."""
    by_image, by_row = values.reshape(n_images, -1), values.reshape(len(values) // n_images, n_images, -1)
    apart = (by_image - turned.reshape(by_image.shape).flip(0)).abs().sum()
    apart_else = (by_row - turned.reshape(by_row.shape).flip(1)).abs().sum()
    return bool(apart > 2 * apart_else and apart > 1e-3 * values.abs().sum())


def n_distinct(kernel: Tensor) -> int:
    """Count the different patterns in a kernel of `agreements`.

    Two images share a pattern if they agree on all units.
    """
    first_alike = (kernel == kernel[0, 0]).to(torch.int8).argmax(dim=1)
    return len(first_alike.unique())


def _reached(network: nn.Module, images: Tensor) -> Sequence[bool]:
    """True for each call of a ReLU, in order, whose output a gradient reaches."""
    reached: list[bool] = []

    def mark(output: Tensor) -> None:
        reached.append(False)
        place = len(reached) - 1
        if output.requires_grad:
            output.register_hook(lambda gradient: reached.__setitem__(place, True))

    leaf = images.detach().clone().requires_grad_()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    with torch.enable_grad(), _Relus(network, lambda values: None, mark):
        output = as_tensor(network(leaf * 1))  # not the leaf itself, which in-place operations may not change
    slopes(output.sum(), [leaf, *weights])
    return reached
