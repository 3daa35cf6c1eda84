"""What to evaluate next, of a finite list, from what the members of an ensemble predict; higher values are better."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, log_ndtr, ndtri
from scipy.stats import rankdata

from naaplib.estimators.ensembles.calibration import mean_and_spread

KINDS = ("thompson", "expected improvement", "upper confidence bound")
_FAR = -1e3  # standard deviations below, from where the series is more exact than the difference

Values = NDArray[np.float64]
Positions = NDArray[np.int64]


def normal_scores(values: ArrayLike) -> Values:
    """Values with the order that they have and a normal distribution, for an ensemble to be fitted to.

    Accuracies of architectures have a long tail of failures, which squared errors mind most and a search least.

    Parameters
    ----------
    values : array_like, shape (n,)
        Finite; those of one fidelity.

    Returns
    -------
    ndarray, shape (n,)
        Standard normal quantiles at (rank - 1/2) / n, the lowest having rank 1, equals their mean rank.

    Examples
    --------
    >>> normal_scores([0.1, 0.93, 0.92]).round(3)
    array([-0.967,  0.967,  0.   ])
    """
    given = np.asarray(values, dtype=float)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"values must be finite numbers in one dimension; their shape is {given.shape}")
    return ndtri((rankdata(given) - 0.5) / len(given)) if given.size else given


def log_expected_improvement(mean: ArrayLike, spread: ArrayLike, best: float) -> Values:
    """Logarithm of the expectation of max(value - best, 0) for normal values.

    The logarithm tells candidates apart whose improvements are too small for a floating-point number, as happens where
    members agree.

    Parameters
    ----------
    mean, spread : array_like, shape (n,)
        Of the values; a spread of 0 is allowed.
    best : float

    Returns
    -------
    ndarray, shape (n,)
        Minus infinity where there is nothing to hope for.

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


def upper_confidence_bound(mean: ArrayLike, spread: ArrayLike, kappa: float) -> Values:
    """Mean plus `kappa` times the spread, (n,)."""
    return np.asarray(mean, dtype=float) + kappa * np.asarray(spread, dtype=float)


def propose(
    predicted: ArrayLike,
    evaluated: ArrayLike,
    n_proposals: int = 1,
    kind: str = "thompson",
    best: float | None = None,
    kappa: float = 1.0,
    seed: int = 0,
) -> Positions:
    """Candidates to evaluate next, all different, none of them evaluated.

    - "thompson": proposal i is the best candidate that is left by member i, and so on round the members. Who calls
      draws the members, and need have no others fitted.
    - "expected improvement" over `best`, and "upper confidence bound": the candidates with the highest, of a normal
      distribution with the members' mean and spread. A batch is the highest so many.

    Parameters
    ----------
    predicted : array_like, shape (n_members, n)
        Two members or more; one is enough for "thompson".
    evaluated : array_like of int, shape (n_evaluated,)
        Positions never to propose; may repeat, may be empty.
    n_proposals : int
        Fewer are returned where fewer are left; none, where all are evaluated.
    kind : {"thompson", "expected improvement", "upper confidence bound"}
    best : float or None
        For "expected improvement": what is to be improved on, usually the best value seen.
    kappa : float
        For "upper confidence bound".
    seed : int
        Of the order of equals.

    Returns
    -------
    ndarray of int, shape (up to n_proposals,)
        The most promising first.
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
        scores = log_expected_improvement(*mean_and_spread(members), best)
    else:
        scores = upper_confidence_bound(*mean_and_spread(members), kappa)
    return np.lexsort((lots, -scores, ~is_left))[:n]


def _in_turn(members: Values, is_left: NDArray[np.bool_], lots: Values, n: int) -> Positions:
    """Thompson sampling: `n` positions, each the best of those left by the next member."""
    orders: dict[int, list[int]] = {}
    taken = ~is_left
    found = []
    for proposal in range(n):
        member = proposal % len(members)
        if member not in orders:
            orders[member] = np.lexsort((-lots, members[member])).tolist()  # the best last
        while taken[place := orders[member].pop()]:
            pass
        taken[place] = True
        found.append(place)
    return np.array(found, dtype=np.int64)


def _left(evaluated: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Whether each of n candidates may be proposed."""
    places = np.asarray(evaluated)
    if places.size and (places.ndim != 1 or places.dtype.kind not in "iu" or not 0 <= places.min() <= places.max() < n):
        raise ValueError(f"evaluated must be whole numbers from 0 to {n - 1}, in one dimension")
    is_left = np.ones(n, dtype=bool)
    is_left[places.astype(np.int64)] = False
    return is_left


def _log_h(z: Values) -> Values:
    """Logarithm of phi(z) + z Phi(z), of the standard normal distribution.

    Below -1 both terms nearly cancel; there, and with erfcx, it is -z²/2 - log(2 pi)/2 + log(1 - sqrt(pi/2) |z|
    erfcx(|z|/sqrt(2))), and where even that cancels, the logarithm of z^-2 - 3 z^-4 in place of the last.
    """
    with np.errstate(all="ignore"):
        density = -(z**2) / 2 - math.log(2 * math.pi) / 2
        near = np.log(np.exp(density) + z * np.exp(log_ndtr(z)))
        far = density + np.log1p(-math.sqrt(math.pi / 2) * -z * erfcx(-z / math.sqrt(2)))
        series = density - 2 * np.log(-z) + np.log1p(-3 / z**2)
    return np.select([z > -1, z > _FAR], [near, far], series)
