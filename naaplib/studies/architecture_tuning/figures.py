"""Figures of architecture tuning: regret against cost, and zero-cost metrics."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, distinguish

LOOKS = ((BLUE, "-"), (INK, "-"), (ORANGE, "--"), (GREEN, "-."), (VERMILION, (0, (5, 1))), (PURPLE, ":"), (SKY, "-"))


def draw_regrets(ax: Axes, curves: pd.DataFrame) -> None:
    """Draw mean regret in percentage points against cost, with intervals.

    Parameters
    ----------
    ax : Axes
    curves : DataFrame
        Columns search (at most seven, distinguished by colour and dash), spent, and mean, low, high as fractions.
    """
    for name, (colour, dash) in distinguish(curves["search"].unique(), LOOKS).items():
        part = curves[curves["search"] == name]
        ax.fill_between(part["spent"], 100 * part["low"], 100 * part["high"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(part["spent"], 100 * part["mean"], linestyle=dash, color=colour, linewidth=1.6, label=name)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("regret (percentage points)")


def draw_metrics(ax: Axes, metrics: Mapping[str, pd.DataFrame], *, x: str, y: str) -> None:
    """Draw one metric of networks against another, on logarithmic axes.

    Parameters
    ----------
    ax : Axes
    metrics : mapping from space to DataFrame
        At most three spaces, one colour and marker each; columns x, y.
    x, y : str
    """
    for (name, table), colour, mark in zip(metrics.items(), (BLUE, ORANGE, GREEN), "os^", strict=False):
        ax.plot(table[x], table[y], mark, color=colour, markersize=3, alpha=0.6, label=name, linestyle="none")
    ax.set_xscale("log")
    ax.set_yscale("log")
