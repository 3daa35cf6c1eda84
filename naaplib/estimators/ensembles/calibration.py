"""How far an ensemble's members lie apart, against how far they lie from the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Values = NDArray[np.float64]


def mean_and_spread(predicted: ArrayLike) -> tuple[Values, Values]:
    """Mean and standard deviation (n - 1) over members of predictions (n_members, n), each (n,)."""
    members = np.asarray(predicted, dtype=float)
    if members.ndim != 2 or len(members) < 2:
        raise ValueError(f"predictions must be (n_members, n), of two members or more; their shape is {members.shape}")
    return members.mean(axis=0), members.std(axis=0, ddof=1)


def coverage(predicted: ArrayLike, truths: ArrayLike, levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)) -> pd.DataFrame:
    """Share of truths within central intervals of a normal distribution with the members' mean and spread.

    Parameters
    ----------
    predicted : array_like, shape (n_members, n)
        Made without the truths, as by `naaplib.estimators.ensembles.ensemble.DeepEnsemble.cross_predict`.
    truths : array_like, shape (n,)
    levels : sequence of float
        Nominal shares, between 0 and 1. With few members a normal interval is somewhat too narrow even where members
        and truth are of one distribution: of five members, a nominal 0.95 holds 0.85.

    Returns
    -------
    DataFrame
        One row a level: nominal, share, n.
    """
    deviations = np.abs(_standardised(predicted, truths))
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels are {list(levels)}; they must lie between 0 and 1")
    shares = [float((deviations <= norm.ppf((1 + level) / 2)).mean()) for level in levels]
    return pd.DataFrame({"nominal": levels, "share": shares, "n": len(deviations)})


def spread_factor(predicted: ArrayLike, truths: ArrayLike) -> float:
    """What to multiply the members' spread by, so that normal distributions make the truths most likely.

    It is the root of the mean squared deviation of a truth from the members' mean, in units of their spread.

    Parameters
    ----------
    predicted, truths
        As for `coverage`.
    """
    return float(np.sqrt(np.square(_standardised(predicted, truths)).mean()))


def rescale(predicted: ArrayLike, factor: float) -> Values:
    """Predictions (n_members, n) whose members lie `factor` times as far from their mean, which stays."""
    mean, _ = mean_and_spread(predicted)
    if not factor > 0:
        raise ValueError(f"the factor is {factor}; it must be positive")
    return mean + factor * (np.asarray(predicted, dtype=float) - mean)


def _standardised(predicted: ArrayLike, truths: ArrayLike) -> Values:
    """Deviations of truths from the members' mean in units of their spread, (n,)."""
    mean, spread = mean_and_spread(predicted)
    known = np.asarray(truths, dtype=float)
    if known.shape != mean.shape or not known.size or not np.isfinite(known).all():
        raise ValueError(f"truths must be {mean.size} finite numbers, one a prediction; their shape is {known.shape}")
    if not (spread > 0).all():
        raise ValueError("members agree exactly on some prediction; no factor makes their spread right")
    return (known - mean) / spread
