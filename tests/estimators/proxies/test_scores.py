"""Training-free scores: against literal loops and by hand, and what awkward networks and batches give."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from made import SCHEME, covering_schemes
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d
from untrained import CELL, MAKERS, SCORES, batch, convolutions, dense, kernel_by_hand, seeded

from naaplib.architectures import cells, scheme_networks, schemes
from naaplib.estimators.proxies import scores as proxies
from naaplib.estimators.proxies.scores import Score

OF_OUTPUTS = [name for name in SCORES if name not in ("relu_count", "macs", "depth", "n_parameters")]
OF_PATTERNS = ["nas_wot", "nas_wot, eval", "nas_wot, reached only", "linear_regions"]
MODES = ("train", "eval")


def same(score: Score, expected: float, tolerance: float = 1e-9) -> bool:
    """Whether there is a score, and it is the expected number but for rounding."""
    return score.reason == "" and math.isclose(score.value, expected, rel_tol=tolerance)


def jacobian(network: nn.Module, images: Tensor) -> np.ndarray:
    """Gradient rows by a backward pass of ones through a copy of the network."""
    leaf = images.clone().requires_grad_()
    output = copy.deepcopy(network)(leaf)
    output.backward(torch.ones_like(output))
    return leaf.grad.flatten(1).numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MAKERS)
def test_nas_wot_equals_a_literal_loop(name: str, mode: str) -> None:
    """Slow twin: pairs of images, units and ReLU modules in Python loops, numpy's determinant; to 1e-6 of it."""
    network, (images, _) = seeded(MAKERS[name]), batch()
    kernel = kernel_by_hand(network.train(mode == "train"), images)
    sign, expected = np.linalg.slogdet(np.array(kernel, dtype=float))
    assert sign == 1
    network.train(mode != "train")  # what the network is in does not count
    for reached_only in (False, True):
        assert same(proxies.nas_wot(network, images, mode=mode, reached_only=reached_only), expected, 1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MAKERS)
def test_nas_wot_does_not_depend_on_the_order_of_images(name: str, mode: str) -> None:
    """Law: the same batch in three other orders, to 1e-9."""
    network, (images, _) = seeded(MAKERS[name]), batch(9)
    expected = proxies.nas_wot(network, images, mode=mode).value
    for seed in (1, 2, 3):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        assert same(proxies.nas_wot(network, images[order], mode=mode), expected)


def test_nas_wot_by_hand() -> None:
    """Two images that agree on one unit of two: the determinant of [[2, 1], [1, 2]] is 3."""
    network = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert same(proxies.nas_wot(network, torch.tensor([[1.0, 1.0], [1.0, -1.0]])), math.log(3))


def test_nas_wot_grows_with_the_number_of_images() -> None:
    """Law: adding an image that no other equals adds to the score."""
    network, (images, _) = seeded(convolutions), batch(9)
    scores = [proxies.nas_wot(network, images[:n], mode="eval").value for n in range(1, 10)]
    assert scores == sorted(scores)
    assert scores[0] == math.log(4 * 64 + 6 * 16)


def test_reached_only_leaves_out_a_detached_branch() -> None:
    """The score of the network without that branch; the other way counts it."""

    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = dense(), dense()

        def forward(self, x: Tensor) -> Tensor:
            return self.main(x) + self.side(x).detach()

    network, (images, _) = seeded(Side), batch(4, shape=(5,))
    alone = proxies.nas_wot(network.main, images).value
    assert same(proxies.nas_wot(network, images, reached_only=True), alone)
    assert proxies.nas_wot(network, images).value > alone


@pytest.mark.parametrize("scheme", [SCHEME, *covering_schemes()[:3]], ids=schemes.identifier)
def test_relu_count_is_units_times_images(scheme: schemes.Scheme) -> None:
    """By the scheme's shapes; weights, pixels and modes do not enter."""
    network, (images, _) = scheme_networks.build_seeded(scheme, 0), batch()
    (n_units,) = schemes.feature_table([scheme], side=8)["n_relu_units"]
    assert proxies.relu_count(network, images.float()) == Score(6 * n_units)
    assert proxies.relu_count(network.eval(), torch.zeros(6, 3, 8, 8)) == Score(6 * n_units)


