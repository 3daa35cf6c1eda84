"""Predictors beyond Table I: parts validated, the paper's settings, and widths by N."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from naaplib.architectures.graphs import Graphs
from naaplib.estimators.predictors.design import NORMALISATIONS
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.presets import deep, faithful, tuned
from naaplib.estimators.predictors.runs import cross_validate
from naaplib.evaluation import training_sets
from naaplib.studies.neural_predictor.tables import PATHS
from naaplib.studies.neural_predictor.tasks import FAITHFUL, TUNED, System, Task

EARLIER = "as before"
REVISED, DEEP = "GCN, revised", "GCN, 18 layers"
VARIANTS: dict[str, dict[str, Any]] = {  # changes of `tuned`
    EARLIER: {},
    "head without activation": {"head_relu": False},
    "padding pooled": {"masked": False},
    "adjacency not normalised": {"normalisation": "none"},
    "no activation, not normalised": {"head_relu": False, "normalisation": "none"},
}


def with_settings(task: Task, settings: Mapping[str, Mapping[str, object]], seed: int = 0) -> Task:
    """Return a task with other settings and seeds of its predictors.

    Parameters
    ----------
    task : Task
    settings : mapping from "faithful" or "tuned" to mapping
        Parameters of `NeuralPredictor` for the systems whose names have that word.
    seed : int
        As in `Task`.
    """
    if unknown := sorted(set(settings) - {"faithful", "tuned"}):
        raise ValueError(f"settings are of 'faithful' and 'tuned' predictors, not of {unknown[0]!r}")

    def changed(system: str, pair: System) -> System:
        word = "faithful" if "faithful" in system else "tuned"
        return pair[0], clone(pair[1]).set_params(**settings.get(word, {}))

    published = {name: changed(name, pair) for name, pair in task.published.items()}
    chosen = {
        name: {candidate: changed(name, pair) for candidate, pair in found.items()}
        for name, found in task.chosen.items()
    }
    return replace(task, published=published, chosen=chosen, seed=seed)


def validate(task: Task, n_sets: int, *, n_epochs: int, n_folds: int, folder: Path | None, n_jobs: int) -> pd.DataFrame:
    """Cross-validate each of `VARIANTS` within the first training sets of a dataset.

    Parameters
    ----------
    task : Task
    n_sets : int
        Number of training sets; fewer if the task has fewer.
    n_epochs, n_folds : int
    folder, n_jobs
        As for `.predictors.runs.cross_validate`.

    Returns
    -------
    DataFrame
        dataset, change, set, kendall_tau (tau-b on validation rows, mean over folds). No test row is used.
    """
    seen = _encoded(task)
    candidates = {name: (seen, tuned(n_epochs=n_epochs, **changes)) for name, changes in VARIANTS.items()}
    rows = task.training[:n_sets]
    found = cross_validate(
        candidates, task.targets, training=rows, seeds=range(len(rows)), n_folds=n_folds, folder=folder, n_jobs=n_jobs
    )
    table = found.rename(columns={"candidate": "change"}).assign(dataset=task.name)
    return table[["dataset", "change", "set", "kendall_tau"]]


def effects(validated: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Compare each change with the predictor as it was before, set by set.

    Parameters
    ----------
    validated : DataFrame
        As `validate` returns it, of any number of datasets.
    n_resamples, seed : int
        Settings of 95 % bootstrap percentile intervals of the mean over training sets.

    Returns
    -------
    DataFrame
        dataset, change, n_sets, kendall_tau, gain (mean difference from `EARLIER` of the same sets), gain_low,
        gain_high.
    """
    rows = []
    for dataset, table in validated.groupby("dataset", sort=False):
        wide = table.pivot_table(index="set", columns="change", values="kendall_tau", sort=False)
        draws = np.random.default_rng(seed).integers(len(wide), size=(n_resamples, len(wide)))
        for change in wide:
            gain = (wide[change] - wide[EARLIER]).to_numpy()
            low, high = np.quantile(gain[draws].mean(1), (0.025, 0.975))
            row = {"dataset": dataset, "change": change, "n_sets": len(wide), "kendall_tau": wide[change].mean()}
            rows.append(row | {"gain": gain.mean(), "gain_low": low, "gain_high": high})
    return pd.DataFrame(rows)


def revised(task: Task, n_sets: int) -> Task:
    """Return a task with the improved predictor of today as its only system.

    It has the first `n_sets` training sets. Each chooses by cross-validation how the target is scaled and whether the
    adjacency is normalised.
    """
    seen = _encoded(task)
    _, before = next(iter(task.chosen[TUNED].values()))
    changes = {"head_relu": NeuralPredictor().head_relu}
    found = {
        f"{output}, {normalisation}": (
            seen, clone(before).set_params(output=output, normalisation=normalisation, **changes)
        )
        for output in ("standardised", "normal scores")
        for normalisation in NORMALISATIONS
    }  # fmt: skip
    return replace(task, order=task.order[:n_sets], features={}, published={}, chosen={REVISED: found})


def _encoded(task: Task) -> Graphs:
    """Return the graphs that most training sets chose in the chapter: only nodes on a path where there are others."""
    named = task.chosen[TUNED]
    return named.get(PATHS, next(iter(named.values())))[0]


def printed_settings(task: Task) -> Task:
    """Return a task with the paper's settings for ProxylessNAS, beside the code's."""
    seen, replicated = task.published[FAITHFUL]
    predictor = deep(output=replicated.output, n_epochs=replicated.n_epochs)
    systems = {FAITHFUL: (seen, replicated), DEEP: (seen, predictor)}
    return replace(task, features={}, chosen={}, published=systems)


def of_widths(task: Task, widths: Mapping[int, int], n_sets: int) -> list[Task]:
    """Return a task for each number of training rows, with one width and the other.

    Parameters
    ----------
    task : Task
    widths : mapping from number of training rows to units of each layer
    n_sets : int
        Training sets of each task.

    Returns
    -------
    list of Task
        Systems are named by their width, as in "width 144"; that of `faithful` comes first.
    """
    seen, replicated = task.published[FAITHFUL]
    found = []
    for n_train, width in widths.items():
        order = training_sets.split(len(task.targets), n_train, 0, n_sets, task.seed)
        systems = {
            f"width {one}": (seen, faithful(width=one, n_epochs=replicated.n_epochs))
            for one in dict.fromkeys((replicated.width, width))
        }
        found.append(replace(task, order=order, n_train=n_train, features={}, published=systems, chosen={}))
    return found
