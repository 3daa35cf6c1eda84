"""Small networks that are not trained, and batches for them, for tests of scores."""

import copy
from collections.abc import Callable

import torch
from made import SCHEME
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from naaplib.architectures import cells, scheme_networks
from naaplib.estimators.proxies import scores

CELL = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_1x1")

SCORES: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    "nas_wot": lambda network, x, y: scores.nas_wot(network, x),
    "nas_wot, eval": lambda network, x, y: scores.nas_wot(network, x, mode="eval"),
    "nas_wot, reached only": lambda network, x, y: scores.nas_wot(network, x, reached_only=True),
    "relu_count": lambda network, x, y: scores.relu_count(network, x),
    "linear_regions": lambda network, x, y: scores.linear_regions(network, x),
    "epe_nas": lambda network, x, y: scores.epe_nas(network, x, labels=y),
    "jacobian_covariance": lambda network, x, y: scores.jacobian_covariance(network, x),
    "gradient_norm": lambda network, x, y: scores.gradient_norm(network, x, labels=y),
    "snip": lambda network, x, y: scores.snip(network, x, labels=y),
    "synflow": lambda network, x, y: scores.synflow(network, x),
    "ntk_condition": lambda network, x, y: scores.ntk_condition(network, x),
    "macs": lambda network, x, y: scores.macs(network, x),
    "depth": lambda network, x, y: scores.depth(network, x),
    "n_parameters": lambda network, x, y: scores.n_parameters(network),
}


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


def convolutions(relu: Callable[[], nn.Module] = nn.ReLU, n_outputs: int = 3) -> nn.Sequential:
    """Two convolutions with BatchNorm and ReLU, the average over pixels, a linear layer: 4 x 64 + 6 x 16 ReLU units."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), relu()),
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), relu()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, n_outputs)),
    )


def dense(n_inputs: int = 5, n_units: int = 7, n_outputs: int = 3) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(n_inputs, n_units), nn.ReLU(), nn.Linear(n_units, n_outputs))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutions,
    "branches": Branches,
    "scheme": lambda: scheme_networks.build(SCHEME),
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


def kernel_by_hand(network: nn.Module, images: Tensor) -> list[list[int]]:
    """Slow twin: each two images, each unit, of what hooks on the ReLU modules find as their inputs."""
    network = copy.deepcopy(network)
    patterns: list[list[bool]] = [[] for _ in images]

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for pattern, values in zip(patterns, inputs[0].flatten(1).tolist(), strict=True):
            pattern.extend(value > 0 for value in values)

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(keep)
    network(images)
    return [[sum(a == b for a, b in zip(one, other, strict=True)) for other in patterns] for one in patterns]


def memory(function: Callable[[], object]) -> tuple[int, int]:
    """Bytes that torch allocates on top of what there is, at most and when the function has returned."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most, live
