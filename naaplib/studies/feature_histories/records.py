"""Records of feature histories: written by epoch during training, read afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray

from naaplib import cache as kept
from naaplib.estimators.histories import ensemble, linear
from naaplib.parallel import one_thread
from naaplib.training import checkpoints, cifar10, runs
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, divide
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.population import hold_out, train_population
from naaplib.training.trainer import Trainer

HELD_OUT, TEST = "held out", "test"
INDEX = "recordings.csv"
TABLES = ("estimates", "flips", "breakdown")
SECONDS = ("training_seconds", "features_seconds", "retraining_seconds")
FACTS = ("torch", *SECONDS)
TEXTS = {"right": str}
N_DIGITS = 5
N_FLIPS = 200  # images in Figure 3.2

Bits = NDArray[np.bool_]
Windows = Mapping[
    str, tuple[int, int | None]
]  # by name of the ensemble: see `naaplib.estimators.histories.ensemble.window`


def obtain(
    work: Work,
    seed: int,
    windows: Windows,
    shown: Sequence[int],
    archive: Path | None,
    folder: str | Path,
    kind: str = "forward",
    schedule: linear.Schedule = linear.STUDY,
    n_jobs: int = 1,
) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
    """Return the estimates of a training: from the cache, or by recording it.

    Parameters
    ----------
    work, seed, folder, kind, schedule, n_jobs
        As for `record`.
    windows : mapping from name to (k, cycle)
    shown : sequence of int
        ModelIds to study image by image, with the first of the windows.
    archive : Path or None
        Cache: a folder with `INDEX` and the tables, as a notebook wrote them. None records.

    Returns
    -------
    tables : dict from `TABLES` to DataFrame
        As `estimates`, `flips` and `breakdown` return them, the last two for all of `shown`.
    facts : dict
        Settings of the record, torch's version, and the seconds of training and estimates, summed over jobs.
    """
    wanted = runs.describe("", work, seed) | {
        "features": kind, "schedule": json.dumps(asdict(schedule)), "windows": json.dumps(windows),
        "shown": json.dumps(list(shown)),
    }  # fmt: skip
    places = [kept.find(archive, INDEX, wanted | {"run": name}, str) for name in TABLES]
    if found := [place for place in places if place]:
        read = [pd.read_csv(path, dtype=TEXTS) for path, _ in found]
        return dict(zip(TABLES, read, strict=True)), wanted | {name: found[0][1][name] for name in FACTS}
    records = record(work, seed, folder, kind, schedule, n_jobs)
    told = {name: round(float(records[name].sum())) for name in SECONDS}
    rows: list[dict[str, object]] = []
    bits: dict[int, list[dict[str, Bits]]] = {model_id: [] for model_id in shown}
    for names, epoch, images, found_bits in correct(work, seed, folder, windows, kind):
        for i, model_id in enumerate(names):
            own = {name: values[i] for name, values in found_bits.items()}
            accuracies = {name: values.mean() for name, values in own.items()}
            rows.append({"ModelId": model_id, "epoch": epoch, "images": images} | accuracies)
            if model_id in bits and images == TEST:
                bits[model_id].append(own)
    estimates = pd.DataFrame(rows).sort_values(["ModelId", "epoch", "images"], ignore_index=True).round(N_DIGITS)
    tables = (estimates, flips(bits, N_FLIPS), breakdown(bits))
    return dict(zip(TABLES, tables, strict=True)), wanted | {"torch": str(torch.__version__)} | told


def record(
    work: Work,
    seed: int,
    folder: str | Path,
    kind: str = "forward",
    schedule: linear.Schedule = linear.STUDY,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Train networks, retrain their last layers each epoch, and record both outputs.

    Outputs are probabilities for images without training: test and validation images. Interrupted at any moment and
    called again, it resumes, with the same result.

    Parameters
    ----------
    work : Work
        Training with `n_holdout` validation images; 0 is allowed.
    seed : int
    folder : path
        Needs 2 * n_classes + 1 bytes for each network, epoch and image without training.
    kind : {"forward", "frozen"}
        Features of training images, as for `.feature_history.FeatureHistory`.
    schedule : Schedule
    n_jobs : int
        Number of processes; each trains one job at a time.

    Returns
    -------
    DataFrame, shape (n_networks * n_epochs, 6) or more
        ModelId and the columns of `train_population`, then seconds per network of a job: training_seconds (of the
        epoch, evaluation included), features_seconds (of a pass over all images without training, and of collecting
        features), retraining_seconds (of the classifiers, and of their outputs).
    """
    own = _folder(folder, seed, kind)
    names = [unit for _, unit in divide(work, [seed])]
    parallel = Parallel(n_jobs=n_jobs, batch_size=1, pre_dispatch="n_jobs")
    done = parallel(delayed(_record)(work, seed, unit, own / _name(unit), kind, schedule) for unit in names)
    return pd.concat(done, ignore_index=True)


def _folder(folder: str | Path, seed: int, kind: str) -> Path:
    return Path(folder).absolute() / f"seed-{seed}-{kind}"


def _name(unit: tuple[int, ...]) -> str:
    return f"{unit[0]:04d}-{unit[-1]:04d}"


