"""MobileOne: networks with parallel branches that are folded for inference.

Vasu et al., "MobileOne: An improved one millisecond mobile backbone" (CVPR 2023). Details that the paper leaves open,
and the counts of parameters, follow the authors' code (apple/ml-mobileone).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import reduce
from numbers import Integral
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized
from torchvision.ops import FrozenBatchNorm2d, SqueezeExcitation

from naaplib.architectures.schemes import IMAGE_CHANNELS, N_CLASSES, require_whole

BASE_WIDTHS = (64, 128, 256, 512)  # channels of the four stages at multiplier 1
S0_DEPTHS = (2, 8, 10, 1)
S0_MULTIPLIERS = (0.75, 1.0, 1.0, 2.0)
S0_BRANCHES = 4
SQUEEZE = 16  # squeeze-and-excitation divides the channels by it between its two convolutions


class Stage(NamedTuple):
    """A stage: its first layer has stride 2, and its last `n_se` layers have SE."""

    c_in: int
    c_out: int
    n_layers: int
    n_se: int


class Block(nn.Module):
    """A sum of convolutions with BatchNorm, then optional SE and ReLU.

    The branches are `n_branches` convolutions of `kernel_size`, one of 1 x 1 if that is larger, and a BatchNorm alone
    if input and output have the same shape. SE is squeeze-and-excitation. No ReLU works in place.

    Parameters
    ----------
    c_in, c_out, kernel_size, stride, groups : int
        Arguments of the convolutions; kernel_size is odd, and the padding is zero.
    n_branches : int
    has_se : bool
        True needs at least 16 output channels.
    """

    def __init__(
        self, c_in: int, c_out: int, *, kernel_size: int, stride: int = 1, groups: int = 1, n_branches: int = 1,
        has_se: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        _check_block(c_out, n_branches, has_se)
        sizes = [kernel_size] * n_branches + [1] * (kernel_size > 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, size, stride=stride, padding=size // 2, groups=groups, bias=False) for size in sizes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c_out) for _ in sizes)
        self.identity = nn.BatchNorm2d(c_out) if c_in == c_out and stride == 1 else None
        self.se = SqueezeExcitation(c_out, c_out // SQUEEZE) if has_se else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c_in, side, side) to (n, c_out, side_out, side_out)."""
        branches = [norm(conv(x)) for conv, norm in zip(self.convolutions, self.norms, strict=True)]
        if self.identity is not None:
            branches.append(self.identity(x))
        return self.relu(self.se(reduce(add, branches)))

    @torch.inference_mode(False)
    @torch.no_grad()
    def fold(self) -> nn.Sequential:
        """Return one convolution with bias, SE and ReLU that computes the same.

        The result agrees with the block in evaluation mode. Kernels and running statistics are combined in float64 and
        then rounded to the type of the weights. Parametrised weights (``torch.nn.utils.parametrizations``) are used as
        computed. A block that no convolution can replace raises ValueError.
        """
        _check_foldable(self)
        convolutions: Any = copy.deepcopy(self.convolutions).eval()  # computing weights may change them
        first = convolutions[0]
        weights, norms = [conv.weight.double() for conv in convolutions], list(self.norms)
        biases = [0.0 if conv.bias is None else conv.bias.double() for conv in convolutions]
        if self.identity is not None:
            weights.append(nn.init.dirac_(torch.empty_like(weights[0]), first.groups))
            norms.append(self.identity)
            biases.append(0.0)
        kernel = torch.zeros_like(weights[0])
        total = torch.zeros_like(kernel[:, 0, 0, 0])
        for weight, bias, norm in zip(weights, biases, norms, strict=True):
            scale, shift = _scale_and_shift(norm, total)
            margin = (kernel.shape[-1] - weight.shape[-1]) // 2
            kernel += scale[:, None, None, None] * nn.functional.pad(weight, [margin] * 4)
            total += shift + scale * bias
        sizes = first.in_channels, first.out_channels, first.kernel_size, first.stride, first.padding, 1, first.groups
        conv = nn.utils.skip_init(nn.Conv2d, *sizes, device=kernel.device, dtype=first.weight.dtype)
        conv.weight, conv.bias = (nn.Parameter(part.to(first.weight.dtype)) for part in (kernel, total))
        return nn.Sequential(conv, copy.deepcopy(self.se), copy.deepcopy(self.relu)).train(self.training)


