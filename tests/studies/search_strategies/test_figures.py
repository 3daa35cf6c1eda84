import numpy as np
import pandas as pd
import pytest

from naaplib.evaluation.style import subplots
from naaplib.studies.search_strategies.figures import draw_curves


def make_curves(n_searches: int) -> pd.DataFrame:
    """Straight lines, one a search."""
    parts = []
    for number in range(n_searches):
        mean = number + np.arange(4.0)
        columns = {"search": f"s{number}", "n_trained": range(1, 5), "mean": mean, "low": mean - 1, "high": mean + 1}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts)


def test_every_search_has_its_line_and_band() -> None:
    """A dot marks where the predictor begins, a thin line the best there is."""
    fig, ax = subplots()
    draw_curves(ax, make_curves(2).reset_index(drop=True), oracle=9.0, starts={"s1": 3})
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert [line.get_ydata().tolist() for line in lines.values()] == [[0, 1, 2, 3], [1, 2, 3, 4]]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(3, 3)]
    assert ax.lines[-1].get_ydata() == [9.0, 9.0]
    assert len(ax.collections) == 2
    fig.clear()


def test_more_searches_than_can_be_told_apart_are_refused() -> None:
    """With how many can be."""
    _, ax = subplots()
    with pytest.raises(ValueError, match="8 are too many for one figure; 7 can be told apart"):
        draw_curves(ax, make_curves(8))
