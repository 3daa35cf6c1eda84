"""Finished trainings: taken up again when they are the same, trained when not."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made import SCHEME

from naaplib.sources import ROOT, WrongData, sha256
from naaplib.studies.accuracy_table import records as trainings
from naaplib.training import recipe, runs
from naaplib.training.distributed import Work

WORK = Work(
    {7: SCHEME, 3: SCHEME[:2]}, 2, images_file=str(ROOT / "tests" / "data" / "images-made.npz"), device="cpu", size=1
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, dict]:
    """What training two small networks for two epochs gives."""
    return trainings.obtain("seed 1", WORK, 1, None, tmp_path_factory.mktemp("checkpoints"))


def keep(folder: Path, records: pd.DataFrame, facts: dict) -> None:
    """Write a training as a notebook does."""
    path = folder / f"{trainings.file_name(facts['run'])}.csv"
    records.to_csv(path, index=False)
    pd.DataFrame([facts | {"sha256": sha256(path)}]).to_csv(folder / trainings.INDEX, index=False)


def test_records_and_facts_of_a_training(trained: tuple[pd.DataFrame, dict]) -> None:
    """Networks in order, five digits, and all that says what they are records of."""
    records, facts = trained
    assert records["ModelId"].tolist() == [7, 7, 3, 3]
    assert list(records) == ["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"]
    assert (records["loss_mean"].round(5) == records["loss_mean"]).all()
    assert facts["n_units"] == facts["n_archs"] == 2
    assert facts["device"] == "CPU, one thread"
    assert facts["recipe"].startswith('{"batch_size": 256, "momentum": 0.9')
    assert (facts["run"], facts["seed"], facts["n_epochs"], facts["perturbation"]) == ("seed 1", 1, 2, "0")


def test_kept_training_is_taken(tmp_path: Path, trained: tuple[pd.DataFrame, dict]) -> None:
    """Nothing is trained: the folder of checkpoints stays empty; another name of the run does not matter."""
    keep(tmp_path, *trained)
    checkpoints = tmp_path / "checkpoints"
    records, facts = trainings.obtain("again", WORK, 1, tmp_path, checkpoints)
    pd.testing.assert_frame_equal(records, trained[0], check_exact=True)
    assert facts == trained[1] | {"run": "again"}
    assert not checkpoints.exists()


@pytest.mark.parametrize(
    ("seed", "change"),
    [
        (2, {}),
        (1, {"n_epochs": 1}),
        (1, {"schemes": {7: SCHEME}}),
        (1, {"schemes": {7: SCHEME, 4: SCHEME[:2]}}),
        (1, {"recipe": recipe.Recipe(momentum=0.5)}),
        (1, {"precision": "fp64"}),
        (1, {"n_holdout": 12}),
        (1, {"perturbation": 1e-7}),
        (1, {"images_file": ""}),
        (1, {"trainer": "compiled"}),
    ],
)
def test_another_training_is_not_taken(
    tmp_path: Path, trained: tuple[pd.DataFrame, dict], seed: int, change: dict
) -> None:
    """Another seed, length, set of schemes, numbering, recipe, arithmetic or set of images."""
    keep(tmp_path, *trained)
    assert trainings.find(runs.describe("seed 1", WORK, 1), tmp_path) is not None
    assert trainings.find(runs.describe("seed 1", replace(WORK, **change), seed), tmp_path) is None


def test_torch_does_not_take_a_compiled_training(tmp_path: Path, trained: tuple[pd.DataFrame, dict]) -> None:
    """An index may hold both, and each finds its own."""
    mine = runs.describe("seed 1", replace(WORK, trainer="compiled"), 1)
    keep(tmp_path, trained[0], trained[1] | mine)
    assert trainings.find(mine, tmp_path) is not None
    assert trainings.find(runs.describe("seed 1", WORK, 1), tmp_path) is None


def test_device_and_units_do_not_say_what_a_training_is(tmp_path: Path, trained: tuple[pd.DataFrame, dict]) -> None:
    """A training of a GPU serves where there is none."""
    keep(tmp_path, *trained)
    elsewhere = replace(WORK, device="cuda", size=0)
    assert trainings.find(runs.describe("seed 1", elsewhere, 1), tmp_path) is not None


@pytest.mark.parametrize("fault", ["edited", "gone"])
def test_kept_records_that_were_edited_are_refused(
    tmp_path: Path, trained: tuple[pd.DataFrame, dict], fault: str
) -> None:
    """The index has their SHA-256."""
    keep(tmp_path, *trained)
    path = tmp_path / "records-seed-1.csv"
    path.unlink() if fault == "gone" else path.write_text(path.read_text().replace("7,1,", "7,1,1"))
    with pytest.raises(WrongData, match=r"records-seed-1\.csv is not what .*trainings\.csv says it is"):
        trainings.obtain("seed 1", WORK, 1, tmp_path, tmp_path / "checkpoints")


def test_no_kept_trainings(tmp_path: Path) -> None:
    """Neither without a folder nor in an empty one."""
    wanted = runs.describe("seed 1", WORK, 1)
    assert trainings.find(wanted, None) is None
    assert trainings.find(wanted, tmp_path) is None


def test_another_order_than_the_published_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the published seed, before anything is trained."""
    monkeypatch.setattr(recipe, "ORDER_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match=r"the order of images of the published run has SHA-256 0000"):
        trainings.obtain("seed", WORK, recipe.SEED, None, tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_runs_below_each_other(trained: tuple[pd.DataFrame, dict]) -> None:
    """The run's name is the first column."""
    both = trainings.stack([("a", trained[0]), ("b", trained[0])])
    assert list(both) == ["run", *trained[0]]
    assert both["run"].tolist() == ["a"] * 4 + ["b"] * 4
