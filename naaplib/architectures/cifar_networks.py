"""ResNet, VGG-16 and MobileNetV2 for images of 32 x 32.

These are the networks of the feature-history study; ResNets also come in scaled versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchvision.models import MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import cfgs, make_layers

from naaplib.architectures.scheme_networks import initialise
from naaplib.architectures.schemes import IMAGE_CHANNELS, N_CLASSES, require_whole

N_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}  # blocks in stages C2 to C5
BOTTLENECKS = ("resnet50",)  # the other ResNets have basic blocks
WIDTHS = (64, 128, 256, 512)  # channels in these stages
NAMES = (*N_BLOCKS, "vgg16", "mobilenet_v2")
STEM = 64  # channels of a ResNet's first convolution
DIVISOR = 8  # scaled numbers of channels are multiples of it
# Expansion, channels, blocks, stride of MobileNetV2's stages (Sandler et al. 2018, table 2, where the second is 2).
_MOBILENET = [
    [1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1],
]  # fmt: skip


def build(name: str, n_classes: int = N_CLASSES, *, seed: int = 0, width: float = 1.0) -> nn.Sequential | MobileNetV2:
    """Build a network for images of 32 x 32 that ends in one linear layer.

    The study does not describe how it adapts the networks (section 4.1, A.2). Here they are adapted as is usual:

    - "resnet18", "resnet34", "resnet50": the first convolution is 3 x 3 with stride 1, without max pooling after it
    - "vgg16": configuration D with BatchNorm, and one linear layer of 512 features instead of three
    - "mobilenet_v2": stride 1 in the first convolution and the second stage, so that the last stage sees 4 x 4 pixels;
      no dropout

    Parameters
    ----------
    name : {"resnet18", "resnet34", "resnet50", "vgg16", "mobilenet_v2"}
    n_classes : int
    seed : int
        Seed of the initial weights, drawn by `naaplib.architectures.scheme_networks.initialise`: torchvision's rule but
        for a ResNet's linear layer. torch's global generators do not change.
    width : float
        Factor on all numbers of channels, for trials at reduced size; rounded as in `scale`. MobileNetV2 has at least
        1,280 features.

    Returns
    -------
    Module, on the CPU, in training mode
    """
    if name not in NAMES:
        raise ValueError(f"there is no network {name!r}; there are: {', '.join(NAMES)}")
    require_whole(n_classes=n_classes)
    if not 0 < width < math.inf:
        raise ValueError(f"width is {width}; it is a factor on numbers of channels, and must be above 0")
    if name in N_BLOCKS:
        channels, stem = [_channels(width * w) for w in WIDTHS], _channels(width * STEM)
        return resnet(
            N_BLOCKS[name], channels, n_classes=n_classes, seed=seed, stem=stem, bottleneck=name in BOTTLENECKS
        )
    with _seeded(seed):
        if name == "vgg16":
            plan: list[Any] = [layer if layer == "M" else _channels(width * layer) for layer in cfgs["D"]]
            network = nn.Sequential(make_layers(plan, batch_norm=True), *_classifier(plan[-2], n_classes))
        else:
            network = MobileNetV2(n_classes, width, _MOBILENET, dropout=0.0)
            network.features[0][0].stride = (1, 1)
        initialise(network)
        return network


def scale(depths: Sequence[float], widths: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Scale the blocks and channels of ResNet-18's four stages by eight factors.

    The source is the feature-history study (A.6).

    Stage C_i has d_i x 2 blocks and w_i x 64, 128, 256, 512 channels. The study does not describe its rounding. Here
    blocks are rounded to the nearest whole number, at least 1, and channels to the nearest multiple of 8, at least 8;
    halves are rounded up.

    Parameters
    ----------
    depths, widths : sequence of float, length 4
        Factors d_2 to d_5 and w_2 to w_5.

    Returns
    -------
    n_blocks, channels : tuple of int, length 4 each, for `resnet` and `resnet_cost`

    Examples
    --------
    >>> scale([1, 1.5, 2, 0.2], [1, 1.1, 0.5, 1])
    ((2, 3, 4, 1), (64, 144, 128, 512))
    """
    if len(depths) != 4 or len(widths) != 4 or not all(0 < factor < math.inf for factor in (*depths, *widths)):
        raise ValueError(f"four factors above 0 for depth and four for width are needed, not {depths} and {widths}")
    blocks = zip(depths, N_BLOCKS["resnet18"], strict=True)
    channels = zip(widths, WIDTHS, strict=True)
    return tuple(max(1, _rounded(d * n)) for d, n in blocks), tuple(_channels(w * n) for w, n in channels)


