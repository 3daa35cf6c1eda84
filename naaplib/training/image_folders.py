"""Folders of images: two parts with labels to train on, or one batch to look at."""

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
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from naaplib.architectures.schemes import require_whole

PARTS = {  # names of folders that are parts of a dataset
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout",
}  # fmt: skip
MARGIN = 8 / 7  # shorter side of a validation image, in sides of its square crop: 256 / 224

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel, as torchvision's models expect


class Labelled(Protocol):
    """A dataset in torchvision's form: an image and its class, from 0, for each row."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> tuple[Any, int]: ...


def read(
    folder: str | Path, image_side: int = 224, *, share: float = 0.2, seed: int = 0
) -> tuple[Subset, Subset, list[str]]:
    """Read training images, validation images, and the names of the classes.

    Classes are numbered in the order of names. Training images get random resized crops and flips, by torchvision's
    defaults; validation images are resized to 8/7 of `image_side` and cropped to the central square. All are PIL images
    in RGB.

    Parameters
    ----------
    folder : path
        Folder with one folder of images per class.
    image_side : int
        Side of the images in pixels.
    share, seed
        As in `split`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a class has no images.
    ValueError
        As in `split`; if the folders are parts of a dataset, such as train and val, instead of classes; or if
        `image_side` is not an integer of 1 or more.
    """
    require_whole(image_side=image_side)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name one that holds a folder of images for each class")
    _check_classes(Path(folder))
    crop = v2.Compose([v2.RandomResizedCrop(image_side), v2.RandomHorizontalFlip()])
    centre = v2.Compose([v2.Resize(round(MARGIN * image_side)), v2.CenterCrop(image_side)])
    images, whole = ImageFolder(str(folder), crop), ImageFolder(str(folder), centre)
    train, held = split(images.targets, images.classes, share=share, seed=seed)
    return Subset(images, train), Subset(whole, held), images.classes


def _check_classes(folder: Path) -> None:
    """Raise ValueError if the folders are parts of a dataset instead of classes."""
    folders = [one for one in folder.iterdir() if one.is_dir()]
    named = [one for one in folders if one.name.casefold() in PARTS]
    parts = named if len(named) == len(folders) else [one for one in named if any(map(Path.is_dir, one.iterdir()))]
    if parts:
        raise ValueError(
            f"{', '.join(sorted(one.name for one in parts))} in {folder} are parts of a dataset, as it seems, and no "
            f"classes: name one of them, {min(parts)}, from which a part is held out; or leave parts and folders below "
            f"them out"
        )


def split(labels: Sequence[int], classes: Sequence[str], *, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Split rows into training and validation, in the same proportion per class.

    Parameters
    ----------
    labels : sequence of int
        Class numbers of the rows, 0 to len(classes) - 1.
    classes : sequence of str
    share : float
        Share of each class for validation, rounded to at least one row in either part.
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
    """Images and labels by epoch and row, with deterministic augmentation.

    Augmentation is a function of (seeds, epoch, row), independent of worker and order.

    Parameters
    ----------
    images : dataset
        Dataset of tensors or PIL images, which become tensors of uint8, (channels, height, width).
    n_classes : int
    seeds : sequence of int
        Seeds of the augmentation.
    """

    def __init__(self, images: Labelled, n_classes: int, *, seeds: Sequence[int]) -> None:
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
    """Seed torch's generators from numbers inside the context, and restore them."""
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(word(*numbers))  # not torch.manual_seed: it would reseed all GPUs
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(word(*numbers))
        yield


def word(*numbers: int) -> int:
    """Derive a seed from numbers of 0 or more."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def noise(n_images: int, *, image_side: int = 224, seed: int = 0) -> Tensor:
    """Draw images of normal noise, shape (n_images, 3, image_side, image_side).

    >>> noise(2, image_side=8).shape
    torch.Size([2, 3, 8, 8])
    """
    require_whole(n_images=n_images, image_side=image_side)
    return torch.randn(n_images, 3, image_side, image_side, generator=torch.Generator().manual_seed(seed))


def read_batch(
    folder: str | Path, n_images: int, *, image_side: int = 224, seed: int = 0
) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read a random batch of images from a folder, with labels if it has classes.

    Parameters
    ----------
    folder : path
        A folder with one folder of images for each class, at any depth below it; or a folder of images, without labels.
    n_images : int
        Largest number of images; a smaller folder gives all that it has.
    image_side : int
        Images are resized to 8/7 of this side and cropped to the central square, in pixels.
    seed : int
        Seed of the choice.

    Returns
    -------
    images : Tensor, shape (n, 3, image_side, image_side)
        Standardised by channel with ImageNet's means and standard deviations.
    labels : Tensor of int, shape (n,), or None
        Numbers of the classes in the order of their names.
    classes : list of str

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    """
    require_whole(n_images=n_images, image_side=image_side)
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: name one that holds images, or a folder of images per class")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not paths:
        raise FileNotFoundError(f"{folder} holds no image: looked for {', '.join(IMG_EXTENSIONS)}, also in its folders")
    parts = [path.relative_to(root).parts for path in paths]
    classes = sorted({one[0] for one in parts if len(one) > 1})
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))[:n_images].tolist()
    transform = v2.Compose([
        v2.PILToTensor(), v2.Resize(round(MARGIN * image_side), antialias=True), v2.CenterCrop(image_side),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, SD),
    ])  # fmt: skip
    images = torch.stack([transform(_opened(paths[i])) for i in order])
    if not classes or any(len(one) == 1 for one in parts):
        return images, None, []
    return images, torch.tensor([classes.index(parts[i][0]) for i in order]), classes


def _opened(path: Path) -> Any:
    try:
        return default_loader(str(path))
    except OSError as error:
        raise OSError(f"{path} cannot be read as an image: {error}. Remove it, or replace it") from error
