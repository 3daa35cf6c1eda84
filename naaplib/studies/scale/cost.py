"""Model of the cost of training in jobs: fit, check, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Cost:
    """Cost of training in jobs (groups of networks) on one kind of device.

    Parameters
    ----------
    sizes : tuple of int
        Measured sizes of a job in networks, ascending.
    seconds, unit_seconds : tuple of float
        Seconds per epoch and network, and to set up a job, at those sizes.
    worker_seconds : float
        Seconds to start a process.
    memory_base, memory_per_network : float
        Bytes of a process with n networks: base + n * per_network.
    """

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    unit_seconds: tuple[float, ...]
    worker_seconds: float
    memory_base: float
    memory_per_network: float


def fit(points: pd.DataFrame, seconds_of_worker: float) -> Cost:
    """Fit the cost model to measurements with one number of processes.

    Rounds are averaged; memory is a least-squares line.

    Parameters
    ----------
    points : DataFrame
        size, seconds, unit_seconds, memory, as `.measure.measure` returns them, for two or more
        sizes that fitted into memory.
    seconds_of_worker : float
    """
    means = points.dropna().groupby("size")[["seconds", "unit_seconds", "memory"]].mean()
    if len(means) < 2:
        raise ValueError(f"a cost needs two measured sizes of units or more, not {means.index.tolist()}")
    per_network, base = np.polyfit(means.index.to_numpy(), means["memory"].to_numpy(), 1)
    sizes = tuple(int(size) for size in means.index)
    return Cost(
        sizes,
        tuple(means["seconds"]),
        unit_seconds=tuple(means["unit_seconds"]),
        worker_seconds=seconds_of_worker,
        memory_base=float(base),
        memory_per_network=float(per_network),
    )


def seconds_per_network_epoch(cost: Cost, size: int) -> float:
    """Interpolate seconds linearly in the logarithm of the size of a job.

    A size outside the measured ones is an error: nothing is known there.
    """
    return _between(cost, cost.seconds, size)


def _between(cost: Cost, values: tuple[float, ...], size: int) -> float:
    if not cost.sizes[0] <= size <= cost.sizes[-1]:
        raise ValueError(f"units of {cost.sizes[0]} to {cost.sizes[-1]} networks were measured, not of {size}")
    return float(np.interp(np.log(size), np.log(cost.sizes), values))


def predict(cost: Cost, n_archs: int, *, n_epochs: int, n_devices: int, size: int) -> float:
    """Predict the seconds of a training in jobs of `size` on equal devices.

    Each device runs one job at a time. The device with most jobs determines the time: start-up of its worker and its
    jobs, and n_archs * n_epochs * `seconds_per_network_epoch` / n_devices if jobs divide evenly.
    """
    n_units = -(-n_archs // size)
    units_of_one = -(-n_units // n_devices)
    archs_of_one = min(units_of_one * size, n_archs)
    starting = cost.worker_seconds + units_of_one * _between(cost, cost.unit_seconds, size)
    return starting + archs_of_one * n_epochs * seconds_per_network_epoch(cost, size)


def n_full(cost: Cost, n_bytes: float) -> int:
    """Return the networks of one job that fill a device's memory, by the fitted line."""
    return int((n_bytes - cost.memory_base) // cost.memory_per_network)


def hold_back(points: pd.DataFrame) -> pd.DataFrame:
    """Predict every measured size from all others, except the smallest and largest.

    Parameters
    ----------
    points : DataFrame
        As for `fit`.

    Returns
    -------
    DataFrame, shape (n_sizes - 2, 6)
        size; seconds, memory: measured, rounds averaged; seconds_predicted, memory_predicted: predicted; seconds_error,
        a fraction of the measured seconds.
    """
    means = points.dropna().groupby("size")[["seconds", "memory"]].mean()
    rows = []
    for size in means.index[1:-1]:
        cost = fit(points[points["size"] != size], 0.0)
        foretold = seconds_per_network_epoch(cost, size)
        memory = cost.memory_base + size * cost.memory_per_network
        rows.append((size, *means.loc[size], foretold, memory, foretold / means.loc[size, "seconds"] - 1))
    columns = ["size", "seconds", "memory", "seconds_predicted", "memory_predicted", "seconds_error"]
    return pd.DataFrame(rows, columns=columns)


def plan(
    cost: Cost, n_archs: Sequence[int], *, n_devices: Sequence[int], n_epochs: int, n_bytes: float = float("inf")
) -> pd.DataFrame:
    """Return the fastest size of a job for each number of architectures and devices.

    The size must fit into memory.

    Parameters
    ----------
    cost : Cost
    n_archs, n_devices : sequence of int
    n_epochs : int
    n_bytes : float
        Memory of a device.

    Returns
    -------
    DataFrame, shape (len(n_archs) * len(n_devices), 5)
        n_archs, n_devices, size, n_units (jobs), seconds. Candidate sizes are the measured ones and n_archs /
        n_devices; ties go to the smallest.
    """
    rows = []
    for archs in n_archs:
        for devices in n_devices:
            even = -(-archs // devices)
            tried = sorted({*cost.sizes, even} if cost.sizes[0] <= even <= cost.sizes[-1] else cost.sizes)
            fitting = [size for size in tried if cost.memory_base + size * cost.memory_per_network <= n_bytes]
            if not fitting:
                raise ValueError(f"{n_bytes:.3g} bytes do not hold a unit of any measured size, {tried}")
            seconds = {size: predict(cost, archs, n_epochs=n_epochs, n_devices=devices, size=size) for size in fitting}
            size = min(fitting, key=seconds.__getitem__)
            rows.append((archs, devices, size, -(-archs // size), seconds[size]))
    return pd.DataFrame(rows, columns=["n_archs", "n_devices", "size", "n_units", "seconds"])


def factors(check: pd.DataFrame) -> tuple[float, float]:
    """Return the smallest and largest ratio of real to predicted seconds.

    `check` has both as seconds and seconds_predicted.
    """
    ratios = check["seconds"] / check["seconds_predicted"]
    return float(ratios.min()), float(ratios.max())


def times_longer(check: pd.DataFrame) -> str:
    """Describe `factors` in words, as "2.0 to 2.2 times"."""
    low, high = (f"{ratio:.1f}" for ratio in factors(check))
    return f"{low} times" if low == high else f"{low} to {high} times"


def sentence(alone: pd.Series, plans: pd.DataFrame, *, check: pd.DataFrame, n_epochs: int, where: str) -> str:
    """Return the chapter's answer.

    Times are called lower bounds if every real run took longer than predicted.

    Parameters
    ----------
    alone : Series
        Seconds per network and epoch in one process, by size of a job.
    plans : DataFrame
        As `plan` returns it.
    check : DataFrame
        Real runs: n_archs, seconds, seconds_predicted.
    n_epochs : int
        Epochs of the plans.
    where : str
        Name of the device.
    """
    times = plans.set_index(["n_archs", "n_devices"])["seconds"].map(in_words)
    few, many = plans["n_devices"].min(), plans["n_devices"].max()
    is_bound = factors(check)[0] > 1
    least = "at least " if is_bound else ""
    told = [
        f"**{n:,} networks** of {n_epochs} epochs take {least}{times[n, few]} on {few} such device and "
        f"{times[n, many]} on {many}"
        for n in sorted(plans["n_archs"].unique())[-2:]
    ]
    bound = ", so that these times are lower bounds for this trainer" if is_bound else ""
    return (
        f"By the model, with torch's trainer and devices like {where}, {', and '.join(told)}. Real runs of "
        f"{check['n_archs'].max():,} networks took {times_longer(check)} as long as the model predicts{bound}. An "
        f"epoch takes {alone.min():.2g} s a network in units of {alone.idxmin()}, {alone.iloc[0]:.2g} s in units of "
        f"{alone.index[0]}."
    )


def in_words(seconds: float) -> str:
    """Write a time in the largest unit of which there are two.

    >>> [in_words(value) for value in (42, 240, 5.5 * 3600, 8.64e6, 1e9)]
    ['42 s', '4.0 min', '5.5 hours', '100 days', '32 years']
    """
    units = (("min", 60), ("hours", 3600), ("days", 86_400), ("years", 31_557_600))
    name, length = [("s", 1), *(unit for unit in units if seconds >= 2 * unit[1])][-1]
    return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {name}"