def test_linear_regions_are_a_set_of_patterns() -> None:
    """Slow twin: tuples of what all ReLUs of a narrow network do, in both modes."""
    network = seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()))
    images, _ = batch(40, shape=(2,))
    found = {}
    for mode in MODES:
        hidden = copy.deepcopy(network).train(mode == "train")[:2](images)
        output = network[3](hidden.relu())
        patterns = {(*(a > 0).tolist(), *(b > 0).tolist()) for a, b in zip(hidden, output, strict=True)}
        found[mode] = len(patterns)
        assert proxies.linear_regions(network, images, mode=mode) == Score(len(patterns))
    assert 2 <= min(found.values()) <= max(found.values()) <= 8


def epe_by_hand(rows: np.ndarray, labels: list[int], over_100: bool) -> float:
    """Class by class, pair by pair."""
    values = []
    for label in sorted(set(labels)):
        members = [row for row, other in zip(rows, labels, strict=True) if other == label]
        value = 0.0
        for one in members:
            for other in members:
                value += math.log(abs(float(np.corrcoef(one, other)[0, 1])) + 1e-5)
        values.append(value / len(members) if over_100 else value)
    if not over_100:
        return sum(abs(value) for value in values)
    return sum(sum(abs(value - other) for other in values) for value in values) / len(values)


LABELS = {
    "three classes": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2],
    "unequal classes": [3, 3, 3, 3, 3, 3, 9, 9, 9, 9, 0, 0],
    "a class of one image": [1, 1, 1, 1, 5, 7, 7, 7, 7, 7, 7, 7],
    "many classes": [0, 0, 17, 17, 60, 60, 60, 99, 100, 118, 119, 119],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", MAKERS)
def test_epe_nas_equals_a_literal_loop(name: str, labels: list[int], mode: str) -> None:
    """Slow twin of both readings: beyond 100 classes the paper has a rule of its own, which its code never reaches."""
    network, (images, _) = seeded(MAKERS[name]), batch(12)
    rows = jacobian(network.train(mode == "train"), images)
    expected = {over_100: epe_by_hand(rows, labels, over_100) for over_100 in (False, True)}
    for reading, n_classes, over_100 in (
        *(("code", 10, False), ("code", 120, False)),
        *(("paper", 10, False), ("paper", 100, False), ("paper", 101, True), ("paper", 120, True)),
    ):
        score = proxies.epe_nas(
            network, images, labels=torch.tensor(labels), n_classes=n_classes, mode=mode, reading=reading
        )
        assert same(score, expected[over_100], 1e-6)
    assert not math.isclose(expected[False], expected[True], rel_tol=0.01)


def test_epe_nas_of_classes_of_one_image() -> None:
    """Each class is worth log(1 + 1e-5); as the paper has it beyond 100 classes, they differ by nothing."""
    network, (images, _) = seeded(convolutions), batch(4)
    labels = torch.tensor([3, 1, 4, 0])
    assert same(proxies.epe_nas(network, images, labels=labels), 4 * math.log(1 + 1e-5), 1e-6)
    assert proxies.epe_nas(network, images, labels=labels, n_classes=120, reading="paper").value == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MAKERS)
def test_jacobian_covariance_equals_numpy(name: str, mode: str) -> None:
    """Slow twin: numpy's correlations and eigenvalues; never above minus the number of images."""
    network, (images, _) = seeded(MAKERS[name]), batch()
    values = np.linalg.eigvalsh(np.corrcoef(jacobian(network.train(mode == "train"), images)))
    expected = -sum(math.log(value + 1e-5) + 1 / (value + 1e-5) for value in values)
    score = proxies.jacobian_covariance(network, images, mode=mode)
    assert same(score, expected, 1e-6)
    assert score.value <= -6


