"""Noise of a training, and the scores of a perfect predictor: the noise floor.

Chapter 03 writes the floor into the file `PATH`, which other chapters read by `read`. It has one row for each kind of
noise and number of epochs:

- noise: "seed" (trainings with other seeds: the whole noise) or "rounding" (re-runs of one seed whose initial weights
  differ by less than a part in a million: the part of floating-point arithmetic)
- n_epochs: 3, 9 or 90; targets are the highest test accuracies of so many epochs
- n_runs, n_archs_sd: number of trainings and of networks that the noise is measured on
- n_archs, n_pairs: number of networks that a predictor is scored on, and of their pairs
- sd_training, with sd_training_low and sd_training_high: standard deviation of one training around its network's
  mean, as a fraction of the test images; 95 % bootstrap interval over networks
- n_simulations
- mae, kendall_tau, violations: means over simulated trainings of a predictor that knows every network's mean, and with
  _low and _high the bounds of 95 % of the simulations
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.sources import ROOT

PATH = ROOT / "results" / "03-accuracy-table" / "floor.csv"
N_RESAMPLES = 1000


def read(n_epochs: int | None = None, noise: str = "seed", *, path: Path = PATH) -> pd.Series:
    """Read the noise floor of trainings of a number of epochs.

    Parameters
    ----------
    n_epochs : int, optional
        By default the longest trainings whose noise is known; the result says how long they are.
    noise : {"seed", "rounding"}
    path : Path
        Table as the module's docstring describes it; a notebook should name it among the files that it reads.

    Returns
    -------
    Series
        A row of the table.

    Raises
    ------
    ValueError
        If the table has no such row; the message names those that it has.
    """
    table = pd.read_csv(path)
    rows = table[table["noise"] == noise].sort_values("n_epochs")
    if n_epochs is not None:
        rows = rows[rows["n_epochs"] == n_epochs]
    if rows.empty:
        there = ", ".join(f"{row.noise} at {row.n_epochs}" for row in table.itertuples())
        raise ValueError(f"{path} has no floor for {noise!r} at {n_epochs} epochs; it has: {there}")
    return rows.iloc[-1]


def noise_sd(wide: ArrayLike) -> float:
    """Return the standard deviation of one training around its network's mean.

    The mean of each run is removed first: a predictor learns it from the training rows, so that it is no noise. There
    are (n_archs - 1)(n_runs - 1) degrees of freedom.

    Parameters
    ----------
    wide : array_like, shape (n_archs, n_runs)
        Accuracies; at least two of each.

    Examples
    --------
    >>> round(noise_sd([[0.50, 0.52], [0.60, 0.60], [0.70, 0.68]]), 4)
    0.0141
    """
    return float(_noise_sds(np.asarray(wide, dtype=float)[None])[0])


def sd_interval(
    wide: ArrayLike, *, n_resamples: int = N_RESAMPLES, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `noise_sd` over networks.

    Networks drawn twice lower the standard deviation of a sample by a factor of about 1 - 1 / (2 n_archs).
    """
    values = np.asarray(wide, dtype=float)
    draws = np.random.default_rng(seed).integers(len(values), size=(n_resamples, len(values)))
    low, high = np.quantile(_noise_sds(values[draws]), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _noise_sds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`noise_sd` of several samples, shape (n_samples, n_archs, n_runs)."""
    rest = values - values.mean(axis=2, keepdims=True)
    rest = rest - rest.mean(axis=1, keepdims=True)
    return np.sqrt((rest**2).sum(axis=(1, 2)) / math.prod(n - 1 for n in values.shape[1:]))


def perfect_predictor(
    expected: ArrayLike, sd: float, *, n_simulations: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, float]:
    """Simulate the scores of a predictor that knows the expected accuracies.

    A simulated training adds independent normal noise with standard deviation `sd` to each.

    Parameters
    ----------
    expected : array_like, shape (n_archs,)
    sd : float
    n_simulations : int
    level : float
        Share of the simulations within the bounds.
    seed : int

    Returns
    -------
    dict
        n_archs, n_pairs, sd_training, n_simulations; mae, kendall_tau (tau-b), violations (ties one half): means, and
        with _low and _high the bounds.

    Examples
    --------
    >>> found = perfect_predictor([0.60, 0.62, 0.70], sd=0.01)
    >>> round(found["violations"], 1), round(found["kendall_tau"], 1)
    (0.1, 1.0)
    """
    scores = simulate(expected, sd, n_simulations=n_simulations, seed=seed)
    n = len(np.asarray(expected))
    found = {"n_archs": n, "n_pairs": math.comb(n, 2), "sd_training": sd, "n_simulations": n_simulations}
    for name, values in scores.items():
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
        found |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
    return found


def simulate(expected: ArrayLike, sd: float, *, n_simulations: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Simulate trainings, as `perfect_predictor` does; return the scores of each.

    Returns
    -------
    DataFrame, shape (n_simulations, 3)
        mae, kendall_tau (tau-b), violations (ties one half).
    """
    expected = np.asarray(expected, dtype=float)
    trained = expected + np.random.default_rng(seed).normal(0, sd, size=(n_simulations, expected.size))
    measures = {"mae": metrics.mae, "kendall_tau": metrics.kendall_tau, "violations": metrics.violations}
    return pd.DataFrame({name: [measure(row, expected) for row in trained] for name, measure in measures.items()})
