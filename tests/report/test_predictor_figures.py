import pandas as pd
import pytest

from naaplib.report.figures.predictors import draw_systems
from naaplib.report.figures.style import subplots


def make_table(n_systems: int) -> pd.DataFrame:
    """Two data sets; taus that tell the system."""
    rows = [(dataset, f"s{i}", i / 10, i / 10 - 0.1, i / 10 + 0.1) for dataset in "AB" for i in range(n_systems)]
    rows.append(("A", "line on x", 0.35, 0.3, 0.4))
    return pd.DataFrame(rows, columns=["dataset", "system", "kendall_tau", "kendall_tau_low", "kendall_tau_high"])


def test_every_system_has_a_mark_in_the_row_of_its_data_set() -> None:
    """One label a system, lines on features under one; a system to drop is not drawn."""
    fig, ax = subplots()
    draw_systems(ax, make_table(3), drop=("s1",))
    marks = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(marks) == ["line on one feature", "s0", "s2"]
    assert marks["s2"].get_xdata().tolist() == [0.2, 0.2]
    assert [round(y) for y in marks["s2"].get_ydata()] == [0, -1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    fig.clear()


def test_more_systems_than_can_be_told_apart_are_refused() -> None:
    """With how many can be."""
    _, ax = subplots()
    with pytest.raises(ValueError, match="8 systems are too many for one figure; 7 can be told apart"):
        draw_systems(ax, make_table(8))
