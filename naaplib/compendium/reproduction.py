"""Run everything again in an empty folder, and compare with what is published."""

from __future__ import annotations

import os
from pathlib import Path

from naaplib.cache import digest
from naaplib.compendium import execution, make_records, provenance, record_index, run
from naaplib.compendium.results import compare
from naaplib.sources import ROOT

FRESH = ROOT / "build" / "reproduce"
Row = tuple[str, str, str]  # table, verdict, where it differs most


def reproduce(*, is_fast: bool, fresh: Path = FRESH) -> bool:
    """Make records and run every notebook again, and report on each table.

    Parameters
    ----------
    is_fast : bool
        True takes the published records as they are.
    fresh : Path
        Folder of re-made records and results. Records that are there were made by an earlier, stopped run: they count
        if they are of the same code.

    Returns
    -------
    bool
        True if every notebook ran and no table is different.
    """
    print(forecast(is_fast=is_fast), flush=True)
    rows: list[Row] = []
    if not is_fast:
        for study in make_records.with_records():
            rows += remake(study, fresh / "records")
    before = os.environ.pop("NAAPLIB_RECORDS", None)
    os.environ["NAAPLIB_RECORDS"] = "published" if is_fast else str((fresh / "records").absolute())
    try:
        for stem in run.stems():
            try:
                run.run(stem, {}, to=fresh, force=True)
            except execution.FAILURES as error:
                rows.append((stem, "failed", str(error).splitlines()[0]))
            else:
                rows += compare_chapter(stem, fresh)
    finally:
        del os.environ["NAAPLIB_RECORDS"]
        if before is not None:
            os.environ["NAAPLIB_RECORDS"] = before
    width = max((len(name) for name, _, _ in rows), default=0)
    kind = "records as they are" if is_fast else "records made anew"
    lines = [f"{name:{width}}  {verdict:16}  {where}".rstrip() for name, verdict, where in rows]
    report = "\n".join([f"Every chapter run again, {kind}.", "", *lines])
    fresh.mkdir(parents=True, exist_ok=True)
    (fresh / "report.txt").write_text(report + "\n", encoding="utf-8")
    print(f"\n{report}\n\nThe re-made results and this report lie in {run.shown(fresh)}/")
    return all(verdict in ("identical", "within tolerance", "made anew") for _, verdict, _ in rows)


def forecast(*, is_fast: bool) -> str:
    """Return a sentence on how long `reproduce` takes, from recorded seconds."""
    chapters = [provenance.read(run.RESULTS / stem) for stem in run.stems()]
    of_chapters = sum(found["run"]["seconds"] for found in chapters if found)
    if is_fast:
        return f"Chapters took {_hours(of_chapters)}; records are taken as they are."
    known, n_unknown = 0.0, 0
    for study in make_records.with_records():
        for entry in record_index.read_index(record_index.RECORDS / study)["records"].values():
            known += entry["seconds"] or 0.0
            n_unknown += entry["seconds"] is None
    more = f", and {n_unknown} more records took a time that is not known" if n_unknown else ""
    return (
        f"Records took {_hours(known)} on the machines that made them{more}; chapters took {_hours(of_chapters)}. "
        f"A stopped run resumes. `make reproduce FAST=1` takes the records as they are."
    )


def remake(study: str, to: Path) -> list[Row]:
    """Make a study's records into a folder, and compare them with the published."""
    pieces = make_records.planned(study)
    folder = to / study
    code = [digest(record_index.code_of(piece.code or record_index.module_name(study))) for piece in pieces]
    there = record_index.read_index(folder)["records"].values()
    codes = {entry["name"]: entry["code"] for entry in there}
    stale = [p.name for p, own in zip(pieces, code, strict=True) if codes.get(p.name, own[:16]) != own[:16]]
    make_records.make(study, pieces, to=to, again=stale)
    rows = []
    for name in record_index.read_index(folder)["records"]:
        published = record_index.RECORDS / study / name
        label = f"records/{study}/{name}"
        if not published.is_file():
            rows.append((label, "made anew", "not among the published records"))
            continue
        verdict, where = compare(published, folder / name, tolerance=None)
        # The chapters' tables, which have tolerances, decide whether a difference matters.
        rows.append((label, "identical" if verdict == "identical" else "made anew", where))
    return rows


def compare_chapter(stem: str, fresh: Path) -> list[Row]:
    """Compare the re-made tables of a chapter with the published ones."""
    tolerances = (provenance.read(run.RESULTS / stem) or {}).get("tolerances", {})
    rows = []
    for name in sorted({path.name for folder in (run.RESULTS, fresh) for path in (folder / stem).glob("*.csv")}):
        published = run.RESULTS / stem / name
        new = "different", "not among the published results"
        found = compare(published, fresh / stem / name, tolerance=tolerances.get(name)) if published.is_file() else new
        rows.append((f"{stem}/{name}", *found))
    return rows


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
