"""Small networks that are not trained, and batches for them, for tests of scores."""

from collections.abc import Callable

import torch
from made import SCHEME
from torch import Tensor, nn

from naaplib.architectures import cells, networks

CELL = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_1x1")


class Branches(nn.Module):
    """A skip past two ReLUs, and one ReLU module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.relu = nn.ReLU()
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x + self.relu(self.inner(self.relu(x))))


def convolutions(relu: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Two convolutions with BatchNorm and ReLU, the average over pixels, a linear layer: 4 x 64 + 6 x 16 ReLU units."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), relu()),
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), relu()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    )


def dense(n_inputs: int = 5, n_units: int = 7, n_outputs: int = 3) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(n_inputs, n_units), nn.ReLU(), nn.Linear(n_units, n_outputs))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutions,
    "branches": Branches,
    "scheme": lambda: networks.build(SCHEME),
    "cell": lambda: cells.build(CELL, n_channels=4, n_cells=1, n_classes=3),
}


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network with weights from a seed, in double precision, in which other orders of sums switch no ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def batch(n_images: int = 6, seed: int = 0, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[Tensor, Tensor]:
    """Noise (n_images, *shape) in double precision, and labels of three classes, all there from three images on."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n_images, *shape, generator=generator, dtype=torch.float64)
    return images, torch.arange(n_images) % 3
