"""Figures of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION
from naaplib.studies.comparison import tasks

LOOKS = {  # colour and mark of a family, throughout the chapter
    tasks.SIZE: (GREY, "s"),
    tasks.PROXY: (PURPLE, "v"),
    tasks.OWN: (INK, "o"),
    tasks.CURVES: (SKY, "^"),
    tasks.PAPER: (ORANGE, "D"),
    tasks.BLOCKS: (BLUE, "o"),
    tasks.GRAF: (GREEN, "P"),
    tasks.GRAPHS: (VERMILION, "X"),
}
LEARNERS = {  # colour, mark and line of an estimator that learns from few networks
    tasks.PROCESS: (BLUE, "o", "-"),
    "blocks, boosting": (SKY, "s", "-"),
    "blocks, ridge": (PURPLE, "^", "-"),
    "blocks, extremely randomised trees": (INK, "v", "-"),
    "GRAF, extremely randomised trees": (GREEN, "P", "-"),
    "GRAF, Gaussian process": (GREEN, "X", "--"),
    "one-hot, ridge": (GREY, "s", "-"),
    "pruned GRAF, Gaussian process": (BLUE, "o", "-"),
    "pruned GRAF, combined": (VERMILION, "D", "-"),
    tasks.SIX: (ORANGE, "D", "-"),
}
BREAK = 0.5  # gap on the axis between no epoch and the first ones, in marks


def places(epochs: Sequence[int]) -> dict[int, float]:
    """Return the place on the axis of each number of epochs, in equal steps."""
    return {n: (0.0 if n == 0 else BREAK + i) for i, n in enumerate(sorted({0, *epochs}))}


def spread(values: Sequence[float], gap: float) -> np.ndarray:
    """Move heights apart to at least `gap`, in their order, as little as may be."""
    order = np.argsort(values, kind="stable")
    moved = np.asarray(values, dtype=float)[order]
    for _ in range(200):
        close = np.flatnonzero(np.diff(moved) < gap - 1e-9)
        if not len(close):
            break
        for i in close:
            lack = (gap - (moved[i + 1] - moved[i])) / 2
            moved[i] -= lack
            moved[i + 1] += lack
    result = np.empty_like(moved)
    result[order] = moved
    return result


def draw_untrained(axes: Axes, rows: pd.DataFrame, *, gap: float) -> None:
    """Draw estimators that need no epoch, each with its name.

    Parameters
    ----------
    axes : Axes
    rows : DataFrame
        family, estimator, n_networks, kendall_tau, kendall_tau_low, kendall_tau_high.
    gap : float
        Least distance of two names, in tau.
    """
    for x, part in enumerate([rows[rows["n_networks"] == 0], rows[rows["n_networks"] > 0]]):
        heights = spread(part["kendall_tau"].tolist(), gap)
        for (_, one), height in zip(part.iterrows(), heights, strict=True):
            colour, mark = LOOKS[one["family"]]
            ends = [[one["kendall_tau"] - one["kendall_tau_low"]], [one["kendall_tau_high"] - one["kendall_tau"]]]
            axes.errorbar(x, one["kendall_tau"], ends, color=colour, marker=mark, markersize=5, linewidth=0.8)
            axes.plot([x + 0.04, x + 0.12], [one["kendall_tau"], height], color=colour, linewidth=0.5)
            axes.text(x + 0.14, height, one["estimator"], va="center", fontsize=8, color=INK)
    axes.set_xlim(-0.15, 2.1)
    needed = int(rows["n_networks"].max())
    axes.set_xticks([0, 1], ["no network\ntrained", f"{needed} networks\ntrained"], ha="left")
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("Kendall's tau")


def draw_by_epochs(axes: Axes, rows: pd.DataFrame, *, epochs: Sequence[int]) -> None:
    """Draw a line for each estimator that sees first epochs."""
    at = places(epochs)
    for (family, name), part in rows.groupby(["family", "estimator"], sort=False):
        colour, mark = LOOKS[str(family)]
        x = [at[n] for n in part["epochs"]]
        face = colour if part["n_networks"].max() > 0 else "white"
        label = f"{name}{'' if part['n_networks'].max() > 0 else ' (no other network)'}"
        axes.plot(x, part["kendall_tau"], color=colour, marker=mark, markerfacecolor=face, markersize=5, label=label)
        axes.fill_between(x, part["kendall_tau_low"], part["kendall_tau_high"], color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks(list(at.values()), [str(n) for n in at])
    axes.set_xlabel("epochs of its own training, of 90")
    axes.legend(loc="lower right", fontsize=8)


def draw_floor(axes: Axes, floor: pd.Series) -> None:
    """Draw the band of a perfect predictor; `floor` is a row of `noise.read`."""
    top = min(floor["kendall_tau_high"], 1)
    axes.axhspan(floor["kendall_tau_low"], top, color=GREY, alpha=0.18, linewidth=0)
    place = axes.get_yaxis_transform()
    axes.text(0.02, floor["kendall_tau"], "what noise leaves to know", transform=place, fontsize=8, va="center")


def draw_sizes(axes: Axes, rows: pd.DataFrame, *, lines: Mapping[str, float]) -> None:
    """Draw tau against the number of training networks, and lines of what needs none."""
    for name, part in rows.groupby("estimator", sort=False):
        colour, mark, style = LEARNERS[str(name)]
        x, low, high = part["n_train"], part["kendall_tau_low"], part["kendall_tau_high"]
        axes.plot(x, part["kendall_tau"], color=colour, marker=mark, linestyle=style, markersize=5, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    for (name, value), style, place in zip(lines.items(), ("--", ":"), (0.01, 0.55), strict=False):
        axes.axhline(value, color=INK, linestyle=style, linewidth=1)
        axes.text(place, value, name, transform=axes.get_yaxis_transform(), va="bottom", fontsize=8)
    axes.set_xscale("log")
    ticks = sorted(set(rows["n_train"]))
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("trained networks to learn from")
    axes.set_ylabel("Kendall's tau")
    axes.legend(loc="lower right", fontsize=8)


def draw_accuracy(axes: Axes, macs: Sequence[float], *, accuracies: Sequence[float], depth: Sequence[int]) -> None:
    """Draw accuracy against size, one point a network, by depth."""
    for (n, colour), mark in zip(
        zip(sorted(set(depth)), (SKY, ORANGE, BLUE, GREEN), strict=False), "o^sD", strict=False
    ):
        chosen = np.asarray(depth) == n
        x, y = np.asarray(macs)[chosen], np.asarray(accuracies)[chosen]
        axes.scatter(x, y, s=12, color=colour, marker=mark, alpha=0.7, label=f"{n} blocks")
    axes.set_xscale("log")
    axes.set_xlabel("multiply-accumulates of one image")
    axes.set_ylabel("highest accuracy of 90 epochs")
    axes.legend(loc="lower right")
