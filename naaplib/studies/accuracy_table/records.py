"""Records of trainings: finished jobs of the plans, and three early epochs.

``make records-accuracy-table`` makes the jobs, by `naaplib.compendium.train_plan`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from naaplib.architectures.schemes import Scheme
from naaplib.sources import ROOT, WrongData, sha256
from naaplib.training import job_records
from naaplib.training.devices import resolve
from naaplib.training.plan import HELD_OUT, PLAN, Plan, Run, changed, part
from naaplib.training.planned import work_through
from naaplib.training.recipe import Recipe

FOLDER = ROOT / "results" / "records" / "accuracy-table"
INDEX = "trainings.csv"  # of the earlier trainings


def plan(
    *, seed: int, other_seeds: Iterable[int], n_epochs: int, schemes: Mapping[int, Scheme], test_ids: Collection[int],
    recipe: Mapping[str, float] = {}, images_file: str = "", trainer: str = "compiled",
) -> Plan:  # fmt: skip
    """Return the plan of a notebook's parameters, `PLAN` for the published table.

    Parameters
    ----------
    seed, other_seeds, n_epochs
        Seed of all networks, seeds of the test networks, and the number of epochs.
    schemes, recipe, images_file, trainer
        As in `Plan`; `recipe` has the numbers that differ from the published recipe.
    test_ids : collection of int
        Test networks.
    """
    runs = (Run(seed, "all", n_epochs), *(Run(other, "test", n_epochs) for other in other_seeds))
    own = Recipe(**recipe)  # type: ignore[arg-type]
    found = Plan(
        runs, schemes, test_networks=tuple(sorted(test_ids)), recipe=own, images_file=images_file, trainer=trainer
    )
    same = found.settings == PLAN.settings and found.test_networks == PLAN.test_networks
    return PLAN if same and set(runs) <= set(PLAN.runs) else found


def obtain(
    plan: Plan, folder: Path, *, device: str = "cpu", n_jobs: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Read the finished jobs of a plan, as `job_records.read` does.

    In a folder within ``build``, as of a trial, missing jobs are trained first, by `n_jobs` processes on `device`.
    """
    devices = [str(resolve(device))] * n_jobs
    if folder.is_relative_to(ROOT / "build"):
        work_through(plan, folder, checkpoints=folder / "checkpoints", devices=devices)
    return job_records.read(folder, plan)


def files(folder: Path) -> list[Path]:
    """List the indexes of records: a notebook's inputs."""
    listed = (folder / job_records.INDEX, folder / "3-epochs" / INDEX, folder / "held-out" / job_records.INDEX)
    recipes = sorted(folder.glob(f"{part('*')}/{job_records.INDEX}"))
    return [*(path for path in listed if path.is_file()), *recipes]


def first_epochs(folder: Path, model_ids: Collection[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the earlier trainings of three epochs, made by torch's trainer.

    Parameters
    ----------
    folder : Path
        Folder with `INDEX`, and a table of records for each of its rows.
    model_ids : collection of int
        Networks to return.

    Returns
    -------
    records : DataFrame
        run, ModelId, epoch, loss_mean, loss_median, accuracy; empty without an index.
    index : DataFrame
        run, seed, n_archs, n_epochs and further settings, device, torch, n_units, seconds, sha256.

    Raises
    ------
    WrongData
        If a table is missing, or its checksum differs from the index.
    """
    if not (folder / INDEX).is_file():
        return pd.DataFrame(columns=["run", *job_records.COLUMNS]), pd.DataFrame()
    index = pd.read_csv(folder / INDEX)
    frames = []
    for run, expected in zip(index["run"], index["sha256"], strict=True):
        path = folder / f"records-{run.replace(' ', '-')}.csv"
        if not path.is_file() or sha256(path) != expected:
            raise WrongData(f"{path} is not what {folder / INDEX} says it is: restore both from the project's history")
        frames.append((run, pd.read_csv(path)))
    found = stack(frames)
    return found[found["ModelId"].isin(list(model_ids))].reset_index(drop=True), index


def held_out(folder: Path, model_ids: Collection[int]) -> pd.DataFrame:
    """Read the trainings with images held out.

    Columns are those of `job_records.read`; their run has one name.
    """
    found, _ = job_records.read(folder / "held-out", HELD_OUT)
    name = f"{HELD_OUT.n_holdout:,} images held out"
    return found[found["ModelId"].isin(list(model_ids))].assign(run=name).reset_index(drop=True)


def recipes(
    plan: Plan, changes: Mapping[str, Mapping[str, float]], *, folder: Path, seed: int, n_epochs: int,
    device: str = "cpu", n_jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Read the trainings of the test networks under other recipes.

    Parameters
    ----------
    plan, changes, seed, n_epochs
        As in `naaplib.training.plan.changed`.
    folder, device, n_jobs
        As in `obtain`.

    Returns
    -------
    DataFrame
        run (the name of the change) and `job_records.COLUMNS`.

    Raises
    ------
    WrongData
        If records were made with another recipe than the change.
    """
    frames = []
    for name, other in changed(plan, changes, n_epochs=n_epochs, seed=seed).items():
        home = folder / part(name)
        found, _ = obtain(other, home, device=device, n_jobs=n_jobs)
        for path in home.rglob("*.json"):
            recipe = json.loads(path.read_text()).get("recipe")
            if recipe != other.settings["recipe"]:
                raise WrongData(
                    f"{path} has the recipe {recipe}, but {name!r} is {other.settings['recipe']}: give the change "
                    "another name, or move that folder away"
                )
        frames.append((name, found[job_records.COLUMNS]))
    return stack(frames) if frames else pd.DataFrame(columns=["run", *job_records.COLUMNS])


def stack(records: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Concatenate the records of several runs, with the run as the first column."""
    return pd.concat([frame.assign(run=run)[["run", *frame.columns]] for run, frame in records], ignore_index=True)
