"""What the chapter on architecture tuning does once and keeps: taken from its tables, or done anew where it differs."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from naaplib.architectures import tuning_spaces
from naaplib.sources import WrongData, sha256
from naaplib.studies.architecture_tuning import records
from naaplib.studies.architecture_tuning.searches import Ground

IMAGES = str(Path(__file__).parents[2] / "data" / "images-made.npz")
INDEX = "kept.csv"
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
METRICS = pd.DataFrame({"n_params": np.arange(12.0)})
GROUND = Ground("made", ENCODINGS, np.arange(12.0) / 12, np.arange(12.0) ** 0.5, (4, 1), METRICS)


def keep(folder: Path, table: pd.DataFrame, fact: dict[str, object], index: bool = False) -> None:
    """As a notebook does."""
    path = folder / f"{records.file_name(str(fact['run']))}.csv"
    table.to_csv(path, index=index)
    pd.DataFrame([fact | {"sha256": sha256(path)}]).to_csv(folder / INDEX, index=False)


def test_what_is_measured_is_kept(tmp_path: Path) -> None:
    """Failures and all; other networks, or another size of images, are measured anew."""
    arguments = ("small nets", ENCODINGS, build, 9, (2, 3, 8, 8))
    metrics, fact = records.measure(*arguments, None, INDEX)
    assert metrics.index.tolist() == np.random.default_rng(0).permutation(12)[:9].tolist()
    assert (metrics["failure"] != "").tolist() == [ENCODINGS[row][0] == 7 for row in metrics.index]
    keep(tmp_path, metrics, fact, index=True)
    again, other = records.measure(*arguments, tmp_path, INDEX)
    pd.testing.assert_frame_equal(again, metrics)
    assert other == fact
    for changed in (
        ("small nets", ENCODINGS, build, 8, (2, 3, 8, 8)),
        ("small nets", ENCODINGS, build, 9, (2, 3, 9, 9)),
    ):
        anew, _ = records.measure(*changed, tmp_path, INDEX)
        assert not anew["latency"].equals(metrics["latency"])
    (tmp_path / "kept-metrics-of-small-nets.csv").write_text("edited")
    with pytest.raises(WrongData, match="is gone or was edited"):
        records.measure(*arguments, tmp_path, INDEX)


def test_searches_of_a_ground_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, as far as they are written; another number of seeds is run."""
    arguments = (GROUND, ["without pretraining"], ["random search"], 2, [2.0, 4.0], 3)
    runs, fact = records.tune(*arguments, None, INDEX, tmp_path / "pieces")
    assert runs["search"].tolist() == ["without pretraining"] * 2 + ["random search"] * 2
    keep(tmp_path, runs, fact)
    monkeypatch.setattr(records, "run", lambda *_: pytest.fail("searched again"))
    again, other = records.tune(*arguments, tmp_path, INDEX, tmp_path / "pieces")
    pd.testing.assert_frame_equal(again, runs)
    assert other == fact
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        records.tune(*arguments[:3], 3, *arguments[4:], tmp_path, INDEX, tmp_path / "pieces")


def test_a_search_that_trains_is_kept(tmp_path: Path) -> None:
    """Real networks on made images: full and cheap evaluations, then the table; stopped, it goes on."""
    encodings = tuning_spaces.mobileone_encodings()
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    trace, fact = records.search(IMAGES, SETTINGS, metrics, None, INDEX, tmp_path / "search")
    assert trace["fidelity"].tolist() == ["full", "cheap", "full"]
    assert trace["value"].between(0, 1).all()
    assert [tuple(json.loads(text)) for text in trace["encoding"]] == [encodings[row] for row in trace["position"]]
    lines = (tmp_path / "search" / "trace.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "search" / "trace.jsonl").write_text("".join(lines[:-1]))
    pd.testing.assert_frame_equal(records.search(IMAGES, SETTINGS, metrics, None, INDEX, tmp_path / "search")[0], trace)
    keep(tmp_path, trace, fact)
    again, _ = records.search(IMAGES, SETTINGS, metrics, tmp_path, INDEX, tmp_path / "not-made")
    pd.testing.assert_frame_equal(again, trace)
    assert not (tmp_path / "not-made").exists()


def test_the_device_arrives(tmp_path: Path) -> None:
    """A made-up one is refused before anything is spent on it; nothing is trained on another one."""
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    assert records.evaluator(IMAGES, SETTINGS, 1, "meta").device == "meta"
    with pytest.raises(RuntimeError, match="nowhere"):
        records.search(IMAGES, SETTINGS, metrics, None, INDEX, tmp_path / "search", "nowhere")
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
    """It gets what it asks for, and is run again only if it or its numbers change; where it fails, one knows."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    settings = {"n_images": 2, "side": 32, "n_epochs": 3, "budget": 4}
    trace, fact = records.example(script, IMAGES, settings, None, INDEX, tmp_path / "work")
    side, n_epochs, budget, n_images, first = (tmp_path / "work" / "seen").read_text().split()
    assert (side, n_epochs, budget) == ("32", "3", "4")
    assert int(n_images) == 2 * len({path.parent for path in (tmp_path / "work").glob("images/*/*.png")})
    assert first == "images/class-0/0000.png"
    assert trace["value"].isna().tolist() == [True, False]
    assert trace["failure"].tolist() == ["gone", ""]
    keep(tmp_path, trace, fact)
    arguments = (script, IMAGES, settings, tmp_path, INDEX, tmp_path / "other")
    pd.testing.assert_frame_equal(records.example(*arguments)[0], trace)
    assert not (tmp_path / "other").exists()
    script.write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero exit status 3"):
        records.example(*arguments)
