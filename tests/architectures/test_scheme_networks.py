"""Networks: shape, size and initial weights follow the scheme and the seed."""

import pytest
import torch
from torch import nn

from naaplib.architectures import scheme_networks, schemes
from naaplib.architectures.schemes import Block

POPULATION = schemes.enumerate_schemes()
SKIP = (Block(3, 4, 2), Block(1, 4, 1, residual=True))


def test_parameter_counts_are_those_of_the_table() -> None:
    """All 440 networks have as many parameters as NumParams says; counted on no device, so nothing is allocated."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in scheme_networks.Network(scheme).parameters()) for scheme in POPULATION]
    assert counts == schemes.feature_table(POPULATION)["NumParams"].tolist()


@pytest.mark.parametrize("model_id", [1, 120, 300, 440])
def test_shapes_are_those_of_the_scheme(model_id: int) -> None:
    """Each block's output has the channels and side that block_shapes tells; the logits are one a class."""
    scheme = POPULATION[model_id - 1]
    network = scheme_networks.build_seeded(scheme, seed=0)
    x = torch.zeros(2, 3, 32, 32)
    for block, shape in zip(network.blocks, schemes.block_shapes(scheme), strict=True):
        x = block(x)
        assert x.shape == (2, shape.c_out, shape.side_out, shape.side_out)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("model_id", [1, 7, 120, 300, 440])
def test_initial_weights_are_drawn_in_the_published_order(model_id: int) -> None:
    """Literal twin: torch's default draws for all layers first, then the recipe's, layer by layer."""
    torch.manual_seed(20220819)
    layers: list[nn.Module] = []
    c_in = 3
    for block in POPULATION[model_id - 1]:
        layers.append(nn.Conv2d(c_in, block.width, block.kernel_size, bias=False))
        c_in = block.width
    layers.append(nn.Linear(c_in, 10))
    expected = []
    for layer in layers[:-1]:
        fan_out = layer.weight.shape[0] * layer.weight.shape[2] ** 2
        expected.append(torch.empty(layer.weight.shape).normal_(0, (2 / fan_out) ** 0.5))
    expected.append(torch.empty(10, c_in).normal_(0, 0.01))
    network = scheme_networks.build_seeded(POPULATION[model_id - 1], seed=20220819)
    actual = [block.conv.weight for block in network.blocks] + [network.linear.weight]
    assert [torch.equal(a, e) for a, e in zip(actual, expected, strict=True)] == [True] * len(expected)
    assert network.linear.bias.tolist() == [0.0] * 10
    assert {p.item() for block in network.blocks for p in block.bn.weight} == {1.0}


def test_equal_beginnings_do_not_share_weights() -> None:
    """Scheme 2 extends scheme 1, yet its first block starts from other weights: the draw depends on the whole."""
    first, second = (
        scheme_networks.build_seeded(scheme, seed=20220819).blocks[0].conv.weight for scheme in POPULATION[:2]
    )
    assert not torch.equal(first, second)


def test_building_leaves_the_global_generator_alone() -> None:
    """A network made from a seed does not move torch's own stream of random numbers."""
    before = torch.get_rng_state()
    scheme_networks.build_seeded(SKIP, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_build_draws_from_the_current_generator() -> None:
    """`build` after seeding by hand is `build_seeded`; a second one differs."""
    torch.manual_seed(5)
    first, second = scheme_networks.build(SKIP), scheme_networks.build(SKIP)
    seeded = scheme_networks.build_seeded(SKIP, seed=5)
    assert torch.equal(first.linear.weight, seeded.linear.weight)
    assert not torch.equal(second.linear.weight, seeded.linear.weight)


def test_skip_is_added_after_the_relu() -> None:
    """Literal twin of a network with a skip, in training mode: y = relu(bn(conv(x))) + x."""
    network = scheme_networks.build_seeded(SKIP, seed=1)
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def normalised(x: torch.Tensor) -> torch.Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    first, second = (block.conv.weight for block in network.blocks)
    x = normalised(nn.functional.conv2d(images, first, stride=2, padding=1)).clamp(min=0)
    x = normalised(nn.functional.conv2d(x, second)).clamp(min=0) + x
    expected = x.mean((2, 3)) @ network.linear.weight.T
    torch.testing.assert_close(network(images), expected)


def test_gradients_flow_through_a_skip() -> None:
    """The addition is out of place: torch can go back through it."""
    network = scheme_networks.build_seeded(SKIP, seed=1)
    network(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_impossible_scheme_makes_no_network() -> None:
    """A skip between different widths is refused before any layer is made."""
    with pytest.raises(ValueError, match="block 2 cannot be residual: it makes 4 channels into 8"):
        scheme_networks.build((Block(3, 4, 1), Block(3, 8, 1, residual=True)))
