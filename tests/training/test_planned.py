"""Working through a plan: job by job, resumable, in time, and never with two trainers in one job."""

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from made import TINY

from naaplib.sources import WrongData
from naaplib.training import compiled, job_records, planned
from naaplib.training.cifar10 import load_npz
from naaplib.training.plan import Job, Plan, Run
from naaplib.training.planned import Way, train, work_through
from naaplib.training.population import train_population
from naaplib.training.recipe import order_digest

TORCH = Way("torch")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny plan worked through by two processes; records in the folder "records"."""
    folder = tmp_path_factory.mktemp("done")
    assert (
        work_through(
            TINY, folder / "records", checkpoints=folder / "scratch", devices=["cpu"] * 2, way=TORCH, commit="0123abc"
        )
        == []
    )
    return folder


def test_records_are_those_of_the_population_trainer(done: Path) -> None:
    """Each job is trained by itself; two processes and a shorter run before make no difference."""
    records, index = job_records.read(done / "records", TINY)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = []
    for seed, names, n_epochs in ((1, (3, 7), 2), (5, (3, 5), 3), (5, (7,), 3)):
        schemes = {name: TINY.schemes[name] for name in names}
        parts.append(
            train_population(schemes, load_npz(TINY.images_file), recipe=TINY.recipe, seed=seed, n_epochs=n_epochs)
        )
    torch.set_num_threads(n_threads)
    expected = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(records.drop(columns="run"), expected, check_exact=True)
    assert index["trainer"].unique().tolist() == ["torch"]


def test_facts_say_where_and_how(done: Path) -> None:
    """Settings, order of images, machine, versions, commit, size, and time; of a CPU nothing about GPUs."""
    job = TINY.jobs()[0]
    facts = json.loads((done / "records" / f"{job.stem}.json").read_text())
    assert facts["order"] == order_digest(1, 2, n_images=job_records.n_images(TINY))
    assert {name: facts[name] for name in TINY.settings} == TINY.settings
    assert facts["processor"] == compiled.processor()[0]
    assert (facts["gpu"], facts["cuda"], facts["trainer"], facts["precision"]) == ("", "", "torch", "fp32")
    assert facts["size"] == len(facts["model_ids"]) == 2
    assert facts["ms_per_step"] > 0
    assert facts["seconds"] > 0
    assert facts["commit"] == "0123abc"


def test_what_is_finished_is_not_trained(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started; records of another machine or trainer count as well."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: None)
    assert work_through(TINY, done / "records", checkpoints=done / "elsewhere", way=Way("compiled")) == []


def test_held_out_images_are_validated_on(tmp_path: Path) -> None:
    """A plan may hold images out: fewer to train on, their accuracies beside the test's, and settings that say it."""
    plan = replace(TINY, runs=TINY.runs[:1], n_holdout=10)
    assert work_through(plan, tmp_path / "records", checkpoints=tmp_path / "scratch", way=TORCH) == []
    records, _ = job_records.read(tmp_path / "records", plan)
    images = load_npz(plan.images_file)
    schemes = {name: plan.schemes[name] for name in (3, 7)}
    expected = train_population(schemes, images, recipe=plan.recipe, seed=1, n_epochs=2, device="cpu", n_holdout=10)
    shared = ["ModelId", "epoch", "accuracy", "holdout_accuracy"]
    pd.testing.assert_frame_equal(records[shared], expected[shared])
    facts = json.loads((tmp_path / "records" / f"{plan.jobs()[0].stem}.json").read_text())
    assert facts["n_holdout"] == "10"
    assert facts["order"] == order_digest(1, 2, n_images=len(images.train_images) - 10)
    job_records.pack(tmp_path / "records", plan.jobs(), path=tmp_path / "out.zip")
    with pytest.raises(WrongData, match="order not those of the plan"):
        job_records.take_in(tmp_path / "out.zip", tmp_path / "mine", plan=TINY)


def test_longer_runs_resume_from_shorter_ones(done: Path) -> None:
    """The run of three epochs went on from the checkpoints of the run of one, in the folder of its way."""
    names = [path.name for path in (done / "scratch" / "torch-fp32" / "seed-5").iterdir()]
    assert len(names) == 2
    assert sorted(path.name for path in (done / "scratch").iterdir()) == ["torch-fp32"]


def test_a_run_that_is_out_of_time_resumes_to_the_same_bits(done: Path, tmp_path: Path) -> None:
    """Stopped in the middle of jobs of some seconds, then called again; nothing finished in between."""
    plan, scratch = replace(TINY, runs=(Run(5, "all", 20_000),)), tmp_path / "scratch"
    for seconds in (6, 12, 24, 48):  # a process needs some seconds to start
        assert (
            work_through(plan, tmp_path / "a", checkpoints=scratch, devices=["cpu"], seconds=seconds, way=TORCH)
            == plan.jobs()
        )
        if list(scratch.rglob("epoch-*.pt")):
            break
    assert list(scratch.rglob("epoch-*.pt"))
    short = replace(TINY, runs=(Run(5, "all", 3),))
    assert work_through(short, tmp_path / "a", checkpoints=tmp_path / "scratch", devices=["cpu"], way=TORCH) == []
    one, other = (job_records.read(folder, short)[0] for folder in (tmp_path / "a", done / "records"))
    expected = other[other["run"] == "seed 5"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, expected, check_exact=True)
    # joblib's workers, which other tests leave for the next call, are not of this run
    assert [one for one in multiprocessing.active_children() if not one.name.startswith("Loky")] == []


