"""How well scores rank architectures, what they add beyond a baseline, and how steady their ranking is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import metrics

Values = NDArray[np.float64]
ROWS = 1024  # architectures that are compared with all others at once; bounds memory


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
        values = np.stack([frame[here].to_numpy(float) for frame in (measured, scores[name], scores[baseline])])
        n = values.shape[1]
        draws = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
        counts = np.stack([np.ones(n, int), *(np.bincount(draw, minlength=n) for draw in draws)])
        row: dict[str, object] = {"score": name, "n": n, "tie_share": metrics.tie_share(values[1])}
        for key, found in _taus(values, counts).items():
            low, high = pd.Series(found[1:]).quantile([(1 - level) / 2, (1 + level) / 2])
            row |= {key: found[0], f"{key}_low": low, f"{key}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _taus(values: Values, counts: NDArray[np.int64]) -> dict[str, Values]:
    """Taus of measured, score and baseline, (3, n), on architectures taken so many times each, counts (n_samples, n).

    All resamples at once: what a pair of architectures adds to a sum is the same in each, but for how often the pair is
    there. Sums are of whole numbers, and exact.
    """
    n = values.shape[1]
    times = counts.astype(np.float32)
    pairs = {(i, j): np.zeros(len(counts)) for i in range(3) for j in range(i, 3)}
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        signs = [np.sign(value[rows, None] - value[None, :]).astype(np.float32) for value in values]
        for (i, j), total in pairs.items():  # (n_samples, n) @ (n, n_rows), then as often as the row itself is there
            total += np.einsum("sr,sr->s", times @ (signs[i] * signs[j]).T, times[:, rows], dtype=float)
    untied = {key: np.sqrt(pairs[key[0], key[0]] * pairs[key[1], key[1]]) for key in pairs}
    nowhere = np.full(len(counts), np.nan)  # where one of the two is constant
    score, own, between = (
        np.divide(pairs[key], untied[key], out=nowhere.copy(), where=untied[key] > 0)
        for key in [(0, 1), (0, 2), (1, 2)]
    )
    return {
        "tau_a": pairs[0, 1] / (n * (n - 1)), "tau_b": score, "with_baseline": between, "gain": score - own,
        "partial": np.array([metrics.partial_correlation(*each) for each in zip(score, own, between, strict=True)]),
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
