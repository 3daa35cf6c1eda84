"""Tables of repeated searches on learning curves, with several criteria."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from naaplib.architectures.schemes import Scheme, enumerate_schemes
from naaplib.evaluation import printed
from naaplib.parallel import one_thread
from naaplib.search import guided, strategies
from naaplib.search.tabular_objective import TableObjective, found, paths
from naaplib.tables import naap440

Values = NDArray[np.float64]
Key = tuple[str, str]  # strategy, criterion

RANDOM = "random search"
NAAP440, RECORDED = "NAAP-440", "recorded"
NEITHER = "no clearly better"
STRATEGIES: dict[str, Callable[..., pd.DataFrame]] = {
    RANDOM: lambda objective, total, *, max_budget, eta, **more: strategies.random_search(
        objective, total, budget=max_budget, **more
    ),
    "HyperBand": strategies.hyperband,
    "BOHB": strategies.bohb,
}


@dataclass(frozen=True)
class Benchmark:
    """Tabular benchmark of learning curves, with the budgets of its searches.

    Parameters
    ----------
    name : str
    scores : mapping from name to ndarray (n_archs, n_epochs)
        Selection criteria of searches; the first is the baseline criterion.
    true : ndarray, shape (n_archs,)
        True final accuracies; no search sees them.
    paths : sequence of sequences of str
        As for `.tabular_objective.TableObjective`.
    max_budget : int
        Epochs of every architecture in random search, and of fully promoted ones in other searches.
    total_budget : int
        Total epochs of a search.
    model_ids : sequence of int
        ModelIds of the architectures.
    """

    name: str
    scores: Mapping[str, Values]
    true: Values
    paths: Sequence[Sequence[str]]
    max_budget: int
    total_budget: int
    model_ids: Sequence[int] = ()


def run(
    benchmark: Benchmark, eta: int, *, n_repeats: int, at: Sequence[int], folder: Path | None = None, n_jobs: int = 1
) -> dict[Key, Values]:
    """Run every strategy with every criterion, seeded by the number of the repeat.

    Parameters
    ----------
    benchmark : Benchmark
    eta : int
        Halving rate of HyperBand and BOHB, see `.strategies.brackets`.
    n_repeats : int
    at : sequence of int
        Epochs spent at which to read the result.
    folder : Path or None
        Folder of traces, to resume interrupted searches; None writes none.
    n_jobs : int
        Number of processes; the result does not depend on it.

    Returns
    -------
    dict from (strategy, score) to ndarray (n_repeats, n_at)
        True accuracy of the incumbent; NaN before the first evaluation.
    """
    keys = [(strategy, score) for strategy in STRATEGIES for score in benchmark.scores]
    tasks = [(*key, seed) for key in keys for seed in range(n_repeats)]
    parallel = Parallel(n_jobs=n_jobs)
    done = parallel(delayed(_search)(benchmark, *task, eta=eta, at=at, folder=folder) for task in tasks)
    return {key: np.stack(done[i * n_repeats : (i + 1) * n_repeats]) for i, key in enumerate(keys)}


def _search(
    benchmark: Benchmark, strategy: str, score: str, seed: int, *, eta: int, at: Sequence[int], folder: Path | None
) -> Values:
    objective = TableObjective(benchmark.scores[score], benchmark.paths)
    name = f"{benchmark.name} {strategy} {score} {seed}.jsonl".replace(" ", "-")
    trace = None if folder is None else folder / name
    with one_thread():
        table = STRATEGIES[strategy](
            objective, benchmark.total_budget, max_budget=benchmark.max_budget, eta=eta, seed=seed, trace=trace
        )
    return found(table, benchmark.true, at=at)


def curves(benchmark: Benchmark, searched: Mapping[Key, Values], *, at: Sequence[int]) -> pd.DataFrame:
    """Return the accuracy and regret of searches after each number of epochs.

    Returns
    -------
    DataFrame
        benchmark, strategy, score, spent, n, and mean, sd, low, high as in `.guided.summary`, and regret:
        the best true accuracy of the benchmark minus the mean.
    """
    parts = []
    for (strategy, score), values in searched.items():
        known = np.isfinite(values).all(axis=0)
        table = guided.summary(values[:, known]).assign(strategy=strategy, score=score, n=len(values))
        parts.append(table.assign(spent=np.asarray(at)[known], benchmark=benchmark.name))
    table = pd.concat(parts, ignore_index=True)
    table["regret"] = benchmark.true.max() - table["mean"]
    return table[["benchmark", "strategy", "score", "spent", "n", "mean", "sd", "low", "high", "regret"]]


def gains(benchmark: Benchmark, searched: Mapping[Key, Values], *, at: Sequence[int], spent: int) -> pd.DataFrame:
    """Compare every search with two baselines that use the baseline criterion.

    The baselines are random search, and the search's own strategy. Differences are between runs of the same seed.

    Parameters
    ----------
    spent : int
        One of `at`.

    Returns
    -------
    DataFrame
        benchmark, strategy, score, spent, n, found (mean), sd, over_random and over_plain with _low and _high: mean
        differences and their 95 % intervals over repeats. NaN replaces a comparison of a search with itself.
    """
    place, plain = list(at).index(spent), next(iter(benchmark.scores))
    rows = []
    for key, values in searched.items():
        strategy, score = key
        row = {"benchmark": benchmark.name, "strategy": strategy, "score": score, "spent": spent, "n": len(values)}
        row |= {"found": values[:, place].mean(), "sd": values[:, place].std(ddof=1)}
        for name, other in (("over_random", (RANDOM, plain)), ("over_plain", (strategy, plain))):
            differences = np.full((len(values), 1), np.nan) if other == key else (values - searched[other])[:, [place]]
            told = guided.summary(differences).iloc[0]
            row |= {name: told["mean"], f"{name}_low": told["low"], f"{name}_high": told["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def benchmark(
    name: str,
    scores: Mapping[str, pd.DataFrame],
    *,
    true: pd.Series,
    schemes: Mapping[int, Scheme],
    max_budget: int,
    total_budget: int,
) -> Benchmark:
    """Make a benchmark from tables.

    Parameters
    ----------
    scores : mapping from name to DataFrame (n_archs, n_epochs or more)
        Indexed by ModelId, with columns by epoch, from 1; all for the same networks.
    true : Series
        True accuracies by ModelId, for these networks and perhaps others.
    schemes : mapping from ModelId to Scheme
        Schemes of these networks and perhaps others.
    name, max_budget, total_budget
        As for `Benchmark`.
    """
    ids = next(iter(scores.values())).index
    epochs = range(1, max_budget + 1)
    values = {score: table.loc[ids, epochs].to_numpy(float) for score, table in scores.items()}
    if missing := [score for score, own in values.items() if np.isnan(own).any()]:
        raise ValueError(f"{name}: not every network has every epoch up to {max_budget} of {', '.join(missing)}")
    return Benchmark(
        name,
        values,
        true=true.loc[ids].to_numpy(float),
        paths=paths([schemes[i] for i in ids]),
        max_budget=max_budget,
        total_budget=total_budget,
        model_ids=ids.tolist(),
    )


def changes(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark where the result of a search changes; NaN is nothing found yet.

    >>> changes(np.array([np.nan, 0.5, 0.5, 0.7])).tolist()
    [False, True, False, True]
    """
    return np.isfinite(values) & (values != np.concatenate([[np.nan], values[:-1]]))


