"""Compare predicted with measured accuracies: errors, rank agreement, monotonicity violations, regret, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

TIES = ("half", "published")
VARIANTS = ("b", "a")


def mae(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, in the unit of the accuracies.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        One value an architecture, both in the same order, which is free.

    Returns
    -------
    float
    """
    measured, predicted = _paired(measured, predicted)
    return float(np.abs(predicted - measured).mean())


def mse(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error, in the squared unit of the accuracies. Parameters as in `mae`."""
    measured, predicted = _paired(measured, predicted)
    return float(((predicted - measured) ** 2).mean())


def r2(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Coefficient of determination: 1 minus the squared error over that of the measured mean. Parameters as in `mae`.

    NaN where all measured values are equal.
    """
    measured, predicted = _paired(measured, predicted)
    total = ((measured - measured.mean()) ** 2).sum()
    return float(1 - ((predicted - measured) ** 2).sum() / total) if total > 0 else math.nan


def kendall_tau(measured: ArrayLike, predicted: ArrayLike, variant: str = "b") -> float:
    """Kendall's rank correlation, in [-1, 1].

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`; at least two architectures.
    variant : {"b", "a"}
        Concordant minus discordant pairs, divided by the number of pairs ("a"), or by the geometric mean of
        the numbers of pairs that are untied in either argument ("b", scipy's default).

    Returns
    -------
    float
        With "b", NaN where one argument is constant; with "a", 0.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; it must be one of {VARIANTS}")
    measured, predicted = _paired(measured, predicted, at_least=2)
    if variant == "b":
        return float(stats.kendalltau(measured, predicted, variant="b").statistic)
    discordant, tied_predictions = _count_disagreements(measured, predicted)
    untied = _n_pairs(measured.size) - _n_tied_pairs(measured)
    return (untied - tied_predictions - 2 * discordant) / _n_pairs(measured.size)


def partial_correlation(first: float, second: float, between: float) -> float:
    """Correlation of two things with a third one held fixed; of Kendall's taus, the partial tau of Kendall (1942).

    The formula is that of linear partial correlation. Of normal variables, Pearson's correlations give 0 where the two
    are independent given the third. Taus do not: two noisy copies of the third keep some of it in common (normal ones
    that correlate 0.8 with it and share nothing else: a partial tau of 0.14). So a small positive value does not prove
    that anything is left.

    Parameters
    ----------
    first : float
        Correlation of the two.
    second, between : float
        Correlations of each of them with the third.

    Returns
    -------
    float
        In [-1, 1] for correlations of one kind on the same rows; NaN where one is NaN, or where one of the two goes
        exactly with the third or against it.
    """
    left = (1 - second**2) * (1 - between**2)
    return (first - second * between) / math.sqrt(left) if left > 1e-12 else math.nan


def tie_share(values: ArrayLike) -> float:
    """Share of pairs of architectures that have equal values.

    Parameters
    ----------
    values : array_like, shape (n_archs,)
        In any order; at least two.

    Returns
    -------
    float
        0 where all differ, 1 where all are equal.
    """
    values, _ = _paired(values, values, at_least=2)
    return _n_tied_pairs(values) / _n_pairs(values.size)


def spearman(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; tied values share their mean rank. Parameters as in `mae`.

    NaN where one argument is constant.
    """
    measured, predicted = _paired(measured, predicted, at_least=2)
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return math.nan
    return float(stats.spearmanr(measured, predicted).statistic)


def violations(measured: ArrayLike, predicted: ArrayLike, ties: str = "half") -> float:
    """Number of pairs of architectures that the predictions put in the wrong order (NAAP-440, section 3, figure 4).

    A pair whose *measured* accuracies are equal is never a violation.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`; at least two architectures.
    ties : {"half", "published"}
        What a pair with equal *predictions* counts. "half": one half, so that a constant prediction of n untied
        architectures scores n (n - 1) / 4, as a random order does on average and as the paper says. "published":
        nothing, as in the study's own script, where a constant prediction scores a perfect 0: it sorts by prediction,
        with a stable sort, rows that already are in their true order.

    Returns
    -------
    float
        Between 0 and n (n - 1) / 2; a whole number with "published".
    """
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; it must be one of {TIES}")
    discordant, tied_predictions = _count_disagreements(*_paired(measured, predicted, at_least=2))
    return discordant + (0.5 * tied_predictions if ties == "half" else 0.0)


def monotonicity_score(measured: ArrayLike, predicted: ArrayLike, ties: str = "half") -> float:
    """One minus the share of pairs that are violations: 1 for the true order, 0 for its reverse (NAAP-440, equation 1).

    Parameters as in `violations`.
    """
    return 1 - violations(measured, predicted, ties) / _n_pairs(np.size(measured))


def top_k_regret(measured: ArrayLike, predicted: ArrayLike, k: int) -> float:
    """What is lost by training only the k architectures with the highest predictions and keeping the best of them.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`.
    k : int
        Between 1 and n_archs.

    Returns
    -------
    float
        The highest measured value of all minus the highest among the k chosen, at least 0. Where equal predictions
        leave the choice open, the mean over all choices, so that the order of rows does not matter.
    """
    measured, predicted = _paired(measured, predicted)
    if not 1 <= k <= measured.size:
        raise ValueError(f"k is {k}; it must lie between 1 and the number of architectures, {measured.size}")
    threshold = np.sort(predicted)[-k]
    surely_best = measured[predicted > threshold].max(initial=-np.inf)
    tied = np.sort(measured[predicted == threshold])[::-1]
    n_drawn = k - int((predicted > threshold).sum())
    # The best of n_drawn out of the tied is the one at `position` when it and none before it is drawn.
    positions = np.arange(tied.size - n_drawn + 1)
    n_draws = math.comb(tied.size, n_drawn)
    weights = np.array([math.comb(tied.size - 1 - int(i), n_drawn - 1) / n_draws for i in positions])
    best = np.maximum(tied[positions], surely_best)
    # As a sum of losses, which is exactly 0 where nothing is lost.
    return float(((measured.max() - best) * weights).sum())


def bootstrap_interval(
    metric: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    measured: ArrayLike,
    predicted: ArrayLike,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a metric over architectures drawn again with replacement, the predictions fixed.

    It says how much the metric would move with another draw of test architectures; not how much with another
    training of the predictor, nor with another training of the architectures. An architecture drawn twice is a pair
    tied in the measured values, so that counts of violations come out lower by a factor 1 - 1/n on average.

    Parameters
    ----------
    metric : callable
        Takes (measured, predicted), arrays of shape (n_archs,), and returns a number.
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`; at least two architectures.
    n_resamples : int
    level : float
        Share of the resamples inside the interval, between 0 and 1.
    seed : int

    Returns
    -------
    low, high : float
        Resamples on which the metric is NaN are left out; NaN where it is so on all.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, as in 0.95")
    measured, predicted = _paired(measured, predicted, at_least=2)
    draws = np.random.default_rng(seed).integers(measured.size, size=(n_resamples, measured.size))
    values = np.array([metric(measured[draw], predicted[draw]) for draw in draws], dtype=float)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _paired(
    measured: ArrayLike, predicted: ArrayLike, at_least: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both arguments as float arrays of one length; anything else is refused."""
    arrays = np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)
    shapes = arrays[0].shape, arrays[1].shape
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise ValueError(f"measured has shape {shapes[0]}, predicted {shapes[1]}: both must have one shape (n_archs,)")
    if arrays[0].size < at_least:
        raise ValueError(f"got {arrays[0].size} architectures; this metric needs at least {at_least}")
    for name, array in zip(("measured", "predicted"), arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite at positions {np.flatnonzero(~np.isfinite(array))[:10].tolist()}")
    return arrays


def _n_pairs(n: int) -> int:
    return n * (n - 1) // 2


def _n_tied_pairs(values: NDArray[Any]) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _count_disagreements(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[int, int]:
    """Pairs in opposite order, and pairs tied in the predictions only."""
    ascending = np.lexsort((predicted, measured))  # predictions too, within a tie: no inversion there
    tied_predictions = _n_tied_pairs(predicted) - _n_tied_pairs(measured + 1j * predicted)  # less those tied in both
    return _n_inversions(predicted[ascending]), tied_predictions


def _n_inversions(values: NDArray[np.float64]) -> int:
    """Pairs of which the earlier value is greater: each in blocks of 64, then between blocks by sorting two as one."""
    rows = np.full((1 << max(0, (values.size - 1).bit_length() - 6), 64), values.max())  # padding inverts nothing
    rows.flat[: values.size] = values
    n_inversions = int(np.triu(rows[:, :, None] > rows[:, None, :]).sum())
    while len(rows) > 1:
        half = rows.shape[1]
        rows = rows.reshape(-1, 2 * half)
        from_right = rows.argsort(axis=1, kind="stable") >= half
        n_inversions += int(from_right.cumsum(axis=1)[~from_right].sum())  # on the left: how many pass in front of it
    return n_inversions
