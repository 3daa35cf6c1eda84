"""Tables of architecture tuning: trainings to the best, and effects of parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from naaplib.evaluation import printed
from naaplib.search import guided
from naaplib.studies.architecture_tuning.searches import PAIRS, RANDOM, TUNING

TOLD = {
    "pretraining": "pretraining on cheap metrics",
    "two fidelities": "adding short trainings",
    "all metrics at once": "learning all metrics at once, and not one after the other,",
    "graph features": "describing architectures by graph features too",
}  # parts that the answer names


def summarise(runs: pd.DataFrame, best: float, *, n_resamples: int = 2000) -> pd.DataFrame:
    """Summarise when the searches of one benchmark found its best architecture.

    Parameters
    ----------
    runs : DataFrame
        As `.searches.run` returns it.
    best : float
        The highest value of the benchmark.
    n_resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    DataFrame
        One row per search: benchmark, search, n, found (share of searches that found it within the budget; random
        search has no budget), median evaluations to the best with low and high, a 95 % bootstrap percentile interval
        over searches, infinite beyond the budget; and the mean regret at each budget.
    """
    rng = np.random.default_rng(0)
    rows = []
    places = list(runs.columns[4:])
    for (benchmark, name), part in runs.groupby(["benchmark", "search"], sort=False):
        first = part["first_best"].fillna(math.inf).to_numpy()
        drawn = np.median(first[rng.integers(len(first), size=(n_resamples, len(first)))], axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
        row = {"benchmark": benchmark, "search": name, "n": len(part), "found": (first <= float(places[-1])).mean()}
        row |= {"median": np.median(first), "low": low, "high": high}
        rows.append(row | {place: best - part[place].mean() for place in places})
    return pd.DataFrame(rows)


def curves(runs: pd.DataFrame, best: float) -> pd.DataFrame:
    """Return the mean regret of each search.

    Columns are search, spent, and mean, sd, low, high as in `.guided.summary`.
    """
    parts = []
    for name, part in runs.groupby("search", sort=False):
        values = best - part.iloc[:, 4:].to_numpy(float)
        known = np.isfinite(values).all(axis=0)
        spent = part.columns[4:][known].astype(float)
        parts.append(
            guided.summary(values[:, known]).assign(benchmark=part["benchmark"].iloc[0], search=name, spent=spent)
        )
    return pd.concat(parts, ignore_index=True)[["benchmark", "search", "spent", "mean", "sd", "low", "high"]]


def differences(runs: pd.DataFrame, pairs: Mapping[str, tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """Compare searches with and without a part of the tool, in pairs of equal seed.

    Returns
    -------
    DataFrame
        One row per pair that was run: benchmark, part, n, with and without (mean full evaluations to the best, at most
        the budget), difference (with minus without; the part helps below 0) and low, high, its 95 % bootstrap interval
        over pairs.
    """
    budget = float(runs.columns[-1])
    rows = []
    for benchmark, part in runs.groupby("benchmark", sort=False):
        counted = part.assign(first_best=part["first_best"].fillna(budget).clip(upper=budget))
        whole = counted.pivot_table(index="seed", columns="search", values="first_best")
        for name, (one, other) in pairs.items():
            if {one, other} <= set(whole):
                first = whole[[one, other]].dropna()  # seeds of both
                told = guided.summary((first[one] - first[other]).to_numpy()[:, None]).iloc[0]
                row = {"benchmark": benchmark, "part": name, "n": len(first)}
                row |= {"with": first[one].mean(), "without": first[other].mean()}
                rows.append(row | {"difference": told["mean"], "low": told["low"], "high": told["high"]})
    return pd.DataFrame(rows)


def readable(summary: pd.DataFrame, last: float) -> pd.DataFrame:
    """Format the medians of `summarise` for a page, as "21 (20 to 24)".

    Infinite ones become "over 150", where 150 is `last`.

    Returns
    -------
    DataFrame
        search, and a column for each benchmark, named by its last part; empty where a search was not run.
    """

    def told(x: float) -> str:
        return f"{x:,.0f}" if math.isfinite(x) else f"over {last:,.0f}"

    texts = [
        told(row.median) + (f" ({told(row.low)} to {told(row.high)})" if math.isfinite(row.low) else "")
        for row in summary.itertuples()
    ]
    return _by_benchmark(summary, "search", texts)


def readable_parts(parts: pd.DataFrame) -> pd.DataFrame:
    """Format `differences` for a page: part, and a column for each benchmark."""
    texts = [f"{row.difference:z.0f} ({_range(row.low, row.high)})" for row in parts.itertuples()]
    return _by_benchmark(parts, "part", texts)


def readable_intervals(spread: pd.DataFrame, level: float) -> pd.DataFrame:
    """Lay out the coverage of intervals of one level, a column for each benchmark."""
    rows = spread[spread["nominal"] == level].reset_index(drop=True)
    return _by_benchmark(rows, "spread", [f"{share:.0%}" for share in rows["share"]])


def _by_benchmark(rows: pd.DataFrame, name: str, texts: Sequence[str]) -> pd.DataFrame:
    benchmarks = rows["benchmark"].str.split(", ").str[-1]
    return printed.across(rows.assign(benchmark=benchmarks, text=texts), name, columns="benchmark", values="text")


def count(n_searches: Mapping[str, int]) -> str:
    """Return the number of searches of each benchmark as text.

    >>> count({"CIFAR-10": 50, "CIFAR-100": 50}), count({"CIFAR-10": 8, "CIFAR-100": 20})
    ('50', '8 or more')
    """
    least = min(n_searches.values())
    return f"{least}{' or more' * (max(n_searches.values()) > least)}"


def sentences(summary: pd.DataFrame, parts: pd.DataFrame) -> list[str]:
    """Return the answer and what parts do, from `summarise` and `differences`."""
    own, chance = (summary.loc[summary["search"] == name, "median"] for name in (TUNING, RANDOM))
    n_grounds = summary["benchmark"].nunique()
    found = (
        f"Bayesian optimisation with a pretrained ensemble finds the best architecture in a median of **{_span(own)} "
        f"full trainings** on {n_grounds} benchmark{'s' * (n_grounds > 1)}, short ones counted by their epochs; random "
        f"search takes {_span(chance)}."
    )
    told = [_effect(TOLD[name], part) for name, part in parts.groupby("part", sort=False) if name in TOLD]
    return [found, *(f"{text[0].upper()}{text[1:]}." for text in told)]


def _effect(what: str, part: pd.DataFrame) -> str:
    """Name the benchmarks where a part clearly saves or costs trainings.

    The interval of the difference then excludes 0.
    """
    benchmarks = part["benchmark"].str.split(", ").str[-1]
    signs = {"saves": benchmarks[part["high"] < 0], "costs": benchmarks[part["low"] > 0]}
    clear = [f"{verb} trainings on {' and '.join(names)}" for verb, names in signs.items() if len(names)]
    return f"{what} {' but '.join(clear) or 'makes no clear difference'}"


def _span(medians: pd.Series) -> str:
    """Return the range of medians as text."""
    low, high = (f"{value:,.0f}" for value in (medians.min(), medians.max()))
    return low if low == high else f"{low} to {high}"


def _range(low: float, high: float) -> str:
    return f"{low:z.0f} to {high:z.0f}"
