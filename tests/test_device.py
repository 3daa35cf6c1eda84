"""A notebook's parameter `device` arrives where it computes."""

from pathlib import Path

import pytest

from naaplib.compendium import run

WITH_DEVICE = [stem for stem in run.stems() if "device" in run.default_parameters(run.read_notebook(stem))]


@pytest.mark.parametrize("stem", WITH_DEVICE)
def test_a_device_that_does_not_exist_ends_the_notebook(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of the quick copy, run in order with a made-up device, end in an error that names it."""
    monkeypatch.setenv("NAAPLIB_OUT", str(tmp_path / "results"))
    notebook = run.read_notebook(stem)
    given = run.quick_parameters(stem) | {"device": "made-up", "n_jobs": 1, "kept": ""}
    given |= {name: str(tmp_path / name) for name in ("scratch", "checkpoints", "recordings")}
    known = run.default_parameters(notebook)
    space: dict[str, object] = {}
    with pytest.raises(ValueError, match="torch knows no device 'made-up': use 'auto', 'cpu' or 'cuda'"):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                exec(cell.source, space)
            if "parameters" in cell.metadata.get("tags", []):
                space |= {name: value for name, value in given.items() if name in known}


def test_chapters_that_compute_on_a_device_have_the_parameter() -> None:
    """Trainings, scores and predictors."""
    assert {"03-accuracy-table", "06-training-free-scores", "08-neural-predictor"} <= set(WITH_DEVICE)
