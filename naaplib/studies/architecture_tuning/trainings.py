"""Trainings of this chapter: a search of the MobileOne space, and a user's script."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from naaplib.architectures import tuning_spaces
from naaplib.search.image_classification import ImageClassification
from naaplib.search.search_space import SearchSpace
from naaplib.search.tuning import Search, Settings
from naaplib.training import cifar10

N_DIGITS = 6  # significant digits of metrics, decimals of accuracies
BLANK = {"value": "", "best": ""}  # text where a trace has no number


def search(
    images_file: str, settings: Mapping[str, Any], *, metrics: pd.DataFrame, folder: Path, device: str = "cpu"
) -> pd.DataFrame:
    """Search the MobileOne space by training its networks.

    An interrupted search is resumed.

    Parameters
    ----------
    images_file : str
        An ``.npz`` file for `.cifar10.load_npz`; "" is CIFAR-10.
    settings : mapping
        n_train, n_validation (the first and the next of the training images), n_epochs (of a full and a cheap
        evaluation), batch_size, rate, budget (in full evaluations), seed, and search: fields of `.tuning.Settings`.
    metrics : DataFrame
        Metrics for pretraining, as `measure` returns them.
    folder : Path
        Folder of the search's trace.
    device : str
        Device of the trainings, as for `.image_classification.ImageClassification`.

    Returns
    -------
    DataFrame
        As `.tuning.Search.trace` returns it, with encodings as JSON.
    """
    space = SearchSpace("MobileOne", tuning_spaces.mobileone_encodings(), seed=settings["seed"])
    space.preprocess(metrics=metrics)
    full, cheap = (evaluator(images_file, settings, n_epochs=n, device=device) for n in settings["n_epochs"])
    own = Settings(**settings["search"])
    tuned = Search(
        space, full, cost=full.n_epochs, evaluate_cheaply=cheap, cheap_cost=cheap.n_epochs, seed=settings["seed"],
        folder=folder, settings=own,
    )  # fmt: skip
    trace = tuned.run(settings["budget"])
    trace["encoding"] = trace["encoding"].map(json.dumps)
    return trace.round(N_DIGITS)


def evaluator(images_file: str, settings: Mapping[str, Any], *, n_epochs: int, device: str) -> ImageClassification:
    """Return the evaluator of `search`: it trains MobileOnes on part of the images.

    The networks are folded for validation.
    """
    images = cifar10.read(images_file)
    first, last = settings["n_train"], settings["n_train"] + settings["n_validation"]
    whole = TensorDataset(images.train_images, images.train_labels)
    train, held_out = (torch.utils.data.Subset(whole, range(*part)) for part in ((0, first), (first, last)))
    n_classes = int(images.train_labels.max()) + 1
    return ImageClassification(
        tuning_spaces.build_mobileone, train, validation=held_out, n_classes=n_classes, n_epochs=n_epochs,
        batch_size=settings["batch_size"], rate=settings["rate"], fold=True, seed=settings["seed"], device=device,
    )  # fmt: skip


def example(script: Path, images_file: str, *, settings: Mapping[str, int], folder: Path) -> pd.DataFrame:
    """Run a user's script on a folder of images, and return its trace.

    Parameters
    ----------
    script : Path
        Script that takes a folder, the images' side, epochs and budget, and writes ``tuned/trace.csv``.
    images_file : str
        As for `search`. The first training images of each class become PNG files for the script.
    settings : mapping
        n_images (of each class), side, n_epochs, budget.
    folder : Path
        Folder in which the script runs; an interrupted script resumes there.

    Returns
    -------
    DataFrame
        As `search` returns it.

    Raises
    ------
    subprocess.CalledProcessError
        If the script fails.
    """
    images = cifar10.read(images_file)
    for label in images.train_labels.unique().tolist():
        own = folder / "images" / f"class-{label}"
        own.mkdir(parents=True, exist_ok=True)
        rows = (images.train_labels == label).nonzero().flatten()[: settings["n_images"]]
        for number, row in enumerate(rows):
            to_pil_image(images.train_images[row]).save(own / f"{number:04}.png")
    numbers = [str(settings[name]) for name in ("side", "n_epochs", "budget")]
    subprocess.run([sys.executable, script.resolve(), "images", *numbers], cwd=folder, check=True)
    return pd.read_csv(folder / "tuned" / "trace.csv", keep_default_na=False, na_values=BLANK).round(N_DIGITS)
