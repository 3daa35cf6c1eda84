import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from naaplib.evaluation.style import BLUE, GREY, VERMILION, subplots
from naaplib.studies.neural_predictor.figures import draw_systems


def make_table() -> pd.DataFrame:
    """Two data sets; a network that one of them lacks; lines on different features."""
    rows = [
        ("cells", "line on size", 0.3), ("cells", "GCN", 0.8), ("cells", "CNN", 0.6),
        ("layers on images", "line on depth", 0.4), ("layers on images", "GCN", 0.5),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["dataset", "system", "kendall_tau"])
    return table.assign(kendall_tau_low=table["kendall_tau"] - 0.1, kendall_tau_high=table["kendall_tau"] + 0.05)


def marks(ax: Axes) -> dict[str, Line2D]:
    """Lines with a label, by label."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_every_system_has_its_mark_in_every_row() -> None:
    """Of two networks one stands 0.8 / 6 above the middle of a row and one below; lines share one grey mark on it."""
    fig, ax = subplots()
    draw_systems(ax, make_table())
    found = {
        name: (to_hex(line.get_color()), line.get_marker(), line.get_xdata().tolist())
        for name, line in marks(ax).items()
    }
    assert found == {
        "line on one feature": (GREY, "|", [0.3, 0.4]),
        "CNN": (VERMILION, "s", [0.6]),
        "GCN": (BLUE, "o", [0.8, 0.5]),
    }
    heights = {name: list(line.get_ydata()) for name, line in marks(ax).items()}
    assert heights["line on one feature"] == [0, -1]
    assert heights["CNN"] == pytest.approx([0.8 / 6])
    assert heights["GCN"] == pytest.approx([-0.8 / 6, -1 - 0.8 / 6])
    plt.close(fig)


def test_intervals_are_drawn_behind_their_marks() -> None:
    """From low to high, at the mark's height and in its colour."""
    fig, ax = subplots()
    draw_systems(ax, make_table())
    assert [to_hex(intervals.get_color()[0]) for intervals in ax.collections] == [GREY, VERMILION, BLUE]
    low, high = (segment for segment in ax.collections[2].get_segments()[1].tolist())
    assert [*low, *high] == pytest.approx([0.4, -1 - 0.8 / 6, 0.55, -1 - 0.8 / 6])
    assert [len(intervals.get_segments()) for intervals in ax.collections] == [2, 1, 2]
    plt.close(fig)


def test_rows_are_data_sets_from_the_top() -> None:
    """In the table's order, inside the axes, with a thin line between two; long names are broken before "on"."""
    fig, ax = subplots()
    draw_systems(ax, make_table())
    assert ax.get_yticks().tolist() == [0, -1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cells", "layers\non images"]
    assert ax.get_ylim() == pytest.approx((-1.45, 0.55))
    unnamed = [line for line in ax.lines if line.get_label().startswith("_")]
    assert [list(line.get_ydata()) for line in unnamed] == [[-0.5, -0.5], [0, 1]]
    assert list(unnamed[1].get_xdata()) == [0, 0]
    assert ax.get_xlabel() == "Kendall's tau-b on test rows"
    plt.close(fig)


def test_what_is_dropped_is_not_drawn() -> None:
    """The others then share the row among themselves, and the legend names them only."""
    fig, ax = subplots()
    draw_systems(ax, make_table(), drop=("CNN", "line on depth"))
    found = {name: line.get_xdata().tolist() for name, line in marks(ax).items()}
    assert found == {"line on one feature": [0.3], "GCN": [0.8, 0.5]}
    assert list(marks(ax)["GCN"].get_ydata()) == pytest.approx([0, -1])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["line on one feature", "GCN"]
    plt.close(fig)


def test_more_systems_than_can_be_told_apart_are_refused() -> None:
    """Eight networks; lines, and what is dropped, do not count."""
    names = [*"abcdefgh", "line on size"]
    rows = {"dataset": "cells", "system": names, "kendall_tau": 0.5, "kendall_tau_low": 0.4, "kendall_tau_high": 0.6}
    fig, ax = subplots()
    with pytest.raises(ValueError, match="8 are too many for one figure; 7 can be told apart"):
        draw_systems(ax, pd.DataFrame(rows))
    draw_systems(ax, pd.DataFrame(rows), drop=["c"])
    assert list(marks(ax)) == ["line on one feature", *"abdefgh"]
    looks = {(line.get_color(), line.get_marker()) for line in marks(ax).values()}
    assert len(looks) == 8
    plt.close(fig)


def test_the_key_lists_what_is_drawn() -> None:
    """Lines on one feature only where there are any."""
    fig, ax = subplots()
    table = make_table()
    draw_systems(ax, table[~table["system"].str.startswith("line on")])
    assert set(marks(ax)) == {"GCN", "CNN"}
    plt.close(fig)
