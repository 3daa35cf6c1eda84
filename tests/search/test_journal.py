"""What a search writes down: found again, torn or not, and kept from other searches."""

import json
import math
import warnings
from pathlib import Path

import pytest

from naaplib.search.journal import Journal, attempt, report
from naaplib.training.checkpoints import FolderInUse

TOLD = {"search": "by hand", "sizes": (1, 2)}
ENTRIES = [{"value": 0.1 + 0.2}, {"value": None, "why": "failed"}]


def fill(path: Path | None) -> None:
    with Journal(path, TOLD) as journal:
        for entry in ENTRIES:
            journal.add(entry)


@pytest.mark.parametrize("torn", [b"", b'{"value', b"\xff\xfe"])
def test_entries_are_there_again(tmp_path: Path, torn: bytes) -> None:
    """With every digit; a torn last line is dropped, and overwritten by what comes next."""
    path = tmp_path / "deep" / "trace.jsonl"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path, TOLD) as journal:
        assert journal.entries == ENTRIES
        journal.add(ENTRIES[0])
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[1]


def test_each_entry_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """Before the context ends."""
    with Journal(tmp_path / "trace", TOLD) as journal:
        for n, entry in enumerate(ENTRIES, start=2):
            journal.add(entry)
            assert len((tmp_path / "trace").read_bytes().splitlines()) == n


@pytest.mark.parametrize(
    "content",
    [b'{"search": "other"}\n', b"no trace\n", b'{"epochs": 90}', b"notes", b"[1]\n", b'"text"', b"\n", b"\xff\xfe"],
)
@pytest.mark.parametrize("resume", [True, False, "retry"])
def test_files_of_others_are_refused_and_kept(content: bytes, resume: bool | str, tmp_path: Path) -> None:
    """Whatever they hold, with a newline at the end or without."""
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no trace of a search"), Journal(path, TOLD, resume=resume):
        pass
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("first", [{"strategy": "hyperband", "seed": 0}, {"tool": "architecture tuning"}])
def test_old_traces_say_what_they_lack(first: dict, tmp_path: Path) -> None:
    """They are kept; resume=False sets them aside."""
    path = tmp_path / "trace"
    path.write_text(json.dumps(first) + "\n")
    with (
        pytest.raises(ValueError, match=r"earlier version, and lacks what identifies.* resume=False"),
        Journal(path, TOLD),
    ):
        pass
    with Journal(path, TOLD, resume=False):
        pass
    assert json.loads((tmp_path / "trace-1").read_text()) == first


def test_a_beginning_afresh_keeps_the_old(tmp_path: Path) -> None:
    """Under a name that is free for the file and its companions."""
    path, other = tmp_path / "trace.jsonl", tmp_path / "space.npz"
    for number in range(3):
        with Journal(path, TOLD, resume=number == 0, companions=[other]) as journal:
            assert journal.entries == []
            journal.add({"value": number})
        other.write_text(str(number))
        (tmp_path / "space-1.npz").touch()  # somebody else's
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == [
        "space-1.npz",
        "space-2.npz",
        "space-3.npz",
        "space.npz",
        "trace-2.jsonl",
        "trace-3.jsonl",
        "trace.jsonl",
    ]
    assert [json.loads((tmp_path / f"trace-{n}.jsonl").read_text().splitlines()[1])["value"] for n in (2, 3)] == [0, 1]
    with pytest.raises(ValueError, match="resume is 'no'; it must be True, False or 'retry'"):
        Journal(path, TOLD, resume="no")


def test_what_differs_is_named_with_both_values(tmp_path: Path) -> None:
    """Nested ones by all their keys, code by the first line that differs."""
    path = tmp_path / "trace"
    old = {"seed": 0, "settings": {"n": 1, "m": 2}, "code": {"f": "def f():\n    return 1"}, "gone": None}
    with Journal(path, old) as journal:
        journal.add({"value": 1.0})
    new = {"seed": 1, "settings": {"n": 1, "m": 3}, "code": {"f": "def f():\n    return 2"}}
    with pytest.raises(ValueError, match="is of another search") as caught, Journal(path, new):
        pass
    for text in ("seed is 0 there and 1 here", "settings, m is 2 there and 3 here", "gone is None there and missing",
                 "code, f is '    return 1' there and '    return 2' here", "resume=False"):  # fmt: skip
        assert text in str(caught.value)