def test_trainers_have_checkpoints_of_their_own(done: Path, tmp_path: Path) -> None:
    """A job that torch began is begun anew by the compiled trainer: its records are of one trainer, and say which."""
    job = TINY.jobs()[0]
    train(TINY, [Job(1, job.model_ids, 1)], checkpoints=tmp_path, way=TORCH)
    ((_, records, facts),) = train(TINY, [job], checkpoints=tmp_path, way=Way("compiled"))
    assert facts["trainer"] == "compiled"
    assert facts["compiled"].startswith(facts["processor"])
    ((_, straight, _),) = train(TINY, [job], checkpoints=tmp_path / "other", way=Way("compiled"))
    pd.testing.assert_frame_equal(records, straight, check_exact=True)


def test_jobs_that_are_trained_together_are_recorded_apart(tmp_path: Path) -> None:
    """As on a GPU: each job has its own networks' rows, a share of the seconds, and the size of the whole."""
    jobs = TINY.jobs([TINY.runs[2]])
    found = train(TINY, jobs, checkpoints=tmp_path, way=TORCH)
    assert [job for job, _, _ in found] == jobs
    for job, records, facts in found:
        assert job_records.faults(records[job_records.COLUMNS], job) == []
        assert facts["size"] == 3
    assert found[0][2]["seconds"] == pytest.approx(2 * found[1][2]["seconds"], abs=0.2)


def test_memory_that_runs_out_divides_between_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of the jobs, so that no job has two sizes."""
    jobs = [*TINY.jobs([TINY.runs[2]])]
    real = planned._train_at_once

    def train_at_once(work, seed, names, folder):
        if len(names) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(work, seed, names, folder)

    monkeypatch.setattr(planned, "_train_at_once", train_at_once)
    with pytest.warns(UserWarning, match="2 networks at once exceed"):
        found = train(TINY, jobs, checkpoints=tmp_path, way=TORCH)
    assert [facts["size"] for _, _, facts in found] == [2, 1]


def test_a_job_that_fails_twice_is_named_after_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The rest of the plan is trained, then one message names the job; its process said why."""
    diverging = replace(TINY, recipe=replace(TINY.recipe, initial_rate=1e30), runs=(Run(1, "test", 2),))
    lines: list[str] = []
    with pytest.raises(RuntimeError, match="1 jobs failed twice: 2-epochs/seed-1/0003-0007; see above"):
        work_through(diverging, tmp_path / "a", checkpoints=tmp_path / "b", way=TORCH, report=lines.append)
    assert lines == ["2-epochs/seed-1/0003-0007: FAILED"] * 2
    assert "training diverged" in capfd.readouterr().err


def make_queue(n: int = 6) -> list[Job]:
    return [Job(1, (4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3), 90) for i in range(n)] + [Job(2, (1, 2, 3, 4), 9)]


def test_jobs_are_trained_together_up_to_a_size() -> None:
    """By hand: whole jobs of one run, and no more networks than the size; the next run by itself."""
    queue = make_queue()
    taken = []
    while queue:
        taken.append([len(planned._next(queue, 16, 1e9, 0.0))])
    assert taken == [[4], [2], [1]]


def test_a_training_that_would_not_end_in_time_is_begun_smaller() -> None:
    """Halves until the forecast fits; nothing where one job does not fit, and the queue stays."""
    queue = make_queue()
    assert len(planned._next(queue, 100, 2 * 4 * 90 * 0.01 + 0.1, 0.01)) == 1  # six, three, one
    assert len(queue) == 6
    assert planned._next(queue, 100, 3.0, 0.01) == []
    assert len(queue) == 6


def test_every_device_has_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several GPUs: each has its own process, and a device that is free gets the next jobs; simulated."""
    log: list[tuple[str, float, float]] = []

    class Process:
        def __init__(self, target, args) -> None:
            _, self.jobs, self.folder, _, _, self.device, _ = args
            self.exitcode, self.sentinel = None, len(log)

        def start(self) -> None:
            self.began = time.monotonic()
            log.append((self.device, self.jobs[0].model_ids[0], self.began))

        def join(self) -> None:
            """Ended already."""

        def end(self) -> None:
            for job in self.jobs:
                path = Path(self.folder) / f"{job.stem}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}")
            self.exitcode = 0

    made: list[Process] = []

    def make(**arguments) -> Process:
        made.append(Process(**arguments))
        return made[-1]

    def wait(_, timeout: float) -> None:
        running = [process for process in made if process.exitcode is None]
        assert len({process.device for process in running}) == len(running) <= 2
        running[-1].end()

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: type("C", (), {"Process": staticmethod(make)}))
    monkeypatch.setattr(multiprocessing.connection, "wait", wait)
    devices = ["cuda:0", "cuda:1"]
    plan = Plan((Run(1, "test", 2),))
    left = work_through(plan, tmp_path, checkpoints=tmp_path, devices=devices, way=TORCH, size=4)
    assert left == []
    assert {device for device, *_ in log} == set(devices)
    assert len(log) == 10


def test_processes_on_a_cpu_have_the_lowest_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They give way to everything else on the machine."""
    asked = []
    monkeypatch.setattr(os, "nice", asked.append)
    monkeypatch.setattr(planned, "train", lambda *_, **__: [])
    planned._work(TINY, TINY.jobs()[:1], folder=tmp_path, checkpoints=tmp_path, way=TORCH, device="cpu")
    assert asked == [19]
    planned._work(TINY, TINY.jobs()[:1], folder=tmp_path, checkpoints=tmp_path, way=TORCH, device="cuda:1")
    assert asked == [19]
