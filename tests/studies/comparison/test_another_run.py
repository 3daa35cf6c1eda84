"""First epochs of another training: what they replace, and what the table says."""

from pathlib import Path

import pandas as pd
import pytest

from naaplib.studies.comparison import another_run
from naaplib.tables import naap440
from naaplib.training.plan import PLAN, Job, Run
from naaplib.training.recipe import SEED


def test_first_epochs_are_replaced_and_nothing_else() -> None:
    """The highest accuracy, other networks and later epochs remain."""
    table = naap440.read(Path("tests/data/naap440-made.csv"))
    ids = table["ModelId"].tolist()[1:3]
    records = pd.DataFrame(
        [(i, e, 1.0, 1.0, 0.01) for i in ids[::-1] for e in (1, 2)],
        columns=["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"],
    )
    mixed = another_run.replaced(table, records)
    changed = mixed.ne(table)
    assert mixed["ModelId"].tolist() == table["ModelId"].tolist()
    assert changed.index[changed.any(axis=1)].tolist() == [1, 2]
    assert set(changed.columns[changed.any()]) == {f"e{e}{name}" for e in (1, 2) for name in naap440.EPOCH_MEASURES}
    assert (mixed.loc[[1, 2], "e2Accuracy"] == 0.01).all()


def test_estimators_are_asked_with_the_other_epochs() -> None:
    """Epochs in the reverse order of the end make the highest accuracy so far wrong where it was right."""
    table = naap440.read(Path("tests/data/naap440-made.csv"))
    ends = table.set_index("ModelId")["MaxAccuracy"]
    rows = [(i, e, 2.0, 2.0, round(1 - end, 4)) for i, end in ends.items() for e in range(1, 10)]
    records = pd.DataFrame(rows, columns=["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"])
    found = another_run.compare(table, {"reversed": records}, split_indices=[5], algorithms=[], seed=0)
    taus = found[found["estimator"] == "highest accuracy so far"].set_index("epochs")["kendall_tau"]
    assert taus.to_dict() == pytest.approx({3: -1, 6: -1, 9: -1}, abs=0.05)
    assert set(found["epochs_of"]) == {"reversed"}


def test_splits_are_paired() -> None:
    """Only splits that both have count, and the standard error is that of the difference."""
    columns = ["split", "estimator", "epochs", "violations", "kendall_tau", "mae"]
    own = pd.DataFrame([(s, "a", 3, v, 0.9, 0.1) for s, v in ((0, 10.0), (1, 20.0), (2, 99.0))], columns=columns)
    other = pd.DataFrame([(s, "a", 3, v, 0.8, 0.2) for s, v in ((0, 12.0), (1, 24.0))], columns=columns)
    row = another_run.beside(own, other.assign(epochs_of="x"), estimators=["a"]).iloc[0]
    assert row[["n", "violations", "violations_other", "violations_more"]].tolist() == [2, 15, 18, 3]
    assert row["violations_more_se"] == pytest.approx(1.0)


def fill(folder: Path, jobs: list[Job]) -> None:
    """Write a job's records: the accuracy tells network and epoch."""
    for job in jobs:
        rows = [(i, e, 2.0, 2.0, i / 1000 + e / 100) for i in job.model_ids for e in range(1, job.n_epochs + 1)]
        path = folder / f"{job.stem}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = ["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"]
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
        path.with_suffix(".json").write_text("{}")


def test_only_complete_trainings_count(tmp_path: Path) -> None:
    """A training without one of its jobs is left out; first epochs of a longer one are taken."""
    first, second = (next(run for run in PLAN.runs if run.seed == seed) for seed in (1, 2))
    fill(tmp_path, PLAN.jobs([first]))
    fill(tmp_path, PLAN.jobs([second])[1:])
    found = another_run.read(tmp_path, 9)
    assert list(found) == [first.name]
    assert found[first.name].groupby("ModelId").size().to_dict() == dict.fromkeys(PLAN.networks(first), 9)


def test_only_whole_trainings_of_other_seeds_are_unseen(tmp_path: Path) -> None:
    """The published seed is seen, by the shortest of its trainings; the highest accuracy is that of any epoch."""
    for run in (Run(1, "test", 90), Run(SEED, "all", 9), Run(SEED, "all", 90)):
        fill(tmp_path, PLAN.jobs([run]))
    assert list(another_run.files(tmp_path, 9)) == [another_run.REPEATED, "seed 1"]
    assert {path.parts[-3] for path in another_run.files(tmp_path, 9)[another_run.REPEATED]} == {"9-epochs"}
    assert len(another_run.unseen(tmp_path)) == 10
    found = another_run.accuracies(tmp_path)
    assert list(found) == ["seed 1"]
    assert found["seed 1"].loc[[7, 419]].to_dict() == {7: 0.907, 419: 1.319}
