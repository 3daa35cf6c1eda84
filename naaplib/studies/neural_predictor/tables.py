"""Tables and answer of the chapter on neural predictors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from naaplib import metrics
from naaplib.estimators.predictors.estimator import fit_many
from naaplib.estimators.predictors.presets import tuned
from naaplib.evaluation import training_sets
from naaplib.studies.neural_predictor import replication
from naaplib.studies.neural_predictor.tasks import FAITHFUL, TUNED, TWO_STAGE, Task

Values = NDArray[np.float64]
PATHS = "operations on a path, normal scores"
ALL = "all operations, normal scores"
SCHEDULE: dict[str, Any] = {
    "n_epochs": 300,
    "batch_size": 10,
    "learning_rate": 1e-4,
    "horizon": 10_000,
    "penalty": 1e-3,
}
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {  # to the improved predictor; the last is not the replication's
    "nothing": (PATHS, {}),
    "operations that lead nowhere": (ALL, {}),
    "target in percent, clipped": (PATHS, {"output": "shifted"}),
    "target standardised": (PATHS, {"output": "standardised"}),
    "head without activation": (PATHS, {"head_relu": False}),
    "padding pooled": (PATHS, {"masked": False}),
    "schedule of the replication": (PATHS, SCHEDULE),
    "adjacency not normalised": (PATHS, {"normalisation": "none"}),
}
PUBLISHED_COUNTS = {
    "kept_accurate": 97_496, "kept_others": 5_131, "dropped_accurate": 2_034, "dropped_others": 95_339,
}  # fmt: skip # outputs of github.com/itouchz/Neural-Predictor-Tensorflow, for Figure 9
RATES = {
    "precision": "share_accurate",
    "accuracy": "share_right",
    "false_negative_rate": "share_missed",
    "false_positive_rate": "share_false",
}
ORACLE = {("nasbench101", "val_acc"): 95.11, ("nasbench101", "test_acc"): 94.08}  # percent, as the study prints them


def ablation(task: Task, n_sets: int, *, n_epochs: int) -> Task:
    """Return NAS-Bench-201's task with one change in the improved GCN at a time.

    It has the first `n_sets` training sets. Systems are named as in `CHANGES`; n_epochs caps the epochs of each.
    """
    variants = {}
    for name, (candidate, changes) in CHANGES.items():
        seen = task.chosen[TUNED][candidate][0]
        limit = min(n_epochs, changes.get("n_epochs", 200))
        settings: dict[str, Any] = {"output": "normal scores"} | changes | {"n_epochs": limit}
        variants[name] = seen, tuned(**settings)
    return replace(task, order=task.order[:n_sets], features={}, published=variants, chosen={})


def effects(ablation: pd.DataFrame) -> str:
    """Describe which changes of `ablation` lower tau, raise it, or do neither.

    The criterion is that intervals over training sets do not overlap.

    Parameters
    ----------
    ablation : DataFrame
        As `.training_sets.summarise` returns it: change (a name of `CHANGES`; others are left out), kendall_tau_low
        and _high.
    """
    rows = ablation[ablation["change"].isin(CHANGES)].set_index("change")
    plain, others = rows.loc["nothing"], rows.drop(index="nothing")
    lower = others["kendall_tau_high"] < plain["kendall_tau_low"]
    higher = others["kendall_tau_low"] > plain["kendall_tau_high"]
    groups = {"lower": lower, "higher": higher, "neither clearly lower nor higher": ~lower & ~higher}
    named = [f"{what} with {', '.join(others.index[mask])}" for what, mask in groups.items() if mask.any()]
    return f"By its interval, tau is {'; '.join(named)}."


def evaluate(task: Task, predictions: Mapping[str, Values]) -> pd.DataFrame:
    """Compute metrics of every system on every part of every split.

    If a table has isomorphic duplicates, test rows are split into duplicates of training rows ("test, seen"), the rest
    ("test, unseen"), and the rest without duplicates ("test, unseen, once"). For a two-stage system, "test, accurate"
    has the test rows above the first stage's threshold.

    Returns
    -------
    DataFrame
        dataset, system, and the columns of `.training_sets.evaluate`.
    """
    parts = task.parts
    if len(np.unique(task.distinct)) < len(task.distinct):
        known = training_sets.seen(task.distinct, task.training)
        parts |= {"test, seen": parts["test"] & known, "test, unseen": parts["test"] & ~known}
        parts["test, unseen, once"] = training_sets.first_of_distinct(task.distinct, parts["test, unseen"])
    if TWO_STAGE in task.published:
        threshold = task.published[TWO_STAGE][1].get_params()["classify_above"]
        parts["test, accurate"] = parts["test"] & (task.judged > threshold)
    tables = [
        training_sets.evaluate(task.judged, values, parts=parts, scale=task.scale).assign(
            dataset=task.name, system=system
        )
        for system, values in predictions.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["dataset", "system", *table.columns.drop(["dataset", "system"])]]


def beside_printed(summary: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """Return every system's scores on test rows, beside printed and stored ones.

    Printed and stored scores are the study's, for replicated systems.

    Parameters
    ----------
    summary : DataFrame
        As `.training_sets.summarise` returns it by dataset, system and part.
    stored : DataFrame
        As `.replication.table1` returns it.

    Returns
    -------
    DataFrame
        dataset, system, n_sets, mse, kendall_tau, kendall_tau_low, kendall_tau_high, r2; mse, kendall_tau and r2 with
        _printed, on Table I's test set; the same with _stored, from the stored predictions of the full test set.
    """
    names = ["mse", "kendall_tau", "r2"]
    found = summary[summary["part"] == "test"][
        ["dataset", "system", "n_sets", "mse", "kendall_tau", "kendall_tau_low", "kendall_tau_high", "r2"]
    ]
    table = found.copy()
    shown = stored.copy()
    two = shown["dataset"].str.endswith("w/ classifier")
    shown["system"] = np.where(two, TWO_STAGE, FAITHFUL)
    shown["dataset"] = shown["dataset"].str.removesuffix(" w/ classifier")
    keys = ["dataset", "system"]
    full = shown[shown["split"] == "test"].set_index(keys)[names].add_suffix("_stored")
    printed = shown[shown["split"].str.startswith("test")].dropna(subset=["mse_printed"]).set_index(keys)
    return (
        table.join(printed[[f"{name}_printed" for name in names]], on=keys).join(full, on=keys).reset_index(drop=True)
    )


def violations(task: Task, predictions: Mapping[str, Values], *, regressions: pd.DataFrame) -> pd.DataFrame:
    """Return the violations of predictors and regressors on each split's test rows.

    A tie counts one half.

    Parameters
    ----------
    task, predictions
        NAAP-440's task and predictions; splits are numbered in order.
    regressions : DataFrame
        As `.protocols.score` returns it: columns split, features, algorithm, violations.

    Returns
    -------
    DataFrame
        split, predictor, violations.
    """
    test = task.parts["test"]
    rows = [
        (number, system, metrics.violations(task.judged[mask], values[number][mask]))
        for system, values in predictions.items()
        for number, mask in enumerate(test)
        if np.ptp(values[number][mask]) != 0
    ]
    table = pd.DataFrame(rows, columns=["split", "predictor", "violations"])
    others = regressions.assign(predictor=regressions["algorithm"] + " on " + regressions["features"])
    others = others.groupby(["split", "predictor"], sort=False)["violations"].mean().reset_index()
    return pd.concat([table, others], ignore_index=True)


def against(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return mean violations of every predictor, best first, against a reference.

    Differences are between the same splits.

    Returns
    -------
    DataFrame
        predictor, n_splits, violations, violations_sd, change, change_sd, better (number of splits with fewer).
    """
    wide = table.pivot_table(index="split", columns="predictor", values="violations", sort=False)
    change = wide.sub(wide[reference], axis=0)
    result = pd.DataFrame(
        {
            "n_splits": wide.count(), "violations": wide.mean(), "violations_sd": wide.std(),
            "change": change.mean(), "change_sd": change.std(), "better": (change < 0).sum(),
        }
    )  # fmt: skip
    return result.sort_values("violations", kind="stable").reset_index()


