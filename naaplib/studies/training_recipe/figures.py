"""Figures of the training recipe: learning rate, logs compared, saw-tooth."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from naaplib.evaluation.style import BLUE, GREY, INK, LIGHT, ORANGE, SKY, VERMILION

POSITIONS = ((VERMILION, "v"), (INK, "o"), (SKY, "s"), (ORANGE, "D"))  # colour and marker by position in a cycle


def draw_learning_rate(axes: Axes, rates: pd.DataFrame) -> None:
    """Draw the learning rate by epoch, on a logarithmic scale.

    Parameters
    ----------
    axes : Axes
    rates : DataFrame
        epoch (from 1), learning_rate.
    """
    axes.step(rates["epoch"], rates["learning_rate"], where="mid", color=GREY, linewidth=1)
    axes.plot(rates["epoch"], rates["learning_rate"], "o", color=BLUE)
    axes.set(xlabel="epoch", ylabel="learning rate", yscale="log", xticks=rates["epoch"])


def draw_comparison(panels: NDArray, comparison: pd.DataFrame, *, names: Sequence[str], ylabel: str) -> None:
    """Draw our and the published measure by epoch, a panel for each network.

    Parameters
    ----------
    panels : ndarray of Axes, shape (n_rows, n_cols)
        Filled row by row; unused panels are hidden.
    comparison : DataFrame
        ModelId, epoch, ours, published: as `.tables.compare` returns it.
    names : sequence of str
        Titles of the panels, in the order in which networks appear.
    ylabel : str
    """
    for axes, name, (_, part) in _pair(panels, names, comparison):
        axes.plot(part["epoch"], part["published"], "o-", color=GREY, markersize=9, markerfacecolor="none")
        axes.plot(part["epoch"], part["ours"], "o-", color=BLUE, markersize=4)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(part["epoch"])
    for label, colour, size, face in (("published", GREY, 9, "none"), ("ours", BLUE, 4, BLUE)):
        panels.flat[0].plot([], [], "o-", color=colour, markersize=size, markerfacecolor=face, label=label)
    panels.flat[0].legend()
    _label(panels, ylabel)


def draw_sawtooth(panels: NDArray, logs: pd.DataFrame, *, names: Sequence[str], cycle: int, ylabel: str) -> None:
    """Draw one measure over all epochs, a panel for each network.

    Colour and marker show the position of an epoch in its cycle.

    Parameters
    ----------
    panels : ndarray of Axes, shape (n_rows, n_cols)
        As for `draw_comparison`.
    logs : DataFrame
        ModelId, epoch, value.
    names : sequence of str
    cycle : int
        Epochs from one restart to the next, at most four.
    ylabel : str
    """
    for axes, name, (_, part) in _pair(panels, names, logs):
        axes.plot(part["epoch"], part["value"], color=LIGHT, linewidth=1)
        for position, (colour, mark) in zip(range(cycle), POSITIONS, strict=False):
            there = part[(part["epoch"] - 1) % cycle == position]
            axes.plot(there["epoch"], there["value"], mark, color=colour, markersize=3, label=f"{position + 1}")
        axes.set_title(name, fontsize=10)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure = panels.flat[0].figure
    figure.legend(handles, labels, title="place in the cycle", ncols=cycle, loc="outside upper center", labelcolor=INK)
    _label(panels, ylabel)


def _pair(panels: NDArray, names: Sequence[str], records: pd.DataFrame) -> zip:
    """Pair panels, titles and networks (ModelId, records).

    Unused panels are hidden.
    """
    networks = list(records.groupby("ModelId", sort=False))
    for axes in panels.flat[len(networks) :]:
        axes.set_visible(False)
    return zip(panels.flat[: len(networks)], names, networks, strict=True)


def _label(panels: NDArray, ylabel: str) -> None:
    """Label the axes once for all panels."""
    figure = panels.flat[0].figure
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
