"""Figures of architecture tuning show the numbers they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from naaplib.studies.architecture_tuning.figures import draw_metrics, draw_regrets

CURVES = pd.DataFrame({"search": ["a", "a", "b", "b"], "spent": [5, 10, 5, 10], "mean": [0.02, 0.01, 0.03, 0.02],
                       "low": 0.005, "high": 0.04})  # fmt: skip


def test_regrets_in_percentage_points() -> None:
    """A line and a band for each search, from zero upwards; more searches than can be told apart are refused."""
    ax = Figure().subplots()
    draw_regrets(ax, CURVES)
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], [[2, 1], [3, 2]])
    assert len(ax.collections) == 2
    assert ax.get_ylim()[0] == 0
    with pytest.raises(ValueError, match="8 are too many for one figure; 7"):
        draw_regrets(ax, pd.concat([CURVES.assign(search=str(i)) for i in range(8)]))


def test_metrics_of_spaces() -> None:
    """A cloud each, on logarithmic axes."""
    ax = Figure().subplots()
    draw_metrics(
        ax, {"one": pd.DataFrame({"x": [1, 10], "y": [2, 3]}), "two": pd.DataFrame({"x": [5], "y": [7]})}, x="x", y="y"
    )
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines] == [([1, 10], [2, 3]), ([5], [7])]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
