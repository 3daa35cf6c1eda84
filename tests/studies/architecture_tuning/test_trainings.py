"""Trainings of the chapter on architecture tuning: a search that trains, and a user's script."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from naaplib.architectures import tuning_spaces
from naaplib.studies.architecture_tuning import trainings

IMAGES = str(Path(__file__).parents[2] / "data" / "images-made.npz")
SETTINGS = {"n_train": 16, "n_validation": 8, "n_epochs": [2, 1], "batch_size": 8, "rate": 0.03, "budget": 2.5,
            "seed": 0, "search": {"n_initial": 1, "n_initial_cheap": 1, "n_cheap": 1}}  # fmt: skip


def test_a_search_that_trains_resumes(tmp_path: Path) -> None:
    """Real networks on made images: full and cheap evaluations, then the table; stopped, it resumes."""
    encodings = tuning_spaces.mobileone_encodings()
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    trace = trainings.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search")
    assert trace["fidelity"].tolist() == ["full", "cheap", "full"]
    assert trace["value"].between(0, 1).all()
    assert [tuple(json.loads(text)) for text in trace["encoding"]] == [encodings[row] for row in trace["position"]]
    lines = (tmp_path / "search" / "trace.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "search" / "trace.jsonl").write_text("".join(lines[:-1]))
    again = trainings.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search")
    pd.testing.assert_frame_equal(again, trace)


def test_the_device_arrives(tmp_path: Path) -> None:
    """A made-up one is refused before anything is spent on it; nothing is trained on another one."""
    metrics = pd.DataFrame({"n_params": [1.0, 2.0, 3.0]}, index=pd.Index([0, 9, 99], name="position"))
    assert trainings.evaluator(IMAGES, SETTINGS, n_epochs=1, device="meta").device == "meta"
    with pytest.raises(ValueError, match="torch knows no device 'nowhere'"):
        trainings.search(IMAGES, SETTINGS, metrics=metrics, folder=tmp_path / "search", device="nowhere")
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
    trace = trainings.example(script, IMAGES, settings=settings, folder=tmp_path / "work")
    side, n_epochs, budget, n_images, first = (tmp_path / "work" / "seen").read_text().split()
    assert (side, n_epochs, budget) == ("32", "3", "4")
    assert int(n_images) == 2 * len({path.parent for path in (tmp_path / "work").glob("images/*/*.png")})
    assert first == "images/class-0/0000.png"
    assert trace["value"].isna().tolist() == [True, False]
    assert trace["failure"].tolist() == ["gone", ""]
    script.write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError, match="returned non-zero exit status 3"):
        trainings.example(script, IMAGES, settings=settings, folder=tmp_path / "other")