def test_gradient_norm_and_snip_by_hand() -> None:
    """A linear classifier: its gradient is the mean over images of (probability - label) times the image."""
    network, (images, labels) = seeded(lambda: nn.Linear(5, 3)), batch(shape=(5,))
    weight, x = network.weight.detach().numpy(), images.numpy()
    logits = x @ weight.T + network.bias.detach().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradient = (probabilities - np.eye(3)[labels]).T @ x / 6
    assert same(proxies.gradient_norm(network, images, labels=labels), math.sqrt((gradient**2).sum()))
    assert same(proxies.snip(network, images, labels=labels), np.abs(weight * gradient).sum())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MAKERS)
def test_gradient_norm_and_snip_sum_over_layers(name: str, mode: str) -> None:
    """Slow twin: `backward` on a copy, then layer by layer; BatchNorms and biases do not count."""
    network, (images, labels) = seeded(MAKERS[name]), batch()
    twin = copy.deepcopy(network).train(mode == "train")
    functional.cross_entropy(twin(images), labels).backward()
    weights = [module.weight for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    norms = sum(float((weight.grad**2).sum()) ** 0.5 for weight in weights)
    products = sum(float((weight.detach() * weight.grad).abs().sum()) for weight in weights)
    assert same(proxies.gradient_norm(network, images, labels=labels, mode=mode), norms)
    assert same(proxies.snip(network, images, labels=labels, mode=mode), products)


def test_synflow_by_hand() -> None:
    """Two layers without bias: each is worth the sum over paths of the product of the absolute weights on them."""
    network = seeded(lambda: nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False)))
    first, second = (network[i].weight.abs().tolist() for i in (0, 2))
    paths = sum(second[k][j] * first[j][i] for k in range(3) for j in range(7) for i in range(5))
    assert same(proxies.synflow(network, batch(shape=(5,))[0]), math.log(2 * paths))


def test_synflow_adds_what_biases_bring() -> None:
    """Paths may also begin at a bias, which has no score of its own: 2 * 3 for the first weight, (3 + 4) * 2 then."""
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (-3.0, 4.0, -2.0, 5.0), strict=True):
            parameter.fill_(value)
    assert same(proxies.synflow(network, torch.zeros(6, 1)), math.log(2 * 3 + (3 + 4) * 2))


def test_synflow_sees_no_pixels_signs_and_normalisations() -> None:
    """Other images, weights turned over, and BatchNorms with any statistics change nothing."""
    network, (images, _) = seeded(convolutions), batch()
    expected = proxies.synflow(network, images).value
    plain = nn.Sequential(*(layer for layer in network if not isinstance(layer, nn.BatchNorm2d)))
    assert same(proxies.synflow(plain, torch.zeros(2, 3, 8, 8, dtype=torch.float64)), expected)
    with torch.no_grad():
        network[0].weight.neg_()
        network[1].running_mean.fill_(100)
        network[1].weight.fill_(7)
    assert same(proxies.synflow(network, images), expected)


class PreActivation(nn.Module):
    """A block whose norm and activation come first, past which a shortcut goes: 1x1 or none."""

    def __init__(self, norm: Callable[[int], nn.Module], act: Callable[[], nn.Module], short: bool) -> None:
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 4, 3), norm(4), act()
        self.conv, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.short = nn.Conv2d(4, 4, 1) if short else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = self.short(x)
        return self.last((self.conv(self.act(self.norm(x))) + short).mean((2, 3)))


class OwnNorm(nn.Module):
    """A norm that no library has."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((n_channels, 1, 1), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) * self.weight


class Functional(nn.Module):
    """A norm that is called as a function."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:])


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda n: nn.GroupNorm(2, n),
    "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
    "layer": lambda n: nn.LayerNorm([n, 6, 6]),
    "root mean square": lambda n: nn.RMSNorm([n, 6, 6]),
    "local response": lambda n: nn.LocalResponseNorm(2),
    "frozen": FrozenBatchNorm2d,
    "own": OwnNorm,
    "function": Functional,
}


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6], ids=["relu", "relu6"])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_synflow_goes_past_norms_of_every_kind(norm: Callable, act: Callable, short: bool) -> None:
    """The score of the network without them, whether what follows works in place or not."""
    images, _ = batch()
    expected = proxies.synflow(seeded(lambda: PreActivation(lambda n: nn.Identity(), act, short)), images)
    for inplace in (False, True):
        network = seeded(lambda inplace=inplace: PreActivation(norm, lambda: act(inplace), short))
        assert same(proxies.synflow(network, images), expected.value)
    assert expected.reason == ""


