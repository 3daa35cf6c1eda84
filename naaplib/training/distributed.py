"""Train jobs (a seed and a set of schemes each) on this machine or a cluster."""

from __future__ import annotations

import hashlib
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Scheme, identifier
from naaplib.parallel import bar_disabled, one_thread
from naaplib.training import checkpoints, cifar10, compiled, gpus
from naaplib.training.devices import resolve
from naaplib.training.population import choose_trainer, hold_out, make_trainer, train_population
from naaplib.training.recipe import PUBLISHED, Recipe, batch_orders
from naaplib.training.trainer import arithmetic

ENGINES = ("processes", "dask")
CPU_SIZE = 4  # networks per job on a CPU core; more exceed its cache


@dataclass(frozen=True)
class Work:
    """Schemes to train, and all settings except for the seed.

    Parameters
    ----------
    schemes : mapping from ModelId to Scheme
    n_epochs : int
    recipe : Recipe
    images_file : str
        Images as `naaplib.training.cifar10.read` names them: a dataset or an ``.npz`` file; "" is CIFAR-10. The worker
        reads them.
    device : str
        Device by torch's name; "auto" is the first GPU of each machine if there is one, else the CPU.
    precision, n_holdout, perturbation
        As in `train_population`.
    size : int
        Largest number of networks per job; 0 takes as many as a GPU's memory holds, in equal parts, and four on a CPU,
        by the calling machine's device. It affects results at rounding level: networks trained together share batched
        kernels.
    trainer : {"torch", "grouped", "compiled"}
        As in `naaplib.training.population.choose_trainer`, for the calling machine; all jobs have the same trainer.
    """

    schemes: Mapping[int, Scheme]
    n_epochs: int
    recipe: Recipe = PUBLISHED
    images_file: str = ""
    device: str = "auto"
    precision: str = "fp32"
    n_holdout: int = 0
    perturbation: float = 0.0
    size: int = 0
    trainer: str = "torch"


