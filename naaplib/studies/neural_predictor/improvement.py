"""Predictors beyond Table I: parts validated, the paper's settings, widths by N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from naaplib.architectures.graphs import Graphs
from naaplib.estimators.predictors.design import NORMALISATIONS
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.presets import deep, faithful, published_width, tuned
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


def with_settings(task: Task, settings: Mapping[str, Mapping[str, object]], *, seed: int = 0) -> Task:
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


def effects(validated: pd.DataFrame) -> pd.DataFrame:
    """Compare each change with the predictor as it was before, set by set.

    Parameters
    ----------
    validated : DataFrame
        As `validate` returns it, of any number of datasets.

    Returns
    -------
    DataFrame
        dataset, change, n_sets, kendall_tau, gain (mean difference from `EARLIER` of the same sets), gain_low and
        gain_high, a 95 % bootstrap percentile interval over sets.
    """
    rows = []
    for dataset, table in validated.groupby("dataset", sort=False):
        wide = table.pivot_table(index="set", columns="change", values="kendall_tau", sort=False)
        for change in wide:
            gain = (wide[change] - wide[EARLIER]).to_numpy()
            row = {"dataset": dataset, "change": change, "n_sets": len(wide), "kendall_tau": wide[change].mean()}
            rows.append(row | {"gain": gain.mean()} | _interval(gain))
    return pd.DataFrame(rows)


def _interval(gain: NDArray[np.float64], n_resamples: int = 1000) -> dict[str, float]:
    table = pd.DataFrame({"what": "gain", "n": gain.size, "kendall_tau": gain})
    found = training_sets.summarise(table, ["what"], n_resamples=n_resamples).iloc[0]
    return {"gain_low": found["kendall_tau_low"], "gain_high": found["kendall_tau_high"]}


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


def of_widths(task: Task, n_train: Sequence[int], *, n_sets: int) -> list[Task]:
    """Return a task for each number of training rows, with two widths.

    One is the faithful predictor's, the other that of `published_width`.

    Parameters
    ----------
    task : Task
    n_train : sequence of int
    n_sets : int
        Training sets of each task.

    Returns
    -------
    list of Task
        Systems are named by their width, as in "width 144"; that of `faithful` comes first.
    """
    seen, replicated = task.published[FAITHFUL]
    found = []
    for n in n_train:
        order = training_sets.split(len(task.targets), n, n_validation=0, n_sets=n_sets, seed=task.seed)
        systems = {
            f"width {width}": (seen, faithful(width=width, n_epochs=replicated.n_epochs))
            for width in dict.fromkeys((replicated.width, published_width(n)))
        }
        found.append(replace(task, order=order, n_train=n, features={}, published=systems, chosen={}))
    return found


def beside_before(runs: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Compare the revised predictor with the one before, on the same training sets.

    Parameters
    ----------
    runs : DataFrame
        Records of all systems: dataset, system, set, part, and the measures of `.training_sets.evaluate`.
    found : DataFrame
        The same of `REVISED`, with the candidate that each training set chose.

    Returns
    -------
    DataFrame
        dataset, n_sets, not_normalised (sets that chose so), kendall_tau_before, kendall_tau, gain (mean difference of
        the same sets), gain_low, gain_high (95 % interval over sets), mse_before, mse.
    """
    rows = []
    for dataset, after in found[found["part"] == "test"].groupby("dataset", sort=False):
        before = runs[(runs["dataset"] == dataset) & (runs["system"] == TUNED) & (runs["part"] == "test")]
        pair = after.merge(before, on="set", suffixes=("", "_before"), validate="one_to_one")
        gain = (pair["kendall_tau"] - pair["kendall_tau_before"]).to_numpy()
        row = {
            "dataset": dataset,
            "n_sets": len(pair),
            "not_normalised": int(pair["candidate"].str.endswith("none").sum()),
        }
        row |= {name: pair[name].mean() for name in ("kendall_tau_before", "kendall_tau")}
        row |= {"gain": gain.mean()} | _interval(gain)
        rows.append(row | {name: pair[name].mean() for name in ("mse_before", "mse")})
    return pd.DataFrame(rows)


def by_width(found: pd.DataFrame) -> pd.DataFrame:
    """Summarise the record of widths.

    Returns
    -------
    DataFrame
        n_train, layer_units, n_sets, kendall_tau, mse and r2 on test rows, mse_train; means over sets.
    """
    table = found.assign(layer_units=found["system"].str.removeprefix("width ").astype(int))
    names = ["kendall_tau", "mse", "r2"]
    test = table[table["part"] == "test"].groupby(["n_train", "layer_units"])
    train = table[table["part"] == "train"].groupby(["n_train", "layer_units"])["mse"].mean().rename("mse_train")
    return (
        test[names]
        .mean()
        .assign(n_sets=test.size())
        .join(train)
        .reset_index()[["n_train", "layer_units", "n_sets", *names, "mse_train"]]
    )
