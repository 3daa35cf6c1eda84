"""Cached measurements, searches and trainings of architecture tuning."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from naaplib import cache
from naaplib.architectures import tuning_spaces
from naaplib.estimators import cheap_metrics
from naaplib.search.image_classification import ImageClassification
from naaplib.search.search_space import Encoding, SearchSpace
from naaplib.search.tuning import Search, Settings
from naaplib.sources import sha256
from naaplib.studies.architecture_tuning.searches import VARIANTS, Ground, run
from naaplib.training import cifar10

Facts = dict[str, object]

SEARCH, EXAMPLE = "search that trains", "example"
N_DIGITS = 6  # significant digits of metrics, decimals of accuracies
BLANK = {"value": "", "best": ""}  # text where a trace has no number


def file_name(run: str) -> str:
    """Return the name, without extension, of a run's table."""
    return "kept-" + run.lower().replace(",", "").replace(" ", "-")


def measure(
    name: str,
    encodings: Sequence[Encoding],
    build: Callable[[Any], nn.Module],
    n_networks: int,
    shape: Sequence[int],
    archive: Path | None,
    index: str,
    seed: int = 0,
    n_jobs: int = 1,
) -> tuple[pd.DataFrame, Facts]:
    """Measure zero-cost metrics of networks drawn from a space, or load them.

    Metrics in `archive` are loaded if they belong to the same networks.

    Parameters
    ----------
    name : str
        Name of the space.
    encodings : sequence of tuple
    build : callable
        Maps an encoding to a network.
    n_networks : int
        Number of networks to draw; all, if there are fewer.
    shape : sequence of int
        Shape of the batch that each network takes.
    archive : Path or None
        Cache: a folder with `index` and the tables, as a notebook wrote them. None measures.
    index : str
        Name of the file that lists cached tables, see `naaplib.cache.find`.
    seed : int
    n_jobs : int
        Number of processes. Latencies suffer from more than one.

    Returns
    -------
    metrics : DataFrame
        As `.cheap_metrics.profile` returns them, indexed by position in `encodings`.
    facts : dict
        A row of the index without the table's SHA-256.
    """
    rows = np.random.default_rng(seed).permutation(len(encodings))[:n_networks]
    chosen = [encodings[row] for row in rows]
    settings = {"networks": _digest(chosen), "shape": list(shape)}
    wanted: Facts = {"run": f"metrics of {name}", "settings": json.dumps(settings), "images": ""}
    if found := cache.find(archive, index, wanted, file_name):
        path, row = found
        blank = dict.fromkeys(cheap_metrics.METRICS, "")
        table = pd.read_csv(path, index_col="position", keep_default_na=False, na_values=blank)
        return table, wanted | {"torch": row["torch"]}
    metrics = cheap_metrics.profile(chosen, build, torch.zeros(*shape), n_jobs=n_jobs)
    for column in cheap_metrics.METRICS:
        metrics[column] = [float(f"{value:.{N_DIGITS}g}") for value in metrics[column]]
    metrics.index = pd.Index(rows, name="position")
    return metrics, wanted | {"torch": str(torch.__version__)}


def tune(
    ground: Ground,
    variants: Sequence[str],
    others: Sequence[str],
    n_seeds: int,
    at: Sequence[float],
    n_train: int,
    archive: Path | None,
    index: str,
    folder: Path,
    n_jobs: int = 1,
) -> tuple[pd.DataFrame, Facts]:
    """Run searches of a benchmark by `.searches.run`, or load them.

    Parameters
    ----------
    variants : sequence of str
        Names from ``searches.VARIANTS``.
    ground, others, n_seeds, at, n_train, folder, n_jobs
        As for `.searches.run`.
    archive, index
        As for `measure`.

    Returns
    -------
    runs : DataFrame
        As `.searches.run` returns it.
    facts : dict
        A row of the index without the table's SHA-256.
    """
    chosen = {name: VARIANTS[name] for name in variants}
    settings = {"ground": ground.digest(), "others": list(others), "n_seeds": n_seeds, "at": list(at)}
    settings |= {"n_train": n_train, "variants": {name: asdict(variant) for name, variant in chosen.items()}}
    wanted: Facts = {"run": f"searches of {ground.name}", "settings": _digest(settings), "images": ""}
    if found := cache.find(archive, index, wanted, file_name):
        path, row = found
        return pd.read_csv(path), wanted | {"torch": row["torch"]}
    runs = run(ground, chosen, others, n_seeds, at, n_train, folder, n_jobs)
    return runs.round(N_DIGITS), wanted | {"torch": str(torch.__version__)}


