"""ReLUs: which calls are seen, which pairs of images agree, and how much memory it takes."""

from collections.abc import Callable

import pytest
import torch
from made import SCHEME, covering_schemes
from torch import Tensor, nn
from torch.nn import functional
from untrained import MAKERS, SCORES, batch, convolutions, dense, kernel_by_hand, memory, seeded

from naaplib.architectures import cells, scheme_networks, schemes
from naaplib.estimators.proxies import activations, scores
from naaplib.estimators.proxies.activations import agreements, count, n_distinct


class Calling(nn.Module):
    """A convolution, then a function, then a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(self.conv(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MAKERS)
def test_kernel_is_counted_pair_by_pair(name: str, training: bool) -> None:
    """Slow twin: exact, whole numbers, in both modes; and the output is the network's own."""
    network, (images, _) = seeded(MAKERS[name]).train(training), batch()
    kernel, output = agreements(network, images)
    assert kernel.tolist() == kernel_by_hand(network, images)
    torch.testing.assert_close(output, network(images).detach())


def test_kernel_by_hand() -> None:
    """Two units that are on where a pixel is above 0; at 0 itself a unit is off, as it is below."""
    images = torch.tensor([[3.0, 1.0], [0.5, 2.0], [0.0, 1.0], [-1.0, 0.0]])
    kernel, _ = agreements(nn.ReLU(), images)
    assert kernel.tolist() == [[2, 2, 1, 0], [2, 2, 1, 0], [1, 1, 2, 1], [0, 0, 1, 2]]
    assert n_distinct(kernel) == 3


@pytest.mark.parametrize("scheme", [SCHEME, *covering_schemes()], ids=schemes.identifier)
def test_trace_is_the_count(scheme: schemes.Scheme) -> None:
    """Every diagonal entry is the number of ReLU units that the scheme's shapes give, exactly."""
    network, images = scheme_networks.build_seeded(scheme, 0), batch(4)[0].float()
    (n_units,) = schemes.feature_table([scheme], side=8)["n_relu_units"]
    kernel, _ = agreements(network, images)
    assert kernel.diagonal().tolist() == [n_units] * 4
    assert scores.relu_count(network, images).value == kernel.trace() == 4 * n_units


