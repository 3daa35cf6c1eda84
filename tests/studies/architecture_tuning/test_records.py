"""Slow work of the chapter on architecture tuning: what is measured and searched."""

import inspect

import numpy as np
import pandas as pd
from torch import nn

from naaplib.compendium import run
from naaplib.studies.architecture_tuning import records


def build(encoding: tuple[int, int]) -> nn.Module:
    """A convolution and a linear layer."""
    kernel, width = encoding
    if kernel == 7:
        raise ValueError("too large")
    return nn.Sequential(nn.Conv2d(3, width, kernel), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, 2))  # fmt: skip


ENCODINGS = [(kernel, width) for kernel in (1, 3, 5, 7) for width in (2, 4, 8)]


def test_networks_are_drawn_and_measured() -> None:
    """Failures and all; equal settings draw equal networks."""
    metrics = records.measure(ENCODINGS, build, n_networks=9, shape=(2, 3, 8, 8))
    assert metrics.index.tolist() == np.random.default_rng(0).permutation(12)[:9].tolist()
    assert (metrics["failure"] != "").tolist() == [ENCODINGS[row][0] == 7 for row in metrics.index]
    again = records.measure(ENCODINGS, build, n_networks=9, shape=(2, 3, 8, 8))
    pd.testing.assert_frame_equal(again.drop(columns="latency"), metrics.drop(columns="latency"))
    table = metrics.reset_index()
    pd.testing.assert_frame_equal(records.by_position(table, ["macs"]), metrics[["macs", "failure"]])


def test_searches_need_the_metrics_of_their_space() -> None:
    """They are made from the record that was measured, not from another measurement."""
    notebook = run.read_notebook("10-architecture-tuning")
    given = run.default_parameters(notebook)
    wanted = inspect.signature(records.pieces).parameters
    pieces = {piece.name: piece for piece in records.pieces(**{name: given[name] for name in wanted})}
    needs = {name: [other.name for other in piece.needs] for name, piece in pieces.items()}
    assert needs["searches/NAAP-440"] == ["metrics/NAAP-440"]
    assert needs["searches/NAS-Bench-201, CIFAR-100"] == ["metrics/NAS-Bench-201"]
    assert needs["default settings/NAS-Bench-201, CIFAR-10"] == ["metrics/NAS-Bench-201"]
    assert needs["intervals/NAAP-440"] == ["metrics/NAAP-440"]
    assert needs["search that trains"] == ["metrics/MobileOne"]
    assert needs["example"] == []


def test_settings_of_the_tool_arrive() -> None:
    """In the records of its own searches and intervals; those of the first settings stay what they were."""
    notebook = run.read_notebook("10-architecture-tuning")
    given = run.default_parameters(notebook)
    given = {name: given[name] for name in inspect.signature(records.pieces).parameters}
    other = {"n_members": 2, "settings": {"acquisition": "expected improvement", "n_cheap": 3}}
    old = {piece.name: piece.settings for piece in records.pieces(**given)}
    new = {piece.name: piece.settings for piece in records.pieces(**given | {"tool": given["tool"] | other})}
    of_the_tool = {name for name in old if name.startswith(("default", "graph features", "intervals"))}
    assert {name for name in new if new[name] != old[name]} == of_the_tool
    variant = new["default settings/NAAP-440"]["variant"]
    assert (variant["n_members"], variant["settings"]["acquisition"], variant["settings"]["n_cheap"]) == (
        2,
        "expected improvement",
        3,
    )


def test_searches_of_both_settings_have_their_names() -> None:
    """The record calls the first settings "tuning" as well."""
    table = pd.DataFrame({"search": ["tuning", "random search"], "seed": 0})
    described = pd.DataFrame({"search": ["tuning, with graph features"], "seed": 0})
    read = {"default settings/NAAP-440": table.iloc[:1], "graph features/NAAP-440": described}
    found = records.runs(read | {"searches/NAAP-440": table}, "NAAP-440")
    assert found["search"].tolist() == [
        "tuning",
        "tuning, with graph features",
        "tuning, first settings",
        "random search",
    ]
