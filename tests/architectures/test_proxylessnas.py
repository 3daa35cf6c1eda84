import doctest
import itertools
import re

import numpy as np
import pytest
import torch

from naaplib.architectures import proxylessnas
from naaplib.architectures.graphs import layer_codes
from naaplib.architectures.proxylessnas import MOBILE
from naaplib.estimators.proxies import products

SHORT = (2, 3, 6, 0, 6, 1, 6, 6, 6, 5, 6, 6, 4, 0, 6, 3, 6, 2, 6, 6, 1, 4)  # with absent layers


def test_the_published_network_has_the_published_counts() -> None:
    """ProxylessNAS for mobile phones has 4,080,512 parameters and "332.46M FLOPs/2" in the tables of imgclsmob.

    These count, for one image, two operations for each multiply-accumulate of a convolution, less one for each of its
    pairs of channels; four for each number that BatchNorm takes, and one for each that ReLU6, pooling or an absent
    layer takes.
    """
    counts = proxylessnas.sizes([MOBILE], replicated=False).iloc[0]
    assert counts["n_params"] == 4_080_512
    network = proxylessnas.build(MOBILE, replicated=False).eval()
    more = [2 * counts["macs"], 2 * 32 * 56**2]  # two absent layers, of 32 channels

    def count(module: torch.nn.Module, given: tuple, _: torch.Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            more.append(-module.in_channels * module.out_channels // module.groups)
        n_each = {torch.nn.BatchNorm2d: 4, torch.nn.ReLU6: 1, torch.nn.AdaptiveAvgPool2d: 1}.get(type(module), 0)
        more.append(n_each * given[0].numel())

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    assert round(sum(more) / 2e6, 2) == 332.46


def test_the_space_has_the_printed_size() -> None:
    """About 6.64e17 networks, cut off after two decimals (Section IV of the replication)."""
    assert proxylessnas.N_NETWORKS // 10**15 == 664


@pytest.mark.parametrize("replicated", [True, False])
@pytest.mark.parametrize(("codes", "side"), [(MOBILE, 64), (SHORT, 50), (SHORT, 31)])
def test_counts_are_those_of_the_network_that_is_built(codes: tuple, side: int, replicated: bool) -> None:
    """Parameters of the module, and multiply-accumulates met in a forward pass; odd sides too."""
    network = proxylessnas.build(codes, n_classes=7, replicated=replicated).eval()
    counts = proxylessnas.sizes([codes], n_classes=7, side=side, replicated=replicated).iloc[0]
    assert counts["n_params"] == sum(weight.numel() for weight in network.parameters())
    found, _ = products.count(network, torch.zeros(1, 3, side, side))
    assert found == counts["macs"]


def test_the_replication_halves_in_every_layer_of_a_block() -> None:
    """Sixteen strided layers of 22, where the paper has four; both halve once more in the stem."""
    whole = [0] * 22
    for replicated, n_strided in ((True, 16), (False, 4)):
        found = proxylessnas.layers(whole, replicated=replicated)
        assert sum(layer.stride == 2 for layer in found) == n_strided
    assert [layer.c_out for layer in found] == [16, *[32] * 4, *[40] * 4, *[80] * 4, *[96] * 4, *[192] * 4, 320]


def test_an_absent_layer_leaves_what_came_before() -> None:
    """The network of mobile phones lacks two layers; the next reads the channels of the last that is there."""
    found = proxylessnas.layers(MOBILE, replicated=False)
    assert len(found) == 20
    assert all(before.c_out == after.c_in for before, after in itertools.pairwise(found))


def test_the_first_layer_has_no_expansion() -> None:
    """Codes 0 and 3 of the first layer are the same; of another layer, they are not."""
    first, other = [3, *MOBILE[1:]], [MOBILE[0], 4, *MOBILE[2:]]
    assert proxylessnas.layers(first) == proxylessnas.layers(MOBILE) != proxylessnas.layers(other)


def test_a_bottleneck_adds_its_input_where_shapes_agree() -> None:
    """With its last scale at zero, it returns its input then, and nothing otherwise."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5)
    for layer, expected in (((8, 8, 3, 3, 1), x), ((8, 8, 3, 3, 2), None), ((8, 16, 3, 3, 1), None)):
        bottleneck = proxylessnas._Bottleneck(proxylessnas.Layer(*layer), has_biases=True)
        torch.nn.init.zeros_(bottleneck.body[-1].weight)
        found = bottleneck(x)
        assert torch.equal(found, x if expected is not None else torch.zeros_like(found))


@pytest.mark.parametrize("replicated", [True, False])
def test_gradients_reach_every_kernel(replicated: bool) -> None:
    """From the loss of a small batch of images, back to the stem."""
    torch.manual_seed(0)
    network = proxylessnas.build(SHORT, n_classes=3, replicated=replicated)
    loss = torch.nn.functional.cross_entropy(network(torch.randn(12, 3, 64, 64)), torch.arange(12) % 3)
    loss.backward()
    kernels = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert all(kernel.grad.isfinite().all() and kernel.grad.abs().sum() > 0 for kernel in kernels)


def test_samples_are_of_the_space_and_uniform() -> None:
    """First layers are there; every code of a layer occurs about as often; a seed repeats its draws."""
    drawn = proxylessnas.sample(4000, seed=1)
    assert (layer_codes(" ".join(map(str, row)) for row in drawn[:50]) == drawn[:50]).all()
    assert all(proxylessnas.layers(row) for row in drawn[:50])
    for place, n_codes in ((0, 3), (1, 6), (2, 7), (21, 6)):
        counts = np.bincount(drawn[:, place], minlength=n_codes)
        assert len(counts) == n_codes
        assert abs(counts * n_codes / 4000 - 1).max() < 0.15
    assert (proxylessnas.sample(3, seed=1) == proxylessnas.sample(3, seed=1)).all()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (MOBILE[:-1], "22 codes from 0 to 6"),
        ((*MOBILE[:-1], 7), "22 codes from 0 to 6"),
        ((0, 6, *MOBILE[2:]), "code 2 is 6, an absent layer; the first layer of a block cannot be"),
    ],
)
def test_wrong_codes_are_named(codes: tuple, message: str) -> None:
    """With their place, and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        proxylessnas.build(codes)


def test_examples() -> None:
    """Examples of the documentation hold."""
    result = doctest.testmod(proxylessnas)
    assert result.attempted > 0
    assert result.failed == 0
