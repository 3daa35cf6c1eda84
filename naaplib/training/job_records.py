"""Records of finished jobs of a plan: files, index, checks, zip archives.

A finished job is a CSV file of records and a JSON file of facts about them, both named by `Job.stem`. The JSON file is
written last, so that a job is finished when it is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from naaplib.cache import write_text, writing
from naaplib.sources import WrongData
from naaplib.training import cifar10
from naaplib.training.plan import Job, Plan, Run
from naaplib.training.recipe import order_digest

COLUMNS = ["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"]
HELD_OUT = "holdout_accuracy"  # a further column, where images are held out
REQUIRED = {"seed", "model_ids", "n_epochs", "seconds", "torch", "commit"}  # facts that every job has
# Columns of the index after seed, first, n_archs, n_epochs: where and how a job was trained; "" if unknown.
PROVENANCE = [
    *("trainer", "precision", "size", "processor", "flags", "gpu", "driver", "cuda", "cudnn"),
    *("torch", "commit", "seconds", "ms_per_step", "sha256"),
]
INDEX = "index.csv"
N_IMAGES, BATCH_SIZE = 50_000, 256  # of trainings whose facts lack `ms_per_step`
_SHOWN_FAULTS = 10


def write(folder: str | Path, job: Job, *, records: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Write a finished job.

    Parameters
    ----------
    folder : path
        Folder of records, created if it does not exist.
    job : Job
    records : DataFrame
        Rows and columns as `faults` requires; a column "seed" is left out.
    facts : mapping
        Facts about the training, as `.planned.train` returns them. The job's own and the SHA-256 are added.

    Raises
    ------
    WrongData
        If the records are not those of the job.
    """
    records = records[[*COLUMNS, HELD_OUT] if HELD_OUT in records else COLUMNS]
    if found := faults(records, job):
        raise WrongData(f"these are no records of {job.stem}: {'; '.join(found)}")
    text = records.to_csv(index=False, lineterminator="\n")
    own = {"seed": job.seed, "model_ids": list(job.model_ids), "n_epochs": job.n_epochs}
    told = own | dict(facts) | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    write_text(Path(folder) / f"{job.stem}.csv", text)
    write_text(Path(folder) / f"{job.stem}.json", json.dumps(told) + "\n")


def is_finished(folder: str | Path, job: Job, *, plan: Plan | None = None) -> bool:
    """Return True if a job, or a longer one of the plan, is in the folder."""
    longer = {run.n_epochs for run in plan.runs if run.seed == job.seed and run.n_epochs > job.n_epochs} if plan else ()
    stems = [Job(job.seed, job.model_ids, n_epochs).stem for n_epochs in (job.n_epochs, *longer)]
    return any((Path(folder) / f"{stem}.json").is_file() for stem in stems)