@pytest.mark.parametrize(
    "cast", [lambda x: x.float(), lambda x: x.to(torch.float32), lambda x: x.half(), lambda x: x.type(torch.float32)]
)
def test_synflow_keeps_its_precision(cast: Callable[[Tensor], Tensor]) -> None:
    """A network that casts on its way is scored like one that does not; its flow may leave single precision."""

    class Casting(nn.Module):
        def __init__(self, cast: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.conv, self.cast, self.last = nn.Conv2d(3, 4, 3), cast, nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.cast(self.conv(x).relu().mean((2, 3))))

    images = batch()[0].float()
    network, twin = (seeded(lambda how=how: Casting(how)) for how in (cast, lambda x: x))
    for factor in (1.0, 1e30):
        with torch.no_grad():
            for one in (network, twin):
                one.conv.weight.mul_(factor)
        assert same(proxies.synflow(network.float(), images), proxies.synflow(twin.float(), images).value)


def test_synflow_of_a_wrapped_block() -> None:
    """A module that is called a norm, but holds a layer, is passed through."""

    class PreNorm(nn.Sequential):
        pass

    images, _ = batch()
    plain, wrapped = (
        seeded(lambda kind=kind: nn.Sequential(kind(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(144, 3)))
        for kind in (nn.Sequential, PreNorm)
    )
    assert proxies.synflow(wrapped, images) == proxies.synflow(plain, images)


def test_ntk_of_a_linear_network_by_hand() -> None:
    """The kernel is the number of outputs times (X X^T + 1), the 1 from the biases: its condition number."""
    network, (images, _) = seeded(lambda: nn.Linear(5, 3)), batch(4, shape=(5,))
    values = np.linalg.eigvalsh(images.numpy() @ images.numpy().T + 1)
    assert same(proxies.ntk_condition(network, images), -math.log(values[-1] / values[0]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MAKERS)
def test_ntk_condition_equals_a_loop_over_images(name: str, mode: str) -> None:
    """Slow twin: one backward pass an image, through the whole batch, and numpy's eigenvalues."""
    network, (images, _) = seeded(MAKERS[name]), batch(4)
    rows = []
    for i in range(4):
        twin = copy.deepcopy(network).train(mode == "train")
        twin(images)[i].sum().backward()
        rows.append(np.concatenate([weight.grad.numpy().ravel() for weight in twin.parameters()]))
    values = np.linalg.eigvalsh(np.array(rows) @ np.array(rows).T)
    assert same(proxies.ntk_condition(network, images, mode=mode), -math.log(values[-1] / values[0]), 1e-6)


@pytest.mark.parametrize("scheme", [SCHEME, *covering_schemes()[:3]], ids=schemes.identifier)
def test_sizes_of_schemes(scheme: schemes.Scheme) -> None:
    """Multiply-accumulates, layers and parameters are those that the scheme's shapes give."""
    network, images = scheme_networks.build_seeded(scheme, 0), torch.zeros(2, 3, 8, 8)
    (row,) = schemes.feature_table([scheme], side=8).to_dict("records")
    assert proxies.macs(network, images) == Score(row["n_plain_macs"])
    assert proxies.depth(network, images) == Score(len(scheme) + 1)
    assert proxies.n_parameters(network) == Score(row["NumParams"])


def test_sizes_of_cells() -> None:
    """Parameters are the benchmark's; multiply-accumulates too, which there have one more for each bias."""
    network = cells.build(CELL, n_channels=4, n_cells=1)
    (row,) = cells.sizes([CELL], n_channels=4, n_cells=1, side=8).to_dict("records")
    assert proxies.n_parameters(network) == Score(row["n_params"])
    assert proxies.macs(network, torch.zeros(1, 3, 8, 8)) == Score(row["macs"] - 10)


def test_sizes_by_hand() -> None:
    """Groups, strides, dilation, a linear layer on every row, and one called twice."""
    shared = nn.Linear(2, 2, bias=False)
    network = nn.Sequential(
        nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2), nn.Flatten(2), nn.Linear(16, 2), shared, shared
    )
    images = torch.zeros(3, 4, 8, 8)
    assert proxies.macs(network, images) == Score(6 * 16 * (2 * 3) + 6 * 2 * 16 + 2 * (6 * 2 * 2))
    assert proxies.depth(network, images) == Score(4)
    assert proxies.n_parameters(network) == Score(6 * 2 * 3 + 6 + 16 * 2 + 2 + 4)


# Awkward networks and batches


@pytest.mark.parametrize("name", [*OF_PATTERNS, "relu_count"])
def test_no_relu_is_no_score(name: str) -> None:
    """The reason is told, not an infinity."""
    network, (images, labels) = seeded(lambda: convolutions(nn.Tanh)), batch()
    assert_none(SCORES[name](network, images, labels), "no ReLU was called")


def assert_none(score: Score, reason: str) -> None:
    """There is no score, for that reason."""
    assert (math.isnan(score.value), score.reason) == (True, reason)


@pytest.mark.parametrize("name", SCORES)
def test_relus_in_place_are_scored_alike(name: str) -> None:
    """In place or not, as modules or as functions."""
    images, labels = batch()

    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu_()

    expected = SCORES[name](seeded(convolutions), images, labels)
    for relu in (lambda: nn.ReLU(inplace=True), Function):
        assert SCORES[name](seeded(lambda relu=relu: convolutions(relu)), images, labels) == expected
    assert expected.reason == ""


def with_dropout() -> nn.Sequential:
    network = convolutions()
    network.insert(3, nn.Dropout(0.5))
    return network


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_dropout_draws_from_the_seed(name: str) -> None:
    """The score is the same again from the same seed of torch, and with dropout another one from another seed."""
    network, (images, labels) = seeded(with_dropout), batch()
    values = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            values.append(SCORES[name](network, images, labels).value)
    assert values[0] == values[1]
    indifferent = name in ("nas_wot, eval", "synflow", "linear_regions")
    assert (values[0] == values[2]) == indifferent


@pytest.mark.parametrize("name", ["nas_wot", "epe_nas", "jacobian_covariance", "gradient_norm", "snip"])
def test_evaluation_mode_draws_nothing(name: str) -> None:
    """With dropout it is the score without, and torch's generator stays where it is."""
    network, (images, labels) = seeded(with_dropout), batch()
    labelled = {"labels": labels} if name in ("epe_nas", "gradient_norm", "snip") else {}
    before = torch.get_rng_state()
    score = getattr(proxies, name)(network, images, mode="eval", **labelled)
    assert torch.equal(torch.get_rng_state(), before)
    del network[3]
    assert getattr(proxies, name)(network, images, mode="eval", **labelled) == score


def test_batch_of_one() -> None:
    """By hand where it can be told: the logarithm of the units, one region, a lone class, an eigenvalue of 1."""
    network, (images, labels) = seeded(convolutions), batch(1)
    found = {name: SCORES[name](network, images, labels) for name in SCORES}
    n_units = 4 * 64 + 6 * 16
    expected = {
        "nas_wot": math.log(n_units),
        "nas_wot, eval": math.log(n_units),
        "nas_wot, reached only": math.log(n_units),
        "relu_count": n_units,
        "linear_regions": 1,
        "epe_nas": math.log(1 + 1e-5),
        "jacobian_covariance": -(math.log(1 + 1e-5) + 1 / (1 + 1e-5)),
        "ntk_condition": 0,
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert {score.reason for score in found.values()} == {""}


def test_identical_images_make_the_kernel_singular() -> None:
    """NAS-WOT has none and says why; the regions are one fewer; the Jacobian covariance pays 1 / 1e-5 for it."""
    network, (images, labels) = seeded(convolutions), batch(4)
    images[3] = images[1]
    for name in OF_PATTERNS[:3]:
        score = SCORES[name](network, images, labels)
        assert_none(score, "the kernel is singular: 4 images switch the ReLUs in 3 ways")
    assert proxies.linear_regions(network, images) == Score(3)
    assert -2e5 < proxies.jacobian_covariance(network, images).value < -0.9e5
    assert_none(proxies.ntk_condition(network, images), "the tangent kernel is singular within rounding")
    assert math.isfinite(proxies.epe_nas(network, images, labels=labels).value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_singular_tangent_kernels_are_found_in_any_precision(
    seed: int, name: str, dtype: torch.dtype, mode: str
) -> None:
    """Two images are one, in sums of any order: an eigenvalue that is rounding makes no score."""
    network, (images, _) = seeded(MAKERS[name], seed).to(dtype), batch(5, seed)
    images = images.to(dtype)
    assert proxies.ntk_condition(network, images, mode=mode).reason == ""
    images[4] = images[0]
    for scale in (1e-3, 1.0, 1e3):
        twin = copy.deepcopy(network)
        with torch.no_grad():
            list(twin.parameters())[-2].mul_(scale)
        assert_none(proxies.ntk_condition(twin, images, mode=mode), "the tangent kernel is singular within rounding")


def test_kernel_whose_smallest_eigenvalue_is_below_zero_is_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    """As rounding may have it, however small or large."""
    for smallest in (-1e-20, -1e-12, 0.0, 1e-16):
        monkeypatch.setattr(torch.linalg, "eigvalsh", lambda kernel, s=smallest: torch.tensor([s, 1.0]))
        score = proxies.ntk_condition(seeded(convolutions), batch(4)[0])
        assert_none(score, "the tangent kernel is singular within rounding")
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda kernel: torch.tensor([1e-13, 1.0], dtype=torch.float64))
    assert same(proxies.ntk_condition(seeded(convolutions), batch(4)[0]), 13 * -math.log(10))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["gradient_norm", "snip", "synflow", "depth"])
def test_scripted_networks_have_a_true_reason(name: str) -> None:
    """Their layers cannot be seen, which is no 0; products are counted all the same."""
    network, (images, labels) = convolutions(), batch()
    images = images.float()
    scripted = torch.jit.script(network)
    score = SCORES[name](scripted, images, labels)
    assert math.isnan(score.value)
    assert "scripted code is not" in score.reason
    assert proxies.macs(scripted, images) == proxies.macs(network, images)


@pytest.mark.parametrize("seed", range(20))
def test_more_images_than_units_make_the_kernel_singular(seed: int) -> None:
    """With 5 units its rank is 6 at most, however many patterns there are, and whatever rounding makes of the rest."""
    network, (images, _) = seeded(lambda: dense(5, 5), seed), batch(7, seed, shape=(5,))
    score = proxies.nas_wot(network, images)
    assert math.isnan(score.value)
    assert score.reason.startswith("the kernel is singular: ")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Counts are exact; other scores are within 10 % of those of the same weights in double precision.

    But for EPE-NAS with 8 bits of precision, which do not suffice for the logarithms of correlations near 0.
    """
    network, (images, labels) = seeded(convolutions).to(dtype), batch()
    images = images.to(dtype)
    twin = copy.deepcopy(network).double()
    for name in SCORES:
        score, expected = SCORES[name](network, images, labels), SCORES[name](twin, images.double(), labels)
        exact = name in ("relu_count", "linear_regions", "macs", "depth", "n_parameters", "synflow")
        tolerance = 0 if exact else 1 if (name, dtype) == ("epe_nas", torch.bfloat16) else 0.1
        assert same(score, expected.value, tolerance), name


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_nan_has_a_reason(name: str) -> None:
    """Of a network whose output is not a number there is no score, and no warning; its size is still known."""
    network, (images, labels) = seeded(convolutions), batch()
    with torch.no_grad():
        network[0].weight[0] = math.nan
    score = SCORES[name](network, images, labels)
    assert math.isnan(score.value)
    assert "not finite" in score.reason
    assert proxies.relu_count(network, images) == Score(6 * (4 * 64 + 6 * 16))


@pytest.mark.parametrize("name", ["epe_nas", "jacobian_covariance"])
def test_constant_gradients_have_no_correlation(name: str) -> None:
    """A network that sums its pixels has the same gradient everywhere: no score, and how many images are at fault."""
    network, (images, labels) = nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(1)), batch()
    assert_none(SCORES[name](network, images, labels), "the gradient by the image is constant for 6 of 6 images")


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_tuples_are_refused(name: str) -> None:
    """A network that returns its features as well is told what to do."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = convolutions()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.body(x), x

    images, labels = batch()
    with pytest.raises(TypeError, match="the network returned a tuple: scores take networks that return one tensor"):
        SCORES[name](seeded(Two), images, labels)


@pytest.mark.parametrize("name", ["gradient_norm", "snip", "synflow"])
def test_frozen_weights_have_no_gradient_to_score(name: str) -> None:
    """Nor has a network without layers; what asks for patterns or images does not mind."""
    network, (images, labels) = seeded(convolutions).requires_grad_(False), batch()
    assert_none(SCORES[name](network, images, labels), proxies.NO_WEIGHTS)
    assert_none(SCORES[name](nn.Sequential(nn.ReLU(), nn.Flatten()), images, labels), proxies.NO_WEIGHTS)
    assert_none(proxies.ntk_condition(network, images), "no parameter can be trained")
    for other in (*OF_PATTERNS, "epe_nas", "jacobian_covariance"):
        expected = SCORES[other](seeded(convolutions), images, labels)
        assert same(SCORES[other](network, images, labels), expected.value)


def test_weights_that_the_output_does_not_depend_on() -> None:
    """They have no gradient to score, which is no 0: a reason each."""

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = convolutions()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).detach()

    network, (images, labels) = seeded(Detached), batch()
    for name in ("gradient_norm", "snip", "synflow"):
        assert_none(SCORES[name](network, images, labels), proxies.NO_WEIGHTS)
    assert_none(proxies.ntk_condition(network, images), "the output depends on no parameter that can be trained")


