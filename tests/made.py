"""Small made things to train, for tests."""

import torch

from naaplib.architectures.schemes import Block, Scheme, block_shapes, enumerate_schemes
from naaplib.sources import ROOT
from naaplib.training.cifar10 import Images
from naaplib.training.plan import Plan, Run
from naaplib.training.recipe import Recipe

SCHEME = (Block(3, 4, 2), Block(3, 6, 2), Block(1, 6, 1, residual=True))
SHORT = Recipe(n_epochs=4, batch_size=16)
TINY = Plan(  # three jobs of two networks or one, the longest of three epochs
    (Run(1, "test", 2), Run(5, "all", 1), Run(5, "all", 3)),
    {7: SCHEME, 3: SCHEME[:2], 5: SCHEME[:1]},
    test_networks=(7, 3),
    recipe=SHORT,
    images_file=str(ROOT / "tests" / "data" / "images-made.npz"),
    size=2,
)


def make_images(n_train: int = 40, n_test: int = 30, seed: int = 0) -> Images:
    """Noise of 8 by 8 pixels whose brightness tells the class, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n_train + n_test,), generator=generator)
    noise = torch.randint(106, (n_train + n_test, 3, 8, 8), generator=generator)
    pixels = (noise + 15 * labels[:, None, None, None]).to(torch.uint8)
    return Images(pixels[:n_train], labels[:n_train], pixels[n_train:], labels[n_train:])


def covering_schemes() -> list[Scheme]:
    """Few of the 440 schemes that have every block, by place and shape, that any has: greedily what adds most."""
    blocks = {scheme: set(enumerate(block_shapes(scheme))) for scheme in enumerate_schemes()}
    missing = set().union(*blocks.values())
    chosen = []
    while missing:
        chosen.append(max(blocks, key=lambda scheme: len(blocks[scheme] & missing)))
        missing -= blocks[chosen[-1]]
    return chosen
