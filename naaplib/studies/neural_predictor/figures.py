"""Figure of neural predictors: rank correlation on each dataset's test rows."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes

from naaplib.evaluation.style import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, PURPLE, SKY, VERMILION

LINE = (GREY, "|")
LOOKS = ((VERMILION, "s"), (BLUE, "o"), (ORANGE, "^"), (GREEN, "D"), (PURPLE, "v"), (SKY, "P"), (INK, "X"))


def draw_systems(ax: Axes, table: pd.DataFrame, *, drop: Collection[str] = ()) -> None:
    """Draw tau-b of every system with its interval, a row for each dataset.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Columns dataset, system, kendall_tau, kendall_tau_low, kendall_tau_high; the first dataset is on top.
        Systems whose names begin with "line on" share one grey marker; there are at most seven others.
    drop : collection of str
        Systems to leave out.
    """
    table = table[~table["system"].isin(drop)]
    datasets = list(table["dataset"].unique())
    lines = table["system"].str.startswith("line on")
    networks = sorted(table.loc[~lines, "system"].unique())
    if len(networks) > len(LOOKS):
        raise ValueError(f"{len(networks)} systems are too many for one figure; {len(LOOKS)} can be told apart")
    places = {name: (i + 1) / (len(networks) + 1) - 0.5 for i, name in enumerate(networks)}
    drawn = [("line on one feature", LINE, table[lines])] if lines.any() else []
    drawn += [(name, look, table[table["system"] == name]) for name, look in zip(networks, LOOKS, strict=False)]
    for name, (colour, mark), part in drawn:
        y = [-datasets.index(row.dataset) - 0.8 * places.get(name, 0) for row in part.itertuples()]
        ax.hlines(y, part["kendall_tau_low"], part["kendall_tau_high"], color=colour)
        size = 14 if (colour, mark) == LINE else 5
        ax.plot(part["kendall_tau"], y, mark, color=colour, markersize=size, label=name)
    for row in range(1, len(datasets)):
        ax.axhline(0.5 - row, color=LIGHT, linewidth=0.6)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks([-i for i in range(len(datasets))], [name.replace(" on ", "\non ") for name in datasets])
    ax.grid(visible=False, axis="y")
    ax.set_ylim(0.55 - len(datasets), 0.55)
    ax.set_xlabel("Kendall's tau-b on test rows")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
