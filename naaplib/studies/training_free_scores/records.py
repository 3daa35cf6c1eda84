"""Slow work of this chapter: scores of untrained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from naaplib import sources
from naaplib.architectures import cells, nasbench101, scheme_networks, schemes
from naaplib.architectures.cells import Cell
from naaplib.cache import Piece, scratch
from naaplib.estimators.proxies import runs
from naaplib.estimators.proxies.runs import Plan
from naaplib.studies.training_free_scores import tables, tasks
from naaplib.tables import derived, graph_benchmarks, naap440, nasbench201
from naaplib.training import cifar10, devices

Networks = dict[str | int, Callable[[], nn.Module]]

SCHEMES, CELLS, NARROW, SIZED = "NAAP-440", "cells", "single-channel cells", "size space"
CELLS_101 = "NAS-Bench-101"
PERTURBED = {SCHEMES: "NAAP-440 perturbed", CELLS: "cells perturbed"}
SPECTRA, WAYS, TE_NAS = "eigenvalues", "ways to compute", "TE-NAS"
FEW = {"ntk_condition": 16}  # images for cells, whose tangent kernel takes long
SCORES_101 = ("n_params", "macs", "depth", "relu_count", "nas_wot", "synflow")  # others take long on wide networks


def pieces(
    *,
    source: str,
    benchmark: str,
    nasbench101_file: str,
    images_file: str,
    scores: Sequence[str],
    n_archs: int,
    n_repeats: int,
    n_cells: int,
    n_nasbench101: int,
    n_sized: int,
    n_images: Mapping[str, int],
    first_seed: int,
    perturbed_schemes: int,
    perturbed_cells: int,
    perturbed_repeats: int,
    batch_sizes: Sequence[int],
    n_spectra: int,
    n_timed: int,
    te_nas: Mapping[str, int],
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    device = str(devices.resolve(device))
    schemes_read = partial(_files, source, images_file)
    cells_read = partial(_files, benchmark, images_file, is_cells=True)
    ids = naap440.read(naap440.find(source))["ModelId"].tolist()[: n_archs or None]
    pool = cell_pool(benchmark)
    chosen, sized = draw(len(pool), n_cells, n_sized=n_sized, seed=first_seed)
    names = list(scores) or list(runs.SCORES)
    repeats = runs.repeated("default", n_repeats, first_seed=first_seed)
    disturbed = conditions(batch_sizes, perturbed_repeats, seed=first_seed)
    listed = schemes.enumerate_schemes()
    every_scheme: Networks = {i: partial(scheme_networks.build, listed[i - 1]) for i in ids}
    every_cell: Networks = {i: partial(cells.build, pool[i]) for i in chosen}
    narrow: Networks = {i: partial(cells.build, pool[i], n_channels=1, n_cells=1) for i in chosen}
    by_width: Networks = {":".join(map(str, widths)): partial(cells.build_sized, widths) for widths in sized}
    cells_101 = draw_101(nasbench101_table(nasbench101_file), n_nasbench101, seed=first_seed)
    every_101: Networks = {text: partial(nasbench101.build, text) for text in cells_101}
    some: Networks = {i: every_scheme[i] for i in ids[:: -(-len(ids) // perturbed_schemes)]}
    some_cells: Networks = {i: every_cell[i] for i in chosen[:: -(-len(chosen) // perturbed_cells)]}
    few = FEW | dict(n_images)
    plans = {
        SCHEMES: (Plan(every_scheme, names, repeats, n_images), schemes_read),
        CELLS: (Plan(every_cell, names, repeats[:1], few), cells_read),
        NARROW: (Plan(narrow, ["linear_regions"], repeats[:1], n_images), cells_read),
        CELLS_101: (
            Plan(every_101, [name for name in names if name in SCORES_101] or ["n_params"], repeats[:1], n_images),
            partial(_files_101, nasbench101_file, images_file),
        ),
        SIZED: (Plan(by_width, names, repeats[:1], few), partial(cifar10.files, images_file)),
        PERTURBED[SCHEMES]: (Plan(some, tables.drawn(names), disturbed, n_images), schemes_read),
        PERTURBED[CELLS]: (Plan(some_cells, ["nas_wot", "synflow"], disturbed, n_images), cells_read),
    }
    scored = [
        Piece(name, runs.describe(plan, device), partial(_score, plan, images_file, n_jobs=n_jobs, device=device), read)
        for name, (plan, read) in plans.items()
    ]
    size = {name: n_images.get(name, runs.SCORES[name][1]) for name in ("nas_wot", "epe_nas", "linear_regions")}
    of_kernels = {space: _spread(own, n_spectra) for space, own in ((SCHEMES, every_scheme), (CELLS, every_cell))}
    kernels = {"spaces": {space: list(own) for space, own in of_kernels.items()}, "n_images": size["nas_wot"]}
    timed = _spread(every_cell, n_timed)
    searches = {name: te_nas[name] for name in ("n_images", "n_cells", "n_repeats")}
    searches |= {"n_region_images": size["linear_regions"]}
    image_files = partial(cifar10.files, images_file)
    return [
        *scored,
        Piece(
            SPECTRA, kernels | {"seed": first_seed},
            lambda: tasks.spectra(of_kernels, _images(images_file), n_images=size["nas_wot"], seed=first_seed),
            schemes_read, code=tasks.__name__,
        ),
        Piece(
            WAYS, {"architectures": list(timed), "n_images": size, "seed": first_seed},
            lambda: tasks.ways(timed, _images(images_file), n_images=size, seed=first_seed),
            cells_read, code=tasks.__name__,
        ),
        *(
            Piece(
                f"{TE_NAS}/seed {seed}", searches | {"seed": seed},
                partial(_te_nas, images_file, searches, seed), image_files, code=tasks.__name__,
            )
            for seed in range(first_seed, first_seed + te_nas["n_seeds"])
        ),
    ]  # fmt: skip


def cell_files(benchmark: str) -> list[Path]:
    """Return the files of NAS-Bench-201, or the one that a notebook's parameter names."""
    return [sources.ROOT / benchmark] if benchmark else [sources.find(name) for name in nasbench201.NASBENCH201]


