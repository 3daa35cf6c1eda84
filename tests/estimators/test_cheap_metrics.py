"""Cheap metrics: by hand, against what networks cost by arithmetic, and what is left as it was."""

import copy
import gc
import math
import weakref
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from naaplib.architectures import cells, mobileone, swiftformer
from naaplib.estimators import cheap_metrics
from naaplib.estimators.cheap_metrics import METRICS, measure, profile
from naaplib.estimators.proxies import scores

CELL = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_1x1")
EXACT = [name for name in METRICS if name != "latency"]


def tiny(relu: nn.Module | None = None, width: int = 4) -> nn.Sequential:
    """A convolution with BatchNorm and ReLU, the average over pixels, a linear layer."""
    conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)]
    return nn.Sequential(conv, nn.BatchNorm2d(width), relu or nn.ReLU(), *head)


def made(width: int) -> nn.Module:
    """`tiny` of that many channels; that of 6 draws."""
    if width < 0:
        raise ValueError(f"a width of\n{width}")
    return nn.Sequential(tiny(width=width), nn.Dropout(0.5 if width == 6 else 0.0))


def sample(n: int = 2, side: int = 8) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def exact(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in EXACT}


def test_a_tiny_network_by_hand() -> None:
    """Two images of 3 x 8 x 8, four channels, three classes; four bytes a number."""
    metrics = measure(tiny(), sample())
    assert tuple(metrics) == METRICS
    assert metrics["n_params"] == 4 * 3 * 9 + 2 * 4 + 4 * 3 + 3
    assert metrics["macs"] == 4 * 3 * 9 * 64 + 4 * 3
    assert metrics["relu_units"] == 4 * 64
    images, maps, statistics, means = 2 * 3 * 64, 2 * 4 * 64, 2 * 4, 2 * 4
    # The convolution's and the BatchNorm's input, the latter's mean and deviation, the ReLU's output, the linear input.
    assert metrics["memory"] == 4 * (images + maps + statistics + maps + means)
    assert all(type(value) is float for value in metrics.values())


def test_memory_counts_a_storage_once() -> None:
    """The same ReLU's output is kept by the ReLU, and by two convolutions as their input; a product keeps both."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = (x - 0.5).relu()  # of what needs no gradient nothing is kept for it
            return self.a(x) * self.b(x)

    assert measure(Twice(), sample())["memory"] == 4 * 2 * 64 * (3 + 5 + 5)


def test_memory_leaves_out_what_no_gradient_reaches() -> None:
    """A branch that is detached, and a network that is not trained."""

    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = tiny(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.main(x) + self.side(x).detach().mean()

    assert measure(Side(), sample())["memory"] == measure(tiny(), sample())["memory"]
    frozen = measure(tiny().requires_grad_(False), sample())
    assert (frozen["memory"], frozen["n_params"]) == (0, 0)
    assert frozen["macs"] == measure(tiny(), sample())["macs"]


def test_macs_and_relu_units_are_those_of_one_input_and_memory_of_all() -> None:
    """Law: with more images only what is kept of images grows, and BatchNorm's statistics do not."""
    two, six = (measure(tiny(), sample(n)) for n in (2, 6))
    for name in ("n_params", "macs", "relu_units"):
        assert two[name] == six[name]
    statistics = 4 * 2 * 4
    assert six["memory"] - statistics == 3 * (two["memory"] - statistics)


def test_mobileone_s0() -> None:
    """Published number: 4,278,522 parameters with 10 classes; and macs as the score counts them from its modules."""
    network, images = mobileone.build(), sample(2, 32)
    metrics = measure(network, images, n_repeats=1)
    assert metrics["n_params"] == 4_278_522
    assert metrics["macs"] == scores.macs(network, images).value
    assert metrics["relu_units"] == scores.relu_count(network, images[:1]).value