@torch.inference_mode(False)
def fold(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which every `Block` is folded.

    Parameters
    ----------
    network : Module
        Any module with blocks inside, such as from `build`, or a block. A block used in several places is folded once.

    Returns
    -------
    Module, in evaluation mode; it returns what the network then returns, up to rounding

    Raises
    ------
    ValueError
        As in `Block.fold`, or if the network cannot be copied.
    """
    for block in (module for module in network.modules() if isinstance(module, Block)):
        _check_foldable(block)
    try:
        folded = copy.deepcopy(network)
    except RuntimeError as error:  # torch raises it if a weight is not a parameter
        raise ValueError(f"the network cannot be copied, and so not be folded: {error}") from error
    done: dict[nn.Module, nn.Module] = {}
    for parent in reversed(list(folded.modules())):  # children come before their parents
        for name, child in list(parent._modules.items()):  # named_children gives only one of a child's names
            if isinstance(child, Block):
                if child not in done:
                    done[child] = child.fold()
                setattr(parent, name, done[child])
    return folded.fold().eval() if isinstance(folded, Block) else folded.eval()


def layer(c_in: int, c_out: int, *, stride: int = 1, n_branches: int = 1, has_se: bool = False) -> nn.Sequential:
    """Build a layer: a depthwise block of 3 x 3 with the stride, and a block of 1 x 1."""
    return nn.Sequential(
        Block(c_in, c_in, kernel_size=3, stride=stride, groups=c_in, n_branches=n_branches, has_se=has_se),
        Block(c_in, c_out, kernel_size=1, n_branches=n_branches, has_se=has_se),
    )


def stages(depths: Sequence[int], multipliers: Sequence[float], *, has_se: bool = False) -> tuple[Stage, ...]:
    """Return the four stages that the authors' code builds.

    The stem has min(64, 64 w_1) channels, and stage s has `BASE_WIDTHS` times w_s, rounded down. `has_se` applies to
    the last half, rounded down, of the third stage's layers and to all of the fourth's. As in the code, a depth of 0 is
    one layer, with SE in any case. So the sum of depths is not always the number of layers, and two choices give the
    same network exactly if this function returns the same.

    Parameters
    ----------
    depths : sequence of int, length 4, 0 or more
    multipliers : sequence of float, length 4, above 0
    has_se : bool

    Raises
    ------
    ValueError
        If there are not four depths and four multipliers, or a stage has no channels.

    Examples
    --------
    >>> stages(S0_DEPTHS, S0_MULTIPLIERS)[0]
    Stage(c_in=48, c_out=48, n_layers=2, n_se=0)
    >>> stages((0, 8, 5, 1), S0_MULTIPLIERS, has_se=True)[::2]
    (Stage(c_in=48, c_out=48, n_layers=1, n_se=1), Stage(c_in=128, c_out=256, n_layers=5, n_se=2))
    """
    if len(depths) != 4 or not all(isinstance(depth, Integral) and depth >= 0 for depth in depths):
        raise ValueError(f"there must be four depths of 0 or more, one a stage, not {depths}")
    if len(multipliers) != 4 or not all(math.isfinite(w) for w in multipliers):
        raise ValueError(f"there must be four multipliers, one a stage, not {multipliers}")
    widths = [int(base * w) for base, w in zip(BASE_WIDTHS, multipliers, strict=True)]
    if min(widths) < 1:
        raise ValueError(f"multipliers {multipliers} leave {min(widths)} channels in a stage; 1 or more are needed")
    n_se = (0, 0, depths[2] // 2, depths[3]) if has_se else (0, 0, 0, 0)
    inputs = [min(BASE_WIDTHS[0], widths[0]), *widths[:-1]]
    plan = zip(inputs, widths, depths, n_se, strict=True)
    return tuple(Stage(c_in, c_out, n or 1, n_last if n else 1) for c_in, c_out, n, n_last in plan)


def build(
    depths: Sequence[int] = S0_DEPTHS, multipliers: Sequence[float] = S0_MULTIPLIERS, *,
    n_branches: int = S0_BRANCHES, has_se: bool = False, n_classes: int = N_CLASSES, seed: int = 0,
) -> nn.Sequential:  # fmt: skip
    """Build a MobileOne; the defaults are those of MobileOne-S0.

    The network consists of a block of 3 x 3 with stride 2 and one branch; four stages of layers (see `stages`,
    `layer`); the average over pixels; and a linear layer. It halves an image's side five times.

    Parameters
    ----------
    depths : sequence of int, length 4, 0 or more
        Nominal depths of the stages; 0 is one layer, with SE.
    multipliers : sequence of float, length 4
    n_branches : int
        Branches of each block but the first.
    has_se : bool
    n_classes, seed : int
        Initial weights are torch's defaults, drawn from the seed. torch's global generators do not change.

    Returns
    -------
    Module, on the CPU, in training mode
        Maps images (n, 3, side, side) to logits (n, n_classes).

    Raises
    ------
    ValueError
        As in `stages`, or if there is no branch, or a block with SE has less than 16 channels.
    """
    plan = stages(depths, multipliers, has_se=has_se)
    require_whole(n_classes=n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it would reseed GPUs as well
        layers = [
            layer(c_in, c_out, stride=stride, n_branches=n_branches, has_se=se)
            for stage in plan
            for c_in, c_out, stride, se in _layers(stage)
        ]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(plan[-1].c_out, n_classes)]
        return nn.Sequential(Block(IMAGE_CHANNELS, plan[0].c_in, kernel_size=3, stride=2), *layers, *head)


def n_params(
    depths: Sequence[int] = S0_DEPTHS,
    multipliers: Sequence[float] = S0_MULTIPLIERS,
    *,
    n_branches: int = S0_BRANCHES,
    has_se: bool = False,
    n_classes: int = N_CLASSES,
    folded: bool = False,
) -> int:
    """Count the trained parameters of a network of `build`, also after `fold`.

    Examples
    --------
    >>> n_params(), n_params(folded=True)
    (4278522, 1063754)
    """
    plan = stages(depths, multipliers, has_se=has_se)
    require_whole(n_classes=n_classes)
    stem = _n_params_block(IMAGE_CHANNELS, plan[0].c_in, kernel_size=3, stride=2, folded=folded)
    return stem + sum(n_params_stage(s, n_branches, folded=folded) for s in plan) + (plan[-1].c_out + 1) * n_classes


def n_params_stage(stage: Stage, n_branches: int, *, folded: bool) -> int:
    """Count the parameters of one of `stages`, without stem and last layer."""
    return sum(
        n_params_layer(c_in, c_out, stride=stride, has_se=has_se, n_branches=n_branches, folded=folded)
        for c_in, c_out, stride, has_se in _layers(stage)
    )


def n_params_layer(c_in: int, c_out: int, *, stride: int, has_se: bool, n_branches: int, folded: bool) -> int:
    """Count the parameters of a `layer`."""
    form: dict[str, Any] = {"n_branches": n_branches, "has_se": has_se, "folded": folded}
    depthwise = _n_params_block(c_in, c_in, kernel_size=3, stride=stride, groups=c_in, **form)
    return depthwise + _n_params_block(c_in, c_out, kernel_size=1, **form)


def _n_params_block(
    c_in: int, c_out: int, *, kernel_size: int, stride: int = 1, groups: int = 1, n_branches: int = 1,
    has_se: bool = False, folded: bool,
) -> int:  # fmt: skip
    _check_block(c_out, n_branches, has_se)
    weights = c_in // groups * c_out  # for one pixel of the kernel
    squeezed = c_out // SQUEEZE
    se = has_se * (2 * c_out * squeezed + squeezed + c_out)
    if folded:
        return weights * kernel_size**2 + c_out + se
    is_identity = c_in == c_out and stride == 1
    one_by_one = (kernel_size > 1) * (weights + 2 * c_out)
    return n_branches * (weights * kernel_size**2 + 2 * c_out) + one_by_one + is_identity * 2 * c_out + se


def _layers(stage: Stage) -> Iterator[tuple[int, int, int, bool]]:
    """Input channels, output channels, stride and has_se of each layer."""
    for i in range(stage.n_layers):
        has_se = i >= stage.n_layers - stage.n_se
        yield stage.c_out if i else stage.c_in, stage.c_out, 1 if i else 2, has_se


def _scale_and_shift(norm: nn.Module, zero: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset of a norm in evaluation mode, from its outputs for 0 and 1."""
    exact: Any = copy.deepcopy(norm).double().eval()
    one = torch.ones_like(zero)[None, :, None, None]
    shift = exact(0 * one).flatten()
    return exact(one).flatten() - shift, shift


def _check_foldable(block: Block) -> None:
    """Raise ValueError if no convolution can stand for a block."""
    convs: Any = block.convolutions
    if type(block).forward is not Block.forward:
        raise ValueError(f"{type(block).__name__} computes otherwise than Block does, and needs a fold of its own")
    for conv in convs:
        like = (convs[0].stride, convs[0].groups, (1, 1), "zeros", tuple(n // 2 for n in conv.kernel_size))
        if not isinstance(conv, nn.Conv2d) or (
            (conv.stride, conv.groups, conv.dilation, conv.padding_mode, conv.padding) != like
        ):
            raise ValueError(f"a block's convolutions must be Conv2d padded by zeros, alike in stride, not {conv}")
        if not is_parametrized(conv, "weight") and "weight" not in conv._parameters:
            raise ValueError(
                "a convolution's weight is made anew at each pass, as by torch.nn.utils.weight_norm or prune: remove "
                "that first (remove_weight_norm, prune.remove), or use torch.nn.utils.parametrizations"
            )
    for norm in (*block.norms, *([] if block.identity is None else [block.identity])):
        fixed = isinstance(norm, _BatchNorm) and norm.running_mean is not None
        if not fixed and not isinstance(norm, FrozenBatchNorm2d | nn.Identity):
            raise ValueError(f"a block's norms must be BatchNorm with running statistics to be folded, not {norm}")
    if any(part._forward_hooks or part._forward_pre_hooks for part in (block, *block.convolutions, *block.norms)):
        raise ValueError("a block's forward hooks would be lost in folding: remove them first")


def _check_block(c_out: int, n_branches: int, has_se: bool) -> None:
    if not isinstance(n_branches, Integral) or n_branches < 1:
        raise ValueError(f"a block needs at least 1 branch of its kernel size, not {n_branches}")
    if has_se and c_out < SQUEEZE:
        raise ValueError(f"a block with squeeze-and-excitation needs {SQUEEZE} channels or more, not {c_out}")
