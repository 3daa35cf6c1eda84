"""Figures of feature histories: classifiers by epoch, and errors of estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION

LOOKS = ((INK, "-"), (ORANGE, "--"), (BLUE, "-"), (GREEN, "-."), (VERMILION, (0, (5, 1))), (PURPLE, ":"), (SKY, "-"))


def draw_accuracies(ax: Axes, table: pd.DataFrame, *, names: Sequence[str], final: float, meaning: str) -> None:
    """Draw the accuracy of one network's classifiers against epochs.

    This is Figure 3.1 of the feature-history study (2021).

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns epoch and `names`.
    names : sequence of str
        At most seven.
    final : float
        The final accuracy, drawn as a thin line.
    meaning : str
        Label of the thin line.
    """
    for name, (colour, dash) in zip(names, LOOKS, strict=False):
        ax.plot(table["epoch"], table[name], linestyle=dash, color=colour, linewidth=1.6, label=name)
    ax.axhline(final, color=GREY, linewidth=0.9, linestyle=":", label=meaning)
    ax.set_ylabel("accuracy")


def draw_flips(axes: Sequence[Axes], table: pd.DataFrame) -> None:
    """Draw the images that each classifier gets wrong, by epoch (Figure 3.2).

    Parameters
    ----------
    axes : sequence of Axes
        One for each classifier in the table.
    table : DataFrame
        Columns classifier, image, right (a text of 0 and 1, one per epoch), for one network. All axes have the images
        in the order of how often the first classifier gets them right.
    """
    bits = {
        name: np.array([[int(bit) for bit in text] for text in part.sort_values("image")["right"]])
        for name, part in table.groupby("classifier", sort=False)
    }
    order = next(iter(bits.values())).mean(axis=1).argsort(kind="stable")[::-1]
    for ax, (name, right) in zip(axes, bits.items(), strict=True):
        extent = (0.5, right.shape[1] + 0.5, len(right), 0)
        ax.imshow(0.15 + 0.75 * right[order], cmap="gray", vmin=0, vmax=1, aspect="auto", extent=extent)
        ax.set_title(name)
        ax.set_xlabel("epoch")
        ax.grid(visible=False)
    axes[0].set_ylabel("test image")


def draw_breakdown(ax: Axes, table: pd.DataFrame, *, names: Sequence[str]) -> None:
    """Draw the share of images on which a classifier agrees with the final network.

    As in Figure 3.3.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns epoch, classifier, true_positive, true_negative (and others), for one network.
    names : sequence of str
        Classifiers, at most seven.
    """
    for name, (colour, dash) in zip(names, LOOKS, strict=False):
        part = table[table["classifier"] == name]
        agree = part["true_positive"] + part["true_negative"]
        ax.plot(part["epoch"], agree, linestyle=dash, color=colour, linewidth=1.6, label=name)
    ax.set_ylabel("images judged as in the end")


def draw_scores(
    ax: Axes, scores: pd.DataFrame, *, measure: str, names: Sequence[str], band: Sequence[str] = ()
) -> None:
    """Draw the quality of estimates against epochs (as in Figures 4.3 and 4.4).

    Parameters
    ----------
    ax : Axes
    scores : DataFrame
        As `.tables.score` returns it.
    measure : {"mae", "kendall_tau"}
    names : sequence of str
        Estimates, at most seven.
    band : sequence of str
        Estimates whose interval is drawn.
    """
    for name, (colour, dash) in zip(names, LOOKS, strict=False):
        part = scores[scores["estimate"] == name]
        mark = "o" if len(part) < scores["epoch"].nunique() else None  # for an estimate that is not made at every epoch
        ax.plot(
            part["epoch"],
            part[measure],
            marker=mark,
            markersize=4,
            linestyle=dash,
            color=colour,
            linewidth=1.6,
            label=name,
        )
        if name in band:
            low, high = part[f"{measure}_low"], part[f"{measure}_high"]
            ax.fill_between(part["epoch"], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xlabel("epochs seen")
    ax.set_ylabel({"mae": "mean absolute error", "kendall_tau": "Kendall's tau-b"}[measure])
