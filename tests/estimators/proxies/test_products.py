"""Products with weights: which weights are seen, how many multiplications, and copies for SynFlow."""

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from untrained import batch, convolutions, dense, seeded

from naaplib.estimators import cheap_metrics
from naaplib.estimators.proxies import activations, products
from naaplib.estimators.proxies import scores as proxies
from naaplib.estimators.proxies.products import Products, count, trained
from naaplib.estimators.proxies.scores import Score


class Apply(nn.Module):
    """A function of the images, and parameters to apply."""

    def __init__(self, function: Callable[..., Tensor], *weights: Tensor) -> None:
        super().__init__()
        self.function, self.weights = function, nn.ParameterList(weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights)


class Last(nn.Module):
    """The output of a recurrent layer's last step, or of attention over all; then a linear layer."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        many = isinstance(self.layer, nn.MultiheadAttention)
        return self.last((self.layer(x, x, x) if many else self.layer(x))[0][:, -1])


def seen(network: nn.Module, x: Tensor) -> list[int]:
    """Places, among the parameters, of the weights in the order of their uses."""
    with Products(network) as found:
        network(x)
    order = [id(parameter) for parameter in network.parameters()]
    return [order.index(id(weight)) for weight in found.weights]


def test_shared_and_frozen_weights() -> None:
    """A weight that two layers share is there once, one that is frozen not at all, in the network's order."""
    network = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
    first, second, last = (network[i].weight for i in (0, 2, 4))
    assert [id(w) for w in trained(network, [last, second, first])] == [id(first), id(second), id(last)]
    assert [id(w) for w in trained(network, [first, last, first])] == [id(first), id(last)]
    last.requires_grad_(False)
    assert [id(w) for w in trained(network, [first, last])] == [id(first)]


def test_weights_in_the_order_of_their_uses() -> None:
    """A layer that is called twice is there twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(self.first(x)).mean(dim=(2, 3)))

    assert seen(Twice(), torch.zeros(1, 4, 8, 8)) == [1, 1, 0]
    assert count(Twice(), torch.zeros(1, 4, 8, 8)) == (2 * 4 * 4 * 9 * 64 + 4 * 2, 3)


@pytest.mark.parametrize(
    ("network", "shape", "macs", "n_layers"),
    [
        (nn.ConvTranspose2d(3, 4, 2, stride=2), (3, 8, 8), 64 * 3 * 4 * 4, 1),
        (nn.Conv1d(4, 6, 3, groups=2), (4, 10), 8 * 6 * 2 * 3, 1),
        (Last(nn.GRU(8, 4, batch_first=True), 4), (5, 8), 5 * 12 * (8 + 4) + 12, 3),
        (Last(nn.LSTM(8, 4, batch_first=True), 4), (5, 8), 5 * 16 * (8 + 4) + 12, 3),
        (Last(nn.RNN(8, 4, batch_first=True, bidirectional=True), 8), (5, 8), 2 * 5 * 4 * (8 + 4) + 24, 5),
        (Last(nn.MultiheadAttention(8, 2, batch_first=True), 8), (5, 8), 5 * 8 * 4 * 8 + 2 * 5 * 5 * 8 + 24, 3),
        (Apply(functional.conv2d, torch.ones(4, 3, 3, 3)), (3, 8, 8), 36 * 4 * 27, 1),
        (Apply(lambda x, w: functional.linear(x, weight=w), torch.ones(4, 8)), (5, 8), 5 * 4 * 8, 1),
        (Apply(lambda x, w: x @ w.tanh(), torch.ones(8, 4)), (5, 8), 5 * 4 * 8, 1),
        (Apply(lambda x, w: torch.einsum("nij,jk->nik", x, w), torch.ones(8, 4)), (5, 8), 5 * 4 * 8, 1),
        (Apply(torch.linalg.matmul, torch.ones(8, 4)), (5, 8), 5 * 4 * 8, 1),
        (Apply(lambda *all_: torch.linalg.multi_dot(all_), torch.ones(8, 4), torch.ones(4, 1)), (8,), 8 * 4 + 4, 2),
        (Apply(torch.inner, torch.ones(4, 8)), (5, 8), 5 * 4 * 8, 1),
        (Apply(lambda x: x @ x.mT), (5, 8), 5 * 5 * 8, 0),
    ],
)
def test_products_by_hand(network: nn.Module, shape: tuple[int, ...], macs: int, n_layers: int) -> None:
    """One counter for both modules of estimators: transposed, recurrent, attention, functions, frozen or not."""
    images = torch.rand(2, *shape)
    for frozen in (False, True):
        network.requires_grad_(not frozen)
        assert proxies.macs(network, images) == Score(macs)
        assert cheap_metrics.measure(network, images, n_repeats=1)["macs"] == macs
        depth = proxies.depth(network, images)
        assert depth == Score(n_layers) if n_layers else math.isnan(depth.value)


def test_encoders_are_counted_in_evaluation_mode() -> None:
    """torch has a short cut for a whole encoder whose weights are frozen, which its counter does not know."""
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    network = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().requires_grad_(False)
    images = torch.rand(2, 5, 8)
    expected = 2 * (5 * 8 * (4 * 8 + 2 * 16) + 2 * 5 * 5 * 8)
    assert (proxies.macs(network, images), proxies.depth(network, images)) == (Score(expected), Score(2 * 4))
    assert cheap_metrics.measure(network, images, n_repeats=1)["macs"] == expected


def test_libraries_are_put_back() -> None:
    """Counting a recurrent layer leaves torch's switches as they were, after an error too."""
    before = torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled
    network = Last(nn.LSTM(8, 4, batch_first=True), 4)
    proxies.macs(network, torch.rand(2, 5, 8))
    with pytest.raises(RuntimeError):
        proxies.macs(network, torch.rand(2, 5, 9))
    assert (torch.backends.cudnn.enabled, torch.backends.mkldnn.enabled) == before


