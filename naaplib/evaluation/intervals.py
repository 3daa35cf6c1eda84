"""Bootstrap intervals of metrics over architectures."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from naaplib import metrics


def bootstrap_interval(
    measured: ArrayLike,
    predicted: ArrayLike,
    *,
    metric: Callable[..., float],
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric over architectures.

    Architectures are drawn with replacement; predictions are fixed. So the interval covers the variation between
    samples of test architectures, but not between trainings of the predictor or of the architectures.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `naaplib.metrics.mae`, for at least two architectures.
    metric : callable
        Function of (measured, predicted), arrays of shape (n_archs,), that returns a number. If it has an argument
        ``rows``, it gets the numbers of the drawn architectures, so that it can leave out pairs of one with itself: as
        ties they would lower violations by a factor 1 - 1/n on average, and leave a constant prediction's own number
        of violations outside of its interval.
    n_resamples : int
    level : float
        Share of the resamples inside the interval, between 0 and 1.
    seed : int

    Returns
    -------
    low, high : float
        Bounds of the interval, without resamples whose metric is NaN; NaN if all are.

    Examples
    --------
    >>> low, high = bootstrap_interval([0.6, 0.7, 0.8, 0.9], [0.6, 0.8, 0.7, 0.9], metric=metrics.mae)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.1)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, as in 0.95")
    measured, predicted = np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)
    metrics.mae(measured, predicted)  # refuses other shapes, and values that are not finite
    if measured.size < 2:
        raise ValueError(f"got {measured.size} architectures; an interval over architectures needs at least 2")
    draws = np.random.default_rng(seed).integers(measured.size, size=(n_resamples, measured.size))
    if _takes_rows(metric):
        found = [metric(measured[draw], predicted[draw], rows=draw) for draw in draws]
    else:
        found = [metric(measured[draw], predicted[draw]) for draw in draws]
    values = np.array(found, dtype=float)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _takes_rows(metric: Callable[..., float]) -> bool:
    try:
        return "rows" in inspect.signature(metric).parameters
    except (TypeError, ValueError):  # some callables in C have no signature
        return False