@pytest.mark.parametrize("cell", [CELL, ("skip_connect",) * 6, ("nor_conv_3x3",) * 6])
def test_cells_cost_what_arithmetic_says(cell: cells.Cell) -> None:
    """The benchmark counts one more operation for each bias of the last layer, of which there are 10."""
    metrics = measure(cells.build(cell, n_cells=1), sample(1, 32), n_repeats=1)
    expected = cells.sizes([cell], n_cells=1).iloc[0]
    assert metrics["n_params"] == expected["n_params"]
    assert metrics["macs"] == expected["macs"] - 10
    assert metrics["relu_units"] == expected["n_relu_units"]


def test_macs_see_functions_and_attention() -> None:
    """By hand: a product of matrices without a module, and attention, which has a short cut in evaluation mode."""

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    assert measure(Product(), sample())["macs"] == 3 * 8**3
    attention = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.1, batch_first=True)
    metrics = measure(attention, torch.rand(2, 5, 8))
    assert metrics["macs"] == 5 * 8 * (4 * 8 + 2 * 16) + 2 * 5 * 5 * 8
    assert metrics["relu_units"] == 5 * 16


def test_networks_without_relu_have_no_relu_units() -> None:
    assert measure(tiny(nn.GELU()), sample())["relu_units"] == 0
    assert measure(tiny(nn.GELU()), sample())["memory"] > 0


@pytest.mark.parametrize("training", [True, False])
def test_network_and_generators_are_left_as_they_are(training: bool) -> None:
    """Weights, running statistics, each module's mode, gradients, the sample, torch's generator; frozen parts too."""
    network = nn.Sequential(nn.ReLU(inplace=True), tiny(), nn.Dropout(0.5)).train(training)
    network[1][1].eval()
    images, gradients = sample() - 0.5, torch.ones_like(network[1][0].weight)
    network[1][0].weight.grad = gradients
    state, before, modes = copy.deepcopy(network.state_dict()), images.clone(), [m.training for m in network.modules()]
    generator = torch.get_rng_state()
    with torch.no_grad():  # what is asked for around it does not matter either
        assert measure(network, images)["memory"] > 0
    assert torch.equal(generator, torch.get_rng_state())
    assert torch.equal(before, images)
    assert modes == [m.training for m in network.modules()]
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert [p.grad is gradients for p in network.parameters()] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "ambient", [torch.inference_mode, torch.no_grad, torch.enable_grad, lambda: torch.device("meta")]
)
def test_metrics_do_not_depend_on_what_torch_is_set_to(ambient: Callable) -> None:
    """The same numbers as outside, also of a network and a sample that were made in inference mode."""
    network, images = tiny(), sample()
    expected = exact(measure(network, images, n_repeats=1))
    assert expected["memory"] > 0
    with ambient():
        assert exact(measure(network, images, n_repeats=1)) == expected
    with torch.inference_mode():
        assert exact(measure(tiny(), sample(), n_repeats=1)) == expected


def test_metrics_do_not_depend_on_mode_weights_or_generator() -> None:
    """Law: also where the network itself draws whether a layer is run."""

    class Perhaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(16))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                if not self.training or torch.rand(()) < 0.5:
                    x = layer(x)
            return x

    first, *others = (exact(measure(Perhaps().train(i % 2 == 0), sample())) for i in range(4))
    assert others == [first] * 3


def test_latency_is_positive_and_longer_for_a_much_larger_network() -> None:
    """Some 10,000 times the multiply-accumulates."""
    small = measure(tiny(), sample())["latency"]
    large = measure(cells.build(("nor_conv_3x3",) * 6, n_cells=1), sample(8, 32))["latency"]
    assert 0 < small < large


