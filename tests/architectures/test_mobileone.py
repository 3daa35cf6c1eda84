import copy
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.ops import FrozenBatchNorm2d

from naaplib.architectures import mobileone
from naaplib.architectures.mobileone import Block, build, fold, n_params, stages

SMALL = {"depths": (1, 2, 3, 1), "multipliers": (0.25, 0.25, 0.5, 0.5)}


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def train_on_noise(network: nn.Module, bias: float, seed: int = 0, n_images: int = 6) -> Tensor:
    """Draw scales and shifts of all BatchNorms, around 1 and `bias`, and give them the statistics of returned images.

    Where `bias` is 0 a network of random weights amplifies what rounding leaves a hundredfold or more, folded or not.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, bias, 0.3, generator=generator)
            module.momentum = 1.0
    images = torch.randn(n_images, 3, 64, 64, generator=generator)
    with torch.no_grad():
        network(images)
    return images


@torch.no_grad()
def check_fold(network: nn.Module, images: Tensor, tolerance: float) -> None:
    """Compare outputs to `tolerance` of the largest; images must matter, or equal outputs would say little."""
    expected = network.eval()(images)
    assert expected.std(dim=0).mean() > 0.01
    atol = tolerance * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(fold(network)(images), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("n_classes", "n_branches", "expected"),
    [(10, 4, (4_278_522, 1_063_754)), (1000, 4, (5_293_272, 2_078_504)), (10, 1, (1_096_746, 1_063_754))],
)
def test_sizes_of_s0_are_published(n_classes: int, n_branches: int, expected: tuple[int, int]) -> None:
    """Of the built network before and after folding, and counted; the tuning study prints 4.28M and 1.06M."""
    network = build(n_classes=n_classes, n_branches=n_branches)
    assert (n_parameters(network), n_parameters(fold(network))) == expected
    counted = tuple(n_params(n_branches=n_branches, n_classes=n_classes, folded=folded) for folded in (False, True))
    assert counted == expected


def test_size_by_hand() -> None:
    """Of one layer a stage, 16, 32, 64, 128 channels, two branches, SE in the last stage and in one of depth 0."""
    stem = 3 * 16 * 10 + 2 * 2 * 16
    depthwise = [2 * (9 * c + 2 * c) + 3 * c for c in (16, 16, 32, 64)]
    pointwise = [2 * (16 * 16 + 32) + 32] + [2 * (c * 2 * c + 4 * c) for c in (16, 32, 64)]
    se = [2 * c * (c // 16) + c // 16 + c for c in (16, 32, 64, 128)]
    expected = stem + sum(depthwise) + sum(pointwise) + sum(se) + 129 * 3
    assert n_params((1, 0, 1, 1), (0.25,) * 4, n_branches=2, has_se=True, n_classes=3) == expected


def random_choice(seed: int) -> dict:
    """Depths with zeros among them, multipliers that do not fall, branches, and SE in every other network."""
    rng = random.Random(seed)
    return {
        "depths": [rng.choice((0, 1, 2, 5)) for _ in range(4)],
        "multipliers": sorted(rng.choice((0.25, 0.5, 0.75, 1.25)) for _ in range(4)),
        "n_branches": rng.choice((1, 2, 4)),
        "has_se": bool(seed % 2),
    }


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_are_counted_and_fold(seed: int) -> None:
    """Parameters are those of the modules, folded or not; outputs stay in float32, and more closely in float64."""
    choice = random_choice(seed)
    network = build(**choice, seed=seed)
    assert n_params(**choice) == n_parameters(network)
    assert n_params(**choice, folded=True) == n_parameters(fold(network))
    check_fold(network, train_on_noise(network, bias=0.5, seed=seed), 1e-5)
    network.double()
    check_fold(network, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)).double(), 1e-12)


@pytest.mark.parametrize("has_se", [False, True])
def test_s0_folds(has_se: bool) -> None:
    """In float32, and in float64 with statistics that would amplify any difference."""
    network = build(has_se=has_se)
    check_fold(network, train_on_noise(network, bias=0.5), 1e-5)
    images = train_on_noise(network.train(), bias=0.0)
    check_fold(network.double(), images.double(), 1e-9)


@pytest.mark.parametrize(
    ("c_in", "c_out", "kernel_size", "stride", "groups", "n_branches", "n_norms"),
    [(16, 16, 3, 1, 16, 4, 6), (16, 16, 3, 2, 16, 2, 3), (16, 32, 1, 1, 1, 3, 3), (16, 16, 1, 1, 1, 1, 2)],
)
def test_a_block_has_the_branches_of_the_paper(
    c_in: int, c_out: int, kernel_size: int, stride: int, groups: int, n_branches: int, n_norms: int
) -> None:
    """Its own, one of 1 x 1 unless all are, the identity where shapes allow: as many BatchNorms; then one kernel."""
    block = Block(c_in, c_out, kernel_size=kernel_size, stride=stride, groups=groups, n_branches=n_branches).eval()
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == n_norms
    for scale, norm in enumerate(norms, start=1):
        nn.init.constant_(norm.weight, scale)
    x = torch.randn(2, c_in, 7, 7, generator=torch.Generator().manual_seed(0))
    pairs = zip(block.convolutions, norms, strict=False)
    total = sum(
        norm(nn.functional.conv2d(x, conv.weight, None, stride, conv.padding, 1, groups)) for conv, norm in pairs
    )
    if n_norms > len(block.convolutions):
        total = total + norms[-1](x)
    with torch.no_grad():
        torch.testing.assert_close(block(x), total.relu())
        torch.testing.assert_close(fold(block)(x), total.relu(), rtol=0, atol=1e-5)
    shapes = [parameter.shape for parameter in fold(block).parameters()]
    assert shapes == [(c_out, c_in // groups, kernel_size, kernel_size), (c_out,)]


def test_folding_leaves_the_network_as_it_was() -> None:
    """Mode, weights and statistics; the copy is in evaluation mode, and has neither branch nor BatchNorm."""
    network = build(**SMALL)
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module.training for module in folded.modules())
    assert not any(isinstance(module, (Block, nn.BatchNorm2d)) for module in folded.modules())
    nn.init.zeros_(network[-1].weight)
    assert folded[-1].weight.abs().min() > 0


def test_stages_follow_the_authors_code() -> None:
    """A stem of no more than 64 channels; SE in half of stage 3 and all of stage 4; a depth of 0 is a layer with SE."""
    assert stages((2, 8, 5, 1), (3.0, 3.5, 3.5, 4.0), has_se=True) == (
        (64, 192, 2, 0), (192, 448, 8, 0), (448, 896, 5, 2), (896, 2048, 1, 1),
    )  # fmt: skip
    for has_se in (False, True):
        assert stages((0,) * 4, (0.25,) * 4, has_se=has_se) == (
            (16, 16, 1, 1),
            (16, 32, 1, 1),
            (32, 64, 1, 1),
            (64, 128, 1, 1),
        )


def test_an_image_is_halved_five_times() -> None:
    """By the first block and by the first layer of each stage; SE is in the last layers of a stage."""
    network = build((1, 2, 3, 2), (0.25,) * 4, n_branches=1, has_se=True)
    assert [module.convolutions[0].stride[0] for module in network.modules() if isinstance(module, Block)] == (
        [2, *(2, 1), *(2, 1, 1, 1), *(2, 1, 1, 1, 1, 1), *(2, 1, 1, 1)]
    )
    has_se = [not isinstance(module.se, nn.Identity) for module in network.modules() if isinstance(module, Block)]
    assert has_se == [False] * 11 + [True] * 6
    assert network[:-3](torch.zeros(2, 3, 64, 64)).shape == (2, 128, 2, 2)


def test_a_seed_decides_the_weights() -> None:
    """The same seed gives the same ones, another seed others; torch's own generator is not touched."""
    before = torch.get_rng_state()
    first, again, other = (build(**SMALL, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if first[key].ndim == 4)


def test_wrong_arguments_are_named() -> None:
    """With what is allowed."""
    for depths in ((2, 8, 10), (2, 8, 10, -1)):
        with pytest.raises(ValueError, match="there must be four depths of 0 or more, one a stage, not "):
            build(depths)
    with pytest.raises(ValueError, match="there must be four multipliers, one a stage, not "):
        stages(mobileone.S0_DEPTHS, (1, 1, 1))
    with pytest.raises(ValueError, match="leave 0 channels in a stage; 1 or more are needed"):
        stages(mobileone.S0_DEPTHS, (0, 1, 1, 1))
    for function in (build, n_params):
        with pytest.raises(ValueError, match="a block needs at least 1 branch of its kernel size, not 0"):
            function(n_branches=0)
        with pytest.raises(ValueError, match="squeeze-and-excitation needs 16 channels or more, not 8"):
            function((0, 1, 1, 1), (0.125, 1, 1, 1))


def changed(change) -> tuple[nn.Sequential, Tensor]:
    """A network with one block, changed and brought out of its first state, and images for it."""
    torch.default_generator.manual_seed(0)
    network = nn.Sequential(Block(8, 8, kernel_size=3, n_branches=2))
    change(network[0])
    images = torch.randn(4, 8, 9, 9)
    for _ in range(3):
        network(images)
    return network.eval(), images


def weight_normed(block: Block) -> None:
    nn.utils.parametrizations.weight_norm(block.convolutions[0])


def spectral(block: Block) -> None:
    nn.utils.parametrizations.spectral_norm(block.convolutions[1])


def plain_norms(block: Block) -> None:
    block.norms = nn.ModuleList(nn.BatchNorm2d(8, affine=False) for _ in block.norms)
    block.identity = nn.BatchNorm2d(8, affine=False)


def frozen(block: Block) -> None:
    block.norms[0], block.identity = FrozenBatchNorm2d(8), nn.Identity()
    block.norms[0].bias += 0.5


def biased(block: Block) -> None:
    block.convolutions[1] = nn.Conv2d(8, 8, 3, padding=1)
    block.relu = nn.GELU()


@pytest.mark.parametrize("change", [weight_normed, spectral, plain_norms, frozen, biased])
def test_blocks_with_other_parts_fold(change) -> None:
    """Computed weights, norms without weights, biases and another activation are in the fold; the network stays."""
    network, images = changed(change)
    for mode in (True, False):
        before = copy.deepcopy(network.train(mode).state_dict())
        folded = fold(network)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        with torch.no_grad():
            torch.testing.assert_close(folded(images), copy.deepcopy(network).eval()(images), rtol=0, atol=1e-5)
        kinds = [type(module) for module in folded.modules()]
        assert kinds.count(nn.Conv2d) == 1 and Block not in kinds


@pytest.mark.parametrize("place", ["", "convolutions.0", "norms.1"])
def test_hooks_that_folding_would_lose_are_refused(place: str) -> None:
    """A user's hook may change what a block gives; the network is left as it was."""
    block = Block(8, 8, kernel_size=3)
    handle = block.get_submodule(place).register_forward_hook(lambda module, given, output: output * 2)
    with pytest.raises(ValueError, match="forward hooks would be lost in folding: remove them first"):
        fold(nn.Sequential(block))
    handle.remove()
    assert isinstance(fold(nn.Sequential(block)), nn.Sequential)


def test_a_block_in_several_places_is_folded_in_all() -> None:
    """Side by side, under two names and inside another block; a shared block stays shared."""
    block, outer = Block(8, 8, kernel_size=3), Block(8, 8, kernel_size=1)
    outer.se = nn.Sequential(Block(8, 8, kernel_size=1), block)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), block, block, nn.Sequential(block, outer)).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    folded = fold(network)
    assert not any(isinstance(module, Block) for module in folded.modules())
    assert folded[1] is folded[2] is folded[3][0]
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=0, atol=1e-5)
        torch.testing.assert_close(fold(outer)(network[0](images)), outer(network[0](images)), rtol=0, atol=1e-5)
    with torch.inference_mode():
        inferred = fold(network)
    inferred(images).sum().backward()


