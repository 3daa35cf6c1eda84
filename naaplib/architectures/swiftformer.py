"""SwiftFormer: convolutions and, last in each stage, additive attention; and hybrids of it with MobileOne's layers.

Shaker et al., "SwiftFormer: Efficient additive attention for transformer-based real-time mobile vision applications"
(ICCV 2023). What that paper leaves open is as in the authors' code (Amshaker/SwiftFormer). The hybrids are those of the
architecture-tuning study (Ouertatani et al. 2024, section 4.2 and Table 3).
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
XS_WIDTHS = (48, 56, 112, 220)  # their channels
EXPANSION = 4  # of channels, between the two pointwise convolutions of a block
_FIRST_SCALE = 1e-5  # of what attention and what follows it add to their input


class ConvEncoder(nn.Module):
    """Depthwise convolution of 3 x 3, BatchNorm, two pointwise convolutions with GELU between; scaled, and added.

    Parameters
    ----------
    width : int
        Channels of input and output.
    hidden : int
        Channels between the pointwise convolutions: `EXPANSION` times as many in a block of its own, as many as
        `width` in the smaller one with which a block with attention begins.
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
    """Efficient additive attention: one global query, the weighted sum of all, is multiplied into each token's key.

    With queries q_i and keys k_i of length 1, one of each a token, and weights w: a_i = q_i w, brought to length 1 over
    tokens, so that a factor such as 1 / sqrt(width) would change nothing; the global query is sum_i a_i q_i; a token
    becomes linear in q_i and in what a linear layer makes of global query * k_i. The cost grows with the number of
    tokens, not with its square.
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
    """A convolutional block, additive attention over all pixels, and two pointwise convolutions, each added, scaled.

    Parameters
    ----------
    local : Module
        What comes first, which keeps the shape.
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
    n_branches: int = 1,
    n_classes: int = N_CLASSES,
    seed: int = 0,
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> nn.Sequential:
    """A SwiftFormer, or a hybrid of it with MobileOne's layers; the defaults are SwiftFormer-XS's.

    Two convolutions of 3 x 3 with stride 2, BatchNorm and ReLU; stages of blocks, before each but the first a
    convolution of 3 x 3 with stride 2 and BatchNorm; BatchNorm; the average over pixels; a linear layer. So the side of
    an image is halved five times.

    The study says of its hybrids only which convolutions and how many blocks with attention a stage has. Here

    - stages have the depths, the widths and what is around them from SwiftFormer-XS, whatever is in them: the choice of
      "mo" and "none" everywhere is MobileOne's layers in SwiftFormer's frame, not MobileOne-S0 to the last channel
    - blocks with attention are among a stage's blocks, and do not come on top of them; where there are fewer
      than asked for, all have attention
    - a block with attention begins with what else is in the stage: `ConvEncoder`, there of its smaller kind, or a
      layer of MobileOne

    Parameters
    ----------
    convolutions : sequence of {"conv-enc", "mo", "mo-se"}, length 4
        Of each stage's blocks: `ConvEncoder`, or a layer of MobileOne without or with squeeze-and-excitation.
    attentions : sequence of {"none", "last-1", "last-2", "all"}, length 4
        Which blocks of each stage are an `AttentionBlock`.
    n_branches : int
        Of MobileOne's blocks.
    n_classes, seed : int
        Initial weights are drawn as in the authors' code, from the seed: those of convolutions and linear layers normal
        with standard deviation 0.02, biases zero. torch's global generators are left as they are.
    depths, widths : sequence of int, length 4

    Returns
    -------
    Module, on the CPU, in training mode
        Maps images (n, 3, side, side) to logits (n, n_classes). `naaplib.architectures.mobileone.fold` folds what is
        MobileOne's in it. The authors' second linear layer, for distillation, and random depth are left out.

    Raises
    ------
    ValueError
        If there are not four of each, one is none of those listed, or a number is less than 1.
    """
    check(convolutions, attentions, depths, widths)
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
    n_branches: int = 1,
    n_classes: int = N_CLASSES,
    folded: bool = False,
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> int:
    """Parameters that are learnt in a network of `build`, without building it.

    Parameters
    ----------
    convolutions, attentions, n_branches, n_classes, depths, widths
        As for `build`.
    folded : bool
        Count them after `naaplib.architectures.mobileone.fold`.

    Examples
    --------
    >>> n_params()
    3035570
    """
    check(convolutions, attentions, depths, widths)
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
                total += mobileone.n_params_layer(width, width, 1, has_se, n_branches, folded)
            if has_attention:
                total += 4 * (width + 1) * width + 5 * width + _n_params_pointwise(width, EXPANSION * width)
    return total


def check(
    convolutions: Sequence[str],
    attentions: Sequence[str],
    depths: Sequence[int] = XS_DEPTHS,
    widths: Sequence[int] = XS_WIDTHS,
) -> None:
    """Raise the ValueError of `build` unless it can build the network."""
    for what, given, allowed in (("convolutions", convolutions, CONVOLUTIONS), ("attentions", attentions, ATTENTIONS)):
        if len(given) != 4 or not set(given) <= set(allowed):
            raise ValueError(f"{what} must be four, one a stage, of {', '.join(allowed)}; not {given}")
    if len(depths) != 4 or len(widths) != 4 or min(depths) < 1 or min(widths) < 2:
        raise ValueError(f"four depths of 1 or more and four widths of 2 or more are needed, not {depths} and {widths}")
    for number in (*depths, *widths):
        require_whole(**{"each depth and width": number})


def _attentive(attention: str, depth: int) -> Iterator[bool]:
    """Whether there is attention in each block of a stage."""
    n_last = ATTENTIONS[attention]
    for block in range(depth):
        yield n_last is None or block >= depth - n_last


def _convolution(name: str, width: int, n_branches: int, has_attention: bool) -> nn.Module:
    if name == "conv-enc":
        return ConvEncoder(width, width if has_attention else EXPANSION * width)
    return mobileone.layer(width, width, 1, n_branches, has_se=name == "mo-se")


def _downsampling(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.BatchNorm2d(c_out)]


def _pointwise(width: int, hidden: int) -> list[nn.Module]:
    return [nn.Conv2d(width, hidden, 1), nn.GELU(), nn.Conv2d(hidden, width, 1)]


def _n_params_pointwise(width: int, hidden: int) -> int:
    return 2 * width * hidden + hidden + width
