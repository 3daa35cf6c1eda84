"""The style of figures: one look, legible at phone width and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with every common kind of colour blindness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, GREY, LIGHT = "#222222", "#777777", "#d9d9d9"

Look = TypeVar("Look")

STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 11.0,
    "grid.color": LIGHT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}


def subplots(
    n_rows: int = 1, n_cols: int = 1, *, width: float = 6.4, height: float = 4.0, **kwargs: Any
) -> tuple[Figure, Any]:
    """Make a figure and axes in the book's style.

    The style stays set for what is drawn into them later (legends, texts).

    Parameters
    ----------
    n_rows, n_cols : int
    width, height : float
        Size in inches; 6.4 is the width of the book's text.
    **kwargs
        Passed on to `matplotlib.pyplot.subplots`.

    Returns
    -------
    figure : Figure
    axes : Axes, or ndarray of Axes of shape (n_rows, n_cols) with length-one axes dropped
    """
    plt.rcParams.update(STYLE)
    return plt.subplots(n_rows, n_cols, figsize=(width, height), **kwargs)


def distinguish(names: Iterable[Any], looks: Sequence[Look]) -> dict[Any, Look]:
    """Give each name a look of its own, in their order.

    Raises
    ------
    ValueError
        If there are more names than looks.

    Examples
    --------
    >>> distinguish(["a", "b"], ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^")))
    {'a': ('#0072b2', 'o'), 'b': ('#e69f00', 's')}
    """
    if len(named := list(names)) > len(looks):
        raise ValueError(f"{len(named)} are too many for one figure; {len(looks)} can be told apart")
    return dict(zip(named, looks, strict=False))