def test_large_layers_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is the same in parts of 5 units as in one."""
    network, (images, _) = seeded(convolutions), batch()
    expected, _ = agreements(network, images)
    monkeypatch.setattr(activations, "N_AT_ONCE", 5 * len(images))
    assert torch.equal(agreements(network, images)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_counts_are_exact_in_half_precision(dtype: torch.dtype) -> None:
    """40 x 64 units are more than half precision counts to; the kernel has every one, under autocast too."""
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 40, 3, padding=1), nn.ReLU())).to(dtype)
    images = batch()[0].to(dtype)
    kernel, _ = agreements(network, images)
    assert kernel.dtype == torch.float64
    assert kernel.tolist() == kernel_by_hand(network, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert agreements(network, images)[0].tolist() == kernel_by_hand(network, images)


@pytest.mark.parametrize(
    "function",
    [
        *(functional.relu, lambda x: functional.relu(x, inplace=True), functional.relu_),
        *(torch.relu, torch.relu_, lambda x: torch.relu(input=x), lambda x: x.relu(), lambda x: x.relu_()),
        *(functional.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), lambda x: functional.hardtanh(x, 0, 1)),
        *(functional.leaky_relu, functional.leaky_relu_, nn.LeakyReLU(), nn.LeakyReLU(inplace=True)),
        *(nn.PReLU(), lambda x: functional.prelu(x, x.new_tensor([0.1])), lambda x: x.prelu(x.new_tensor([0.1]))),
        *(functional.rrelu, torch.rrelu, nn.RReLU(), nn.RReLU(inplace=True), nn.ReLU(inplace=True)),
    ],
)
def test_every_spelling_is_seen_once(function: Callable[[Tensor], Tensor]) -> None:
    """Functions, methods and modules, leaky and clipped ones, in place or not: the kernel of a plain module."""
    images, _ = batch()
    expected, _ = agreements(seeded(lambda: Calling(nn.ReLU())), images)
    network = seeded(lambda: Calling(function))
    assert count(network, images) == 4 * 64
    assert torch.equal(agreements(network, images)[0], expected)


@pytest.mark.parametrize("function", [torch.tanh, functional.gelu, functional.elu, nn.Hardtanh(), nn.Identity()])
def test_other_functions_are_no_relus(function: Callable[[Tensor], Tensor]) -> None:
    """Nothing is counted where no ReLU is called."""
    network, (images, _) = seeded(lambda: Calling(function)), batch()
    assert count(network, images) == 0
    assert agreements(network, images)[0].count_nonzero() == 0


def test_first_axis_may_hold_more_than_images() -> None:
    """A network that takes its images apart in patches: the units of an image are those of all of its patches."""

    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.reshape(-1, 16)).reshape(len(x), -1)

    images, _ = batch()
    expected, _ = agreements(nn.Sequential(nn.Flatten(), nn.ReLU()), images)
    assert torch.equal(agreements(Patches(), images)[0], expected)
    assert count(Patches(), images) == 3 * 8 * 8


class Fused(nn.Module):
    """Two branches, weighed by numbers that are made of weights as asked."""

    def __init__(self, weigh: Callable[["Fused"], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.weigh, self.weights = weigh, nn.Parameter(torch.ones(2))
        self.register_buffer("scales", torch.ones(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.weigh(self)
        return (first * self.a(x) + second * self.b(x)).relu().mean(dim=(2, 3))


@pytest.mark.parametrize(
    "weigh",
    [
        lambda self: self.weights.relu(),
        lambda self: functional.relu((2 * self.weights).softmax(0)) * 2,
        lambda self: nn.ReLU()(self.scales)[0],  # six rows, as there are images
        lambda self: functional.relu6(torch.stack([self.weights, self.weights]).sum(0) / 2),
    ],
)
@pytest.mark.parametrize("name", ["nas_wot", "nas_wot, reached only", "relu_count", "linear_regions"])
def test_relus_of_weights_have_no_units(weigh: Callable[[Fused], Tensor], name: str) -> None:
    """The score of the network with the numbers that they come to."""
    images, labels = batch()
    expected = SCORES[name](seeded(lambda: Fused(lambda self: torch.ones(2))), images, labels)
    assert expected.reason == ""
    assert SCORES[name](seeded(lambda: Fused(weigh)), images, labels) == expected


def test_weights_that_images_change_have_units() -> None:
    """What is written into a tensor of weights, or made of both, belongs to the images again."""

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6, 5))

        def forward(self, x: Tensor) -> Tensor:
            one, two, three = self.weight * 2, self.weight * 3, self.weight * 4
            one.add_(x)
            two[:] = x
            return one.relu() + two.relu() + (three * x).relu()

    kernel, _ = agreements(Written(), batch(shape=(5,))[0].float())
    assert kernel.diagonal().tolist() == [15] * 6


class Turned(nn.Module):
    """A ReLU on what a function makes of the images, which another one puts back."""

    def __init__(self, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.there, self.back = there, back

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.there(x).relu())


@pytest.mark.parametrize("n_images", [2, 4, 8])
@pytest.mark.parametrize(
    ("there", "back"),
    [
        (lambda x: x.transpose(0, 1), lambda y: y.transpose(0, 1)),  # 8 of a sequence, then the images
        (lambda x: x.permute(1, 2, 0), lambda y: y.permute(2, 0, 1)),
        (lambda x: torch.cat(x.chunk(2, dim=2)), lambda y: torch.cat(y.chunk(2), dim=2)),  # parts, each of all images
    ],
    ids=["sequence", "last", "parts"],
)
def test_images_that_are_not_first_are_refused(there: Callable, back: Callable, n_images: int) -> None:
    """Also where as many rows lie there as there are images, or a multiple; the message says what to do."""
    images = batch(n_images, shape=(8, 6))[0]
    with pytest.raises(ValueError, match=r"a ReLU was called on shape .* does not hold the . images one after the"):
        agreements(Turned(there, back), images)
    assert count(Turned(there, back), images) == 48


def test_encoders_have_one_score_or_an_error() -> None:
    """With the sequence first a network of the same outputs is refused; with the images first it has its score."""

    class Encoded(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.batch_first = batch_first
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if self.batch_first else self.layer(x.transpose(0, 1)).transpose(0, 1)

    images = batch(4, shape=(4, 8))[0]
    first, second = (seeded(lambda b=b: Encoded(b)) for b in (True, False))
    torch.testing.assert_close(first(images), second(images))
    assert scores.nas_wot(first, images).reason == ""
    with pytest.raises(ValueError, match="layers of torch that have `batch_first` take True"):
        scores.nas_wot(second, images)


@pytest.mark.parametrize("n_images", [1, 2, 3, 6])
def test_networks_that_cannot_be_checked_are_taken_as_they_are(n_images: int) -> None:
    """Those that take one size of batch only, and identical images, whose order cannot be told."""

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(n_images, -1).relu()

    images = batch(n_images)[0]
    assert agreements(Fixed(), images)[0][0, 0] == 192
    patches = Turned(lambda x: x.reshape(-1, 16), lambda y: y.reshape(-1, 192))
    assert agreements(patches, images[:1].expand(n_images, -1, -1, -1))[0][0, 0] == 192


def test_relu_without_images_is_an_error() -> None:
    """A ReLU of a constant, which has no unit an image, is refused with its shape."""

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.relu(torch.ones(5)).sum()

    with pytest.raises(ValueError, match=r"a ReLU was called on shape \(5,\): its first axis must hold the 6 images"):
        agreements(Gate(), batch()[0])


class Side(nn.Module):
    """A ReLU on the way to the output, and another one on a side branch that ends as asked."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.main, self.side, self.end = nn.Linear(5, 7), nn.Linear(5, 7), end
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(self.side(x))
        main = self.first(self.main(x))
        ends = {
            "used": lambda: main + branch,
            "detached": lambda: main + branch.detach(),
            "unused": lambda: main,
            "multiplied by zero": lambda: main + 0 * branch,
            "compared": lambda: main + (branch > 1),
        }
        return ends[self.end]()


