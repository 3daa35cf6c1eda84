"""Measure what an estimate from feature histories adds to an epoch; write benchmarks/histories.csv.

Pairs of the same epoch: features of held-out images taken from the evaluation, and by a pass of their own.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.estimators.histories import linear
from naaplib.training.cifar10 import Images
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.population import hold_out
from naaplib.training.recipe import PUBLISHED, batch_orders
from naaplib.training.trainer import Trainer, arithmetic

N_NETWORKS, N_TRAIN, N_TEST, N_HOLDOUT, N_EPOCHS = 4, 5_000, 1_000, 500, 5  # a tenth of CIFAR-10


def measure() -> pd.DataFrame:
    """Return seconds of training with evaluation, and of both estimates, by epoch."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (N_TRAIN + N_TEST, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (N_TRAIN + N_TEST,), generator=generator)
    parts = hold_out(Images(pixels[:N_TRAIN], labels[:N_TRAIN], pixels[N_TRAIN:], labels[N_TRAIN:]), N_HOLDOUT)
    held = {
        "test": (parts[0].test_images, parts[0].test_labels),
        "held out": (parts[1].test_images, parts[1].test_labels),
    }
    schemes = enumerate_schemes()
    networks = [build_seeded(schemes[i], 0) for i in np.linspace(0, len(schemes) - 1, N_NETWORKS, dtype=int)]
    trainer, rows = Trainer(networks, parts, keep_features=True), []
    for epoch, order in enumerate(batch_orders(0, N_EPOCHS, n_images=N_TRAIN - N_HOLDOUT), start=1):
        start = time.process_time()
        trainer.train_epoch(order, PUBLISHED.learning_rate(epoch))
        for part in parts:
            trainer.evaluate(part.test_images, part.test_labels)
        row: dict[str, float] = {"epoch": epoch, "training": time.process_time() - start}
        for way in ("from_evaluation", "own_pass"):
            if way == "own_pass":
                trainer.evaluated.clear()
            start = time.process_time()
            history = FeatureHistory(held, 1)
            history.take(1, trainer)
            found = history[1]
            layers = linear.retrain(found.train, found.train_labels, weights=found.weights, biases=found.biases)
            for features in found.held.values():
                linear.probabilities(features, layers)
            row[way] = (time.process_time() - start) / row["training"]
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with arithmetic("fp32"):
        table = measure()
    table.round(4).to_csv(Path(__file__).with_suffix(".csv"), index=False, lineterminator="\n")
    print(table.to_string(index=False))
    print(f"median shares of an epoch: {table['from_evaluation'].median():.3f}, {table['own_pass'].median():.3f}")
