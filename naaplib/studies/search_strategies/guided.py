"""Guided searches of this chapter: benchmarks, names, and records."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import sources
from naaplib.architectures import cells, graphs, schemes
from naaplib.cache import Piece, scratch
from naaplib.search import guided, guided_runs
from naaplib.search.guided_runs import RANDOM, Search, Space
from naaplib.tables import derived, graph_benchmarks, naap440, nasbench201
from naaplib.training.devices import resolve

CELLS, SCHEMES, SMALL, RECIPES = "NAS-Bench-201", "NAAP-440", "NAS-Bench-101", "NAS-Bench-NLP"


def paths(name: str, source: str, *, files: Mapping[str, str]) -> list[Path]:
    """Return the files that a benchmark is read from.

    Parameters
    ----------
    name : str
        One of `CELLS`, `SCHEMES`, `SMALL`, `RECIPES`.
    source : str
        As for `.naap440.find`.
    files : mapping from name to str
        Paths of other files, from the project's root; "" is the public one.
    """
    if name == SCHEMES:
        return [naap440.find(source)]
    if files[name]:
        return [sources.ROOT / files[name]]
    if name == CELLS:
        return [sources.find(file) for file in nasbench201.NASBENCH201]
    return [derived.find({SMALL: graph_benchmarks.NASBENCH101, RECIPES: graph_benchmarks.NASBENCH_NLP}[name])]


def space(name: str, n_trained: int, *, source: str, files: Mapping[str, str], is_encoded: bool = False) -> Space:
    """Read one benchmark for guided searches.

    Parameters
    ----------
    name : str
        `CELLS`: searches see one training of 200 epochs, and are scored by the mean over trainings. `SCHEMES` and
        `SMALL`: they see what they are scored by. `RECIPES`: they see the validation loss after the last epoch, and are
        scored by the test loss, both with a minus sign; runs that diverged are left out, as in the study.
    n_trained : int
        Largest budget in trainings.
    source, files
        As for `paths`.
    is_encoded : bool
        True adds the encodings that predictors read, which takes some seconds.
    """
    given = paths(name, source, files=files)
    encodings: tuple = ()
    if name == CELLS:
        table = pd.read_csv(given[0]) if files[name] else nasbench201.nasbench201()
        accuracies = nasbench201.accuracies(table)
        every_cell = [cells.from_string(text) for text in accuracies.index]
        seen, true = (accuracies[200, runs].to_numpy() for runs in ("single", "mean"))
        costs = guided_runs.training_costs(cells.sizes(every_cell)["macs"], 200)
        if is_encoded:
            encodings = graphs.of_cells(every_cell), graphs.of_cells(every_cell, prune=True)
    elif name == SCHEMES:
        table = naap440.read(given[0])
        seen = true = table["MaxAccuracy"].to_numpy()
        costs = guided_runs.training_costs(table["NumMACs"], naap440.N_EPOCHS)
        if is_encoded:
            listed = schemes.enumerate_schemes()
            encodings = (graphs.of_schemes([listed[i - 1] for i in table["ModelId"]]),) * 2
    elif name == RECIPES:
        last = graph_benchmarks.nasbench_nlp(given[0]).query("status == 'OK'").groupby("model", sort=False).nth(-1)
        seen, true = (-last[column].to_numpy() for column in ("validation_loss", "test_loss"))
        costs = np.ones(len(last))
        if is_encoded:
            encodings = (graphs.of_recipes(json.loads(text) for text in last["architecture"]),) * 2
    else:
        table = graph_benchmarks.nasbench101(given[0]).query("uniform")
        seen = true = table["accuracy"].to_numpy()
        costs = np.ones(len(table))
        if is_encoded:
            encodings = (graphs.of_nasbench101(table["architecture"]),) * 2
    return Space(name, encodings, signal=seen, judged=true, costs=costs, n_trained=n_trained)


def searches(
    n_train: Mapping[str, Sequence[int]],
    default_n: Mapping[str, int],
    *,
    n_epochs: Sequence[int],
    classify_above: Mapping[str, float],
    device: str,
) -> dict[str, dict[str, Search]]:
    """Return the guided searches of each benchmark by name.

    Parameters
    ----------
    n_train, default_n, classify_above : mapping from benchmark
        As for `.guided_runs.searches`.
    n_epochs : sequence of two int
        As there.
    device : str
        As there.
    """
    epochs = n_epochs[0], n_epochs[1]
    found = {
        name: guided_runs.searches(
            n_train[name], n, n_epochs=epochs, classify_above=classify_above[name], device=device
        )
        for name, n in default_n.items()
    }
    fewest = default_n[CELLS]
    for name in (SMALL, RECIPES):
        found[name] = guided_runs.searches(
            [fewest], fewest, n_epochs=epochs, classify_above=None, kinds=False, device=device
        )
    del found[SCHEMES]["GCN, faithful"]  # in the chapter before it is as good as the tuned one there, and it is slow
    return found


def pieces(
    source: str,
    files: Mapping[str, str],
    *,
    n_train: Mapping[str, Sequence[int]],
    default_n: Mapping[str, int],
    classify_above: Mapping[str, float],
    largest: Mapping[str, int],
    n_runs: Mapping[str, int],
    n_epochs: Sequence[int],
    seed: int,
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return one record for each kind of guided search of each benchmark.

    `n_runs` is by benchmark, as `largest` is.
    """
    named = searches(n_train, default_n, n_epochs=n_epochs, classify_above=classify_above, device=device)
    found = []
    for name, own in named.items():
        read = partial(_encoded, name, largest[name], source=source, files=json.dumps(dict(files)))
        for kind, search in own.items():
            facts = _describe(search) | {
                "benchmark": name, "search": kind, "n_trained": largest[name], "n_runs": n_runs[name], "seed": seed,
                "device": resolve(device).type,
            }  # fmt: skip
            make = partial(_guided, read, kind, search=search, n_runs=n_runs[name], seed=seed, n_jobs=n_jobs)
            reads = partial(paths, name, source, files=files)
            found.append(Piece(record_name(name, kind), facts, make, reads, code=__name__))
    return found


