"""Gradients by images and weights against loops and by hand, and networks that are left as they were found."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from made import SCHEME
from torch import Tensor, nn
from torch.nn import functional
from untrained import MAKERS, SCORES, batch, convolutions, dense, seeded

from naaplib.architectures import scheme_networks
from naaplib.estimators.proxies import gradients, scores
from naaplib.estimators.proxies.gradients import undisturbed


class Replaced(nn.Module):
    """Keeps a running mean in a buffer that every forward puts another tensor in."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
        return x - self.mean[:, None, None]


class Failing(nn.Module):
    """Passes on a batch of shape (n, ...) as often as told, and then fails."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes

    def forward(self, x: Tensor) -> Tensor:
        self.passes -= 1
        if self.passes < 0:
            raise ArithmeticError("no more")
        return x


def prepared(*last: nn.Module) -> nn.Sequential:
    """A network with mixed modes, running statistics, gradients of its own and a frozen weight."""
    network = seeded(lambda: nn.Sequential(Replaced(), convolutions(), nn.Dropout(), *last))
    network(batch(seed=1)[0])
    network[1][1].eval()
    network[2].eval()
    network[1][3].weight.requires_grad_(False)
    for i, weight in enumerate(network.parameters()):
        weight.grad = torch.full_like(weight, i) if i else None
    return network


def state(network: nn.Module) -> list[object]:
    """All that a network is but for its code, for comparison: copies of values, and which tensors hold them."""
    tensors = [*network.parameters(), *network.buffers()]
    return [
        {name: value.tolist() for name, value in network.state_dict().items()},
        [(id(tensor), tensor.requires_grad) for tensor in tensors],
        [None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist()) for tensor in tensors],
        [
            (module.training, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in network.modules()
        ],
    ]


@pytest.mark.parametrize("name", SCORES)
def test_network_and_images_are_left_as_found(name: str) -> None:
    """Weights, buffers, gradients, modes and hooks are what they were, and the images too; no gradient is recorded."""
    network, (images, labels) = prepared(), batch()
    before, pixels = state(network), images.clone()
    SCORES[name](network, images, labels)
    assert state(network) == before
    assert torch.equal(images, pixels)
    assert not images.requires_grad


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("name", [name for name in SCORES if name != "n_parameters"])
def test_network_is_left_as_found_after_an_error(name: str, passes: int) -> None:
    """An error inside the network is passed on, in its first pass or a later one, and leaves nothing behind."""
    network, (images, labels) = prepared(Failing(passes + 1)), batch()
    before = state(network)
    with suppress(ArithmeticError) if passes else pytest.raises(ArithmeticError, match="no more"):
        SCORES[name](network, images, labels)
    assert state(network) == before


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (192,), (4, 8, 2)], ids=str)
def test_relu_in_place_on_the_images_themselves(name: str, shape: tuple[int, ...]) -> None:
    """As a network's very first layer: the score of one out of place, and images that keep their negative pixels."""

    def make(inplace: bool) -> nn.Sequential:
        pixels = int(np.prod(shape))
        return nn.Sequential(nn.ReLU(inplace), nn.Flatten(), nn.Linear(pixels, 4), nn.ReLU(inplace), nn.Linear(4, 3))

    images, labels = batch(shape=shape)
    kept = images.clone()
    expected = SCORES[name](seeded(lambda: make(False)), images, labels)
    assert SCORES[name](seeded(lambda: make(True)), images, labels) == expected
    assert torch.equal(images, kept)


class Flat(nn.Module):
    """A network that needs colours first in memory, since it takes a view of what a convolution returns."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.linear, self.view = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3), view

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.view(self.conv(x))))


@pytest.mark.parametrize("name", SCORES)
def test_networks_may_take_views(name: str) -> None:
    """`view` gives what `reshape` gives, across colours and rows, and across images and colours, buffers included."""
    images, labels = batch()

    def make(view: Callable[[Tensor], Tensor]) -> nn.Module:
        return seeded(lambda: nn.Sequential(Replaced(), Flat(view)))

    expected = SCORES[name](make(lambda x: x.reshape(len(x), -1)), images, labels)
    views = [lambda x: x.view(len(x), -1), lambda x: x.view(-1, 8, 8).reshape(-1, 256)]
    for view in views:
        score = SCORES[name](make(view), images, labels)
        assert (score.reason, score.value) == (expected.reason, pytest.approx(expected.value, rel=1e-9))


def test_errors_of_torch_are_passed_on() -> None:
    """A network that does not take images of this shape tells so once, in torch's words."""
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as raised:
        scores.nas_wot(seeded(dense), batch()[0])
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "error", [RuntimeError("no more room for a view"), torch.OutOfMemoryError("out of memory"), NotImplementedError()]
)
def test_errors_of_networks_pass_at_once(error: Exception) -> None:
    """A network that fails runs once, and its own error arrives, with nothing before it."""
    runs = []

    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            runs.append(x)
            raise error

    with pytest.raises(type(error)) as raised:
        scores.nas_wot(Failing(), batch()[0])
    assert (raised.value, raised.value.__context__, len(runs)) == (error, None, 1)