def test_weights_that_layers_share() -> None:
    """They are one parameter and one layer to the loss; a unit, a product and a call count each time."""

    def make() -> nn.Sequential:
        shared, relu = nn.Linear(5, 5), nn.ReLU()
        return nn.Sequential(shared, relu, shared, relu)

    network, (images, labels) = seeded(make), batch(shape=(5,))
    twin = copy.deepcopy(network)
    functional.cross_entropy(twin(images), labels).backward()
    assert proxies.n_parameters(network) == Score(30)
    assert proxies.relu_count(network, images) == Score(6 * 10)
    assert (proxies.macs(network, images), proxies.depth(network, images)) == (Score(50), Score(2))
    assert same(proxies.gradient_norm(network, images, labels=labels), float(twin[0].weight.grad.norm()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "test"}, r"mode is 'test'; it must be one of \('train', 'eval'\)"),
        ({"reading": "both"}, r"reading is 'both'; it must be one of \('code', 'paper'\)"),
        ({"labels": torch.zeros(6, 3)}, r"labels have shape \(6, 3\) and type torch.float32: there must be one class"),
    ],
)
def test_epe_nas_refuses_what_it_does_not_know(arguments: dict, message: str) -> None:
    """Another mode, reading, or form of labels is named with what is allowed."""
    images, labels = batch()
    with pytest.raises(ValueError, match=message):
        proxies.epe_nas(seeded(convolutions), images, **({"labels": labels} | arguments))


@pytest.mark.parametrize("name", SCORES)
def test_the_same_again(name: str) -> None:
    """Law: a score is a finite float or a reason, twice the same, and torch's generator is not drawn from."""
    network, (images, labels) = seeded(MAKERS["branches"]), batch()
    before = torch.get_rng_state()
    score = SCORES[name](network, images, labels)
    assert (type(score.value), math.isfinite(score.value), score.reason) == (float, True, "")
    assert SCORES[name](network, images, labels) == score
    assert torch.equal(torch.get_rng_state(), before)
