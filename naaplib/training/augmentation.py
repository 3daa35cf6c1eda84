"""Augment batches of images by RandAugment, crops, flips and Cutout.

All random numbers come from a given generator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

MAGNITUDES = 31
PADDING = 4  # pixels on each side


def rand_augment_images(images: Tensor, n: int, *, magnitude: int, group: int, generator: torch.Generator) -> Tensor:
    """Apply n of RandAugment's fourteen transformations to images.

    Each transformation is drawn at random (Cubuk et al. 2020).

    Parameters
    ----------
    images : Tensor of uint8, shape (n_images, 3, side, side)
        Images, which do not change.
    n : int
    magnitude : int
        Strength of the transformations, from 0 to 30.
    group : int
        Number of images that share a transformation; groups are drawn again for each of the n. The distribution for a
        single image does not depend on it. With 1, images are independent.
    generator : torch.Generator
        Generator on the CPU. torch's own generators do not change.

    Returns
    -------
    Tensor, of the same shape and type
    """
    images, step = images.clone(), v2.RandAugment(1, magnitude, MAGNITUDES)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for _ in range(n):
            for rows in torch.randperm(len(images)).split(group):
                images[rows] = step(images[rows])
    return images


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad, crop and flip each of the normalised images (n, 3, side, side) at random."""
    n, _, side, _ = images.shape
    padded = functional.pad(images, [PADDING] * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator)
    is_flipped = torch.rand((n, 1), generator=generator) < 0.5
    along = torch.arange(side)
    rows = (top + along)[:, :, None]
    columns = (left + torch.where(is_flipped, along.flip(0), along))[:, None, :]
    return padded[torch.arange(n)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """Set a random square of half the side to 0 in each image (DeVries & Taylor 2017).

    Images are normalised, (n, 3, side, side). The centre may be any pixel, so that the square may exceed the image.
    """
    n, _, side, _ = images.shape
    middle = torch.randint(side, (2, n, 1), generator=generator)
    offset = torch.arange(side) - middle
    is_hidden = (offset >= -side // 4) & (offset < side // 4)
    return images.masked_fill((is_hidden[0][:, :, None] & is_hidden[1][:, None, :])[:, None], 0.0)
