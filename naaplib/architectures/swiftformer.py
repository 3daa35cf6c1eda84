"""SwiftFormer, and hybrids of it with MobileOne's layers.

A stage consists of convolutional blocks, the last of which may have additive attention.

Shaker et al., "SwiftFormer: Efficient additive attention for transformer-based real-time mobile vision applications"
(ICCV 2023). Details that the paper leaves open follow the authors' code (Amshaker/SwiftFormer). The hybrids are those
of the architecture-tuning study (Ouertatani et al. 2024, section 4.2 and Table 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from naaplib.architectures import mobileone
from naaplib.architectures.schemes import IMAGE_CHANNELS, N_CLASSES, require_whole

CONVOLUTIONS = ("conv-enc", "mo", "mo-se")
ATTENTIONS = {"none": 0, "last-1": 1, "last-2": 2, "all": None}  # blocks with attention at the end of a stage
XS_DEPTHS = (3, 3, 6, 4)  # blocks of the four stages
XS_WIDTHS = (48, 56, 112, 220)  # channels of these stages
EXPANSION = 4  # factor on the channels between the two pointwise convolutions of a block
_FIRST_SCALE = 1e-5  # initial scale of the residual branches with attention and after it


class ConvEncoder(nn.Module):
    """A residual block: depthwise convolution, BatchNorm, pointwise layers with GELU.

    Parameters
    ----------
    width : int
        Channels of input and output.
    hidden : int
        Channels between the two pointwise convolutions: `EXPANSION` times `width`, or `width` at the start of an
        `AttentionBlock`.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), *_pointwise(width, hidden)
        )
        self.scale = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, side, side) to the same shape."""
        return x + self.scale * self.body(x)


class AdditiveAttention(nn.Module):
    """Efficient additive attention: a global query multiplies the key of each token.

    Each token has a query q_i and a key k_i of length 1. With weights w, a_i = q_i w is normalised over the tokens, so
    that a factor such as 1 / sqrt(width) would have no effect. The global query is sum_i a_i q_i. The output is linear
    in q_i and in a linear layer of global query * k_i. The cost is linear in the number of tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.mix, self.last = (nn.Linear(width, width) for _ in range(4))
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, n_tokens, width) to the same shape."""
        query = nn.functional.normalize(self.query(x), dim=-1)
        key = nn.functional.normalize(self.key(x), dim=-1)
        attention = nn.functional.normalize(query @ self.weight, dim=-1)  # (n, n_tokens)
        global_query = (attention[..., None] * query).sum(dim=1, keepdim=True)  # (n, 1, width)
        return self.last(self.mix(global_query * key) + query)


class AttentionBlock(nn.Module):
    """A convolutional block, additive attention over pixels, and pointwise layers.

    Attention and pointwise layers have scaled residual connections.

    Parameters
    ----------
    local : Module
        The convolutional block, which does not change the shape.
    width : int
    """

    def __init__(self, local: nn.Module, width: int) -> None:
        super().__init__()
        self.local = local
        self.attention = AdditiveAttention(width)
        self.linear = nn.Sequential(nn.BatchNorm2d(width), *_pointwise(width, EXPANSION * width))
        self.scales = nn.Parameter(torch.full((2, width, 1, 1), _FIRST_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, side, side) to the same shape."""
        x = self.local(x)
        tokens = self.attention(x.flatten(2).transpose(1, 2))  # (n, side * side, width)
        x = x + self.scales[0] * tokens.transpose(1, 2).reshape(x.shape)
        return x + self.scales[1] * self.linear(x)


