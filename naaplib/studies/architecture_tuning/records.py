"""Slow work of this chapter: measurements, searches and trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from naaplib.cache import Piece, scratch
from naaplib.estimators import cheap_metrics
from naaplib.search.search_space import Encoding
from naaplib.search.tuning import Settings
from naaplib.sources import ROOT
from naaplib.studies.architecture_tuning import tasks, trainings
from naaplib.studies.architecture_tuning.searches import (
    DESCRIBED,
    EARLIER,
    TUNING,
    VARIANTS,
    Variant,
    calibration,
    run,
)
from naaplib.tables import naap440
from naaplib.training import cifar10
from naaplib.training.devices import resolve

SEARCH, EXAMPLE = "search that trains", "example"
SCRIPT = "book/examples/tune_folder.py"
N_DIGITS = trainings.N_DIGITS


def pieces(
    *,
    source: str,
    files: Mapping[str, str],
    claims: Mapping[str, int | None],
    n_variants: Mapping[str, int],
    others: Sequence[str],
    n_seeds: int,
    last: int,
    n_train: int,
    cheap: Sequence[str],
    n_measured: Mapping[str, int],
    shapes: Mapping[str, int],
    trained: Mapping[str, Any],
    example: Mapping[str, int],
    tool: Mapping[str, Any],
    n_tuned: Mapping[str, int],
    calibrated: Mapping[str, int],
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    default = Variant(**dict(tool) | {"settings": Settings(**tool["settings"])})
    measured = {}
    for name, n in n_measured.items():
        shape = [2, 3, shapes[name], shapes[name]]
        make = partial(_measure, name, source, files=files, n=n, shape=shape, n_jobs=n_jobs)
        facts = {"space": name, "n_networks": n, "shape": shape, "seed": 0}
        measured[name] = Piece(f"metrics/{name}", facts, make, partial(_space_files, name, source, files))
    searched = []
    for name in [tasks.NAAP440, *claims]:
        some = list(VARIANTS)[: n_variants[name]]
        variants = {
            TUNING if one == EARLIER else one: VARIANTS[one] for one in some
        }  # the default, when they were made
        space = name if name == tasks.NAAP440 else tasks.NASBENCH201
        facts = {
            "benchmark": tasks.full_name(name), "others": list(others), "n_seeds": n_seeds, "last": last,
            "n_train": n_train, "metrics": list(cheap),
            "variants": {one: asdict(variant) for one, variant in variants.items()},
        }  # fmt: skip
        tune = partial(
            _tune, name, source, files=files, last=last, n_train=n_train, cheap=list(cheap), n_jobs=n_jobs,
        )  # fmt: skip
        make = partial(tune, variants=variants, others=list(others), n_seeds=n_seeds)
        reads = partial(_space_files, space, source, files)
        searched.append(Piece(searches_name(name), facts, make, reads, needs=[measured[space]]))
        common = {"benchmark": tasks.full_name(name), "metrics": list(cheap), "variant": asdict(default)}
        facts = common | {"n_seeds": n_tuned[name], "last": last}
        own = partial(tune, others=[], n_seeds=n_tuned[name])
        make = partial(own, variants={TUNING: default})
        searched.append(Piece(default_name(name), facts, make, reads, needs=[measured[space]]))
        facts = facts | {"encoding": "operations and graph features"}
        make = partial(own, variants={DESCRIBED: default}, is_described=True)
        searched.append(Piece(described_name(name), facts, make, reads, needs=[measured[space]]))
        make = partial(
            _intervals, name, source, files=files, variant=default, calibrated=dict(calibrated), cheap=list(cheap)
        )
        searched.append(Piece(intervals_name(name), common | dict(calibrated), make, reads, needs=[measured[space]]))
    images = files["CIFAR-10"]
    facts = {**trained, "metrics": list(cheap), "device": resolve(device).type}
    mobile = measured["MobileOne"]
    reads = partial(cifar10.files, images)
    make = partial(_search, images, trained, cheap=list(cheap), device=device)
    trains = Piece(SEARCH, facts, make, reads, needs=[mobile])
    script = ROOT / SCRIPT
    user = Piece(EXAMPLE, dict(example), partial(_example, images, example), lambda: [script, *reads()])
    return [*measured.values(), *searched, trains, user]


def searches_name(name: str) -> str:
    """Return the name of the record of a benchmark's searches."""
    return f"searches/{tasks.full_name(name)}"


