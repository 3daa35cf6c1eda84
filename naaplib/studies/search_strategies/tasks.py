"""Benchmarks that the searches of this chapter run on, and the searches by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from naaplib import sources
from naaplib.architectures import cells, graphs, schemes
from naaplib.search import guided_runs
from naaplib.search.guided_runs import Search, Space
from naaplib.studies.search_strategies import tables
from naaplib.studies.search_strategies.tables import Ground
from naaplib.tables import derived, graph_benchmarks, naap440, nasbench201

CELLS, SCHEMES, SMALL = "NAS-Bench-201", "NAAP-440", "NAS-Bench-101"
RECORDED = "recorded"


def paths(name: str, source: str, files: Mapping[str, str]) -> list[Path]:
    """Return the files that a benchmark is read from.

    Parameters
    ----------
    name : str
        One of `CELLS`, `SCHEMES`, `SMALL`.
    source : str
        As for `.naap440.find`.
    files : mapping from name to str
        Paths of other files, from the project's root; "" is the public one.
    """
    if name == SCHEMES:
        return [naap440.find(source)]
    if files[name]:
        return [sources.ROOT / files[name]]
    public = [sources.find(file) for file in nasbench201.NASBENCH201]
    return public if name == CELLS else [derived.find(graph_benchmarks.NASBENCH101)]


def space(name: str, n_trained: int, *, source: str, files: Mapping[str, str], is_encoded: bool = False) -> Space:
    """Read one benchmark for guided searches.

    Parameters
    ----------
    name : str
        `CELLS`: searches see one training of 200 epochs, and are scored by the mean over trainings. `SCHEMES` and
        `SMALL`: they see what they are scored by.
    n_trained : int
        Largest budget in trainings.
    source, files
        As for `paths`.
    is_encoded : bool
        True adds the encodings that predictors read, which takes some seconds.
    """
    given = paths(name, source, files)
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
    else:
        table = graph_benchmarks.nasbench101(given[0]).query("uniform")
        seen = true = table["accuracy"].to_numpy()
        costs = np.ones(len(table))
        if is_encoded:
            encodings = (graphs.of_nasbench101(table["architecture"]),) * 2
    return Space(name, encodings, seen, true, costs, n_trained)


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
        name: guided_runs.searches(n_train[name], n, epochs, classify_above[name], device=device)
        for name, n in default_n.items()
    }
    fewest = default_n[CELLS]
    found[SMALL] = guided_runs.searches([fewest], fewest, epochs, None, False, device)
    del found[SCHEMES]["GCN, faithful"]  # in the chapter before it is as good as the tuned one there, and it is slow
    return found


def grounds(
    table: pd.DataFrame, estimates: pd.DataFrame, *, epochs_spent: Mapping[str, Sequence[int]]
) -> dict[str, Ground]:
    """Return the benchmarks of learning curves that early stopping runs on.

    Parameters
    ----------
    table : DataFrame
        NAAP-440, as `.naap440.read` returns it.
    estimates : DataFrame
        Estimates of recorded networks, from held-out and test images.
    epochs_spent : mapping from benchmark to (int, int)
        Epochs of a longest training, and of a whole search.
    """
    published = naap440.tidy(table).pivot_table(index="ModelId", columns="epoch", values="accuracy")
    true, numbered = table.set_index("ModelId")["MaxAccuracy"], dict(enumerate(schemes.enumerate_schemes(), start=1))
    own = estimates[estimates["images"] == "held out"]
    held_out = {name: own.pivot_table(index="ModelId", columns="epoch", values=name) for name in own.columns[3:]}
    by_cycle = published.T.rolling(3, min_periods=1).mean().T
    scores = {SCHEMES: {"accuracy": published, "mean of a cycle": by_cycle}, RECORDED: held_out}
    return {name: tables.ground(name, scores[name], true, numbered, *epochs_spent[name]) for name in scores}


def read_at(ground: Ground) -> list[int]:
    """Return the epochs spent at which a search's result is read."""
    return np.unique(np.linspace(ground.max_budget, ground.total_budget, 60).round().astype(int)).tolist()
