"""Tasks of zero-cost proxies: kernels, ways of counting, TE-NAS's search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from naaplib.architectures import cell_supernets, cells
from naaplib.architectures.cell_supernets import Edges
from naaplib.estimators.proxies import activations, runs, scores
from naaplib.estimators.proxies.gradients import undisturbed
from naaplib.parallel import one_thread
from naaplib.search import pruning
from naaplib.training.cifar10 import Images

Networks = Mapping[str, Callable[[], nn.Module]]


def spectra(networks: Mapping[str, Networks], images: Images, *, n_images: int, seed: int) -> pd.DataFrame:
    """Compute the eigenvalues of NAS-WOT's kernel.

    Parameters
    ----------
    networks : mapping from space to mapping from architecture to callable
    images : Images
    n_images : int
        Size of the batch, and number of eigenvalues.
    seed : int
        Seed of initial weights and images, the same for all networks.

    Returns
    -------
    DataFrame
        One row per eigenvalue: space, architecture, n_units (the kernel's diagonal), rank (from 1, the largest first),
        eigenvalue.
    """
    setting = runs.Setting(weights_seed=seed, images_seed=seed)
    batch, _ = runs.draw(images, setting, n_images=n_images)
    frames = []
    with one_thread():
        for space, own in networks.items():
            for name, make in own.items():
                kernel, _ = undisturbed(activations.agreements, runs.build(make, setting), images=batch, mode="train")
                values = torch.linalg.eigvalsh(kernel).flip(0).numpy()
                labels = {"space": space, "architecture": name, "n_units": int(kernel[0, 0])}
                frames.append(pd.DataFrame(labels | {"rank": np.arange(n_images) + 1, "eigenvalue": values}))
    table = pd.concat(frames, ignore_index=True)
    return table.assign(eigenvalue=[float(f"{value:.10g}") for value in table["eigenvalue"]])


def ways(networks: Networks, images: Images, *, n_images: Mapping[str, int], seed: int) -> pd.DataFrame:
    """Time several ways of computing what the dissertation compares.

    Parameters
    ----------
    networks : mapping from architecture to callable
    images : Images
    n_images : mapping from {"nas_wot", "epe_nas"} to int
    seed : int

    Returns
    -------
    DataFrame
        One row per network and way: architecture, way, seconds (the least of two, one thread).
    """
    setting = runs.Setting(weights_seed=seed, images_seed=seed)
    own, others = n_images["nas_wot"], n_images["epe_nas"]
    batch, labels = runs.draw(images, setting, n_images=max(own, others))
    rows = []
    with one_thread():
        for name, make in networks.items():
            network = runs.build(make, setting)
            calls: dict[str, Callable[[], object]] = {
                "ReLU count, one image": partial(scores.relu_count, network, batch[:own]),
                "ReLU count, the whole batch passes": partial(_pass, network, batch[:own]),
                "NAS-WOT, one pass, as here": partial(scores.nas_wot, network, batch[:own]),
                "NAS-WOT, three passes, as its code": partial(scores.nas_wot, network, batch[:own], reached_only=True),
                "EPE-NAS, NAS-WOT's batch": partial(scores.epe_nas, network, batch[:own], labels=labels[:own]),
                "EPE-NAS, its own batch": partial(scores.epe_nas, network, batch[:others], labels=labels[:others]),
            }
            rows += [[name, way, min(_seconds(call) for _ in range(2))] for way, call in calls.items()]
    return pd.DataFrame(rows, columns=["architecture", "way", "seconds"]).round({"seconds": 6})


def te_nas(
    images: Images, *, n_images: int, n_region_images: int, n_cells: int, n_repeats: int, seed: int
) -> pd.DataFrame:
    """Search the cells of NAS-Bench-201 by pruning, as TE-NAS does.

    Parameters
    ----------
    images : Images
    n_images : int
        Images of the tangent kernel; the reference code takes 64.
    n_region_images : int
        Images of 3 x 3 pixels, for the linear regions; the reference code takes 1,000.
    n_cells : int
        Cells of a stage in the network of the tangent kernel, of 16 channels; the reference code takes 5. Linear
        regions are those of networks with one channel and one cell a stage.
    n_repeats : int
        Draws of weights that an indicator is averaged over; the reference code takes 3.
    seed : int
        Seed of images, and of the first draw of weights; the next seeds draw the others.

    Returns
    -------
    DataFrame
        The trace of `naaplib.search.pruning.prune` with seed, architecture (the cell found, as text) and seconds (of
        the whole search).
    """
    whole = runs.Setting(images_seed=seed)
    batch, labels = runs.draw(images, whole, n_images=max(n_images, n_region_images))
    regions, _ = runs.SCORES["linear_regions"]
    settings = runs.repeated("default", n_repeats, first_seed=seed)

    def indicators(edges: Edges) -> NDArray[np.float64]:
        values = []
        for setting in settings:
            network = runs.build(partial(cell_supernets.build, edges, n_cells=n_cells), setting)
            narrow = runs.build(partial(cell_supernets.build, edges, n_channels=1, n_cells=1), setting)
            found = scores.ntk_condition(network, batch[:n_images])
            condition = math.inf if math.isnan(found.value) else math.exp(-found.value)
            values.append([condition, regions(narrow, batch[:n_region_images], labels, "train").value])
        return np.array(values)

    with one_thread():
        start = time.perf_counter()
        cell, trace = pruning.prune(cell_supernets.WHOLE, indicators)
        seconds = round(time.perf_counter() - start, 1)
    trace.insert(0, "seed", seed)
    return trace.round({"condition_change": 6, "regions_change": 6}).assign(
        architecture=cells.to_string(cell), seconds=seconds
    )


def _pass(network: nn.Module, images: Tensor) -> object:
    with torch.no_grad():
        return network(images)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
