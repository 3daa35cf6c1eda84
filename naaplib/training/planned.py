"""Work through a plan of trainings in processes of the lowest priority."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from naaplib.training import compiled, gpus, job_records
from naaplib.training.devices import describe_device
from naaplib.training.distributed import Work, _train_at_once
from naaplib.training.plan import Job, Plan, Run
from naaplib.training.population import choose_trainer
from naaplib.training.recipe import SEED, check_order, order_digest

N_TRIES = 2  # of a job whose process ends with an error
MARGIN = 1.15  # a forecast by a few steps may be too low by so much


@dataclass(frozen=True)
class Way:
    """A way to train: trainer and precision, as in `.distributed.Work`."""

    trainer: str = "compiled"
    precision: str = "fp32"


def train(
    plan: Plan, jobs: Sequence[Job], *, checkpoints: str | Path, way: Way, device: str = "cpu", commit: str = "unknown"
) -> list[tuple[Job, pd.DataFrame, dict[str, Any]]]:
    """Train networks of some jobs together; resume from their checkpoints.

    A job is never divided between two trainings. If a GPU's memory is too small, halves of the jobs are trained.

    Parameters
    ----------
    plan : Plan
    jobs : sequence of Job
        Jobs of one run.
    checkpoints : path
        Folder of checkpoints; every way has its own part of it.
    way : Way
    device : str
        Device by torch's name.
    commit : str
        Commit of the code, for the facts.

    Returns
    -------
    list of (job, records, facts)
        As `job_records.write` takes them. seconds is a job's share of those of all that were trained together (size).

    Raises
    ------
    RuntimeError
        If the published seed does not give the published order of images.
    """
    seed, n_epochs = jobs[0].seed, jobs[0].n_epochs
    if seed == SEED:
        check_order()
    way = replace(
        way, trainer=choose_trainer(way.trainer, device, precision=way.precision)
    )  # the facts name the one that trains
    folder = Path(checkpoints) / f"{way.trainer}-{way.precision}"

    def run(places: Sequence[int]) -> list[tuple[Job, pd.DataFrame, dict[str, Any]]]:
        some = [jobs[place] for place in places]
        names = tuple(name for job in some for name in job.model_ids)
        schemes = {name: plan.schemes[name] for name in names}
        work = Work(
            schemes, n_epochs, recipe=plan.recipe, images_file=plan.images_file, device=device,
            precision=way.precision, n_holdout=plan.n_holdout, trainer=way.trainer,
        )  # fmt: skip
        records, told = _train_at_once(work, seed, names, folder)
        facts = describe(plan, seed, n_epochs=n_epochs, device=device, way=way)
        facts |= {"size": len(names), "commit": commit}
        n_steps = n_epochs * -(-job_records.n_images(plan) // plan.recipe.batch_size)
        facts |= {"compiled": told["compiled"], "ms_per_step": round(1000 * told["seconds"] / n_steps, 2)}
        return [
            (
                job,
                records[records["ModelId"].isin(job.model_ids)],
                facts | {"seconds": round(told["seconds"] * len(job.model_ids) / len(names), 1)},
            )
            for job in some
        ]

    return [done for part in gpus.in_halves(range(len(jobs)), run) for done in part]


def describe(plan: Plan, seed: int, *, n_epochs: int, device: str, way: Way) -> dict[str, Any]:
    """Return facts known before a training: settings, order of images, machine."""
    found = describe_device(device)
    on_gpu = torch.device(device).type == "cuda"
    return {
        **plan.settings,
        "order": order_digest(seed, n_epochs, n_images=job_records.n_images(plan)),
        "trainer": way.trainer,
        "precision": way.precision,
        "processor": compiled.processor()[0],
        "gpu": found.pop("device") if on_gpu else "",
        **found,
    }


def work_through(
    plan: Plan,
    folder: str | Path,
    *,
    checkpoints: str | Path,
    devices: Sequence[str] = ("cpu",),
    seconds: float = math.inf,
    runs: Sequence[Run] = (),
    way: Way | None = None,
    size: int = 0,
    seconds_per_epoch: float = 0.0,
    commit: str = "unknown",
    report: Callable[[str], None] = lambda _: None,
) -> list[Job]:
    """Train unfinished jobs of a plan, one process per device; write records.

    Jobs start in the plan's order. A stop or a kill costs the current epoch of the jobs in progress: the same call
    resumes them from `checkpoints`. Processes on a CPU have one thread and the lowest priority.

    Parameters
    ----------
    plan : Plan
    folder : path
        Folder of records, as in `job_records`; jobs that it holds are not trained.
    checkpoints : path
    devices : sequence of str
        One process for each: ``["cpu"] * 2``, or ``["cuda:0", "cuda:1"]``.
    seconds : float
        Time after which processes are stopped.
    runs : sequence of Run
        Runs to train, by default all.
    way : Way, optional
        By default the plan's trainer, in fp32; torch's on a GPU, and, with a warning, without a compiler. The fused
        trainer is used only if it is named, as `make gpu` does after its checks.
    size : int
        Largest number of networks to train together, in whole jobs; 0 takes one job at a time.
    seconds_per_epoch : float
        Forecast for an epoch of one network among `size` others. If it is given, a training is begun only if it ends in
        time, with fewer jobs where necessary: for a machine that retains no checkpoints.
    commit : str
        Commit of the code, for the facts.
    report : callable
        Function of a line of text, called when a job is finished or fails.

    Returns
    -------
    list of Job
        Jobs that are not finished.

    Raises
    ------
    RuntimeError
        If a job has failed twice. All others are trained before.
    """
    on_gpu = torch.device(devices[0]).type == "cuda"
    way = way or Way(choose_trainer("torch" if on_gpu else plan.trainer, devices[0], precision="fp32"))
    end, queue = time.monotonic() + seconds, job_records.missing(folder, plan, runs=runs)
    context = multiprocessing.get_context("spawn")
    running: dict[Any, tuple[str, list[Job]]] = {}
    failed: dict[Job, int] = {}
    try:
        while (queue or running) and time.monotonic() < end:
            free = [device for device in devices if device not in [held for held, _ in running.values()]]
            free = free if len(set(devices)) == len(devices) else list(devices)[len(running) :]
            for device in free:
                left = end - time.monotonic()
                if jobs := _next(queue, size or plan.size, left, seconds_per_epoch * MARGIN):
                    process = context.Process(target=_work, args=(plan, jobs, folder, checkpoints, way, device, commit))
                    process.start()
                    running[process] = device, jobs
            if not running:
                break  # nothing more would end in time
            multiprocessing.connection.wait([p.sentinel for p in running], min(max(end - time.monotonic(), 0), 3600))
            for process in [process for process in running if process.exitcode is not None]:
                _, jobs = running.pop(process)
                process.join()
                unfinished = [job for job in jobs if not job_records.is_finished(folder, job)]
                for job in jobs:
                    report(f"{job.stem}: {'FAILED' if job in unfinished else 'finished'}")
                failed |= {job: failed.get(job, 0) + 1 for job in unfinished}
                queue += [job for job in unfinished if failed[job] < N_TRIES]
    finally:
        for process in running:
            process.terminate()
            process.join()
    if lost := [job for job, n in failed.items() if n >= N_TRIES]:
        raise RuntimeError(f"{len(lost)} jobs failed twice: {', '.join(job.stem for job in lost[:5])}; see above")
    return job_records.missing(folder, plan, runs=runs)


def _next(queue: list[Job], size: int, left: float, seconds_per_epoch: float) -> list[Job]:
    """Take the next jobs of one run to train together off the queue, or none if they would not end in time."""
    if not queue:
        return []
    first = queue[0]
    jobs: list[Job] = []
    for job in queue:
        alike = (job.seed, job.n_epochs) == (first.seed, first.n_epochs)
        if not alike or (jobs and sum(len(other.model_ids) for other in [*jobs, job]) > size):
            break
        jobs.append(job)
    while jobs and sum(len(job.model_ids) for job in jobs) * first.n_epochs * seconds_per_epoch > left:
        jobs = jobs[: len(jobs) // 2]
    del queue[: len(jobs)]
    return jobs


def _work(
    plan: Plan,
    jobs: Sequence[Job],
    folder: str | Path,
    checkpoints: str | Path,
    way: Way,
    device: str,
    commit: str = "unknown",
) -> None:
    """Train some jobs and write their records, in a process of its own."""
    if torch.device(device).type == "cpu":
        with suppress(OSError, AttributeError):  # Windows has no `nice`
            os.nice(19)
    for job, records, facts in train(plan, jobs, checkpoints=checkpoints, way=way, device=device, commit=commit):
        job_records.write(folder, job, records=records, facts=facts)
