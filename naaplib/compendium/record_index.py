"""A study's folder of records: its index, and how a record is found or made."""

from __future__ import annotations

import datetime
import functools
import json
import re
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from naaplib.cache import Piece, digest, scratch_in, write_text
from naaplib.compendium import provenance
from naaplib.compendium.results import label
from naaplib.sources import ROOT, WrongData, sha256

RECORDS = ROOT / "results" / "records"
SCRATCH = ROOT / "build" / "records"
INDEX = "index.json"
DESCRIPTION = "naaplib/cache.py"

Index = dict[str, dict[str, Any]]
Found = tuple[Path, dict[str, Any]]


def plain(study: str) -> str:
    """Return the name of a study's folder of records, as in "accuracy-table"."""
    return re.sub(r"^\d\d-", "", study).replace("_", "-")


def module_name(study: str) -> str:
    """Return the dotted name of the module that makes a study's records."""
    return f"naaplib.studies.{plain(study).replace('-', '_')}.records"


def find(folder: Path, piece: Piece, *, needed: Sequence[Found] = ()) -> Found | None:
    """Return a record's file and entry, by name, settings and data, or None."""
    for name, entry in read_index(folder)["records"].items():
        if (
            entry["name"] == piece.name
            and entry["settings"] == settings_of(piece)
            and _has_same_data(entry, piece, needed)
        ):
            return _checked(folder / name, entry), entry
    return None


def _has_same_data(entry: Mapping[str, Any], piece: Piece, needed: Sequence[Found]) -> bool:
    """True if a record was made from the files that are asked for.

    A file that this machine lacks is compared by its name alone.
    """
    try:
        files = {label(path): path for path in (*piece.files(), *(path for path, _ in needed))}
    except FileNotFoundError:  # not all of the data are here: compare those that are
        files = {name: path for name in entry["reads"] if (path := provenance.locate(name))}
    else:
        if set(files) != set(entry["reads"]):
            return False
    return all(not path.is_file() or sha256(path) == entry["reads"][name] for name, path in files.items())


def _checked(path: Path, entry: Mapping[str, Any]) -> Path:
    if not path.is_file() or sha256(path) != entry["sha256"]:
        raise WrongData(
            f"{path} is not what {INDEX} says it is: it is gone or was edited. Restore both, or remove the file and "
            f"its entry to make it again."
        )
    return path


def make(
    study: str, folder: Path, *, piece: Piece, is_published: bool, again: bool = False, needed: Sequence[Found] = ()
) -> Found:
    """Make a record and enter it into the folder's index; return its file and entry."""
    code, settings, files = (
        code_of(piece.code or module_name(study)),
        settings_of(piece),
        [*piece.files(), *(path for path, _ in needed)],
    )
    data = {label(path): sha256(path) for path in files}
    key = digest([settings, {} if is_published else [code, data]])[:12]
    work = unfinished(study, piece, needed=needed)
    lock = SCRATCH / plain(study) / "locks" / f"{digest([str(folder), piece.name, key])[:16]}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        name = _file_name(folder, piece, settings=settings, key=key, is_published=is_published)
        entry = read_index(folder)["records"].get(name)
        if entry and not again and entry["reads"] == data:  # another run made it meanwhile
            return _checked(folder / name, entry), entry
        start = time.perf_counter()
        with scratch_in(work):
            frame = piece.make(*(read_table(*one) for one in needed))
        taken = time.perf_counter() - start
        texts = [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
        module = piece.code or module_name(study)
        entry = {"name": piece.name, "settings": settings, "texts": texts, "module": module} | _circumstances(taken)
        write_text(folder / name, frame.to_csv(index=False, lineterminator="\n"))
        _enter(folder, name, entry | {"reads": data, "sha256": sha256(folder / name)}, code)
    if not piece.shares:
        shutil.rmtree(work, ignore_errors=True)
    return folder / name, read_index(folder)["records"][name]


def unfinished(study: str, piece: Piece, *, needed: Sequence[Found] = ()) -> Path:
    """Return the folder of a record's unfinished work, by settings, code and data."""
    data = {label(path): sha256(path) for path in (*piece.files(), *(path for path, _ in needed))}
    key = digest([settings_of(piece), code_of(piece.code or module_name(study)), data])[:12]
    return SCRATCH / plain(study) / "unfinished" / f"{_slug(piece.shares or piece.name)}-{key}"


def read_table(path: Path, entry: Mapping[str, Any]) -> pd.DataFrame:
    """Read a record's table; a missing text is an empty one."""
    texts = entry["texts"]
    empty = {name: [""] for name in pd.read_csv(path, nrows=0).columns if name not in texts}
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=empty)


