"""Classifiers retrained on feature histories: against torch's optimiser, by hand, and what the ensemble must obey."""

from collections.abc import Iterator

import pandas as pd
import pytest
import torch
from made import SCHEME, SHORT, make_images
from torch import Tensor, nn

from naaplib.estimators import histories
from naaplib.estimators.histories import Ensemble, Schedule, correct, estimate, probabilities, retrain, window
from naaplib.training.feature_history import EpochFeatures, FeatureHistory
from naaplib.training.population import train_population

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums differ in their last bits with the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


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


def made_record(epoch: int, seed: int, n: int = 3, names: tuple[str, ...] = ("holdout", "test")) -> EpochFeatures:
    """Features of an epoch in which there is something to learn."""
    generator = torch.Generator().manual_seed(seed)

    def part(n_images: int, first: int) -> tuple[Tensor, Tensor]:
        labels = (torch.arange(n_images) + first) % 4
        x = torch.rand(n, n_images, 5, generator=generator)
        x[:, torch.arange(n_images), labels] += 0.3
        return x.half(), labels

    (train, train_labels), held = part(60, 0), {name: part(25 + i, i) for i, name in enumerate(names)}
    weights = torch.randn(n, 4, 5, generator=generator)
    biases = torch.randn(n, 4, generator=generator)
    features, labels = {k: x for k, (x, _) in held.items()}, {k: y for k, (_, y) in held.items()}
    return EpochFeatures(epoch, train, train_labels, features, labels, weights, biases)


