"""Train predictors on many training sets with a cache, and select by validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from naaplib import metrics
from naaplib.architectures.dense_graphs import Graphs
from naaplib.cache import writing
from naaplib.estimators.predictors.estimator import NeuralPredictor, fit_many
from naaplib.parallel import bar_disabled, one_thread
from naaplib.training.devices import resolve

PER_PIECE = 5  # training sets per job; each job has one cache file


def predict_many(
    predictor: NeuralPredictor,
    graphs: Graphs,
    *,
    targets: ArrayLike,
    training: ArrayLike,
    seeds: Sequence[int],
    asked: ArrayLike | None = None,
    folder: Path | None = None,
    n_jobs: int = 1,
) -> NDArray[np.float64]:
    """Train a predictor on each of many training sets, and cache its predictions.

    Parameters
    ----------
    predictor, graphs, targets, training, seeds
        As in `fit_many`. Each job trains five sets on one thread, so that results depend neither on `n_jobs` nor on the
        number of cores.
    asked : array_like of int, shape (n_sets, n_asked), or None
        Positions of the architectures to predict for each set; None predicts all.
    folder : Path or None
        Folder of the cache. A file's name identifies all settings; a cached job is not computed again.
    n_jobs : int
        Number of processes.

    Returns
    -------
    ndarray, shape (n_sets, n_asked), or (n_sets, n_archs)
    """
    y, rows = np.asarray(targets, dtype=float), np.asarray(training)
    if len(rows) != len(seeds):
        raise ValueError(f"there are {len(rows)} training sets and {len(seeds)} seeds; there must be one a set")
    wanted = None if asked is None else np.asarray(asked)
    base = _mark(predictor, graphs)
    tasks = []
    for start in range(0, len(rows), PER_PIECE):
        part = slice(start, start + PER_PIECE)
        some = None if wanted is None else wanted[part]
        tasks.append(
            delayed(_piece)(
                predictor,
                graphs,
                targets=y,
                training=rows[part],
                seeds=list(seeds[part]),
                asked=some,
                base=base,
                folder=folder,
            )
        )
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    what = f"{len(rows)} {predictor.kind} on {rows.shape[1]}"
    return np.concatenate(list(tqdm(parallel(tasks), total=len(tasks), desc=what, disable=bar_disabled())))


def cross_validate(
    candidates: Mapping[str, tuple[Graphs, NeuralPredictor]],
    targets: ArrayLike,
    *,
    training: ArrayLike,
    seeds: Sequence[int],
    n_folds: int = 3,
    folder: Path | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Cross-validate candidates within each training set.

    Parameters
    ----------
    candidates : mapping from str to (Graphs, NeuralPredictor)
        Candidates may use different graphs of the architectures.
    targets, training, seeds, folder, n_jobs
        As in `predict_many`.
    n_folds : int
        Number of folds: blocks of equal length in the order of the training set. Remaining rows are always trained on.

    Returns
    -------
    DataFrame
        One row per training set and candidate: set (from 0), candidate, kendall_tau (tau-b on validation rows, mean
        over folds; 0 if all predictions are equal).
    """
    y, rows = np.asarray(targets, dtype=float), np.asarray(training)
    size = rows.shape[1] // n_folds
    if n_folds < 2 or size < 2:
        raise ValueError(f"{rows.shape[1]} training rows cannot be cut into {n_folds} folds of two rows or more")
    places = np.arange(rows.shape[1])
    folds = [places // size == fold for fold in range(n_folds)]
    inner = np.concatenate([rows[:, ~held] for held in folds])
    held_out = np.concatenate([rows[:, held] for held in folds])
    frames = []
    for name, (graphs, predictor) in candidates.items():
        found = predict_many(
            predictor,
            graphs,
            targets=y,
            training=inner,
            seeds=list(seeds) * n_folds,
            asked=held_out,
            folder=folder,
            n_jobs=n_jobs,
        )
        taus = [metrics.kendall_tau(y[places], values) for places, values in zip(held_out, found, strict=True)]
        mean = np.nan_to_num(taus).reshape(n_folds, len(rows)).mean(0)
        frames.append(pd.DataFrame({"set": np.arange(len(rows)), "candidate": name, "kendall_tau": mean}))
    return pd.concat(frames, ignore_index=True)


def choose(validated: pd.DataFrame) -> pd.Series:
    """Select the candidate with the highest tau of each set of `cross_validate`.

    The first of ties wins.
    """
    table = validated.pivot_table(index="set", columns="candidate", values="kendall_tau")
    return table[validated["candidate"].unique()].idxmax(axis=1).rename("candidate")


def _piece(
    predictor: NeuralPredictor,
    graphs: Graphs,
    targets: NDArray[np.float64],
    training: NDArray[np.int64],
    seeds: list[int],
    asked: NDArray[np.int64] | None,
    base: str,
    folder: Path | None,
) -> NDArray[np.float64]:
    """Predict for a few training sets, or read the job's cache file."""
    digest = hashlib.sha256(f"{base} {seeds} {training.tolist()}".encode())
    digest.update(targets[training].tobytes() + (b"" if asked is None else asked.tobytes()))
    mark = digest.hexdigest()[:24]
    path = folder / f"{mark}.npy" if folder else None
    if path and path.is_file():
        return np.load(path)
    with one_thread(resolve(predictor.device)):
        fitted = fit_many(predictor, graphs, targets=targets, training=training, seeds=seeds)
        questions = [graphs] * len(fitted) if asked is None else [graphs[places] for places in asked]
        found = np.stack([one.predict(those) for one, those in zip(fitted, questions, strict=True)])
    if path:
        with writing(path) as stream:
            np.save(stream, found)
    return found


def _mark(predictor: NeuralPredictor, graphs: Graphs) -> str:
    """Cache key: predictor without its seed, graphs, and a device other than the CPU."""
    numbers = {name: value for name, value in predictor.get_params().items() if name not in ("seed", "device")}
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for tensor in (graphs.features, graphs.adjacency, graphs.mask):
        digest.update(str(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    if (device := resolve(predictor.device).type) != "cpu":
        digest.update(device.encode())
    if (graphs.scales() != [[0], [1]]).any():
        digest.update(b"features brought to scale")  # before, features were not scaled
    return digest.hexdigest()