def read(folder: str | Path, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read all finished jobs of a plan.

    Returns
    -------
    records : DataFrame
        run (`Run.name`), `COLUMNS`, and perhaps `HELD_OUT`, in the order of the plan's seeds, then ModelId and epoch.
        If a network has records of several jobs, those with most epochs count.
    index : DataFrame
        One row per finished job: seed, first (ModelId), n_archs, n_epochs, and `PROVENANCE`; every job has one trainer.

    Raises
    ------
    WrongData
        If a file is not as it was written.
    """
    frames, rows = [], []
    for place, run in enumerate(plan.runs):
        for job in plan.jobs([run]):
            if is_finished(folder, job):
                records, facts = _read_job((Path(folder) / f"{job.stem}.{suffix}" for suffix in ("csv", "json")), job)
                frames.append(records.assign(run=run.name, place=place, length=job.n_epochs))
                rows.append(_row(job, facts))
    index = pd.DataFrame(rows, columns=["seed", "first", "n_archs", "n_epochs", *PROVENANCE])
    if not frames:
        return pd.DataFrame(columns=["run", *COLUMNS]), index
    found = pd.concat(frames)
    longest = found.groupby(["run", "ModelId"])["length"].transform("max")
    found = found[found["length"] == longest].drop_duplicates(["run", "ModelId", "epoch"])
    order = found.groupby("run")["place"].transform("min")
    found = found.assign(place=order).sort_values(["place", "ModelId", "epoch"], ignore_index=True)
    return found[["run", *COLUMNS, *({HELD_OUT} & set(found))]], index


def write_index(folder: str | Path, plan: Plan) -> pd.DataFrame:
    """Write the index of `read` as `INDEX`, unless no job is finished, and return it."""
    _, index = read(folder, plan)
    if len(index):
        write_text(Path(folder) / INDEX, index.to_csv(index=False, lineterminator="\n"))
    return index


def hours(jobs: Sequence[Job], new: pd.DataFrame, *, n_jobs: int) -> float:
    """Forecast the hours of some jobs from the index of jobs just finished here.

    `n_jobs` are trained at a time. NaN if none is finished.

    Examples
    --------
    >>> new = pd.DataFrame({"n_archs": [4], "n_epochs": [90], "seconds": [600.0]})
    >>> hours([Job(1, (5, 6, 7, 8), 90), Job(1, (9, 10), 90)], new, n_jobs=2)
    0.125
    """
    per_epoch = float(new["seconds"].sum() / (new["n_archs"] * new["n_epochs"]).sum()) if len(new) else math.nan
    return sum(len(job.model_ids) * job.n_epochs for job in jobs) * per_epoch / n_jobs / 3600


def progress(folder: str | Path, plan: Plan) -> pd.DataFrame:
    """Count the finished jobs of each run, as a table."""
    rows = []
    for run in plan.runs:
        jobs = plan.jobs([run])
        n_finished = sum(is_finished(folder, job, plan=plan) for job in jobs)
        row = {"run": run.name, "networks": run.networks, "n_epochs": run.n_epochs, "n_archs": len(plan.networks(run))}
        rows.append(row | {"n_jobs": len(jobs), "n_finished": n_finished})
    return pd.DataFrame(rows)


def faults(records: pd.DataFrame, job: Job) -> list[str]:
    """List what is wrong with the records of a job: columns, rows, losses, accuracies."""
    if list(records) not in (COLUMNS, [*COLUMNS, HELD_OUT]):
        return [f"columns are {list(records)}, not {COLUMNS}"]
    expected = [(name, epoch) for name in job.model_ids for epoch in range(1, job.n_epochs + 1)]
    if list(zip(records["ModelId"], records["epoch"], strict=True)) != expected:
        return [f"rows are not those of {len(job.model_ids)} networks and {job.n_epochs} epochs"]
    try:
        losses = records[["loss_mean", "loss_median"]].to_numpy(dtype=float)
        accuracies = records.filter(like="accuracy").to_numpy(dtype=float)
    except (TypeError, ValueError) as error:
        return [f"a loss or an accuracy is no number: {error}"]
    found = [] if np.isfinite(losses).all() and (losses >= 0).all() else ["a loss is negative or not finite"]
    return found + ([] if ((accuracies >= 0) & (accuracies <= 1)).all() else ["an accuracy is not a fraction"])


def pack(folder: str | Path, jobs: Iterable[Job], *, path: Path, others: Mapping[str, str] = {}) -> int:
    """Write finished jobs into a zip archive, and return their number.

    Parameters
    ----------
    folder : path
    jobs : iterable of Job
    path : Path
        Archive, which gets its name when it is complete.
    others : mapping from name to text
        Further files, put into the archive's folder ``checks``.
    """
    n = 0
    with writing(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for job in jobs:
            if is_finished(folder, job):
                n += 1
                for name in (f"{job.stem}.csv", f"{job.stem}.json"):
                    archive.write(Path(folder) / name, name)
        for name, text in others.items():
            archive.writestr(f"checks/{name}", text)
    return n


def take_in(path: str | Path, folder: str | Path, *, plan: Plan) -> tuple[int, int]:
    """Verify a zip archive of finished jobs, then copy them into a folder of records.

    Nothing is copied unless every file is right: it belongs to a job of the plan, has the SHA-256 that its facts name,
    and is complete and within its ranges; the facts name the plan's schemes, recipe and images, and the order of images
    that the seed gives here.

    Returns
    -------
    n_new, n_known : int
        Number of jobs that were copied, and of those that were finished in the folder before, which stay as they are.

    Raises
    ------
    WrongData
        If a file is wrong; the message lists the faults.
    """
    jobs = {job.stem: job for job in plan.jobs()}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("checks/") and name[-1] != "/"]
            contents = {name: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        raise WrongData(f"{path} is no zip archive, or is damaged: {error}") from None
    stems = {name.rsplit(".", 1)[0] for name in names}
    wrong = [f"{name} belongs to no job of the plan" for name in names if name.rsplit(".", 1)[0] not in jobs]
    wrong += [f"{stem} lacks its CSV or JSON file" for stem in stems if {f"{stem}.csv", f"{stem}.json"} - set(names)]
    orders: dict[tuple[int, int], str] = {}
    good = []
    for stem in [stem for stem in jobs if stem in stems] if not wrong else []:
        job, files = jobs[stem], [contents[f"{stem}.{suffix}"] for suffix in ("csv", "json")]
        key = job.seed, job.n_epochs
        orders[key] = orders.get(key) or order_digest(*key, n_images=n_images(plan))
        try:
            _, facts = _read_job(files, job, {*REQUIRED, "sha256"})
        except WrongData as error:
            wrong.append(str(error))
            continue
        expected = plan.settings | {"order": orders[key]}
        differing = [name for name, value in expected.items() if facts.get(name) != value]
        wrong += [f"{stem}: {', '.join(differing)} not those of the plan"] if differing else []
        good.append((job, files))
    if wrong:
        more = f"; and {len(wrong) - _SHOWN_FAULTS} more" if len(wrong) > _SHOWN_FAULTS else ""
        raise WrongData(f"nothing is taken from {path}: {'; '.join(wrong[:_SHOWN_FAULTS])}{more}")
    new = [(job, files) for job, files in good if not is_finished(folder, job)]
    for job, files in new:
        for suffix, data in zip(("csv", "json"), files, strict=True):
            write_text(Path(folder) / f"{job.stem}.{suffix}", data.decode())
    return len(new), len(good) - len(new)


def n_images(plan: Plan) -> int:
    """Return the number of images that a plan trains on."""
    n = len(cifar10.load_npz(plan.images_file).train_images) if plan.images_file else N_IMAGES
    return n - plan.n_holdout


def _read_job(
    files: Iterable[Path | bytes], job: Job, required: Collection[str] = REQUIRED
) -> tuple[pd.DataFrame, dict[str, Any]]:
    data, told = (file.read_bytes() if isinstance(file, Path) else file for file in files)
    try:
        facts = json.loads(told)
        records = pd.read_csv(io.BytesIO(data))
    except ValueError as error:
        raise WrongData(f"{job.stem} cannot be read: {error}") from None
    if not isinstance(facts, dict):
        raise WrongData(f"{job.stem}: its JSON file holds a {type(facts).__name__}; it must hold an object of facts")
    found = faults(records, job)
    if absent := sorted(set(required) - set(facts)):
        found.append(f"facts lack {', '.join(absent)}")
    elif [facts["seed"], facts["model_ids"], facts["n_epochs"]] != [job.seed, list(job.model_ids), job.n_epochs]:
        found.append("facts are those of another job")
    if facts.get("sha256", hashlib.sha256(data).hexdigest()) != hashlib.sha256(data).hexdigest():
        found.append("the CSV file has not the SHA-256 that the JSON file names")
    if found:
        raise WrongData(f"{job.stem}: {'; '.join(found)}")
    return records, facts | {"sha256": hashlib.sha256(data).hexdigest()}


def _row(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the index; older facts lack some columns, which follow from others or are empty."""
    made = [text.partition("; ") for text in str(facts.get("compiled", "")).split(" and ")]
    processor, flags = (" and ".join(dict.fromkeys(parts[i] for parts in made)) for i in (0, 2))
    n_steps = job.n_epochs * -(-N_IMAGES // BATCH_SIZE)
    given = {"trainer": "torch", "precision": "fp32", "size": len(job.model_ids), "flags": flags}
    given |= {"processor": processor, "ms_per_step": round(1000 * facts["seconds"] / n_steps, 2)}
    row = {"seed": job.seed, "first": job.model_ids[0], "n_archs": len(job.model_ids), "n_epochs": job.n_epochs}
    return row | {name: facts.get(name) or given.get(name, "") for name in PROVENANCE}


def missing(folder: str | Path, plan: Plan, *, runs: Iterable[Run] = ()) -> list[Job]:
    """List unfinished jobs of some runs, by default of all, in the plan's order."""
    return [job for job in plan.jobs(tuple(runs)) if not is_finished(folder, job, plan=plan)]
