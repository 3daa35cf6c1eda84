"""Bootstrap intervals: against normal ones, and laws of the pairs of a sample."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from naaplib import metrics
from naaplib.evaluation import intervals


def test_bootstrap_interval_holds_the_value_and_widens_with_the_level() -> None:
    """For the mean absolute error of many rows, the 95 % interval is the normal one to two digits."""
    rng = np.random.default_rng(6)
    measured = rng.uniform(size=400)
    predicted = measured + rng.normal(0, 0.1, size=400)
    low, high = intervals.bootstrap_interval(measured, predicted, metric=metrics.mae)
    half_width = 1.96 * np.abs(predicted - measured).std() / 20
    value = metrics.mae(measured, predicted)
    assert (low, high) == pytest.approx((value - half_width, value + half_width), abs=0.0015)
    inner = intervals.bootstrap_interval(measured, predicted, metric=metrics.mae, level=0.5)
    assert low < inner[0] < value < inner[1] < high


@pytest.mark.parametrize(
    ("metric", "of_constant"),
    [
        (metrics.violations, 390),
        (metrics.monotonicity_score, 0.5),
        (partial(metrics.violations, ties="published"), 0),
        (partial(metrics.kendall_tau, variant="a"), 0),
    ],
)
def test_bootstrap_interval_of_a_constant_prediction_is_its_value(metric: Any, of_constant: float) -> None:
    """Law: where no network tells anything, no sample of networks can; the interval does not lie below the value."""
    measured = np.random.default_rng(0).permutation(40)
    constant = np.full(40, 0.6)
    assert metric(measured, constant) == of_constant
    assert intervals.bootstrap_interval(measured, constant, metric=metric) == pytest.approx((of_constant, of_constant))


def test_bootstrap_samples_have_the_value_as_their_mean() -> None:
    """Violations of samples lie around those of the networks, also of few."""
    measured, predicted = np.random.default_rng(3).normal(size=(2, 12))
    drawn = np.random.default_rng(4).integers(12, size=(4000, 12))
    mean = np.mean([metrics.violations(measured[rows], predicted[rows], rows=rows) for rows in drawn])
    assert mean == pytest.approx(metrics.violations(measured, predicted), rel=0.02)  # without rows, 8 % too low


def test_bootstrap_interval_depends_on_its_seed_only() -> None:
    """Same seed, same interval; another seed, another one."""
    measured, predicted = np.random.default_rng(7).normal(size=(2, 40))
    same = [
        intervals.bootstrap_interval(measured, predicted, metric=metrics.violations, n_resamples=50, seed=s)
        for s in (1, 1, 2)
    ]
    assert same[0] == same[1] != same[2]


def test_bootstrap_interval_of_a_metric_that_never_exists_is_nan() -> None:
    """A constant prediction has no Spearman correlation on any resample."""
    assert np.isnan(intervals.bootstrap_interval([1, 2, 3], [1, 1, 1], metric=metrics.spearman, n_resamples=10)).all()


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (([1, 2], [1, 2]), {"level": 95}, "level is 95; it must lie between 0 and 1, as in 0.95"),
        (([1], [1]), {}, "got 1 architectures; an interval over architectures needs at least 2"),
        (([1, 2], [1]), {}, r"measured has shape \(2,\), predicted \(1,\)"),
        (([1, np.nan], [1, 2]), {}, r"measured is not finite at positions \[1\]"),
    ],
)
def test_what_no_interval_can_be_of_is_refused(given: tuple, settings: dict, message: str) -> None:
    """The message says what came and what is needed."""
    with pytest.raises(ValueError, match=message):
        intervals.bootstrap_interval(*given, metric=metrics.mae, **settings)
