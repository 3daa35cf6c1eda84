"""Calibration: the spread of an ensemble's members compared with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Values = NDArray[np.float64]
_EXACT = 1e-9  # tolerance of rounding in a rank


def mean_and_spread(predicted: ArrayLike) -> tuple[Values, Values]:
    """Mean and standard deviation (n - 1) over members of predictions (n_members, n).

    Returns
    -------
    mean, standard deviation : ndarray, shape (n,)
    """
    members = np.asarray(predicted, dtype=float)
    if members.ndim != 2 or len(members) < 2:
        raise ValueError(f"predictions must be (n_members, n), of two members or more; their shape is {members.shape}")
    return members.mean(axis=0), members.std(axis=0, ddof=1)


def coverage(
    predicted: ArrayLike, truths: ArrayLike, *, levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)
) -> pd.DataFrame:
    """Share of true values within central normal intervals of the members.

    The intervals have the members' mean and standard deviation.

    Parameters
    ----------
    predicted : array_like, shape (n_members, n)
        Predictions made without the true values, as by
        `naaplib.estimators.ensembles.ensemble.DeepEnsemble.cross_predict`.
    truths : array_like, shape (n,)
    levels : sequence of float
        Nominal shares, between 0 and 1. With few members, a normal interval is too narrow even if members and true
        values share a distribution: with five members, a nominal 0.95 covers 0.85.

    Returns
    -------
    DataFrame
        One row per level: nominal, share, n.
    """
    deviations = np.abs(_standardised(predicted, truths))
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels are {list(levels)}; they must lie between 0 and 1")
    shares = [float((deviations <= norm.ppf((1 + level) / 2)).mean()) for level in levels]
    return pd.DataFrame({"nominal": levels, "share": shares, "n": len(deviations)})


def spread_factor(predicted: ArrayLike, truths: ArrayLike) -> float:
    """Factor on the members' standard deviation that maximises the likelihood.

    The likelihood is that of the true values under normal distributions. The factor is the root mean squared error of
    the members' mean in units of their standard deviation.

    Parameters
    ----------
    predicted, truths
        As in `coverage`.
    """
    return float(np.sqrt(np.square(_standardised(predicted, truths)).mean()))


def conformal_factor(predicted: ArrayLike, truths: ArrayLike, *, level: float) -> float:
    """Factor on the members' standard deviation whose interval covers a share.

    It is the conformal quantile of the absolute errors in units of the members' standard deviation: the value of rank
    ceil((n + 1) level) among n, or the largest if the rank exceeds n. Where predictions and truths are exchangeable
    with those to come, mean plus and minus factor times standard deviation then covers at least `level` of them, if n
    is at least level / (1 - level): 19 for 0.95 (Lei et al., Distribution-Free Predictive Inference for Regression,
    JASA 2018).

    Parameters
    ----------
    predicted, truths
        As in `coverage`: made without the true values.
    level : float
        Share to cover, between 0 and 1.

    Examples
    --------
    >>> conformal_factor([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], [0.5, -2.0, 1.0], level=0.5)
    1.0
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    deviations = np.sort(np.abs(_standardised(predicted, truths)))
    rank = math.ceil((len(deviations) + 1) * level - _EXACT)
    return float(deviations[min(rank, len(deviations)) - 1])


def rescale(predicted: ArrayLike, factor: float) -> Values:
    """Multiply the members' deviations from their mean by `factor`; the mean stays.

    Predictions have shape (n_members, n).
    """
    mean, _ = mean_and_spread(predicted)
    if not factor > 0:
        raise ValueError(f"the factor is {factor}; it must be positive")
    return mean + factor * (np.asarray(predicted, dtype=float) - mean)


def _standardised(predicted: ArrayLike, truths: ArrayLike) -> Values:
    """Errors of the members' mean in units of their standard deviation, (n,)."""
    mean, spread = mean_and_spread(predicted)
    known = np.asarray(truths, dtype=float)
    if known.shape != mean.shape or not known.size or not np.isfinite(known).all():
        raise ValueError(f"truths must be {mean.size} finite numbers, one a prediction; their shape is {known.shape}")
    if not (spread > 0).all():
        raise ValueError("members agree exactly on some prediction; no factor makes their spread right")
    return (known - mean) / spread