def record_name(benchmark: str, search: str) -> str:
    """Return the name of the record of one kind of guided search."""
    return f"guided/{benchmark}/{search}"


def orders(
    space: Space, named: Mapping[str, Search], *, read: Mapping[str, pd.DataFrame], n_runs: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return orders (n_runs, n_trained) of random search and of recorded searches.

    `read` has the records by name. A record holds what a search trains after its training set, which random search
    would train as well.
    """
    random = guided.random_orders(len(space.signal), space.n_trained, n_runs=n_runs, seed=seed)
    found = {RANDOM: random}
    for name, search in named.items():
        chosen = read[record_name(space.name, name)].to_numpy()
        found[name] = np.concatenate([random[:, : search.n_train], chosen], axis=1)
    return found


def losses(found: pd.DataFrame) -> pd.DataFrame:
    """Turn tables of `.guided_runs` on minus the losses into tables of losses.

    Parameters
    ----------
    found : DataFrame
        As `.guided_runs.curves` or `.guided_runs.gains` returns it. A gain stays a gain: the difference by which the
        loss is lower.

    Returns
    -------
    DataFrame
        The same columns, with "loss" for "mean" or "found" and "random_loss" for "random"; low and high of a mean
        change places.
    """
    table = found.copy()
    if "gain" in table:
        names = {"found": "loss", "random": "random_loss"}
    else:
        names = {"mean": "loss"}
        table[["low", "high"]] = -table[["high", "low"]].to_numpy()
    table[list(names)] *= -1
    return table.rename(columns=names)


def _describe(search: Search) -> dict[str, Any]:
    numbers = search.predictor.get_params()
    return {"n_train": search.n_train} | {name: numbers[name] for name in numbers if name not in ("seed", "device")}


@functools.cache
def _encoded(name: str, n_trained: int, source: str, files: str) -> Space:
    return space(name, n_trained, source=source, files=json.loads(files), is_encoded=True)


def _guided(read: Callable[[], Space], name: str, search: Search, n_runs: int, seed: int, n_jobs: int) -> pd.DataFrame:
    """Run one kind of guided search; a row per run, a column per training after the training set."""
    order = guided_runs.run(read(), {name: search}, n_runs=n_runs, seed=seed, folder=scratch(), n_jobs=n_jobs)[name]
    numbers = range(search.n_train + 1, order.shape[1] + 1)
    return pd.DataFrame(order[:, search.n_train :], columns=[f"training {number}" for number in numbers])
