"""One network watched: what its last linear layer saw, of any model that ends in one."""

from collections.abc import Iterator

import pytest
import torch
from made import SCHEME, SHORT, make_images
from torch import Tensor, nn
from torchvision.models import resnet18

from naaplib.architectures.networks import build_seeded
from naaplib.training.cifar10 import normalise
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.trainer import Trainer
from naaplib.training.watch import Watch

IMAGES = make_images()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums differ in their last bits with the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def watched_run(model: nn.Module, x: Tensor, history: FeatureHistory, n_epochs: int, labels: Tensor) -> None:
    """A training loop of one's own."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.train()
    with Watch(model, labels, x) as watch:
        for epoch in range(1, n_epochs + 1):
            for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(16):
                loss = nn.functional.cross_entropy(model(x[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.keep(rows)
            history.take(epoch, watch)


def test_watched_network_gives_what_a_trainer_gives() -> None:
    """Frozen features and classifiers of a model alone, against those of the population that holds it."""
    trainer = Trainer([build_seeded(scheme, 11) for scheme in (SCHEME, SCHEME[:1], SCHEME[:2])], [IMAGES], SHORT)
    from_trainer, from_watch = (FeatureHistory({}, features="frozen") for _ in range(2))
    from_trainer.take(1, trainer)
    alone = trainer.network.extract(2)
    with Watch(alone, IMAGES.train_labels, normalise(IMAGES.train_images)) as watch:
        alone.eval()(normalise(IMAGES.train_images[:2]))
        from_watch.take(1, watch)
    torch.testing.assert_close(from_trainer[1].train[2:3], from_watch[1].train, rtol=2e-3, atol=1e-4)
    assert torch.equal(from_trainer[1].weights[2:3], from_watch[1].weights)
    assert torch.equal(from_trainer[1].biases[2:3], from_watch[1].biases)


def test_any_model_that_ends_in_a_linear_layer_is_watched() -> None:
    """torchvision's ResNet-18 in a loop of one's own: rows, modes and hooks as they should be."""
    torch.manual_seed(0)
    model, x, y = resnet18(num_classes=10), normalise(IMAGES.train_images), IMAGES.train_labels
    history = FeatureHistory({"test": (normalise(IMAGES.test_images), IMAGES.test_labels)}, size=2)
    model.layer1.eval()  # as one would to keep its statistics
    watched_run(model, x, history, n_epochs=3, labels=y)
    assert history.epochs == [2, 3]
    assert (*history[3].train.shape,) == (1, 40, 512)
    expected = model.eval()(normalise(IMAGES.test_images))
    actual = history[3].held["test"][0].float() @ history[3].weights[0].T + history[3].biases[0]
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-2, atol=1e-2)
    assert not model.fc._forward_hooks
    assert not model._forward_hooks


def test_watched_features_lie_at_their_rows() -> None:
    """Against a model whose features are the images' numbers, one layer without bias, in shuffled batches."""
    model = nn.Linear(3, 2, bias=False)
    x = torch.arange(15.0).view(5, 3)
    history = FeatureHistory({"held": (x[:2] + 1, torch.tensor([0, 1]))})
    with Watch(model, torch.tensor([0, 1, 0, 1, 0])) as watch:
        for rows in (torch.tensor([3, 0]), torch.tensor([4, 1]), torch.tensor([2])):
            model(x[rows])
            watch.keep(rows)
        history.take(1, watch)
        assert x.tolist() == history[1].train[0].tolist()
        assert (x[:2] + 1).tolist() == history[1].held["held"][0].tolist()
        assert history[1].biases.tolist() == [[0.0, 0.0]]
        with pytest.raises(ValueError, match="5 of 5 training images were not kept in this epoch"):
            history.take(2, watch)
        model(x[:2])
        with pytest.raises(ValueError, match=r"3 rows were to be kept, but .* one of 2 images as forward pass"):
            watch.keep(torch.tensor([0, 1, 2]))
        watch.keep(torch.tensor([0, 1]))
        with pytest.raises(ValueError, match=r"2 rows were to be kept, but .* none as forward pass"):
            watch.keep(torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="3 of 5 training images were not kept in this epoch"):
            history.take(2, watch)
        with pytest.raises(ValueError, match="frozen features need the training images"):
            FeatureHistory({}, features="frozen").take(1, watch)


def test_modes_of_modules_are_put_back() -> None:
    """Each module's own: one in evaluation mode within a model in training mode stays so."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2))
    model[0].eval()
    with Watch(model, torch.zeros(4, dtype=torch.int64)) as watch:
        features = watch.features(torch.ones(4, 3))
    assert [module.training for module in model.modules()] == [True, False, True, True]
    torch.testing.assert_close(features, torch.ones(1, 4, 3).half(), rtol=1e-3, atol=0)


def test_models_without_a_last_linear_layer_are_refused() -> None:
    """One that has none; one that goes on after it; one that applies it to more than two axes."""
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"ReLU has no nn\.Linear"):
        Watch(nn.ReLU(), labels)
    for model, x in (
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(4, 3)),
        (nn.Linear(3, 2), torch.ones(4, 1, 3)),
    ):
        with Watch(model, labels) as watch:
            with pytest.raises(ValueError, match=r"is not that of an nn\.Linear applied to \(n, width\)"):
                model(x)
            with pytest.raises(ValueError, match="there was no forward pass so far"):
                FeatureHistory({}).take(1, watch)
