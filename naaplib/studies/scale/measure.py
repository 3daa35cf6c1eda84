"""Measurements of the cost of training many networks: seconds and memory."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import NAAP440, Scheme, enumerate_schemes, feature_table
from naaplib.training import cifar10
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, divide, train_units
from naaplib.training.recipe import SEED, batch_orders
from naaplib.training.single import TEST_BATCH
from naaplib.training.trainer import Trainer, arithmetic

RUN = 4  # neighbours that `spread` keeps together
# 2,106 schemes with options between the published ones: their mean cost is that of the 440.
LARGER = replace(
    NAAP440,
    blocks=tuple(
        replace(options, widths=widths)
        for options, widths in zip(
            NAAP440.blocks, ((12, 14, 16), (16, 20, 24), (16, 20, 24, 28, 32), (32, 36, 40)), strict=True
        )
    ),
)
_meeting: Barrier  # in processes that measure: they wait for each other here


def spread(n: int) -> dict[int, Scheme]:
    """Select n schemes in runs of four neighbours, evenly over the 440.

    If the 440 do not suffice, they are selected from `LARGER`.

    Parameters
    ----------
    n : int

    Returns
    -------
    dict from position (from 1) to Scheme, of length n, ascending
    """
    spaces = [enumerate_schemes(NAAP440), enumerate_schemes(LARGER)]
    if not 1 <= n <= len(spaces[1]):
        raise ValueError(f"there are 1 to {len(spaces[1])} schemes to be had, not {n}")
    schemes = spaces[n > len(spaces[0])]
    n_runs, n_blocks = -(-n // RUN), len(schemes) // RUN
    starts = (2 * np.arange(n_runs) + 1) * n_blocks // (2 * n_runs) * RUN
    positions = range(n) if n > n_blocks * RUN else (starts[:, None] + np.arange(RUN)).ravel()[:n].tolist()
    return {position + 1: schemes[position] for position in positions}


def measure(
    works: Sequence[Work], n_processes: Sequence[int], *, n_rounds: int, n_steps: int, seed: int = SEED
) -> pd.DataFrame:
    """Time some steps of training and evaluation, in jobs like those of `train_units`.

    Each measurement has its own processes, so that peaks of memory do not mix. Rounds go through all sizes, so that
    other load on the machine affects all alike.

    Parameters
    ----------
    works : sequence of Work
        One for each size of a job, which must not be 0. Every process trains all its schemes, job after job.
    n_processes : sequence of int
        Numbers of parallel processes.
    n_rounds : int
    n_steps : int
        Steps to time of each job, after as many without timing; extrapolated to an epoch in proportion to images.
    seed : int

    Returns
    -------
    DataFrame, shape (len(works) * len(n_processes) * n_rounds, 10)
        - size: networks of a job; n_processes; round, from 1
        - n_networks: networks timed in each process; macs: their mean multiply-accumulates for one image
        - training, evaluation: seconds per epoch and network, mean over networks and processes; seconds: their sum
        - unit_seconds: seconds to set up one job
        - memory: largest peak of a process in bytes, its images included; on a GPU, what torch allocated there

        The last five are missing if a GPU's memory did not suffice.
    """
    settings = [(i, work, n) for i in range(1, n_rounds + 1) for work in works for n in n_processes]
    rows = []
    for i, work, n in tqdm(settings, "sizes of units", disable=None):
        timed = pd.DataFrame(_side_by_side(work, n, n_steps, seed))
        macs = feature_table(list(work.schemes.values()))["NumMACs"].mean()
        facts = {"size": work.size, "n_processes": n, "round": i, "n_networks": len(work.schemes), "macs": macs}
        means = timed[["training", "evaluation", "seconds", "unit_seconds"]].mean()
        rows.append(facts | means.to_dict() | {"memory": timed["memory"].max()})
    return pd.DataFrame(rows)


def _side_by_side(work: Work, n_processes: int, n_steps: int, seed: int) -> list[dict[str, float]]:
    # Processes are forked from a server that has imported this module and nothing more: they start fast and clean.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(n_processes, context, _set_meeting, (context.Barrier(n_processes),)) as pool:
        return list(pool.map(_time, [work] * n_processes, [seed] * n_processes, [n_steps] * n_processes))


def _set_meeting(barrier: Barrier) -> None:
    global _meeting
    _meeting = barrier


def _time(work: Work, seed: int, n_steps: int) -> dict[str, float]:
    """Measure in one process, once all processes are ready."""
    device = resolve(work.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    everything = cifar10.read(work.images_file)
    n_epoch, n_test = len(everything.train_images), len(everything.test_images)
    images = everything.to(device).first(n_steps * work.recipe.batch_size, TEST_BATCH)  # the rest stays in memory
    n_timed, rate = len(images.train_images), work.recipe.learning_rate(1)
    order = next(batch_orders(seed, 1, n_images=n_timed))
    reset_peak()
    _meeting.wait(timeout=600)
    units = divide(work, [seed])
    training = evaluation = starting = 0.0
    try:
        with arithmetic(work.precision):
            for _, names in units:
                start = time.perf_counter()
                everything.digest()  # as `train_population` does at its start
                networks = [build_seeded(work.schemes[name], seed) for name in names]
                trainer = Trainer(networks, [images], recipe=work.recipe, device=device, precision=work.precision)
                trainer.train_epoch(order, rate)  # the first steps set up what later steps use
                warm = time.perf_counter()
                trainer.train_epoch(order, rate)
                trained = time.perf_counter()
                trainer.evaluate(images.test_images, images.test_labels)
                between = time.perf_counter()
                trainer.evaluate(images.test_images, images.test_labels)
                evaluation += (time.perf_counter() - between) / len(images.test_images) * n_test
                training += (trained - warm) / n_timed * n_epoch
                starting += max(0.0, (warm - start) - (trained - warm))
                del trainer
                gc.collect()  # free this job's memory before the next one
    except torch.OutOfMemoryError:
        return dict.fromkeys(("training", "evaluation", "seconds", "unit_seconds", "memory"), float("nan"))
    n = len(work.schemes)
    seconds = {"training": training / n, "evaluation": evaluation / n, "seconds": (training + evaluation) / n}
    return seconds | {"unit_seconds": starting / len(units), "memory": peak_memory(device)}


def reset_peak() -> None:
    """Restart the count of `peak_memory` of a CPU.

    It has no effect on systems without such a switch.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Return the peak memory of this process in bytes.

    On a CPU that is resident memory, libraries included; on a GPU, memory that torch allocated there.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage, it does not count the parent's memory
        (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return float(kib) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def capacity(device: torch.device) -> float:
    """Return the bytes of memory of a GPU, or of this machine for its CPU."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")


def processor() -> str:
    """Return the name of this machine's processor, as one core of it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    return f"one core of {names[0] if names else platform.processor() or platform.machine()}"


def worker_seconds(work: Work) -> float:
    """Return the seconds until a new process is ready to train.

    It has then imported the library, read the images and copied them to the device.
    """
    start = time.perf_counter()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(_start, work).result()
        return time.perf_counter() - start


def _start(work: Work) -> None:
    (cifar10.read(work.images_file)).to(resolve(work.device))


def run(work: Work, n_jobs: int, *, engine: str, seed: int = SEED) -> float:
    """Return the seconds of `train_units`, whose result is thrown away.

    Start of workers and checkpoints are included.
    """
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        train_units(work, [seed], folder=folder, n_jobs=n_jobs, engine=engine)
        return time.perf_counter() - start
