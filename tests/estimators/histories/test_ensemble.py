"""Ensembles of retrained classifiers: against a slow twin, and the laws that they must obey."""

import pandas as pd
import pytest
import torch
from made import SCHEME, SHORT, make_images
from torch import Tensor

from naaplib.estimators.histories.ensemble import Ensemble, Schedule, correct, estimate, window
from naaplib.estimators.histories.linear import retrain
from naaplib.training.feature_history import EpochFeatures, FeatureHistory
from naaplib.training.population import train_population

DOUBLE = torch.float64


pytestmark = pytest.mark.usefixtures("one_thread")


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
    return EpochFeatures(
        epoch, train, train_labels=train_labels, held=features, held_labels=labels, weights=weights, biases=biases
    )


def test_ties_go_to_the_first_class() -> None:
    """By hand: two images of equal probabilities."""
    equal = torch.tensor([[[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]]])
    assert correct(equal, torch.tensor([0, 2])).tolist() == [[True, False]]


def test_windows_by_hand() -> None:
    """The last k, fewer at the beginning; aligned ones end cycles."""
    assert [window(epoch, 3) for epoch in (1, 2, 3, 4)] == [[1], [1, 2], [1, 2, 3], [2, 3, 4]]
    assert [window(e, 2, cycle=3) for e in (1, 2, 3, 4, 5, 6, 10)] == [[1], [2], [3], [3], [3], [3, 6], [6, 9]]
    assert window(9, 4) == window(9, 4, cycle=1)
    for epoch, k, cycle in ((0, 1, None), (1, 0, None), (1, 1, 0)):
        with pytest.raises(ValueError, match="all must be 1 or more"):
            window(epoch, k, cycle=cycle)


def test_ensemble_is_the_mean_of_softmaxes() -> None:
    """Slow twin: each epoch's and network's classifier retrained by itself, their outputs added up."""
    records = [made_record(epoch, seed=epoch) for epoch in (1, 2, 3)]
    schedule = Schedule(batch_size=25)
    ensemble = Ensemble(3, schedule, seed=5, dtype=DOUBLE)
    for record in records:
        ensemble.add(record)
    for i in range(3):
        outputs = []
        for record in records:
            alone = {name: getattr(record, name)[i : i + 1] for name in ("weights", "biases")}
            w, b = retrain(
                record.train[i : i + 1], record.train_labels, **alone, schedule=schedule, seed=5, dtype=DOUBLE
            )
            outputs.append((record.held["test"][i].double() @ w[0].T + b[0]).softmax(dim=1))
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
            pd.testing.assert_frame_equal(
                estimate(history, epochs, schedule=Schedule(batch_size=20), dtype=DOUBLE), streamed
            )
            n_compared += len(streamed)

    schemes = {1: SCHEME, 2: SCHEME[:1], 3: SCHEME[:2]}
    train_population(
        schemes, images, recipe=SHORT, n_holdout=10, keep_features=True, after_epoch=after_epoch, progress=False
    )
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
    with pytest.raises(ValueError, match="size is 0; an ensemble keeps 1 epoch or more"):
        Ensemble(0)
    ensemble = Ensemble(1, Schedule(batch_size=25))
    ensemble.add(made_record(1, 0), made_record(2, 1))
    with pytest.raises(ValueError, match=r"epochs would be kept as \[2, 2\]; add one or more, each once, in asc"):
        ensemble.add(made_record(2, 1))
    with pytest.raises(LookupError, match=r"epochs \[1\] are not kept, but \[2\]: take a larger size, which is 1"):
        ensemble.correct("test", [1, 2])
    with pytest.raises(ValueError, match="there are no images named 'val'; there are 'holdout', 'test'"):
        ensemble.correct("val", [2])
    with pytest.raises(ValueError, match="an ensemble needs one epoch or more"):
        ensemble.correct("test", [])
    with pytest.raises(ValueError, match=r"epochs would be kept as \[0\]; .* counted from 1"):
        Ensemble().add(made_record(0, 0))
    with pytest.raises(ValueError, match=r"epochs would be kept as \[\]; add one or more"):
        Ensemble().add()
    with pytest.raises(ValueError, match="no epoch was added so far"):
        Ensemble().accuracies({})
    with pytest.raises(ValueError, match="epochs are none; an ensemble needs one epoch or more"):
        estimate(FeatureHistory({}), [])