@pytest.mark.parametrize(
    ("network", "shape", "n_weights"),
    [
        (Last(nn.GRU(8, 4, batch_first=True), 4), (5, 8), 3),
        (Last(nn.MultiheadAttention(8, 2, batch_first=True), 8), (5, 8), 3),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 8, 8), 1),
        (Apply(lambda x, w: functional.conv2d(x, w).mean((2, 3)), torch.rand(4, 3, 3, 3)), (3, 8, 8), 1),
    ],
)
def test_weights_of_all_layers_have_scores(network: nn.Module, shape: tuple[int, ...], n_weights: int) -> None:
    """Slow twin: `backward`, and the norms of the gradients of all parameters that are matrices or more."""
    network, (images, labels) = network.double(), batch(shape=shape)
    matrices = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
    functional.cross_entropy(network(images), labels).backward()
    norms = sum(float(parameter.grad.norm()) for parameter in matrices)
    products_ = sum(float((parameter.detach() * parameter.grad).abs().sum()) for parameter in matrices)
    network.zero_grad()
    assert len(matrices) == n_weights
    assert proxies.gradient_norm(network, images, labels=labels).value == pytest.approx(norms, rel=1e-9)
    assert proxies.snip(network, images, labels=labels).value == pytest.approx(products_, rel=1e-9)
    assert proxies.synflow(network, images).reason == ""


def old(name: str) -> Callable[[nn.Module], nn.Module]:
    """An old hook of torch, of which some warn that there is a new way."""

    def apply(layer: nn.Module) -> nn.Module:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return getattr(nn.utils, name)(layer)

    return apply


NORMALISED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": old("weight_norm"),
    "pruning of nothing": lambda layer: prune.random_unstructured(layer, "weight", amount=0),
    "pruning twice": lambda layer: prune.identity(prune.identity(layer, "weight"), "weight"),
}


@pytest.mark.parametrize("apply", NORMALISED.values(), ids=NORMALISED)
def test_weights_that_are_computed_are_scored_as_they_multiply(apply: Callable[[nn.Module], nn.Module]) -> None:
    """The scores and counts of the same weights as parameters, also after a pass of one's own."""
    network, (images, labels) = seeded(convolutions), batch()
    network = nn.Sequential(*network[:3], seeded(lambda: nn.Conv2d(4, 4, 1)), *network[3:])
    names = ("gradient_norm", "snip")

    def scores() -> list[float]:
        found = [getattr(proxies, name)(network, images, labels=labels) for name in names]
        found += [proxies.synflow(network, images), proxies.macs(network, images), proxies.depth(network, images)]
        assert {score.reason for score in found} == {""}
        return [score.value for score in found] + [cheap_metrics.measure(network, images, n_repeats=1)["macs"]]

    expected = scores()
    for place in (0, 3, 4, 9):
        apply(network[place])
    assert scores() == pytest.approx(expected, rel=1e-9)
    network(images)  # an old hook now holds a weight that is computed
    assert scores() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("apply", [parametrizations.spectral_norm, parametrizations.orthogonal, old("spectral_norm")])
def test_other_computed_weights(apply: Callable[[nn.Module], nn.Module]) -> None:
    """Those of spectral and orthogonal layers: what a network scores that holds the values as parameters."""
    network, (images, labels) = seeded(dense), batch(shape=(5,))
    apply(network[0])
    network = network.double().eval()
    network(images)
    plain = seeded(dense)
    with torch.no_grad():
        for place in (0, 2):
            plain[place].weight.copy_(network[place].weight)
            plain[place].bias.copy_(network[place].bias)
    for name in ("gradient_norm", "snip"):
        score, twin = (getattr(proxies, name)(net, images, labels=labels, mode="eval") for net in (network, plain))
        assert (score.reason, score.value) == ("", pytest.approx(twin.value, rel=1e-9))
    assert proxies.synflow(network, images).value == pytest.approx(proxies.synflow(plain, images).value, rel=1e-9)
    assert activations.count(products.copied(network), images) == 7


def test_pruned_weights_are_zeros() -> None:
    """SNIP and SynFlow of a pruned layer are those of the layer with zeros in their place."""
    network, (images, labels) = seeded(dense), batch(shape=(5,))
    mask = torch.arange(35).reshape(7, 5) % 2
    twin = seeded(dense)
    with torch.no_grad():
        twin[0].weight.mul_(mask)
    prune.custom_from_mask(network[0], "weight", mask)
    for name, labelled in (("snip", {"labels": labels}), ("synflow", {})):
        score, expected = (getattr(proxies, name)(net, images, **labelled).value for net in (network, twin))
        assert score == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["synflow", "n_parameters", "measure"])
def test_lazy_modules_are_told_apart(name: str) -> None:
    """What is to be known before a pass says which module has no weights yet; a score of a pass makes them."""
    network, (images, labels) = nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3)), batch()
    network, given = network.double(), [] if name == "n_parameters" else [images]
    function = cheap_metrics.measure if name == "measure" else getattr(proxies, name)
    with pytest.raises(ValueError, match=r"the network's 1.weight is lazy .* call the network on a batch first"):
        function(network, *given)
    assert proxies.gradient_norm(network, images, labels=labels).reason == ""
    assert function(network, *given)
