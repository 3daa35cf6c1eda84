"""Acquisition functions: which candidates of a finite list to evaluate next.

They read the predictions of an ensemble's members. Higher values are better.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, log_ndtr, ndtri
from scipy.stats import rankdata

from naaplib.estimators.ensembles.calibration import mean_and_spread

KINDS = ("thompson", "expected improvement", "upper confidence bound")
_FAR = -1e3  # standard deviations; below it the series is more exact than the difference

Values = NDArray[np.float64]
Positions = NDArray[np.int64]


def normal_scores(values: ArrayLike) -> Values:
    """Replace values by normal quantiles of their ranks.

    Accuracies of architectures have a long tail of failures. A squared error gives that tail most weight, although a
    search needs it least. An ensemble is therefore fitted to these scores.

    Parameters
    ----------
    values : array_like, shape (n,)
        Finite; those of one fidelity.

    Returns
    -------
    ndarray, shape (n,)
        Standard normal quantiles at (rank - 1/2) / n. The lowest value has rank 1; equal values share their mean rank.

    Examples
    --------
    >>> normal_scores([0.1, 0.93, 0.92]).round(3)
    array([-0.967,  0.967,  0.   ])
    """
    given = np.asarray(values, dtype=float)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"values must be finite numbers in one dimension; their shape is {given.shape}")
    return ndtri((rankdata(given) - 0.5) / len(given)) if given.size else given


def log_expected_improvement(mean: ArrayLike, spread: ArrayLike, *, best: float) -> Values:
    """Return log E[max(value - best, 0)] of normally distributed values.

    The logarithm still orders candidates whose improvements are too small for a floating-point number. This happens
    where the members agree.

    Parameters
    ----------
    mean, spread : array_like, shape (n,)
        Means and standard deviations of the values; a standard deviation of 0 is allowed.
    best : float

    Returns
    -------
    ndarray, shape (n,)
        Minus infinity where no improvement is possible.

    Examples
    --------
    >>> np.exp(log_expected_improvement([0, 3], [1, 0], best=0)).round(4)
    array([0.3989, 3.    ])
    """
    centre, sd = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(spread, dtype=float))
    if not (sd >= 0).all():
        raise ValueError("a spread is negative or not a number")
    with np.errstate(divide="ignore", invalid="ignore"):
        certain = np.log(np.maximum(centre - best, 0))
        found = np.log(sd) + _log_h((centre - best) / sd)
    return np.where(sd > 0, found, certain)


def upper_confidence_bound(mean: ArrayLike, spread: ArrayLike, *, kappa: float) -> Values:
    """Return the mean plus `kappa` standard deviations, shape (n,)."""
    return np.asarray(mean, dtype=float) + kappa * np.asarray(spread, dtype=float)


def propose(
    predicted: ArrayLike,
    evaluated: ArrayLike,
    *,
    n_proposals: int = 1,
    kind: str = "thompson",
    best: float | None = None,
    kappa: float = 1.0,
    seed: int = 0,
) -> Positions:
    """Propose different candidates to evaluate next, none of them evaluated yet.

    - "thompson": Thompson sampling. Proposal i maximises the prediction of member i mod n_members among the candidates
      left. Pass only the members that were sampled: no others need be fitted.
    - "expected improvement" over `best`, "upper confidence bound": the acquisition function of a normal distribution
      with the members' mean and standard deviation. A batch is the `n_proposals` highest values.

    Parameters
    ----------
    predicted : array_like, shape (n_members, n)
        Two members or more; one is enough for "thompson".
    evaluated : array_like of int, shape (n_evaluated,)
        Indices that are never proposed; they may repeat, and there may be none.
    n_proposals : int
        Fewer are returned where fewer candidates are left.
    kind : {"thompson", "expected improvement", "upper confidence bound"}
    best : float or None
        For "expected improvement": the value to improve on, usually the best one seen.
    kappa : float
        For "upper confidence bound".
    seed : int
        Seed of the random tie-break.

    Returns
    -------
    ndarray of int, shape (up to n_proposals,)
        Indices of candidates, the most promising first.
    """
    members = np.asarray(predicted, dtype=float)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if n_proposals < 1:
        raise ValueError(f"n_proposals is {n_proposals}; it must be at least 1")
    if members.ndim != 2 or not len(members) or not np.isfinite(members).all():
        raise ValueError(f"predictions must be finite numbers (n_members, n); their shape is {members.shape}")
    is_left = _left(evaluated, members.shape[1])
    n = min(n_proposals, int(is_left.sum()))
    lots: Values = np.random.default_rng(seed).random(len(is_left))
    if kind == "thompson":
        return _in_turn(members, is_left, lots, n)
    if kind == "expected improvement":
        if best is None or not math.isfinite(best):
            raise ValueError(f"expected improvement needs a finite value to improve on; best is {best}")
        scores = log_expected_improvement(*mean_and_spread(members), best=best)
    else:
        scores = upper_confidence_bound(*mean_and_spread(members), kappa=kappa)
    return np.lexsort((lots, -scores, ~is_left))[:n]


def _in_turn(members: Values, is_left: NDArray[np.bool_], lots: Values, n: int) -> Positions:
    """Thompson sampling: `n` indices, each the best that is left by the next member."""
    orders: dict[int, list[int]] = {}
    taken = ~is_left
    found = []
    for proposal in range(n):
        member = proposal % len(members)
        if member not in orders:
            orders[member] = np.lexsort((-lots, members[member])).tolist()  # the best is last, where pop takes it
        while taken[place := orders[member].pop()]:
            pass
        taken[place] = True
        found.append(place)
    return np.array(found, dtype=np.int64)


def _left(evaluated: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Return a mask of the candidates that may be proposed, shape (n,)."""
    places = np.asarray(evaluated)
    if places.size and (places.ndim != 1 or places.dtype.kind not in "iu" or not 0 <= places.min() <= places.max() < n):
        raise ValueError(f"evaluated must be whole numbers from 0 to {n - 1}, in one dimension")
    is_left = np.ones(n, dtype=bool)
    is_left[places.astype(np.int64)] = False
    return is_left


def _log_h(z: Values) -> Values:
    """Return log(phi(z) + z Phi(z)) of the standard normal distribution.

    Below -1 both terms nearly cancel. There the result is -z²/2 - log(2 pi)/2 + log(1 - sqrt(pi/2) |z|
    erfcx(|z|/sqrt(2))). Where even that cancels, log(z^-2 - 3 z^-4) replaces the last term.
    """
    with np.errstate(all="ignore"):
        density = -(z**2) / 2 - math.log(2 * math.pi) / 2
        near = np.log(np.exp(density) + z * np.exp(log_ndtr(z)))
        far = density + np.log1p(-math.sqrt(math.pi / 2) * -z * erfcx(-z / math.sqrt(2)))
        series = density - 2 * np.log(-z) + np.log1p(-3 / z**2)
    return np.select([z > -1, z > _FAR], [near, far], series)
