"""Figures of retrained networks: runs, their differences, curves, noise floor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, PURPLE, VERMILION, distinguish
from naaplib.studies.accuracy_table import tables

MARKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"), (PURPLE, "v"), (INK, "P"))  # by comparison or run
UNITS = {"loss_mean": "mean loss (nats)", "loss_median": "median loss (nats)", "accuracy": "test accuracy"}


def differences(
    records: pd.DataFrame, comparisons: Mapping[str, tuple[str, str]], *, measure: str = "accuracy"
) -> pd.DataFrame:
    """Summarise differences between runs over networks, for `draw_differences`.

    Parameters
    ----------
    records : DataFrame
        As for `naaplib.studies.accuracy_table.tables`.
    comparisons : mapping from name to (reference, other)
        Pairs of runs. A difference is other minus reference, for networks and epochs that both have.
    measure : {"loss_mean", "loss_median", "accuracy"}

    Returns
    -------
    DataFrame
        One row per comparison and epoch: comparison, epoch, n_archs, mean, q05, q25, q50, q75, q95 (quantiles).
    """
    rows = []
    for name, (reference, other) in comparisons.items():
        for part in tables.matched(records, reference, other=other, measures=[measure]):
            difference = part[f"{measure}_other"] - part[measure]
            row = {"comparison": name, "epoch": part["epoch"].iloc[0], "n_archs": len(part), "mean": difference.mean()}
            rows.append(row | {f"q{level:02}": difference.quantile(level / 100) for level in (5, 25, 50, 75, 95)})
    return pd.DataFrame(rows)


def curves(records: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Average one measure over the networks that all runs have, for `draw_curves`.

    Returns
    -------
    DataFrame
        One row per run and epoch: run, epoch, n_archs, mean, q05, q95 (quantiles over networks).
    """
    n_runs = records.groupby("ModelId")["run"].transform("nunique")
    common = records[n_runs == records["run"].nunique()]
    if common.empty:
        raise ValueError(f"no network is in all of the runs {', '.join(records['run'].unique())}")
    rows = []
    for run in records["run"].unique():
        for epoch, values in common[common["run"] == run].groupby("epoch")[measure]:
            row = {"run": run, "epoch": epoch, "n_archs": len(values), "mean": values.mean()}
            rows.append(row | {"q05": values.quantile(0.05), "q95": values.quantile(0.95)})
    return pd.DataFrame(rows)


def draw_runs(axes: Axes, targets: pd.DataFrame, *, run_a: str, run_b: str, text: str = "") -> None:
    """Plot each network's accuracy in one run against another, with the diagonal.

    Parameters
    ----------
    axes : Axes
    targets : DataFrame, shape (n_archs, n_runs)
        As `.tables.by_run` returns it; fractions.
    run_a, run_b : str
        Columns on the x and y axes; they name the axes.
    text : str
        Text in the corner, below n, such as the rank correlation.
    """
    pair = targets[[run_a, run_b]]
    ends = [pair.to_numpy().min(), pair.to_numpy().max()]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.plot(pair[run_a], pair[run_b], "o", color=BLUE, markersize=4, markerfacecolor="none", markeredgewidth=0.8)
    corner = f"n = {len(pair)}" + (f"\n{text}" if text else "")
    axes.text(0.03, 0.97, corner, transform=axes.transAxes, verticalalignment="top")
    axes.set(xlabel=f"test accuracy, {run_a}", ylabel=f"test accuracy, {run_b}", aspect="equal")


def draw_differences(axes: Axes, differences: pd.DataFrame) -> None:
    """Plot the distribution of differences over networks, by epoch and comparison.

    The marker is the median, a thick line the quartiles, a thin line the middle 90 %.

    Parameters
    ----------
    axes : Axes
    differences : DataFrame
        As `differences` returns it for accuracies, with at most six comparisons. Epochs are evenly spaced.
    """
    epochs = sorted(differences["epoch"].unique())
    names = differences["comparison"].unique()
    axes.axhline(0, color=GREY, linewidth=1)
    for i, (name, (colour, mark)) in enumerate(distinguish(names, MARKS).items()):
        part = differences[differences["comparison"] == name]
        x = np.searchsorted(epochs, part["epoch"]) + 0.8 * ((i + 0.5) / len(names) - 0.5)
        axes.vlines(x, part["q05"], part["q95"], color=colour, linewidth=1)
        axes.vlines(x, part["q25"], part["q75"], color=colour, linewidth=4)
        label = f"{name} (n = {_span(part['n_archs'])})"
        axes.plot(x, part["q50"], mark, color=colour, markeredgecolor=INK, markersize=6, label=label)
    axes.set(xlabel="epoch", xticks=range(len(epochs)), xticklabels=epochs, ylabel=f"difference in {UNITS['accuracy']}")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))


