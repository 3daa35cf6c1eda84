"""Eigenvalues of NAS-WOT's kernel: its laws on real networks, and the tables made of them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.architectures import cells
from naaplib.estimators.proxies import runs, scores
from naaplib.sources import ROOT
from naaplib.studies.training_free_scores import kernels, tasks
from naaplib.training import cifar10

IMAGES = ROOT / "tests" / "data" / "images-made.npz"


@pytest.fixture(scope="module")
def images() -> cifar10.Images:
    """Made images."""
    return cifar10.load_npz(IMAGES)


@pytest.fixture(scope="module")
def spectra(images) -> pd.DataFrame:
    """Kernels of a narrow cell, and of a network with fewer units than images."""
    make = partial(cells.build, cells.SIZE_CELL, n_channels=2, n_cells=1)
    few_units = partial(nn.Sequential, nn.Flatten(), nn.Linear(3072, 4), nn.ReLU())
    return tasks.spectra({"cells": {"1": make}, "few units": {"2": few_units}}, images, n_images=6, seed=1)


def test_the_trace_is_images_times_units_and_no_eigenvalue_is_negative(spectra) -> None:
    """The kernel is positive semi-definite, and its trace the ReLU count."""
    for _, part in spectra.groupby("space"):
        assert part["eigenvalue"].sum() == pytest.approx(6 * part["n_units"].iloc[0])
        assert part["eigenvalue"].min() > -1e-6 * part["eigenvalue"].max()
        assert part["eigenvalue"].is_monotonic_decreasing


def test_eigenvalues_give_the_score(spectra, images) -> None:
    """The sum of their logarithms is NAS-WOT, and size and shape add up to it."""
    setting = runs.Setting()
    network = runs.build(partial(cells.build, cells.SIZE_CELL, n_channels=2, n_cells=1), setting)
    score = scores.nas_wot(network, runs.draw(images, setting, n_images=6)[0]).value
    row = kernels.parts(spectra).set_index("space").loc["cells"]
    assert row["log_det"] == pytest.approx(score)
    assert row["size"] + row["shape"] == pytest.approx(score)
    assert row["size"] == pytest.approx(6 * np.log(row["n_units"]))
    assert row["shape"] < 0
    assert row["trace"] == pytest.approx(1)


def test_a_singular_kernel_has_no_determinant() -> None:
    """Two images alike: eigenvalues 2 and 0; the network is counted as singular and left out of the taus."""
    table = pd.DataFrame({
        "space": "s", "architecture": ["a", "a", "b", "b", "c", "c"], "n_units": [1, 1, 4, 4, 8, 8],
        "rank": [1, 2] * 3, "eigenvalue": [2.0, 0.0, 5.0, 3.0, 9.0, 7.0],
    })  # fmt: skip
    networks = kernels.parts(table)
    assert networks["log_det"].isna().tolist() == [True, False, False]
    truth = pd.Series([0.1, 0.5, 0.6], index=["a", "b", "c"])
    row = kernels.summary(networks, {"s": truth}).iloc[0]
    assert (row["n"], row["n_singular"], row["smallest"]) == (3, 1, 3.0)
    assert (row["tau_log_det"], row["log_det_size"]) == (1, 1)
    bands = kernels.bands(table)
    assert bands["middle"].tolist() == [1.25, 0.75]
    assert bands["n"].tolist() == [3, 3]


def test_networks_are_counted_by_units() -> None:
    """Sorted by units within a space."""
    table = kernels.relu_units({"one": pd.Series([3, 1, 3])})
    assert table.to_numpy().tolist() == [["one", 1, 1], ["one", 3, 2]]


def test_a_search_by_pruning_ends_with_a_cell(images) -> None:
    """54 removals in three rounds, the same cell from the same seed, with time."""
    images = replace(images, **{part: getattr(images, part)[..., :8, :8] for part in ("train_images", "test_images")})
    few = {"n_images": 3, "n_region_images": 8, "n_cells": 1, "n_repeats": 1}
    with torch.random.fork_rng():
        trace = tasks.te_nas(images, **few, seed=1)
    assert len(trace) == 54
    cell = cells.from_string(trace["architecture"].iloc[0])
    assert set(cell) <= set(cells.OPERATIONS[1:])
    gone = trace[trace["pruned"]].groupby("edge")["operation"].agg(set)
    assert [gone[edge] | {name} for edge, name in enumerate(cell)] == [set(cells.OPERATIONS[1:])] * 6


def test_every_way_is_timed(images) -> None:
    """Six ways a network, all with a time."""
    make = partial(cells.build, cells.SIZE_CELL, n_channels=2, n_cells=1)
    table = tasks.ways({"a": make}, images, n_images={"nas_wot": 4, "epe_nas": 8}, seed=1)
    assert len(table) == 6
    assert (table["seconds"] > 0).all()
