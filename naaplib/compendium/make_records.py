"""Make the records of a study, and say which were made by other code.

``python -m naaplib.compendium.make_records STUDY`` is the command behind ``make records-<study>``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from naaplib.cache import Piece
from naaplib.compendium import record_index
from naaplib.compendium.execution import command
from naaplib.compendium.record_index import module_name, plain
from naaplib.sources import ROOT


def make(
    study: str, pieces: Sequence[Piece], *, to: Path | None = None, again: Sequence[str] = (), say: Callable = print
) -> None:
    """Make the records that a folder lacks, one after the other.

    Parameters
    ----------
    study : str
    pieces : sequence of Piece
    to : Path
        Folder of all records; a study has a folder in it.
    again : sequence of str
        Names of records to make anew.
    say : callable
        Takes lines for the user.
    """
    folder = (to or record_index.RECORDS) / plain(study)
    for number, piece in enumerate(pieces, start=1):
        needed = [_needed(study, folder, other) for other in piece.needs]
        found = record_index.find(folder, piece, needed=needed)
        what = f"{plain(study)}, {number} of {len(pieces)}, {piece.name}"
        if found and piece.name not in again:
            changed = differences(study, folder, entry=found[1])
            say(f"{what}: there" + (f" ({changed})" if changed else ""))
            continue
        say(f"{what}: making")
        is_again = piece.name in again
        _, entry = record_index.make(study, folder, piece=piece, is_published=True, again=is_again, needed=needed)
        say(f"{what}: done" + ("" if entry["seconds"] is None else f" in {entry['seconds']:.0f} s"))
    for piece in pieces:
        if piece.shares:  # all of those that share it are done
            shutil.rmtree(record_index.unfinished(study, piece), ignore_errors=True)


def tidy(study: str, pieces: Sequence[Piece], *, to: Path | None = None, say: Callable = print) -> None:
    """Remove the records of a study that are not among these, nor needed by them.

    A record that differs by its device alone stays: another machine asks for it.

    Parameters
    ----------
    study, to, say
        As for `make`.
    pieces : sequence of Piece
        All that the study's chapter asks for.
    """
    folder = (to or record_index.RECORDS) / plain(study)
    wanted, waiting = [], list(pieces)
    while waiting:
        piece = waiting.pop()
        wanted.append((piece.name, _without_device(record_index.settings_of(piece))))
        waiting += piece.needs
    records = record_index.read_index(folder)["records"].items()
    kept = [name for name, one in records if (one["name"], _without_device(one["settings"])) in wanted]
    for name in record_index.keep(folder, kept):
        say(f"{plain(study)}, {name}: removed, because the chapter asks for other settings")


def _without_device(value: Any) -> Any:
    """Return settings without the device, at any depth."""
    if isinstance(value, dict):
        return {name: _without_device(part) for name, part in value.items() if name != "device"}
    return value


def _needed(study: str, folder: Path, piece: Piece) -> record_index.Found:
    """Return a record that another one is made from; make it if it is missing."""
    needed = [_needed(study, folder, other) for other in piece.needs]
    found = record_index.find(folder, piece, needed=needed)
    return found or record_index.make(study, folder, piece=piece, is_published=True, needed=needed)


def remarks(study: str, to: Path | None = None) -> list[str]:
    """Return sentences about records whose code is not the code of today, grouped.

    None if there are no records, or all were made by today's code.
    """
    folder = (to or record_index.RECORDS) / plain(study)
    groups: dict[str, list[str]] = {}
    for entry in record_index.read_index(folder)["records"].values():
        if changed := differences(study, folder, entry=entry):
            groups.setdefault(changed, []).append(entry["name"])
    return [
        f"{len(names)} {'record was' if len(names) == 1 else 'records were'} {changed}"
        for changed, names in sorted(groups.items())
    ]


def seconds(study: str, to: Path | None = None) -> float:
    """Return the seconds that making all records of a study took, as far as known."""
    return sum(
        entry["seconds"] or 0
        for entry in record_index.read_index((to or record_index.RECORDS) / plain(study))["records"].values()
    )


def differences(study: str, folder: Path, *, entry: Mapping[str, Any]) -> str:
    """Say by how much a record's code differs from today's; "" if it does not."""
    if entry["code"] is None:
        return f"made before indexes named the code ({entry['note']})"
    theirs, ours = record_index.read_index(folder)["code"][entry["code"]], record_index.code_of(entry["module"])
    named = (theirs | ours).keys() - {record_index.DESCRIPTION}
    changed = sorted(name for name in named if theirs.get(name) != ours.get(name))
    if not changed:
        return ""
    names = ", ".join(name.removeprefix("naaplib/") for name in changed[:4]) + (", ..." if len(changed) > 4 else "")
    return f"made by other code: {len(changed)} {'module differs' if len(changed) == 1 else 'modules differ'}: {names}"


def planned(study: str, overrides: Mapping[str, str] | None = None) -> list[Piece]:
    """Return the records of a study with its notebook's parameters, or others."""
    from naaplib.compendium import run

    stem = stem_of(study)
    notebook = run.read_notebook(stem)
    defaults, given = run.default_parameters(notebook), run.check_parameters(notebook, stem, texts=overrides or {})
    module = importlib.import_module(module_name(study))
    parts = {part: inspect.signature(part).parameters for part in getattr(module, "PARTS", [module.pieces])}
    wanted = dict.fromkeys(name for own in parts.values() for name in own)
    if unknown := sorted(set(given) - set(wanted)):
        raise run.RunError(f"no record of {plain(study)} depends on {', '.join(unknown)}, but on {', '.join(wanted)}")
    values = defaults | given
    return [piece for part, own in parts.items() for piece in part(**{name: values[name] for name in own})]