def benchmarks(
    table: pd.DataFrame, estimates: pd.DataFrame, *, epochs_spent: Mapping[str, Sequence[int]]
) -> dict[str, Benchmark]:
    """Return the benchmarks of learning curves that early stopping runs on.

    Parameters
    ----------
    table : DataFrame
        NAAP-440, as `.naap440.read` returns it.
    estimates : DataFrame
        Estimates of recorded networks, from validation and test images.
    epochs_spent : mapping from benchmark to (int, int)
        Epochs of a longest training, and of a whole search.
    """
    published = naap440.tidy(table).pivot_table(index="ModelId", columns="epoch", values="accuracy")
    true, numbered = table.set_index("ModelId")["MaxAccuracy"], dict(enumerate(enumerate_schemes(), start=1))
    rows = estimates[estimates["images"] == "held out"]
    held_out = {name: rows.pivot_table(index="ModelId", columns="epoch", values=name) for name in rows.columns[3:]}
    by_cycle = published.T.rolling(3, min_periods=1).mean().T
    scores = {NAAP440: {"accuracy": published, "mean of a cycle": by_cycle}, RECORDED: held_out}
    found = {}
    for name, own in scores.items():
        longest, total = epochs_spent[name]
        found[name] = benchmark(name, own, true=true, schemes=numbered, max_budget=longest, total_budget=total)
    return found


def read_at(benchmark: Benchmark) -> list[int]:
    """Return the epochs spent at which a search's result is read."""
    return np.unique(np.linspace(benchmark.max_budget, benchmark.total_budget, 60).round().astype(int)).tolist()


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Format rows of `gains` for a page: a gain and its interval in one cell.

    Random search has the baseline criterion alone.

    Returns
    -------
    DataFrame
        strategy, goes by, found, from random search, from plain.
    """
    shown = table[(table["strategy"] != RANDOM) | table["over_random"].isna()]
    found = shown[["strategy", "score", "found"]].rename(columns={"score": "goes by"})
    for name, column in (("from random search", "over_random"), ("from plain", "over_plain")):
        found[name] = printed.with_interval(shown, column, spec="z.4f")
    return found


def sentence(table: pd.DataFrame, ensemble: str) -> str:
    """Return the chapter's second answer, from rows of `gains`.

    It compares HyperBand by the baseline criterion and by an estimate.
    """
    found, going = [], ""
    for name, part in table.groupby("benchmark", sort=False):
        where = name if name[0].isupper() else f"the {name} networks"
        rows = part.set_index(["strategy", "score"])
        verdict = _verdict(
            rows.loc[("HyperBand", part["score"].iloc[0])], "over_random", more="better", less="worse", neither=NEITHER
        )
        found.append(f"{verdict} networks than random search on {where}")
        if ensemble in set(part["score"]):
            ours = rows.loc[("HyperBand", ensemble)]
            does = _verdict(ours, "over_plain", more="helps", less="harms", neither="makes no measurable difference")
            going = f"; going by the {ensemble} in place of accuracy {does} there"
    return f"At equal cost HyperBand finds {' and '.join(found)}{going}."


def _verdict(row: pd.Series, gain: str, more: str, less: str, neither: str) -> str:
    return more if row[f"{gain}_low"] > 0 else less if row[f"{gain}_high"] < 0 else neither
