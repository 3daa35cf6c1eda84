"""Tables of the comparison: means with intervals, lines of reference, and advice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from naaplib import metrics
from naaplib.evaluation import printed, training_sets
from naaplib.studies.comparison import block_effects, tasks

KEY = ["family", "estimator", "epochs", "n_networks"]


def summarise(runs: pd.DataFrame, n_resamples: int) -> pd.DataFrame:
    """Return the mean of each estimator over splits, with a bootstrap interval of tau.

    Parameters
    ----------
    runs : DataFrame
        As `tasks.compare` returns it.
    n_resamples : int
        Bootstrap samples of splits. Their test networks are disjoint, so that an interval is also one over networks.

    Returns
    -------
    DataFrame
        family, estimator, epochs, n_networks, n_sets (splits), n (test networks of one), kendall_tau, its _sd, _low
        and _high, violations, mae; the highest tau first within a number of epochs.
    """
    table = training_sets.summarise(runs, KEY, n_resamples=n_resamples)
    means = runs.groupby(KEY, sort=False)[["violations", "mae"]].mean().reset_index()
    found = table.merge(means, on=KEY, validate="one_to_one")
    return found.sort_values(["epochs", "kendall_tau"], ascending=[True, False], kind="stable", ignore_index=True)


def differences(runs: pd.DataFrame, reference: tuple[str, int], *, n_resamples: int) -> pd.DataFrame:
    """Compare every estimator with one of them, split by split.

    Returns
    -------
    DataFrame
        family, estimator, epochs, gap (mean of tau minus the reference's), low, high (95 % bootstrap interval over
        splits), n (splits).
    """
    is_reference = (runs["estimator"] == reference[0]) & (runs["epochs"] == reference[1])
    base = runs[is_reference].set_index("split")["kendall_tau"]
    gaps = runs.assign(kendall_tau=runs["kendall_tau"] - runs["split"].map(base))
    found = training_sets.summarise(gaps, ["family", "estimator", "epochs"], n_resamples=n_resamples)
    names = {"kendall_tau": "gap", "kendall_tau_low": "low", "kendall_tau_high": "high", "n_sets": "n"}
    return found[["family", "estimator", "epochs", *names]].rename(columns=names)


def sizes(runs: pd.DataFrame, n_resamples: int) -> pd.DataFrame:
    """Return the mean tau of each estimator and training size, with intervals."""
    return training_sets.summarise(runs, ["estimator", "n_train"], n_resamples=n_resamples)


def references(summary: pd.DataFrame) -> dict[str, float]:
    """Return the tau of what needs no other network, on NAAP-440: lines of the figure."""
    epochs = summary[summary["estimator"] == "highest accuracy so far"]
    nearest = epochs.loc[(epochs["epochs"] - 9).abs().idxmin()]
    size = summary[summary["estimator"] == "multiply-accumulates"].iloc[0]
    return {
        f"its own accuracy after {int(nearest['epochs'])} epochs": nearest["kendall_tau"],
        "multiply-accumulates": size["kendall_tau"],
    }


def cell_references(accuracies: pd.DataFrame, macs: Sequence[float]) -> dict[str, float]:
    """Return the tau of what needs no other network, on NAS-Bench-201."""
    truth = accuracies[200, "mean"].to_numpy(float)
    return {
        "its own accuracy after 12 epochs": metrics.kendall_tau(truth, accuracies[12, "single"].to_numpy(float)),
        "multiply-accumulates": metrics.kendall_tau(truth, np.asarray(macs, dtype=float)),
    }


def best_of(summary: pd.DataFrame, *, epochs: int, n_networks: bool, families: Sequence[str]) -> pd.Series:
    """Return the row of the highest tau of some families at a number of epochs."""
    rows = summary[(summary["epochs"] == epochs) & summary["family"].isin(families)]
    rows = rows[(rows["n_networks"] > 0) == n_networks]
    return rows.loc[rows["kendall_tau"].idxmax()]


def recommendation(summary: pd.DataFrame, by_size: pd.DataFrame, *, few: int, epochs: int) -> pd.DataFrame:
    """Return what to use with what one has, and what it reaches.

    Methods named here are fixed ones, and their tau is what they reach in this comparison. "Best of" rows say that they
    are the best among several by the same test networks, which flatters them a little.

    Returns
    -------
    DataFrame
        you have, use, needs (networks trained beforehand), epochs (of the asked network), kendall_tau, low, high.
    """
    fixed = by_size[(by_size["estimator"] == tasks.PROCESS) & (by_size["n_train"] == few)].iloc[0]

    def row(have: str, one: pd.Series, use: str = "") -> dict[str, object]:
        values = {"kendall_tau": one["kendall_tau"], "low": one["kendall_tau_low"], "high": one["kendall_tau_high"]}
        needs = {"needs": int(one.get("n_networks", few)), "epochs": int(one.get("epochs", 0))}
        return {"you have": have, "use": use or one["estimator"]} | needs | values

    named = summary.set_index(["estimator", "epochs"])

    def of(name: str, n: int) -> pd.Series:
        return pd.concat([named.loc[(name, n)], pd.Series({"estimator": name, "epochs": n})])

    untrained = best_of(summary, epochs=0, n_networks=False, families=[tasks.SIZE, tasks.PROXY])
    alone = best_of(summary, epochs=epochs, n_networks=False, families=[tasks.OWN, tasks.CURVES])
    n = int(summary["n_networks"].max())
    return pd.DataFrame([
        row("nothing trained", untrained, f"best of sizes and proxies: {untrained['estimator']}"),
        row(f"{epochs} epochs of the network itself", alone, f"best without others: {alone['estimator']}"),
        row(f"{few} trained networks", fixed, f"{tasks.PROCESS}"),
        row(f"{n} trained networks", of(tasks.PROCESS, 0)),
        row(f"{n} trained networks and {epochs} epochs", of(tasks.PROCESS, epochs)),
    ])  # fmt: skip


def readable(table: pd.DataFrame, digits: int = 3) -> pd.Series:
    """Return each mean with its interval in one cell of text."""
    names = ["kendall_tau", "low", "high"] if "low" in table else "kendall_tau"
    return pd.Series(printed.with_interval(table, names, spec=f".{digits}f"))


def sentence(advice: pd.DataFrame, announced: pd.DataFrame | None = None) -> str:
    """Return the answer, of rows that are fixed beforehand.

    Parameters
    ----------
    advice : DataFrame
        As `recommendation` returns it.
    announced : DataFrame, optional
        Scores of the announced predictor with published_mae, the error of the published training as a prediction.
    """
    alone = advice[advice["epochs"] > 0].iloc[0]
    few, many = advice.iloc[2], advice.iloc[3]
    text = (
        f"Before its first epoch, once {many['needs']} others are trained: features of its blocks rank networks with a "
        f"Kendall's tau of **{many['kendall_tau']:.2f}**, and still **{few['kendall_tau']:.2f}** with {few['needs']} "
        f"others, where {int(alone['epochs'])} epochs of its own and no others give **{alone['kendall_tau']:.2f}**."
    )
    if announced is None or announced.empty:
        return text
    seeds = announced.dropna(subset=["published_mae"])  # not the row of their mean
    errors, n = seeds[["mae", "published_mae"]].mean(), len(seeds)
    new = f"{n} new trainings" if n > 1 else "a new training"
    return (
        f"{text} A predictor announced before the data erred by {errors['mae']:.4f} on {new} of each test network; the "
        f"published training, taken as the prediction, erred by {errors['published_mae']:.4f}."
    )


def importances(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the mean loss of tau when a group of features is permuted.

    Parameters
    ----------
    table : DataFrame
        Record "blocks/importance".
    kind : str
        One of its kinds of groups.

    Returns
    -------
    DataFrame
        group, n (splits), tau_loss, tau_loss_sd (over splits), mae_loss.
    """
    found = block_effects.summary(table[table["kind"] == kind], ["group"], of=["tau_loss", "mae_loss"])
    found = found.drop(columns="mae_loss_sd").rename(columns={"n_splits": "n"})
    return found.sort_values("tau_loss", ascending=False, ignore_index=True)


def extrapolations(estimators: pd.DataFrame, algorithms: pd.DataFrame, *, names: Sequence[str]) -> pd.DataFrame:
    """Return the tau of some estimators on networks unlike those learnt from.

    Parameters
    ----------
    estimators, algorithms : DataFrame
        Records "extrapolation/estimators" and "extrapolation/algorithms".
    names : sequence of str
        Estimators to show, in this order.

    Returns
    -------
    DataFrame
        estimator, features, and a column for each split.
    """
    both = pd.concat([estimators, algorithms], ignore_index=True)
    chosen = both[both["estimator"].isin(names)]
    wide = chosen.pivot_table("kendall_tau", ["estimator", "features"], "split", sort=False)
    return wide.reset_index().rename_axis(columns=None)
