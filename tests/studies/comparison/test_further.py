"""Further trainings: which are complete, their first epochs and highest accuracies."""

from pathlib import Path

import pandas as pd

from naaplib.studies.comparison import further
from naaplib.training.plan import PLAN, Job, Run
from naaplib.training.recipe import SEED


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
    found = further.read(tmp_path, 9)
    assert list(found) == [first.name]
    assert found[first.name].groupby("ModelId").size().to_dict() == dict.fromkeys(PLAN.networks(first), 9)


def test_only_whole_trainings_of_other_seeds_are_unseen(tmp_path: Path) -> None:
    """The published seed is seen, by the shortest of its trainings; the highest accuracy is that of any epoch."""
    for run in (Run(1, "test", 90), Run(SEED, "all", 9), Run(SEED, "all", 90)):
        fill(tmp_path, PLAN.jobs([run]))
    assert list(further.files(tmp_path, 9)) == [further.REPEATED, "seed 1"]
    assert {path.parts[-3] for path in further.files(tmp_path, 9)[further.REPEATED]} == {"9-epochs"}
    assert len(further.unseen(tmp_path)) == 10
    found = further.accuracies(tmp_path)
    assert list(found) == ["seed 1"]
    assert found["seed 1"].loc[[7, 419]].to_dict() == {7: 0.907, 419: 1.319}
