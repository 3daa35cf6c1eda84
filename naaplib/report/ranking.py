"""How well scores rank architectures, what they add beyond a baseline, and how steady their ranking is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import metrics

Values = NDArray[np.float64]


def ranks(
    measured: pd.Series,
    scores: pd.DataFrame,
    baseline: str,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Kendall's tau of every score with what was measured, and of what it adds beyond a baseline.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
    scores : DataFrame, shape (n_archs, n_scores)
        Indexed as `measured`; NaN where an architecture has no score, which then leaves it out for that score.
    baseline : str
        Column of scores, without gaps.
    n_resamples, level, seed
        Of percentile intervals over architectures, drawn again with replacement. An architecture drawn twice is a tied
        pair, in everything, so that tau-a of a resample comes out smaller by a factor 1 - 1/n on average.

    Returns
    -------
    DataFrame
        One row a score, in order: score, n, tie_share (of pairs with equal scores), and with their intervals _low and
        _high: tau_a, tau_b, with_baseline (tau-b of the score with the baseline), gain (tau-b less the baseline's on
        the same architectures), partial (tau-b given the baseline; NaN for the baseline itself).
    """
    rows = []
    for name in scores:
        here = scores[name].notna().to_numpy()
        arrays = [frame[here].to_numpy(float) for frame in (measured, scores[name], scores[baseline])]
        n = int(here.sum())
        draws = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
        sampled = pd.DataFrame([_taus(*(array[draw] for array in arrays)) for draw in draws])
        row: dict[str, object] = {"score": name, "n": n, "tie_share": metrics.tie_share(arrays[1])}
        for key, value in _taus(*arrays).items():
            low, high = sampled[key].quantile([(1 - level) / 2, (1 + level) / 2])
            row |= {key: value, f"{key}_low": low, f"{key}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _taus(measured: Values, score: Values, baseline: Values) -> dict[str, float]:
    tau = metrics.kendall_tau(measured, score)
    own, between = metrics.kendall_tau(measured, baseline), metrics.kendall_tau(score, baseline)
    return {
        "tau_a": metrics.kendall_tau(measured, score, "a"), "tau_b": tau, "with_baseline": between, "gain": tau - own,
        "partial": metrics.partial_correlation(tau, own, between),
    }  # fmt: skip


def matrix(scores: pd.DataFrame) -> pd.DataFrame:
    """Tau-b of each two scores, over the architectures that have both.

    Parameters
    ----------
    scores : DataFrame, shape (n_archs, n_scores)

    Returns
    -------
    DataFrame
        One row for each ordered pair, a score with itself included: score, other, n, tau_b (NaN where one is constant).
    """
    rows = []
    for score in scores:
        for other in scores:
            both = scores[[score, other]].dropna().to_numpy(float)
            rows.append((score, other, len(both), metrics.kendall_tau(both[:, 0], both[:, -1])))
    return pd.DataFrame(rows, columns=["score", "other", "n", "tau_b"])


def stability(values: pd.DataFrame, reference: str) -> pd.DataFrame:
    """How alike a score ranks architectures when it is drawn again, and under other conditions.

    Parameters
    ----------
    values : DataFrame
        Of one score: architecture, condition, repeat, value; architectures without a value under any condition or
        repeat are left out.
    reference : str
        Condition that the others are compared with.

    Returns
    -------
    DataFrame
        One row a condition, in order of appearance: condition, n (architectures), n_repeats, within (mean tau-b between
        two of its repeats), within_least, between_share (of the variance of one draw, the share that is between
        architectures: the intraclass correlation of a one-way analysis), with_reference (tau-b between the means of
        this condition and of the reference).
    """
    wide = values.pivot_table("value", "architecture", ["condition", "repeat"], sort=False, dropna=False).dropna()
    means = wide.T.groupby(level="condition", sort=False).mean().T
    rows = []
    for condition in wide.columns.unique("condition"):
        draws = wide[condition].to_numpy(float)
        taus = [metrics.kendall_tau(draws[:, i], draws[:, j]) for i, j in combinations(range(draws.shape[1]), 2)]
        row = {"condition": condition, "n": len(draws), "n_repeats": draws.shape[1]}
        row |= {"within": float(np.mean(taus)), "within_least": min(taus)} if taus else {}
        row["between_share"] = _intraclass(draws)
        rows.append(row | {"with_reference": metrics.kendall_tau(means[reference], means[condition])})
    return pd.DataFrame(rows)


def _intraclass(draws: Values) -> float:
    """ICC(1) of an array (n_archs, n_repeats): 1 where repeats agree, about 0 where architectures do not differ."""
    n_archs, n_repeats = draws.shape
    if n_archs < 2 or n_repeats < 2:
        return float("nan")
    between = n_repeats * draws.mean(axis=1).var(ddof=1)
    within = draws.var(axis=1, ddof=1).mean()
    total = between + (n_repeats - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")
