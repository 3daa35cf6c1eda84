"""Networks stacked into one: each computes what it computes alone."""

import pytest
import torch
from made import covering_schemes
from torch.utils._python_dispatch import TorchDispatchMode

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Block, Scheme, enumerate_schemes
from naaplib.training.stacked import VARIANTS, StackedNetwork

SCHEMES = enumerate_schemes()
WAYS = [(True, "grouped"), (True, "matmul"), (False, "grouped")]


def stacked(schemes: list[Scheme], stack: bool, variant: str, seed: int = 5, recompute: bool = False) -> StackedNetwork:
    """In float64, where equal means equal to nine digits."""
    network = StackedNetwork([build_seeded(scheme, seed) for scheme in schemes], stack, recompute=recompute).double()
    for layer in network.layers:
        layer.variant = variant
    return network


def make_batch(n: int = 6) -> torch.Tensor:
    """Images of noise, normalised, in float64."""
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(("stack", "variant"), WAYS)
def test_logits_statistics_and_gradients_are_those_of_each_network_alone(stack: bool, variant: str) -> None:
    """Every block of the space, in training mode and then, with the statistics of that, in evaluation mode."""
    schemes = covering_schemes()
    assert len(schemes) >= 20
    network, x = stacked(schemes, stack, variant), make_batch()
    alone = [build_seeded(scheme, 5).double() for scheme in schemes]
    logits = network.train()(x)
    torch.testing.assert_close(logits, torch.stack([one.train()(x) for one in alone]), rtol=0, atol=1e-12)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).double()
    (logits * weights).sum().backward()
    for one, factor in zip(alone, weights, strict=True):
        (one(x) * factor).sum().backward()  # the second training pass: running statistics have moved twice
    gradients = {
        name: torch.cat([layer.get_parameter(own).grad.flatten() for layer in network.layers]).abs().sum()
        for name, own in (("conv.weight", "weight"), ("bn.weight", "scale"), ("bn.bias", "shift"))
    }
    for name, total in gradients.items():
        expected = sum(p.grad.abs().sum() for one in alone for key, p in one.named_parameters() if key.endswith(name))
        torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)
    network(x)
    torch.testing.assert_close(network.eval()(x), torch.stack([one.eval()(x) for one in alone]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("stack", "variant"), WAYS)
def test_extracted_network_has_the_weights_and_statistics_of_the_one_that_went_in(stack: bool, variant: str) -> None:
    """After a training pass, each network by itself gives its logits in evaluation mode, as its statistics moved."""
    schemes = SCHEMES[3:440:97]
    network, x = stacked(schemes, stack, variant), make_batch()
    network.train()(x)
    logits = network.eval()(x)
    for i in range(len(schemes)):
        one = network.extract(i)
        assert one.scheme == schemes[i]
        torch.testing.assert_close(one.eval()(x), logits[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("stack", [True, False])
def test_features_lie_where_columns_say(stack: bool) -> None:
    """Averages over pixels of each network's last block, in the columns of that network."""
    schemes = SCHEMES[:440:60]
    network, x = stacked(schemes, stack, "grouped").eval(), make_batch()
    features = network.features(x)
    assert sorted(i for i, _ in network.columns) == list(range(len(schemes)))
    start = 0
    for i, width in network.columns:
        expected = network.extract(i).eval().blocks(x).mean(dim=(2, 3))
        torch.testing.assert_close(features[:, start : start + width], expected, rtol=0, atol=1e-12)
        start += width
    assert start == features.shape[1]


def test_the_440_networks_are_73_layers_and_15008_features() -> None:
    """First blocks are one convolution; the deeper ones group into 4, 28 and 40 by shape."""
    network = StackedNetwork([build_seeded(scheme, 0) for scheme in SCHEMES])
    assert len(network.layers) == 1 + 4 + 28 + 40
    assert sum(width for _, width in network.columns) == 15_008
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_204_928
    assert VARIANTS == ("grouped", "matmul")


@pytest.mark.parametrize("stack", [True, False])
def test_any_scheme_can_be_stacked(stack: bool) -> None:
    """Larger kernels, one block only, first blocks of different kernels, other depths; a batch of one image."""
    schemes = [
        (Block(5, 3, 1),),
        (Block(3, 4, 2), Block(7, 4, 1, residual=True)),
        (Block(3, 5, 3), Block(1, 6, 1), Block(3, 6, 2), Block(3, 6, 1, residual=True), Block(1, 2, 2)),
        (Block(5, 3, 1),),
    ]
    network, x = stacked(schemes, stack, "matmul", seed=1).eval(), make_batch(1)
    expected = torch.stack([build_seeded(scheme, 1).double().eval()(x) for scheme in schemes])
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-12)


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Let every operation be done."""
        self.count += function is torch.ops.aten.bmm.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("half", [False, True])
def test_columns_made_again_change_no_bit(half: bool) -> None:
    """Gradients and statistics, in bfloat16 too; no product is computed twice, and half as much is kept or less."""
    schemes, x = covering_schemes()[::2], make_batch().float()
    results, kept, counts = [], [], []
    for recompute in (False, True):
        network = stacked(schemes, True, "matmul", recompute=recompute).float().train()
        saved: dict[int, int] = {}

        def note(value: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            saved[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with Products() as products, torch.autocast("cpu", torch.bfloat16, half, cache_enabled=False):
            with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
                logits = network(x)
            gradients = torch.autograd.grad(logits.float().square().sum(), list(network.parameters()))
        results.append([logits, *gradients, *network.buffers()])
        kept.append(sum(saved.values()))
        counts.append(products.count)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
    assert counts[0] == counts[1] > 3 * len(network.layers)
    assert kept[1] < 0.6 * kept[0]


def test_columns_are_made_again_on_request_only() -> None:
    """By default they are kept, and a layer of a CPU has none."""
    assert not any(layer.recompute for layer in stacked(SCHEMES[:3], True, "matmul").layers)
    assert all(layer.recompute for layer in stacked(SCHEMES[:3], True, "matmul", recompute=True).layers)


def test_nothing_cannot_be_stacked() -> None:
    """An empty set is refused."""
    with pytest.raises(ValueError, match="there must be one network or more to stack"):
        StackedNetwork([])
