"""What the last linear layers of a population saw: the right numbers at the right places, for as long as promised."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made import SCHEME, SHORT, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.training.cifar10 import normalise
from naaplib.training.feature_history import FeatureHistory, n_bytes
from naaplib.training.population import train_population
from naaplib.training.recipe import batch_orders
from naaplib.training.trainer import Trainer, arithmetic

IMAGES = make_images()
SCHEMES = {7: SCHEME, 3: SCHEME[:1], 5: SCHEME[:2], 9: SCHEME[:1]}  # last widths 6, 4, 6, 4
HELD = {"test": (IMAGES.test_images, IMAGES.test_labels), "few": (IMAGES.test_images[:7], IMAGES.test_labels[:7])}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


pytestmark = pytest.mark.usefixtures("one_thread")


def made_trainer(device: str = "cpu", keep_features: bool = True, stack: bool | None = None) -> Trainer:
    networks = [build_seeded(scheme, 11) for scheme in SCHEMES.values()]
    return Trainer(networks, [IMAGES], recipe=SHORT, device=device, keep_features=keep_features, stack=stack)


@pytest.mark.parametrize("stack", [True, False])
@pytest.mark.parametrize("device", DEVICES)
def test_population_features_are_those_of_each_network_alone(device: str, stack: bool) -> None:
    """Slow twin: every network taken out and run by itself; narrower ones are padded with zeros, weights too."""
    trainer = made_trainer(device, stack=stack)
    history = FeatureHistory(HELD, features="frozen")
    with arithmetic("fp32"):
        trainer.train_epoch(next(batch_orders(11, 1, n_images=40)), 0.01)
        history.take(1, trainer)
    taken = history[1]
    assert (*taken.train.shape,) == (4, 40, 6)
    assert {name: (*x.shape,) for name, x in taken.held.items()} == {"test": (4, 30, 6), "few": (4, 7, 6)}
    for i, scheme in enumerate(SCHEMES.values()):
        alone, width = trainer.network.extract(i).eval(), scheme[-1].width
        for images, actual in ((IMAGES.train_images, taken.train), *((HELD[k][0], taken.held[k]) for k in HELD)):
            with torch.no_grad(), arithmetic("fp32"):
                expected = alone.blocks(normalise(images.to(device))).mean(dim=(2, 3))
            torch.testing.assert_close(actual[i, :, :width].float(), expected, rtol=2e-3, atol=1e-4)
            assert not actual[i, :, width:].any()
        assert (alone.linear.weight == taken.weights[i, :, :width]).all()
        assert (alone.linear.bias == taken.biases[i]).all()
        assert not taken.weights[i, :, width:].any()


def test_forward_features_are_what_training_saw() -> None:
    """With one batch an epoch they are those of the weights before the step, in training mode."""
    one_batch = replace(SHORT, batch_size=40)
    networks = [build_seeded(scheme, 11) for scheme in SCHEMES.values()]
    trainer = Trainer(networks, [IMAGES], recipe=one_batch, keep_features=True, stack=False)
    order = next(batch_orders(11, 1, n_images=40))
    history = FeatureHistory({})
    trainer.train_epoch(order, 0.1)
    history.take(1, trainer)
    for i, scheme in enumerate(SCHEMES.values()):
        alone = build_seeded(scheme, 11).train()
        expected = alone.blocks(normalise(IMAGES.train_images[order])).mean(dim=(2, 3))
        actual = history[1].train[i, order, : scheme[-1].width].float()
        torch.testing.assert_close(actual, expected.detach(), rtol=2e-3, atol=1e-4)


def test_images_that_were_evaluated_are_not_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their features are those of a pass of their own, bit for bit; after the next epoch they are new ones."""
    own, reused = made_trainer(), made_trainer()
    for epoch, order in enumerate(batch_orders(11, 2, n_images=40), start=1):
        histories = FeatureHistory(HELD), FeatureHistory(HELD)
        with arithmetic("fp32"):
            own.train_epoch(order, 0.01)
            histories[0].take(epoch, own)
            reused.train_epoch(order, 0.01)
            for images, labels in HELD.values():
                reused.evaluate(images.view_as(images), labels)
            with monkeypatch.context() as patch:
                patch.setattr(reused.network, "features", lambda images: pytest.fail("a second pass"))
                histories[1].take(epoch, reused)
        for name in HELD:
            assert torch.equal(histories[0][epoch].held[name], histories[1][epoch].held[name])


def test_taking_features_does_not_change_training() -> None:
    """The records of a population are the same bit for bit with and without a history."""
    history = FeatureHistory(HELD, size=2)
    arguments = {"images": IMAGES, "recipe": SHORT, "n_epochs": 4, "n_holdout": 5, "progress": False}
    watched = train_population(SCHEMES, keep_features=True, after_epoch=history.take, **arguments)
    assert train_population(SCHEMES, **arguments).equals(watched)
    assert history.epochs == [3, 4]
    assert IMAGES.train_labels[:35].tolist() == history[4].train_labels.tolist()
    original = (history[4].held["test"][1].float() @ history[4].weights[1].T + history[4].biases[1]).argmax(dim=1)
    accuracy = (original == IMAGES.test_labels).double().mean().item()
    assert watched.accuracy[(watched.ModelId == 3) & (watched.epoch == 4)].item() == pytest.approx(accuracy, abs=0.04)


