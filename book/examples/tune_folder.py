"""Tune depths and widths of a ShuffleNetV2: python tune_folder.py FOLDER SIDE EPOCHS BUDGET, FOLDER/class/image.png."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torchvision.models import ShuffleNetV2

from naaplib.search import tuning
from naaplib.search.image_classification import ImageClassification


def build(encoding):
    """Blocks of three stages, channels of the first (the next have twice as many), channels of the last layer."""
    *depths, width, last = encoding
    return ShuffleNetV2(depths, [24, width, 2 * width, 4 * width, last], n_classes)


if __name__ == "__main__":
    folder, (side, n_epochs, budget) = Path(sys.argv[1]), map(int, sys.argv[2:])
    n_classes = sum(path.is_dir() for path in folder.iterdir())
    if Path("space.npz").exists():
        space = tuning.load("space.npz", build)
    else:
        encodings = list(product((1, 2, 4), (2, 4, 8), (1, 2, 4), (32, 48, 64, 96), (256, 512, 1024)))
        space = tuning.SearchSpace("ShuffleNetV2", encodings, encoding_to_network=build)
        space.preprocess(torch.randn(2, 3, side, side), n_networks=50)
        space.save("space.npz")

    full = ImageClassification.from_folder(build, folder, image_side=side, n_epochs=n_epochs, batch_size=32)
    cheap = replace(full, n_epochs=max(n_epochs // 4, 1))
    settings = tuning.Settings(n_initial=2, n_initial_cheap=8, n_cheap=4)
    search = tuning.Search(
        space,
        full,
        cost=full.n_epochs,
        evaluate_cheaply=cheap,
        cheap_cost=cheap.n_epochs,
        folder="tuned",
        settings=settings,
    )
    trace = search.run(budget)
    trace.to_csv("tuned/trace.csv", index=False)
    print(trace[["step", "spent", "best"]].tail(1).to_string(), "with", search.best())