def search(
    images_file: str,
    settings: Mapping[str, Any],
    metrics: pd.DataFrame,
    archive: Path | None,
    index: str,
    folder: Path,
    device: str = "cpu",
) -> tuple[pd.DataFrame, Facts]:
    """Search the MobileOne space by training its networks, or load the search.

    An interrupted search is resumed.

    Parameters
    ----------
    images_file : str
        An ``.npz`` file for `.cifar10.load_npz`; "" is CIFAR-10. Read only where something is trained.
    settings : mapping
        n_train, n_validation (the first and the next of the training images), n_epochs (of a full and a cheap
        evaluation), batch_size, rate, budget (in full evaluations), seed, and search: fields of `.tuning.Settings`.
    metrics : DataFrame
        Metrics for pretraining, as `measure` returns them.
    archive, index
        As for `measure`.
    folder : Path
        Folder of the search's trace.
    device : str
        Device of the trainings, as for `.image_classification.ImageClassification`. It is no part of the cache key.

    Returns
    -------
    trace : DataFrame
        As `.tuning.Search.trace` returns it, with encodings as JSON.
    facts : dict
        A row of the index without the table's SHA-256.
    """
    wanted: Facts = {"run": SEARCH, "settings": json.dumps({**settings, "metrics": _digest(metrics.index.tolist())})}
    wanted |= {"images": sha256(Path(images_file))[:16] if images_file else "CIFAR-10"}
    if found := cache.find(archive, index, wanted, file_name):
        path, row = found
        table = pd.read_csv(path, keep_default_na=False, na_values=BLANK)
        return table, wanted | {"torch": row["torch"]}
    space = SearchSpace("MobileOne", tuning_spaces.mobileone_encodings(), seed=settings["seed"])
    space.preprocess(metrics=metrics)
    full, cheap = (evaluator(images_file, settings, n, device) for n in settings["n_epochs"])
    own = Settings(**settings["search"])
    tuned = Search(space, full, full.n_epochs, cheap, cheap.n_epochs, settings["seed"], folder, own)
    trace = tuned.run(settings["budget"])
    trace["encoding"] = trace["encoding"].map(json.dumps)
    return trace, wanted | {"torch": str(torch.__version__)}


def evaluator(images_file: str, settings: Mapping[str, Any], n_epochs: int, device: str) -> ImageClassification:
    """Return the evaluator of `search`: it trains MobileOnes on part of the images.

    The networks are folded for validation.
    """
    images = cifar10.load_npz(images_file) if images_file else cifar10.load()
    first, last = settings["n_train"], settings["n_train"] + settings["n_validation"]
    whole = TensorDataset(images.train_images, images.train_labels)
    train, held_out = (torch.utils.data.Subset(whole, range(*part)) for part in ((0, first), (first, last)))
    n_classes = int(images.train_labels.max()) + 1
    return ImageClassification(
        tuning_spaces.build_mobileone, train, held_out, n_classes, n_epochs, settings["batch_size"], settings["rate"],
        fold=True, seed=settings["seed"], device=device,
    )  # fmt: skip


def example(
    script: Path, images_file: str, settings: Mapping[str, int], archive: Path | None, index: str, folder: Path
) -> tuple[pd.DataFrame, Facts]:
    """Run a user's script on a folder of images, or load its trace.

    Parameters
    ----------
    script : Path
        Script that takes a folder, the images' side, epochs and budget, and writes ``tuned/trace.csv``.
    images_file : str
        As for `search`. The first training images of each class become PNG files for the script.
    settings : mapping
        n_images (of each class), side, n_epochs, budget.
    archive, index
        As for `measure`.
    folder : Path
        Folder in which the script runs; an interrupted script resumes there.

    Returns
    -------
    trace : DataFrame
        As `search` returns it.
    facts : dict
        A row of the index without the table's SHA-256.

    Raises
    ------
    subprocess.CalledProcessError
        If the script fails.
    """
    wanted: Facts = {"run": EXAMPLE, "settings": json.dumps({**settings, "script": sha256(script)[:16]})}
    wanted |= {"images": sha256(Path(images_file))[:16] if images_file else "CIFAR-10"}
    if found := cache.find(archive, index, wanted, file_name):
        path, row = found
        return pd.read_csv(path, keep_default_na=False, na_values=BLANK), wanted | {"torch": row["torch"]}
    images = cifar10.load_npz(images_file) if images_file else cifar10.load()
    for label in images.train_labels.unique().tolist():
        own = folder / "images" / f"class-{label}"
        own.mkdir(parents=True, exist_ok=True)
        rows = (images.train_labels == label).nonzero().flatten()[: settings["n_images"]]
        for number, row in enumerate(rows):
            to_pil_image(images.train_images[row]).save(own / f"{number:04}.png")
    numbers = [str(settings[name]) for name in ("side", "n_epochs", "budget")]
    subprocess.run([sys.executable, script.resolve(), "images", *numbers], cwd=folder, check=True)
    trace = pd.read_csv(folder / "tuned" / "trace.csv", keep_default_na=False, na_values=BLANK)
    return trace, wanted | {"torch": str(torch.__version__)}


def _digest(thing: object) -> str:
    return hashlib.sha256(json.dumps(thing).encode()).hexdigest()[:16]
