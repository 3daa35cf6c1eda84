from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from naaplib.architectures.cells import from_string
from naaplib.sources import ROOT
from naaplib.studies.feature_histories import trainings

CLASSIC = {"n_train": 64, "n_validation": 32, "max_budget": 3, "width": 0.125}
CELLS = "tests/data/nasbench201-made.csv"


def planned(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "images_file": "tests/data/images-made.npz", "k": 2, "classics": ["vgg16"], "classic": CLASSIC,
        "main_claim": {"images": "CIFAR-100", "network": "resnet18", "max_budget": 4}, "budgets": [1, 2], "n_cells": 3,
        "cell": CLASSIC | {"depth": 1}, "cells_file": CELLS, "device": "cpu", "n_jobs": 1,
    }  # fmt: skip
    return {piece.name: piece for piece in trainings.pieces(**(given | changes))}


def test_each_training_is_a_record_of_its_own() -> None:
    """The main example takes its size from the others where it has none; a shorter one differs by its epochs alone."""
    found = planned()
    assert list(found) == ["classics", "main claim", "budgets/1 epochs", "budgets/2 epochs", "cells"]
    whole = found["main claim"].settings
    assert whole["images"] == "CIFAR-100"
    assert (whole["resnet18"]["max_budget"], whole["resnet18"]["n_train"], whole["resnet18"]["rate"]) == (4, 64, 0.1)
    for n in (1, 2):
        assert found[f"budgets/{n} epochs"].settings["resnet18"] == whole["resnet18"] | {"max_budget": n}
    assert found["classics"].settings["vgg16"]["rate"] == 0.01
    assert list(planned(main_claim={}, n_cells=0)) == ["classics"]


def test_a_recorded_main_example_keeps_its_settings() -> None:
    """Size given whole or in part is the same record."""
    whole = planned(main_claim={"images": "CIFAR-100", "network": "resnet18", **CLASSIC, "max_budget": 4})
    assert whole["main claim"].settings == planned()["main claim"].settings


def test_cells_are_drawn_from_the_benchmark() -> None:
    """Different ones, in its order; the same for the same seed; as many as there are at most."""
    accuracies = trainings.cell_accuracies(CELLS)
    table = pd.read_csv(ROOT / CELLS).query("dataset == 'CIFAR-10' and epochs == 200 and runs == 'mean'")
    assert accuracies.to_dict() == table.set_index("architecture")["accuracy"].to_dict()
    drawn = trainings.draw(accuracies, 5, seed=0)
    assert drawn == [name for name in accuracies.index if name in drawn]
    assert len(set(drawn)) == 5
    assert trainings.draw(accuracies, 5, seed=0) == drawn
    assert trainings.draw(accuracies, 5, seed=1) != drawn
    assert trainings.draw(accuracies, 10**6, seed=0) == list(accuracies.index)


def test_the_record_of_cells_follows_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells that its settings name, each through all of its epochs, with three classifiers."""
    monkeypatch.setattr(trainings, "scratch", lambda: tmp_path)
    piece = planned(n_cells=2, cell=CLASSIC | {"max_budget": 2, "depth": 1})["cells"]
    table = piece.make()
    assert list(table) == ["architecture", "epoch", "original", "optimised", "ensemble"]
    assert table["architecture"].tolist() == [name for name in piece.settings["cells"] for _ in range(2)]
    assert all(len(from_string(name)) == 6 for name in table["architecture"])
    assert table[["original", "optimised", "ensemble"]].apply(lambda column: column.between(0, 1)).all(axis=None)
