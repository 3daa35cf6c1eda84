"""Figures of zero-cost proxies: taus, agreement, penalties on size, searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, PURPLE, SKY, VERMILION, distinguish

MARKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"), (PURPLE, "v"), (SKY, "P"), (INK, "X"), (GREY, "*"))
N_SHOWN = 250  # networks drawn in a panel, at most


def draw_taus(ax: Axes, taus: pd.DataFrame, *, baseline: str) -> None:
    """Draw tau-b of every score with its interval, on every dataset.

    A line in the dataset's colour marks the baseline's tau.

    Parameters
    ----------
    ax : Axes
    taus : DataFrame
        Columns dataset (at most eight), score, tau_b, tau_b_low, tau_b_high; scores are drawn in order of their mean,
        best on top.
    baseline : str
        One of the scores.
    """
    order = taus.groupby("score")["tau_b"].mean().sort_values().index
    datasets = taus["dataset"].unique()
    for i, (dataset, (colour, mark)) in enumerate(distinguish(datasets, MARKS).items()):
        part = taus[taus["dataset"] == dataset].set_index("score").reindex(order)
        y = np.arange(len(order)) + 0.8 * (0.5 - (i + 0.5) / len(datasets))
        ax.hlines(y, part["tau_b_low"], part["tau_b_high"], color=colour)  # the tau itself may lie outside its interval
        ax.plot(part["tau_b"], y, mark, color=colour, markersize=5, label=dataset)
        ax.axvline(part.loc[baseline, "tau_b"], color=colour, linewidth=0.8, linestyle=":")
    for row in range(1, len(order)):
        ax.axhline(row - 0.5, color=LIGHT, linewidth=0.6)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(order)), [name.replace("_", " ") for name in order])
    ax.grid(visible=False, axis="y")
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel("Kendall's tau-b with the accuracy")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def draw_matrix(ax: Axes, taus: pd.DataFrame) -> None:
    """Draw tau-b of every two scores, once, as a table of numbers.

    A cell is darker for a stronger tau, of either sign.

    Parameters
    ----------
    ax : Axes
    taus : DataFrame
        As `.ranking.matrix` returns it; NaN is left blank.
    """
    names = list(taus["score"].unique())
    values = taus["tau_b"].to_numpy(float).reshape(len(names), len(names)).copy()
    values[np.triu_indices(len(names))] = np.nan
    values = values[1:, :-1]
    ax.imshow(np.abs(values), cmap="Blues", vmin=0, vmax=1.2, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:z.2f}".replace("0.", ".").replace("-", "−")
            colour = "white" if abs(value) > 0.7 else "black"
            size = 9 if len(names) <= 13 else 7  # sixteen still fit the book's width
            ax.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    labels = [name.replace("_", " ") for name in names]
    ax.set_yticks(range(len(names) - 1), labels[1:])
    ax.set_xticks(range(len(names) - 1), labels[:-1], rotation=55, ha="right", rotation_mode="anchor")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_penalties(ax: Axes, factors: pd.DataFrame) -> None:
    """Draw penalty factors against size, as intended (full) and as printed (dashed).

    Parameters
    ----------
    ax : Axes
    factors : DataFrame
        Columns size (megabytes), penalty and its reading (penalty, as "gaussian, intended"), factor; sorted by size
        within a penalty.
    """
    kinds = pd.unique(factors["penalty"].str.split(", ").str[0])
    looks = distinguish(kinds, MARKS)
    for i, (penalty, part) in enumerate(factors.groupby("penalty", sort=False)):
        kind, reading = str(penalty).split(", ")
        colour, mark = looks[kind]
        line, width = ("-", 2.0) if reading == "intended" else ("--", 1.2)
        every = max(1, len(part) // 10)  # sparse markers, offset by line, distinguish lines without colour
        ax.plot(
            part["size"], part["factor"], line, color=colour, linewidth=width, marker=mark, markersize=5,
            markevery=(i * every // 6 % every, every), label=penalty,
        )  # fmt: skip
    ax.set_xlabel("size in megabytes")
    ax.set_ylabel("factor")
    ax.legend()


def draw_penalised(axes: NDArray[np.object_], points: pd.DataFrame) -> None:
    """Draw penalised scores against size.

    There is a row for each space and a column for each penalty.

    Parameters
    ----------
    axes : ndarray of Axes, shape (n_spaces, n_penalties)
    points : DataFrame
        As `.sizes.points` returns it.
    """
    readings = ["score_without", "score_intended", "score_printed"]
    names = [name.replace("score_", "").replace("without", "without penalty") for name in readings]
    for row, (space, whole) in zip(axes, points.groupby("space", sort=False), strict=True):
        for ax, (penalty, part) in zip(row, whole.groupby("penalty", sort=False), strict=True):
            for reading, name, (colour, mark) in zip(readings, names, ((LIGHT, "o"), *MARKS[:2]), strict=True):
                ax.plot(part["megabytes"], part[reading], mark, color=colour, markersize=2.5, label=name)
            ax.axvline(0.2, color=GREY, linewidth=0.8, linestyle=":")
            ax.yaxis.set_major_formatter(EngFormatter(sep=""))
            ax.set_title(str(penalty))
            ax.set_xlabel("size in megabytes")
        row[0].set_ylabel(f"ReLU units, {space}")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, markerscale=2)


def draw_search(ax: Axes, searches: pd.DataFrame) -> None:
    """Draw the mean accuracy that searches found against their number of draws.

    A band shows one standard deviation.

    Parameters
    ----------
    ax : Axes
    searches : DataFrame
        Columns score, n_samples, accuracy_mean, accuracy_sd; at most eight scores, "random" and the like among them.
        The labels are for a legend of the figure.
    """
    names = list(searches["score"].unique())
    n_samples = sorted(searches["n_samples"].unique())
    for i, (name, (colour, mark)) in enumerate(distinguish(names, MARKS).items()):
        part = searches[searches["score"] == name].set_index("n_samples").loc[n_samples]
        x = np.arange(len(n_samples)) + 0.5 * ((i + 0.5) / len(names) - 0.5)
        ax.errorbar(
            x, part["accuracy_mean"], yerr=part["accuracy_sd"], label=name.replace("_", " "), color=colour, marker=mark,
            markersize=5, linewidth=0.8, elinewidth=1.2,
        )  # fmt: skip
    ax.set_xticks(range(len(n_samples)), [f"{n:,}" for n in n_samples])
    ax.set_xlabel("architectures drawn")
    ax.set_ylabel("accuracy found")


def draw_against(ax: Axes, frame: pd.DataFrame, *, x: str, y: str) -> None:
    """Draw one column against another, a dot per architecture.

    Parameters
    ----------
    ax : Axes
    frame : DataFrame
    x, y : str
        Columns; rows where one is missing are left out.
    """
    ax.plot(frame[x], frame[y], ".", color=BLUE, markersize=3, alpha=0.5, rasterized=len(frame) > 5_000)
    ax.set_xlabel(x.replace("_", " "))
    ax.set_ylabel(y.replace("_", " "))


def draw_grid(axes: NDArray[np.object_], points: pd.DataFrame, *, scores: Sequence[str]) -> None:
    """Draw accuracy against scores: a row for each dataset, a column for each score.

    A panel has `N_SHOWN` networks at most, spread over the rows of its table.

    Parameters
    ----------
    axes : ndarray of Axes, shape (n_datasets, n_scores)
    points : DataFrame
        Columns dataset, accuracy and the scores.
    scores : sequence of str
    """
    for row, (dataset, part) in zip(axes, points.groupby("dataset", sort=False), strict=True):
        for ax, score in zip(row, scores, strict=True):
            draw_against(ax, part.iloc[:: -(-len(part) // N_SHOWN)], x=score, y="accuracy")
            ax.locator_params(nbins=3)
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            if ax is not row[0]:
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
        row[0].set_title(str(dataset))


def draw_pairs(
    axes: NDArray[np.object_], frames: Mapping[str, pd.DataFrame], *, pairs: Sequence[tuple[str, str]]
) -> None:
    """Draw score against score: a row for each space, a column for each pair.

    `frames` has one column per score; panels are as those of `draw_grid`.
    """
    for row, (space, frame) in zip(axes, frames.items(), strict=True):
        for ax, (x, y) in zip(row, pairs, strict=True):
            draw_against(ax, frame.iloc[:: -(-len(frame) // N_SHOWN)], x=x, y=y)
            ax.locator_params(nbins=3)
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.yaxis.set_major_formatter(EngFormatter(sep=""))
        row[0].set_title(space)


def draw_units(axes: Sequence[Axes], counts: pd.DataFrame) -> None:
    """Draw the histogram of ReLU units, a panel for each space.

    `counts` is what `.kernels.relu_units` returns.
    """
    for ax, (space, part) in zip(axes, counts.groupby("space", sort=False), strict=True):
        ax.hist(part["n_units"], bins=40, weights=part["n"], color=BLUE)
        ax.set_title(f"{space}, n = {part['n'].sum():,}")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_ylabel("networks")
    axes[-1].set_xlabel("ReLU units of one image")


def draw_spectra(ax: Axes, bands: pd.DataFrame) -> None:
    """Draw eigenvalues by their rank: medians, and bands of all networks.

    `bands` is what `.kernels.bands` returns.
    """
    spaces = bands["space"].unique()
    for space, (colour, mark) in distinguish(spaces, MARKS).items():
        part = bands[(bands["space"] == space) & (bands["low"] > 0)]
        ax.fill_between(part["rank"], part["low"], part["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(part["rank"], part["middle"], color=colour, marker=mark, markevery=0.15, label=f"{space}")
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    ax.set(xscale="log", yscale="log", xlabel="rank of the eigenvalue", ylabel="eigenvalue / ReLU units")
    ax.legend()
