"""Search by score: take the best-scored of N random architectures.

This is Algorithm 1 of Fernandes (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

TIES = ("first", "random")
RANDOM, ORACLE = BASELINES = ("random", "best of N")

T = TypeVar("T")


def best_of_random(architectures: Iterable[T], score: Callable[[T], float]) -> tuple[T, float]:
    """Score architectures in turn and return the best, the first among equals.

    This is Algorithm 1. As printed, it begins with a best score of 0. Nothing then wins if no score is positive, and it
    returns a variable that was never set. Here it begins with minus infinity, and returns the best.

    Parameters
    ----------
    architectures : iterable
        Architectures in the order drawn. Take N from an endless generator with `itertools.islice`.
    score : callable
        Maps an architecture to a number; higher is better. NaN and minus infinity mean that it has no score: it never
        wins.

    Returns
    -------
    best : an architecture
    score : float
        Its score.

    Raises
    ------
    ValueError
        If no architecture has a score.

    Examples
    --------
    >>> best_of_random(["3x3, 8", "5x5, 8", "3x3, 16"], {"3x3, 8": 0.2, "5x5, 8": 0.7, "3x3, 16": 0.7}.get)
    ('5x5, 8', 0.7)
    """
    best: tuple[T, float] | None = None
    for architecture in architectures:
        value = score(architecture)
        if value > (best[1] if best else -math.inf):
            best = architecture, value
    if best is None:
        raise ValueError("none of the architectures drawn has a score (all NaN or minus infinity): draw others")
    return best


def choose(
    scores: ArrayLike, n_samples: int, *, n_runs: int, seed: int, ties: str = "first"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run `best_of_random` many times on known scores.

    Parameters
    ----------
    scores : array_like, shape (n_archs,)
        Scores of all architectures, in any order; NaN and minus infinity never win.
    n_samples : int
        N, the architectures that a run draws, uniformly and with replacement.
    n_runs : int
        Number of independent runs.
    seed : int
        Draws depend on seed, n_archs and n_runs alone, not on scores or ties. A larger n_samples continues the runs
        of a smaller one.
    ties : {"first", "random"}
        Tie-break: the first draw wins, as in the algorithm, or a random one. Draws are independent, so that both rules
        have the same distribution and differ in single runs alone. A rule that used the order of `scores` would not.

    Returns
    -------
    winners : ndarray, shape (n_runs,)
        Indices into `scores`.
    draws : ndarray, shape (n_runs, n_samples)
        Indices in the order drawn.

    Examples
    --------
    >>> winners, draws = choose([0.1, 0.4, 0.9, 0.3], n_samples=2, n_runs=3, seed=0)
    >>> draws.shape, all(winner in drawn for winner, drawn in zip(winners, draws))
    ((3, 2), True)
    """
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; it must be one of {TIES}")
    if n_samples < 1 or n_runs < 1:
        raise ValueError(f"n_samples is {n_samples}, n_runs {n_runs}; both must be at least 1")
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(f"scores has shape {scores.shape}; it must be (n_archs,), with at least one architecture")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    rng = np.random.default_rng(seed)
    draws = rng.integers(scores.size, size=(n_samples, n_runs)).T  # draw by draw, so that a larger N continues
    drawn = scores[draws]
    best = drawn.max(axis=1)
    if n_without := int(np.isneginf(best).sum()):
        raise ValueError(
            f"in {n_without} of {n_runs} runs none of the {n_samples} architectures drawn has a score (NaN or minus "
            f"infinity, as {np.isneginf(scores).sum()} of {scores.size} are): draw more, or leave those out"
        )
    is_best = drawn == best[:, None]
    lots = np.where(is_best, rng.random(drawn.shape), -1) if ties == "random" else is_best
    return draws[np.arange(n_runs), lots.argmax(axis=1)], draws


