"""Augmentation of batches of images: RandAugment, crops, flips and Cutout, drawn from a generator that is given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

MAGNITUDES = 31
PADDING = 4  # pixels on each side


def rand_augment_images(images: Tensor, n: int, magnitude: int, group: int, generator: torch.Generator) -> Tensor:
    """Apply n of RandAugment's fourteen transformations to images, each drawn anew (Cubuk et al. 2020).

    Parameters
    ----------
    images : Tensor of uint8, shape (n_images, 3, side, side)
        Left as they are.
    n : int
    magnitude : int
        From 0 to 30, the strongest.
    group : int
        Images that are transformed alike, drawn anew for each of the n: an image is transformed as if alone, whatever
        the size of groups, and only what it has in common with others depends on it. 1: nothing.
    generator : torch.Generator
        On the CPU. torch's own generators are left as they are.

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
    """Normalised images (n, 3, side, side), each padded with zeros, cropped somewhere, and flipped or not."""
    n, _, side, _ = images.shape
    padded = functional.pad(images, [PADDING] * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator)
    is_flipped = torch.rand((n, 1), generator=generator) < 0.5
    along = torch.arange(side)
    rows = (top + along)[:, :, None]
    columns = (left + torch.where(is_flipped, along.flip(0), along))[:, None, :]
    return padded[torch.arange(n)[:, None, None], :, rows, columns].permute(0, 3, 1, 2).contiguous()


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """Normalised images (n, 3, side, side), a square of half the side set to 0 in each (DeVries & Taylor 2017).

    Its middle may be any pixel, so that it may reach beyond the image.
    """
    n, _, side, _ = images.shape
    middle = torch.randint(side, (2, n, 1), generator=generator)
    offset = torch.arange(side) - middle
    is_hidden = (offset >= -side // 4) & (offset < side // 4)
    return images.masked_fill((is_hidden[0][:, :, None] & is_hidden[1][:, None, :])[:, None], 0.0)