def default_name(name: str) -> str:
    """Return the name of a benchmark's record with the tool's settings."""
    return f"default settings/{tasks.full_name(name)}"


def described_name(name: str) -> str:
    """Return the name of a benchmark's record with graph features in encodings."""
    return f"graph features/{tasks.full_name(name)}"


def intervals_name(name: str) -> str:
    """Return the name of the record of a benchmark's intervals."""
    return f"intervals/{tasks.full_name(name)}"


def runs(read: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return all recorded searches of a benchmark, the tool's settings first."""
    earlier = read[searches_name(name)].replace({"search": {TUNING: EARLIER}})
    return pd.concat([read[default_name(name)], read[described_name(name)], earlier], ignore_index=True)


def by_position(table: pd.DataFrame, cheap: Sequence[str]) -> pd.DataFrame:
    """Return recorded metrics as a search takes them: some columns, by position."""
    return table.set_index("position")[[*cheap, "failure"]]


def _space_files(name: str, source: str, files: Mapping[str, str]) -> list[Path]:
    if name == tasks.NAAP440:
        return [naap440.find(source)]
    return tasks.cell_files(files) if name == tasks.NASBENCH201 else []


def _measure(
    name: str, source: str, files: Mapping[str, str], n: int, shape: Sequence[int], n_jobs: int
) -> pd.DataFrame:
    encodings, build = tasks.spaces(source, files)[name]
    return measure(encodings, build, n_networks=n, shape=shape, n_jobs=n_jobs).reset_index()


def measure(
    encodings: Sequence[Encoding],
    build: Callable[[Any], nn.Module],
    *,
    n_networks: int,
    shape: Sequence[int],
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Measure zero-cost metrics of networks drawn from a space.

    Parameters
    ----------
    encodings : sequence of tuple
    build : callable
        Maps an encoding to a network.
    n_networks : int
        Number of networks to draw; all, if there are fewer.
    shape : sequence of int
        Shape of the batch that each network takes.
    n_jobs : int
        Number of processes. Latencies suffer from more than one.

    Returns
    -------
    DataFrame
        As `.cheap_metrics.profile` returns them, indexed by position in `encodings`.
    """
    rows = np.random.default_rng(0).permutation(len(encodings))[:n_networks]
    metrics = cheap_metrics.profile([encodings[row] for row in rows], build, sample=torch.zeros(*shape), n_jobs=n_jobs)
    for column in cheap_metrics.METRICS:
        metrics[column] = [float(f"{value:.{N_DIGITS}g}") for value in metrics[column]]
    metrics.index = pd.Index(rows, name="position")
    return metrics


def _tune(
    name: str,
    source: str,
    metrics: pd.DataFrame,
    *,
    files: Mapping[str, str],
    variants: Mapping[str, Variant],
    others: Sequence[str],
    n_seeds: int,
    last: int,
    n_train: int,
    cheap: Sequence[str],
    n_jobs: int,
    is_described: bool = False,
) -> pd.DataFrame:
    benchmark = tasks.benchmark(name, source, files=files, metrics=by_position(metrics, cheap))
    if is_described:
        benchmark = benchmark.described()
    at = list(range(5, last + 1, 5))
    return run(
        benchmark, variants, others=others, n_seeds=n_seeds, at=at, n_train=n_train, folder=scratch(), n_jobs=n_jobs
    ).round(N_DIGITS)


def _intervals(
    name: str,
    source: str,
    metrics: pd.DataFrame,
    *,
    files: Mapping[str, str],
    variant: Variant,
    calibrated: Mapping[str, Any],
    cheap: Sequence[str],
) -> pd.DataFrame:
    benchmark = tasks.benchmark(name, source, files=files, metrics=by_position(metrics, cheap))
    return calibration(benchmark, variant, **calibrated).round(N_DIGITS)


def _search(
    images_file: str, settings: Mapping[str, Any], metrics: pd.DataFrame, *, cheap: Sequence[str], device: str
) -> pd.DataFrame:
    images = str(ROOT / images_file) if images_file else ""
    return trainings.search(images, settings, metrics=by_position(metrics, cheap), folder=scratch(), device=device)


def _example(images_file: str, settings: Mapping[str, int]) -> pd.DataFrame:
    return trainings.example(
        ROOT / SCRIPT, str(ROOT / images_file) if images_file else "", settings=settings, folder=scratch()
    )
