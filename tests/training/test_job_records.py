"""Files of finished jobs: written whole, read in order, and taken from an archive only if all of it is right."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from made import TINY

from naaplib.sources import ROOT, WrongData
from naaplib.training import job_records
from naaplib.training.plan import PLAN, Job, Plan
from naaplib.training.recipe import order_digest


def make_records(job: Job, add: float = 0.0) -> pd.DataFrame:
    """Records that follow from network, epoch and seed."""
    rows = [
        (name, epoch, 2 / epoch, 1 / epoch, name / 1000 + epoch / 1000 + add)
        for name in job.model_ids
        for epoch in range(1, job.n_epochs + 1)
    ]
    return pd.DataFrame(rows, columns=job_records.COLUMNS)


def make_facts(plan: Plan, job: Job, **changes: object) -> dict:
    """Facts as a training gives them."""
    facts = {"seconds": 3.0, "torch": "2", "commit": "c", "trainer": "compiled", "compiled": "P; c++ 12; -O3"}
    facts |= plan.settings | {"order": order_digest(job.seed, job.n_epochs, n_images=job_records.n_images(plan))}
    return facts | {"gpu": "", "driver": "", "size": 4, "precision": "fp32", "ms_per_step": 1.5} | changes


def fill(folder: Path, plan: Plan = TINY, jobs: list[Job] | None = None, add: float = 0.0) -> None:
    """Write jobs as finished."""
    for job in plan.jobs() if jobs is None else jobs:
        job_records.write(folder, job, records=make_records(job, add), facts=make_facts(plan, job))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Bit for bit, a network's longest records once; seeds in the plan's order; a row of the index for every job."""
    fill(tmp_path)
    records, index = job_records.read(tmp_path, TINY)
    expected = [(1, 3, 2), (1, 7, 2), (5, 3, 3), (5, 5, 3), (5, 7, 3)]
    rows = [(f"seed {s}", name, epoch) for s, name, n_epochs in expected for epoch in range(1, n_epochs + 1)]
    assert list(zip(records["run"], records["ModelId"], records["epoch"], strict=True)) == rows
    three = make_records(Job(5, (3, 5), 3))
    pd.testing.assert_frame_equal(
        records[(records["run"] == "seed 5") & (records["ModelId"] < 7)].drop(columns="run").reset_index(drop=True),
        three, check_exact=True,
    )  # fmt: skip
    assert index[["seed", "first", "n_archs", "n_epochs"]].to_numpy().tolist() == [
        [1, 3, 2, 2], [5, 3, 2, 1], [5, 7, 1, 1], [5, 3, 2, 3], [5, 7, 1, 3]
    ]  # fmt: skip
    assert index[["trainer", "processor", "flags"]].drop_duplicates().to_numpy().tolist() == [
        ["compiled", "P", "c++ 12; -O3"]
    ]
    assert list(index)[4:] == job_records.PROVENANCE


def test_committed_records_are_read() -> None:
    """Older facts say no trainer, which was torch's then; processor and time of a step (with pauses) are there."""
    _, index = job_records.read(ROOT / "results" / "records" / "accuracy-table", PLAN)
    assert len(index) >= 3
    assert set(index["trainer"]) <= {"torch", "compiled"}
    assert (index["processor"] != "").all()
    assert index["ms_per_step"].between(1, 10_000).all()


def test_nothing_is_read_from_nothing(tmp_path: Path) -> None:
    """Tables with their columns and no row; every job is missing."""
    records, index = job_records.read(tmp_path, TINY)
    assert (list(records), len(records), len(index)) == (["run", *job_records.COLUMNS], 0, 0)
    assert job_records.missing(tmp_path, TINY) == TINY.jobs()


def test_a_longer_job_holds_the_shorter_one(tmp_path: Path) -> None:
    """It is not missing then, and counts in the progress; a shorter one does not stand for the longer."""
    fill(tmp_path, jobs=[Job(5, (3, 5), 3), Job(5, (7,), 1)])
    assert job_records.missing(tmp_path, TINY) == [Job(1, (3, 7), 2), Job(5, (7,), 3)]
    counted = job_records.progress(tmp_path, TINY)
    assert counted[["n_jobs", "n_finished"]].to_numpy().tolist() == [[1, 0], [2, 2], [2, 1]]
    records, _ = job_records.read(tmp_path, TINY)
    assert records.groupby("ModelId").size().to_dict() == {3: 3, 5: 3, 7: 1}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r.iloc[1:], "rows are not those of 2 networks and 2 epochs"),
        (lambda r: r[::-1], "rows are not those"),
        (lambda r: r.assign(accuracy=1.5), "an accuracy is not a fraction"),
        (lambda r: r.assign(loss_mean=float("nan")), "a loss is negative or not finite"),
        (lambda r: r.assign(loss_median=-1.0), "a loss is negative or not finite"),
    ],
)
def test_records_of_another_job_are_not_written(tmp_path: Path, change, fault: str) -> None:
    """The message names the fault, and nothing is there afterwards."""
    job = TINY.jobs()[0]
    with pytest.raises(WrongData, match=f"no records of 2-epochs/seed-1/0003-0007: .*{fault}"):
        job_records.write(tmp_path, job, records=change(make_records(job)), facts=make_facts(TINY, job))
    assert not job_records.is_finished(tmp_path, job)


def test_a_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    """By its SHA-256."""
    fill(tmp_path)
    path = tmp_path / f"{TINY.jobs()[0].stem}.csv"
    path.write_text(path.read_text().replace("3,1,2.0", "3,1,2.5"))
    with pytest.raises(WrongData, match="has not the SHA-256 that the JSON file names"):
        job_records.read(tmp_path, TINY)


