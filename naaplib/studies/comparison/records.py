"""Records of the comparison of estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from naaplib import sources
from naaplib.architectures.cells import from_string
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.studies.comparison import announced, another_run, block_effects, cells, extrapolation, tasks
from naaplib.tables import features, naap440, nasbench201

SCHEMES, CELLS = "NAAP-440", "NAS-Bench-201"
OF_CELLS = (  # the chosen one, its parts, and what it is compared with
    "one-hot, ridge", "GRAF, extremely randomised trees", "pruned GRAF, Gaussian process", "pruned GRAF, combined",
)  # fmt: skip
COMPARED, SIZES = "estimators", "training set sizes"


def pieces(
    *,
    source: str,
    scores_file: str,
    cells_file: str,
    epochs: Sequence[int],
    proxies: Sequence[str],
    algorithms: Sequence[str],
    n_graph_epochs: int,
    split_indices: Sequence[int],
    n_train: Mapping[str, Sequence[int]],
    trainings: str,
    n_draws: int,
    seed: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    seen: dict[str, list] = {"epochs": list(epochs), "proxies": list(proxies), "algorithms": list(algorithms)}
    settings: dict[str, object] = seen | {
        "n_graph_epochs": n_graph_epochs,
        "split_indices": list(split_indices),
        "seed": seed,
    }
    compared = Piece(
        COMPARED,
        settings | {"source": source},
        partial(
            _compare,
            source,
            scores_file,
            seen=seen,
            n_graph_epochs=n_graph_epochs,
            split_indices=split_indices,
            seed=seed,
        ),
        partial(_paths, source, scores_file),
    )
    sizes = {"n_draws": n_draws, "seed": seed}
    schemes = Piece(
        f"{SIZES}/{SCHEMES}",
        sizes | {"source": source, "n_train": list(n_train[SCHEMES])},
        partial(_schemes, source, n_train[SCHEMES], n_draws=n_draws, seed=seed),
        partial(_paths, source),
    )
    of_cells = Piece(
        f"{SIZES}/{CELLS}",
        sizes | {"n_train": list(n_train[CELLS]), "estimators": list(OF_CELLS)},
        partial(_cells, cells_file, n_train[CELLS], n_draws=n_draws, seed=seed),
        partial(cell_paths, cells_file),
    )
    first = [replace(piece, code=announced.__name__) for piece in announced.pieces()]
    luck = another_run.piece(sources.ROOT / trainings, split_indices=split_indices, algorithms=algorithms, seed=seed)
    others = [luck, *first, *cells.pieces(), cells.proxies_piece(), *extrapolation.pieces(), *block_effects.pieces()]
    return [*(others if source == "published" else []), compared, schemes, of_cells]


def cell_paths(file: str) -> list[Path]:
    """Return the files of NAS-Bench-201, or the one that a notebook's parameter names."""
    return [sources.ROOT / file] if file else [sources.find(name) for name in nasbench201.NASBENCH201]


def read_cells(file: str) -> pd.DataFrame:
    """Read accuracies of cells on CIFAR-10; columns are (epochs, runs)."""
    return nasbench201.accuracies(pd.read_csv(cell_paths(file)[0]) if file else nasbench201.nasbench201())


def read_scores(file: str, names: Sequence[str]) -> pd.DataFrame:
    """Read zero-cost proxies of NAAP-440's networks, indexed by ModelId."""
    return pd.read_csv(sources.ROOT / file).set_index("ModelId")[list(names)]


def _paths(source: str, *files: str) -> list[Path]:
    return [naap440.find(source), *(sources.ROOT / file for file in files)]


def _compare(
    source: str,
    scores_file: str,
    seen: Mapping[str, list],
    n_graph_epochs: int,
    split_indices: Sequence[int],
    seed: int,
) -> pd.DataFrame:
    table = tasks.read_table(source)
    return tasks.compare(
        table,
        naap440.splits(table, split_indices),
        scores=read_scores(scores_file, seen["proxies"]),
        epochs=seen["epochs"],
        algorithms=seen["algorithms"],
        n_graph_epochs=n_graph_epochs,
        seed=seed,
    ).round(6)


def _schemes(source: str, n_train: Sequence[int], n_draws: int, seed: int) -> pd.DataFrame:
    table = tasks.read_table(source)
    paper = features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=0)
    measured = table["MaxAccuracy"].to_numpy(float)
    X, names = tasks.scheme_features(table), structural.NAAP440
    return tasks.by_size(measured, X, estimators=names, n_train=n_train, n_draws=n_draws, seed=seed, paper=paper).round(
        6
    )


def _cells(file: str, n_train: Sequence[int], n_draws: int, seed: int) -> pd.DataFrame:
    accuracies = read_cells(file)
    X = structural.cell_features([from_string(text) for text in accuracies.index])
    measured = np.asarray(accuracies[200, "mean"], dtype=float)
    return tasks.by_size(measured, X, estimators=OF_CELLS, n_train=n_train, n_draws=n_draws, seed=seed).round(6)
