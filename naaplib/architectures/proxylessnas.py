"""Networks of the ProxylessNAS space, built from the codes of their layers.

Cai et al., "ProxylessNAS: Direct neural architecture search on target task and hardware" (ICLR 2019). The replication
of the neural predictor (Trirat and Sawadwuthikul, section IV) trained such networks by its own code
(itouchz/Neural-Predictor-Tensorflow, proxylessnas/backbone.py), which differs from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from naaplib.architectures.graphs import N_LAYER_CODES, N_LAYERS, SKIPPED
from naaplib.architectures.schemes import IMAGE_CHANNELS, require_whole

STEM, LAST = 32, 1280  # channels of the first convolution, and of the last
BLOCKS = ((16, 1), (32, 4), (40, 4), (80, 4), (96, 4), (192, 4), (320, 1))  # channels and layers of each block
HALVING = (1, 2, 3, 5)  # blocks that halve the image
KERNELS, EXPANSIONS = (3, 5, 7), (3, 6)
MOBILE = (0, 1, 0, 6, 6, 2, 0, 1, 1, 5, 1, 1, 1, 4, 1, 1, 1, 5, 5, 2, 2, 5)  # the paper's network for mobile phones
N_NETWORKS = 3 * (6 * 7**3) ** 5 * 6  # in the whole space
NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}  # of BatchNorm; Keras calls this momentum 0.99


class Layer(NamedTuple):
    """An inverted bottleneck."""

    c_in: int
    c_out: int
    kernel_size: int
    expansion: int
    stride: int


def layers(codes: Sequence[int], *, replicated: bool = True) -> list[Layer]:
    """Return the inverted bottlenecks of a network, in their order.

    Parameters
    ----------
    codes : sequence of int, length 22
        As in `naaplib.architectures.graphs.layer_codes`. The first layer of a block cannot be absent, and the very
        first layer has no expansion, so that its code may be 0 to 2, or 3 to 5 for the same.
    replicated : bool
        True strides as the replication's code does, by 2 in every layer of the blocks that halve the image; false
        does so in the first layer of such a block, as the paper does.

    Raises
    ------
    ValueError
        If there are not 22 codes from 0 to 6, or if the first layer of a block is absent.

    Examples
    --------
    >>> len(layers(MOBILE)), layers(MOBILE)[1]
    (20, Layer(c_in=16, c_out=32, kernel_size=5, expansion=3, stride=2))
    """
    if len(codes) != N_LAYERS or not all(0 <= code < N_LAYER_CODES for code in codes):
        raise ValueError(f"a network has {N_LAYERS} codes from 0 to {N_LAYER_CODES - 1}, not {list(codes)}")
    found: list[Layer] = []
    c_in, place = STEM, 0
    for block, (c_out, n_layers) in enumerate(BLOCKS):
        for number in range(n_layers):
            code = codes[place]
            place += 1
            if code == SKIPPED and number == 0:
                raise ValueError(f"code {place} is {SKIPPED}, an absent layer; the first layer of a block cannot be")
            if code == SKIPPED:
                continue
            stride = 2 if block in HALVING and (replicated or number == 0) else 1
            expansion = EXPANSIONS[code // len(KERNELS)] if place > 1 else 1
            size = KERNELS[code % len(KERNELS)]
            found.append(Layer(c_in, c_out, kernel_size=size, expansion=expansion, stride=stride))
            c_in = c_out
    return found


def sample(n_archs: int, seed: int) -> NDArray[np.int64]:
    """Draw networks uniformly and independently from the whole space, (n_archs, 22).

    Examples
    --------
    >>> sample(2, seed=0).shape
    (2, 22)
    """
    require_whole(n_archs=n_archs)
    rng = np.random.default_rng(seed)
    columns = [rng.integers(len(KERNELS), size=n_archs)]
    for _, n_layers in BLOCKS[1:]:
        columns += [rng.integers(N_LAYER_CODES - (number == 0), size=n_archs) for number in range(n_layers)]
    return np.stack(columns, axis=1)


class _Bottleneck(nn.Module):
    def __init__(self, layer: Layer, has_biases: bool) -> None:
        super().__init__()
        c_in, c_out, size, expansion, stride = layer
        hidden = c_in * expansion
        parts = _convolution(c_in, hidden, has_bias=has_biases) if expansion > 1 else []
        parts += _convolution(hidden, hidden, has_bias=has_biases, kernel_size=size, stride=stride, groups=hidden)
        self.body = nn.Sequential(*parts, *_convolution(hidden, c_out, has_bias=has_biases)[:-1])
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


def _convolution(
    c_in: int, c_out: int, *, has_bias: bool, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution, its BatchNorm, and a ReLU6."""
    own: dict[str, Any] = {"stride": stride, "padding": kernel_size // 2, "groups": groups, "bias": has_bias}
    return [nn.Conv2d(c_in, c_out, kernel_size, **own), nn.BatchNorm2d(c_out, **NORM), nn.ReLU6()]


@torch.inference_mode(False)
def build(codes: Sequence[int], *, n_classes: int = 1000, replicated: bool = True) -> nn.Sequential:
    """Build the network of 22 codes.

    A 3x3 convolution with stride 2, the inverted bottlenecks, a 1x1 convolution, the average over pixels, and a linear
    layer. A bottleneck is a 1x1 convolution, a depthwise and another 1x1 one, with BatchNorm after each and ReLU6 after
    the first two; input and output are added if they have the same shape and the stride is 1.

    Parameters
    ----------
    codes : sequence of int, length 22
    n_classes : int
    replicated : bool
        True as the replication's code does: strides as in `layers`, and biases in all convolutions. Kernels are drawn
        from He's uniform distribution, and the linear layer's from a normal one of 0.01. An image of odd side is
        padded alike on both sides; where that side is even and halved, Keras pads one pixel less on the left.

    Returns
    -------
    Sequential
        Maps images (n, 3, side, side) to logits (n, n_classes).

    Examples
    --------
    >>> network = build(MOBILE, replicated=False)
    >>> sum(weight.numel() for weight in network.parameters())
    4080512
    """
    require_whole(n_classes=n_classes)
    bottlenecks = layers(codes, replicated=replicated)
    linear = nn.Linear(LAST, n_classes)
    parts = _convolution(IMAGE_CHANNELS, STEM, has_bias=replicated, kernel_size=3, stride=2)
    parts += [_Bottleneck(layer, replicated) for layer in bottlenecks]
    parts += _convolution(bottlenecks[-1].c_out, LAST, has_bias=replicated)
    network = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return network


def sizes(
    networks: Iterable[Sequence[int]], *, n_classes: int = 1000, side: int = 224, replicated: bool = True
) -> pd.DataFrame:
    """Count parameters and multiply-accumulates, without building the networks.

    Parameters
    ----------
    networks : iterable of codes
    n_classes : int
    side : int
        Side of the square input image in pixels.
    replicated : bool
        As in `build`.

    Returns
    -------
    DataFrame, shape (n_archs, 2), one row a network in the given order
        - n_params: all trained parameters.
        - macs: multiply-accumulates of the convolutions and the linear layer for one image. Biases, BatchNorm, ReLU and
          sums are free.

    Examples
    --------
    >>> sizes([MOBILE], replicated=False)["n_params"].item()
    4080512
    """
    require_whole(n_classes=n_classes, side=side)
    rows = []
    for codes in networks:
        bottlenecks = layers(codes, replicated=replicated)
        pixels = -(-side // 2)
        convolutions = [(9 * IMAGE_CHANNELS * STEM, STEM, pixels)]  # weights, outputs, side of the output
        for c_in, c_out, size, expansion, stride in bottlenecks:
            hidden = c_in * expansion
            if expansion > 1:
                convolutions.append((c_in * hidden, hidden, pixels))
            pixels = -(-pixels // stride)
            convolutions += [(size**2 * hidden, hidden, pixels), (hidden * c_out, c_out, pixels)]
        convolutions.append((bottlenecks[-1].c_out * LAST, LAST, pixels))
        per_output = 3 if replicated else 2  # scale and shift of BatchNorm, and a bias
        n_params = sum(weights + per_output * c_out for weights, c_out, _ in convolutions)
        macs = sum(weights * one**2 for weights, _, one in convolutions)
        rows.append((n_params + (LAST + 1) * n_classes, macs + LAST * n_classes))
    return pd.DataFrame(rows, columns=["n_params", "macs"])
