"""Slow work of the chapter on architecture tuning: what is measured, searched and trained."""

import inspect
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from naaplib.architectures import tuning_spaces
from naaplib.compendium import run
from naaplib.studies.architecture_tuning import records

IMAGES = str(Path(__file__).parents[2] / "data" / "images-made.npz")
SETTINGS = {"n_train": 16, "n_validation": 8, "n_epochs": [2, 1], "batch_size": 8, "rate": 0.03, "budget": 2.5,
            "seed": 0, "search": {"n_initial": 1, "n_initial_cheap": 1, "n_cheap": 1}}  # fmt: skip


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


def test_a_search_that_trains_resumes(tmp_path: Path) -> None:
    """Real networks on made images: full and cheap evaluations, then the table; stopped, it resumes."""
    encodings = tuning_spaces.mobileone_encodings()
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    trace = records.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search")
    assert trace["fidelity"].tolist() == ["full", "cheap", "full"]
    assert trace["value"].between(0, 1).all()
    assert [tuple(json.loads(text)) for text in trace["encoding"]] == [encodings[row] for row in trace["position"]]
    lines = (tmp_path / "search" / "trace.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "search" / "trace.jsonl").write_text("".join(lines[:-1]))
    again = records.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search")
    pd.testing.assert_frame_equal(again, trace)


def test_the_device_arrives(tmp_path: Path) -> None:
    """A made-up one is refused before anything is spent on it; nothing is trained on another one."""
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    assert records.evaluator(IMAGES, SETTINGS, n_epochs=1, device="meta").device == "meta"
    with pytest.raises(ValueError, match="torch knows no device 'nowhere'"):
        records.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search", device="nowhere")
    assert not (tmp_path / "search").exists()


SCRIPT = """
import sys
from pathlib import Path
Path("tuned").mkdir(exist_ok=True)
names = sorted(str(path) for path in Path(sys.argv[1]).glob("*/*.png"))
Path("tuned/trace.csv").write_text("step,fidelity,value,failure,best\\n1,cheap,,gone,\\n2,full,0.5,,0.5\\n")
Path("seen").write_text(" ".join([*sys.argv[2:], str(len(names)), names[0]]))
"""


def test_a_users_script_is_run_on_a_folder_of_images(tmp_path: Path) -> None:
    """It gets what it asks for; where it fails, one knows."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    settings = {"n_images": 2, "side": 32, "n_epochs": 3, "budget": 4}
    trace = records.example(script, IMAGES, settings=settings, folder=tmp_path / "work")
    side, n_epochs, budget, n_images, first = (tmp_path / "work" / "seen").read_text().split()
    assert (side, n_epochs, budget) == ("32", "3", "4")
    assert int(n_images) == 2 * len({path.parent for path in (tmp_path / "work").glob("images/*/*.png")})
    assert first == "images/class-0/0000.png"
    assert trace["value"].isna().tolist() == [True, False]
    assert trace["failure"].tolist() == ["gone", ""]
    script.write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero exit status 3"):
        records.example(script, IMAGES, settings=settings, folder=tmp_path / "other")
