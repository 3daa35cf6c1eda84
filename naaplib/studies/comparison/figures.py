"""Figures of the comparison."""

from __future__ import annotations

from collections import Counter
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


def draw_untrained(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw estimators that need no epoch, a row for each, by what they need.

    Those that learn from other networks come first. `rows` has family, estimator, n_networks, kendall_tau,
    kendall_tau_low, kendall_tau_high.
    """
    place = 0
    for is_learnt in (True, False):
        part = rows[(rows["n_networks"] > 0) == is_learnt].sort_values("kendall_tau", ascending=False, kind="stable")
        if part.empty:
            continue
        n = int(part["n_networks"].max())
        needed = f"{n} trained networks to learn from" if n else "no trained network"
        axes.text(0.01, place, needed, transform=axes.get_yaxis_transform(), va="center", weight="bold", fontsize=10)
        for one in part.itertuples():
            place += 1
            colour, mark = LOOKS[str(one.family)]
            ends = [[one.kendall_tau - one.kendall_tau_low], [one.kendall_tau_high - one.kendall_tau]]
            axes.errorbar(one.kendall_tau, place, xerr=ends, color=colour, marker=mark, markersize=5, linewidth=1)
            is_left = one.kendall_tau > 0.5  # of its name there is room
            x = one.kendall_tau_low - 0.015 if is_left else one.kendall_tau_high + 0.015
            axes.text(x, place, one.estimator, ha="right" if is_left else "left", va="center", fontsize=9)
        place += 1
    axes.set_yticks([])
    axes.set_ylim(place - 0.3, -0.7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Kendall's tau before any epoch")


def draw_by_epochs(axes: Axes, rows: pd.DataFrame, *, epochs: Sequence[int]) -> None:
    """Draw a line for each estimator that sees first epochs."""
    at, drawn = places(epochs), Counter[str]()
    for (family, name), part in rows.groupby(["family", "estimator"], sort=False):
        colour, mark = LOOKS[str(family)]
        style = ("-", "--", ":")[drawn[str(family)] % 3]  # members of a family share colour and mark
        drawn[str(family)] += 1
        x = [at[n] for n in part["epochs"]]
        face = colour if part["n_networks"].max() > 0 else "white"
        (line,) = axes.plot(x, part["kendall_tau"], color=colour, linestyle=style, label=name)
        line.set(marker=mark, markerfacecolor=face, markersize=5)
        axes.fill_between(x, part["kendall_tau_low"], part["kendall_tau_high"], color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks(list(at.values()), [str(n) for n in at])
    axes.set_xlabel("epochs of its own training, of 90")
    axes.set_ylabel("Kendall's tau")
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.7 * (high - low), high)  # room for the legend
    axes.legend(loc="lower right", fontsize=9)


def draw_floor(axes: Axes, floor: pd.Series, *, is_across: bool = False) -> None:
    """Draw the band in which a perfect predictor would lie.

    `floor` is as of `naaplib.evaluation.noise.read`; with `is_across` tau runs to the right.
    """
    low, high = floor["kendall_tau_low"], min(floor["kendall_tau_high"], 1)
    span = axes.axvspan if is_across else axes.axhspan
    span(low, high, color=GREY, alpha=0.18, linewidth=0)
    if is_across:
        text, place, transform = "what noise\nleaves to know", (low - 0.01, 0.02), axes.get_xaxis_transform()
    else:
        text, place, transform = "what noise leaves to know", (0.98, high + 0.002), axes.get_yaxis_transform()
    axes.text(*place, text, transform=transform, fontsize=9, va="bottom", ha="right")


def draw_sizes(axes: Axes, rows: pd.DataFrame, *, lines: Mapping[str, float]) -> None:
    """Draw tau against the number of training networks, and lines of what needs none."""
    for name, part in rows.groupby("estimator", sort=False):
        colour, mark, style = LEARNERS[str(name)]
        x, low, high = part["n_train"], part["kendall_tau_low"], part["kendall_tau_high"]
        axes.plot(x, part["kendall_tau"], color=colour, marker=mark, linestyle=style, markersize=5, label=name)
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    for (name, value), style, place in zip(lines.items(), ("--", ":"), (0.01, 0.55), strict=False):
        axes.axhline(value, color=INK, linestyle=style, linewidth=1)
        behind = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.5}
        axes.text(place, value, name, transform=axes.get_yaxis_transform(), va="bottom", fontsize=9, bbox=behind)
    axes.set_xscale("log")
    ticks = sorted(set(rows["n_train"]))
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("trained networks to learn from")
    axes.set_ylabel("Kendall's tau")
    axes.legend(loc="lower right", fontsize=9)


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
