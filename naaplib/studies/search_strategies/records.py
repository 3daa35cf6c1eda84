"""Slow work of this chapter: guided searches, repeated searches on curves, searches that train."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.cache import Piece, scratch
from naaplib.search import guided, guided_runs, training_runs
from naaplib.search.guided_runs import RANDOM, Search, Space
from naaplib.search.training_objective import Setting
from naaplib.sources import ROOT
from naaplib.studies.search_strategies import tables, tasks
from naaplib.tables import naap440
from naaplib.training import cifar10
from naaplib.training.devices import resolve

TRAINED = "searches that train"


def pieces(
    *,
    source: str,
    files: Mapping[str, str],
    n_train: Mapping[str, Sequence[int]],
    default_n: Mapping[str, int],
    classify_above: Mapping[str, float],
    largest: Mapping[str, int],
    n_runs: int,
    n_epochs: Sequence[int],
    first_seed: int,
    estimates_file: str,
    epochs_spent: Mapping[str, Sequence[int]],
    eta: int,
    n_repeats: int,
    trained: Mapping[str, Any],
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    named = tasks.searches(n_train, default_n, n_epochs=n_epochs, classify_above=classify_above, device=device)
    found = []
    for name, searches in named.items():
        read = partial(_encoded, name, largest[name], source, json.dumps(dict(files)))
        for search in searches:
            facts = _describe(searches[search]) | {
                "benchmark": name, "search": search, "n_trained": largest[name], "n_runs": n_runs, "seed": first_seed,
                "device": resolve(device).type,
            }  # fmt: skip
            make = partial(_guided, read, search, searches[search], n_runs, first_seed, n_jobs)
            found.append(Piece(guided_name(name, search), facts, make, partial(tasks.paths, name, source, files)))
    for name, (longest, whole) in epochs_spent.items():
        facts = {"benchmark": name, "max_budget": longest, "total_budget": whole, "eta": eta, "n_repeats": n_repeats}
        curves = [ROOT / estimates_file] if name == tasks.RECORDED else []
        make = partial(_strategies, name, source, estimates_file, epochs_spent, eta, n_repeats, n_jobs)
        found.append(Piece(f"strategies/{name}", facts, make, partial(_with_table, source, curves)))
    settings = dict.fromkeys(training_runs.OBJECTIVES, Setting(device=device, **trained))
    facts = {name: asdict(setting) for name, setting in settings.items()} | {"eta": eta, "seed": first_seed}
    images = files["CIFAR-10"]
    make = partial(_trained, str(ROOT / images) if images else "", settings, eta, first_seed, n_jobs)
    found.append(Piece(TRAINED, facts | {"images": images or "CIFAR-10"}, make, lambda: cifar10.files(images)))
    return found


def guided_name(benchmark: str, search: str) -> str:
    """Return the name of the record of one kind of guided search."""
    return f"guided/{benchmark}/{search}"


def orders(
    space: Space, named: Mapping[str, Search], read: Mapping[str, pd.DataFrame], *, n_runs: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the orders of random search and of recorded searches, (n_runs, n_trained) each.

    `read` has the records by name. A record holds what a search trains after its training set, which random search
    would train as well.
    """
    random = guided.random_orders(len(space.signal), space.n_trained, n_runs, seed)
    found = {RANDOM: random}
    for name, search in named.items():
        chosen = read[guided_name(space.name, name)].to_numpy()
        found[name] = np.concatenate([random[:, : search.n_train], chosen], axis=1)
    return found


def searched(table: pd.DataFrame, at: Sequence[int]) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return what recorded strategies found, as `.tables.run` does, from the record."""
    found = {}
    for key, part in table.groupby(["strategy", "score"], sort=False):
        wide = part.pivot_table(index="repeat", columns="spent", values="found").reindex(columns=list(at)).ffill(axis=1)
        found[str(key[0]), str(key[1])] = wide.to_numpy()
    return found


def _describe(search: Search) -> dict[str, Any]:
    numbers = search.predictor.get_params()
    return {"n_train": search.n_train} | {name: numbers[name] for name in numbers if name not in ("seed", "device")}


@functools.cache
def _encoded(name: str, n_trained: int, source: str, files: str) -> Space:
    return tasks.space(name, n_trained, source=source, files=json.loads(files), is_encoded=True)


def _guided(read: Callable[[], Space], name: str, search: Search, n_runs: int, seed: int, n_jobs: int) -> pd.DataFrame:
    """Run one kind of guided search; a row per run, a column per training after the training set."""
    order = guided_runs.run(read(), {name: search}, n_runs, seed, scratch(), n_jobs)[name]
    numbers = range(search.n_train + 1, order.shape[1] + 1)
    return pd.DataFrame(order[:, search.n_train :], columns=[f"training {number}" for number in numbers])


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
    ground = tasks.grounds(table, estimates, epochs_spent=epochs_spent)[name]
    at = tasks.read_at(ground)
    rows = []
    for (strategy, score), values in tables.run(ground, eta, n_repeats, at, scratch(), n_jobs).items():
        for repeat, own in enumerate(values):
            before = np.concatenate([[np.nan], own[:-1]])
            is_new = np.isfinite(own) & (own != before)
            rows += [(strategy, score, repeat, at[i], own[i]) for i in np.flatnonzero(is_new)]
    return pd.DataFrame(rows, columns=["strategy", "score", "repeat", "spent", "found"])


def _with_table(source: str, others: Sequence[Path]) -> list[Path]:
    return [naap440.find(source), *others]


def _trained(images: str, settings: Mapping[str, Setting], eta: int, seed: int, n_jobs: int) -> pd.DataFrame:
    return training_runs.searches(images, settings, eta=eta, seed=seed, folder=scratch(), n_jobs=n_jobs)
