"""Slow work of this chapter: timed steps, and whole epochs through an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import torch

from naaplib.cache import Piece
from naaplib.sources import ROOT
from naaplib.studies.scale import measure
from naaplib.training import cifar10
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work

ROUNDS, MACHINE, RUNS = "rounds", "machine", "runs"
N_DIGITS = 4


def pieces(
    *,
    images_file: str,
    device: str,
    precision: str,
    sizes: Mapping[str, Sequence[int]],
    n_processes: Mapping[str, Sequence[int]],
    n_networks: Mapping[str, int],
    n_steps: Mapping[str, int],
    n_rounds: int,
    check_archs: Mapping[str, int],
    check_epochs: Mapping[str, int],
    check_size: Mapping[str, int],
    engine: str,
    n_epochs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook.

    They are timings: make them on an idle machine.
    """
    kind = resolve(device).type
    images = str(ROOT / images_file) if images_file else ""
    given = {"images_file": images, "device": device, "precision": precision}
    works = [
        Work(measure.spread(max(1, n_networks[kind] // size) * size), n_epochs, size=size, **given)  # type: ignore[arg-type]
        for size in sizes[kind]
    ]
    common = {"kind": kind, "precision": precision, "n_processes": list(n_processes[kind])}
    timed = {"sizes": list(sizes[kind]), "n_networks": n_networks[kind], "n_steps": n_steps[kind], "n_rounds": n_rounds}
    checked = {"n_archs": check_archs[kind], "n_epochs": check_epochs[kind], "size": check_size[kind]}
    work = Work(measure.spread(checked["n_archs"]), checked["n_epochs"], size=checked["size"], **given)  # type: ignore[arg-type]
    reads = partial(cifar10.files, images_file)
    make = partial(measure.measure, works, n_processes[kind], n_rounds=n_rounds, n_steps=n_steps[kind])
    return [
        Piece(ROUNDS, common | timed, lambda: make().round(N_DIGITS), reads),
        Piece(MACHINE, {"kind": kind}, partial(_machine, works[0]), reads),
        Piece(RUNS, common | checked | {"engine": engine}, partial(_runs, work, n_processes[kind], engine), reads),
    ]


def _machine(work: Work) -> pd.DataFrame:
    """Return the device's name and memory in bytes, and the seconds until a process is ready."""
    device = resolve(work.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else measure.processor()
    row = {"device": name, "memory": measure.capacity(device), "worker_seconds": measure.worker_seconds(work)}
    return pd.DataFrame([row]).round(N_DIGITS)


def _runs(work: Work, n_processes: Sequence[int], engine: str) -> pd.DataFrame:
    """Return the seconds of whole epochs, on each number of devices."""
    rows = [(n, len(work.schemes), work.n_epochs, work.size, measure.run(work, n, engine=engine)) for n in n_processes]
    return pd.DataFrame(rows, columns=["n_devices", "n_archs", "n_epochs", "size", "seconds"]).round(1)
