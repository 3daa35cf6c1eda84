"""A folder of images, one folder for each class, as images to train on and images held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

MARGIN = 8 / 7  # a held-out image's shorter side, in sides of the square that is cut from it: 256 / 224


def read(
    folder: str | Path, image_side: int = 224, share: float = 0.2, seed: int = 0
) -> tuple[Subset, Subset, list[str]]:
    """Images to train on, images held out, and the names of the classes, in whose order these are numbered.

    The first are cropped and resized at random and mirrored half of the time, by torchvision's defaults; the others
    are resized to 8/7 of `image_side`, of which the central square is taken. All are PIL images in RGB.

    Parameters
    ----------
    folder : path
        In it is a folder for each class, with images below.
    image_side : int
        Pixels.
    share, seed
        As for `split`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or one of a class has no images.
    ValueError
        As `split` does.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name one that holds a folder of images for each class")
    crop = v2.Compose([v2.RandomResizedCrop(image_side), v2.RandomHorizontalFlip()])
    centre = v2.Compose([v2.Resize(round(MARGIN * image_side)), v2.CenterCrop(image_side)])
    images, whole = ImageFolder(str(folder), crop), ImageFolder(str(folder), centre)
    train, held = split(images.targets, images.classes, share, seed)
    return Subset(images, train), Subset(whole, held), images.classes


def split(labels: Sequence[int], classes: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows held out, each in ascending order, in the same proportion from every class.

    Parameters
    ----------
    labels : sequence of int
        Of the rows, 0 to len(classes) - 1.
    classes : sequence of str
    share : float
        Of the rows of each class that are held out: rounded, but one at least on either side.
    seed : int

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, or a class has less than two rows.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to hold out is {share}; it must be above 0 and below 1")
    generator = torch.Generator().manual_seed(seed)
    held: list[int] = []
    for label, name in enumerate(classes):
        rows = (torch.tensor(labels) == label).nonzero().flatten()
        if len(rows) < 2:
            raise ValueError(
                f"class {name!r} has {len(rows)} image(s); it needs at least 2, one to train on and one to hold out"
            )
        n_held = min(max(round(share * len(rows)), 1), len(rows) - 1)
        held += rows[torch.randperm(len(rows), generator=generator)[:n_held]].tolist()
    return sorted(set(range(len(labels))) - set(held)), sorted(held)
