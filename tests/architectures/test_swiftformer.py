import itertools

import pytest
import torch
from torch import Tensor, nn

from naaplib.architectures import mobileone
from naaplib.architectures.swiftformer import (
    ATTENTIONS,
    CONVOLUTIONS,
    AdditiveAttention,
    AttentionBlock,
    ConvEncoder,
    build,
    n_params,
)

SMALL = {"depths": (1, 2, 3, 1), "widths": (16, 16, 24, 32)}


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_swiftformer_xs_has_the_published_size() -> None:
    """3.5 million for 1000 classes, with the linear layer for distillation that is left out here."""
    network = build(n_classes=1000)
    assert n_parameters(network) == n_params(n_classes=1000) == 3_254_360
    assert round((n_parameters(network) + 221 * 1000) / 1e6, 1) == 3.5


def test_size_by_hand() -> None:
    """Of stages of one block of 2, 4, 2 and 4 channels, with attention in the last alone."""
    stem = (9 * 3 + 3) * 1 + (9 + 3) * 2
    between = (9 * 2 + 3) * 4 + (9 * 4 + 3) * 2 + (9 * 2 + 3) * 4
    conv_encs = [10 * c + 2 * c + (4 * c * c + 4 * c) + (4 * c * c + c) + c for c in (2, 4, 2)]
    local = 10 * 4 + 2 * 4 + 2 * (16 + 4) + 4
    attention = 4 * (16 + 4) + 4
    linear = 2 * 4 + (64 + 16) + (64 + 4)
    expected = stem + between + sum(conv_encs) + local + attention + linear + 2 * 4 + 2 * 4 + 5 * 10
    sizes = {"depths": (1,) * 4, "widths": (2, 4, 2, 4)}
    assert n_params(attentions=("none", "none", "none", "last-1"), **sizes) == expected


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_count_is_that_of_the_modules(convolution: str, attention: str) -> None:
    """In a stage, whatever is in the others; before and after folding."""
    choice = ("mo", convolution, "conv-enc", convolution), (attention, "last-1", attention, attention)
    network = build(*choice, n_branches=2, **SMALL)
    folded = mobileone.fold(network)
    assert n_params(*choice, n_branches=2, **SMALL) == n_parameters(network)
    assert n_params(*choice, n_branches=2, folded=True, **SMALL) == n_parameters(folded)


