"""Command line behind ``make records-accuracy-table``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from naaplib.compendium import record_index
from naaplib.compendium.execution import command
from naaplib.sources import ROOT
from naaplib.training import job_records
from naaplib.training.plan import HELD_OUT, PLAN, RECIPES, Plan, part
from naaplib.training.planned import work_through

FOLDER = ROOT / "results" / "records" / "accuracy-table"
CHECKPOINTS = ROOT / "build" / "accuracy-table"
NAME = "make records-accuracy-table"
PLANS = {  # by part of the folders, in the order in which they are trained
    "": PLAN,
    "held-out": HELD_OUT,
    **{part(name): plan for name, plan in RECIPES.items()},
}


def work(
    *,
    n_jobs: int = 1,
    seconds: float = math.inf,
    archive: str = "",
    plan: Plan = PLAN,
    folder: Path = FOLDER,
    checkpoints: Path = CHECKPOINTS,
) -> None:
    """Train the unfinished jobs of the plan on the CPU, and list the finished ones.

    It resumes where it was stopped. With an archive, its records are verified and taken in, and nothing is trained.

    Parameters
    ----------
    n_jobs : int
        Number of processes, each of one thread and the lowest priority.
    seconds : float
        Time after which it stops; 0 lists the finished jobs anew in `job_records.INDEX`.
    archive : str
        Path of a zip file, as `make gpu` leaves it.
    plan, folder, checkpoints
        As in `work_through`.

    Raises
    ------
    ValueError, RuntimeError, OSError
        As in `job_records.take_in` and `work_through`.
    """
    started = time.monotonic()
    if n_jobs < 1:
        raise ValueError(f"n_jobs must be 1 or more, not {n_jobs}")
    try:
        if archive:
            n_new, n_known = job_records.take_in(archive, folder, plan=plan)
            print(f"{archive}: {n_new} jobs taken in, {n_known} were there before")
            return
        known = set(job_records.read(folder, plan)[1]["sha256"])

        def report(line: str) -> None:
            index, left = job_records.write_index(folder, plan), job_records.missing(folder, plan)
            hours = job_records.hours(left, index[~index["sha256"].isin(known)], n_jobs=n_jobs)
            forecast = f", about {hours:.1f} hours" if hours > 0 else ""
            print(f"{line}, after {time.monotonic() - started:,.0f} s; {len(left)} jobs left{forecast}", flush=True)

        print(job_records.progress(folder, plan).to_string(index=False), flush=True)
        devices, commit = ["cpu"] * n_jobs, record_index.commit()
        work_through(
            plan, folder, checkpoints=checkpoints, devices=devices, seconds=seconds, commit=commit, report=report
        )
    finally:
        job_records.write_index(folder, plan)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m naaplib.compendium.train_plan``; return the exit status."""
    parser = argparse.ArgumentParser(prog=NAME, description=(work.__doc__ or "").split("\n\n    Parameters")[0])
    parser.add_argument("--n-jobs", type=int, default=1, metavar="N", help="processes at a time; default 1")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="stop after so long")
    parser.add_argument("--from", dest="archive", default="", metavar="ZIP", help="take in records of another machine")
    given = parser.parse_args(arguments)
    end = time.monotonic() + given.seconds

    def each() -> None:
        for place, plan in PLANS.items() if not given.archive else [("", PLAN)]:
            work(
                n_jobs=given.n_jobs, seconds=max(end - time.monotonic(), 0), archive=given.archive, plan=plan,
                folder=FOLDER / place, checkpoints=CHECKPOINTS / place,
            )  # fmt: skip

    return command(NAME, each, failures=(OSError, RuntimeError, ValueError))


if __name__ == "__main__":
    sys.exit(main())
