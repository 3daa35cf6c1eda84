"""The command that trains the table: it lists, trains, stops, and takes archives in."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from made import TINY

from naaplib.compendium import make_records, train_plan
from naaplib.sources import WrongData
from naaplib.training import job_records


def test_the_plan_is_trained_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First what there is to do, then a line for each job that is finished, and an index of all; again, nothing."""
    plan = TINY.__class__(TINY.runs[:2], TINY.schemes, TINY.test_networks, TINY.recipe, TINY.images_file, "torch", 2)
    arguments = {"plan": plan, "folder": tmp_path / "records", "checkpoints": tmp_path / "checkpoints"}
    train_plan.work(n_jobs=2, **arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["run", "networks", "n_epochs", "n_archs", "n_jobs", "n_finished"], ["seed", "1", "test", "2", "2", "1", "0"]
    ]  # fmt: skip
    finished = [line for line in lines if ": finished, after" in line]
    assert len(finished) == 3
    assert re.search(r"; [12] jobs left, about \d+\.\d hours$", finished[0])
    assert finished[-1].endswith("; 0 jobs left")
    index = pd.read_csv(tmp_path / "records" / job_records.INDEX)
    assert list(index) == ["seed", "first", "n_archs", "n_epochs", *job_records.PROVENANCE]
    assert len(index) == 3
    assert not index["commit"].isin(["", "unknown"]).any()
    train_plan.work(seconds=0, **arguments)
    assert "finished, after" not in capsys.readouterr().out


def test_no_time_lists_what_was_copied(tmp_path: Path) -> None:
    """The index is made from the files that are there; nothing is trained in no seconds."""
    job = TINY.jobs()[0]
    rows = [(name, epoch, 1.0, 1.0, 0.5) for name in job.model_ids for epoch in (1, 2)]
    records = pd.DataFrame(rows, columns=job_records.COLUMNS)
    job_records.write(tmp_path, job, records=records, facts={"seconds": 1.0, "torch": "2", "commit": "c"})
    train_plan.work(seconds=0, plan=TINY, folder=tmp_path, checkpoints=tmp_path / "checkpoints")
    assert pd.read_csv(tmp_path / job_records.INDEX)[["seed", "first"]].to_numpy().tolist() == [[1, 3]]
    assert not (tmp_path / "checkpoints").exists()


def test_a_wrong_archive_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, and what is wrong; as is a number of processes that is none."""
    (tmp_path / "empty.zip").write_bytes(b"")
    assert train_plan.main(["--from", str(tmp_path / "none.zip")]) == 1
    assert "none.zip" in capsys.readouterr().err
    assert train_plan.main(["--n-jobs", "0"]) == 1
    assert "n_jobs must be 1 or more, not 0" in capsys.readouterr().err
    with pytest.raises(WrongData, match="is no zip archive"):
        job_records.take_in(tmp_path / "empty.zip", tmp_path / "mine", plan=TINY)


def test_the_generic_command_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """``make_records accuracy-table`` takes the same arguments as this command."""
    given = []
    monkeypatch.setattr(train_plan, "main", lambda arguments: given.append(arguments) or 7)
    monkeypatch.setattr(sys, "argv", ["make_records", "accuracy-table", "--seconds", "3"])
    assert make_records.main() == 7
    assert given == [["--seconds", "3"]]
