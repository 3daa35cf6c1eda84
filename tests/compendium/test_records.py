"""Records: made once, found by settings, code and data, whole after a kill, and open about the code that made them."""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from naaplib import cache, sources
from naaplib.cache import Piece
from naaplib.compendium import make_records, provenance, record_index, records, results, run

STUDY = "accuracy_table"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders in place of the project's, and code that is committed and known."""
    monkeypatch.setattr(record_index, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(record_index, "SCRATCH", tmp_path / "build")
    monkeypatch.setattr(record_index, "commit", lambda: "0123456789ab")
    monkeypatch.setattr(record_index, "code_of", lambda module: {"naaplib/one.py": "1", "naaplib/two.py": "2"})
    monkeypatch.delenv("NAAPLIB_RECORDS", raising=False)
    return tmp_path


class Counted:
    """Work that counts how often it is done."""

    def __init__(self, value: float = 0.1 + 0.2) -> None:
        self.value, self.n = value, 0

    def __call__(self) -> pd.DataFrame:
        self.n += 1
        return pd.DataFrame({"x": [self.value, None], "name": ["a", "b"]})


def index() -> dict:
    """The published index."""
    return json.loads((record_index.RECORDS / "accuracy-table" / "index.json").read_text())


def test_a_record_is_made_once_and_read_exactly(tmp_path: Path) -> None:
    """A second `make` finds it; the notebook reads the same bits, and lists table and index among its inputs."""
    work = Counted()
    piece = Piece("90 epochs/Seed 1", {"seed": 1}, work, [sources.ROOT / "LICENSE"])
    lines: list[str] = []
    for _ in range(2):
        make_records.make(STUDY, [piece], to=record_index.RECORDS, say=lines.append)
    assert work.n == 1
    assert [line.split(": ")[1].split()[0] for line in lines] == ["making", "done", "there"]
    assert records.read(STUDY, [piece])["90 epochs/Seed 1"]["x"].tolist()[0] == 0.1 + 0.2
    table = tmp_path / "records" / "accuracy-table" / "90-epochs" / "seed-1.csv"
    assert records.paths(STUDY, [piece]) == [table, tmp_path / "records" / "accuracy-table" / "index.json"]
    entry = index()["records"]["90-epochs/seed-1.csv"]
    assert entry["settings"] == {"seed": 1}
    assert entry["reads"] == {"LICENSE": sources.sha256(sources.ROOT / "LICENSE")}
    assert entry["sha256"] == sources.sha256(table)
    assert entry["commit"] == "0123456789ab"
    assert index()["code"][entry["code"]] == {"naaplib/one.py": "1", "naaplib/two.py": "2"}


def test_other_settings_are_made_into_the_build_folder(tmp_path: Path) -> None:
    """A trial's piece never becomes a published record, is made once, and is not taken once its code has changed."""
    published, trial = Counted(1.0), Counted(2.0)
    make_records.make(STUDY, [Piece("seed", {"n": 90}, published)], to=record_index.RECORDS, say=lambda line: None)
    before = index()
    for _ in range(2):
        assert records.read(STUDY, [Piece("seed", {"n": 3}, trial)])["seed"]["x"][0] == 2.0
    assert (published.n, trial.n) == (1, 1)
    assert index() == before
    assert records.paths(STUDY, [Piece("seed", {"n": 3}, trial)])[0].is_relative_to(tmp_path / "build")


def test_a_piece_of_other_code_is_never_taken_from_the_build_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """There code is part of the key; a published record of other code is taken, and it is said."""
    trial, published = Counted(), Counted()
    records.read(STUDY, [Piece("trial", {}, trial)])
    make_records.make(STUDY, [Piece("seed", {}, published)], to=record_index.RECORDS, say=lambda line: None)
    assert make_records.remarks(STUDY, record_index.RECORDS) == []
    monkeypatch.setattr(record_index, "code_of", lambda module: {"naaplib/one.py": "1", "naaplib/two.py": "3"})
    records.read(STUDY, [Piece("trial", {}, trial), Piece("seed", {}, published)])
    assert (trial.n, published.n) == (2, 1)
    assert make_records.remarks(STUDY, record_index.RECORDS) == [
        "1 record was made by other code: 1 module differs: two.py"
    ]
    lines: list[str] = []
    make_records.make(STUDY, [Piece("seed", {}, published)], to=record_index.RECORDS, say=lines.append)
    assert lines == ["accuracy-table, 1 of 1, seed: there (made by other code: 1 module differs: two.py)"]
    make_records.make(STUDY, [Piece("seed", {}, published)], to=record_index.RECORDS, again=["seed"], say=lines.append)
    assert published.n == 2
    assert make_records.remarks(STUDY, record_index.RECORDS) == []


def test_changed_data_asks_for_another_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record was made from the bytes that its entry names."""
    data = tmp_path / "data" / "images.npz"
    data.parent.mkdir()
    data.write_text("one")
    monkeypatch.setenv("NAAPLIB_DATA", str(data.parent))
    work = Counted()
    piece = Piece("seed", {}, work, lambda: [data])
    records.read(STUDY, [piece])
    records.read(STUDY, [piece])
    assert work.n == 1
    data.write_text("other")
    records.read(STUDY, [piece])
    assert work.n == 2


def test_a_published_record_is_made_again_from_changed_data(tmp_path: Path) -> None:
    """The new one takes the old one's place, with its own inputs."""
    path, work = tmp_path / "input.csv", Counted()
    for text in ("1", "2"):
        path.write_text(text)
        make_records.make(STUDY, [Piece("seed", {}, work, [path])], to=record_index.RECORDS, say=lambda line: None)
        assert list(index()["records"]) == ["seed.csv"]
        assert list(index()["records"]["seed.csv"]["reads"].values()) == [sources.sha256(path)]
    assert work.n == 2


def test_a_record_of_other_files_is_another_one() -> None:
    """Equal settings do not make a record of one file one of another."""
    works = [Counted(1.0), Counted(2.0)]
    pieces = [
        Piece("seed", {}, work, [sources.ROOT / name])
        for work, name in zip(works, ("LICENSE", "README.md"), strict=True)
    ]
    make_records.make(STUDY, pieces[:1], say=lambda line: None)
    assert [records.read(STUDY, [piece])["seed"]["x"][0] for piece in pieces] == [1.0, 2.0]


def test_a_machine_without_the_data_reads_records() -> None:
    """The files need not be there once the record is."""

    def absent() -> list[Path]:
        raise sources.MissingData("not here")

    work = Counted()
    make_records.make(STUDY, [Piece("seed", {}, work)], say=lambda line: None)
    assert len(records.read(STUDY, [Piece("seed", {}, work, absent)])["seed"]) == 2
    assert work.n == 1


def test_a_published_run_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops with the line that makes the missing record."""
    monkeypatch.setenv("NAAPLIB_RECORDS", "published")
    work = Counted()
    with pytest.raises(records.MissingRecord, match="`make records-accuracy-table` makes what is missing"):
        records.read(STUDY, [Piece("seed", {}, work)])
    assert work.n == 0


def test_an_edited_record_is_refused() -> None:
    """The index holds its checksum."""
    piece = Piece("seed", {}, Counted())
    make_records.make(STUDY, [piece], to=record_index.RECORDS, say=lambda line: None)
    path = records.paths(STUDY, [piece])[0]
    path.write_text(path.read_text().replace("a", "c"))
    with pytest.raises(sources.WrongData, match=r"seed\.csv is not what index\.json says"):
        records.read(STUDY, [piece])


def test_a_stopped_piece_resumes_from_its_scratch_folder() -> None:
    """What it left there is found by the next attempt, and removed once the piece is done; earlier pieces are there."""
    seen: list[Path] = []

    def work() -> pd.DataFrame:
        seen.append(folder := cache.scratch())
        if not folder.exists():
            folder.mkdir(parents=True)
            raise KeyboardInterrupt
        return pd.DataFrame({"x": [1]})

    pieces = [Piece("first", {}, Counted()), Piece("second", {}, work)]
    with pytest.raises(KeyboardInterrupt):
        make_records.make(STUDY, pieces, to=record_index.RECORDS, say=lambda line: None)
    assert list(index()["records"]) == ["first.csv"]
    make_records.make(STUDY, pieces, to=record_index.RECORDS, say=lambda line: None)
    assert seen[0] == seen[1]
    assert not seen[0].exists()
    assert list(index()["records"]) == ["first.csv", "second.csv"]


def test_records_that_share_work_do_it_once() -> None:
    """The second finds what the first left; it is removed when all are done."""
    seen: list[tuple[Path, bool]] = []

    def work() -> pd.DataFrame:
        seen.append((folder := cache.scratch(), folder.exists()))
        folder.mkdir(parents=True, exist_ok=True)
        return pd.DataFrame({"x": [1]})

    pieces = [Piece(name, {"n": 1}, work, shares="training") for name in ("first", "second")]
    make_records.make(STUDY, pieces, say=lambda line: None)
    assert [there for _, there in seen] == [False, True]
    assert len({folder for folder, _ in seen}) == 1
    assert not seen[0][0].exists()


def test_a_record_is_made_from_others() -> None:
    """It gets their tables as they are read, and is another one when they change."""
    first, n = Counted(2.0), []

    def double(table: pd.DataFrame) -> pd.DataFrame:
        n.append(1)
        return table[["x"]] * 2

    needed = Piece("first", {}, first)
    piece = Piece("second", {}, double, needs=[needed])
    make_records.make(STUDY, [piece, needed], say=lambda line: None)
    assert records.read(STUDY, [piece])["second"]["x"][0] == 4.0
    assert (first.n, len(n)) == (1, 1)
    assert "records/accuracy-table/first.csv" in next(iter(index()["records"]["second.csv"]["reads"]))
    first.value = 3.0
    make_records.make(STUDY, [needed], again=["first"], say=lambda line: None)
    assert records.read(STUDY, [piece])["second"]["x"][0] == 6.0


def test_texts_stay_texts() -> None:
    """Digits with leading zeros, and empty ones; a missing number stays missing."""
    table = pd.DataFrame({"right": ["0011", "", "NA"], "x": [1.5, None, 2.0], "is_new": [True, False, True]})
    piece = Piece("table", {}, lambda: table)
    for _ in range(2):
        pd.testing.assert_frame_equal(records.read(STUDY, [piece])["table"], table)


def make_slowly(number: int, folder: Path) -> None:
    """A process of its own: four pieces, each of which says that it was made."""

    def work(i: int) -> Callable[[], pd.DataFrame]:
        def one() -> pd.DataFrame:
            (folder / f"made-{i}-by-{number}").touch()
            time.sleep(0.05)
            return pd.DataFrame({"x": [i]})

        return one

    make_records.make(
        STUDY, [Piece(f"piece {i}", {}, work(i)) for i in range(4)], to=record_index.RECORDS, say=lambda line: None
    )


def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    """Each piece is made by one of them, and all are in the index."""
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=make_slowly, args=(number, tmp_path)) for number in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(path.name[:6] for path in tmp_path.glob("made-*")) == [f"made-{i}" for i in range(4)]
    assert len(index()["records"]) == 4


def test_names_of_pieces_are_kept_apart() -> None:
    """The same name with other settings gets a file of its own, and each is found by its settings."""
    pieces = [Piece("seed", {"n": n}, Counted(n)) for n in (1.0, 2.0)]
    make_records.make(STUDY, pieces, to=record_index.RECORDS, say=lambda line: None)
    assert len(index()["records"]) == 2
    assert [records.read(STUDY, [piece])["seed"]["x"][0] for piece in pieces] == [1.0, 2.0]


def test_records_of_other_settings_are_removed_and_named() -> None:
    """What a chapter does not ask for goes, file, entry and code; what it needs, or another device made, stays."""
    needed = Piece("needed", {"n": 1}, Counted())
    second = Piece("second", {"of": {"n": 1, "device": "cpu"}}, lambda table: table, needs=[needed])
    old = [Piece(name, {"n": n}, Counted()) for name, n in (("needed", 2), ("gone", 1))]
    make_records.make(STUDY, [second, needed, *old], say=lambda line: None)
    lines: list[str] = []
    asked = Piece("second", {"of": {"n": 1, "device": "cuda"}}, lambda table: table, needs=[needed])
    make_records.tidy(STUDY, [asked], say=lines.append)
    assert len(lines) == 2
    assert lines[0] == "accuracy-table, gone.csv: removed, because the chapter asks for other settings"
    assert [entry["name"] for entry in index()["records"].values()] == ["needed", "second"]
    folder = record_index.RECORDS / "accuracy-table"
    assert {path.name for path in folder.glob("*.csv")} == set(index()["records"])
    make_records.tidy(STUDY, [], say=lines.append)
    assert index() == {"records": {}, "code": {}}


@pytest.mark.parametrize(("arguments", "is_tidied"), [([], True), (["--only", "a"], False), (["-p", "k", "3"], False)])
def test_only_a_whole_run_removes_records(
    arguments: list[str], is_tidied: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one of some records, nor one with other parameters."""
    make_records.make("scale", [Piece("old", {}, Counted())], say=lambda line: None)
    monkeypatch.setattr(make_records, "planned", lambda study, overrides: [Piece("a", {}, Counted())])
    monkeypatch.setattr(sys, "argv", ["make_records", "scale", *arguments])
    assert make_records.main() == 0
    assert ("scale, old.csv: removed" in capsys.readouterr().out) == is_tidied
    left = record_index.read_index(record_index.RECORDS / "scale")["records"]
    assert set(left) == {"a.csv"} | (set() if is_tidied else {"old.csv"})


def test_a_record_of_unknown_seconds_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that another run made meanwhile may be."""
    monkeypatch.setattr(record_index, "make", lambda *args, **others: (Path(), {"seconds": None}))
    lines: list[str] = []
    make_records.make(STUDY, [Piece("seed", {}, Counted())], say=lines.append)
    assert lines[-1] == "accuracy-table, 1 of 1, seed: done"


def test_an_unknown_study_is_told_the_known_ones() -> None:
    """As for notebooks."""
    with pytest.raises(run.RunError, match="there is no study 'nonsense' with records"):
        make_records.stem_of("nonsense")


def test_records_of_a_notebook_are_inputs_that_make_it_stale(tmp_path: Path) -> None:
    """Their files have labels like any other input."""
    assert results.label(sources.ROOT / "results" / "records" / "accuracy-table" / "index.json") == (
        "results/records/accuracy-table/index.json"
    )


def test_code_of_a_study_leaves_comments_out() -> None:
    """As provenance does; the module that makes the records is among it."""
    found = provenance.module_hashes("import naaplib.studies.accuracy_table.records")
    assert "naaplib/studies/accuracy_table/records.py" in found
    assert "naaplib/training/trainer.py" in found
    assert "naaplib/compendium/run.py" not in found
