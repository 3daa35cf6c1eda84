"""Penalised counts against size, on a few networks whose sizes are round numbers."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from naaplib.studies.training_free_scores import figures, sizes

SPACE = pd.DataFrame({"n_params": [100_000, 200_000, 600_000, 1_000_000], "relu_count": [10.0, 20.0, 30.0, 40.0]})
MANY = pd.DataFrame({"n_params": np.arange(1, 501) * 2000, "relu_count": np.arange(1.0, 501)})


def test_points_have_every_reading_of_every_penalty() -> None:
    """Up to the target the intended score is the plain one, and the printed one is multiplied by the size."""
    found = sizes.points({"made": SPACE})
    assert len(found) == 3 * 4
    assert found["score_without"].tolist() == 3 * [10, 20, 30, 40]
    small = found[found["megabytes"] == 0.1]
    assert (small["score_intended"] == 10).all()
    assert small["score_printed"].tolist() == pytest.approx([1, 1, 1])
    large = found[found["megabytes"] == 0.6].set_index("penalty")
    assert large.loc["gaussian", "score_intended"] == pytest.approx(30 * np.exp(-0.5))


def test_points_are_spread_over_the_sizes() -> None:
    """At most so many of a space, from the smallest on, in whatever order they come."""
    found = sizes.points({"made": MANY.sample(frac=1, random_state=0)}, n_shown=100)
    assert found["megabytes"].unique().tolist() == pytest.approx([0.002 + 0.01 * i for i in range(100)])


def test_the_first_are_the_largest_without_a_penalty_and_near_the_target_with_one() -> None:
    """Five of 500 networks, whose count grows with their size."""
    found = sizes.first({"made": MANY}).set_index("penalty")
    assert found["n_first"].tolist() == [5] * 7
    assert found.loc["no penalty", ["kilobytes_smallest", "kilobytes", "kilobytes_largest"]].tolist() == [
        992,
        996,
        1000,
    ]
    assert found.loc["no penalty", "tau_b"] == pytest.approx(1)
    assert 190 <= found.loc["rayleigh, intended", "kilobytes"] < found.loc["gaussian, intended", "kilobytes"] < 600


def test_ties_with_the_last_of_the_first_count_too() -> None:
    """Three equal networks are all first, where one would do."""
    found = sizes.first({"made": pd.DataFrame({"n_params": [100, 200, 300], "relu_count": [5.0, 5.0, 5.0]})})
    assert found.iloc[0]["n_first"] == 3
    assert found.iloc[0]["kilobytes_smallest"] == pytest.approx(0.1)


def test_a_panel_for_each_space_and_penalty() -> None:
    """Three kinds of points in each, and a line at the target."""
    axes = Figure().subplots(2, 3, squeeze=False)
    figures.draw_penalised(axes, sizes.points({"one": SPACE, "other": MANY}))
    assert all(len(ax.lines) == 4 for ax in axes.flat)
    assert [ax.get_title("left") + ax.get_title() for ax in axes[0]] == ["gaussian", "hyperbolic secant", "rayleigh"]
    assert axes[1, 0].lines[0].get_xdata().tolist() == (MANY["n_params"][::2] / 1e6).tolist()
