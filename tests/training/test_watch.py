"""One network watched: what its last linear layer saw, of any model that ends in one."""

from typing import Any

import numpy as np
import pytest
import torch
from made import SCHEME, SHORT, make_images
from torch import Tensor, nn
from torchvision.models import resnet18

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.training.cifar10 import normalise
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.trainer import Trainer
from naaplib.training.watch import Watch

IMAGES = make_images()


pytestmark = pytest.mark.usefixtures("one_thread")


def watched_run(model: nn.Module, x: Tensor, history: FeatureHistory, n_epochs: int, labels: Tensor) -> None:
    """A training loop of one's own."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.train()
    with Watch(model, labels, images=x) as watch:
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
    trainer = Trainer([build_seeded(scheme, 11) for scheme in (SCHEME, SCHEME[:1], SCHEME[:2])], [IMAGES], recipe=SHORT)
    from_trainer, from_watch = (FeatureHistory({}, features="frozen") for _ in range(2))
    from_trainer.take(1, trainer)
    alone = trainer.network.extract(2)
    with Watch(alone, IMAGES.train_labels, images=normalise(IMAGES.train_images)) as watch:
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
        with pytest.raises(
            ValueError, match=r"3 rows were to be kept, but .* one of 2 images as forward pass in training mode"
        ):
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


X, Y = torch.arange(24.0).view(6, 4), torch.arange(6) % 2
ALL = torch.arange(6)


def small_model() -> nn.Sequential:
    """Two layers; the second one sees (6, 3)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("is_training", "ambient"),
    [
        *((mode, ambient) for mode in (True, False) for ambient in (torch.no_grad, torch.inference_mode)),
        (False, torch.enable_grad),
    ],
)
def test_other_passes_are_not_taken_for_training_passes(is_training: bool, ambient: type) -> None:
    """One between the training pass and keep, of as many images, changes nothing; alone it can not be kept."""
    model = small_model()
    expected = model[1](model[0](X)).detach().half()
    with Watch(model, Y) as watch:
        for with_training in (True, False):
            if with_training:
                model(X)
            model.train(is_training)
            with ambient():
                model(torch.zeros(6, 4))
            model.train()
            if with_training:
                watch.keep(ALL)
                assert torch.equal(watch.seen()[0], expected)
            else:
                with pytest.raises(ValueError, match="there was none as forward pass in training mode with gradients"):
                    watch.keep(ALL)


def test_recording_outside_the_context_is_refused() -> None:
    """Before it and after it, with words that say where to call."""
    model, history = small_model(), FeatureHistory({"held": (X, Y)})
    watch = Watch(model, Y)
    for _ in range(2):
        for call in (
            lambda: watch.keep(ALL),
            lambda: history.take(1, watch),
            lambda: FeatureHistory({}).take(1, watch),
        ):
            with pytest.raises(
                ValueError, match=r"is not watched here: call .* inside `with Watch\(\.\.\.\) as watch:`"
            ):
                call()
        with watch:
            model(X)
            watch.keep(ALL)


@pytest.mark.parametrize("evaluating", ["model", "0", "2"])
def test_error_leaves_modes_and_features_as_they_were(evaluating: str) -> None:
    """Held-out images of another width: each module's mode is put back, and take works once they are mended."""
    model, wrong = small_model(), FeatureHistory({"held": (torch.ones(6, 5), Y)})
    with Watch(model, Y) as watch:
        model(X)
        watch.keep(ALL)
        (model if evaluating == "model" else model[int(evaluating)]).eval()
        before = [module.training for module in model.modules()]
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            wrong.take(1, watch)
        assert [module.training for module in model.modules()] == before
        assert wrong.epochs == []
        mended = FeatureHistory({"held": (X, Y)})
        mended.take(1, watch)
    assert torch.equal(mended[1].train[0], model[1](model[0](X)).detach().half())


