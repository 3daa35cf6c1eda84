"""Linear layers retrained many at once: each as torch's optimiser would train it alone."""

import pytest
import torch
from torch import Tensor, nn

from naaplib.estimators.histories import linear as linear_layers
from naaplib.estimators.histories.linear import Schedule, probabilities, retrain

DOUBLE = torch.float64


pytestmark = pytest.mark.usefixtures("one_thread")


def made_layers(n: int, n_train: int, width: int, n_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features in 16 bits, labels, weights, biases."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(n_classes, (n_train,), generator=generator)
    features = torch.rand(n, n_train, width, generator=generator).half()
    features[:, torch.arange(n_train), labels % width] += 0.5
    weights = torch.randn(n, n_classes, width, generator=generator)
    return features, labels, weights, torch.randn(n, n_classes, generator=generator)


def slow_retrain(
    features: Tensor, labels: Tensor, weights: Tensor, biases: Tensor, schedule: Schedule, seed: int
) -> tuple[Tensor, Tensor]:
    """One layer in float64, by torch's own layer, loss, optimiser and schedule."""
    layer = nn.Linear(features.shape[1], len(biases)).double()
    layer.load_state_dict({"weight": weights, "bias": biases})
    optimizer = torch.optim.SGD(
        layer.parameters(), schedule.rate, schedule.momentum, weight_decay=schedule.weight_decay
    )
    n_steps = schedule.n_epochs * len(labels.split(schedule.batch_size))
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, n_steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(schedule.n_epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(schedule.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(features[rows].double()), labels[rows]).backward()
            optimizer.step()
            linear.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize("chunk", [1, linear_layers.CHUNK])
def test_retraining_equals_torchs_optimiser_one_by_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 to 1e-9, with a smaller last batch, all at once and in chunks of one; what was given stays."""
    monkeypatch.setattr(linear_layers, "CHUNK", chunk)
    features, labels, weights, biases = made_layers(n=4, n_train=230, width=6, n_classes=3)
    schedule = Schedule(n_epochs=5, batch_size=50)
    before = weights.clone()
    actual = retrain(features, labels, weights=weights, biases=biases, schedule=schedule, seed=3, dtype=DOUBLE)
    assert torch.equal(before, weights)
    for i in range(4):
        expected = slow_retrain(features[i], labels, weights[i], biases[i], schedule, seed=3)
        torch.testing.assert_close(actual[0][i], expected[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(actual[1][i], expected[1], rtol=0, atol=1e-9)
    assert (actual[0] - weights).abs().min() > 1e-4
    other = retrain(features, labels, weights=weights, biases=biases, schedule=schedule, seed=4, dtype=DOUBLE)
    assert (actual[0] - other[0]).abs().max() > 1e-6


def test_one_step_by_hand() -> None:
    """One image, two classes, equal logits: the gradient is -1/2 and 1/2 times the feature, plus decay."""
    features, labels = torch.tensor([[[2.0]]]), torch.tensor([1])
    schedule = Schedule(n_epochs=2, batch_size=1, rate=0.1, momentum=0.0, weight_decay=0.0)
    weights, biases = torch.zeros(1, 2, 1), torch.zeros(1, 2)
    w, b = retrain(
        features,
        labels,
        weights=weights,
        biases=biases,
        schedule=Schedule(1, 1, rate=0.1, momentum=0.9, weight_decay=0.0),
        dtype=DOUBLE,
    )
    assert pytest.approx(w.flatten().tolist()) == [-0.1, 0.1]
    assert pytest.approx(b.flatten().tolist()) == [-0.05, 0.05]
    # The second of two steps has half the rate; the logits then differ by 2 * 0.1 * 2 + 2 * 0.05 = 0.5.
    w, b = retrain(features, labels, weights=weights, biases=biases, schedule=schedule, dtype=DOUBLE)
    p = 1 / (1 + torch.tensor(0.5, dtype=DOUBLE).exp().item())
    assert [-0.1 - 0.05 * 2 * p, 0.1 + 0.05 * 2 * p] == pytest.approx(w.flatten().tolist())
    w, b = retrain(
        features,
        labels,
        weights=weights + 1,
        biases=biases + 1,
        schedule=Schedule(1, 1, rate=0.1, momentum=0.9, weight_decay=0.5),
        dtype=DOUBLE,
    )
    assert pytest.approx(w.flatten().tolist()) == [1 - 0.1 * (1 + 0.5), 1 - 0.1 * (-1 + 0.5)]
    assert pytest.approx(b.flatten().tolist()) == [1 - 0.1 * (0.5 + 0.5), 1 - 0.1 * (-0.5 + 0.5)]


def test_columns_of_zeros_change_nothing() -> None:
    """Padding of narrower networks: the same weights, those of the padding exactly zero."""
    features, labels, weights, biases = made_layers(n=2, n_train=100, width=4, n_classes=3)
    schedule = Schedule(batch_size=30)
    narrow = retrain(features, labels, weights=weights, biases=biases, schedule=schedule, dtype=DOUBLE)
    wide = retrain(
        nn.functional.pad(features, (0, 3)),
        labels,
        weights=nn.functional.pad(weights, (0, 3)),
        biases=biases,
        schedule=schedule,
    )
    torch.testing.assert_close(narrow[0].float(), wide[0][:, :, :4], rtol=1e-4, atol=1e-5)
    assert not wide[0][:, :, 4:].any()


def test_retraining_lowers_the_loss() -> None:
    """By the study's schedule, from a classifier that knows nothing."""
    features, labels, weights, biases = made_layers(n=3, n_train=2000, width=5, n_classes=5)
    w, b = retrain(features, labels, weights=weights, biases=biases)
    rows = torch.arange(2000)
    before, after = (probabilities(features, p)[:, rows, labels].log().mean(1) for p in ((weights, biases), (w, b)))
    assert (after > before).all()
    nothing = retrain(features, labels, weights=weights, biases=biases, schedule=Schedule(n_epochs=0))
    assert torch.equal(weights, nothing[0])


def test_probabilities_are_softmax_of_the_logits() -> None:
    """Against a loop, in the weights' type."""
    features, _, weights, biases = made_layers(n=2, n_train=6, width=4, n_classes=3)
    actual = probabilities(features, (weights, biases))
    for i in range(2):
        expected = (features[i].float() @ weights[i].T + biases[i]).softmax(dim=1)
        torch.testing.assert_close(actual[i], expected)


def test_wrong_arguments_are_refused() -> None:
    """With what came and what is allowed."""
    features, labels, weights, biases = made_layers(n=2, n_train=6, width=4, n_classes=3)
    with pytest.raises(ValueError, match=r"features of shape \(2, 6, 4\) need labels \(6,\), .* not \(5,\)"):
        retrain(features, labels[:5], weights=weights, biases=biases)
    features[1, 0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="1 of 2 retrained layers are not finite, the first at place 1"):
        retrain(features, labels, weights=weights, biases=biases)
    with pytest.raises(ValueError, match="n_epochs -1 must be 0 or more, batch_size 1024 1 or more"):
        Schedule(n_epochs=-1)
    with pytest.raises(ValueError, match=r"features must be \(n, n_train, width\) .* not \(6, 4\) and \(2, 3, 4\)"):
        retrain(features[0], labels, weights=weights, biases=biases)
    for wrong, message in ((labels - 1, "labels are from -1 to 1; they must be from 0 to 2"), (labels + 9, "to 11;")):
        with pytest.raises(ValueError, match=message):
            retrain(features, wrong, weights=weights, biases=biases)


@pytest.mark.parametrize("ambient", ["no_grad", "inference_mode", "enable_grad", "float64", "device"])
def test_result_does_not_depend_on_torchs_ambient_state(ambient: str) -> None:
    """Gradients off or on, another default type or device; weights with gradients stay what they are."""
    features, labels, weights, biases = made_layers(n=2, n_train=60, width=4, n_classes=3)
    expected = retrain(features, labels, weights=weights, biases=biases)
    said = probabilities(features, expected)
    if ambient in ("float64", "device"):
        try:
            torch.set_default_dtype(torch.float64 if ambient == "float64" else torch.float32)
            torch.set_default_device("meta" if ambient == "device" else "cpu")
            found = retrain(features, labels, weights=weights, biases=biases)
            outputs = probabilities(features, found)
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
    else:
        if ambient == "enable_grad":
            weights.requires_grad_(), biases.requires_grad_()
        with getattr(torch, ambient)():
            found = retrain(features.requires_grad_(ambient == "enable_grad"), labels, weights=weights, biases=biases)
            outputs = probabilities(features, found)
        assert weights.grad is None
    assert all(torch.equal(*pair) and not pair[1].requires_grad for pair in zip(expected, found, strict=True))
    assert torch.equal(said, outputs)
    found[0].add_(1)  # which a tensor made in inference mode would refuse
