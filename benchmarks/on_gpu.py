"""What a GPU should do for this book, in the order in which it is wanted: check, time, train. Resumable.

    python -m benchmarks.on_gpu --out build/gpu

It needs torch, torchvision, scikit-learn and pandas, and CIFAR-10. Each step writes its table when it is done, and is
not done again. A check that fails ends it, before anything is timed or trained. The trainings are those of chapter 03
with its own parameters but for `n_epochs`; `naaplib.studies.accuracy_table.records.obtain` finds their records and
index. On a CPU, `--n-archs 8 --n-epochs 1 --n-steps 2` tries it out.
"""

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.sources import sha256
from naaplib.studies.accuracy_table import records as trainings
from naaplib.tables import naap440
from naaplib.training import cifar10, single
from naaplib.training.devices import describe_device, resolve
from naaplib.training.distributed import Work
from naaplib.training.gpus import step_bytes
from naaplib.training.recipe import PUBLISHED, SEED, batch_orders
from naaplib.training.stacked import VARIANTS
from naaplib.training.trainer import Trainer, arithmetic


def check_losses(schemes, images, device, n_steps=8):
    """Largest difference of batch losses from the one-network loop on the same device, step by step."""
    few = images.first(n_steps * PUBLISHED.batch_size, 1_000).to(device)
    order = next(batch_orders(SEED, 1, len(few.train_images)))
    alone = []
    with arithmetic("fp32"):  # the trainers see to theirs
        for scheme in schemes:
            one = build_seeded(scheme, SEED).to(device)
            optimizer = torch.optim.SGD(one.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
            alone.append(single.train_epoch(one, optimizer, few, order.to(device), PUBLISHED.batch_size))
    trainers = [Trainer([build_seeded(s, SEED) for s in schemes], [few], device=device, stack=True) for _ in "ab"]
    first, second = (trainer.train_epoch(order, 0.1) for trainer in trainers)
    difference = np.abs(first - np.stack(alone, axis=1)).max(axis=1)
    steps = range(1, len(first) + 1)
    return pd.DataFrame({"step": steps, "difference": difference, "two_runs_equal": (first == second).all(axis=1)})


def judge(losses):
    """End here unless the first loss is the loop's up to rounding, later ones follow it, and two runs are the same."""
    if losses["difference"].iloc[0] > 1e-5 or losses["difference"].max() > 1e-2 or not losses["two_runs_equal"].all():
        raise SystemExit(f"losses are not those of the loop, or differ between two runs:\n{losses.to_string()}")


def time_steps(schemes, images, device, precision, variant, n_steps):
    """Seconds of a training step and of the evaluation of 1,000 images, as they are in a training; peak memory.

    Whole steps, recorded on a GPU: a layer timed by itself waits for the host, and has not its own inputs.
    """
    few = images.first(n_steps * PUBLISHED.batch_size, 1_000)
    order = next(batch_orders(SEED, 1, len(few.train_images)))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer([build_seeded(s, SEED) for s in schemes], [few], PUBLISHED, device, precision, stack=True)
    for layer in trainer.network.layers:
        layer.variant = variant
    seconds, evaluations = [], []
    for _ in range(4):  # the first with what is set up once
        start = time.perf_counter()
        trainer.train_epoch(order, 0.1)
        between = time.perf_counter()
        trainer.evaluate(few.test_images, few.test_labels)
        evaluations.append(time.perf_counter() - between)
        seconds.append((between - start) / n_steps)
    memory = torch.cuda.max_memory_reserved(device) / 1e9 if device.type == "cuda" else float("nan")
    return {
        "precision": precision,
        "variant": variant,
        "n_archs": len(schemes),
        "step_seconds": min(seconds[1:]),
        "evaluation_seconds": min(evaluations[1:]),
        "gigabytes": memory,
        "counted_gigabytes": step_bytes(schemes, n_images=len(few.train_images), precision=precision) / 1e9,
    } | describe_device(device)


def plan(args, schemes):
    """The trainings of chapter 03: the published seed, the same perturbed, and further seeds on the test networks."""
    whole = Work(schemes, args.n_epochs, images_file=args.images_file, device="auto")
    table = naap440.read(naap440.find("published"))
    tested = sorted(table.loc[table["ModelId"].isin(schemes) & (table["IsTest"] == 1), "ModelId"])
    some = replace(whole, schemes={model_id: schemes[model_id] for model_id in tested} or schemes)
    works = {f"seed {SEED}": (whole, SEED), "perturbed": (replace(some, perturbation=1e-7), SEED)}
    return works | {f"seed {seed}": (some, seed) for seed in args.seeds}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, default=Path("build/population"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2], help="further ones")
    parser.add_argument("--n-archs", type=int, default=440, help="the first so many of the 440")
    parser.add_argument("--n-epochs", type=int, default=90)
    parser.add_argument("--n-steps", type=int, default=40, help="timed at a time")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"])
    parser.add_argument("--images-file", default="", help=".npz file in the place of CIFAR-10")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    device = resolve("auto")
    images = cifar10.load_npz(args.images_file) if args.images_file else cifar10.load()
    schemes = dict(enumerate(enumerate_schemes()[: args.n_archs], start=1))

    table = args.out / "losses.csv"
    if not table.is_file():
        every = max(1, len(schemes) // 20)
        check_losses(list(schemes.values())[::every], images, device).to_csv(table, index=False)
    judge(pd.read_csv(table))
    table = args.out / "steps.csv"
    done = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for precision, variant in itertools.product(args.precisions, VARIANTS):
        if (precision, variant) not in [(row["precision"], row["variant"]) for row in done]:
            done.append(time_steps(list(schemes.values()), images, device, precision, variant, args.n_steps))
            pd.DataFrame(done).to_csv(table, index=False)
    print(pd.DataFrame(done).to_string(), flush=True)
    kept = args.out / trainings.INDEX
    index = {row["run"]: row for row in pd.read_csv(kept).to_dict("records")} if kept.is_file() else {}
    for run, (work, seed) in plan(args, schemes).items():
        scratch = args.checkpoints / ("perturbed" if run == "perturbed" else "")
        records, facts = trainings.obtain(run, work, seed, args.out, scratch)
        path = args.out / f"{trainings.file_name(facts['run'])}.csv"
        records.to_csv(path, index=False, float_format=f"%.{trainings.N_DIGITS}f", lineterminator="\n")
        index[facts["run"]] = facts | {"sha256": sha256(path)}
        rows = pd.DataFrame(index.values())
        rows.to_csv(kept, index=False, lineterminator="\n")
        print(rows[["run", "n_archs", "n_epochs", "device", "seconds"]].to_string(), flush=True)


if __name__ == "__main__":
    main()
