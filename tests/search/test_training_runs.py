import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from naaplib.architectures.cells import SIZE_CELL, to_string
from naaplib.search.objectives import cell, plain, scaled_resnet18
from naaplib.search.strategies import hyperband
from naaplib.search.training_objective import Setting
from naaplib.search.training_runs import cell_curves, curves, foretold, searches, sentence
from naaplib.training.cifar10 import Images
from naaplib.training.devices import resolve

SMALL = Setting(n_train=40, n_validation=20, max_budget=3, batch_size=16, width=0.125, window=2)
SETTINGS = {"resnet18": SMALL, "vgg16": SMALL}


def made() -> Images:
    """Small images of two classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(70) % 2
    pixels = torch.randint(200, (70, 3, 32, 32), generator=generator) + 30 * labels[:, None, None, None]
    return Images(pixels.to(torch.uint8), labels, pixels[:10].to(torch.uint8), labels[:10])


def stored(folder: Path) -> str:
    path = folder / "images.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in vars(made()).items()})
    return str(path)


def test_networks_are_trained_and_followed(tmp_path: Path) -> None:
    """As their objective follows them; a second call resumes from its files."""
    images = stored(tmp_path)
    table = curves(images, SETTINGS, folder=tmp_path / "one")
    assert table["network"].tolist() == ["resnet18"] * 3 + ["vgg16"] * 3
    for name in SETTINGS:
        objective = plain(made(), tmp_path / "other" / name, network=name, setting=SMALL)
        objective.evaluate((0,), 3)
        own = table[table["network"] == name].drop(columns="network").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, objective.curves((0,)).round(5))
    pd.testing.assert_frame_equal(curves(images, SETTINGS, folder=tmp_path / "one"), table)


def test_cells_are_trained_and_followed(tmp_path: Path) -> None:
    """As their objective follows them, by the operations that their texts name; a second call resumes."""
    images, texts = stored(tmp_path), [to_string(SIZE_CELL), to_string(("none",) * 5 + ("nor_conv_1x1",))]
    table = cell_curves(images, texts, setting=SMALL, n_cells=1, folder=tmp_path / "one")
    assert table["architecture"].tolist() == [texts[0]] * 3 + [texts[1]] * 3
    objective = cell(made(), tmp_path / "other", n_cells=1, setting=SMALL)
    for text, numbers in zip(texts, ((3, 3, 3, 1, 3, 3), (0, 0, 0, 0, 0, 2)), strict=True):
        objective.evaluate(numbers, 3)
        own = table[table["architecture"] == text].drop(columns="architecture").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, objective.curves(numbers).round(5))
    pd.testing.assert_frame_equal(cell_curves(images, texts, setting=SMALL, n_cells=1, folder=tmp_path / "one"), table)


def test_searches_are_hyperbands_of_objectives(tmp_path: Path) -> None:
    """The trace is the strategy's own; those trained longest have a test accuracy; a second call trains nothing."""
    images = stored(tmp_path)
    settings = {"RandAugment": SMALL, "scaled ResNet-18": SMALL}
    table = searches(images, settings, eta=3, seed=0, folder=tmp_path / "one")
    objective = scaled_resnet18(made(), tmp_path / "other", setting=SMALL)
    direct = hyperband(objective, 11, max_budget=3, eta=3, seed=0)
    own = table[table["objective"] == "scaled ResNet-18"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own[direct.columns], direct.round(5))
    for row in own.itertuples():
        known = objective.test_accuracy(json.loads(row.configuration)) if row.budget == 3 else np.nan
        assert np.isclose(row.test_accuracy, known, equal_nan=True, atol=1e-5)
    assert (table["budget"] == 3).sum() >= 2
    assert table.groupby("objective")["spent"].max().tolist() == [11, 11]  # 3 x 1 + 1 x 2, and 2 x 3
    started = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pt")}
    again = searches(images, settings, eta=3, seed=0, folder=tmp_path / "one")
    pd.testing.assert_frame_equal(again, table)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pt")} == started
    with pytest.raises(ValueError, match="no objective is called 'mixup'; there are RandAugment, scaled ResNet-18"):
        searches(images, {"mixup": SMALL}, eta=3, seed=0, folder=tmp_path / "one")


def test_the_device_arrives(tmp_path: Path) -> None:
    """A made-up one is refused; one on which nothing can be computed is met where networks are trained."""
    with pytest.raises(ValueError, match="torch knows no device 'nowhere'"):
        replace(SMALL, device="nowhere")
    there = replace(SMALL, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        curves(stored(tmp_path), {"resnet18": there}, folder=tmp_path / "one")
    with pytest.raises(RuntimeError, match="meta"):
        searches(stored(tmp_path), {"scaled ResNet-18": there}, eta=3, seed=0, folder=tmp_path / "two")


def test_kept_trainings_are_found_whatever_the_device_is_called(tmp_path: Path) -> None:
    """A setting holds what "auto" stands for, so that a table of the same device is taken up."""
    assert replace(SMALL, device="auto") == replace(SMALL, device=str(resolve("auto")))
    assert asdict(Setting())["device"] == "cpu"


def test_early_is_when_it_stays_near_the_end() -> None:
    """By hand: within 0.01 of 0.8, or above, from some epoch on; a dip begins anew."""
    curves = pd.DataFrame({
        "network": "a", "epoch": [1, 2, 3, 4], "original": [0.5, 0.79, 0.7, 0.8],
        "optimised": [0.6, 0.7, 0.795, 0.9], "ensemble": [0.9, 0.8, 0.79, 0.8],
    })  # fmt: skip
    found = foretold(curves, 0.01)
    assert found.to_numpy().tolist() == [["a", 4, 0.8, 4, 3, 1]]
    assert np.isclose(found["final"][0], 0.8)


def test_a_classifier_that_ends_below_is_never_there() -> None:
    """Its cell is empty, and so small a number is not taken for an early one."""
    curves = pd.DataFrame({
        "network": "a", "epoch": [1, 2], "original": [0.5, 0.8], "optimised": [0.8, 0.79], "ensemble": [0.8, 0.78]
    })  # fmt: skip
    found = foretold(curves, 0.01)
    assert found[["original", "optimised"]].to_numpy().tolist() == [[2, 1]]
    assert found["ensemble"].isna().all()
    assert sentence(found).endswith(
        "is not reproduced: in trainings of its kind, 2 epochs long, the ensemble stays within one percentage point of "
        "the end in no epoch for a, whose own accuracy does from 2 on."
    )


@pytest.mark.parametrize(("ensemble", "verdict"), [([13, 10], "is reproduced"), ([13, 25], "is not reproduced")])
def test_the_sentence_says_whether_the_claim_is_reproduced(ensemble: list[int], verdict: str) -> None:
    """Only where the ensemble is there after half the epochs, in every training."""
    early_on = pd.DataFrame({"network": ["a", "b"], "n_epochs": 30, "original": [27, 26], "ensemble": ensemble})
    assert sentence(early_on) == (
        f"The study's claim that an ensemble is as good as the trained network long before the end {verdict}: in "
        "trainings of its kind, 30 epochs long, the ensemble stays within one percentage point of the end from "
        f"epoch {ensemble[0]} on for a, whose own accuracy does from 27 on, and from epoch {ensemble[1]} on for b, "
        "whose own accuracy does from 26 on."
    )