def statistics_of_the_batch(block: Block) -> None:
    block.norms[1] = nn.BatchNorm2d(8, track_running_stats=False)


def groups(block: Block) -> None:
    block.norms[0] = nn.GroupNorm(2, 8)


def instances(block: Block) -> None:
    block.identity = nn.InstanceNorm2d(8, affine=True)


def reflecting(block: Block) -> None:
    block.convolutions[0] = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", bias=False)


def dilated(block: Block) -> None:
    block.convolutions[0] = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False)


def pruned(block: Block) -> None:
    prune.random_unstructured(block.convolutions[0], "weight", 0.5)


def otherwise(block: Block) -> None:
    block.__class__ = type("Doubled", (Block,), {"forward": lambda self, x: 2 * Block.forward(self, x)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (statistics_of_the_batch, "norms must be BatchNorm with running statistics to be folded, not BatchNorm2d"),
        (groups, "norms must be BatchNorm with running statistics to be folded, not GroupNorm"),
        (instances, "not InstanceNorm2d"),
        (reflecting, "convolutions must be Conv2d padded by zeros, alike in stride, not Conv2d.*reflect"),
        (dilated, "convolutions must be Conv2d padded by zeros"),
        (pruned, "made anew at each pass, as by torch.nn.utils.weight_norm or prune: remove that first"),
        (otherwise, "Doubled computes otherwise than Block does"),
    ],
)
def test_a_block_that_no_convolution_can_stand_for_is_refused(change, message: str) -> None:
    """With what is in the way; the network is as it was."""
    network, images = changed(change)
    with torch.no_grad():
        expected = network(images)
        for folding in (lambda: fold(network), network[0].fold):
            with pytest.raises(ValueError, match=message):
                folding()
        assert not network.training
        assert torch.equal(network(images), expected)
