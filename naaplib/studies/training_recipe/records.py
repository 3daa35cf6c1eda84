"""Slow work of this chapter: networks trained from two seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.cache import Piece, scratch
from naaplib.sources import ROOT
from naaplib.training import cifar10
from naaplib.training.recipe import PUBLISHED
from naaplib.training.single import train_networks

OWN, OTHER = "published seed", "other seed"


def pieces(
    *, images_file: str, model_ids: Sequence[int], seed: int, other_seed: int, n_epochs: int, n_jobs: int
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook.

    The other seed is trained for one epoch.
    """
    reads = partial(cifar10.files, images_file)
    facts = {"model_ids": list(model_ids)}
    return [
        Piece(
            name,
            facts | {"seed": one, "n_epochs": n},
            partial(train, model_ids, images_file=images_file, seed=one, n_epochs=n, n_jobs=n_jobs),
            reads,
        )
        for name, one, n in ((OWN, seed, n_epochs), (OTHER, other_seed, 1))
    ]


def train(model_ids: Sequence[int], *, images_file: str, seed: int, n_epochs: int, n_jobs: int) -> pd.DataFrame:
    """Train networks by the published recipe, each in one thread of one process.

    A training that was stopped resumes from its checkpoints in the scratch folder of the record.

    Parameters
    ----------
    model_ids : sequence of int
        Positions among the 440 schemes, from 1.
    images_file : str
        As for `naaplib.training.cifar10.files`.
    seed : int
        Seed of weights and of the order of images.
    n_epochs, n_jobs : int

    Returns
    -------
    DataFrame
        As `naaplib.training.single.train_networks` returns it.
    """
    schemes = dict(enumerate(enumerate_schemes(), start=1))
    images = cifar10.load_npz(ROOT / images_file) if images_file else cifar10.load()
    chosen = {model_id: schemes[model_id] for model_id in model_ids}
    return train_networks(
        chosen, images, recipe=PUBLISHED, seed=seed, n_epochs=n_epochs, folder=scratch(), n_jobs=n_jobs
    )
