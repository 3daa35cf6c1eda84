"""Rank quality of scores: agreement with accuracy, gain, stability."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import metrics

Values = NDArray[np.float64]
ROWS = 1024  # architectures compared with all others at once; it bounds memory


def ranks(
    measured: pd.Series,
    scores: pd.DataFrame,
    *,
    baseline: str,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return Kendall's tau of every score with accuracy, and its gain over a baseline.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
        Accuracies.
    scores : DataFrame, shape (n_archs, n_scores)
        Matched with `measured` by index. A score leaves out the architectures that lack it (NaN), the baseline or a
        measured value.
    baseline : str
        Column of `scores`.
    n_resamples, level, seed
        Settings of bootstrap percentile intervals over architectures. A score, the baseline and all scores of equal n
        have the same resamples. Pairs of an architecture with itself, in a sample that has it twice, do not count.

    Returns
    -------
    DataFrame
        One row per score, in order: score, n, tie_share (fraction of pairs with equal scores), and with intervals
        (_low, _high): tau_a, tau_b, with_baseline (tau-b of the score with the baseline), gain (tau-b minus the
        baseline's on the same architectures), partial (tau-b given the baseline, see
        `naaplib.metrics.partial_correlation`; NaN for the baseline itself). All are NaN for fewer than two
        architectures.

    Examples
    --------
    >>> scores = pd.DataFrame({"macs": [1, 2, 3, 4], "proxy": [5, 7, 6, 9]})
    >>> found = ranks(pd.Series([0.5, 0.7, 0.6, 0.8]), scores, baseline="macs", n_resamples=100)
    >>> found[["score", "tau_b", "gain"]].round(3).to_numpy().tolist()
    [['macs', 0.667, 0.0], ['proxy', 1.0, 0.333]]
    """
    _require(baseline, scores.columns, "baseline", "scores")
    rows = []
    for name in scores:
        complete = pd.concat([measured, scores[name], scores[baseline]], axis=1, join="inner").dropna()
        n, values = len(complete), complete.to_numpy(float).T
        row: dict[str, object] = {"score": name, "n": n}
        if n > 1:
            counts = resample_counts(n, n_resamples, rng=np.random.default_rng(seed))
            row["tie_share"] = metrics.tie_share(values[1])
            for key, found in _taus(values, counts).items():
                row |= with_interval(key, found, level=level)
        rows.append(row)
    return pd.DataFrame(rows)