def test_latency_is_the_median_of_those_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow twin: a clock that the network itself moves on, by 100 s, 1 s, 5 s, 3 s in evaluation mode."""
    clock = [0.0]

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.steps = 0

        def forward(self, x: Tensor) -> Tensor:
            if not self.training and not torch.is_grad_enabled():
                clock[0] += [0.0, 100.0, 1.0, 5.0, 3.0, 0.0][self.steps]  # counting comes first, and last
                self.steps += 1
            return self.linear(x)

    monkeypatch.setattr(cheap_metrics.time, "perf_counter", lambda: clock[0])
    assert measure(Timed(), sample(), n_repeats=3)["latency"] == 3


def test_profile_measures_each_in_order_and_says_what_failed() -> None:
    """A width that cannot be built, one that cannot be run, and those between; of the failed, nothing is known."""

    def build(width: int) -> nn.Module:
        return nn.Sequential(made(width), nn.Linear(4, 1)) if width == 7 else made(width)

    generator = torch.get_rng_state()
    table = profile(iter([4, -1, 6, 7]), build, sample=sample())
    assert torch.equal(generator, torch.get_rng_state())
    assert list(table) == [*METRICS, "failure"]
    assert table.index.tolist() == [0, 1, 2, 3]
    for i, width in ((0, 4), (2, 6)):
        assert exact(table.loc[i]) == exact(measure(made(width), sample()))
        assert table["latency"][i] > 0
    assert table.loc[[1, 3], list(METRICS)].isna().all(axis=None)
    assert table["failure"][[0, 1, 2]].tolist() == ["", "ValueError: a width of\n-1", ""]
    assert table["failure"][3].startswith("RuntimeError: ")
    assert table[list(METRICS)].dtypes.eq(float).all()


def test_processes_do_not_change_the_profile() -> None:
    """Two against one, all but the latency; what builds is a function of a function."""
    widths = [4, 6, -1, 12, 5]
    one, two = (
        profile(widths, lambda width: made(width), sample=sample(), n_jobs=n_jobs, n_repeats=1) for n_jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one.drop(columns="latency"), two.drop(columns="latency"), check_exact=True)
    assert two["latency"].isna().tolist() == [False, False, True, False, False]


def test_threads_are_one_while_profiling_and_then_as_before() -> None:
    """Of the caller's process too, where there is one job."""
    n_threads, seen = torch.get_num_threads(), []

    def build(width: int) -> nn.Module:
        seen.append(torch.get_num_threads())
        return made(width)

    try:
        torch.set_num_threads(2)
        profile([4, 5], build, sample=sample(), n_repeats=1)
        assert (seen, torch.get_num_threads()) == ([1, 1], 2)
    finally:
        torch.set_num_threads(n_threads)


def test_one_image_that_shrinks_to_a_pixel_has_no_pass_in_training() -> None:
    """Torch refuses a BatchNorm of one value; two images will do, and one is a failure like others."""
    table = profile([0], lambda seed: mobileone.build(seed=seed), sample=sample(2, 32), n_repeats=1)
    assert math.isfinite(table["memory"][0])
    with pytest.raises(
        ValueError, match="all 1 networks failed; the first with ValueError: Expected more than 1 value"
    ):
        profile([0], lambda seed: mobileone.build(seed=seed), sample=sample(1, 32), n_repeats=1)


def test_hybrids_are_measured() -> None:
    """Additive attention: macs as from its modules; the product of queries and a vector of weights is free."""
    network = swiftformer.build()
    metrics = measure(network, sample(1, 64), n_repeats=1)
    assert metrics["n_params"] == sum(p.numel() for p in network.parameters())
    assert metrics["macs"] == scores.macs(network, sample(1, 64)).value


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that saves its own output, as a ReLU does, must not hold itself: networks are measured by the thousand."""
    kept = []
    original = cheap_metrics._Kept

    def watched(tensor: Tensor) -> object:
        kept.append(weakref.ref(one := original(tensor)))
        return one

    monkeypatch.setattr(cheap_metrics, "_Kept", watched)
    measure(tiny(), sample(), n_repeats=1)
    gc.collect()
    assert kept
    assert [one() for one in kept if one() is not None] == []


def test_messages() -> None:
    """All fail, none there, no input, no pass: what came, and what is wanted; arguments are no network's failure."""
    with pytest.raises(ValueError, match=r"all 2 networks failed; the first with ValueError: a width of\s-2"):
        profile([-2, -1], made, sample=sample())
    with pytest.raises(ValueError, match="there are no encodings"):
        profile([], made, sample=sample())
    for wrong in (torch.zeros(3), torch.zeros(0, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"the sample has shape .*at least one input"):
            measure(tiny(), wrong)
    with pytest.raises(ValueError, match="n_repeats is 0; at least one pass must be timed"):
        profile([4], made, sample=sample(), n_repeats=0)
