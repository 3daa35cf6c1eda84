"""What a GPU should do for this book, in the order in which it is wanted: check, time, train. Resumable.

    python -m benchmarks.on_gpu --out build/gpu

It needs torch, torchvision, scikit-learn and pandas, and CIFAR-10. Each step writes its table when it is done, and is
not done again. Records and index, moved to ``results/03-accuracy-table``, are what chapter 03 takes up with
``n_epochs = 90``. On a CPU, `--n-archs 8 --n-epochs 1` tries it out.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from naaplib.architectures.networks import build_seeded
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.sources import sha256
from naaplib.tables import trainings
from naaplib.training import cifar10, network
from naaplib.training.recipe import PUBLISHED, SEED, batch_orders
from naaplib.training.trainer import Trainer, arithmetic, measure_variants
from naaplib.training.units import Work, resolve


def check_losses(schemes, images, device, n_steps=8):
    """Largest difference of batch losses from the one-network loop on the same device, step by step."""
    few = images.first(n_steps * PUBLISHED.batch_size, 1_000).to(device)
    order = next(batch_orders(SEED, 1, len(few.train_images)))
    alone = []
    for scheme in schemes:
        one = build_seeded(scheme, SEED).to(device)
        optimizer = torch.optim.SGD(one.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        alone.append(network.train_epoch(one, optimizer, few, order.to(device), PUBLISHED.batch_size))
    trainers = [Trainer([build_seeded(s, SEED) for s in schemes], [few], device=device, stack=True) for _ in "ab"]
    first, second = (trainer.train_epoch(order, 0.1) for trainer in trainers)
    difference = np.abs(first - np.stack(alone, axis=1)).max(axis=1)
    steps = range(1, len(first) + 1)
    return pd.DataFrame({"step": steps, "difference": difference, "two_runs_equal": (first == second).all(axis=1)})


def time_epochs(schemes, images, device, precisions):
    """Seconds of a training epoch and of an evaluation, by precision and choice of convolutions; peak memory."""
    rows, chosen = [], []
    order = next(batch_orders(SEED, 1, len(images.train_images)))
    for precision in precisions:
        for choice in ("matmul", "measured"):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            with arithmetic(precision):
                trainer = Trainer(
                    [build_seeded(s, SEED) for s in schemes], [images], PUBLISHED, device, precision, stack=True
                )
                if choice == "measured":
                    chosen.append(measure_variants(trainer, PUBLISHED.batch_size).assign(precision=precision))
                seconds = []
                for _ in range(2):  # the first with what is set up once
                    start = time.perf_counter()
                    trainer.train_epoch(order, 0.1)
                    seconds.append(time.perf_counter() - start)
                start = time.perf_counter()
                trainer.evaluate(images.test_images, images.test_labels)
                evaluation = time.perf_counter() - start
            memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")
            rows.append((precision, choice, len(schemes), *seconds, evaluation, memory))
            del trainer
    columns = ["precision", "choice", "n_archs", "first_seconds", "seconds", "evaluation_seconds", "gib"]
    return pd.DataFrame(rows, columns=columns), pd.concat(chosen)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, default=Path("build/population"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[SEED, 1, 2, 3, 4])
    parser.add_argument("--n-archs", type=int, default=440, help="the first so many of the 440")
    parser.add_argument("--n-epochs", type=int, default=90)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"])
    parser.add_argument("--images-file", default="", help=".npz file in the place of CIFAR-10")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    device = resolve("auto")
    images = cifar10.load_npz(args.images_file) if args.images_file else cifar10.load()
    schemes = dict(enumerate(enumerate_schemes()[: args.n_archs], start=1))

    if not (args.out / "losses.csv").is_file():
        found = check_losses(list(schemes.values())[:: max(1, len(schemes) // 20)], images, device)
        found.to_csv(args.out / "losses.csv", index=False)
        print(found.to_string(), flush=True)
    if not (args.out / "epochs.csv").is_file():
        epochs, chosen = time_epochs(list(schemes.values()), images, device, args.precisions)
        chosen.to_csv(args.out / "variants.csv", index=False)
        epochs.to_csv(args.out / "epochs.csv", index=False)
        print(epochs.to_string(), flush=True)
    work = Work(schemes, args.n_epochs, images_file=args.images_file, device=str(device))
    kept = args.out / trainings.INDEX
    index = {row["run"]: row for row in pd.read_csv(kept).to_dict("records")} if kept.is_file() else {}
    for seed in args.seeds:
        records, facts = trainings.obtain(f"seed {seed}", work, seed, args.out, args.checkpoints)
        path = args.out / f"{trainings.file_name(facts['run'])}.csv"
        records.to_csv(path, index=False, float_format=f"%.{trainings.N_DIGITS}f", lineterminator="\n")
        index[facts["run"]] = facts | {"sha256": sha256(path)}
        table = pd.DataFrame(index.values())
        table.to_csv(kept, index=False, lineterminator="\n")
        print(table[["run", "n_archs", "n_epochs", "device", "seconds"]].to_string(), flush=True)


if __name__ == "__main__":
    main()
