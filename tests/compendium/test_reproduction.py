"""Reproduction: it can fail, in every chapter, and says beforehand how long it takes."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from naaplib.cache import Piece
from naaplib.compendium import make_records, provenance, record_index, reproduction, run

STEMS = run.stems()


def broken(text: str, allowed: float) -> str:
    """A number that is further away than is allowed."""
    return repr(float(text) + 2 * allowed + 1)


@pytest.mark.parametrize("stem", STEMS)
def test_a_broken_number_in_each_chapter_is_reported(stem: str, tmp_path: Path) -> None:
    """In every table that has a compared number, one that moves by more than is allowed makes the report fail."""
    tolerances = (provenance.read(run.RESULTS / stem) or {})["tolerances"]
    shutil.copytree(run.RESULTS / stem, tmp_path / stem)
    verdicts = {name: verdict for name, verdict, _ in reproduction.compare_chapter(stem, tmp_path)}
    assert set(verdicts.values()) == {"identical"}
    n_broken = 0
    for path in sorted((tmp_path / stem).glob("*.csv")):
        table, allowed = pd.read_csv(path, dtype=str, keep_default_na=False), tolerances.get(path.name, {})
        numbers = [
            name
            for name in table
            if allowed.get(name, 0.0) is not None and pd.to_numeric(table[name], errors="coerce").notna().any()
        ]
        if not numbers:
            continue
        name = numbers[-1]
        row = pd.to_numeric(table[name], errors="coerce").first_valid_index()
        table.loc[row, name] = broken(str(table.loc[row, name]), allowed.get(name) or 0.0)
        table.to_csv(path, index=False, lineterminator="\n")
        found = {label: verdict for label, verdict, _ in reproduction.compare_chapter(stem, tmp_path)}
        assert found[f"{stem}/{path.name}"] == "different"
        n_broken += 1
    assert n_broken > 0


def test_tolerances_are_finite_or_of_columns_that_follow() -> None:
    """A column that is not compared is one of seconds, of memory, of texts, or follows from others."""
    for stem in STEMS:
        for table, columns in (provenance.read(run.RESULTS / stem) or {})["tolerances"].items():
            compared = [name for name, allowed in columns.items() if allowed is not None]
            assert all(pd.notna(columns[name]) and columns[name] < 1e9 for name in compared), (stem, table)


@pytest.fixture
def one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """A study with two records, one of which was published with another number."""
    monkeypatch.setattr(record_index, "RECORDS", tmp_path / "published")
    monkeypatch.setattr(record_index, "SCRATCH", tmp_path / "build")
    monkeypatch.setattr(record_index, "commit", lambda: "0123456789ab")
    monkeypatch.setattr(record_index, "code_of", lambda module: {"one.py": "1"})
    old = [Piece(name, {}, lambda: pd.DataFrame({"x": [1.0]})) for name in ("same", "moved")]
    make_records.make("scale", old, say=lambda line: None)
    pieces = [old[0], Piece("moved", {}, lambda: pd.DataFrame({"x": [1.5]}))]
    monkeypatch.setattr(make_records, "planned", lambda study: pieces)
    monkeypatch.setattr(make_records, "with_records", lambda: ["scale"])
    return pieces


def test_records_are_made_again_and_compared(one_study: list[Piece], tmp_path: Path) -> None:
    """In an empty folder, each once; the report says where one moved."""
    rows = reproduction.remake("scale", tmp_path / "again")
    assert [row[:2] for row in rows] == [
        ("records/scale/moved.csv", "made anew"), ("records/scale/same.csv", "identical")
    ]  # fmt: skip
    assert "1.0 became 1.5" in rows[0][2]
    path = tmp_path / "again" / "scale" / "same.csv"
    before = path.stat().st_mtime_ns
    reproduction.remake("scale", tmp_path / "again")
    assert path.stat().st_mtime_ns == before


def test_a_resumed_reproduction_takes_no_records_of_other_code(
    one_study: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made anew."""
    reproduction.remake("scale", tmp_path / "again")
    path = tmp_path / "again" / "scale" / "same.csv"
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(record_index, "code_of", lambda module: {"one.py": "2"})
    reproduction.remake("scale", tmp_path / "again")
    assert path.stat().st_mtime_ns != before


def test_how_long_it_takes_is_said_beforehand(one_study: list[Piece]) -> None:
    """From the seconds on record, and how many are not."""
    index = record_index.read_index(record_index.RECORDS / "scale")
    for name, seconds in (("same.csv", 7200.0), ("moved.csv", None)):
        record_index._enter(record_index.RECORDS / "scale", name, index["records"][name] | {"seconds": seconds}, None)
    text = reproduction.forecast(is_fast=False)
    assert text.startswith("Records took 2.0 hours on the machines that made them, and 1 more records took a time that")
    assert "records are taken as they are" in reproduction.forecast(is_fast=True)