def test_errors_of_the_backward_pass_pass_at_once() -> None:
    """The same of an error that comes with the gradients."""
    runs = []

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            runs.append(x)
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            raise RuntimeError("no gradient")

    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Failing.apply(x)

    with pytest.raises(RuntimeError, match="no gradient"):
        scores.jacobian_covariance(Network(), batch()[0])
    assert len(runs) == 1


AMBIENT = {
    "no gradient": torch.no_grad,
    "inference mode": torch.inference_mode,
    "another default device": lambda: torch.device("meta"),
    "deterministic": lambda: deterministic(),
    "anomaly detection": lambda: torch.autograd.detect_anomaly(check_nan=False),
    "another default precision": lambda: precise(),
}


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def precise() -> Iterator[None]:
    torch.set_default_dtype(torch.float16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("ambient", AMBIENT.values(), ids=AMBIENT)
@pytest.mark.parametrize("name", SCORES)
def test_what_torch_is_set_to_changes_no_score(name: str, ambient: Callable) -> None:
    """The same number inside as outside; images and network that were made outside."""
    network, (images, labels) = seeded(convolutions), batch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = SCORES[name](network, images, labels)
        torch.manual_seed(0)
        with ambient():
            assert SCORES[name](network, images, labels) == expected
    assert expected.reason == ""
    state_after = [parameter.is_inference() for parameter in network.parameters()]
    assert not any(state_after)


@pytest.mark.parametrize("name", SCORES)
def test_networks_that_were_made_in_inference_mode(name: str) -> None:
    """Their weights take no gradient, but a copy's do: the same score, inside and outside."""
    images, labels = batch()
    expected = SCORES[name](seeded(convolutions), images, labels)
    with torch.inference_mode():
        network, (images, labels) = seeded(convolutions), batch()
        assert SCORES[name](network, images, labels) == expected
    assert SCORES[name](network, images, labels) == expected


def test_images_are_laid_out_for_convolutions() -> None:
    """A copy with the same values and shape, whatever that is: of images with colours last in memory."""
    images, _ = batch()

    def given(images: Tensor) -> Tensor:
        return undisturbed(lambda network, x: x, seeded(convolutions), images=images, mode="train")

    for some in (images, images[:1], images[:, :1], images.flatten(1), images[:, 0, 0, :5]):
        assert torch.equal(given(some), some)
        assert given(some).data_ptr() != some.data_ptr()
    assert given(images).is_contiguous(memory_format=torch.channels_last)
    assert given(images.mT.mT[:, 0]).is_contiguous()


def test_modes_are_those_asked_for() -> None:
    """All modules are in the mode while the function runs, whatever they were in."""
    network, (images, _) = prepared(), batch()

    def modes(network: nn.Module, images: Tensor) -> set[bool]:
        return {module.training for module in network.modules()}

    assert [undisturbed(modes, network, images=images, mode=mode) for mode in ("train", "eval")] == [{True}, {False}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "training"}, r"mode is 'training'; it must be one of \('train', 'eval'\)"),
        (
            {"images": torch.zeros(0, 3, 8, 8)},
            r"images have shape \(0, 3, 8, 8\) and type torch.float32: a batch is \(n_images, \.\.\.\), at least "
            "one image, in floating point",
        ),
        ({"images": torch.zeros(6)}, r"images have shape \(6,\) and type torch.float32"),
        ({"images": torch.zeros(6, 3, 8, 8, dtype=torch.uint8)}, r"images have shape .* and type torch.uint8"),
        (
            {"images": torch.zeros(6, 3, 8, 8)},
            r"the network's parameters are torch.float64 on cpu, the images torch.float32 on cpu: bring them together "
            r"with .to\(\)",
        ),
        ({"images": torch.zeros(6, 3, 8, 8, dtype=torch.float64, device="meta")}, "the images torch.float64 on meta"),
    ],
)
def test_what_is_no_batch_is_refused(change: dict, message: str) -> None:
    """Another mode, no images, whole numbers, another precision or device: one message, the network untouched."""
    network = prepared()
    before = state(network)
    arguments = {"images": batch()[0], "mode": "train"} | change
    with pytest.raises(ValueError, match=message):
        undisturbed(lambda network, x: pytest.fail("was let in"), network, **arguments)
    assert state(network) == before


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("n_parameters", "nas_wot, eval")])
def test_integer_and_empty_batches_are_refused_by_every_score(name: str) -> None:
    """One clear error each, for whatever takes images."""
    for images in (torch.zeros(6, 3, 8, 8, dtype=torch.int64), torch.zeros(0, 3, 8, 8, dtype=torch.float64)):
        with pytest.raises(ValueError, match="a batch is"):
            SCORES[name](seeded(convolutions), images, torch.zeros(len(images), dtype=torch.int64))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MAKERS)