def _record(
    work: Work, seed: int, names: tuple[int, ...], folder: Path, kind: str, schedule: linear.Schedule
) -> pd.DataFrame:
    device = resolve(work.device)
    with one_thread(device):
        images = cifar10.load_npz(work.images_file) if work.images_file else cifar10.load()
        parts = hold_out(images, work.n_holdout)
        named = zip((TEST, HELD_OUT), parts, strict=False)
        held = {name: (part.test_images, part.test_labels) for name, part in named}
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "labels.npz", {name: labels.numpy() for name, (_, labels) in held.items()})
        history = FeatureHistory(held, 1, kind)

        def keep(epoch: int, trainer: Trainer) -> None:
            start = time.perf_counter()
            history.take(epoch, trainer)
            taken = time.perf_counter()
            found = history[epoch]
            layers = found.weights, found.biases
            retrained = linear.retrain(found.train, found.train_labels, *layers, schedule)
            said = {}
            for name, features in found.held.items():
                original = linear.probabilities(features, *layers).argmax(dim=2)
                said[f"{name}, original"] = original.to(torch.uint8).cpu().numpy()
                optimised = linear.probabilities(features, *retrained)
                said[f"{name}, retrained"] = optimised.half().cpu().numpy()
            _write(folder / _file(epoch), said | {"seconds": np.array([taken - start, time.perf_counter() - taken])})

        schemes = {name: work.schemes[name] for name in names}
        settings = (work.recipe, seed, work.n_epochs, device, work.precision, work.n_holdout, work.perturbation)
        records = train_population(
            schemes, images, *settings, folder, keep, keep_features=kind == "forward", progress=False
        )
    path = checkpoints.newest(folder)
    assert path is not None  # train_population made sure of it
    seconds = torch.load(path, map_location="cpu", weights_only=True)["state"]["seconds"][: work.n_epochs]
    ours = np.array([np.load(folder / _file(epoch))["seconds"] for epoch in range(1, work.n_epochs + 1)])
    for name, values in zip(SECONDS, (seconds, *ours.T), strict=True):
        records[name] = np.tile(values, len(names)) / len(names)
    return records


def _file(epoch: int) -> str:
    return f"said-{epoch:04d}.npz"


def _write(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write a file atomically: it is complete or absent."""
    temporary = path.with_name(f"{path.stem}-part.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)


def correct(
    work: Work, seed: int, folder: str | Path, windows: Mapping[str, tuple[int, int | None]], kind: str = "forward"
) -> Iterator[tuple[tuple[int, ...], int, str, dict[str, Bits]]]:
    """Yield the images that each classifier got right, from what `record` wrote.

    Parameters
    ----------
    work, seed, folder, kind
        As for `record`.
    windows : mapping from name to (k, cycle)
        Ensembles, see `.ensemble.window`; a cycle of None takes epochs as they come.

    Yields
    ------
    names : tuple of int
        ModelIds of a job.
    epoch : int
        From 1, for each job.
    images : str
        `TEST` or `HELD_OUT`.
    found : dict
        "original", "optimised" and the names of the windows: bool (n_networks, n_images).
    """
    for _, names in divide(work, [seed]):
        own = _folder(folder, seed, kind) / _name(names)
        labels = dict(np.load(own / "labels.npz"))
        said: dict[int, dict[str, NDArray]] = {}
        for epoch in range(1, work.n_epochs + 1):
            said[epoch] = dict(np.load(own / _file(epoch)))
            chosen = {name: ensemble.window(epoch, *window) for name, window in windows.items()}
            for images, truth in labels.items():
                found = {"original": said[epoch][f"{images}, original"] == truth}
                for name, epochs in {"optimised": [epoch], **chosen}.items():
                    mean = np.mean([said[one][f"{images}, retrained"] for one in epochs], axis=0, dtype=np.float32)
                    found[name] = mean.argmax(axis=2) == truth
                yield names, epoch, images, found
            oldest = min((min(epochs) for epochs in chosen.values()), default=epoch)
            said = {one: kept for one, kept in said.items() if one >= oldest}


def flips(bits: Mapping[int, Sequence[Mapping[str, Bits]]], n_images: int) -> pd.DataFrame:
    """Return the images that change between right and wrong (Figure 3.2).

    Figures are those of the feature-history study (2021).

    Parameters
    ----------
    bits : mapping from ModelId to sequence of mappings from classifier to bool (n_images,)
        Test images that each classifier got right, by epoch.
    n_images : int
        Number of images, at equal distances from the first.

    Returns
    -------
    DataFrame
        ModelId, classifier, image (its index in the test images), right (a text of 0 and 1, one per epoch).
    """
    rows = []
    for model_id, epochs in bits.items():
        for name in epochs[0]:
            right = np.stack([found[name] for found in epochs], axis=1).astype(int)
            for image in range(0, len(right), max(len(right) // n_images, 1))[:n_images]:
                rows.append((model_id, name, image, "".join(map(str, right[image]))))
    return pd.DataFrame(rows, columns=["ModelId", "classifier", "image", "right"])


def breakdown(bits: Mapping[int, Sequence[Mapping[str, Bits]]]) -> pd.DataFrame:
    """Return agreement with the final network, image by image (Figure 3.3).

    Parameters
    ----------
    bits
        As for `flips`.

    Returns
    -------
    DataFrame
        ModelId, epoch, classifier, and shares of the images: true_positive (the classifier and the final network are
        both right), true_negative (both wrong), false_positive (the classifier alone is right), false_negative.
    """
    rows = []
    for model_id, epochs in bits.items():
        final = epochs[-1]["original"]
        for epoch, found in enumerate(epochs, start=1):
            for name, right in found.items():
                shares = (right & final, ~right & ~final, right & ~final, ~right & final)
                rows.append((model_id, epoch, name, *(share.mean() for share in shares)))
    kinds = ["true_positive", "true_negative", "false_positive", "false_negative"]
    return pd.DataFrame(rows, columns=["ModelId", "epoch", "classifier", *kinds])
