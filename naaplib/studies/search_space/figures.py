"""Figures of the search space: sizes of networks, and the constraint tree."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from naaplib.evaluation.style import BLUE, GREEN, INK, LIGHT, ORANGE, PURPLE, SKY, VERMILION

GROUPS = ((SKY, "^"), (BLUE, "o"), (ORANGE, "v"), (VERMILION, "s"), (GREEN, "D"), (PURPLE, "X"))  # colour, mark
LABELLED = 0.1  # a node of the tree is labelled where it holds at least this fraction of all schemes


def draw_sizes(axes: Axes, features: pd.DataFrame, *, x: str, y: str) -> None:
    """Draw one size of every network against another, on logarithmic scales.

    Colour and marker distinguish groups of depth and stages.

    Parameters
    ----------
    axes : Axes
    features : DataFrame
        NumLayers, NumStages, n_skips, and the columns that `x` and `y` name. A network with a skip has a dark rim.
    x, y : str
    """
    groups = features.groupby(["NumLayers", "NumStages"])
    for i, ((depth, stages), part) in enumerate(groups):
        colour, mark = GROUPS[i % len(GROUPS)]
        rims = [INK if n_skips else colour for n_skips in part["n_skips"]]
        name = f"{depth} blocks, {stages} {'stage' if stages == 1 else 'stages'} ({len(part)})"
        axes.scatter(part[x], part[y], 22, color=colour, marker=mark, edgecolors=rims, linewidths=0.7, label=name)
    axes.scatter([], [], 22, color="white", edgecolors=INK, linewidths=0.7, label="dark rim: with a skip")
    axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize="small", handletextpad=0.2)


def draw_tree(axes: Axes, nodes: pd.DataFrame) -> None:
    """Draw the constraint tree as columns of boxes, one column per block.

    The height of a box is its number of schemes. To its right are the boxes of the next blocks; a gap is a scheme that
    has ended.

    Parameters
    ----------
    axes : Axes
    nodes : DataFrame
        As `.tree.nodes` returns it.
    """
    n_schemes = nodes.loc[nodes["depth"] == 1, "n_schemes"].sum()
    n_blocks = nodes["depth"].max()
    skip, strided = nodes["residual"], nodes["stride"] > 1
    kinds = {"stride 1": (SKY, ~skip & ~strided), "stride above 1": (BLUE, strided), "skip": (ORANGE, skip)}
    for name, (colour, chosen) in kinds.items():
        part = nodes[chosen]
        rim = [0.7 if n > 1 else 0.1 for n in part["n_schemes"]]
        axes.bar(part["depth"], part["n_schemes"], 0.96, part["first"] - 0.5, color=colour, label=name,
                 edgecolor="white", linewidth=rim)  # fmt: skip
    for node in nodes[nodes["n_schemes"] >= LABELLED * n_schemes].itertuples():
        middle = node.first - 0.5 + 0.5 * node.n_schemes
        colour = "white" if node.stride > 1 else INK
        axes.text(node.depth, middle, f"{node.block}\n{node.n_schemes} schemes", color=colour, ha="center", va="center",
                  fontsize=9)  # fmt: skip
    axes.set(xlim=(0.5, n_blocks + 0.5), ylim=(n_schemes + 0.5, 0.5), ylabel="ModelId")
    axes.set_xticks(range(1, n_blocks + 1), [f"block {i}" for i in range(1, n_blocks + 1)])
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0)
    axes.figure.legend(ncols=len(kinds), loc="outside upper center")


def draw_branch(axes: Axes, branch: pd.DataFrame) -> None:
    """Draw the schemes of one branch as a chessboard.

    It has a row for each next block, and a column for each block after that.

    Parameters
    ----------
    axes : Axes
    branch : DataFrame
        As `.tree.branch` returns it. The field of a scheme carries its ModelId.
    """
    rows, columns = branch["next_block"].cat.categories, branch["last_block"].cat.categories
    places = zip(branch["last_block"].cat.codes, branch["next_block"].cat.codes, branch["ModelId"], strict=True)
    for x, y, model_id in places:
        axes.bar(x, 0.9, 0.94, y - 0.45, color=LIGHT if columns[x] == "none" else SKY)
        axes.text(x, y, str(model_id), ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), ylabel="next block")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("block after that")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    axes.grid(visible=False)