def test_gradients_by_images_equal_a_backward_pass(name: str, training: bool) -> None:
    """Slow twin: `backward` on a copy."""
    network, (images, _) = seeded(MAKERS[name]).train(training), batch()
    leaf = images.clone().requires_grad_()
    copy.deepcopy(network)(leaf).sum().backward()
    torch.testing.assert_close(gradients.by_images(network, images), leaf.grad.flatten(1))


def test_gradient_by_image_of_a_linear_network() -> None:
    """By hand: the sum over outputs of the weights, for every image; 0 where the output does not depend on images."""
    network, (images, _) = seeded(lambda: nn.Linear(5, 3)), batch(shape=(5,))
    expected = network.weight.detach().sum(dim=0).expand(6, 5)
    torch.testing.assert_close(gradients.by_images(network, images), expected)

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network(x.detach())

    assert gradients.by_images(Detached(), images).tolist() == [[0] * 5] * 6


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_by_weights_equal_a_backward_pass(name: str) -> None:
    """Slow twin: `backward` of the mean cross-entropy, for every convolution and linear layer, once each, in order."""
    network, (images, labels) = seeded(MAKERS[name]), batch()
    twin = copy.deepcopy(network)
    functional.cross_entropy(twin(images), labels).backward()
    layers = [module for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    pairs = gradients.by_weights(network, images, labels=labels)
    assert len(pairs) == len(layers) > 1
    for (weight, gradient), layer in zip(pairs, layers, strict=True):
        assert torch.equal(weight, layer.weight)
        torch.testing.assert_close(gradient, layer.weight.grad)
        assert not weight.requires_grad


def test_loss_keeps_double_precision() -> None:
    """A network in double precision has gradients in double precision, and labels may be of any whole type."""
    network, (images, labels) = seeded(dense), batch(shape=(5,))
    loss = functional.cross_entropy(network(images), labels)
    (expected,) = torch.autograd.grad(loss, [network[2].weight])
    for dtype in (torch.int64, torch.int32, torch.uint8):
        _, (_, gradient) = gradients.by_weights(network, images, labels=labels.to(dtype))
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "labels", [torch.zeros(5, dtype=torch.int64), torch.zeros(6), torch.zeros(6, 1).long(), [0, 1], [0.5] * 6]
)
@pytest.mark.parametrize("name", ["epe_nas", "gradient_norm", "snip"])
def test_labels_that_are_no_class_numbers_are_refused(name: str, labels: object) -> None:
    """One whole number an image."""
    with pytest.raises(ValueError, match=r"labels have shape .* there must be one class number an image, 6 in all"):
        SCORES[name](seeded(dense), batch(shape=(5,))[0], labels)


@pytest.mark.parametrize("name", ["epe_nas", "gradient_norm", "snip"])
def test_labels_of_any_kind_are_taken(name: str) -> None:
    """Lists, tuples, arrays and small integers give the score of a tensor."""
    network, (images, labels) = seeded(convolutions), batch()
    expected = SCORES[name](network, images, labels)
    for other in (
        labels.tolist(),
        tuple(labels.tolist()),
        labels.numpy(),
        labels.numpy().astype("uint8"),
        labels.int(),
    ):
        assert SCORES[name](network, images, other) == expected


