"""Feature histories of a user's own loop: no change of the training, the library's estimates, honest intervals."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import naaplib
from naaplib.estimators.histories import Ensemble, window
from naaplib.estimators.histories.tracker import COLUMNS, HistoryTracker
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.watch import Watch

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.arange(400) % 4
X = torch.randn(400, 3, 6, 6, generator=GENERATOR) + torch.randn(4, 3, 6, 6, generator=GENERATOR)[Y] / 3
TRAIN, HELD = slice(0, 300), slice(300, 400)


def make_model() -> nn.Module:
    """A small network with BatchNorm and dropout, so that modes and random numbers matter."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(6 * 16, 4)
    )


def train(
    model: nn.Module, n_epochs: int, tracker: Any = None, criterion: nn.Module | None = None, validates: bool = False
) -> list[torch.Tensor]:
    """An ordinary loop; the order of each epoch is returned."""
    criterion = criterion or nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    orders = []
    for _ in range(n_epochs):
        orders.append(torch.randperm(300))
        for rows in orders[-1].split(64):
            loss = criterion(model(X[TRAIN][rows]), Y[TRAIN][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if validates:
            model.eval()
            with torch.no_grad():
                criterion(model(X[HELD]), Y[HELD])
            model.train()
        if tracker is not None:
            tracker(loss, epoch="whatever a callback is given")
    return orders


def test_the_training_does_not_change() -> None:
    """Weights and random numbers are those of a training without tracker, bit for bit, and no hook stays."""
    plain, tracked = make_model(), make_model()
    torch.manual_seed(2)
    train(plain, 3)
    after = torch.rand(3)
    torch.manual_seed(2)
    criterion = nn.CrossEntropyLoss()
    with HistoryTracker(tracked, (X[HELD], Y[HELD]), criterion=criterion) as tracker:
        train(tracked, 3, tracker, criterion, validates=True)
    assert torch.equal(torch.rand(3), after)
    pairs = zip(plain.state_dict().values(), tracked.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [module for module in [*tracked.modules(), criterion] if module._forward_hooks] == []


def test_estimates_are_those_of_a_feature_history() -> None:
    """Slow twin: a watch that is given the rows of each batch, and an ensemble, on images in the epoch's order."""
    twin, tracked = make_model(), make_model()
    torch.manual_seed(2)
    with HistoryTracker(tracked, (X[HELD], Y[HELD]), criterion=(criterion := nn.CrossEntropyLoss()), k=3) as tracker:
        orders = train(tracked, 5, tracker, criterion)
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    history, ensemble, expected = FeatureHistory({"held": (X[HELD], Y[HELD])}), Ensemble(3), []
    for epoch, order in enumerate(orders, start=1):
        torch.randperm(300)  # as the loop draws it
        with Watch(twin, Y[TRAIN][order]) as watch:
            for number, rows in enumerate(order.split(64)):
                loss = nn.functional.cross_entropy(twin(X[TRAIN][rows]), Y[TRAIN][rows])
                watch.keep(torch.arange(64 * number, 64 * number + len(rows)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            history.take(epoch, watch)
        ensemble.add(history[epoch])
        expected.append(ensemble.accuracies({"estimate": window(epoch, 3)}).iloc[0])
    table = tracker.table()
    assert table["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert table["accuracy"].tolist() == [row["original"] for row in expected]
    assert table["estimate"].tolist() == [row["estimate"] for row in expected]
    assert (table["estimate"] > 0.4).all()


def test_every_way_to_give_labels_and_images_is_the_same() -> None:
    """A criterion, keyword arguments of it, or `step`; tensors, a dataset or a loader; a call or end_epoch."""
    tables = []
    for held_out in (
        (X[HELD], Y[HELD].tolist()),
        TensorDataset(X[HELD], Y[HELD]),
        DataLoader(TensorDataset(X[HELD], Y[HELD]), batch_size=7),
    ):
        model, criterion = make_model(), nn.CrossEntropyLoss()
        torch.manual_seed(2)
        with HistoryTracker(model, held_out, criterion=criterion) as tracker:
            train(model, 2, tracker, criterion)
        tables.append(tracker.table())
    model = make_model()
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with HistoryTracker(model, (X[HELD], Y[HELD])) as tracker:
        for _ in range(2):
            for rows in torch.randperm(300).split(64):
                loss = nn.CrossEntropyLoss()(input=model(X[TRAIN][rows]), target=Y[TRAIN][rows])
                tracker.step(Y[TRAIN][rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            row = tracker.end_epoch()
    tables.append(tracker.table())
    for table in tables:
        assert list(table) == COLUMNS
        pd.testing.assert_frame_equal(table[COLUMNS[:5]], tables[0][COLUMNS[:5]])
        assert (table[["seconds", "megabytes"]] > 0).all(axis=None)
    assert row == tables[-1].iloc[-1].to_dict()


def test_an_interval_without_finished_trainings_is_wilsons() -> None:
    """For the number of validation images, as scipy has it."""
    model, criterion = make_model(), nn.CrossEntropyLoss()
    with HistoryTracker(model, (X[HELD], Y[HELD]), criterion=criterion, level=0.8) as tracker:
        train(model, 1, tracker, criterion)
    row = tracker.table().iloc[0]
    expected = binomtest(round(100 * row["estimate"]), 100).proportion_ci(0.8, method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_an_interval_from_finished_trainings_holds_its_share_of_them() -> None:
    """The 18th of 19 absolute errors at level 0.9; [0, 1] where there are too few, as after another epoch."""
    errors = np.linspace(0.01, 0.19, 19)
    finished = pd.DataFrame({"epoch": 1, "estimate": 0.5, "final": 0.5 + errors * np.resize([1, -1], 19)})
    model, criterion = make_model(), nn.CrossEntropyLoss()
    with HistoryTracker(model, (X[HELD], Y[HELD]), criterion=criterion, finished=finished) as tracker:
        train(model, 2, tracker, criterion)
    first, second = (row for _, row in tracker.table().iterrows())
    assert (first["high"] - first["estimate"]) == pytest.approx(min(0.18, 1 - first["estimate"]))
    assert (first["estimate"] - first["low"]) == pytest.approx(0.18)
    assert (second["low"], second["high"]) == (0, 1)


def test_what_cannot_be_tracked_is_refused() -> None:
    """No batch, soft labels, labels that are no classes, no validation images, columns that are missing."""
    model, held = make_model(), (X[HELD], Y[HELD])
    with HistoryTracker(model, held) as tracker:
        with pytest.raises(ValueError, match="no batch was recorded in this epoch: give criterion"):
            tracker.end_epoch()
        model(X[:8])
        with pytest.raises(ValueError, match="the labels of a batch must be whole numbers"):
            tracker.step(torch.rand(8, 4))
        tracker.step(torch.full((8,), 9))
        with pytest.raises(ValueError, match="the labels of the batches are from 9 to 9; the model has 4 outputs"):
            tracker.end_epoch()
    with pytest.raises(ValueError, match="level is 2"):
        HistoryTracker(model, held, level=2)
    with pytest.raises(ValueError, match="finished has no column final"):
        HistoryTracker(model, held, finished=pd.DataFrame({"epoch": [1], "estimate": [0.5]}))
    with pytest.raises(ValueError, match="100 validation images have 3 labels"):
        HistoryTracker(model, (X[HELD], Y[:3]))
    with pytest.raises(ValueError, match="there are no validation images"):
        HistoryTracker(model, [])


def test_the_front_door_has_it() -> None:
    """Under its own name."""
    assert naaplib.HistoryTracker is HistoryTracker
