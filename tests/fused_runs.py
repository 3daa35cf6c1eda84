"""Runs of the fused trainer by Triton's interpreter, in a process of its own.

    TRITON_INTERPRET=1 python tests/fused_runs.py FOLDER

Each is saved as an .npz file: losses, accuracies, and the state and the gradient after every step. `schemes_of` and
`settings_of` say what a run trains, so that a test can train the same by another trainer.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Block, Scheme, block_shapes, enumerate_schemes
from naaplib.training.cifar10 import Images
from naaplib.training.fused_table import DEFAULT, Blocks
from naaplib.training.recipe import Recipe

RECIPE = Recipe(n_epochs=1, batch_size=8)
RATE = 0.1
LARGE = Blocks(pixels=64, channels=64, inner=64, places=256, splits=2)  # few programs, so that a test is fast
ODD: list[Scheme] = [  # not among the 440: other kernels, strides and widths, one block, three in a chain
    (Block(5, 3, 1),),
    (Block(3, 5, 3), Block(1, 6, 2), Block(3, 6, 1, residual=True), Block(1, 6, 1, residual=True), Block(3, 4, 2)),
]
RUNS = ("covering", "again", "odd", "default", "bf16")


def covering() -> list[Scheme]:
    """Few of the 440 schemes that have every layer: channels in and out, kernel, stride, skip."""
    layers = {
        scheme: {(s.c_in, s.c_out, s.kernel_size, s.stride, s.residual) for s in block_shapes(scheme)}
        for scheme in enumerate_schemes()
    }
    missing, chosen = set().union(*layers.values()), []
    while missing:
        chosen.append(max(layers, key=lambda scheme: len(layers[scheme] & missing)))
        missing -= layers[chosen[-1]]
    return chosen


def schemes_of(run: str) -> list[Scheme]:
    """Schemes that a run trains."""
    if run == "odd":
        return ODD
    return {"covering": covering(), "again": covering()[:3], "default": covering()[1:2], "bf16": covering()[:3]}[run]


def make_images(run: str) -> Images:
    """Noise, 13 images of 8 by 8 pixels: a batch of 8 and a shorter one."""
    generator = torch.Generator().manual_seed(3)
    side = 7 if run == "odd" else 8
    pixels = torch.randint(256, (13, 3, side, side), generator=generator).to(torch.uint8)
    labels = torch.randint(10, (13,), generator=generator)
    n_test = 9 if run == "odd" else 8
    return Images(pixels, labels, pixels[:n_test].flip(3), labels[:n_test])


def order_of() -> torch.Tensor:
    """Order of the images, no image in its place."""
    return torch.arange(13).flip(0)


def networks_of(run: str) -> list:
    """Networks that a run begins with; BatchNorms are not the identity, so that errors in them show."""
    networks = [build_seeded(scheme, 5) for scheme in schemes_of(run)]
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for network in networks:
            for block in network.blocks:
                block.bn.weight.mul_(1 + 0.3 * torch.randn(block.bn.weight.shape, generator=generator))
                block.bn.bias.add_(0.3 * torch.randn(block.bn.bias.shape, generator=generator))
            network.linear.weight.mul_(10)
    return networks


def train(run: str) -> dict[str, np.ndarray]:
    """Train for an epoch and evaluate, with the state after every step."""
    from naaplib.training.fused import FusedTrainer

    images = make_images(run)
    blocks = DEFAULT if run == "default" else LARGE
    precision = "bf16" if run == "bf16" else "fp32"
    trainer = FusedTrainer(networks_of(run), [images], RECIPE, "cpu", precision, blocks)
    found: dict[str, np.ndarray] = {}
    real = trainer._step

    def step(size: int) -> None:
        real(size)
        state = trainer.state() | {"gradient": trainer.gradient}
        found.update({f"{name} {size}": value.numpy().copy() for name, value in state.items()})

    trainer._step = step  # type: ignore[method-assign]
    found["losses"] = trainer.train_epoch(order_of(), RATE)
    found["accuracies"] = trainer.evaluate(images.test_images, images.test_labels)
    return found


def main(folder: Path) -> None:
    """Train every run; "again" twice."""
    from triton.runtime import interpreter

    # The interpreter checks all integer sums for overflow, which takes half of its time.
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
    for run in (*RUNS, "again"):
        path = folder / f"{run}.npz"
        np.savez(folder / f"{run}-2.npz" if path.exists() else path, **train(run))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
