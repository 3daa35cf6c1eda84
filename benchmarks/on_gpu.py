"""Train the plan on GPUs: check, time, choose, train, and leave one zip. `make gpu SECONDS=600` runs it.

    python -m benchmarks.on_gpu --out build/gpu --seconds 600

It needs CIFAR-10 and nothing else of the data. The order of images, losses of eight networks against 64 bits, and two
runs of 20 steps are checked; every way to train is timed on as many networks as the GPU holds in that way; one is
chosen by the rule in `naaplib.training.gpu_checks`. Then the runs of `naaplib.training.plan.PLAN` are trained, one
process a GPU: with a time limit only what ends in time is begun, in smaller parts where necessary. ``records.zip`` in
the folder holds what was finished, its provenance, and the tables of the checks; `make records-accuracy-table FROM=`
verifies it and takes it in. Jobs in ``results/records/accuracy-table`` are not trained again. A second call with the
same folder goes on; one with an empty folder needs nothing of the first but the records that were taken in.

On a CPU, `--devices cpu --images-file tests/data/images-made.npz --n-archs 8 --n-epochs 1 --n-steps 2` tries it out.
"""

import argparse
import io
import json
import math
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from naaplib.compendium import record_index, train_plan
from naaplib.training import cifar10, fused, gpu_checks, job_records
from naaplib.training.devices import resolve
from naaplib.training.gpus import size_on
from naaplib.training.plan import PLAN, Plan, Run
from naaplib.training.planned import Way, work_through
from naaplib.training.recipe import SEED, check_order

RESERVE = 20.0  # seconds for the zip, and for processes to end


def parse(arguments):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of the whole call; default: no limit")
    parser.add_argument("--way", default="", help="as in torch-fp32: use this way, if it passes, and time no other")
    parser.add_argument("--devices", nargs="+", default=[], help="default: all GPUs")
    parser.add_argument("--n-steps", type=int, default=20, help="timed at a time, and run twice")
    parser.add_argument("--images-file", default="", help=".npz file in the place of CIFAR-10, for a trial")
    parser.add_argument("--n-archs", type=int, default=0, help="the first so many of the networks, for a trial")
    parser.add_argument("--n-epochs", type=int, default=0, help="for a trial")
    return parser.parse_args(arguments)


def make_plan(args) -> Plan:
    """The plan, or a small one for a trial."""
    if not (args.images_file or args.n_archs or args.n_epochs):
        return PLAN
    schemes = dict(list(PLAN.schemes.items())[: args.n_archs or None])
    tested = tuple(name for name in PLAN.test_networks if name in schemes)
    n_epochs = args.n_epochs or 90
    runs = (Run(SEED, "all", n_epochs), *([Run(1, "test", n_epochs)] if tested else []))
    return Plan(runs, schemes, tested, images_file=args.images_file)


def check_and_choose(args, plan, images, device):
    """Tables of losses and of times, made once in a folder, and the way that they choose with its row."""
    schemes = list(plan.schemes.values())
    ways = [Way(*args.way.split("-"))] if args.way else list(gpu_checks.ways(device))
    tables = {}
    path = args.out / "losses.csv"
    if not path.is_file():
        gpu_checks.check_losses(ways, schemes, images=images, device=device, recipe=plan.recipe).to_csv(
            path, index=False
        )
    tables["losses.csv"] = pd.read_csv(path)
    path = args.out / "steps.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for way in ways:
        if (way.trainer, way.precision) not in [(row["trainer"], row["precision"]) for row in rows]:
            size, on = len(schemes), torch.device(device)
            if on.type == "cuda":
                size = size_on(on, tuple(schemes), recipe=plan.recipe, precision=way.precision, trainer=way.trainer)
            settings = {"device": device, "n_steps": args.n_steps, "recipe": plan.recipe}
            rows.append(gpu_checks.time_way(way, schemes[:size], images=images, **settings))
            pd.DataFrame(rows).to_csv(path, index=False)
    tables["steps.csv"] = times = pd.DataFrame(rows)
    print(times.iloc[:, :8].to_string(index=False), flush=True)
    way = gpu_checks.choose(tables["losses.csv"], times)
    row = times[(times["trainer"] == way.trainer) & (times["precision"] == way.precision)].iloc[0]
    return way, row, tables


def main(arguments=None) -> int:
    """Exit status: 1 if there is no GPU, a check fails, or a job failed; the zip is written in any case."""
    started, args = time.monotonic(), parse(arguments)
    devices = args.devices or [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if not devices:
        resolve("auto")  # warns of a GPU that torch cannot use
        print("make gpu: torch finds no GPU here; make records-accuracy-table trains on the CPU", file=sys.stderr)
        return 1
    plan, records = make_plan(args), args.out / "records"
    args.out.mkdir(parents=True, exist_ok=True)
    check_order()
    for job in plan.jobs() if plan is PLAN else []:  # what others trained is not trained again
        for name in (f"{job.stem}.csv", f"{job.stem}.json"):
            if (train_plan.FOLDER / name).is_file() and not (records / name).is_file():
                (records / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(train_plan.FOLDER / name, records / name)
    images = cifar10.load_npz(args.images_file) if args.images_file else cifar10.load()
    others, status = {}, 0
    try:
        way, row, tables = check_and_choose(args, plan, images, devices[0])
        choice = asdict(way) | {"fused_left_out": fused.why_not(devices[0])}
        choice |= {"n_archs": int(row["n_archs"]), "step_seconds": row["step_seconds"]}
        for name, table in tables.items():
            stream = io.StringIO()
            table.to_csv(stream, index=False)
            others[name] = stream.getvalue()
        others["choice.json"] = json.dumps(choice)
        print(f"chosen: {way.trainer} in {way.precision}, {choice['n_archs']} networks at a time", flush=True)
        cost = gpu_checks.seconds_per_epoch(
            row, len(images.train_images), n_test=len(images.test_images), recipe=plan.recipe
        )
        left = args.seconds - (time.monotonic() - started) - RESERVE
        unfinished = work_through(
            plan, records, checkpoints=args.out / "checkpoints", devices=devices, seconds=left,
            runs=plan.longest(), way=way, size=choice["n_archs"],
            seconds_per_epoch=cost if math.isfinite(args.seconds) else 0.0,
            commit=record_index.commit(), report=lambda line: print(line, flush=True),
        )  # fmt: skip
        print(f"{len(unfinished)} jobs of the plan are left", flush=True)
    except RuntimeError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        status = 1
    known = [job for job in plan.jobs() if plan is PLAN and job_records.is_finished(train_plan.FOLDER, job)]
    new = [job for job in plan.jobs() if job not in known]
    n = job_records.pack(records, new, path=args.out / "records.zip", others=others)
    print(f"{args.out / 'records.zip'}: {n} jobs, {(args.out / 'records.zip').stat().st_size / 2**20:.1f} MiB")
    return status


if __name__ == "__main__":
    sys.exit(main())
