"""The book on another NAAP-440 table, beside the published one.

``python -m naaplib.compendium.editions SOURCE`` is the command behind ``make book SOURCE=...``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import yaml

from naaplib.cache import write_text
from naaplib.compendium import claims, make_records, provenance, record_index, run
from naaplib.compendium.chapter_form import duration
from naaplib.compendium.execution import RunError, command
from naaplib.sources import ROOT, sha256
from naaplib.tables import naap440

FOLDER = ROOT / "build" / "editions"
MAKER = "03-accuracy-table"  # trains the regenerated table: it compares with the published one in every edition
PUBLISHED = "naap440/naap440.csv"
BOTH = "both-tables.csv"  # the studies' numbers, ours on the published table, and ours on the edition's
LINKED = ("CITATION.cff", "LICENSE", "README.md", "naaplib", "notebooks")  # what pages of the book read outside it


def chapters() -> list[str]:
    """Return the stems of the chapters that read the table named by `source`."""
    return [
        stem for stem in run.stems()
        if stem != MAKER and "source" in run.default_parameters(run.read_notebook(stem))
    ]  # fmt: skip


def find(source: str) -> Path:
    """Return the checked table that `source` names, by `naaplib.tables.naap440.find`.

    RunError says what is wrong with it.
    """
    try:
        path = naap440.find(source if source.isalpha() else Path(source).expanduser().absolute())
        naap440.read(path)
    except ValueError as error:
        raise RunError(str(error)) from None
    return path


def run_chapters(
    source: str, stems: Sequence[str] = (), *, overrides: Mapping[str, str] | None = None, to: Path | None = None
) -> Path:
    """Run chapters on a table into a folder of their own; skip those that are current.

    Parameters
    ----------
    source : str
        "regenerated", the path of a CSV file in the published schema, or a folder of a trial that holds one.
    stems : sequence of str
        Chapters; all that read the table if empty.
    overrides : mapping from name to text
        Other parameters, for the chapters that have them.
    to : Path
        Folder of editions; an edition is named after its table's file and checksum.

    Returns
    -------
    Path
        Folder of the edition: ``results/``, ``book/`` with the executed copies, and `BOTH`. Chapters that were not run
        are the published ones.
    """
    path = find(source)
    asked = list(stems) or chapters()
    if unknown := sorted(set(asked) - set(chapters())):
        raise RunError(f"no edition has {', '.join(unknown)}; these read the table: {', '.join(chapters())}")
    edition = (to or FOLDER) / f"{path.parent.name}-{path.stem}-{sha256(path)[:8]}"
    print(forecast(asked), flush=True)
    table = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    prepare(edition, {*asked, *_there(edition, table)}, table=table)
    for stem in asked:
        notebook = run.read_notebook(stem)
        defaults = run.default_parameters(notebook)
        given = {name: text for name, text in (overrides or {}).items() if name in defaults}
        parameters = defaults | run.check_parameters(notebook, stem, texts=given)
        parameters["source"] = table
        folder, copy = edition / "results" / stem, edition / "book" / "executed" / f"{stem}.ipynb"
        if reason := provenance.out_of_date(notebook, parameters, folder=folder):
            print(f"{stem}: running on {table} ({reason})", flush=True)
            run.publish(stem, parameters, folder=folder, copy=copy, scratch=edition / f".{stem}-{os.getpid()}")
        else:
            print(f"{stem}: current")
    both = claims.beside(edition / "results", _there(edition, table))
    write_text(edition / BOTH, both.to_csv(index=False, lineterminator="\n"))
    print(f"The studies' numbers on both tables: {run.shown(edition / BOTH)}")
    return edition


def forecast(stems: Sequence[str]) -> str:
    """Return a sentence on how long records of another table take to make.

    The seconds are those of published records that read the table.
    """
    total = 0.0
    for study in set(make_records.with_records()) & {stem.split("-", 1)[1] for stem in stems}:
        entries = record_index.read_index(record_index.RECORDS / study)["records"].values()
        total += sum(entry["seconds"] or 0.0 for entry in entries if f"data/{PUBLISHED}" in entry["reads"])
    return (
        f"Records that depend on the table took {duration(total)} for the published one; those that this table lacks "
        f"are made into build/records/. A stopped run resumes."
    )


def _there(edition: Path, table: str) -> list[str]:
    """Return the chapters that earlier runs brought into an edition."""
    found = {stem: provenance.read(edition / "results" / stem) for stem in chapters()}
    return [stem for stem, one in found.items() if one and one["parameters"]["source"] == table]


def prepare(edition: Path, stems: Set[str], *, table: str) -> None:
    """Copy the book, and the published results of all chapters but `stems`.

    Every page says which chapters are on which table.
    """
    for folder in run.RESULTS.iterdir():
        if folder.is_dir() and folder.name not in stems:
            shutil.copytree(folder, edition / "results" / folder.name, dirs_exist_ok=True)
    copies = {f"{stem}.ipynb" for stem in stems}

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {"_build"} | (copies if Path(folder) == run.EXECUTED else set())

    shutil.copytree(run.EXECUTED.parent, edition / "book", ignore=left_out, dirs_exist_ok=True)
    for name in LINKED:
        if not (edition / name).exists():
            (edition / name).symlink_to(ROOT / name)
    config = yaml.safe_load((edition / "book" / "_config.yml").read_text(encoding="utf-8"))
    numbers = ", ".join(sorted(stem[:2] for stem in stems))
    config["title"] = f"{config['title']}, on {Path(table).name}"
    config["sphinx"]["config"]["html_theme_options"]["announcement"] = (
        f"Tables, figures and answers of chapters {numbers} are on the table {table}. Sentences and all other "
        f"chapters are those of the published table."
    )
    (edition / "book" / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")


def build(edition: Path) -> None:
    """Build the pages of an edition.

    Warnings do not stop it: a text may name a table that only the published results have.
    """
    program = str(Path(sys.executable).with_name("jupyter-book"))
    done = subprocess.run([program, "build", str(edition / "book"), "-q", "--keep-going"], check=False)
    if done.returncode:
        raise RunError(f"jupyter-book could not build {run.shown(edition / 'book')}; its messages are above")
    print(f"The book: {run.shown(edition / 'book' / '_build' / 'html' / 'intro.html')}")


def main() -> int:
    """Run the command line ``python -m naaplib.compendium.editions SOURCE ...``."""
    parser = argparse.ArgumentParser(prog="python -m naaplib.compendium.editions", description=__doc__)
    parser.add_argument("source", help="regenerated, a CSV file in the published schema, or a folder of a trial")
    parser.add_argument("stems", nargs="*", help="chapters; all that read the table if none is named")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="other parameters")
    parser.add_argument("--no-pages", action="store_true", help="run chapters, and build no pages")
    args = parser.parse_args()

    def work() -> None:
        edition = run_chapters(args.source, args.stems, overrides=dict(args.p))
        if not args.no_pages:
            build(edition)

    return command("naaplib.compendium.editions", work)


if __name__ == "__main__":
    sys.exit(main())
