"""Figures of neural predictors, and of the replication's stored results."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, PURPLE, SKY, VERMILION, distinguish
from naaplib.studies.neural_predictor import replication

LINE = (GREY, "|")
LOOKS = ((VERMILION, "s"), (BLUE, "o"), (ORANGE, "^"), (GREEN, "D"), (PURPLE, "v"), (SKY, "P"), (INK, "X"))


def draw_systems(ax: Axes, table: pd.DataFrame, *, drop: Collection[str] = ()) -> None:
    """Draw tau-b of every system with its interval, a row for each dataset.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns dataset, system, kendall_tau, kendall_tau_low, kendall_tau_high; the first dataset is on top.
        Systems whose names begin with "line on" share one grey marker; there are at most seven others.
    drop : collection of str
        Systems to leave out.
    """
    table = table[~table["system"].isin(drop)]
    datasets = list(table["dataset"].unique())
    lines = table["system"].str.startswith("line on")
    networks = sorted(table.loc[~lines, "system"].unique())
    places = {name: (i + 1) / (len(networks) + 1) - 0.5 for i, name in enumerate(networks)}
    drawn = [("line on one feature", LINE, table[lines])] if lines.any() else []
    drawn += [(name, look, table[table["system"] == name]) for name, look in distinguish(networks, LOOKS).items()]
    for name, (colour, mark), part in drawn:
        y = [-datasets.index(row.dataset) - 0.8 * places.get(name, 0) for row in part.itertuples()]
        ax.hlines(y, part["kendall_tau_low"], part["kendall_tau_high"], color=colour)
        size = 14 if (colour, mark) == LINE else 5
        ax.plot(part["kendall_tau"], y, mark, color=colour, markersize=size, label=name)
    for row in range(1, len(datasets)):
        ax.axhline(0.5 - row, color=LIGHT, linewidth=0.6)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks([-i for i in range(len(datasets))], [name.replace(" on ", "\non ") for name in datasets])
    ax.grid(visible=False, axis="y")
    ax.set_ylim(0.55 - len(datasets), 0.55)
    ax.set_xlabel("Kendall's tau-b on test rows")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def draw_ten_points(ax: Axes, drawn: pd.DataFrame, *, chosen: float, full: float) -> None:
    """Draw the distribution of Kendall's tau over random test sets.

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
    """
    ax.hist(drawn["kendall_tau"].dropna(), bins=20, color=LIGHT, edgecolor=GREY, linewidth=0.4)
    n_rows = int(drawn["n"].iloc[0])
    for value, colour, line, label in (
        (chosen, VERMILION, "-", f"the {n_rows} points printed"),
        (full, BLUE, "--", "all test rows"),
    ):
        ax.axvline(value, color=colour, linestyle=line, label=label)
    ax.set_xlabel("Kendall's tau-b")
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
