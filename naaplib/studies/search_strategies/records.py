"""Slow work of this chapter: guided, early-stopping and training searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.cache import Piece, scratch
from naaplib.search import training_runs
from naaplib.search.training_objective import Setting
from naaplib.sources import ROOT
from naaplib.studies.search_strategies import guided, tables, workers
from naaplib.tables import naap440
from naaplib.training import cifar10

TRAINED, DARTS = "searches that train", "search of the DARTS space"
TUNED = ("RandAugment", "scaled ResNet-18")
OF_DARTS: dict[str, Any] = {"batch_size": 96, "rate": 0.025, "weight_decay": 3e-4}  # the study's, A.4


def pieces(
    *,
    source: str,
    files: Mapping[str, str],
    n_train: Mapping[str, Sequence[int]],
    default_n: Mapping[str, int],
    classify_above: Mapping[str, float],
    largest: Mapping[str, int],
    recipes: Mapping[str, int],
    n_runs: int,
    n_epochs: Sequence[int],
    first_seed: int,
    estimates_file: str,
    epochs_spent: Mapping[str, Sequence[int]],
    eta: int,
    n_repeats: int,
    n_workers: Sequence[int],
    n_parallel: Mapping[str, int],
    trained: Mapping[str, Any],
    n_darts_cells: int,
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    runs = dict.fromkeys(largest, n_runs) | {guided.RECIPES: recipes["n_runs"]}
    longest_of = dict(largest) | {guided.RECIPES: recipes["n_trained"]}
    found = guided.pieces(
        source, files, n_train=n_train, default_n=default_n, classify_above=classify_above, largest=longest_of,
        n_runs=runs, n_epochs=n_epochs, seed=first_seed, device=device, n_jobs=n_jobs,
    )  # fmt: skip
    for name, (longest, whole) in epochs_spent.items():
        facts = {"benchmark": name, "max_budget": longest, "total_budget": whole, "eta": eta, "n_repeats": n_repeats}
        curves = [ROOT / estimates_file] if name == tables.RECORDED else []
        make = partial(
            _strategies,
            name,
            source,
            estimates_file=estimates_file,
            epochs_spent=epochs_spent,
            eta=eta,
            n_repeats=n_repeats,
            n_jobs=n_jobs,
        )
        found.append(Piece(f"strategies/{name}", facts, make, partial(_with_table, source, curves)))
        facts = facts | {"n_repeats": n_parallel[name], "n_workers": list(n_workers)}
        make = partial(
            _workers,
            name,
            source,
            estimates_file=estimates_file,
            epochs_spent=epochs_spent,
            eta=eta,
            n_repeats=n_parallel[name],
            n_workers=n_workers,
            n_jobs=n_jobs,
        )
        found.append(Piece(f"workers/{name}", facts, make, partial(_with_table, source, curves)))
    settings = dict.fromkeys(TUNED, Setting(device=device, **trained))
    facts = {name: asdict(setting) for name, setting in settings.items()} | {"eta": eta, "seed": first_seed}
    images = files["CIFAR-10"]
    make = partial(_trained, cifar10.locate(images), settings, eta=eta, seed=first_seed, n_jobs=n_jobs)
    files_read = partial(cifar10.files, images)
    code = "naaplib.search.training_runs"
    found.append(Piece(TRAINED, facts | {"images": images or "CIFAR-10"}, make, files_read, code=code))
    of_darts = {"DARTS space": Setting(device=device, **trained, **OF_DARTS)}
    facts = {name: asdict(setting) for name, setting in of_darts.items()} | {"n_cells": n_darts_cells}
    facts |= {"eta": eta, "seed": first_seed, "images": images or "CIFAR-10"}
    make = partial(
        _trained, cifar10.locate(images), of_darts, eta=eta, seed=first_seed, n_jobs=n_jobs, n_cells=n_darts_cells
    )
    found.append(Piece(DARTS, facts, make, files_read, code=code))
    return found


def searched(table: pd.DataFrame, at: Sequence[int]) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return what recorded strategies found, as `.tables.run` does, from the record."""
    found = {}
    for key, part in table.groupby(["strategy", "score"], sort=False):
        wide = part.pivot_table(index="repeat", columns="spent", values="found").reindex(columns=list(at)).ffill(axis=1)
        found[str(key[0]), str(key[1])] = wide.to_numpy()
    return found


def _strategies(
    name: str,
    source: str,
    estimates_file: str,
    epochs_spent: Mapping[str, Sequence[int]],
    eta: int,
    n_repeats: int,
    n_jobs: int,
) -> pd.DataFrame:
    """Run every strategy; a row for each change of what a search would return."""
    table, estimates = naap440.read(naap440.find(source)), pd.read_csv(ROOT / estimates_file)
    benchmark = tables.benchmarks(table, estimates, epochs_spent=epochs_spent)[name]
    at = tables.read_at(benchmark)
    rows = []
    for (strategy, score), values in tables.run(
        benchmark, eta, n_repeats=n_repeats, at=at, folder=scratch(), n_jobs=n_jobs
    ).items():
        for repeat, own in enumerate(values):
            rows += [(strategy, score, repeat, at[i], own[i]) for i in np.flatnonzero(tables.changes(own))]
    return pd.DataFrame(rows, columns=["strategy", "score", "repeat", "spent", "found"])


def _workers(
    name: str,
    source: str,
    estimates_file: str,
    epochs_spent: Mapping[str, Sequence[int]],
    eta: int,
    n_repeats: int,
    n_workers: Sequence[int],
    n_jobs: int,
) -> pd.DataFrame:
    """Run every strategy with several workers: by accuracy and, of recorded networks, by feature histories."""
    table, estimates = naap440.read(naap440.find(source)), pd.read_csv(ROOT / estimates_file)
    benchmark = tables.benchmarks(table, estimates, epochs_spent=epochs_spent)[name]
    scores = [next(iter(benchmark.scores)), *([estimates.columns[5]] if name == tables.RECORDED else [])]
    return workers.searches(
        benchmark, table.set_index("ModelId")["NumMACs"], scores=scores, n_workers=n_workers, n_repeats=n_repeats,
        eta=eta, n_jobs=n_jobs,
    )  # fmt: skip


def _with_table(source: str, others: Sequence[Path]) -> list[Path]:
    return [naap440.find(source), *others]


def _trained(
    images: str, settings: Mapping[str, Setting], eta: int, seed: int, n_jobs: int, **options: int
) -> pd.DataFrame:
    return training_runs.searches(images, settings, eta=eta, seed=seed, folder=scratch(), n_jobs=n_jobs, **options)
