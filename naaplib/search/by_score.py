"""Search by score: of N architectures drawn at random, the one with the highest score (Fernandes 2022, Algorithm 1)."""

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
    """Algorithm 1: score each architecture in turn and keep the best; a later one replaces it only if strictly better.

    As printed, the algorithm begins with a best score of 0, so that nothing wins if all scores are negative or 0, and
    returns a variable that was never set. Here it begins with minus infinity, and returns the best.

    Parameters
    ----------
    architectures : iterable
        Those drawn, in the order drawn; from an endless generator take N with `itertools.islice`.
    score : callable
        From an architecture to a number, higher is better. NaN and minus infinity mean that there is no score: such an
        architecture never wins.

    Returns
    -------
    best : an architecture
    score : float
        Its score. Where no architecture has one, an error says so.
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
    scores: ArrayLike, n_samples: int, n_runs: int, seed: int, ties: str = "first"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run `best_of_random` many times on scores that are known.

    Parameters
    ----------
    scores : array_like, shape (n_archs,)
        Of all architectures of a space, in any order; NaN and minus infinity never win.
    n_samples : int
        N: how many architectures a run draws, uniformly and with replacement.
    n_runs : int
        Independent runs.
    seed : int
        Draws depend on seed, n_archs and n_runs only: not on scores or ties. A larger n_samples continues the runs of
        a smaller one.
    ties : {"first", "random"}
        Which of equal scores wins: the first drawn, as in the algorithm, or any of the draws with equal chance. As
        draws are independent, the first of the equals is any of them with equal chance too: the rules differ in single
        runs, not in distribution. That is not so for rules that look at the order of `scores`.

    Returns
    -------
    winners : ndarray, shape (n_runs,)
        Positions in `scores`, from 0.
    draws : ndarray, shape (n_runs, n_samples)
        Positions drawn, in the order drawn.
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
    draws = rng.integers(scores.size, size=(n_samples, n_runs)).T  # drawn for all runs in turn, so that more continue
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
    scores: Mapping[str, str],
    n_samples: Sequence[int],
    n_runs: int,
    seed: int,
    ties: str = "first",
) -> pd.DataFrame:
    """Search a table of architectures by several scores, and by two baselines, all on the same draws.

    Parameters
    ----------
    pool : DataFrame
        One row an architecture, with a unique index and the columns named below.
    accuracy : str
        Column of true accuracies, without gaps. No score sees it.
    scores : mapping from str to str
        Columns of scores, each with the column of the seconds that it takes for one architecture.
    n_samples : sequence of int
        N of each search.
    n_runs, seed, ties
        As in `choose`. Run k of every score is on the same draws; with a larger N it continues.

    Returns
    -------
    DataFrame
        - score: a column of scores; "random" for the first drawn, whatever N; "best of N" for the highest true accuracy
          drawn, which no score can exceed
        - n_samples; run, from 1
        - found: index of the architecture in `pool`; accuracy: its true one
        - seconds: of scoring all drawn, one drawn twice counted twice; 0 for "random", NaN for "best of N"

        In the order of n_samples, of scores (baselines last), and of runs.
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
        best, draws = choose(truth, n, n_runs, seed, ties)
        found = {}
        for name, cost in scores.items():
            try:
                winners, _ = choose(pool[name], n, n_runs, seed, ties)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            found[name] = winners, pool[cost].to_numpy(float)[draws].sum(axis=1)
        found |= {RANDOM: (draws[:, 0], np.zeros(n_runs)), ORACLE: (best, np.full(n_runs, np.nan))}
        for name, (winners, seconds) in found.items():
            labels = {"score": name, "n_samples": n, "run": np.arange(n_runs) + 1, "found": pool.index[winners]}
            frames.append(pd.DataFrame(labels | {"accuracy": truth[winners], "seconds": seconds}))
    return pd.concat(frames, ignore_index=True)


def summary(runs: pd.DataFrame, columns: Sequence[str] = ("accuracy", "seconds")) -> pd.DataFrame:
    """Mean and standard deviation over the runs of each search.

    Parameters
    ----------
    runs : DataFrame
        As from `search`.
    columns : sequence of str
        What to summarise; further ones come in by the architecture found, as `runs.join(pool["size"], on="found")`.

    Returns
    -------
    DataFrame
        One row a search, in the order of `runs`: n_samples, score, n_runs, and of each column its mean and its sd
        (n - 1; NaN for a single run), as accuracy_mean, accuracy_sd. Both are NaN where any run's value is.
    """
    searches = runs.groupby(["n_samples", "score"], sort=False)
    result = searches.size().to_frame("n_runs")
    for column in columns:
        result[f"{column}_mean"] = searches[column].mean(skipna=False)
        result[f"{column}_sd"] = searches[column].std(skipna=False)
    return result.reset_index()