def resnet(
    n_blocks: Sequence[int],
    widths: Sequence[int],
    *,
    n_classes: int = N_CLASSES,
    seed: int = 0,
    stem: int = STEM,
    bottleneck: bool = False,
) -> nn.Sequential:
    """Build a ResNet for images of 32 x 32; see `build`.

    The source is He et al. (2016).

    Parameters
    ----------
    n_blocks, widths : sequence of int
        Blocks and channels of each stage. The first stage has stride 1, the others stride 2 in their first block. If a
        block's input and output differ in shape, the shortcut is a 1 x 1 convolution with BatchNorm.
    n_classes, seed : int
    stem : int
        Channels of the first convolution.
    bottleneck : bool
        Blocks of three convolutions, which give four times the stage's channels, as ResNet-50 has; else basic blocks.
    """
    require_whole(n_classes=n_classes)
    kind: type[BasicBlock | Bottleneck] = Bottleneck if bottleneck else BasicBlock
    with _seeded(seed):
        blocks = []
        for c_in, c_out, stride in _blocks(n_blocks, widths, stem, kind.expansion):
            whole = c_out * kind.expansion
            blocks.append(
                kind(c_in, c_out, stride, None if c_in == whole and stride == 1 else _shortcut(c_in, whole, stride))
            )
        first = [nn.Conv2d(IMAGE_CHANNELS, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)]
        network = nn.Sequential(*first, *blocks, *_classifier(widths[-1] * kind.expansion, n_classes))
        initialise(network)
        return network


def resnet_cost(
    n_blocks: Sequence[int], widths: Sequence[int], *, n_classes: int = N_CLASSES, stem: int = STEM, side: int = 32
) -> tuple[int, int]:
    """Count parameters, and multiply-accumulates for one image, of basic blocks.

    The network is a `resnet` of them. It is not built. The study calls multiply-accumulates of convolutions and the
    linear layer FLOPS (A.6, Table 4.4).

    Parameters
    ----------
    n_blocks, widths, n_classes, stem
        As in `resnet`.
    side : int
        Side of the images in pixels.

    Examples
    --------
    >>> [resnet_cost(N_BLOCKS[name], WIDTHS, n_classes=100) for name in ("resnet18", "resnet34")]
    [(11220132, 555468800), (21328292, 1159448576)]
    """
    require_whole(n_classes=n_classes, side=side)
    kernels = IMAGE_CHANNELS * stem * 9
    n_parameters, macs = kernels + 2 * stem, kernels * side**2
    for c_in, c_out, stride in _blocks(n_blocks, widths, stem):
        side = -(-side // stride)
        has_shortcut = c_in != c_out or stride != 1
        kernels = (c_in + c_out) * c_out * 9 + has_shortcut * c_in * c_out
        n_parameters += kernels + 2 * c_out * (2 + has_shortcut)
        macs += kernels * side**2
    return n_parameters + (widths[-1] + 1) * n_classes, macs + widths[-1] * n_classes


def _blocks(
    n_blocks: Sequence[int], widths: Sequence[int], stem: int, expansion: int = 1
) -> Iterator[tuple[int, int, int]]:
    """Input channels, the stage's channels and stride of each block, first block first."""
    c_in = stem
    if not n_blocks or len(n_blocks) != len(widths):
        raise ValueError(f"each stage needs a number of blocks and one of channels, not {n_blocks} and {widths}")
    for number in (*n_blocks, *widths, stem):
        require_whole(**{"each number of blocks and of channels": number})
    for stage, (n, width) in enumerate(zip(n_blocks, widths, strict=True)):
        for block in range(n):
            yield c_in, width, 2 if stage and not block else 1
            c_in = width * expansion


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


def _classifier(n_features: int, n_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_features, n_classes)]


def _rounded(x: float) -> int:
    return math.floor(x + 0.5)


def _channels(width: float) -> int:
    return max(1, _rounded(width / DIVISOR)) * DIVISOR


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let torch draw from `seed` inside the context; restore its generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it would reseed GPUs as well
        yield
