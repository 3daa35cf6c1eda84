"""Images with labels: a folder of them in two parts, and draws of transforms that follow from image and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from naaplib.architectures.schemes import require_whole

PARTS = {  # folders with these names are parts of a dataset
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout",
}  # fmt: skip
MARGIN = 8 / 7  # a held-out image's shorter side, in sides of the square that is cut from it: 256 / 224


class Labelled(Protocol):
    """A dataset as torchvision's are: an image and its class, from 0, for each row."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> tuple[Any, int]: ...


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
        As `split` does, if the folders are parts of a dataset, such as train and val, and no classes, or if
        `image_side` is not a whole number of 1 or more.
    """
    require_whole(image_side=image_side)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name one that holds a folder of images for each class")
    _check_classes(Path(folder))
    crop = v2.Compose([v2.RandomResizedCrop(image_side), v2.RandomHorizontalFlip()])
    centre = v2.Compose([v2.Resize(round(MARGIN * image_side)), v2.CenterCrop(image_side)])
    images, whole = ImageFolder(str(folder), crop), ImageFolder(str(folder), centre)
    train, held = split(images.targets, images.classes, share, seed)
    return Subset(images, train), Subset(whole, held), images.classes


def _check_classes(folder: Path) -> None:
    """Raise ValueError if folders in a folder are parts of a dataset, each with the folders of the classes."""
    folders = [one for one in folder.iterdir() if one.is_dir()]
    named = [one for one in folders if one.name.casefold() in PARTS]
    parts = named if len(named) == len(folders) else [one for one in named if any(map(Path.is_dir, one.iterdir()))]
    if parts:
        raise ValueError(
            f"{', '.join(sorted(one.name for one in parts))} in {folder} are parts of a dataset, as it seems, and no "
            f"classes: name one of them, {min(parts)}, from which a part is held out; or leave parts and folders below "
            f"them out"
        )


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


class LabelledTensors:
    """Images and labels by epoch and row; what is drawn for one depends on these alone, whoever reads it and when.

    Parameters
    ----------
    images : dataset
        Of tensors or PIL images, which become tensors of uint8, (channels, height, width).
    n_classes : int
    seeds : sequence of int
        What the draws follow from besides.
    """

    def __init__(self, images: Labelled, n_classes: int, seeds: Sequence[int]) -> None:
        self.images, self.n_classes, self.seeds = images, n_classes, seeds

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, row = place
        with drawing(*self.seeds, epoch, row):
            image, label = self.images[row]
        if not 0 <= label < self.n_classes:
            raise ValueError(f"image {row} has label {label}; labels must be from 0 to {self.n_classes - 1}")
        return image if isinstance(image, Tensor) else pil_to_tensor(image), int(label)


@contextmanager
def drawing(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Let torch's generators, a GPU's if one is named, begin where the numbers say; then they are as before."""
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(word(*numbers))  # not torch.manual_seed: it would reseed all GPUs
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(word(*numbers))
        yield


def word(*numbers: int) -> int:
    """A seed that follows from numbers of 0 or more."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
