"""Records of trainings of the study's kind: its networks, its main example, cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from naaplib.cache import Piece, scratch
from naaplib.search import training_runs
from naaplib.search.training_objective import Setting
from naaplib.sources import ROOT
from naaplib.tables import nasbench201
from naaplib.training import cifar10

CLASSICS, MAIN_CLAIM, BUDGETS, CELLS = "classics", "main claim", "budgets", "cells"
RATES = {"vgg16": 0.01}  # the study's; of others 0.1
SEED = 0  # of the cells that are drawn


def pieces(
    *,
    images_file: str,
    k: int,
    classics: Sequence[str],
    classic: Mapping[str, Any],
    main_claim: Mapping[str, Any],
    budgets: Sequence[int],
    n_cells: int,
    cell: Mapping[str, Any],
    cells_file: str,
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of these trainings; parameters are those of the notebook.

    `main_claim` has images and network of the study's main example, and its size where it is not as in `classic`.
    Without it there is neither its record nor those of shorter budgets; without `n_cells` none of cells.
    """
    setting = partial(Setting, window=k, device=device)
    images = cifar10.locate(images_file)
    files = partial(cifar10.files, images_file)
    settings = {name: setting(rate=RATES.get(name, 0.1), **classic) for name in classics}
    trained = {name: asdict(one) for name, one in settings.items()}
    found = [
        Piece(CLASSICS, trained, lambda: training_runs.curves(images, settings, folder=scratch(), n_jobs=n_jobs), files)
    ]
    if main_claim:
        size = {name: value for name, value in {**classic, **main_claim}.items() if name not in ("images", "network")}
        name, named = main_claim["network"], main_claim["images"]
        whole = setting(rate=RATES.get(name, 0.1), **size)
        found.append(_one(MAIN_CLAIM, named, name, whole))
        shorter = {n: setting(rate=whole.rate, **size | {"max_budget": n}) for n in budgets}
        found += [_one(budget_name(n), named, name, one) for n, one in shorter.items()]
    if n_cells:
        depth = cell["depth"]
        own = setting(**{name: value for name, value in cell.items() if name != "depth"})
        chosen = draw(cell_accuracies(cells_file), n_cells, seed=SEED)
        facts = {"cells": chosen, "depth": depth} | asdict(own)
        make = partial(_cells, images, chosen, setting=own, depth=depth, n_jobs=n_jobs)
        found.append(Piece(CELLS, facts, make, files, code=training_runs.__name__))
    return found


def budget_name(n_epochs: int) -> str:
    """Return the name of the record of the main example's training of a length."""
    return f"{BUDGETS}/{n_epochs} epochs"


def cell_accuracies(cells_file: str) -> pd.Series:
    """Return what cells reach on CIFAR-10: mean test accuracy after 200 epochs.

    `cells_file` is a CSV file with the columns of `naaplib.tables.nasbench201.nasbench201`; "" is NAS-Bench-201.
    """
    table = pd.read_csv(ROOT / cells_file) if cells_file else nasbench201.nasbench201()
    return nasbench201.accuracies(table)[200, "mean"].dropna().rename("accuracy")


def draw(accuracies: pd.Series, n_cells: int, *, seed: int) -> list[str]:
    """Draw different cells at random, as the study does.

    `accuracies` is as `cell_accuracies` returns it; the cells are in its order.
    """
    rng = np.random.default_rng(seed)
    places = rng.choice(len(accuracies), min(n_cells, len(accuracies)), replace=False)
    return [str(accuracies.index[i]) for i in np.sort(places)]


def _one(record: str, named: str, network: str, setting: Setting) -> Piece:
    """Return the record of one network on the named images."""
    facts = {"images": named, network: asdict(setting)}
    make = partial(_followed, named, {network: setting})
    return Piece(record, facts, make, partial(cifar10.files, named), code=training_runs.__name__)


def _followed(named: str, settings: Mapping[str, Setting]) -> pd.DataFrame:
    return training_runs.curves(cifar10.locate(named), settings, folder=scratch())


def _cells(images: str, chosen: Sequence[str], setting: Setting, depth: int, n_jobs: int) -> pd.DataFrame:
    return training_runs.cell_curves(images, chosen, setting=setting, n_cells=depth, folder=scratch(), n_jobs=n_jobs)
