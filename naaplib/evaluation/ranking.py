"""How well scores rank architectures, what they add beyond a baseline, and how steady their ranking is."""

from __future__ import annotations

from collections.abc import Iterable
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
        Matched with `measured` by index, in any order. An architecture that lacks the score (NaN), the baseline or a
        measured value is left out for that score.
    baseline : str
        Column of scores.
    n_resamples, level, seed
        Of percentile intervals over architectures, drawn again with replacement; the same draws for a score and the
        baseline, and for all scores of equal n. An architecture drawn twice is a pair tied in everything: tau-b leaves
        it out on both sides; tau-a of a resample comes out smaller by a factor 1 - 1/n on average.

    Returns
    -------
    DataFrame
        One row a score, in order: score, n, tie_share (of pairs with equal scores), and with their intervals _low and
        _high: tau_a, tau_b, with_baseline (tau-b of the score with the baseline), gain (tau-b less the baseline's on
        the same architectures), partial (tau-b given the baseline, see `naaplib.metrics.partial_correlation`; NaN for
        the baseline itself). All are NaN where fewer than two architectures have the score.
    """
    _require(baseline, scores.columns, "baseline", "scores")
    rows = []
    for name in scores:
        complete = pd.concat([measured, scores[name], scores[baseline]], axis=1, join="inner").dropna()
        n, values = len(complete), complete.to_numpy(float).T
        row: dict[str, object] = {"score": name, "n": n}
        if n > 1:
            draws = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
            counts = np.stack([np.ones(n, int), *(np.bincount(draw, minlength=n) for draw in draws)])
            row["tie_share"] = metrics.tie_share(values[1])
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
    times = counts.astype(np.float32)  # exact up to 2^24, and fast
    levels = [np.unique(value, return_inverse=True)[1].astype(np.float32) for value in values]
    agreement = {pair: np.zeros(len(counts)) for pair in combinations(range(3), 2)}  # concordant less discordant
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        block, others = times[:, rows], 2 * times[:, start:]  # every pair counts twice, as two ordered ones
        others[:, :ROWS] = block  # but within the block both come up
        signs = [np.sign(level[rows, None] - level[None, start:]) for level in levels]
        for (i, j), total in agreement.items():  # (n_samples, n_others) @ (n_others, n_rows), then the rows' own counts
            total += np.einsum("sr,sr->s", others @ (signs[i] * signs[j]).T, block, dtype=float)
    untied = [_n_untied(value, counts) for value in values]
    score, own, between = (
        np.divide(total, scale, out=np.full(len(counts), np.nan), where=scale > 0)  # NaN where one is constant
        for total, scale in ((total, np.sqrt(untied[i] * untied[j])) for (i, j), total in agreement.items())
    )
    return {
        "tau_a": agreement[0, 1] / (n * (n - 1)), "tau_b": score, "with_baseline": between, "gain": score - own,
        "partial": np.array([metrics.partial_correlation(*each) for each in zip(score, own, between, strict=True)]),
    }  # fmt: skip


def _n_untied(values: Values, counts: NDArray[np.int64]) -> Values:
    """Ordered pairs with different values, (n_samples,), of architectures taken so many times each."""
    order = values.argsort()
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)  # of each run of equal values
    in_run = np.add.reduceat(counts[:, order], starts, axis=1).astype(float)
    return len(values) ** 2 - (in_run**2).sum(axis=1)


def matrix(scores: pd.DataFrame) -> pd.DataFrame:
    """Tau-b of each two scores, over the architectures that have both.

    Parameters
    ----------
    scores : DataFrame, shape (n_archs, n_scores)

    Returns
    -------
    DataFrame
        One row for each ordered pair, a score with itself included: score, other, n, tau_b (NaN where one is constant,
        or fewer than two architectures have both).
    """
    rows = []
    for score in scores:
        for other in scores:
            both = scores[[score, other]].dropna().to_numpy(float)
            rows.append((score, other, len(both), _tau_b(both[:, 0], both[:, 1])))
    return pd.DataFrame(rows, columns=["score", "other", "n", "tau_b"])


def stability(values: pd.DataFrame, reference: str) -> pd.DataFrame:
    """How alike a score ranks architectures when it is drawn again, and under other conditions.

    Parameters
    ----------
    values : DataFrame
        Of one score: architecture, condition, repeat, value (NaN for none). Repeats without a single value are left
        out, then architectures that lack a value, so that all conditions are compared on the same ones.
    reference : str
        Condition that the others are compared with.

    Returns
    -------
    DataFrame
        One row a condition, in order of appearance: condition, n (architectures), n_repeats, within (mean tau-b between
        two of its repeats), within_least, between_share (of the variance of one draw, the share that is between
        architectures: the intraclass correlation of a one-way analysis), with_reference (tau-b between the means of
        this condition and of the reference). NaN where there are too few repeats or architectures to tell.
    """
    _require(reference, values["condition"].unique(), "reference", "conditions")
    if (again := values.duplicated(["architecture", "condition", "repeat"])).any():
        raise ValueError(f"{again.sum()} of {len(again)} rows are of a repeat that came before: choose one score first")
    wide = values.pivot_table("value", "architecture", ["condition", "repeat"]).dropna()
    draws = {
        condition: wide.loc[:, wide.columns.get_level_values("condition") == condition].to_numpy(float)
        for condition in values["condition"].unique()
    }
    sums = {condition: drawn.sum(axis=1) for condition, drawn in draws.items()}  # rank as means do; 0 without repeats
    rows = []
    for condition, drawn in draws.items():
        taus = [_tau_b(*pair) for pair in combinations(drawn.T, 2)] or [np.nan]
        rows.append({
            "condition": condition, "n": len(drawn) if drawn.size else 0, "n_repeats": drawn.shape[1],
            "within": np.mean(taus), "within_least": np.min(taus), "between_share": _intraclass(drawn),
            "with_reference": _tau_b(sums[reference], sums[condition]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _require(name: str, allowed: Iterable[str], role: str, kind: str) -> None:
    if name not in (known := list(allowed)):
        raise ValueError(f"{role} is {name!r}; it must be one of the {kind}: {', '.join(map(str, known))}")


def _tau_b(first: Values, second: Values) -> float:
    return metrics.kendall_tau(first, second) if len(first) > 1 else float("nan")


def _intraclass(draws: Values) -> float:
    """ICC(1) of an array (n_archs, n_repeats): 1 where repeats agree, about 0 where architectures do not differ."""
    n_archs, n_repeats = draws.shape
    if n_archs < 2 or n_repeats < 2:
        return float("nan")
    between = n_repeats * draws.mean(axis=1).var(ddof=1)
    within = draws.var(axis=1, ddof=1).mean()
    total = between + (n_repeats - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")
