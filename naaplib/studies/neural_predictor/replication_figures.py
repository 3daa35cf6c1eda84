"""Figures of the replication's stored results: test sets, leakage, random search."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, VERMILION
from naaplib.studies.neural_predictor import replication

LABELS = {"mse": "mean squared error", "kendall_tau": "Kendall's tau-b", "r2": "R²"}


def draw_ten_points(ax: Axes, drawn: pd.DataFrame, *, chosen: float, full: float, measure: str = "kendall_tau") -> None:
    """Draw the distribution of a measure over random test sets.

    Lines mark its value on the printed ten points and on the full test set.

    Parameters
    ----------
    ax : Axes
    drawn : DataFrame
        As `.replication.subsets` returns it; NaN is left out.
    chosen : float
        Value on the points of the printed table.
    full : float
        Value on the whole test set.
    measure : {"mse", "kendall_tau", "r2"}
    """
    ax.hist(drawn[measure].dropna(), bins=20, color=LIGHT, edgecolor=GREY, linewidth=0.4)
    n_rows = int(drawn["n"].iloc[0])
    for value, colour, line, label in (
        (chosen, VERMILION, "-", f"the {n_rows} points printed"),
        (full, BLUE, "--", "all test rows"),
    ):
        ax.axvline(value, color=colour, linestyle=line, label=label)
    ax.set_xlabel(LABELS[measure])
    ax.set_ylabel(f"random sets of {n_rows}")
    ax.legend()


def draw_seen(
    ax: Axes, training: ArrayLike, *, measured: ArrayLike, predicted: ArrayLike, limits: tuple[float, float]
) -> None:
    """Draw predicted against measured accuracies of rows that are not trained on.

    Rows of training cells have a colour of their own.

    Parameters
    ----------
    ax : Axes
    training : array_like, shape (n_training,)
        Predictions for the rows trained on.
    measured, predicted : array_like, shape (n_archs,)
        Values of rows that are not trained on.
    limits : (float, float)
        Limits of both axes. The label of the x axis counts rows beyond them, such as networks that failed to train.
    """
    known, cells = replication.same_cells(training, predicted)
    seen, x, y = np.isin(cells, known), np.asarray(measured, float), np.asarray(predicted, float)
    for mask, colour, mark, name in ((~seen, BLUE, ".", "other cells"), (seen, ORANGE, "x", "training cells")):
        label = f"{name} ({mask.mean():.0%} of rows)" if mask.size else name
        ax.plot(
            x[mask], y[mask], mark, color=colour, markersize=3, alpha=0.4, label=label, rasterized=mask.sum() > 5_000
        )
    ax.axline((limits[0], limits[0]), slope=1, color=GREY, linewidth=0.8)
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    beyond = int(((np.minimum(x, y) < limits[0]) | (np.maximum(x, y) > limits[1])).sum())
    ax.set_xlabel("measured" + (f" ({beyond:,} rows lie beyond)" if beyond else ""))
    ax.set_ylabel("predicted")
    legend = ax.legend()
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def draw_random_search(
    ax: Axes, restated: pd.DataFrame, *, replayed: pd.DataFrame | None = None, published: pd.DataFrame | None = None
) -> None:
    """Draw random search as the study computed it, and as it is.

    The study has the mean of single draws; random search is the best of all draws.

    Parameters
    ----------
    ax : Axes
    restated : DataFrame
        As `.replication_search.random_search` returns it.
    replayed : DataFrame, optional
        As `.replication_search.replay` returns it.
    published : DataFrame, optional
        The study's own curves: curve (the label), n_drawn, value.
    """
    lines = [("best of all draws", restated, "n_drawn", "best_of", BLUE, "-")]
    lines += [("running best of means of single draws", restated, "n_drawn", "mean_of_singles", ORANGE, "--")]
    if replayed is not None:
        lines += [("top K of N + K by prediction, replayed", replayed, "n_trained", "found", GREEN, "-.")]
    for label, table, x, value, colour, line in lines:
        ax.plot(table[x], table[value], line, color=colour, label=label)
    low, high = (restated["mean_of_singles"] + sign * restated["mean_of_singles_sd"] for sign in (-1, 1))
    ax.fill_between(restated["n_drawn"], low, high, color=ORANGE, alpha=0.2, linewidth=0)
    if published is not None:
        for i, (name, curve) in enumerate(published.groupby("curve", sort=False)):
            dots = (0, (1, 2 + 2 * i))  # each line is sparser than the one before
            ax.plot(curve["n_drawn"], curve["value"], linestyle=dots, color=INK, linewidth=1.2, label=f"{name}")
    ax.set_xlabel("networks trained")
    ax.legend()


def draw_early_stopping(ax: Axes, early: pd.DataFrame, *, reached: float, label: str) -> None:
    """Draw how well the loss after an epoch ranks models, beside a predictor.

    The predictor needs no training of those models.

    Parameters
    ----------
    ax : Axes
    early : DataFrame
        As `.replication.early_stopping` returns it.
    reached : float
        Kendall's tau-b of the predictor.
    label : str
        Label of the predictor.
    """
    ax.plot(early["epochs"], early["kendall_tau"], "o-", color=BLUE, markersize=4, label="loss after so many epochs")
    ax.axhline(reached, color=VERMILION, linestyle="--", label=label)
    ax.set_ylim(min(0.0, reached, early["kendall_tau"].min()), 1)
    ax.set_xlabel("epochs trained")
    ax.set_ylabel("Kendall's tau-b with the last loss")
    ax.legend()