def _circumstances(taken: float) -> dict[str, Any]:
    """Return where, when and with which versions a record was made."""
    run = provenance.describe_run(taken)
    device = str(run["device"])
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()} and {device}"
    return {
        "seconds": run["seconds"],
        "device": device,
        "n_cores": run["n_cores"],
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": run["python"],
        "versions": {name: run["versions"][name] for name in ("numpy", "scikit-learn", "torch")},  # type: ignore[index]
        "commit": commit(),
    }


@functools.cache
def commit() -> str:
    """Return the commit when this process first asked: later edits are not its code."""
    return str(provenance.describe_run(0)["commit"])


@functools.cache
def code_of(module: str) -> dict[str, str]:
    """Return the digests of a module and of all that it imports, by path.

    `naaplib.cache`, which only describes records, is left out.
    """
    found = provenance.module_hashes(f"import {module}")
    return {name: value for name, value in found.items() if name != DESCRIPTION}


def settings_of(piece: Piece) -> dict[str, Any]:
    """Return settings as JSON gives them back, so that they compare."""
    return json.loads(json.dumps(dict(piece.settings)))


def _slug(name: str) -> str:
    return "/".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in name.split("/"))


def _file_name(folder: Path, piece: Piece, settings: dict, key: str, is_published: bool) -> str:
    """Return the name of a record's file: short, unless other settings have it."""
    short, long = f"{_slug(piece.name)}.csv", f"{_slug(piece.name)}-{key}.csv"
    if not is_published:
        return long
    taken = read_index(folder)["records"].get(short)
    return short if taken is None or taken["settings"] == settings else long


def read_index(folder: Path) -> dict[str, Index]:
    path = folder / INDEX
    if not path.is_file():
        return {"records": {}, "code": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"records": found["records"], "code": found["code"]}
    except (ValueError, KeyError, TypeError):
        raise WrongData(f"{path} is not as records write it (a merge conflict?): restore it") from None


def keep(folder: Path, names: Collection[str]) -> list[str]:
    """Remove all records but the named files, also from the index; return those."""
    with _opened(folder) as index:
        others = sorted(set(index["records"]) - set(names))
        for name in others:
            del index["records"][name]
    for name in others:  # an interruption leaves a file that no entry names, not an entry without its file
        (folder / name).unlink(missing_ok=True)
    return others


def _enter(folder: Path, name: str, entry: dict[str, Any], code: dict[str, str] | None) -> None:
    """Put an entry into an index."""
    with _opened(folder) as index:
        entry["code"] = None if code is None else digest(code)[:16]
        if code is not None:
            index["code"][entry["code"]] = code
        index["records"][name] = entry


@contextmanager
def _opened(folder: Path) -> Iterator[dict[str, Index]]:
    """Yield an index to be changed, and write it; others may do the same at the same time."""
    lock = SCRATCH / folder.name / "locks" / f"{digest(str(folder))[:16]}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        index = read_index(folder)
        yield index
        used = {one["code"] for one in index["records"].values()}
        codes = {key: value for key, value in sorted(index["code"].items()) if key in used}
        content = {"records": dict(sorted(index["records"].items())), "code": codes}
        write_text(folder / INDEX, json.dumps(content, indent=1) + "\n")