def test_old_epochs_fall_out() -> None:
    """And an epoch that is not there is an error that says which are."""
    trainer, history = made_trainer(), FeatureHistory(HELD, size=3)
    with pytest.raises(LookupError, match="epoch 1 is not in the history, which holds no epoch so far; its size is 3"):
        history[1]
    for epoch in (1, 2, 4, 5):
        history.take(epoch, trainer)
    assert history.epochs == [2, 4, 5]
    for epoch in (1, 3, 6):
        with pytest.raises(LookupError, match=f"epoch {epoch} is not in the history, which holds epochs 2, 4, 5"):
            history[epoch]
    with pytest.raises(ValueError, match="epoch 5 was to be recorded after epoch 5; epochs must ascend"):
        history.take(5, trainer)


def test_labels_are_kept_once() -> None:
    """All epochs share them; features of an epoch are not overwritten by the next."""
    trainer, history = made_trainer(), FeatureHistory(HELD)
    order = next(batch_orders(11, 1, n_images=40))
    trainer.train_epoch(order, 0.1)
    history.take(1, trainer)
    before = history[1].train.clone(), history[1].weights.clone()
    trainer.train_epoch(order, 0.1)
    history.take(2, trainer)
    assert history[1].held_labels is history[2].held_labels
    assert history[1].train_labels is history[2].train_labels
    assert torch.equal(before[0], history[1].train)
    assert torch.equal(before[1], history[1].weights)
    assert not torch.equal(history[1].train, history[2].train)


def test_memory_is_told_and_held_to() -> None:
    """Against the bytes of the tensors; a history beyond the limit is refused before it begins."""
    trainer = made_trainer()
    expected = n_bytes(n_networks=4, n_train=40, n_held=37, width=6, size=2)
    with pytest.raises(MemoryError, match=rf"2 epochs, 4 networks.* takes {expected:,} bytes; max_bytes is"):
        FeatureHistory(HELD, size=2, max_bytes=expected - 1).take(1, trainer)
    history = FeatureHistory(HELD, size=2, max_bytes=expected)
    for epoch in (1, 2, 3):
        history.take(epoch, trainer)
    records = [history[epoch] for epoch in history.epochs]
    tensors = [x for r in records for x in (r.train, *r.held.values(), r.weights, r.biases)]
    assert expected == sum(x.untyped_storage().nbytes() for x in tensors)


def test_wrong_arguments_are_refused() -> None:
    """With what came and what is allowed."""
    with pytest.raises(ValueError, match="size is 0; a history holds 1 epoch or more"):
        FeatureHistory({}, size=0)
    with pytest.raises(ValueError, match="features is 'thawed'; it must be one of forward, frozen"):
        FeatureHistory({}, features="thawed")
    with pytest.raises(ValueError, match=r"'test' has 30 images and labels of shape \(7,\); give one label an image"):
        FeatureHistory({"test": (IMAGES.test_images, IMAGES.test_labels[:7])})
    with pytest.raises(ValueError, match="'test' has no images, of which there is no accuracy; leave it out"):
        FeatureHistory({"test": (IMAGES.test_images[:0], IMAGES.test_labels[:0])})
    with pytest.raises(ValueError, match="the trainer keeps no features; train with keep_features=True"):
        FeatureHistory({}).take(1, made_trainer(keep_features=False))


@pytest.mark.parametrize("epoch", [0, -3, False])
def test_epochs_are_counted_from_one(epoch: int) -> None:
    """As windows count them: a loop over range(n) would lose its first epoch."""
    history = FeatureHistory(HELD)
    with pytest.raises(ValueError, match=rf"epoch is {int(epoch)}; epochs are counted from 1"):
        history.take(epoch, made_trainer())
    assert history.epochs == []


def test_epochs_are_whole_numbers_of_any_kind() -> None:
    """Of numpy and of torch, found again as Python's; fractions are refused."""
    trainer, history = made_trainer(), FeatureHistory({})
    history.take(np.int64(1), trainer)
    history.take(torch.tensor(2), trainer)
    assert [type(epoch) for epoch in history.epochs] == [int, int]
    assert history[2].epoch == 2
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        history.take(3.0, trainer)


def test_records_have_their_types_whatever_the_default() -> None:
    """With float64 as torch's default type."""
    history = FeatureHistory(HELD)
    trainer = made_trainer()
    torch.set_default_dtype(torch.float64)
    try:
        history.take(1, trainer)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {history[1].weights.dtype, history[1].biases.dtype} == {torch.float32}
    assert {history[1].train.dtype, history[1].held["test"].dtype} == {torch.float16}


def test_modes_of_a_population_are_put_back() -> None:
    """After a record, and after one that failed."""
    trainer = made_trainer()
    trainer.network.train()
    FeatureHistory(HELD).take(1, trainer)
    assert all(module.training for module in trainer.network.modules())
    with pytest.raises(RuntimeError, match="channels"):
        FeatureHistory({"grey": (IMAGES.test_images[:, :1], IMAGES.test_labels)}).take(1, trainer)
    assert all(module.training for module in trainer.network.modules())
