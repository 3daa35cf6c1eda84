"""Records of feature histories: written by epoch during training, read afterwards."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray

from naaplib.architectures.schemes import enumerate_schemes, to_json
from naaplib.cache import Piece, scratch, writing
from naaplib.estimators.histories import ensemble, linear
from naaplib.parallel import one_thread
from naaplib.studies.feature_histories import tables, trainings
from naaplib.tables import naap440
from naaplib.training import checkpoints, cifar10
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, divide
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.population import hold_out, train_population
from naaplib.training.trainer import Trainer

HELD_OUT, TEST = "held out", "test"
TABLES = ("estimates", "flips", "breakdown", "seconds")
SECONDS = ("training_seconds", "features_seconds", "retraining_seconds")
N_DIGITS = 5
N_FLIPS = 200  # images in Figure 3.2

Bits = NDArray[np.bool_]
Windows = Mapping[
    str, tuple[int, int | None]
]  # by name of the ensemble: see `naaplib.estimators.histories.ensemble.window`


def pieces(
    *,
    source: str,
    model_ids: Sequence[int],
    images_file: str,
    n_epochs: int,
    seed: int,
    n_holdout: int,
    k: int,
    other_windows: Mapping[str, Sequence[int | None]],
    features_of: str,
    shown: Sequence[int],
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of the recorded training, by the notebook's parameters."""
    work, chosen = plan(
        source, model_ids, images_file=images_file, n_epochs=n_epochs, n_holdout=n_holdout, device=device, shown=shown
    )
    windows = {name: (first, cycle) for name, (first, cycle) in named_windows(k, other_windows).items()}
    facts = _identity(work, seed) | {
        "features": features_of,
        "schedule": asdict(linear.STUDY),
        "windows": windows,
        "shown": chosen,
    }
    make = partial(_table, work, seed, windows=windows, shown=chosen, kind=features_of, n_jobs=n_jobs)
    files = partial(cifar10.files, images_file)
    return [Piece(name, facts, partial(make, name=name), files, shares="recording") for name in TABLES]


PARTS = pieces, trainings.pieces  # the chapter's records