def search(
    pool: pd.DataFrame,
    accuracy: str,
    *,
    scores: Mapping[str, str],
    n_samples: Sequence[int],
    n_runs: int,
    seed: int,
    ties: str = "first",
) -> pd.DataFrame:
    """Search a table by several scores and two baselines, all on the same draws.

    Parameters
    ----------
    pool : DataFrame
        One row per architecture, with a unique index and the columns named below.
    accuracy : str
        Column of true accuracies, without gaps. No score sees it.
    scores : mapping from str to str
        Columns of scores, each with the column of its cost: seconds for one architecture.
    n_samples : sequence of int
        N of each search.
    n_runs, seed, ties
        As in `choose`. Run k has the same draws for every score; a larger N continues it.

    Returns
    -------
    DataFrame
        One row per run, in the order of n_samples, scores (baselines last) and runs.

        - score: a column of scores; "random" for the first draw, whatever N; "best of N" for the highest true accuracy
          drawn, which no score can exceed
        - n_samples; run, from 1
        - found: index of the architecture in `pool`; accuracy: its true accuracy
        - seconds: cost of scoring all draws, repeats included; 0 for "random", NaN for "best of N"

    Examples
    --------
    >>> pool = pd.DataFrame({"accuracy": [0.71, 0.90, 0.84], "score": [3.0, 9.0, 5.0], "seconds": [0.5, 0.5, 0.5]})
    >>> runs = search(pool, "accuracy", scores={"score": "seconds"}, n_samples=[2], n_runs=100, seed=0)
    >>> found = summary(runs).set_index("score")["accuracy_mean"]
    >>> bool(found["random"] < found["score"]), bool(found["score"] == found["best of N"])
    (True, True)
    """
    if clash := set(BASELINES) & set(scores):
        raise ValueError(f"columns {sorted(clash)} have the name of a baseline; rename them")
    if pool.index.has_duplicates:
        raise ValueError("the pool's index has duplicates; each architecture must have a label of its own")
    truth = pool[accuracy].to_numpy(float)
    if np.isnan(truth).any():
        raise ValueError(f"{np.isnan(truth).sum()} of {truth.size} values of {accuracy} are missing; drop those rows")
    frames = []
    for n in n_samples:
        best, draws = choose(truth, n, n_runs=n_runs, seed=seed, ties=ties)
        found = {}
        for name, cost in scores.items():
            try:
                winners, _ = choose(pool[name], n, n_runs=n_runs, seed=seed, ties=ties)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            found[name] = winners, pool[cost].to_numpy(float)[draws].sum(axis=1)
        found |= {RANDOM: (draws[:, 0], np.zeros(n_runs)), ORACLE: (best, np.full(n_runs, np.nan))}
        for name, (winners, seconds) in found.items():
            labels = {"score": name, "n_samples": n, "run": np.arange(n_runs) + 1, "found": pool.index[winners]}
            frames.append(pd.DataFrame(labels | {"accuracy": truth[winners], "seconds": seconds}))
    return pd.concat(frames, ignore_index=True)


def summary(runs: pd.DataFrame, columns: Sequence[str] = ("accuracy", "seconds")) -> pd.DataFrame:
    """Return mean and standard deviation over the runs of each search.

    Parameters
    ----------
    runs : DataFrame
        As `search` returns it.
    columns : sequence of str
        Columns to summarise. Join further ones by the architecture found: ``runs.join(pool["size"], on="found")``.

    Returns
    -------
    DataFrame
        One row per search, in the order of `runs`: n_samples, score, n_runs, and for each column its mean and standard
        deviation (n - 1; NaN for a single run), as accuracy_mean, accuracy_sd. Both are NaN where any run's value is.
    """
    searches = runs.groupby(["n_samples", "score"], sort=False)
    result = searches.size().to_frame("n_runs")
    for column in columns:
        result[f"{column}_mean"] = searches[column].mean(skipna=False)
        result[f"{column}_sd"] = searches[column].std(skipna=False)
    return result.reset_index()