@pytest.mark.parametrize(
    "rows",
    [
        *(ALL.to(kind) for kind in (torch.int32, torch.uint8, torch.int16)),
        *(np.arange(6, dtype=kind) for kind in ("int64", "int32", "uint8", "uint16")),
        *(list(range(6)), tuple(range(6)), range(6), list(ALL), slice(None), slice(0, 6)),
    ],
    ids=lambda rows: f"{type(rows).__name__} {getattr(rows, 'dtype', '')}",
)
def test_rows_may_have_any_form_of_whole_numbers(rows: object) -> None:
    """Small unsigned integers are places, not a mask."""
    model = small_model()
    with Watch(model, Y) as watch:
        model(X)
        watch.keep(rows)
        assert torch.equal(watch.seen()[0], model[1](model[0](X)).detach().half())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.arange(6.0), r"rows must be whole numbers of shape \(n,\).* they are torch.float32"),
        (torch.ones(6, dtype=torch.bool), "rows must be whole numbers .* they are torch.bool"),
        (ALL[:, None], r"rows must be whole numbers .* of shape \(6, 1\)"),
        (["a"] * 6, "rows must be whole numbers .* they are <U1"),
        (iter(range(6)), "rows must be whole numbers .* they are object"),
        ([2**70] * 6, "rows must be whole numbers .* they are object"),
        (ALL + 1, "rows are from 1 to 6; there are 6 training images, so that rows must be from 0 to 5"),
        (ALL - 1, "rows are from -1 to 4; there are 6 training images"),
    ],
)
def test_wrong_rows_are_refused(rows: Any, message: str) -> None:
    """With what came and what is allowed; right ones can follow."""
    model = small_model()
    with Watch(model, Y) as watch:
        model(X)
        with pytest.raises(ValueError, match=message):
            watch.keep(rows)
        watch.keep(ALL)


@pytest.mark.parametrize("labels", [Y.tolist(), Y.numpy(), Y.int(), Y.numpy().astype("uint8")], ids=type)
def test_labels_may_have_any_form_of_whole_numbers(labels: object) -> None:
    """Of the training images and of others: the record has int64."""
    model, history = small_model(), FeatureHistory({"held": (X, labels)})
    with Watch(model, labels) as watch:
        model(X)
        watch.keep(ALL)
        history.take(1, watch)
    for found in (history[1].train_labels, history[1].held_labels["held"]):
        assert found.dtype == torch.int64
        assert torch.equal(found, Y)


def test_wrong_labels_are_refused() -> None:
    """One-hot, fractions, too few; classes that the model does not have, for training images and for others."""
    model = small_model()
    for wrong in (torch.eye(2)[Y], Y.double(), Y[:, None], Y.bool(), ["cat", "dog"] * 3):
        with pytest.raises(ValueError, match="the training labels must be whole numbers"):
            Watch(model, wrong)
        with pytest.raises(ValueError, match="the labels of 'held' must be whole numbers"):
            FeatureHistory({"held": (X, wrong)})
    with pytest.raises(ValueError, match="6 training images have 5 labels; give one label an image"):
        Watch(model, Y[:5], images=X)
    for train, held, message in (
        (Y + 1, Y, "the training labels are from 1 to 2; the model has 2 outputs, so that they must be from 0 to 1"),
        (Y, Y - 1, "the labels of 'held' are from -1 to 0; the model has 2 outputs"),
        (torch.where(Y == 1, -100, 0), Y, "the training labels are from -100 to 0"),
    ):
        with Watch(model, train) as watch:
            model(X)
            watch.keep(ALL)
            with pytest.raises(ValueError, match=message):
                FeatureHistory({"held": (X, held)}).take(1, watch)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
    ],
    ids=lambda wrap: f"{wrap.__module__}.{wrap.__name__}",
)
def test_weights_are_those_that_the_layer_works_with(wrap: object) -> None:
    """After a large step, of a layer that computes its weight; to record it does not change it."""
    model = small_model()
    model[2] = wrap(model[2])
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    history = FeatureHistory({"held": (X, Y)})
    with Watch(model, Y) as watch:
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(X), Y)
            watch.keep(ALL)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        before = {name: value.clone() for name, value in model[2].named_buffers()}
        history.take(1, watch)
    assert all(torch.equal(value, before[name]) for name, value in model[2].named_buffers() if name in before)
    with torch.no_grad():
        expected = model.eval()(X)
    actual = history[1].held["held"][0].float() @ history[1].weights[0].T + history[1].biases[0]
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)


class Cosine(nn.Linear):
    """Logits of directions, without lengths."""

    def forward(self, x: Tensor) -> Tensor:
        """Products of normalised weights."""
        return nn.functional.linear(x, nn.functional.normalize(self.weight))


def test_last_layer_that_is_no_product_of_its_weight_is_refused() -> None:
    """One that normalises what it multiplies, and one whose output a hook changes; what comes before it is free."""
    scaled = nn.Linear(3, 2)
    scaled.register_forward_hook(lambda _, __, output: 3 * output)
    before = nn.Linear(3, 2)
    before.register_forward_pre_hook(lambda _, given: (given[0].tanh(),))
    for last, is_right in ((Cosine(3, 2), False), (scaled, False), (before, True), (nn.Linear(3, 2).double(), True)):
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), last).to(last.weight.dtype)
        with Watch(model, Y) as watch:
            model(X.to(last.weight))
            watch.keep(ALL)
            if is_right:
                FeatureHistory({}).take(1, watch)
                continue
            with pytest.raises(ValueError, match="gives other outputs than its weight and bias do"):
                FeatureHistory({}).take(1, watch)
