"""Plots of a user's own results, in the style of the book; each returns its axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from naaplib import metrics
from naaplib.estimators.final_accuracy import tabulate
from naaplib.evaluation import style
from naaplib.evaluation.style import BLUE, GREY, INK, LIGHT, VERMILION

SPENT = {"spent": "budget spent", "step": "evaluations", "number": "trials"}  # columns of a trace, in this order
VALUES = ("value", "score")
MEASURES = {"kendall_tau": "Kendall's tau", "violations": "pairs in the wrong order", "mae": "mean absolute error"}
N_CURVES_NAMED = 8


def plot_ranking(ranking: pd.DataFrame, by: str | None = None, *, n_models: int = 30, ax: Axes | None = None) -> Axes:
    """Plot the scores of ranked models, best on top.

    Parameters
    ----------
    ranking : DataFrame
        As `naaplib.estimators.proxies.rank.rank` returns it.
    by : str, optional
        Score to plot; by default the first one in the table.
    n_models : int
        Largest number of models, from the best; those without the score are named below, in grey.
    ax : Axes, optional
        Axes to draw into; new ones by default.

    Examples
    --------
    >>> columns = {"rank": [1, 2], "model": ["a", "b"], "by": ["macs"] * 2, "score": [9.0, 4.0]}
    >>> [label.get_text() for label in plot_ranking(pd.DataFrame(columns)).get_yticklabels()]
    ['a', 'b']
    """
    scores = list(dict.fromkeys(ranking["by"]))
    by = scores[0] if by is None else by
    if by not in scores:
        raise ValueError(f"the ranking has no score {by!r}; it has {', '.join(scores)}")
    rows = ranking[ranking["by"] == by].head(n_models)
    if ax is None:
        _, ax = style.subplots(height=max(1.2 + 0.26 * len(rows), 2.0))
    places, values = np.arange(len(rows)), rows["score"].to_numpy(dtype=float)
    ax.hlines(places, np.nanmin(values, initial=0.0), values, color=LIGHT)
    ax.plot(values, places, "o", color=BLUE)
    if len(values) and np.nanmin(values) > 0 and np.nanmax(values) > 100 * np.nanmin(values):
        ax.set_xscale("log")
    ax.set_yticks(places, rows["model"])
    for label, value in zip(ax.get_yticklabels(), values, strict=True):
        label.set_color(INK if np.isfinite(value) else GREY)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlabel(by)
    n_all, n_scored = (ranking["by"] == by).sum(), int(ranking.loc[ranking["by"] == by, "score"].notna().sum())
    ax.set_title(f"{n_scored} of {n_all} models have {by}" if n_scored < n_all else f"{n_all} models by {by}")
    return ax


def plot_learning_curves(
    curves: pd.DataFrame, predictions: pd.DataFrame | None = None, *, at: int | None = None, ax: Axes | None = None
) -> Axes:
    """Plot learning curves, and predicted final accuracies with their intervals.

    Parameters
    ----------
    curves : DataFrame
        As `naaplib.estimators.final_accuracy.predict` takes it.
    predictions : DataFrame, optional
        As it returns them for these curves.
    at : int, optional
        Epoch of the predictions; by default, just after the last one seen.
    ax : Axes, optional

    Examples
    --------
    >>> ax = plot_learning_curves(pd.DataFrame([[0.3, 0.5], [0.2, 0.4]], index=["a", "b"]))
    >>> len(ax.lines), ax.get_xlabel()
    (2, 'epoch')
    """
    wide = tabulate(curves)
    if ax is None:
        _, ax = style.subplots()
    epochs = np.arange(1, wide.shape[1] + 1)
    few = len(wide) <= N_CURVES_NAMED
    at = wide.shape[1] + 1 if at is None else at
    for number, (name, row) in enumerate(wide.iterrows()):
        (line,) = ax.plot(
            epochs, row, label=str(name) if few else None, color=None if few else BLUE, alpha=1 if few else 0.4
        )
        if predictions is not None:
            found = predictions.loc[name]
            place = at + 0.05 * at * number / len(wide)  # beside each other
            ends = [int(found["n_seen"]), place], [found["last"], found["estimate"]]
            ax.plot(*ends, ":", color=line.get_color(), linewidth=1, alpha=0.6)
            ax.vlines(place, found["low"], found["high"], color=line.get_color(), alpha=0.6)
            ax.plot(place, found["estimate"], "o", color=line.get_color(), alpha=line.get_alpha())
    if few:
        ax.legend()
    ax.set_xlabel("epoch")
    ax.set_ylabel("accuracy")
    ax.set_title(f"{len(wide)} trainings" + (f", predicted at epoch {at}" if predictions is not None else ""))
    return ax


def plot_predictions(
    measured: ArrayLike,
    predicted: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Plot predicted against measured accuracies, with their rank correlation.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
    low, high : array_like, shape (n_archs,), optional
        Bounds of the predictions' intervals.
    ax : Axes, optional

    Examples
    --------
    >>> plot_predictions([0.5, 0.6, 0.8], [0.4, 0.7, 0.9]).get_title("left")
    "3 networks, Kendall's tau 1.00:\n0 of 3 pairs in the wrong order"
    """
    y, p = np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)
    tau, wrong = metrics.kendall_tau(y, p), metrics.violations(y, p)
    if ax is None:
        _, ax = style.subplots(width=5.2, height=5.0)
        ax.locator_params(nbins=6)
    ends = min(y.min(), p.min()), max(y.max(), p.max())
    ax.plot(ends, ends, color=GREY, linewidth=1)
    if low is not None and high is not None:
        ax.vlines(y, np.asarray(low, dtype=float), np.asarray(high, dtype=float), color=BLUE, alpha=0.25)
    ax.plot(y, p, "o", color=BLUE, markersize=4, alpha=0.7)
    ax.set_xlabel("measured accuracy")
    ax.set_ylabel("predicted accuracy")
    n_pairs = len(y) * (len(y) - 1) // 2
    ax.set_title(f"{len(y)} networks, Kendall's tau {tau:.2f}:\n{wrong:g} of {n_pairs} pairs in the wrong order")
    return ax


