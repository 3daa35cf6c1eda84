"""Plots of a user's own results."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from naaplib.evaluation import plots


@pytest.fixture(autouse=True)
def closed() -> None:
    """Close what earlier tests drew."""
    plt.close("all")


def make_ranking() -> pd.DataFrame:
    """Three models, one without the score."""
    return pd.DataFrame({"rank": [1, 2, pd.NA], "model": ["b", "a", "c"], "by": "macs", "score": [5e6, 1e3, np.nan]})


def test_a_ranking_has_the_best_on_top_and_greys_who_has_no_score() -> None:
    """Values lie at their rows; a wide range is logarithmic; the title counts."""
    ax = plots.plot_ranking(make_ranking())
    x, y = ax.lines[0].get_data()
    assert (x[:2].tolist(), y.tolist()) == ([5e6, 1e3], [0, 1, 2])
    assert ax.yaxis_inverted()
    assert ax.get_xscale() == "log"
    assert ax.get_title("left") == "2 of 3 models have macs"
    assert ax.get_yticklabels()[2].get_color() == plots.GREY
    with pytest.raises(ValueError, match="no score 'synflow'; it has macs"):
        plots.plot_ranking(make_ranking(), "synflow")


def test_learning_curves_lead_to_their_predictions() -> None:
    """Each estimate stands at the epoch predicted, with its interval."""
    curves = pd.DataFrame([[0.2, 0.4], [0.3, 0.5]], columns=[1, 2], index=["a", "b"])
    found = pd.DataFrame(
        {"n_seen": 2, "last": [0.4, 0.5], "estimate": [0.6, 0.7], "low": 0.5, "high": 0.8}, curves.index
    )
    ax = plots.plot_learning_curves(curves, found, at=9)
    points = [line.get_data() for line in ax.lines if line.get_marker() == "o"]
    assert [float(y[0]) for _, y in points] == [0.6, 0.7]
    assert all(9 <= x[0] < 9.5 for x, _ in points)
    assert len(ax.collections) == 2


def test_a_trajectory_is_the_best_so_far() -> None:
    """Failures count nothing; a column "best" is drawn as it is; several traces have a legend."""
    trace = pd.DataFrame({"spent": [1, 2, 3, 4], "value": [0.5, np.nan, 0.4, 0.7]})
    ax = plots.plot_trajectory(trace)
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.5, 0.5, 0.7]
    assert ax.get_xlabel() == "budget spent"
    own = plots.plot_trajectory(trace.assign(best=[0.5, 0.5, 0.4, 0.7]))  # an incumbent of more epochs may be lower
    assert own.lines[0].get_ydata().tolist() == [0.5, 0.5, 0.4, 0.7]
    both = plots.plot_trajectory(pd.concat([trace.assign(method="bohb"), trace.assign(method="random")]))
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["bohb", "random"]
    with pytest.raises(ValueError, match="it needs one of spent, step, number"):
        plots.plot_trajectory(pd.DataFrame({"x": [1]}))


def test_an_evaluation_has_a_row_an_estimator_with_its_interval() -> None:
    """In the table's order from the top; another measure has its own name and no other is known."""
    table = pd.DataFrame({"estimator": ["a", "b"], "n_test": 40, "mae": [0.1, 0.2], "mae_low": 0.05, "mae_high": 0.3})
    ax = plots.plot_evaluation(table, "mae")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted()
    assert [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()] == [[0.05, 0.3]] * 2
    with pytest.raises(ValueError, match="measure is 'r2'; it must be one of kendall_tau"):
        plots.plot_evaluation(table, "r2")


def test_plots_draw_into_given_axes() -> None:
    """All return the axes they are given."""
    _, ax = plt.subplots()
    assert plots.plot_ranking(make_ranking(), ax=ax) is ax
    assert plots.plot_learning_curves(pd.DataFrame([[0.1, 0.2]]), ax=ax) is ax
    assert plots.plot_trajectory(pd.DataFrame({"step": [1], "score": [0.1]}), ax=ax) is ax
    assert plots.plot_predictions([0.1, 0.2], [0.2, 0.3], low=[0.1, 0.2], high=[0.3, 0.4], ax=ax) is ax