def draw_curves(axes: Axes, curves: pd.DataFrame, *, measure: str = "accuracy") -> None:
    """Plot means over networks by epoch, one line per run.

    A band shows the middle 90 % of the first run's networks.

    Parameters
    ----------
    axes : Axes
    curves : DataFrame
        As `curves` returns it, with at most six runs.
    measure : str
        Determines the unit in the label.
    """
    runs = curves["run"].unique()
    for i, (run, (colour, mark)) in enumerate(distinguish(runs, MARKS).items()):
        part = curves[curves["run"] == run]
        if i == 0:
            band = f"{run}, middle 90 % of networks"
            axes.fill_between(part["epoch"], part["q05"], part["q95"], color=LIGHT, linewidth=0, label=band)
        label = f"{run} (n = {_span(part['n_archs'])})"
        # Markers at every few epochs, offset by run, distinguish the lines without colour.
        every = (i, max(1, len(part) // 10)) if len(part) > 10 else None
        axes.plot(part["epoch"], part["mean"], marker=mark, markevery=every, color=colour, markersize=5, label=label)
    axes.set(xlabel="epoch", ylabel=f"{UNITS[measure]}, mean of networks")
    if len(epochs := sorted(curves["epoch"].unique())) <= 10:
        axes.set_xticks(epochs)
    axes.legend()


def draw_floor(axes: Axes, scores: pd.DataFrame, *, floor: pd.DataFrame) -> None:
    """Plot each estimator's violations in its own run and in others, with the floor.

    Parameters
    ----------
    axes : Axes
    scores : DataFrame
        algorithm, violations_own, violations_others, n_pairs, for one feature set of `.tables.score_twice`; drawn
        from top to bottom.
    floor : DataFrame, one row
        violations, violations_low, violations_high for as many pairs, as
        `naaplib.studies.accuracy_table.tables.floor` returns it.
    """
    if len(pairs := {*scores["n_pairs"], *floor["n_pairs"]}) > 1:
        raise ValueError(f"estimators and floor must be of the same number of pairs, not {sorted(pairs)}")
    y = np.arange(len(scores))
    (bar,) = floor.to_dict("records")
    axes.axvspan(bar["violations_low"], bar["violations_high"], color=LIGHT, label="its range over trainings")
    axes.axvline(bar["violations"], color=INK, linestyle="--", linewidth=1.5, label="perfect predictor")
    axes.hlines(y, scores["violations_own"], scores["violations_others"], color=GREY, linewidth=1)
    axes.plot(scores["violations_own"], y, "o", color=BLUE, markersize=5, label="own training")
    axes.plot(
        scores["violations_others"], y, "D", color=VERMILION, markersize=5, markerfacecolor="white", label="others"
    )
    xlabel = f"violations of {pairs.pop():.0f} pairs (ties one half)"
    axes.set(xlabel=xlabel, yticks=y, yticklabels=scores["algorithm"], xlim=(0, None))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def draw_recipes(axes: Axes, compared: pd.DataFrame, *, names: Mapping[str, str]) -> None:
    """Plot rank correlations by recipe, with their intervals.

    Parameters
    ----------
    axes : Axes
    compared : DataFrame
        As `.recipes.compare` returns it; drawn from top to bottom.
    names : mapping from column to label
        Correlations to draw, at most six.
    """
    y = np.arange(len(compared))
    for i, (name, (colour, mark)) in enumerate(distinguish(names, MARKS).items()):
        places = y + 0.7 * ((i + 0.5) / len(names) - 0.5)
        axes.hlines(places, compared[f"{name}_low"], compared[f"{name}_high"], color=colour, linewidth=1)
        axes.plot(compared[name], places, mark, color=colour, markeredgecolor=INK, markersize=6, label=names[name])
    axes.set(xlabel="Kendall's tau, with 95 % intervals", yticks=y, yticklabels=compared["recipe"])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _span(counts: pd.Series) -> str:
    """Return the number of networks as text, or the fewest and the most."""
    low, high = counts.min(), counts.max()
    return f"{low}" if low == high else f"{low} to {high}"
