"""Records of the chapter: jobs of the plan, and the earlier trainings of three epochs."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made import TINY

from naaplib.compendium import run
from naaplib.sources import ROOT, WrongData
from naaplib.studies.accuracy_table import records
from naaplib.training import job_records
from naaplib.training.plan import PLAN, RECIPES, TEST_NETWORKS, Run, changed, part
from naaplib.training.recipe import SEED

FIRST = records.FOLDER / "3-epochs"
DEFAULTS = {"seed": SEED, "other_seeds": [1, 2], "n_epochs": 90, "schemes": PLAN.schemes, "test_ids": TEST_NETWORKS}


def test_parameters_of_the_notebook_are_the_plan() -> None:
    """With its defaults it is the plan that is worked through; any other parameter is a plan of its own."""
    assert records.plan(**DEFAULTS) is PLAN
    for change in (
        {"n_epochs": 2}, {"seed": 7}, {"other_seeds": [1, 9]}, {"recipe": {"momentum": 0.5}}, {"test_ids": [7, 21]}
    ):  # fmt: skip
        found = records.plan(**(DEFAULTS | change))
        assert found is not PLAN
        assert found.runs[0] == Run(change.get("seed", SEED), "all", change.get("n_epochs", 90))


def test_a_trial_trains_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder within build/, once; elsewhere jobs that are missing stay missing."""
    plan = replace(TINY, runs=TINY.runs[:1], trainer="torch")
    assert len(records.obtain(plan, tmp_path)[0]) == 0
    monkeypatch.setattr(records, "ROOT", tmp_path)
    found, index = records.obtain(plan, tmp_path / "build" / "trial")
    assert found.groupby("run").size().to_dict() == {"seed 1": 4}
    assert index["trainer"].tolist() == ["torch"]
    monkeypatch.setattr(records, "work_through", lambda plan, folder, *_, **__: job_records.missing(folder, plan))
    pd.testing.assert_frame_equal(records.obtain(plan, tmp_path / "build" / "trial")[0], found, check_exact=True)
    with pytest.raises(ValueError, match="torch knows no device 'made-up'"):
        records.obtain(plan, tmp_path, device="made-up")


def test_earlier_trainings_are_carried_over() -> None:
    """All 440 networks of the published seed and 40 of three others, three epochs each, by their SHA-256."""
    found, index = records.first_epochs(FIRST, range(1, 441))
    assert found.groupby("run")["ModelId"].nunique().to_dict() == {
        "perturbed": 40, "seed 1": 40, "seed 2": 40, "seed 20220819": 440
    }  # fmt: skip
    assert found.groupby(["run", "ModelId"]).size().eq(3).all()
    assert index["seconds"].sum() > 3600
    assert records.first_epochs(FIRST, [7, 8])[0]["ModelId"].unique().tolist() == [7, 8]


def test_earlier_trainings_that_were_edited_are_refused(tmp_path: Path) -> None:
    """One digit, or a file that is gone; without an index there are none."""
    assert [len(part) for part in records.first_epochs(tmp_path, [1])] == [0, 0]
    for change in (lambda path: path.write_text(path.read_text().replace("7,1,", "7,1,1", 1)), Path.unlink):
        folder = tmp_path / "copy"
        shutil.copytree(FIRST, folder)
        change(folder / "records-seed-1.csv")
        with pytest.raises(WrongData, match=r"records-seed-1\.csv is not what .*trainings\.csv says it is"):
            records.first_epochs(folder, [1])
        shutil.rmtree(folder)


def test_inputs_are_the_indexes() -> None:
    """They hold the SHA-256 of all records; a folder without them has none."""
    assert [path.relative_to(ROOT).as_posix() for path in records.files(records.FOLDER)] == [
        "results/records/accuracy-table/index.csv", "results/records/accuracy-table/3-epochs/trainings.csv",
        "results/records/accuracy-table/held-out/index.csv",
        *(f"results/records/accuracy-table/{name}/index.csv" for name in sorted(map(part, RECIPES))),
    ]  # fmt: skip
    assert records.files(ROOT / "tests") == []


def test_runs_below_each_other() -> None:
    """The run's name is the first column."""
    one = pd.DataFrame({"ModelId": [1, 2], "epoch": [1, 1]})
    both = records.stack([("a", one), ("b", one)])
    assert list(both) == ["run", "ModelId", "epoch"]
    assert both["run"].tolist() == ["a", "a", "b", "b"]


def test_recipes_of_the_notebook_are_those_that_are_trained() -> None:
    """Its changes and epochs give the plans behind make, and every change has records."""
    given = run.default_parameters(run.read_notebook("03-accuracy-table"))
    assert changed(PLAN, given["other_recipes"], n_epochs=given["n_recipe_epochs"], seed=given["seed"]) == RECIPES
    found = records.recipes(PLAN, given["other_recipes"], folder=records.FOLDER, seed=SEED, n_epochs=9)
    assert found["run"].unique().tolist() == list(RECIPES)
    assert found.groupby(["run", "ModelId"]).size().eq(9).all()


def test_recipes_are_read_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change has its folder; records of another recipe under the same name are refused."""
    monkeypatch.setattr(records, "ROOT", tmp_path)
    plan, home = replace(TINY, trainer="torch"), tmp_path / "build" / "trial"
    given = {"folder": home, "seed": 3, "n_epochs": 1}
    found = records.recipes(plan, {"no momentum": {"momentum": 0.0}, "slow": {"initial_rate": 0.01}}, **given)
    assert found.groupby("run", sort=False)["ModelId"].apply(sorted).to_dict() == dict.fromkeys(
        ["no momentum", "slow"], sorted(plan.test_networks)
    )
    one, other = (part["accuracy"].tolist() for _, part in found.groupby("run"))
    losses = [part["loss_mean"].tolist() for _, part in found.groupby("run")]
    assert losses[0] != losses[1] or one != other, "the recipe is used"
    with pytest.raises(WrongData, match="give the change another name"):
        records.recipes(plan, {"slow": {"initial_rate": 0.02}}, **given)
    assert records.recipes(plan, {}, **given).empty