@pytest.mark.parametrize("end", ["used", "detached", "unused", "multiplied by zero", "compared"])
def test_reached_only_leaves_out_what_no_gradient_reaches(end: str) -> None:
    """A product with zero lets the gradient pass, if only as 0; a detached or unused result does not."""
    network, (images, _) = seeded(lambda: Side(end)), batch(shape=(5,))
    whole, reached = agreements(network, images)[0], agreements(network, images, reached_only=True)[0]
    assert whole.diagonal().tolist() == [14] * 6
    assert reached.diagonal().tolist() == [14 if end in ("used", "multiplied by zero") else 7] * 6
    if end not in ("used", "multiplied by zero"):
        network.second = nn.Identity()
        whole, _ = agreements(network, images)
    assert torch.equal(reached, whole)


@pytest.mark.parametrize("name", MAKERS)
def test_reached_only_changes_nothing_where_all_is_reached(name: str) -> None:
    """The same kernel, twice the pass; ReLUs in place and frozen weights included."""
    network, (images, _) = seeded(MAKERS[name]), batch()
    expected, _ = agreements(network, images)
    assert torch.equal(agreements(network, images, reached_only=True)[0], expected)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = name in ("convolutions", "scheme")  # the others need what comes before a ReLU
    network.requires_grad_(False)
    assert torch.equal(agreements(network, images, reached_only=True)[0], expected)


def test_a_cell_reaches_relus_that_only_none_follows() -> None:
    """NAS-Bench-201: a convolution between edges that multiply by zero counts, as in the reference code."""
    cell = ("nor_conv_3x3", "none", "none", "skip_connect", "none", "none")
    network = cells.build(cell, n_channels=4, n_cells=1)
    (n_units,) = cells.sizes([cell], n_channels=4, n_cells=1, side=8)["n_relu_units"]
    kernel, _ = agreements(network, batch()[0].float(), reached_only=True)
    assert kernel.diagonal().tolist() == [n_units] * 6


def test_nothing_is_reached_from_an_output_without_gradient() -> None:
    """Of a network that detaches its output no ReLU counts."""

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).detach()

    assert agreements(Detached(), batch()[0], reached_only=True)[0].count_nonzero() == 0


def test_patterns_are_counted_as_a_set() -> None:
    """Slow twin: 60 images that a narrow layer switches in few ways."""
    network, (images, _) = seeded(lambda: dense(2, 4)), batch(60, shape=(2,))
    patterns = {tuple((values > 0).tolist()) for values in network[0](images)}
    assert n_distinct(agreements(network, images)[0]) == len(patterns)
    assert 1 < len(patterns) <= 11  # regions that four lines make of a plane


def chain(n_blocks: int) -> nn.Sequential:
    """Blocks of equal size, whose codes would add up."""
    blocks = [
        module
        for _ in range(n_blocks)
        for module in (nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
    ]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(8 * 64, 3))


def test_memory_does_not_grow_with_depth() -> None:
    """40 blocks take what 2 take, but for the copy of BatchNorm's buffers, and leave nothing; kept codes would tell."""
    images = batch(64)[0].float()
    (few, rest_of_few), (many, rest_of_many) = (memory(lambda n=n: scores.nas_wot(chain(n), images)) for n in (2, 40))
    assert (rest_of_few, rest_of_many) == (0, 0)
    assert few > 64 * 8 * 64 * 4  # one layer's values
    network = chain(40)
    buffers = sum(buffer.nbytes for buffer in network.buffers())
    weights = sum(weight.nbytes for weight in network.parameters())
    assert many - few < buffers + weights + 10_000
    codes: list[Tensor] = []
    for module in network:
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda module, inputs: codes.append(inputs[0] > 0))
    assert memory(lambda: scores.nas_wot(network, images))[0] > few + 39 * 64 * 8 * 64
