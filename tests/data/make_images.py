"""Make ``images-made.npz``: blotches whose colour tells the class, in the place of CIFAR-10 where speed matters.

Run from the project's root: ``python tests/data/make_images.py``; the arrays are the same on every run.
"""

from pathlib import Path

import numpy as np

N_TRAIN, N_TEST = 512, 100
SEED = 10


def make() -> dict[str, np.ndarray]:
    """Arrays as `naaplib.training.cifar10.load_npz` reads them: 32 by 32 pixels in squares of 8, which packs small."""
    rng = np.random.default_rng(SEED)
    colours = rng.integers(60, 196, size=(10, 3, 1, 1))  # one for each class
    arrays = {}
    for part, n_images in (("train", N_TRAIN), ("test", N_TEST)):
        labels = np.arange(n_images) % 10
        squares = np.clip(colours[labels] + rng.integers(-60, 61, size=(n_images, 3, 4, 4)), 0, 255)
        arrays[f"{part}_images"] = squares.astype(np.uint8).repeat(8, axis=2).repeat(8, axis=3)
        arrays[f"{part}_labels"] = labels
    return arrays


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("images-made.npz"), **make())
