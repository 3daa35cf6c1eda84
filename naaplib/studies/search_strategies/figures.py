"""Figures of guided searches: the best accuracy so far against the budget."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, distinguish

LOOKS = ((INK, "-"), (BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (VERMILION, (0, (5, 1))), (PURPLE, ":"), (SKY, "-"))


def draw_curves(
    ax: Axes,
    curves: pd.DataFrame,
    *,
    x: str = "n_trained",
    oracle: float | None = None,
    starts: Mapping[str, float] | None = None,
) -> None:
    """Draw the mean of each search's best against its budget, with intervals.

    Parameters
    ----------
    ax : Axes
    curves : DataFrame
        Columns search (at most seven, distinguished by colour and dash), x, mean, low, high.
    x : str
        Column of the budget.
    oracle : float or None
        The best possible value, drawn as a thin line.
    starts : mapping from search to x, or None
        Budgets at which searches begin to use their predictors, drawn as dots.
    """
    for name, (colour, dash) in distinguish(curves["search"].unique(), LOOKS).items():
        part = curves[curves["search"] == name]
        ax.fill_between(part[x], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(part[x], part["mean"], linestyle=dash, color=colour, linewidth=1.6, label=name)
        if starts and name in starts:
            place = (part[x] - starts[name]).abs().idxmin()
            ax.plot(part.loc[place, x], part.loc[place, "mean"], "o", color=colour, markersize=5)
    if oracle is not None:
        ax.axhline(oracle, color=GREY, linewidth=0.9, linestyle=":")
    ax.set_ylabel("accuracy of what is found")