def test_an_archive_is_taken_in(tmp_path: Path) -> None:
    """Byte for byte; what was there stays, though the archive holds other records of it; checks are left out."""
    fill(tmp_path / "there", add=0.01)
    assert (
        job_records.pack(tmp_path / "there", TINY.jobs(), path=tmp_path / "out.zip", others={"steps.csv": "a\n1\n"})
        == 5
    )
    mine = tmp_path / "mine"
    fill(mine, jobs=TINY.jobs()[:1])
    before = (mine / f"{TINY.jobs()[0].stem}.csv").read_bytes()
    assert job_records.take_in(tmp_path / "out.zip", mine, plan=TINY) == (4, 1)
    assert (mine / f"{TINY.jobs()[0].stem}.csv").read_bytes() == before
    for job in TINY.jobs()[1:]:
        for suffix in ("csv", "json"):
            name = f"{job.stem}.{suffix}"
            assert (mine / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert job_records.take_in(tmp_path / "out.zip", mine, plan=TINY) == (0, 5)
    assert not (mine / "checks").exists()


def edit(facts: dict) -> str:
    return json.dumps(facts)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schemes": "0"}, "schemes not those of the plan"),
        ({"recipe": "{}"}, "recipe not those of the plan"),
        ({"images": "CIFAR-10"}, "images not those of the plan"),
        ({"order": "0" * 64}, "order not those of the plan"),
        ({"sha256": "0" * 64}, "has not the SHA-256"),
        ({"seed": 2}, "facts are those of another job"),
        ({"commit": None}, "facts lack commit"),
        ({"sha256": None}, "facts lack sha256"),
        ({"model_ids": 7}, "facts are those of another job"),
    ],
)
def test_an_archive_of_another_training_is_refused(tmp_path: Path, change: dict, fault: str) -> None:
    """One wrong fact of one job: the message names it, and no job is copied."""
    fill(tmp_path / "there")
    path = tmp_path / "there" / f"{TINY.jobs()[2].stem}.json"
    facts = json.loads(path.read_text()) | change
    path.write_text(edit({name: value for name, value in facts.items() if value is not None}))
    job_records.pack(tmp_path / "there", TINY.jobs(), path=tmp_path / "out.zip")
    with pytest.raises(WrongData, match=f"nothing is taken from .*out.zip: 1-epochs/seed-5/0007: .*{fault}"):
        job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["../outside.csv", "90-epochs/seed-9/0001.csv", "/outside.csv"])
def test_an_archive_with_foreign_files_is_refused(tmp_path: Path, name: str) -> None:
    """A path that is no job's is not followed."""
    fill(tmp_path / "there")
    job_records.pack(tmp_path / "there", TINY.jobs(), path=tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip", "a") as archive:
        archive.writestr(name, "text")
    with pytest.raises(WrongData, match="belongs to no job of the plan"):
        job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY)


@pytest.mark.parametrize(
    ("suffix", "text", "fault"),
    [
        ("json", "[]", "holds a list; it must hold an object"),
        ("json", "nix", "cannot be read"),
        ("csv", "", "cannot be read"),
        ("csv", "ModelId,epoch,loss_mean,loss_median,accuracy\n7,1,high,2.0,0.1\n", "is no number: .*high"),
        ("csv", "ModelId,epoch,loss_mean,loss_median,accuracy\n7,1,2.0,2.0,1.5\n", "an accuracy is not a fraction"),
        ("csv", "ModelId,epoch,loss_mean,loss_median,accuracy\n7,1,2.0,,0.1\n", "a loss is negative or not finite"),
    ],
)
def test_whatever_an_archive_holds_the_message_is_about_the_job(
    tmp_path: Path, suffix: str, text: str, fault: str
) -> None:
    """A file of another form is one more fault, and no job is copied."""
    fill(tmp_path / "there")
    (tmp_path / "there" / f"{TINY.jobs()[2].stem}.{suffix}").write_text(text)
    job_records.pack(tmp_path / "there", TINY.jobs(), path=tmp_path / "out.zip")
    with pytest.raises(WrongData, match=f"nothing is taken from .*out.zip: 1-epochs/seed-5/0007.*{fault}"):
        job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY)
    assert not (tmp_path / "mine").exists()


def test_folders_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    """A program that packs folders enters them too."""
    fill(tmp_path / "there")
    job_records.pack(tmp_path / "there", TINY.jobs(), path=tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip", "a") as archive:
        archive.mkdir("1-epochs")
    assert job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY) == (5, 0)


def test_an_archive_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """A JSON file without its CSV."""
    fill(tmp_path / "there")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.write(tmp_path / "there" / f"{TINY.jobs()[0].stem}.json", f"{TINY.jobs()[0].stem}.json")
    with pytest.raises(WrongData, match="2-epochs/seed-1/0003-0007 lacks its CSV or JSON file"):
        job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY)


def test_the_whole_plan_fits_into_what_a_borrowed_machine_gives_back(tmp_path: Path) -> None:
    """All jobs of the plan with records of full precision, packed: below 16 MiB."""
    facts = make_facts(PLAN, PLAN.jobs()[0])
    for job in PLAN.jobs(PLAN.longest()):
        records = make_records(job)
        noise = pd.Series(range(len(records))) * 0.123456789012345 % 0.01
        for name in ("loss_mean", "loss_median"):
            records[name] += noise
        job_records.write(tmp_path, job, records=records, facts=facts)
    job_records.pack(tmp_path, PLAN.jobs(), path=tmp_path / "out.zip")
    assert (tmp_path / "out.zip").stat().st_size < 8 << 20