@torch.no_grad()
def test_attention_by_loops() -> None:
    """A slow twin: lengths, weights and the sum over tokens one number at a time, and the factor that cancels."""
    attention = AdditiveAttention(5)
    nn.init.normal_(attention.weight, generator=torch.Generator().manual_seed(1))
    x = noise(2, 7, 5)
    actual = attention(x)
    for image in range(2):
        queries = [attention.query(token) for token in x[image]]
        keys = [attention.key(token) for token in x[image]]
        queries = [query / sum(float(q) ** 2 for q in query) ** 0.5 for query in queries]
        keys = [key / sum(float(k) ** 2 for k in key) ** 0.5 for key in keys]
        scores = [sum(float(q * w) for q, w in zip(query, attention.weight, strict=True)) / 5**0.5 for query in queries]
        length = sum(score**2 for score in scores) ** 0.5
        total = sum(score / length * query for score, query in zip(scores, queries, strict=True))
        for token in range(7):
            expected = attention.last(attention.mix(total * keys[token]) + queries[token])
            torch.testing.assert_close(actual[image, token], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_block_adds_what_its_scales_let_through() -> None:
    """Nothing at scales of zero; attention alone knows where a far pixel is, and tokens come back to their pixels."""
    block = AttentionBlock(ConvEncoder(6, 6), 6).eval()
    x = noise(1, 6, 9, 8)
    for scale in (block.local.scale, block.scales):
        nn.init.zeros_(scale)
    torch.testing.assert_close(block(x), x)
    nn.init.ones_(block.scales[0])
    expected = x[0, :, 3, 5] + block.attention(x.flatten(2).transpose(1, 2))[0, 3 * 8 + 5]
    torch.testing.assert_close(block(x)[0, :, 3, 5], expected)
    changed = x.clone()
    changed[..., 0, 0] += 1
    assert not torch.equal(block(changed)[..., 8, 7], block(x)[..., 8, 7])
    nn.init.zeros_(block.scales)
    nn.init.ones_(block.scales[1])
    torch.testing.assert_close(block(x), x + block.linear(x))


@torch.no_grad()
def test_a_convolutional_block_sees_nine_pixels() -> None:
    """And adds what it makes of them to its input."""
    block = ConvEncoder(4, 16).eval()
    x = noise(1, 4, 7, 7)
    torch.testing.assert_close(block(x), x + block.body(x))
    changed = x.clone()
    changed[..., 3, 3] += 1
    far = (block(changed) != block(x)).any(dim=1)[0].nonzero() - 3
    assert far.abs().max() == 1
    assert len(far) == 9


def blocks_of(attention: str, depth: int) -> list[bool]:
    """Which blocks of a last stage that is `depth` deep have attention."""
    network = build(("mo",) * 4, ("none", "none", "none", attention), depths=(1, 1, 1, depth), widths=(16,) * 4)
    stage = [module for module in network if isinstance(module, (AttentionBlock, nn.Sequential))][3:]
    return [isinstance(module, AttentionBlock) for module in stage]


def test_attention_is_last_in_a_stage() -> None:
    """In one, two or all of its blocks, of which there are no more for that; in all, if it has fewer."""
    assert [blocks_of(attention, 4) for attention in ATTENTIONS] == [
        [False] * 4, [False, False, False, True], [False, False, True, True], [True] * 4,
    ]  # fmt: skip
    assert [blocks_of(attention, 1) for attention in ATTENTIONS] == [[False], [True], [True], [True]]


def test_a_stage_is_of_its_convolution() -> None:
    """In blocks without attention and in the first part of those with it; SE and branches where they are asked for."""
    for convolution, attention in itertools.product(CONVOLUTIONS, ("none", "all")):
        network = build((convolution,) * 4, (attention,) * 4, n_branches=3, **SMALL)
        layers = [module for module in network.modules() if isinstance(module, mobileone.Block)]
        encoders = [module for module in network.modules() if isinstance(module, ConvEncoder)]
        expected = (7, 0) if convolution == "conv-enc" else (0, 14)
        assert (len(encoders), len(layers)) == expected
        assert all(len(module.convolutions) - (module.convolutions[0].kernel_size[0] > 1) == 3 for module in layers)
        assert all(isinstance(module.se, nn.Identity) == (convolution == "mo") for module in layers)


@torch.no_grad()
@pytest.mark.parametrize("convolutions", [("mo",) * 4, ("mo-se", "conv-enc", "mo", "mo-se")])
def test_hybrids_fold(convolutions: tuple[str, ...]) -> None:
    """To the same outputs, with blocks with attention among them whose scales are not small."""
    network = build(convolutions, ("none", "last-1", "all", "last-2"), n_branches=2, n_classes=5, **SMALL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(0))
            nn.init.constant_(module.bias, 0.5)
            module.momentum = 1.0
        if isinstance(module, AttentionBlock):
            nn.init.ones_(module.scales)
    images = noise(6, 3, 64, 64)
    network(images)
    network.double().eval()
    expected = network(images.double())
    assert expected.std(dim=0).mean() > 1e-3
    folded = mobileone.fold(network)
    assert not any(isinstance(module, mobileone.Block) for module in folded.modules())
    torch.testing.assert_close(folded(images.double()), expected, rtol=0, atol=1e-10)


def test_an_image_is_halved_five_times() -> None:
    """Also one of an odd side; the linear layer reads one number a channel."""
    network = build(**SMALL, n_classes=7)
    assert network[:-3](torch.zeros(2, 3, 64, 96)).shape == (2, 32, 2, 3)
    assert network(torch.zeros(2, 3, 67, 33)).shape == (2, 7)


def test_a_seed_decides_the_weights() -> None:
    """The same seed gives the same ones, another seed others, as the authors draw them; torch's generator stays."""
    before = torch.get_rng_state()
    networks = [build(("mo-se",) + ("conv-enc",) * 3, seed=seed, **SMALL) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = (network.state_dict() for network in networks)
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if key.endswith("weight") and first[key].ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
    weights = torch.cat([m.weight.flatten() for m in networks[0].modules() if isinstance(m, nn.Conv2d | nn.Linear)])
    assert 0.019 < weights.std() < 0.021


def test_wrong_arguments_are_named() -> None:
    """With what is allowed."""
    for function in (build, n_params):
        for given in (("mo",) * 3, ("mo", "mo", "mo", "ms")):
            with pytest.raises(
                ValueError, match="convolutions must be four, one a stage, of conv-enc, mo, mo-se; not "
            ):
                function(given)
        with pytest.raises(
            ValueError, match="attentions must be four, one a stage, of none, last-1, last-2, all; not "
        ):
            function(attentions=("last-3",) * 4)
        for sizes in ({"depths": (1, 1, 0, 1)}, {"widths": (1, 2, 2, 2)}, {"depths": (1,) * 3}):
            with pytest.raises(
                ValueError, match="four depths of 1 or more and four widths of 2 or more are needed, not"
            ):
                function(**sizes)