@pytest.mark.parametrize(("label", "said"), [(3, "0 to 3"), (-1, "-1 to 2"), (-100, "-100 to 2")])
@pytest.mark.parametrize("name", ["gradient_norm", "snip"])
def test_labels_out_of_range_are_refused(name: str, label: int, said: str) -> None:
    """The message says which there are and which the network has outputs for; none is left out of the loss."""
    network, (images, labels) = seeded(convolutions), batch()
    labels[labels == 1] = label
    labels[0] = 2 if label < 0 else 0
    message = f"labels run from {said}, and the network has 3 outputs: labels are class numbers from 0 to 2"
    with pytest.raises(ValueError, match=message):
        SCORES[name](network, images, labels)


@pytest.mark.parametrize(
    ("last", "shape"),
    [
        (lambda x: x[:, 0], r"\(6,\)"),
        (lambda x: x[:, :1], r"\(6, 1\)"),
        (lambda x: x[:, :, None, None].expand(-1, -1, 4, 4), r"\(6, 3, 4, 4\)"),
        (lambda x: x.T, r"\(3, 6\)"),
        (lambda x: x.sum(), r"\(\)"),
    ],
    ids=["1-d", "one output", "segmentation", "turned", "number"],
)
@pytest.mark.parametrize("name", ["gradient_norm", "snip"])
def test_outputs_without_classes_are_refused(name: str, last: Callable[[Tensor], Tensor], shape: str) -> None:
    """A cross-entropy needs a row of two classes or more for each image; what came is said."""

    class Ended(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return last(super().forward(x))

    images, labels = batch()
    with pytest.raises(ValueError, match=rf"output has shape {shape}: cross-entropy takes \(n_images, n_classes\)"):
        SCORES[name](seeded(lambda: Ended(*convolutions())), images, labels)


def test_one_number_an_image_has_a_tangent_kernel() -> None:
    """With or without an axis for it; without the images first there is none, and the shape is told."""

    class Ended(nn.Sequential):
        def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
            super().__init__(*convolutions(n_outputs=1))
            self.last = last

        def forward(self, x: Tensor) -> Tensor:
            return self.last(super().forward(x))

    images, _ = batch()
    expected = scores.ntk_condition(seeded(lambda: Ended(lambda y: y)), images)
    assert scores.ntk_condition(seeded(lambda: Ended(lambda y: y[:, 0])), images) == expected
    with pytest.raises(ValueError, match=r"output has shape \(1, 6\): its first axis must hold the 6 images"):
        scores.ntk_condition(seeded(lambda: Ended(lambda y: y.T)), images)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MAKERS)
def test_tangent_kernel_equals_a_loop_over_images(name: str, training: bool) -> None:
    """Slow twin: for each image a backward pass of a copy, on the whole batch; all parameters, BatchNorm's included."""
    network, (images, _) = seeded(MAKERS[name]).train(training), batch(4)
    rows = []
    for i in range(4):
        twin = copy.deepcopy(network)
        twin(images)[i].sum().backward()
        rows.append(torch.cat([weight.grad.flatten() for weight in twin.parameters()]).numpy())
    expected = [[float(np.dot(one, other)) for other in rows] for one in rows]
    np.testing.assert_allclose(gradients.by_parameters(network, images).numpy(), expected, rtol=1e-9, atol=1e-9)


def test_slopes_are_zero_without_dependence() -> None:
    """A number that depends on one of two inputs, and one that was computed without gradient."""
    one, other = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = [slope.tolist() for slope in gradients.slopes((2 * one).sum(), [one, other])]
    assert found == [[2, 2], [0, 0, 0]]
    assert [slope.tolist() for slope in gradients.slopes(torch.ones(()), [one])] == [[0, 0]]


def test_output_must_be_one_tensor() -> None:
    """A tuple is refused with what came and what to do."""
    with pytest.raises(TypeError, match=r"the network returned a tuple: .* wrap it in a module that returns that part"):
        gradients.as_tensor((torch.zeros(1), 1))
    network = scheme_networks.build_seeded(SCHEME, 0)
    assert gradients.as_tensor(network(batch()[0].float())).shape == (6, 10)
