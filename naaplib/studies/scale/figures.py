"""Figures of scale: seconds and memory against the size of a job."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from naaplib.evaluation.style import BLUE, GREY, ORANGE

LOOKS = ((BLUE, "o"), (ORANGE, "s"))


def draw_seconds(axes: Axes, costs: pd.DataFrame) -> None:
    """Draw seconds per network and epoch against the size of a job.

    There is a line for each number of processes; bars show the range over rounds.

    Parameters
    ----------
    axes : Axes
    costs : DataFrame
        size, n_processes, seconds, low, high; rows whose seconds are missing are left out.
    """
    for (n, part), (colour, mark) in zip(costs.dropna().groupby("n_processes"), LOOKS * len(costs), strict=False):
        below, above = part["seconds"] - part["low"], part["high"] - part["seconds"]
        label = "one process" if n == 1 else f"{n} side by side, each"
        axes.errorbar(part["size"], part["seconds"], [below, above], fmt=f"{mark}-", color=colour, label=label)
    axes.legend()
    sizes = sorted(costs["size"].unique())
    axes.set(xscale="log", xlabel="networks in a unit", xticks=sizes, xticklabels=[str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("seconds per network and epoch")
    axes.set_ylim(bottom=0)


def draw_memory(axes: Axes, memory: pd.DataFrame) -> None:
    """Draw peak memory against the size of a job, with the fitted line.

    Parameters
    ----------
    axes : Axes
    memory : DataFrame
        size, gib, fitted_gib; in the order of sizes.
    """
    axes.plot(memory["size"], memory["fitted_gib"], color=GREY, label="fitted: a base, and as much for each network")
    axes.plot(memory["size"], memory["gib"], "o", color=BLUE, label="measured")
    axes.legend()
    axes.set(xlabel="networks in a unit", ylabel="peak memory (GiB)")
    axes.set_ylim(bottom=0)