def resample_counts(n: int, n_resamples: int, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ones, then how often each bootstrap sample has each of n architectures."""
    drawn = rng.integers(n, size=(n_resamples, n))
    return np.stack([np.ones(n, dtype=np.int64), *(np.bincount(one, minlength=n) for one in drawn)])


def with_interval(name: str, found: Values, *, level: float) -> dict[str, float]:
    """Return the first value as `name`, and an interval of the others: _low and _high."""
    low, high = pd.Series(found[1:]).quantile([(1 - level) / 2, (1 + level) / 2])
    return {name: found[0], f"{name}_low": low, f"{name}_high": high}


def measures(measured: Iterable[float], predicted: Iterable[float], *, counts: NDArray[np.int64]) -> dict[str, Values]:
    """Compute tau-b, violations and MAE for each row of `counts` (n_samples, n_archs).

    A count tells how often a sample has an architecture; a pair counts as often as both together, and pairs of an
    architecture with itself are left out, as in `naaplib.metrics.violations` with `rows`. Ones give
    `naaplib.metrics.kendall_tau`, `violations` and `mae`.
    """
    values = np.array([np.asarray(measured, dtype=float), np.asarray(predicted, dtype=float)])
    agreement, untied = _pairs(values, counts)
    wrong = untied[0] - agreement[0, 1]  # wrong pairs count four times here, and pairs tied in predictions twice
    n = values.shape[1]
    violations = _divide(wrong * (n * (n - 1)), _n_distinct(counts)) / 4
    mae = counts @ np.abs(values[1] - values[0]) / counts.sum(axis=1)
    return {"kendall_tau": _tau(agreement[0, 1], untied[0] * untied[1]), "violations": violations, "mae": mae}


def _taus(values: Values, counts: NDArray[np.int64]) -> dict[str, Values]:
    """Return taus of measured, score and baseline (3, n) for weighted architectures."""
    agreement, untied = _pairs(values, counts)
    score, own, between = (_tau(total, untied[i] * untied[j]) for (i, j), total in agreement.items())
    return {
        "tau_a": _divide(agreement[0, 1], _n_distinct(counts)),
        "tau_b": score, "with_baseline": between, "gain": score - own,
        "partial": np.array([
            metrics.partial_correlation(a, b, between=c) for a, b, c in zip(score, own, between, strict=True)
        ]),
    }  # fmt: skip


def _tau(agreement: Values, squared: Values) -> Values:
    """Divide by a root; NaN where one side is constant."""
    return _divide(agreement, np.sqrt(squared))


def _divide(numerators: Values, by: Values) -> Values:
    return np.divide(numerators, by, out=np.full(len(numerators), np.nan), where=by > 0)


def _n_distinct(counts: NDArray[np.int64]) -> Values:
    """Count ordered pairs of two architectures in each sample, which leaves out one with itself."""
    drawn = counts.astype(float)
    return drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)


def _pairs(values: Values, counts: NDArray[np.int64]) -> tuple[dict[tuple[int, int], Values], list[Values]]:
    """Sum over ordered pairs: concordant minus discordant ones, and untied ones.

    `values` is (n_values, n), `counts` (n_samples, n) says how often a sample has each architecture. All samples are
    computed at once: a pair contributes the same to each sum, times its number of occurrences. Sums are exact whole
    numbers.
    """
    n = values.shape[1]
    times = counts.astype(np.float32)  # exact up to 2^24, and fast
    levels = [np.unique(value, return_inverse=True)[1].astype(np.float32) for value in values]
    agreement = {pair: np.zeros(len(counts)) for pair in combinations(range(len(values)), 2)}
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        block, others = times[:, rows], 2 * times[:, start:]  # a pair counts twice, once in each order
        others[:, :ROWS] = block  # but a block holds both orders of its own pairs
        signs = [np.sign(level[rows, None] - level[None, start:]) for level in levels]
        for (i, j), total in agreement.items():  # (n_samples, n_others) @ (n_others, n_rows), then the rows' own counts
            total += np.einsum("sr,sr->s", others @ (signs[i] * signs[j]).T, block, dtype=float)
    return agreement, [_n_untied(value, counts) for value in values]


def _n_untied(values: Values, counts: NDArray[np.int64]) -> Values:
    """Count ordered pairs with different values in each sample, (n_samples,)."""
    order = values.argsort()
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)  # of runs of equal values
    in_run = np.add.reduceat(counts[:, order], starts, axis=1).astype(float)
    return len(values) ** 2 - (in_run**2).sum(axis=1)


def matrix(scores: pd.DataFrame) -> pd.DataFrame:
    """Return tau-b of every two scores, over the architectures that have both.

    Parameters
    ----------
    scores : DataFrame, shape (n_archs, n_scores)

    Returns
    -------
    DataFrame
        One row per ordered pair, a score with itself included: score, other, n, tau_b. Tau is NaN where a score is
        constant, or fewer than two architectures have both.

    Examples
    --------
    >>> matrix(pd.DataFrame({"a": [1, 2, 3], "b": [1, 3, 2]})).round(3).to_numpy().tolist()
    [['a', 'a', 3, 1.0], ['a', 'b', 3, 0.333], ['b', 'a', 3, 0.333], ['b', 'b', 3, 1.0]]
    """
    rows = []
    for score in scores:
        for other in scores:
            both = scores[[score, other]].dropna().to_numpy(float)
            rows.append((score, other, len(both), _tau_b(both[:, 0], both[:, 1])))
    return pd.DataFrame(rows, columns=["score", "other", "n", "tau_b"])


def stability(values: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return a score's rank stability over repeated draws and across conditions.

    Parameters
    ----------
    values : DataFrame
        Values of one score: architecture, condition, repeat, value (NaN for none). Repeats without any value are left
        out, and then architectures that lack a value, so that all conditions have the same architectures.
    reference : str
        Condition to compare the others with.

    Returns
    -------
    DataFrame
        One row per condition, in order of appearance: condition, n (architectures), n_repeats, within (mean tau-b
        between two repeats), within_least, between_share (fraction of the variance of one draw that lies between
        architectures: the intraclass correlation of a one-way analysis), with_reference (tau-b between the means of
        this condition and of the reference). NaN marks too few repeats or architectures.

    Examples
    --------
    >>> rows = [(name, "noise", repeat, ord(name) + 0.1 * repeat) for name in "abc" for repeat in range(2)]
    >>> values = pd.DataFrame(rows, columns=["architecture", "condition", "repeat", "value"])
    >>> stability(values, reference="noise")[["within", "between_share"]].round(3).to_numpy().tolist()
    [[1.0, 0.995]]
    """
    _require(reference, values["condition"].unique(), "reference", "conditions")
    if (again := values.duplicated(["architecture", "condition", "repeat"])).any():
        raise ValueError(f"{again.sum()} of {len(again)} rows are of a repeat that came before: choose one score first")
    wide = values.pivot_table("value", "architecture", ["condition", "repeat"]).dropna()
    draws = {
        condition: wide.loc[:, wide.columns.get_level_values("condition") == condition].to_numpy(float)
        for condition in values["condition"].unique()
    }
    sums = {condition: drawn.sum(axis=1) for condition, drawn in draws.items()}  # rank like means; 0 without repeats
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
    """Return ICC(1) of draws (n_archs, n_repeats).

    It is 1 where repeats agree, and about 0 where architectures do not differ.
    """
    n_archs, n_repeats = draws.shape
    if n_archs < 2 or n_repeats < 2:
        return float("nan")
    between = n_repeats * draws.mean(axis=1).var(ddof=1)
    within = draws.var(axis=1, ddof=1).mean()
    total = between + (n_repeats - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")