def sentence(summary: pd.DataFrame, schemes: pd.DataFrame, *, stored: pd.DataFrame, leaked: pd.DataFrame) -> str:
    """Return the chapter's answer.

    Parameters
    ----------
    summary : DataFrame
        As for `beside_printed`.
    schemes : DataFrame
        As `against` returns it.
    stored : DataFrame
        As `.replication.table1` returns it.
    leaked : DataFrame
        As `.replication.leakage` returns it for the replication's NAS-Bench-101 test set.
    """
    cells = summary[(summary["dataset"] == "NAS-Bench-201") & (summary["part"] == "test")].set_index("system")
    best = schemes.iloc[0]
    gcn = schemes.set_index("predictor").loc[TUNED, "violations"]
    ten, full = (
        stored[(stored["dataset"] == "NAS-Bench-101") & (stored["split"] == split)].iloc[0]
        for split in ("test, ten points", "test")
    )
    share = leaked.set_index("part").loc["training cells", "share"]
    taus = [f"{cells.loc[name, 'kendall_tau']:.2f}" for name in (TUNED, FAITHFUL, "line on log parameters")]
    return (
        f"Trained on {cells.loc[TUNED, 'n_train']:.0f} cells, a graph network with our changes ranks all others of "
        f"NAS-Bench-201 with a Kendall tau of **{taus[0]}**; the replication's code reaches {taus[1]}, the parameter "
        f"count {taus[2]}. On NAAP-440 it leaves **{gcn:.1f}** pairs in the wrong order, mean of "
        f"{best['n_splits']} splits, and {best['predictor']} {best['violations']:.1f}. The replication's printed tau "
        f"on NAS-Bench-101, {ten['kendall_tau']:.2f}, is of ten test points; on the whole test set it is "
        f"{full['kendall_tau']:.2f}, and {100 * share:.0f} % of that set are cells that were trained on."
    )