@pytest.mark.parametrize("chunk", [1, histories.CHUNK])
def test_retraining_equals_torchs_optimiser_one_by_one(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 to 1e-9, with a smaller last batch, all at once and in chunks of one; what was given stays."""
    monkeypatch.setattr(histories, "CHUNK", chunk)
    features, labels, weights, biases = made_layers(n=4, n_train=230, width=6, n_classes=3)
    schedule = Schedule(n_epochs=5, batch_size=50)
    before = weights.clone()
    actual = retrain(features, labels, weights, biases, schedule, seed=3, dtype=DOUBLE)
    assert torch.equal(before, weights)
    for i in range(4):
        expected = slow_retrain(features[i], labels, weights[i], biases[i], schedule, seed=3)
        torch.testing.assert_close(actual[0][i], expected[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(actual[1][i], expected[1], rtol=0, atol=1e-9)
    assert (actual[0] - weights).abs().min() > 1e-4
    other = retrain(features, labels, weights, biases, schedule, seed=4, dtype=DOUBLE)
    assert (actual[0] - other[0]).abs().max() > 1e-6


def test_one_step_by_hand() -> None:
    """One image, two classes, equal logits: the gradient is -1/2 and 1/2 times the feature, plus decay."""
    features, labels = torch.tensor([[[2.0]]]), torch.tensor([1])
    schedule = Schedule(n_epochs=2, batch_size=1, rate=0.1, momentum=0.0, weight_decay=0.0)
    weights, biases = torch.zeros(1, 2, 1), torch.zeros(1, 2)
    w, b = retrain(features, labels, weights, biases, Schedule(1, 1, 0.1, 0.9, 0.0), dtype=DOUBLE)
    assert pytest.approx(w.flatten().tolist()) == [-0.1, 0.1]
    assert pytest.approx(b.flatten().tolist()) == [-0.05, 0.05]
    # The second of two steps has half the rate; the logits then differ by 2 * 0.1 * 2 + 2 * 0.05 = 0.5.
    w, b = retrain(features, labels, weights, biases, schedule, dtype=DOUBLE)
    p = 1 / (1 + torch.tensor(0.5, dtype=DOUBLE).exp().item())
    assert [-0.1 - 0.05 * 2 * p, 0.1 + 0.05 * 2 * p] == pytest.approx(w.flatten().tolist())
    w, b = retrain(features, labels, weights + 1, biases + 1, Schedule(1, 1, 0.1, 0.9, 0.5), dtype=DOUBLE)
    assert pytest.approx(w.flatten().tolist()) == [1 - 0.1 * (1 + 0.5), 1 - 0.1 * (-1 + 0.5)]
    assert pytest.approx(b.flatten().tolist()) == [1 - 0.1 * (0.5 + 0.5), 1 - 0.1 * (-0.5 + 0.5)]


def test_columns_of_zeros_change_nothing() -> None:
    """Padding of narrower networks: the same weights, those of the padding exactly zero."""
    features, labels, weights, biases = made_layers(n=2, n_train=100, width=4, n_classes=3)
    schedule = Schedule(batch_size=30)
    narrow = retrain(features, labels, weights, biases, schedule, dtype=DOUBLE)
    wide = retrain(nn.functional.pad(features, (0, 3)), labels, nn.functional.pad(weights, (0, 3)), biases, schedule)
    torch.testing.assert_close(narrow[0].float(), wide[0][:, :, :4], rtol=1e-4, atol=1e-5)
    assert not wide[0][:, :, 4:].any()


def test_retraining_lowers_the_loss() -> None:
    """By the study's schedule, from a classifier that knows nothing."""
    features, labels, weights, biases = made_layers(n=3, n_train=2000, width=5, n_classes=5)
    w, b = retrain(features, labels, weights, biases)
    rows = torch.arange(2000)
    before, after = (probabilities(features, *p)[:, rows, labels].log().mean(1) for p in ((weights, biases), (w, b)))
    assert (after > before).all()
    nothing = retrain(features, labels, weights, biases, Schedule(n_epochs=0))
    assert torch.equal(weights, nothing[0])


def test_probabilities_are_softmax_of_the_logits() -> None:
    """Against a loop; ties go to the first class."""
    features, _, weights, biases = made_layers(n=2, n_train=6, width=4, n_classes=3)
    actual = probabilities(features, weights, biases)
    for i in range(2):
        expected = (features[i].float() @ weights[i].T + biases[i]).softmax(dim=1)
        torch.testing.assert_close(actual[i], expected)
    equal = torch.tensor([[[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]]])
    assert correct(equal, torch.tensor([0, 2])).tolist() == [[True, False]]


def test_windows_by_hand() -> None:
    """The last k, fewer at the beginning; aligned ones end cycles."""
    assert [window(epoch, 3) for epoch in (1, 2, 3, 4)] == [[1], [1, 2], [1, 2, 3], [2, 3, 4]]
    assert [window(e, 2, cycle=3) for e in (1, 2, 3, 4, 5, 6, 10)] == [[1], [2], [3], [3], [3], [3, 6], [6, 9]]
    assert window(9, 4) == window(9, 4, cycle=1)
    for wrong in ((0, 1), (1, 0), (1, 1, 0)):
        with pytest.raises(ValueError, match="all must be 1 or more"):
            window(*wrong)


def test_ensemble_is_the_mean_of_softmaxes() -> None:
    """Slow twin: each epoch's and network's classifier by torch's optimiser, their outputs added up."""
    records = [made_record(epoch, seed=epoch) for epoch in (1, 2, 3)]
    schedule = Schedule(batch_size=25)
    ensemble = Ensemble(3, schedule, seed=5, dtype=DOUBLE)
    for record in records:
        ensemble.add(record)
    for i in range(3):
        outputs = []
        for record in records:
            w, b = slow_retrain(record.train[i], record.train_labels, record.weights[i], record.biases[i], schedule, 5)
            outputs.append((record.held["test"][i].double() @ w.T + b).softmax(dim=1))
        labels = records[0].held_labels["test"]
        assert (sum(outputs).argmax(dim=1) == labels).tolist() == ensemble.correct("test", [1, 2, 3])[i].tolist()
        assert (outputs[1].argmax(dim=1) == labels).tolist() == ensemble.correct("test", [2])[i].tolist()
        own = records[2].held["test"][i].double() @ records[2].weights[i].double().T + records[2].biases[i]
        assert (own.argmax(dim=1) == labels).tolist() == ensemble.original("test", 3)[i].tolist()


def test_identical_members_equal_one() -> None:
    """Ten times the same epoch says what the epoch's optimised classifier says; so does a window of one."""
    record = made_record(1, seed=0)
    ensemble = Ensemble()
    for epoch in range(1, 11):
        ensemble.add(EpochFeatures(epoch, *list(vars(record).values())[1:]))
    accuracies = ensemble.accuracies({"ten": window(10), "one": window(10, 1)})
    assert accuracies.optimised.tolist() == accuracies.ten.tolist() == accuracies.one.tolist()
    assert (accuracies.original != accuracies.optimised).any()
    assert torch.equal(ensemble.correct("test", [10]), ensemble.correct("test", window(10)))


def test_estimates_from_history_and_stream_are_the_same() -> None:
    """After every epoch of a population, from the ring with all window positions at once, and epoch by epoch."""
    images = make_images(60, 40)
    held = {"holdout": (images.train_images[50:], images.train_labels[50:])}
    held["test"] = (images.test_images, images.test_labels)
    history, ensemble = FeatureHistory(held, size=3), Ensemble(3, Schedule(batch_size=20), dtype=DOUBLE)
    n_compared = 0

    def after_epoch(epoch: int, trainer: object) -> None:
        nonlocal n_compared
        history.take(epoch, trainer)
        ensemble.add(history[epoch])
        for k in (1, 2, 3):
            epochs = window(epoch, k)
            streamed = ensemble.accuracies({"ensemble": epochs})
            pd.testing.assert_frame_equal(estimate(history, epochs, Schedule(batch_size=20), dtype=DOUBLE), streamed)
            n_compared += len(streamed)

    schemes = {1: SCHEME, 2: SCHEME[:1], 3: SCHEME[:2]}
    train_population(schemes, images, SHORT, n_holdout=10, keep_features=True, after_epoch=after_epoch, progress=False)
    assert n_compared == 4 * 3 * 2 * 3


def test_accuracies_are_tidy_means_of_what_is_correct() -> None:
    """One row for a set and network; the columns are those of the windows asked for."""
    ensemble = Ensemble(2, Schedule(batch_size=25))
    ensemble.add(*(made_record(epoch, seed=epoch) for epoch in (1, 2, 3)))
    assert ensemble.epochs == [2, 3]
    table = ensemble.accuracies({"K = 2": [2, 3], "aligned": [3]})
    assert list(table) == ["epoch", "images", "network", "original", "optimised", "K = 2", "aligned"]
    assert [(3, name, i) for name in ("holdout", "test") for i in range(3)] == list(
        table[["epoch", "images", "network"]].itertuples(index=False, name=None)
    )
    assert ensemble.correct("test", [2, 3]).double().mean(dim=1).tolist() == pytest.approx(table["K = 2"][3:].tolist())
    assert ensemble.original("holdout", 3).double().mean(dim=1).tolist() == pytest.approx(table.original[:3].tolist())
    assert table.optimised.tolist() == table.aligned.tolist()


def test_wrong_arguments_are_refused() -> None:
    """With what came and what is allowed."""
    features, labels, weights, biases = made_layers(n=2, n_train=6, width=4, n_classes=3)
    with pytest.raises(ValueError, match=r"features of shape \(2, 6, 4\) need labels \(6,\), .* not \(5,\)"):
        retrain(features, labels[:5], weights, biases)
    features[1, 0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="1 of 2 retrained layers are not finite, the first at place 1"):
        retrain(features, labels, weights, biases)
    with pytest.raises(ValueError, match="n_epochs -1 must be 0 or more, batch_size 1024 1 or more"):
        Schedule(n_epochs=-1)
    with pytest.raises(ValueError, match="size is 0; an ensemble keeps 1 epoch or more"):
        Ensemble(0)
    ensemble = Ensemble(1, Schedule(batch_size=25))
    ensemble.add(made_record(1, 0), made_record(2, 1))
    with pytest.raises(LookupError, match=r"epochs \[1\] are not kept, but \[2\]: take a larger size, which is 1"):
        ensemble.correct("test", [1, 2])
    with pytest.raises(ValueError, match="there are no images named 'val'; there are 'holdout', 'test'"):
        ensemble.correct("val", [2])
    with pytest.raises(ValueError, match="an ensemble needs one epoch or more"):
        ensemble.correct("test", [])
