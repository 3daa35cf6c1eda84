"""Zero-cost metrics of a network: size, operations, memory, latency, ReLU units.

The architecture-tuning study (Ouertatani et al., OLA 2024) pretrains its surrogate on such metrics.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar
from weakref import WeakSet

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from tqdm import tqdm

from naaplib.estimators.proxies import activations, products
from naaplib.parallel import bar_disabled, one_thread

Encoding = TypeVar("Encoding")

METRICS = ("n_params", "macs", "memory", "latency", "relu_units")
SEED = 0  # for random numbers of the measured network, such as dropout


def measure(network: nn.Module, sample: Tensor, *, n_repeats: int = 5) -> dict[str, float]:
    """Measure the zero-cost metrics of a network.

    Parameters
    ----------
    network : Module
        Network to measure. A copy runs; the network and torch's generators do not change.
    sample : Tensor, shape (n, ...)
        Inputs, in the network's precision and on its device. There must be two or more if a BatchNorm sees one pixel,
        because torch cannot train on one value per channel.
    n_repeats : int
        Number of timed forward passes.

    Returns
    -------
    dict from `METRICS` to float
        - n_params: trained parameters; shared ones count once.
        - macs: multiply-accumulates for one input, as `naaplib.estimators.proxies.products.count` counts; 0 if there
          are none.
        - memory: bytes that a forward pass of the whole sample in training mode stores for the backward pass. A storage
            counts once, the sample if it is stored, and the network's parameters and buffers never.
        - latency: median seconds of a forward pass of the whole sample in evaluation mode, without gradient, after one
          that is not timed. It depends on the machine, its load, and torch's number of threads.
        - relu_units: for one input, as `naaplib.estimators.proxies.activations.count` counts; 0 if there are none.

    Raises
    ------
    ValueError
        If the sample is empty, `n_repeats` is less than 1, or a lazy module has no weights yet.

    Examples
    --------
    >>> metrics = measure(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(2, 3, 8, 8), n_repeats=1)
    >>> metrics["n_params"], metrics["macs"], metrics["relu_units"]
    (112.0, 3888.0, 144.0)
    """
    _check(sample, n_repeats)
    with torch.inference_mode(False), _own_draws(sample.device):  # inference mode stores no graph
        network = products.copied(network)
        n_params = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        memory = _memory(network.train(), sample)
        macs, _ = products.count(network.eval(), sample[:1].clone())
        latency = _latency(network, sample, n_repeats)
        relu_units = activations.count(network, sample.clone())
    return dict(zip(METRICS, map(float, (n_params, macs, memory, latency, relu_units)), strict=True))


def profile(
    encodings: Iterable[Encoding],
    build: Callable[[Encoding], nn.Module],
    *,
    sample: Tensor,
    n_jobs: int = 1,
    n_repeats: int = 5,
) -> pd.DataFrame:
    """Measure the zero-cost metrics of many networks, each in one thread.

    Parameters
    ----------
    encodings : iterable, length n_archs
    build : callable of an encoding
        Function that builds the network, which is then moved to the sample's device.
    sample, n_repeats
        As in `measure`.
    n_jobs : int
        Number of processes. It affects only the latency, because the processes share the machine.

    Returns
    -------
    DataFrame, shape (n_archs, 6), one row an encoding in the given order
        `METRICS`, and failure: the error if a network could not be built or run, with metrics of NaN; else "".

    Raises
    ------
    ValueError
        If there are no encodings, or all networks fail, or as in `measure`.
    """
    _check(sample, n_repeats)

    def row(encoding: Encoding) -> dict[str, float | str]:
        with one_thread():
            try:
                with _own_draws(sample.device):
                    network = build(encoding).to(sample.device)
                return {**measure(network, sample, n_repeats=n_repeats), "failure": ""}
            except Exception as error:  # networks of a large space can fail in any way
                return {**dict.fromkeys(METRICS, math.nan), "failure": f"{type(error).__name__}: {error}"}

    encodings = list(encodings)
    if not encodings:
        raise ValueError("there are no encodings")
    tasks = (delayed(row)(encoding) for encoding in encodings)
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    rows = pd.DataFrame(tqdm(parallel(tasks), "profile", len(encodings), unit="network", disable=bar_disabled()))
    if (rows["failure"] != "").all():
        raise ValueError(f"all {len(rows)} networks failed; the first with {rows['failure'][0]}")
    return rows


def _check(sample: Tensor, n_repeats: int) -> None:
    if sample.ndim < 2 or len(sample) < 1:
        raise ValueError(f"the sample has shape {tuple(sample.shape)}; it must be (n, ...), of at least one input")
    if n_repeats < 1:
        raise ValueError(f"n_repeats is {n_repeats}; at least one pass must be timed")


@contextmanager
def _own_draws(device: torch.device) -> Iterator[None]:
    """Seed torch's generator inside the context; restore all generators afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(SEED)  # not torch.manual_seed: it would reseed GPUs as well
        yield


class _Kept:
    """A tensor that lives as long as the graph of gradients stores it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _memory(network: nn.Module, sample: Tensor) -> int:
    kept: WeakSet[_Kept] = WeakSet()  # excludes tensors of branches without a gradient

    def keep(tensor: Tensor) -> _Kept:
        kept.add(one := _Kept(tensor.detach()))  # detached, or a node that saves its output would never be freed
        return one

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda one: one.tensor):
        output = network(sample.clone())
    storages = {one.tensor.untyped_storage().data_ptr(): one.tensor.untyped_storage().nbytes() for one in kept}
    del output  # not before: the graph lives as long as the output
    for own in [*network.parameters(), *network.buffers()]:
        storages.pop(own.untyped_storage().data_ptr(), None)
    return sum(storages.values())


@torch.no_grad()
def _latency(network: nn.Module, sample: Tensor, n_repeats: int) -> float:
    seconds = []
    for _ in range(1 + n_repeats):
        x = sample.clone()  # a network may work in place
        _wait(sample.device)
        start = time.perf_counter()
        network(x)
        _wait(sample.device)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
