"""Figures of the baselines: predictions, predicted order, and all splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREY, INK, LIGHT, VERMILION


def draw_predictions(axes: Axes, run: pd.DataFrame) -> None:
    """Draw predicted against measured accuracy of one run, with the diagonal.

    This is the study's figure 5; the run has the test architectures.

    Parameters
    ----------
    axes : Axes
    run : DataFrame, shape (n_test, n_columns)
        Columns measured and predicted, fractions.
    """
    ends = [run["measured"].min(), run["measured"].max()]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.plot(run["measured"], run["predicted"], "o", color=BLUE, markersize=4)
    axes.set(xlabel="measured accuracy", ylabel="predicted accuracy", aspect="equal")


def draw_order(axes: Axes, run: pd.DataFrame) -> None:
    """Draw a line from each measured rank to the predicted rank, for one run.

    Each crossing is a violation, as in the study's figure 6. Architectures misplaced by more than a tenth of all ranks
    are orange.

    Parameters
    ----------
    axes : Axes
    run : DataFrame, shape (n_test, n_columns)
        Columns measured and predicted, fractions.
    """
    ranks = run[["measured", "predicted"]].rank().to_numpy() - 1
    moved = np.abs(ranks[:, 1] - ranks[:, 0]) > len(run) / 10
    for pair, far in zip(ranks, moved, strict=True):
        axes.plot([0, 1], pair, color=VERMILION if far else BLUE, linewidth=1, marker="o", markersize=2.5)
    axes.set(xlim=(-0.05, 1.05), xticks=[0, 1], xticklabels=["true", "predicted"], ylabel="rank")
    axes.grid(visible=False)


def draw_split_ranges(axes: Axes, table: pd.DataFrame) -> None:
    """Draw each algorithm's violations: range over splits, mean, paper's split.

    Parameters
    ----------
    axes : Axes
    table : DataFrame, shape (n_algorithms, n_columns)
        Columns algorithm, min, mean, max, paper; drawn from top to bottom.
    """
    y = np.arange(len(table))
    axes.hlines(y, table["min"], table["max"], color=LIGHT, linewidth=6)
    axes.plot(table["mean"], y, "|", color=INK, markersize=9, markeredgewidth=2, label="mean of the splits")
    axes.plot(table["paper"], y, "o", color=VERMILION, markersize=5, label="the paper's split")
    axes.set(xlabel="violations (ties one half)", yticks=y, yticklabels=table["algorithm"], xlim=(0, None))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