def plan(
    source: str,
    model_ids: Sequence[int],
    *,
    images_file: str,
    n_epochs: int,
    n_holdout: int,
    device: str,
    shown: Sequence[int],
) -> tuple[Work, list[int]]:
    """Return the training that is recorded, and the networks looked at by image.

    Without `model_ids` it is the study's test architectures; without `shown` those of lowest, median and highest
    accuracy.
    """
    table, listed = naap440.read(naap440.find(source)), enumerate_schemes()
    ids = list(model_ids) or sorted(table.loc[table["IsTest"] == 1, "ModelId"])
    ranked = table.set_index("ModelId")["MaxAccuracy"].sort_index().loc[ids].sort_values(kind="stable").index
    chosen = [int(i) for i in shown] or [int(ranked[i]) for i in (0, len(ranked) // 2, -1)]
    schemes = {int(i): listed[i - 1] for i in ids}
    images = cifar10.locate(images_file)
    return Work(schemes, n_epochs, images_file=images, device=device, n_holdout=n_holdout), chosen


def named_windows(k: int, others: Mapping[str, Sequence[int | None]]) -> dict[str, Any]:
    """Return the windows of ensembles by name, that of `k` epochs first."""
    return {f"ensemble of {k} epochs": [k, None]} | {f"ensemble of {name}": window for name, window in others.items()}


def _identity(work: Work, seed: int) -> dict[str, object]:
    """Return the settings that identify a training run, independent of hardware."""
    numbers = {name: value for name, value in asdict(work.recipe).items() if name != "n_epochs"}
    return {
        "seed": seed,
        "n_archs": len(work.schemes),
        "n_epochs": work.n_epochs,
        "schemes": _digest(f"{list(work.schemes)}\n{to_json(list(work.schemes.values()))}".encode()),
        "recipe": json.dumps(numbers),
        "images": _images(work.images_file),
        "n_holdout": work.n_holdout,
        "precision": work.precision,
        "perturbation": f"{work.perturbation:g}",
    }


def _images(file: str) -> str:
    return file or "CIFAR-10" if file in ("", *cifar10.DATA_SETS) else _digest(Path(file).read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _table(
    work: Work, seed: int, *, windows: Windows, shown: Sequence[int], kind: str, n_jobs: int, name: str
) -> pd.DataFrame:
    return evaluate(work, seed, windows=windows, shown=shown, folder=scratch(), kind=kind, n_jobs=n_jobs)[name]


def evaluate(
    work: Work,
    seed: int,
    *,
    windows: Windows,
    shown: Sequence[int],
    folder: str | Path,
    kind: str = "forward",
    schedule: linear.Schedule = linear.STUDY,
    n_jobs: int = 1,
) -> dict[str, pd.DataFrame]:
    """Record a training and evaluate its classifiers after each epoch.

    Parameters
    ----------
    work, seed, folder, kind, schedule, n_jobs
        As for `record`.
    windows : mapping from name to (k, cycle)
    shown : sequence of int
        ModelIds to study image by image, with the first of the windows.

    Returns
    -------
    dict from `TABLES` to DataFrame
        As `estimates`, `flips` and `breakdown` return them, the last two for all of `shown`; and seconds of training
        and estimates, summed over jobs.
    """
    records = record(work, seed, folder=folder, kind=kind, schedule=schedule, n_jobs=n_jobs)
    seconds = pd.DataFrame({"part": SECONDS, "seconds": [round(float(records[name].sum())) for name in SECONDS]})
    rows: list[dict[str, object]] = []
    bits: dict[int, list[dict[str, Bits]]] = {model_id: [] for model_id in shown}
    for names, epoch, images, found_bits in correct(work, seed, folder=folder, windows=windows, kind=kind):
        for i, model_id in enumerate(names):
            own = {name: values[i] for name, values in found_bits.items()}
            accuracies = {name: values.mean() for name, values in own.items()}
            rows.append({"ModelId": model_id, "epoch": epoch, "images": images} | accuracies)
            if model_id in bits and images == TEST:
                bits[model_id].append(own)
    estimates = pd.DataFrame(rows).sort_values(["ModelId", "epoch", "images"], ignore_index=True).round(N_DIGITS)
    found = (estimates, tables.flips(bits, N_FLIPS), tables.breakdown(bits), seconds)
    return dict(zip(TABLES, found, strict=True))


def record(
    work: Work,
    seed: int,
    *,
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
    done = parallel(
        delayed(_record)(work, seed, names=unit, folder=own / _name(unit), kind=kind, schedule=schedule)
        for unit in names
    )
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
        images = cifar10.read(work.images_file)
        parts = hold_out(images, work.n_holdout)
        named = zip((TEST, HELD_OUT), parts, strict=False)
        held = {name: (part.test_images, part.test_labels) for name, part in named}
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "labels.npz", {name: labels.numpy() for name, (_, labels) in held.items()})
        history = FeatureHistory(held, 1, features=kind)

        def keep(epoch: int, trainer: Trainer) -> None:
            start = time.perf_counter()
            history.take(epoch, trainer)
            taken = time.perf_counter()
            found = history[epoch]
            layers = found.weights, found.biases
            retrained = linear.retrain(
                found.train, found.train_labels, weights=found.weights, biases=found.biases, schedule=schedule
            )
            said = {}
            for name, features in found.held.items():
                original = linear.probabilities(features, layers).argmax(dim=2)
                said[f"{name}, original"] = original.to(torch.uint8).cpu().numpy()
                optimised = linear.probabilities(features, retrained)
                said[f"{name}, retrained"] = optimised.half().cpu().numpy()
            _write(folder / _file(epoch), said | {"seconds": np.array([taken - start, time.perf_counter() - taken])})

        schemes = {name: work.schemes[name] for name in names}
        records = train_population(
            schemes, images, recipe=work.recipe, seed=seed, n_epochs=work.n_epochs, device=device,
            precision=work.precision, n_holdout=work.n_holdout, perturbation=work.perturbation, folder=folder,
            after_epoch=keep, keep_features=kind == "forward", progress=False,
        )  # fmt: skip
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
    with writing(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def correct(
    work: Work, seed: int, *, folder: str | Path, windows: Mapping[str, tuple[int, int | None]], kind: str = "forward"
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
            chosen = {name: ensemble.window(epoch, k, cycle=cycle) for name, (k, cycle) in windows.items()}
            for images, truth in labels.items():
                found = {"original": said[epoch][f"{images}, original"] == truth}
                for name, epochs in {"optimised": [epoch], **chosen}.items():
                    mean = np.mean([said[one][f"{images}, retrained"] for one in epochs], axis=0, dtype=np.float32)
                    found[name] = mean.argmax(axis=2) == truth
                yield names, epoch, images, found
            oldest = min((min(epochs) for epochs in chosen.values()), default=epoch)
            said = {one: outputs for one, outputs in said.items() if one >= oldest}
