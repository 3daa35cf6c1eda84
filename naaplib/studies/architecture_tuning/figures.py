"""Figures of architecture tuning: regret against what was spent, and cheap metrics of spaces."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION

LOOKS = ((BLUE, "-"), (INK, "-"), (ORANGE, "--"), (GREEN, "-."), (VERMILION, (0, (5, 1))), (PURPLE, ":"), (SKY, "-"))


def draw_regrets(ax: Axes, curves: pd.DataFrame) -> None:
    """Draw how far, in percentage points, the best that was found lies below the best there is, with intervals.

    Parameters
    ----------
    ax : Axes
    curves : DataFrame
        Columns search (at most seven, told apart by colour and dash), spent, and mean, low, high as fractions.
    """
    names = list(curves["search"].unique())
    if len(names) > len(LOOKS):
        raise ValueError(f"{len(names)} searches are too many for one figure; {len(LOOKS)} can be told apart")
    for name, (colour, dash) in zip(names, LOOKS, strict=False):
        part = curves[curves["search"] == name]
        ax.fill_between(part["spent"], 100 * part["low"], 100 * part["high"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(part["spent"], 100 * part["mean"], linestyle=dash, color=colour, linewidth=1.6, label=name)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("regret (percentage points)")


def draw_metrics(ax: Axes, metrics: Mapping[str, pd.DataFrame], x: str, y: str) -> None:
    """Draw one metric of networks against another, both on logarithmic axes, a colour and a mark for each space.

    Parameters
    ----------
    ax : Axes
    metrics : mapping from space to DataFrame
        At most three; columns x, y.
    x, y : str
    """
    for (name, table), colour, mark in zip(metrics.items(), (BLUE, ORANGE, GREEN), "os^", strict=False):
        ax.plot(table[x], table[y], mark, color=colour, markersize=3, alpha=0.6, label=name, linestyle="none")
    ax.set_xscale("log")
    ax.set_yscale("log")
