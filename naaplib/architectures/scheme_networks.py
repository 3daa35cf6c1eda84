"""Networks of schemes as torch modules, with the published run's initial weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from naaplib.architectures.schemes import IMAGE_CHANNELS, N_CLASSES, Scheme, check_scheme, require_whole


class ConvBlock(nn.Module):
    """Convolution, BatchNorm and ReLU, and an optional skip connection."""

    def __init__(self, c_in: int, c_out: int, *, kernel_size: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c_in, side, side) to (n, c_out, side_out, side_out)."""
        y = self.relu(self.bn(self.conv(x)))
        # After the ReLU, as published; out of place, because the ReLU's gradient needs its output.
        return y + x if self.residual else y


class Network(nn.Module):
    """The network of a scheme: blocks, average over pixels, and a linear layer.

    Parameters
    ----------
    scheme : tuple of Block, length n_blocks
    n_classes : int
    """

    def __init__(self, scheme: Scheme, n_classes: int = N_CLASSES) -> None:
        super().__init__()
        check_scheme(scheme)
        require_whole(n_classes=n_classes)
        self.scheme = scheme
        widths = [IMAGE_CHANNELS, *(block.width for block in scheme)]
        self.blocks = nn.Sequential(
            *(
                ConvBlock(
                    c_in, block.width, kernel_size=block.kernel_size, stride=block.stride, residual=block.residual
                )
                for c_in, block in zip(widths[:-1], scheme, strict=True)
            )
        )
        self.linear = nn.Linear(widths[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, side, side) to logits (n, n_classes)."""
        return self.linear(self.blocks(x).mean(dim=(2, 3)))


def initialise(network: nn.Module) -> None:
    """Draw all weights as the published recipe does, from torch's current generator.

    Modules are drawn in their order. Convolutions are Kaiming normal by fan-out with the gain of a ReLU, BatchNorms the
    identity, linear weights normal with standard deviation 0.01 and linear biases zero.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def build(scheme: Scheme, n_classes: int = N_CLASSES) -> Network:
    """Build the network of a scheme, initialised from torch's current CPU generator.

    torch draws its default weights first, and the recipe's weights are drawn after them. So a block's initial weights
    depend on the whole scheme, and schemes with equal first blocks differ in their weights there.

    Parameters
    ----------
    scheme : tuple of Block
    n_classes : int

    Returns
    -------
    Network, on the CPU, in training mode
    """
    network = Network(scheme, n_classes)
    initialise(network)
    return network


def build_seeded(scheme: Scheme, seed: int, *, n_classes: int = N_CLASSES) -> Network:
    """Build the network that the published code makes of a scheme and a seed.

    All weights are equal to the published code's. torch's global generators do not change. The
    published code has 10 classes.

    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> sum(weight.numel() for weight in build_seeded(enumerate_schemes()[0], seed=0).parameters())
    2566
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it would reseed GPUs as well
        return build(scheme, n_classes)
