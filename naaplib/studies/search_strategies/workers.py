"""Searches on learning curves with several workers, by wall time.

Time is simulated: an epoch of a network takes as long as its multiply-accumulates are many. Its unit is an epoch of a
network of the benchmark's mean size, so that one worker needs about as long as a search has epochs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from naaplib.evaluation import printed
from naaplib.parallel import one_thread
from naaplib.search import guided, workers
from naaplib.search.tabular_objective import TableObjective, found
from naaplib.studies.search_strategies.tables import Benchmark, changes

KEY = ["strategy", "score", "n_workers"]


def searches(
    benchmark: Benchmark, macs: pd.Series, *, scores: Sequence[str], n_workers: Sequence[int], n_repeats: int, eta: int,
    n_jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Run all strategies of `naaplib.search.workers`, each repeat with its own seed.

    Parameters
    ----------
    benchmark : Benchmark
    macs : Series
        Multiply-accumulates by ModelId, for these networks and perhaps others.
    scores : sequence of str
        Selection criteria, of the benchmark's.
    n_workers : sequence of int
        Numbers of workers, each for searches of its own.
    n_repeats, eta, n_jobs
        As in `.tables.run`.

    Returns
    -------
    DataFrame
        A row for each change of a search's result: `KEY`, repeat, makespan (time at which the last evaluation
        ends), idle (share of the workers' time until then), wall_time, found (true accuracy).
    """
    sizes = macs.loc[list(benchmark.model_ids)].to_numpy(float)
    times = sizes / sizes.mean()
    keys = [(strategy, score, n) for strategy in workers.STRATEGIES for score in scores for n in n_workers]
    tasks = [(*key, repeat) for key in keys for repeat in range(n_repeats)]
    return pd.concat(Parallel(n_jobs=n_jobs)(delayed(_search)(benchmark, times, eta, *task) for task in tasks))


def _search(
    benchmark: Benchmark, times: NDArray[np.float64], eta: int, strategy: str, score: str, n_workers: int, repeat: int
) -> pd.DataFrame:
    with one_thread():
        table = workers.search(
            strategy, TableObjective(benchmark.scores[score], benchmark.paths), total_budget=benchmark.total_budget,
            max_budget=benchmark.max_budget, eta=eta, seed=repeat, n_workers=n_workers,
            seconds=lambda place, n_epochs: times[place] * n_epochs,
        )  # fmt: skip
    ends = table["end"].to_numpy()
    values = found(table.assign(spent=ends), benchmark.true, at=ends)
    is_new = changes(values)
    told = {"repeat": repeat, "makespan": ends[-1], "idle": workers.idle_share(table, n_workers=n_workers)}
    own = pd.DataFrame({"wall_time": ends[is_new], "found": values[is_new]})
    return own.assign(strategy=strategy, score=score, n_workers=n_workers, **told)[[*KEY, *told, *own]]


def at_times(record: pd.DataFrame, times: Sequence[float]) -> dict[tuple[str, str, int], NDArray[np.float64]]:
    """Look up what searches would return at some times.

    Values are (n_repeats, n_times) by `KEY`, NaN before the first evaluation."""
    values = {}
    for key, part in record.groupby(KEY, sort=False):
        rows = []
        for _, one in part.groupby("repeat"):
            places = np.searchsorted(one["wall_time"].to_numpy(), times, side="right")
            known = one["found"].to_numpy()[np.maximum(places - 1, 0)]
            rows.append(np.where(places > 0, known, np.nan))
        values[str(key[0]), str(key[1]), int(key[2])] = np.stack(rows)
    return values


def curves(record: pd.DataFrame, times: Sequence[float]) -> pd.DataFrame:
    """Average what searches found by each time, from when all found something.

    Columns are `KEY`, wall_time, n, and mean, sd, low, high as in `naaplib.search.guided.summary`.
    """
    parts = []
    for key, values in at_times(record, times).items():
        known = np.isfinite(values).all(axis=0)
        part = guided.summary(values[:, known]).assign(wall_time=np.asarray(times)[known], n=len(values))
        parts.append(part.assign(**dict(zip(KEY, key, strict=True))))
    return pd.concat(parts, ignore_index=True)[[*KEY, "wall_time", "n", "mean", "sd", "low", "high"]]


def summary(record: pd.DataFrame, *, early: float) -> pd.DataFrame:
    """Compare searches with those of one worker: time, idleness, early finds.

    Parameters
    ----------
    record : DataFrame
        As `searches` returns it, with one worker among the numbers.
    early : float
        Time at which results are compared.

    Returns
    -------
    DataFrame
        `KEY`, n (repeats), early, and with _low and _high: makespan, speed_up (makespan of one worker over own), idle,
        found (true accuracy at the end), found_early (at the time `early`), gained_early (found_early minus that of one
        worker). Means and their 95 % bootstrap intervals over repeats; pairs have the same seed.
    """
    ends = record.groupby([*KEY, "repeat"], sort=False).last()
    by_key = {key: ends.loc[key] for key in at_times(record, [])}
    sooner = {key: values[:, 0] for key, values in at_times(record, [early]).items()}
    rows = []
    for key, own in by_key.items():
        alone = (*key[:2], 1)
        columns = {
            "makespan": own["makespan"], "speed_up": by_key[alone]["makespan"] / own["makespan"], "idle": own["idle"],
            "found": own["found"], "found_early": sooner[key], "gained_early": sooner[key] - sooner[alone],
        }  # fmt: skip
        told = guided.summary(np.array([np.asarray(values, dtype=float) for values in columns.values()]).T)
        row = {**dict(zip(KEY, key, strict=True)), "n": len(own), "early": early}
        for name, one in zip(columns, told.to_dict("records"), strict=True):
            row |= {name: one["mean"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Format rows of `summary` of more than one worker for a page.

    Returns
    -------
    DataFrame
        strategy, goes by, speed-up, idle, found, and gain at the early time, with its interval.
    """
    some = table[table["n_workers"] > 1]
    return pd.DataFrame({
        "strategy": some["strategy"], "goes by": some["score"],
        "speed-up": [f"{x:.2f}" for x in some["speed_up"]], "idle": [f"{x:.0%}" for x in some["idle"]],
        "found": some["found"], "gain early": printed.with_interval(some, "gained_early", spec="z.4f"),
    })  # fmt: skip