def plot_evaluation(table: pd.DataFrame, measure: str = "kendall_tau", *, ax: Axes | None = None) -> Axes:
    """Plot one measure of evaluated predictors with intervals, in the table's order.

    Parameters
    ----------
    table : DataFrame
        As `naaplib.evaluation.evaluate.evaluate` returns it.
    measure : {"kendall_tau", "violations", "mae"}
    ax : Axes, optional

    Examples
    --------
    >>> row = {"estimator": "mine", "kendall_tau": 0.8, "kendall_tau_low": 0.7, "kendall_tau_high": 0.9, "n_test": 40}
    >>> plot_evaluation(pd.DataFrame([row])).get_xlabel()
    "Kendall's tau, 40 test networks"
    """
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}; it must be one of {', '.join(MEASURES)}")
    if ax is None:
        _, ax = style.subplots(height=max(1.2 + 0.32 * len(table), 2.0))
    places = np.arange(len(table))
    ax.hlines(places, table[f"{measure}_low"], table[f"{measure}_high"], color=BLUE, alpha=0.5)
    ax.plot(table[measure], places, "o", color=BLUE)
    ax.set_yticks(places, table["estimator"])
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    sizes = sorted(set(table["n_test"]))
    ax.set_xlabel(f"{MEASURES[measure]}, {' or '.join(map(str, sizes))} test networks")
    return ax


def plot_trajectory(traces: pd.DataFrame | Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Plot the best value of one or several searches against what they have spent.

    Parameters
    ----------
    traces : DataFrame, or mapping from name to DataFrame
        Traces of searches, one row per evaluation: spent (or step, or number), value (or score), and best so far, by
        default the highest value. A column method separates several. Values that are not finite count as failures.
    ax : Axes, optional

    Examples
    --------
    >>> plot_trajectory(pd.DataFrame({"spent": [1, 2, 3], "score": [0.5, 0.4, 0.7]})).lines[0].get_ydata().tolist()
    [0.5, 0.5, 0.7]
    """
    if isinstance(traces, pd.DataFrame) and "method" in traces:
        traces = {str(name): rows for name, rows in traces.groupby("method", sort=False)}
    named = traces if isinstance(traces, Mapping) else {"search": traces}
    if ax is None:
        _, ax = style.subplots()
    shown = ""
    for name, trace in named.items():
        x = next((column for column in SPENT if column in trace), None)
        value = next((column for column in VALUES if column in trace), None)
        if x is None or (value is None and "best" not in trace):
            raise ValueError(
                f"trace {name!r} has columns {list(trace)}; it needs one of {', '.join(SPENT)}, and best or one of "
                f"{', '.join(VALUES)}"
            )
        values = trace[value or "best"].astype(float).replace([np.inf, -np.inf], np.nan)
        best = trace["best"] if "best" in trace else values.cummax().ffill()
        ax.step(trace[x], best, where="post", label=name)
        if len(named) == 1 and value is not None:
            ax.plot(trace[x], values, ".", color=GREY, alpha=0.5)
            failed = values.isna()
            ax.plot(trace.loc[failed, x], np.full(int(failed.sum()), values.min()), "x", color=VERMILION)
        shown = SPENT[x]
    if len(named) > 1:
        ax.legend()
    ax.set_xlabel(shown)
    ax.set_ylabel("best so far")
    return ax
