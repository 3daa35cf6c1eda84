"""Slow work of this chapter: regressors fitted on every split, with every seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from naaplib.cache import Piece
from naaplib.estimators import regressors
from naaplib.evaluation import protocols
from naaplib.sources import ROOT
from naaplib.tables import features, naap440

RUNS, PREDICTIONS = "runs", "predictions on the paper's split"
N_DIGITS = {"mae": 4, "mse": 6, "r2": 4, "kendall_tau": 4}


def pieces(
    *,
    source: str,
    algorithms: Sequence[str],
    budgets: Sequence[int],
    scores: Sequence[str],
    scores_file: str,
    first_seed: int,
    n_seeds: int,
    split_indices: Sequence[int],
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    names = list(algorithms) or list(regressors.ALGORITHMS)
    facts = {
        "algorithms": names,
        "budgets": list(budgets),
        "scores": list(scores),
        "seed": first_seed,
        "n_seeds": n_seeds,
    }
    reads = partial(_files, source, scores, scores_file)
    everywhere = sorted({naap440.PAPER, *split_indices})
    common: dict[str, Any] = {"source": source, "budgets": budgets, "scores": scores, "scores_file": scores_file}
    seeds = range(first_seed, first_seed + n_seeds)
    predict = partial(_predict, names=names, seeds=seeds, n_jobs=n_jobs, **common)
    return [
        Piece(RUNS, facts | {"splits": everywhere}, partial(_runs, partial(predict, splits=everywhere)), reads),
        Piece(PREDICTIONS, facts, partial(_median, partial(predict, splits=[naap440.PAPER])), reads),
    ]


def _files(source: str, scores: Sequence[str], scores_file: str) -> list[Path]:
    return [naap440.find(source), *([ROOT / scores_file] if scores else [])]


def _predict(
    *,
    source: str,
    budgets: Sequence[int],
    scores: Sequence[str],
    scores_file: str,
    names: Sequence[str],
    seeds: Sequence[int],
    splits: Sequence[int],
    n_jobs: int,
) -> pd.DataFrame:
    table = naap440.read(naap440.find(source))
    sets: dict[int | str, pd.DataFrame] = {}
    for n_epochs in budgets:
        columns = features.SIX_SCHEME_COLUMNS if n_epochs else features.TWO_SCHEME_COLUMNS
        own = features.published(table, columns, n_epochs=n_epochs)
        sets[n_epochs] = features.with_scores(own, pd.read_csv(ROOT / scores_file), names=scores) if scores else own
    return protocols.predict(
        table["MaxAccuracy"], sets, algorithms=names, seeds=seeds, splits=naap440.splits(table, splits), n_jobs=n_jobs
    )


def _runs(predict: Any) -> pd.DataFrame:
    return protocols.score(predict()).rename(columns={"features": "epochs"}).round(N_DIGITS)


def _median(predict: Any) -> pd.DataFrame:
    """Return the predictions of each cell's run with the median violations."""
    predictions = predict()
    keys = ["features", "algorithm", "seed"]
    chosen = predictions.merge(protocols.median_run(protocols.score(predictions))[keys], on=keys)
    columns = ["algorithm", "epochs", "seed", "ModelId", "measured", "predicted"]
    return chosen.rename(columns={"features": "epochs"})[columns]