def build(
    convolutions: Sequence[str] = ("conv-enc",) * 4,
    attentions: Sequence[str] = ("last-1",) * 4,
    *,
    n_branches: int = 1,
    n_classes: int = N_CLASSES,
    seed: int = 0,
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> nn.Sequential:
    """Build a SwiftFormer or a hybrid with MobileOne; the default is SwiftFormer-XS.

    The network consists of two convolutions of 3 x 3 with stride 2, BatchNorm and ReLU; stages of blocks, with a
    convolution of 3 x 3 with stride 2 and BatchNorm before each but the first; BatchNorm; the average over pixels; and
    a linear layer. It halves the side of an image five times.

    The study defines its hybrids by the convolutions of each stage and its number of blocks with attention. Here

    - depths, widths and the layers around the stages are SwiftFormer-XS's: "mo" and "none" everywhere gives MobileOne's
      layers in SwiftFormer's frame, not MobileOne-S0 itself
    - blocks with attention count among a stage's blocks; a stage with fewer blocks has attention in all of them
    - a block with attention begins with the stage's convolution: a small `ConvEncoder`, or a layer of MobileOne

    Parameters
    ----------
    convolutions : sequence of {"conv-enc", "mo", "mo-se"}, length 4
        Blocks of each stage: `ConvEncoder`, or a layer of MobileOne without or with squeeze-and-excitation.
    attentions : sequence of {"none", "last-1", "last-2", "all"}, length 4
        Blocks of each stage that are an `AttentionBlock`.
    n_branches : int
        Branches of MobileOne's blocks.
    n_classes, seed : int
        Initial weights are drawn from the seed as in the authors' code: normal with standard deviation 0.02 for
        convolutions and linear layers, with zero biases. torch's global generators do not change.
    depths, widths : sequence of int, length 4

    Returns
    -------
    Module, on the CPU, in training mode
        Maps images (n, 3, side, side) to logits (n, n_classes). `naaplib.architectures.mobileone.fold` folds
        MobileOne's layers in it. It lacks the authors' second linear layer, for distillation, and random depth.

    Raises
    ------
    ValueError
        If there are not four of each, one is not among those listed, or a number is less than 1.
    """
    check(convolutions, attentions, depths=depths, widths=widths)
    require_whole(n_branches=n_branches, n_classes=n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it would reseed GPUs as well
        layers = [*_downsampling(IMAGE_CHANNELS, widths[0] // 2), nn.ReLU()]
        layers += [*_downsampling(widths[0] // 2, widths[0]), nn.ReLU()]
        for stage, (convolution, width) in enumerate(zip(convolutions, widths, strict=True)):
            if stage:
                layers += _downsampling(widths[stage - 1], width)
            for has_attention in _attentive(attentions[stage], depths[stage]):
                block = _convolution(convolution, width, n_branches, has_attention)
                layers.append(AttentionBlock(block, width) if has_attention else block)
        head = [nn.BatchNorm2d(widths[-1]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], n_classes)]
        network = nn.Sequential(*layers, *head)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return network


def n_params(
    convolutions: Sequence[str] = ("conv-enc",) * 4,
    attentions: Sequence[str] = ("last-1",) * 4,
    *,
    n_branches: int = 1,
    n_classes: int = N_CLASSES,
    folded: bool = False,
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> int:
    """Count the trained parameters of a network of `build`, without building it.

    Parameters
    ----------
    convolutions, attentions, n_branches, n_classes, depths, widths
        As in `build`.
    folded : bool
        True counts them after `naaplib.architectures.mobileone.fold`.

    Examples
    --------
    >>> n_params()
    3035570
    """
    check(convolutions, attentions, depths=depths, widths=widths)
    require_whole(n_branches=n_branches, n_classes=n_classes)
    total = (widths[-1] + 1) * n_classes + 2 * widths[-1]
    inputs = [IMAGE_CHANNELS, widths[0] // 2, *widths[:-1]]
    for c_in, c_out in zip(inputs, [widths[0] // 2, *widths], strict=True):
        total += (9 * c_in + 3) * c_out
    for convolution, attention, depth, width in zip(convolutions, attentions, depths, widths, strict=True):
        for has_attention in _attentive(attention, depth):
            if convolution == "conv-enc":
                total += 13 * width + _n_params_pointwise(width, width if has_attention else EXPANSION * width)
            else:
                has_se = convolution == "mo-se"
                total += mobileone.n_params_layer(
                    width, width, stride=1, has_se=has_se, n_branches=n_branches, folded=folded
                )
            if has_attention:
                total += 4 * (width + 1) * width + 5 * width + _n_params_pointwise(width, EXPANSION * width)
    return total


def check(
    convolutions: Sequence[str],
    attentions: Sequence[str],
    *,
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> None:
    """Raise the ValueError of `build` if it cannot build the network."""
    for what, given, allowed in (("convolutions", convolutions, CONVOLUTIONS), ("attentions", attentions, ATTENTIONS)):
        if len(given) != 4 or not set(given) <= set(allowed):
            raise ValueError(f"{what} must be four, one a stage, of {', '.join(allowed)}; not {given}")
    if len(depths) != 4 or len(widths) != 4 or min(depths) < 1 or min(widths) < 2:
        raise ValueError(f"four depths of 1 or more and four widths of 2 or more are needed, not {depths} and {widths}")
    for number in (*depths, *widths):
        require_whole(**{"each depth and width": number})


def _attentive(attention: str, depth: int) -> Iterator[bool]:
    """True for each block of a stage that has attention."""
    n_last = ATTENTIONS[attention]
    for block in range(depth):
        yield n_last is None or block >= depth - n_last


def _convolution(name: str, width: int, n_branches: int, has_attention: bool) -> nn.Module:
    if name == "conv-enc":
        return ConvEncoder(width, width if has_attention else EXPANSION * width)
    return mobileone.layer(width, width, stride=1, n_branches=n_branches, has_se=name == "mo-se")


def _downsampling(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.BatchNorm2d(c_out)]


def _pointwise(width: int, hidden: int) -> list[nn.Module]:
    return [nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, width, 1)]


def _n_params_pointwise(width: int, hidden: int) -> int:
    return 2 * width * hidden + hidden + width
