"""One batch of images: from a folder of them, or of noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader
from torchvision.transforms import v2

from naaplib.architectures.schemes import require_whole
from naaplib.training.image_folders import MARGIN

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel, as torchvision's models expect


def noise(n_images: int, *, image_side: int = 224, seed: int = 0) -> Tensor:
    """Draw images of normal noise, shape (n_images, 3, image_side, image_side).

    >>> noise(2, image_side=8).shape
    torch.Size([2, 3, 8, 8])
    """
    require_whole(n_images=n_images, image_side=image_side)
    return torch.randn(n_images, 3, image_side, image_side, generator=torch.Generator().manual_seed(seed))


def read(
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
