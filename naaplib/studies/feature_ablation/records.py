"""Slow work of this chapter: regressors by features, and a choice of estimators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.cache import Piece
from naaplib.estimators.candidates import candidates
from naaplib.evaluation import protocols
from naaplib.studies.feature_ablation import selection
from naaplib.studies.feature_ablation.tables import ALL, FOREST, TWO
from naaplib.tables import features, naap440

SCHEME, EPOCHS, SPLITS = "scheme features", "first epochs", "forests on splits"
FOLDED, PREDICTIONS = "out-of-fold predictions", "predictions of the choice"
OTHERS = ["Gradient Boosting (N=100)", "Linear Regression"]  # the paper names the algorithms, and not their sizes
N_DIGITS = 7  # of out-of-fold predictions, whose mean errors have five
PAPER_NAMES = {"LogNumMACs": "NumMACs", "NumLayers": "Depth"}  # names in Table 1


Sets = dict[int | str, pd.DataFrame]


def pieces(
    *,
    source: str,
    ties: str,
    algorithms: Sequence[str],
    first_seed: int,
    n_seeds: int,
    training_lengths: Sequence[int],
    split_indices: Sequence[int],
    n_folds: int,
    cv_seed: int,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    reads = partial(_files, source)
    seeds = range(first_seed, first_seed + n_seeds)
    draws = {"ties": ties, "seed": first_seed, "n_seeds": n_seeds}
    score = partial(_score, source=source, ties=ties, seeds=seeds, n_jobs=n_jobs)
    every, lengths, names = (
        sorted({naap440.PAPER, *split_indices}),
        sorted(training_lengths),
        [FOREST, *(algorithms or OTHERS)],
    )
    by_length = partial(epoch_sets, lengths=lengths)
    chosen = {"ties": ties, "splits": list(split_indices), "seed": cv_seed, "n_folds": n_folds}
    given: dict[str, Any] = {
        "source": source, "ties": ties, "indices": split_indices, "seed": cv_seed, "n_jobs": n_jobs,
    }  # fmt: skip
    folded = Piece(FOLDED, chosen, partial(_folded, n_folds=n_folds, **given), reads)
    return [
        Piece(SCHEME, draws | {"algorithms": names, "splits": every}, partial(score, scheme_sets, names, every), reads),
        Piece(EPOCHS, draws | {"lengths": lengths}, partial(score, by_length, [FOREST], [naap440.PAPER]), reads),
        Piece(
            SPLITS, draws | {"splits": list(split_indices)}, partial(score, forest_sets, [FOREST], split_indices), reads
        ),
        folded,
        Piece(PREDICTIONS, chosen, partial(_predicted, **given), reads, needs=[folded]),
    ]


def scheme_sets(table: pd.DataFrame) -> Sets:
    """Return all scheme features, all but one, and two, by their names in Table 1."""
    six = features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=0)
    but_one: Sets = {f"All but {PAPER_NAMES.get(column, column)}": six.drop(columns=column) for column in six}
    return but_one | {ALL: six, TWO: six[["LogNumParams", "NumStages"]]}


def epoch_sets(table: pd.DataFrame, lengths: Sequence[int]) -> Sets:
    """Return scheme features and first epochs as in Table 2, named "epochs/features".

    There are no, two or six scheme features; the set without any feature is left out.
    """
    columns: dict[int, list[str]] = {0: [], 2: features.TWO_SCHEME_COLUMNS, 6: features.SIX_SCHEME_COLUMNS}
    return {
        f"{length}/{n}": features.published(table, names, n_epochs=length)
        for length in lengths
        for n, names in columns.items()
        if length or n
    }


def forest_sets(table: pd.DataFrame) -> Sets:
    """Return the two sets of features that the chapter compares its choice with."""
    return {
        "forest, 2 scheme features, 0 epochs": features.published(table, features.TWO_SCHEME_COLUMNS, n_epochs=0),
        "forest, 6 scheme features, 9 epochs": features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=9),
    }


def _files(source: str) -> list[Path]:
    return [naap440.find(source)]


def _score(
    sets: Callable[[pd.DataFrame], Sets],
    algorithms: Sequence[str],
    indices: Sequence[int],
    *,
    source: str,
    ties: str,
    seeds: Sequence[int],
    n_jobs: int,
) -> pd.DataFrame:
    """Score algorithms on each set of features, with every seed, on each split."""
    table = naap440.read(naap440.find(source))
    splits = naap440.splits(table, indices, ties=ties)
    return protocols.score(
        protocols.predict(
            table["MaxAccuracy"], sets(table), algorithms=algorithms, seeds=seeds, splits=splits, n_jobs=n_jobs
        )
    )


def _folded(*, source: str, ties: str, indices: Sequence[int], n_folds: int, seed: int, n_jobs: int) -> pd.DataFrame:
    details, measured, splits = _details(source, ties, indices)
    folds = {"n_folds": n_folds, "seed": seed, "n_jobs": n_jobs}
    return selection.cross_validate(details, measured, splits=splits, candidates=candidates(seed), **folds).round(
        N_DIGITS
    )


def _predicted(
    folded: pd.DataFrame, *, source: str, ties: str, indices: Sequence[int], seed: int, n_jobs: int
) -> pd.DataFrame:
    details, measured, splits = _details(source, ties, indices)
    choices = selection.choose_by_split(folded)
    return selection.predict_chosen(
        details, measured, splits=splits, candidates=candidates(seed), choices=choices, n_jobs=n_jobs
    )


def _details(
    source: str, ties: str, indices: Sequence[int]
) -> tuple[pd.DataFrame, pd.Series, dict[int | str, NDArray[np.bool_]]]:
    """Return scheme features and those of every block, accuracies, and the splits."""
    table = naap440.read(naap440.find(source))
    six = features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=0)
    splits = naap440.splits(table, indices, ties=ties)
    return six.join(features.blocks(enumerate_schemes())), table["MaxAccuracy"], splits