def train_units(
    work: Work,
    seeds: Sequence[int],
    *,
    folder: str | Path,
    n_jobs: int = 1,
    engine: str = "processes",
    address: str = "",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train every scheme with every seed, in parallel jobs.

    A run that was stopped or killed resumes when it is called again. The result does not depend on `n_jobs` or
    `engine`: on a CPU, a job has one thread. With "dask", a job whose worker dies resumes from its last epoch on
    another worker.

    Parameters
    ----------
    work : Work
    seeds : sequence of int
    folder : path
        Folder of the jobs' checkpoints; workers on other machines must see it under the same path.
    n_jobs : int
        Number of parallel processes, one for a GPU; without effect on a running Dask cluster.
    engine : {"processes", "dask"}
        "dask" needs the extra ``cluster``.
    address : str
        Address of a running Dask scheduler, for "dask"; "" starts a cluster of `n_jobs` workers on this machine.

    Returns
    -------
    records : DataFrame, shape (n_seeds * n_networks * n_epochs, 6 or 7)
        seed and the columns of `train_population`; in the order of seeds, schemes, epochs.
    units : DataFrame
        One row per job: seed, first (ModelId), n_archs, n_epochs, seconds (of training and evaluation, including those
        before an interruption), device (its name, and the trainer's unless it is torch's), torch, compiled (processor,
        compiler and flags; "" for torch).

    Raises
    ------
    ValueError
        If an argument is out of range, or checkpoints in `folder` belong to another run.
    ImportError
        If "dask" is asked for without the extra ``cluster``.
    FileNotFoundError
        If a worker does not have the images.
    naaplib.training.checkpoints.FolderInUse
        If another run trains one of the jobs; workers of a cluster finish theirs after another one has failed.
    RuntimeError
        If a process of this machine was killed.
    FloatingPointError, OSError
        As in `train_population`. After any error, checkpoints of completed epochs remain.
    """
    units = divide(work, seeds)
    work = replace(work, trainer=choose_trainer(work.trainer, resolve(work.device), precision=work.precision))
    folder = Path(folder).absolute()
    if work.images_file not in ("", *cifar10.DATA_SETS):  # a worker may have another working directory
        work = replace(work, images_file=str(Path(work.images_file).absolute()))
    with _engine(engine, n_jobs, address), _progress(work, units, folder):
        # One job per task: joblib would otherwise batch many, once some cached ones return at once.
        parallel = Parallel(batch_size=1, pre_dispatch="all" if engine == "dask" else "n_jobs")
        try:
            done = parallel(delayed(_train)(work, *unit, folder) for unit in units)
        except BrokenExecutor as error:
            raise RuntimeError(
                f"a process in which networks were training was killed, perhaps because memory ran out. What was done "
                f"is kept in {folder}: start the run again to go on from there, with fewer than {n_jobs} jobs if it "
                f"happens again."
            ) from error
    parts = [part for unit in done for part in unit]
    records = pd.concat([records for records, _ in parts], ignore_index=True)
    return records, pd.DataFrame([facts for _, facts in parts])


def divide(work: Work, seeds: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """List seed and ModelIds of every job; neighbours in the mapping stay together.

    Raises
    ------
    ValueError
        If there are no schemes or no seeds, or a seed twice; or as in `resolve`.
    MemoryError
        If the GPU's memory does not hold one network in training.
    """
    if not work.schemes or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"there must be schemes, and different seeds, to train: {len(work.schemes)} schemes, {seeds}")
    names, size = list(work.schemes), work.size
    if not size and (device := resolve(work.device)).type == "cuda":
        schemes = tuple(work.schemes.values())
        size = gpus.size_on(device, schemes, recipe=work.recipe, precision=work.precision, trainer=work.trainer)
    size = size or CPU_SIZE
    return [(seed, tuple(names[i : i + size])) for seed in seeds for i in range(0, len(names), size)]


def estimate(work: Work, seeds: Sequence[int], *, folder: str | Path, n_jobs: int = 1, n_steps: int = 3) -> float:
    """Estimate the seconds of `train_units` on this machine from a few steps.

    Parameters
    ----------
    work, seeds, folder, n_jobs
        As in `train_units`; completed epochs in `folder` are subtracted.
    n_steps : int
        Number of timed training steps in each of `n_jobs` jobs.

    Returns
    -------
    float
        Estimate, 0 if everything is done.
    """
    units = divide(work, seeds)
    left = sum(len(names) * work.n_epochs for _, names in units) - _n_done(work, units, Path(folder))
    if not left:
        return 0.0
    chosen = [units[(2 * i + 1) * len(units) // (2 * n_jobs)] for i in range(min(n_jobs, len(units)))]
    with _engine("processes", n_jobs, ""):
        calls = [(names, lambda some, seed=seed: _time(work, seed, tuple(some), n_steps)) for seed, names in chosen]
        timed = Parallel()(delayed(gpus.in_halves)(*call) for call in calls)
    per_model_epoch = sum(map(sum, timed)) / sum(len(names) for _, names in chosen)
    return left * per_model_epoch / len(chosen)


@gpus.given_back()
def _time(work: Work, seed: int, names: tuple[int, ...], n_steps: int) -> float:
    """Measure the seconds of an epoch of one job from a few steps."""
    with one_thread(resolve(work.device)), arithmetic(work.precision):
        images = _images(work.images_file)
        parts = hold_out(images, work.n_holdout)
        n_batches = -(-len(parts[0].train_images) // work.recipe.batch_size)
        n_timed = min(n_steps * work.recipe.batch_size, len(parts[0].train_images))
        few = [part.first(n_timed, 1_000) for part in parts]
        networks = [build_seeded(work.schemes[name], seed, n_classes=images.n_classes) for name in names]
        settings: dict[str, Any] = {"recipe": work.recipe, "device": resolve(work.device), "precision": work.precision}
        trainer = make_trainer(work.trainer, networks, parts=few, **settings)
        order = next(batch_orders(seed, 1, n_images=n_timed))
        trainer.train_epoch(order, work.recipe.learning_rate(1))  # warm up
        start = time.perf_counter()
        trainer.train_epoch(order, work.recipe.learning_rate(1))
        training = (time.perf_counter() - start) / -(-n_timed // work.recipe.batch_size) * n_batches
        start = time.perf_counter()
        trainer.evaluate(few[0].test_images, few[0].test_labels)
        n_evaluated = len(images.test_images) + work.n_holdout
        return training + (time.perf_counter() - start) / len(few[0].test_images) * n_evaluated


def _train(work: Work, seed: int, names: tuple[int, ...], folder: Path) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """Train a job, or its halves if a GPU's memory is too small for it."""
    return gpus.in_halves(names, lambda some: _train_at_once(work, seed, tuple(some), folder))


def _train_at_once(work: Work, seed: int, names: tuple[int, ...], folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    device = resolve(work.device)
    own = folder / _name(work, seed, names)
    if work.trainer == "compiled":
        compiled.libraries([None])  # raises without a compiler, so that all jobs of a run have the same trainer
    try:
        with one_thread(device):
            records = train_population(
                {name: work.schemes[name] for name in names},
                _images(work.images_file),
                recipe=work.recipe,
                seed=seed,
                n_epochs=work.n_epochs,
                device=device,
                precision=work.precision,
                n_holdout=work.n_holdout,
                perturbation=work.perturbation,
                folder=own,
                progress=False,
                trainer=work.trainer,
            )
    except torch.OutOfMemoryError as error:
        if checkpoints.newest(own) is None:
            raise
        raise RuntimeError(f"{own} was begun with more free memory on the GPU: free that, and start again") from error
    records.insert(0, "seed", seed)
    path = checkpoints.newest(own)
    assert path is not None  # train_population guarantees it
    newest = torch.load(path, map_location="cpu", weights_only=True)
    seconds = sum(newest["state"]["seconds"][: work.n_epochs])
    facts = {"seed": seed, "first": names[0], "n_archs": len(names), "n_epochs": work.n_epochs, "seconds": seconds}
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    made = " and ".join(newest["state"].get("compiled", []))
    named += ", compiled" if made else ""
    return records, facts | {"device": named, "torch": newest["versions"]["torch"], "compiled": made}


def _name(work: Work, seed: int, names: tuple[int, ...]) -> str:
    """Name a job's folder by its schemes and seed."""
    text = "\n".join(f"{name} {identifier(work.schemes[name])}" for name in names)
    return f"seed-{seed}/{names[0]:04d}-{names[-1]:04d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _n_done(work: Work, units: Sequence[tuple[int, tuple[int, ...]]], folder: Path) -> int:
    """Count the completed epochs of all networks by the names of checkpoints."""
    newest = [(len(names), checkpoints.newest(folder / _name(work, seed, names))) for seed, names in units]
    return sum(n * min(checkpoints.epoch_of(path), work.n_epochs) for n, path in newest if path is not None)


@lru_cache(maxsize=1)
def _images(path: str) -> cifar10.Images:
    """Read images once per process."""
    if path not in ("", *cifar10.DATA_SETS) and not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no file {path} on {platform.node()}: images_file names an .npz file that every machine of the "
            f"run can read, or is a dataset: {', '.join(cifar10.DATA_SETS)}"
        )
    return cifar10.read(path)


@contextmanager
def _engine(engine: str, n_jobs: int, address: str) -> Iterator[None]:
    """Let joblib use processes of this machine or a Dask cluster inside the context."""
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; it must be one of {ENGINES}")
    if n_jobs < 1:
        raise ValueError(f"n_jobs must be 1 or more, not {n_jobs}")
    if address and engine != "dask":
        raise ValueError(f"address is {address!r}, but engine is {engine!r}: only 'dask' has a scheduler")
    if engine == "processes":
        with parallel_config(backend="loky", n_jobs=n_jobs):
            yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("engine 'dask' needs dask and distributed: pip install 'naaplib[cluster]'") from None
    from joblib._dask import DaskDistributedBackend

    class Cluster(DaskDistributedBackend):
        """joblib's Dask backend, which also uses a single worker instead of this process."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

    local = {} if address else {"n_workers": n_jobs, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(address or None, **local) as client, parallel_config(backend=Cluster(client=client), n_jobs=-1):
        yield


@contextmanager
def _progress(work: Work, units: Sequence[tuple[int, tuple[int, ...]]], folder: Path) -> Iterator[None]:
    """Show a progress bar from the checkpoints that appear."""
    total, initial = sum(len(names) * work.n_epochs for _, names in units), _n_done(work, units, folder)
    text = f"{len(work.schemes)} networks, {len({seed for seed, _ in units})} seed(s)"
    stop = threading.Event()
    with tqdm(total=total, desc=text, initial=initial, unit="epoch", disable=bar_disabled()) as bar:

        def watch() -> None:
            while not stop.wait(2.0):
                bar.update(_n_done(work, units, folder) - bar.n)

        watcher = threading.Thread(target=watch, daemon=True)
        if not bar.disable:
            watcher.start()
        try:
            yield
        finally:
            stop.set()
            if not bar.disable:
                watcher.join()
                bar.update(_n_done(work, units, folder) - bar.n)
