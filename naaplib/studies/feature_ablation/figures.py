"""Figures of the feature study: violations by epochs, and on every split."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, ORANGE, VERMILION

MARKS = ("o", "s", "^", "D")  # distinguish lines without colour
COLOURS = (BLUE, VERMILION, GREEN, ORANGE)


def draw_training_length(axes: Axes, table: pd.DataFrame) -> None:
    """Draw violations against the number of epochs, a line per number of features.

    Features are those of the scheme. Printed values have hollow markers.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        One row per cell: n_scheme_features, epochs, violations (ours), violations_printed (may be missing).
    """
    for (n, part), mark, colour in zip(table.groupby("n_scheme_features"), MARKS, COLOURS, strict=False):
        axes.plot(part["epochs"], part["violations"], marker=mark, color=colour, label=f"{n} scheme features")
        axes.plot(
            part["epochs"],
            part["violations_printed"].astype(float),
            mark,
            markersize=9,
            markerfacecolor="none",
            color=colour,
        )
    axes.plot([], [], "o", markersize=9, markerfacecolor="none", color=GREY, label="as printed")
    axes.set(
        xlabel="epochs shown to the forest",
        ylabel="violations (ties as published)",
        xticks=sorted(table["epochs"].unique()),
    )
    axes.set_ylim(bottom=0)
    axes.legend()


def draw_bins(axes: Axes, table: pd.DataFrame) -> None:
    """Draw accuracies in ascending order, with test architectures marked.

    Every other bin is shaded.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        As `.tables.bins` returns it.
    """
    for _, part in table[table["bin"] % 2 == 0].groupby("bin"):
        first, last = part["order_in_accuracy"].iloc[[0, -1]]
        axes.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0)
    for is_test, colour, mark, size, label in ((False, BLUE, ".", 3, "training"), (True, VERMILION, "D", 4, "test")):
        part = table[table["is_test"] == is_test]
        axes.plot(part["order_in_accuracy"], part["accuracy"], mark, color=colour, markersize=size, label=label)
    axes.set(xlabel="architectures in the order of their accuracy", ylabel="accuracy")
    axes.legend()


def draw_splits(axes: Axes, table: pd.DataFrame, *, published: int) -> None:
    """Draw the violations of each predictor on each split, with the mean as a line.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        One row per predictor and split: predictor, split (0 to 10), violations. Predictors are drawn in order of
        appearance.
    published : int
        The paper's split, which has its own marker.
    """
    axes.axvspan(published - 0.4, published + 0.4, color=GREY, alpha=0.15, linewidth=0)
    for (name, part), mark, colour in zip(table.groupby("predictor", sort=False), MARKS, COLOURS, strict=False):
        axes.plot(part["split"], part["violations"], mark, color=colour, label=name)
        axes.axhline(part["violations"].mean(), color=colour, linewidth=1, linestyle="--")
    axes.annotate(
        "the paper's", (published, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", color=INK
    )
    axes.set(xlabel="split: position of the test architecture in its bin of 11", ylabel="violations (ties one half)")
    axes.set_xticks(sorted(table["split"].unique()))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1)