def cell_table(benchmark: str) -> pd.DataFrame:
    """Read what cells reached, as `.nasbench201.nasbench201` returns it."""
    return pd.read_csv(sources.ROOT / benchmark) if benchmark else nasbench201.nasbench201()


def cell_pool(benchmark: str) -> list[Cell]:
    """Return all cells of the benchmark; a cell's number is its position."""
    table = cell_table(benchmark)
    reached = table[(table["epochs"] == 200) & (table["runs"] == "mean")]
    return [cells.from_string(text) for text in reached["architecture"].unique()]


def nasbench101_path(name: str) -> Path:
    """Return the file of NAS-Bench-101, or the one that a notebook's parameter names."""
    return sources.ROOT / name if name else derived.find(graph_benchmarks.NASBENCH101)


def nasbench101_table(name: str) -> pd.DataFrame:
    """Read the cells that were drawn from all of NAS-Bench-101.

    Columns are those of `.graph_benchmarks.nasbench101`.
    """
    return graph_benchmarks.nasbench101(nasbench101_path(name)).query("uniform").reset_index(drop=True)


def draw_101(table: pd.DataFrame, n_cells: int, *, seed: int) -> list[str]:
    """Draw cells of `nasbench101_table`, or take all of them."""
    return table["architecture"].sample(min(n_cells, len(table)), random_state=seed).sort_index().tolist()


def draw(n_pool: int, n_cells: int, *, n_sized: int, seed: int) -> tuple[list[int], list[tuple[int, ...]]]:
    """Draw cells by number, and networks of the size space by widths."""
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(n_pool, min(n_cells, n_pool), replace=False).tolist())
    widths = cells.enumerate_widths()
    return chosen, [widths[i] for i in sorted(rng.choice(len(widths), n_sized, replace=False))]


def conditions(batch_sizes: Sequence[int], n_repeats: int, *, seed: int) -> list[runs.Setting]:
    """Return the settings under which scores are drawn again."""
    fixed: dict[str, dict[str, Any]] = {
        "initial weights": {"images_seed": seed}, "images": {"weights_seed": seed},
        **{f"{n} images": {"n_images": n} for n in batch_sizes}, "noise images": {"source": "noise"},
        "eval mode": {"mode": "eval"}, "torch weights": {"initialisation": "torch"},
    }  # fmt: skip
    return [
        setting for name, own in fixed.items() for setting in runs.repeated(name, n_repeats, first_seed=seed, **own)
    ]


def _files(name: str, images_file: str, is_cells: bool = False) -> list[Path]:
    return [*(cell_files(name) if is_cells else [naap440.find(name)]), *cifar10.files(images_file)]


def _files_101(name: str, images_file: str) -> list[Path]:
    return [nasbench101_path(name), *cifar10.files(images_file)]


def _images(images_file: str) -> cifar10.Images:
    return cifar10.load_npz(sources.ROOT / images_file) if images_file else cifar10.load()


def _spread(networks: Networks, n: int) -> dict[str, Callable[[], nn.Module]]:
    """Take n networks, or all, evenly spread over the list."""
    names = list(networks)
    return {str(name): networks[name] for name in names[:: max(1, len(names) // n)][:n]}


def _te_nas(images_file: str, settings: Mapping[str, int], seed: int) -> pd.DataFrame:
    return tasks.te_nas(_images(images_file), **settings, seed=seed)


def _score(plan: Plan, images_file: str, n_jobs: int, device: str) -> pd.DataFrame:
    found = runs.score_networks(plan, _images(images_file), folder=scratch(), n_jobs=n_jobs, device=device)
    return found.assign(architecture=found["architecture"].astype(str))  # names, for other readers of the CSV
