"""Train a population of one's own schemes: one call, resumable, a tidy table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from joblib import effective_n_jobs

from naaplib.architectures.schemes import Scheme, Space, check_scheme, enumerate_schemes, from_json, identifier
from naaplib.cache import writing
from naaplib.training import cifar10, compiled
from naaplib.training.cifar10 import Images
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, train_units
from naaplib.training.recipe import PUBLISHED, SEED, Recipe

Schemes = Space | Mapping[int, Scheme] | Sequence[Scheme] | str | Path


def train_population(
    schemes: Schemes,
    images: Images | str | Path | None = None,
    *,
    n_epochs: int = 9,
    seed: int | Sequence[int] = SEED,
    folder: str | Path | None = None,
    recipe: Recipe = PUBLISHED,
    n_holdout: int = 0,
    device: str = "auto",
    precision: str = "fp32",
    trainer: str = "auto",
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Train all networks of a space by NAAP-440's recipe, and return accuracies.

    It is the front door of `naaplib.training.distributed.train_units`, which also trains on clusters.

    Parameters
    ----------
    schemes : Space, list of Scheme, mapping from ModelId to Scheme, or path
        Networks to train; a path is that of a JSON file as `naaplib.architectures.schemes.to_json` writes it.
    images : Images, or text or path, optional
        Images, "CIFAR-10", "CIFAR-100", or an ``.npz`` file for `naaplib.training.cifar10.load_npz`; by default
        CIFAR-10. Networks have ten outputs, or more if the images have more classes.
    n_epochs : int
        Number of epochs, of the 90 of the recipe.
    seed : int or sequence of int
        Seeds of weights and order of images; each network is trained with each.
    folder : path, optional
        Folder of checkpoints. The same call resumes from it, perhaps with more epochs; None keeps nothing.
    recipe : Recipe
    n_holdout : int
        Number of validation images: the last training images.
    device : str
        "auto" is the first GPU if there is one, else the CPU.
    precision : {"fp32", "tf32", "bf16", "fp64"}
    trainer : {"auto", "compiled", "torch"}
        "auto" is "compiled" on a CPU with a C++ compiler, which is three times as fast, else "torch".
    n_jobs : int, optional
        Parallel processes; by default one a core, or one on a GPU. It has no effect on the result.

    Returns
    -------
    DataFrame
        One row per network, seed and epoch: ModelId (from 1, or the mapping's), scheme (its short name), seed, epoch,
        loss_mean, loss_median, accuracy (on the test images) and, with validation images, holdout_accuracy.

    Raises
    ------
    ValueError
        If there are no schemes, a file has another form, or the folder is of another run.
    FileNotFoundError
        If there is no such file of images.
    naaplib.sources.MissingData
        If a named dataset is not on this machine; the message says how to get it.
    FloatingPointError
        If a training diverges.

    Examples
    --------
    >>> import torch
    >>> from naaplib.architectures.schemes import BlockOptions
    >>> space = Space((BlockOptions((3,), (4, 8), (2,)), BlockOptions((1, 3), (8,), (2,))), min_blocks=2, max_strided=2)
    >>> labels = torch.arange(80) % 10
    >>> pixels = (20 * labels[:, None, None, None] + torch.randint(40, (80, 3, 8, 8))).to(torch.uint8)
    >>> images = Images(pixels[:60], labels[:60], pixels[60:], labels[60:])
    >>> table = train_population(space, images, n_epochs=2, trainer="torch", n_jobs=1)
    >>> table.groupby("scheme", sort=False)["epoch"].max().to_dict()
    {'k3w4s2-k1w8s2': 2, 'k3w4s2-k3w8s2': 2, 'k3w8s2-k1w8s2': 2, 'k3w8s2-k3w8s2': 2}
    """
    named = read_schemes(schemes)
    seeds = [seed] if isinstance(seed, int) else list(seed)
    kind = resolve(device).type
    if images is None or images in cifar10.DATA_SETS:
        cifar10.batches(name=str(images or "CIFAR-10"))  # raises MissingData before anything is trained
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()) if folder is None else folder).expanduser()
        work = Work(
            named,
            n_epochs,
            recipe=recipe,
            images_file=_file(images, place),
            device=device,
            precision=precision,
            n_holdout=n_holdout,
            trainer=best_trainer(kind, precision) if trainer == "auto" else trainer,
        )
        jobs = (1 if kind != "cpu" else effective_n_jobs(-1)) if n_jobs is None else effective_n_jobs(n_jobs)
        records, _ = train_units(work, seeds, folder=place, n_jobs=jobs)
    names = records["ModelId"].map({model_id: identifier(scheme) for model_id, scheme in named.items()})
    records.insert(0, "scheme", names)
    first = ["ModelId", "scheme", "seed", "epoch"]
    return records[[*first, *(name for name in records if name not in first)]]


def read_schemes(schemes: Schemes) -> dict[int, Scheme]:
    """Return schemes by ModelId, from 1 where they have none."""
    if isinstance(schemes, str | Path):
        schemes = from_json(Path(schemes).expanduser().read_text(encoding="utf-8"))
    if isinstance(schemes, Space):
        schemes = enumerate_schemes(schemes)
    named = dict(schemes) if isinstance(schemes, Mapping) else dict(enumerate(schemes, start=1))
    if not named:
        raise ValueError("there are no schemes to train")
    for scheme in named.values():
        check_scheme(scheme)
    return named


def best_trainer(kind: str, precision: str = "fp32") -> str:
    """Return "compiled" where it can train, else "torch"."""
    if kind != "cpu" or precision != "fp32":
        return "torch"
    try:
        compiled.libraries([None])
    except compiled.NoCompiler:
        return "torch"
    return "compiled"


def _file(images: Images | str | Path | None, folder: Path) -> str:
    """Return the file or the name of the images, which jobs read; "" is CIFAR-10."""
    if images is None or images == "CIFAR-10":
        return ""
    if images in cifar10.DATA_SETS:
        return str(images)
    if not isinstance(images, Images):
        path = Path(images).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; images are CIFAR-10, CIFAR-100 or an .npz file")
        return str(path)
    path = folder / f"images-{images.digest()[:16]}.npz"
    if not path.exists():
        arrays: dict[str, Any] = {one.name: getattr(images, one.name).cpu().numpy() for one in fields(images)}
        with writing(path) as stream:
            np.savez(stream, **arrays)
    return str(path)