def with_records() -> list[str]:
    """Return the names of the studies that have records."""
    from naaplib.compendium import run

    names = [stem.split("-", 1)[1] for stem in run.stems()]
    return [name for name in names if _defines_pieces(name)]


def stem_of(study: str) -> str:
    """Return the stem of a study's notebook; an error lists those that have records."""
    from naaplib.compendium import run

    for stem in run.stems():
        if stem.split("-", 1)[1] == plain(study) and _defines_pieces(plain(study)):
            return stem
    raise run.RunError(f"there is no study {study!r} with records; there are: {', '.join(with_records())}")


def _defines_pieces(study: str) -> bool:
    path = ROOT.joinpath(*module_name(study).split(".")).with_suffix(".py")
    return path.is_file() and bool(re.search(r"^def pieces\(", path.read_text(encoding="utf-8"), re.M))


def main() -> int:
    """Run the command line ``python -m naaplib.compendium.make_records STUDY ...``."""
    from naaplib.compendium import run, train_plan

    if sys.argv[1:2] and plain(sys.argv[1]) == train_plan.FOLDER.name:
        return train_plan.main(sys.argv[2:])  # its pieces are jobs of a plan, in parallel
    parser = argparse.ArgumentParser(prog="python -m naaplib.compendium.make_records", description=__doc__)
    parser.add_argument("study", help="as in training-free-scores")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="another parameter value"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="make only this record")
    parser.add_argument("--again", action="append", default=[], metavar="NAME", help="make this record anew")
    parser.add_argument("--force", action="store_true", help="make records from code that is not committed")
    args = parser.parse_args()

    def work() -> None:
        pieces = planned(args.study, dict(args.p))
        if unknown := sorted({*args.only, *args.again} - {piece.name for piece in pieces}):
            there = ", ".join(piece.name for piece in pieces)
            raise run.RunError(f"{plain(args.study)} has no record {', '.join(unknown)}; it has: {there}")
        if record_index.commit().endswith("-dirty") and not args.force:
            raise run.RunError("the code has uncommitted changes: commit them first, so that the records name it")
        make(args.study, [piece for piece in pieces if piece.name in args.only or not args.only], again=args.again)
        if not args.only and not args.p:
            tidy(args.study, pieces)

    return command("naaplib.compendium.make_records", work)


if __name__ == "__main__":
    sys.exit(main())