def test_what_failed_is_tried_again_after_a_mend(tmp_path: Path) -> None:
    """Only if that is asked for, or nothing has succeeded; new outcomes are in the place of the old."""
    path = tmp_path / "trace"
    old, new = ({"seed": 0, "code": {"f": text}} for text in ("broken", "mended"))
    with Journal(path, old) as journal:
        journal.add({"row": 1, "failure": "NameError"})
    with Journal(path, new) as journal:  # nothing has succeeded
        assert journal.entries == [{"row": 1, "failure": "NameError", "retry": True}]
        journal.add({"row": 1, "value": 0.5})
        journal.add({"row": 2, "failure": "IndexError"})
    with (
        pytest.raises(ValueError, match=r"code, f is 'mended' there and 'broken' here.*resume='retry'"),
        Journal(path, old),
    ):
        pass
    with Journal(path, new) as journal:
        assert [entry.get("retry") for entry in journal.entries] == [None, None]
    with Journal(path, old, resume="retry") as journal:
        assert [entry.get("retry") for entry in journal.entries] == [None, True]
    with Journal(path, old) as journal:  # still to do
        assert [entry.get("retry") for entry in journal.entries] == [None, True]
    for resume in (True, "retry"):
        with (
            pytest.raises(ValueError, match="seed is 0 there and 1 here"),
            Journal(path, old | {"seed": 1}, resume=resume),
        ):
            pass


def test_a_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    """As an editor may leave it: it is whole, and cost an evaluation."""
    path = tmp_path / "trace"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with Journal(path, TOLD) as journal:
        assert journal.entries == ENTRIES
        journal.add(ENTRIES[0])
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[1]


def test_a_first_line_that_is_torn_is_begun_again(tmp_path: Path) -> None:
    """After any of its bytes."""
    path = tmp_path / "trace"
    fill(path)
    first = path.read_bytes().splitlines()[0]
    for n in range(len(first)):
        path.write_bytes(first[:n])
        with Journal(path, TOLD):
            pass
        assert path.read_bytes() == first + b"\n"


def test_one_search_at_a_time(tmp_path: Path) -> None:
    """The second is refused, and the first goes on; the lock's file is gone afterwards."""
    path = tmp_path / "trace"
    with Journal(path, TOLD) as journal:
        for resume in (True, False):
            with pytest.raises(FolderInUse, match="another search is at work on"), Journal(path, TOLD, resume=resume):
                pass
        journal.add(ENTRIES[0])
    with Journal(path, TOLD) as journal:
        assert journal.entries == ENTRIES[:1]
    assert list(tmp_path.iterdir()) == [path]


def test_the_home_folder_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~ is expanded; a folder is no file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(Path("~/deep/trace"))
    assert (tmp_path / "deep" / "trace").is_file()
    with pytest.raises(ValueError, match="deep is no file"), Journal(tmp_path / "deep", TOLD):
        pass


def broken(_: int) -> float:
    raise NameError("nothing has this name")


@pytest.mark.parametrize(("error", "stops"), [(NameError, True), (ValueError, True), (MemoryError, False)])
def test_the_same_fault_from_the_start_stops_a_search(error: type[Exception], stops: bool) -> None:
    """At the third evaluation, not before and not after; not where memory is exhausted, or one has succeeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for failures in (["A: x"] * 2, ["A: x"] * 4, ["", "A: x", "A: x"], ["A: x", "B: x", "A: x"]):
            report("it", failures, error=error("x"))
        report("it", ["its value is nan"] * 3, error=None)
        if stops:
            with pytest.raises(RuntimeError, match=r"the first 3 .* all failed by A; it failed: A: y. Mend it"):
                report("it", ["A: x", "A: x", "A: y"], error=error("y"))
        else:
            report("it", ["A: x"] * 3, error=error("x"))


def test_failures_are_told_whatever_filters_warnings_have(caplog: pytest.LogCaptureFixture) -> None:
    """By a log where a warning would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report("it", ["A: x"], error=None)
    assert "it failed: A: x" in caplog.text
    with pytest.warns(UserWarning, match="it failed: A: x"):
        report("it", ["A: x"], error=None)


def test_another_run_in_the_folder_is_no_failure() -> None:
    """It ends the search, which can be started again."""

    def busy(_: int) -> float:
        raise FolderInUse("busy")

    with pytest.raises(FolderInUse):
        attempt(busy, 1)
    value, failure, error = attempt(broken, 1)
    assert math.isnan(value)
    assert (failure, type(error)) == ("NameError: nothing has this name", NameError)


def test_without_a_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor read."""
    monkeypatch.chdir(tmp_path)
    fill(None)
    with Journal(None, TOLD) as journal:
        assert journal.entries == []
    assert list(tmp_path.iterdir()) == []
