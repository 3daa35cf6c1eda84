"""Compare predicted with measured accuracies.

The metrics are errors, rank correlations, monotonicity violations and regret.
"""

from __future__ import annotations

import math
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
        One value per architecture, both in the same order, which does not matter.

    Examples
    --------
    >>> round(mae([0.6, 0.7, 0.8], [0.6, 0.8, 0.7]), 3)
    0.067
    """
    measured, predicted = _paired(measured, predicted)
    return float(np.abs(predicted - measured).mean())


def mse(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error, in the squared unit of the accuracies; see `mae`.

    >>> round(mse([0.6, 0.7, 0.8], [0.6, 0.8, 0.7]), 4)
    0.0067
    """
    measured, predicted = _paired(measured, predicted)
    return float(((predicted - measured) ** 2).mean())


def r2(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Coefficient of determination; see `mae` for the parameters.

    It is 1 minus the squared error divided by that of the measured mean, and NaN if all measured values are equal.

    >>> round(r2([0.6, 0.7, 0.8], [0.6, 0.7, 0.7]), 3)
    0.5
    """
    measured, predicted = _paired(measured, predicted)
    total = ((measured - measured.mean()) ** 2).sum() if np.ptp(measured) > 0 else 0.0  # a mean is rounded
    return float(1 - ((predicted - measured) ** 2).sum() / total) if total > 0 else math.nan


def kendall_tau(
    measured: ArrayLike, predicted: ArrayLike, *, variant: str = "b", rows: ArrayLike | None = None
) -> float:
    """Kendall's rank correlation, in [-1, 1].

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`, for at least two architectures.
    variant : {"b", "a"}
        Both count concordant minus discordant pairs. "a" divides by the number of pairs; "b", scipy's default, by the
        geometric mean of the numbers of untied pairs in the two arguments.
    rows : array_like, shape (n_archs,), optional
        As in `violations`. It changes "a" only: "b" leaves out what is tied in both.

    Returns
    -------
    float
        If one argument is constant: NaN with "b", 0 with "a".

    Examples
    --------
    >>> round(kendall_tau([0.6, 0.7, 0.8, 0.9], [0.6, 0.8, 0.7, 0.9], variant="a"), 3)
    0.667
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; it must be one of {VARIANTS}")
    measured, predicted = _paired(measured, predicted, at_least=2)
    if variant == "b":
        return float(stats.kendalltau(measured, predicted, variant="b").statistic)
    discordant, tied_predictions = _count_disagreements(measured, predicted)
    untied = _n_pairs(measured.size) - _n_tied_pairs(measured)
    n_pairs = _n_pairs(measured.size, rows)
    return (untied - tied_predictions - 2 * discordant) / n_pairs if n_pairs else math.nan


def partial_correlation(first: float, second: float, *, between: float) -> float:
    """Correlation of two variables at a fixed third one.

    For Kendall's taus, it is the partial tau of Kendall (1942).

    The formula is that of linear partial correlation. Pearson's correlations of normal variables give 0 if the two are
    independent given the third. Taus do not: two noisy copies of the third variable, each correlated 0.8 with it and
    normal, have a partial tau of 0.14. So a small positive value does not prove a relation.

    Parameters
    ----------
    first : float
        Correlation of the two variables.
    second, between : float
        Correlations of each of them with the third.

    Returns
    -------
    float
        In [-1, 1] for correlations of one kind on the same rows; NaN if one is NaN, or if one of the two variables has
        a correlation of 1 or -1 with the third.

    Examples
    --------
    >>> round(partial_correlation(0.5, 0.6, between=0.7), 3)
    0.14
    """
    left = (1 - second**2) * (1 - between**2)
    return (first - second * between) / math.sqrt(left) if left > 1e-12 else math.nan


def tie_share(values: ArrayLike) -> float:
    """Share of pairs of architectures that have equal values.

    Parameters
    ----------
    values : array_like, shape (n_archs,)
        Values of at least two architectures, in any order.

    Returns
    -------
    float
        0 if all differ, 1 if all are equal.

    Examples
    --------
    >>> round(tie_share([0.6, 0.6, 0.7]), 3)
    0.333
    """
    values, _ = _paired(values, values, at_least=2)
    return _n_tied_pairs(values) / _n_pairs(values.size)


def spearman(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; see `mae` for the parameters.

    Tied values share their mean rank. The result is NaN if one argument is constant.

    >>> round(spearman([0.6, 0.7, 0.8, 0.9], [0.6, 0.8, 0.7, 0.9]), 3)
    0.8
    """
    measured, predicted = _paired(measured, predicted, at_least=2)
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return math.nan
    return float(stats.spearmanr(measured, predicted).statistic)


def violations(
    measured: ArrayLike, predicted: ArrayLike, *, ties: str = "half", rows: ArrayLike | None = None
) -> float:
    """Number of pairs of architectures that are predicted in the wrong order.

    The source is NAAP-440, section 3 and figure 4. A pair whose *measured* accuracies are equal is never a violation.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`, for at least two architectures.
    ties : {"half", "published"}
        Count for a pair with equal *predictions*. "half" counts one half: a constant prediction of n untied
        architectures scores n (n - 1) / 4, the mean of random orders, as in the paper's text. "published" counts 0, as
        the study's script does, so that a constant prediction scores a perfect 0: the script applies a stable sort by
        prediction to rows that are in their true order.
    rows : array_like, shape (n_archs,), optional
        The architecture at each place, where some come more than once, as in a bootstrap sample. A pair of an
        architecture with itself has no order: it is left out, and the count is that of the other pairs, scaled up to
        n (n - 1) / 2.

    Returns
    -------
    float
        Between 0 and n (n - 1) / 2; a whole number with "published" and without `rows`; NaN if all rows are equal.

    Examples
    --------
    >>> violations([0.6, 0.7, 0.8], [0.5, 0.5, 0.4]), violations([0.6, 0.7, 0.8], [0.5, 0.5, 0.4], ties="published")
    (2.5, 2.0)
    """
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; it must be one of {TIES}")
    discordant, tied_predictions = _count_disagreements(*_paired(measured, predicted, at_least=2))
    count = discordant + (0.5 * tied_predictions if ties == "half" else 0.0)
    n_all, n_pairs = _n_pairs(np.size(measured)), _n_pairs(np.size(measured), rows)
    return count * n_all / n_pairs if n_pairs else math.nan  # a product first, which is exact


def monotonicity_score(
    measured: ArrayLike, predicted: ArrayLike, *, ties: str = "half", rows: ArrayLike | None = None
) -> float:
    """One minus the share of pairs that are violations (NAAP-440, equation 1).

    It is 1 for the true order and 0 for its reverse. Parameters are those of `violations`.

    >>> monotonicity_score([0.6, 0.7, 0.8, 0.9, 1.0], [0.6, 0.8, 0.7, 0.9, 1.0])
    0.9
    """
    return 1 - violations(measured, predicted, ties=ties, rows=rows) / _n_pairs(np.size(measured))


def top_k_regret(measured: ArrayLike, predicted: ArrayLike, *, k: int) -> float:
    """Loss from training only the k architectures with the highest predictions.

    Parameters
    ----------
    measured, predicted : array_like, shape (n_archs,)
        As in `mae`.
    k : int
        Number of trained architectures, between 1 and n_archs.

    Returns
    -------
    float
        The highest measured value minus the highest among the k, at least 0. If equal predictions leave the k open, it
        is the mean over all choices, so that the order of rows does not matter.

    Examples
    --------
    >>> top_k_regret([0.5, 0.75, 1.0], [0.9, 0.8, 0.7], k=1), top_k_regret([0.5, 0.75, 1.0], [0.9, 0.8, 0.7], k=2)
    (0.5, 0.25)
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
    # A sum of losses is exactly 0 if nothing is lost.
    return float(((measured.max() - best) * weights).sum())


def _paired(
    measured: ArrayLike, predicted: ArrayLike, at_least: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert both arguments to float arrays of one length; refuse anything else."""
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


def _n_pairs(n: int, rows: ArrayLike | None = None) -> int:
    """Count pairs of n places, without those of an architecture with itself."""
    return n * (n - 1) // 2 - (0 if rows is None else _n_tied_pairs(np.asarray(rows)))


def _n_tied_pairs(values: NDArray[Any]) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _count_disagreements(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[int, int]:
    """Count pairs in opposite order, and pairs tied in the predictions only."""
    ascending = np.lexsort((predicted, measured))  # sorting ties by prediction adds no inversion
    tied_predictions = _n_tied_pairs(predicted) - _n_tied_pairs(measured + 1j * predicted)  # without pairs tied in both
    return _n_inversions(predicted[ascending]), tied_predictions


def _n_inversions(values: NDArray[np.float64]) -> int:
    """Count pairs whose earlier value is greater.

    Pairs are counted in blocks of 64, then between blocks, by sorting two blocks as one.
    """
    rows = np.full((1 << max(0, (values.size - 1).bit_length() - 6), 64), values.max())  # padding adds no inversion
    rows.flat[: values.size] = values
    n_inversions = int(np.triu(rows[:, :, None] > rows[:, None, :]).sum())
    while len(rows) > 1:
        half = rows.shape[1]
        rows = rows.reshape(-1, 2 * half)
        from_right = rows.argsort(axis=1, kind="stable") >= half
        n_inversions += int(from_right.cumsum(axis=1)[~from_right].sum())  # for each left value, those that pass it
    return n_inversions