def classify(task: Task, device: str = "cpu") -> pd.DataFrame:
    """Count right and wrong answers of the first of two stages on test rows.

    Parameters
    ----------
    task : Task
        One with the system `TWO_STAGE`.
    device : str

    Returns
    -------
    DataFrame
        One row per training set: set, and kept_accurate, kept_others, dropped_accurate and
        dropped_others: numbers of test rows, by the classifier and by the truth.
    """
    seen, predictor = task.published[TWO_STAGE]
    predictor = clone(predictor).set_params(device=device)
    fitted = fit_many(predictor, seen, targets=task.targets, training=task.training, seeds=task.seeds)
    good = task.judged > predictor.get_params()["classify_above"]
    rows = []
    for number, (one, is_test) in enumerate(zip(fitted, task.parts["test"], strict=True)):
        kept = one.keeps(seen)
        groups = [kept & good, kept & ~good, ~kept & good, ~kept & ~good]
        rows.append([number, *(int((group & is_test).sum()) for group in groups)])
    return pd.DataFrame(rows, columns=["set", *PUBLISHED_COUNTS])


def classifiers(counts: pd.DataFrame) -> pd.DataFrame:
    """Return counts and error rates of classifiers, ours beside the replication's.

    The replication's are those of its own test: 172 rows trained on, 200,000 tested, of which some repeat a training
    cell (`PUBLISHED_COUNTS`).

    Parameters
    ----------
    counts : DataFrame
        As `classify` returns it.

    Returns
    -------
    DataFrame
        One row per training set, then "all sets", then "replication": classifier, the columns of counts, n, and what
        `.replication.classified` returns as share_accurate (of those kept), share_right, share_missed (of the accurate
        ones) and share_false (of the others).
    """
    names = list(PUBLISHED_COUNTS)
    rows = [(f"set {row['set']}", row) for row in counts.to_dict("records")]
    rows += [("all sets", counts[names].sum().to_dict()), ("replication", PUBLISHED_COUNTS)]
    found = []
    for name, row in rows:
        good, others, missed, dropped = (int(row[one]) for one in names)
        kept, left = (np.repeat([1.0, 0.0], pair) for pair in ((good, others), (missed, dropped)))
        found.append(
            {"classifier": name}
            | {one: int(row[one]) for one in names}
            | replication.classified(kept, left, threshold=0.5)
        )
    return pd.DataFrame(found).rename(columns=RATES)


def oracle(stored: pd.DataFrame) -> pd.DataFrame:
    """Return the stored accuracies and losses of the best networks beside the printed.

    Parameters
    ----------
    stored : DataFrame
        As `.derived.stored("oracle")` returns it.

    Returns
    -------
    DataFrame
        benchmark, measure, stored, printed (NaN where the study prints none).
    """
    table = stored.rename(columns={"value": "stored"})
    printed = [ORACLE.get((row.benchmark, row.measure), math.nan) for row in table.itertuples()]
    return table.assign(printed=printed)[["benchmark", "measure", "stored", "printed"]]
