"""Run notebooks: check parameters, skip what is current, publish results."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from naaplib.cache import write_text
from naaplib.compendium import chapter_form, make_records, parameter_rules, provenance
from naaplib.compendium.execution import RunError, command, execute, with_current_text
from naaplib.compendium.provenance import code_hashes, describe_run, out_of_date
from naaplib.sources import ROOT, sha256

NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
EXECUTED = ROOT / "book" / "executed"
QUICK = ROOT / "tests" / "notebooks"
SCRATCH = ROOT / "build" / "run"


def stems() -> list[str]:
    """Return the stems of all notebooks, in reading order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def by_dependency() -> list[str]:
    """Return all stems, each after those whose published results its notebook reads."""
    reads = {stem: (provenance.read(RESULTS / stem) or {"reads": {}})["reads"] for stem in stems()}
    graph = {
        stem: sorted({Path(name).parts[1] for name in names if name.startswith("results/")} & reads.keys() - {stem})
        for stem, names in reads.items()
    }
    return list(TopologicalSorter(graph).static_order())


def read_notebook(stem: str) -> NotebookNode:
    """Read a source notebook; an error for an unknown stem lists the known ones."""
    if stem not in stems():
        raise RunError(f"there is no notebook {stem!r}; there are: {', '.join(stems())}")
    try:
        return nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)
    except ValueError:
        raise RunError(
            f"{shown(NOTEBOOKS / f'{stem}.ipynb')} cannot be read as a notebook (a merge conflict?)"
        ) from None


# Parameters


def default_parameters(notebook: NotebookNode) -> dict[str, object]:
    """Return names and default values from the cell tagged ``parameters``.

    That cell holds assignments of literals and nothing else.
    """
    defaults: dict[str, object] = {}
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for statement in ast.parse(cell.source).body:
                if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                    raise RunError(
                        f"the parameters cell may hold literal assignments only, not {ast.unparse(statement)!r}"
                    )
                defaults[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    return defaults


def check_parameter(stem: str, name: str, *, text: str, defaults: dict[str, object]) -> object:
    """Return the value of a parameter's text, if its type fits the default.

    A float default accepts an int; a default of None accepts any literal. RunError names an unknown parameter.
    """
    if name not in defaults:
        close = difflib.get_close_matches(name, defaults, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RunError(f"{stem} has no parameter {name!r}{hint}; it has: {', '.join(defaults)}")
    default = defaults[name]
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if default is None or type(value) is type(default):
        try:
            json.dumps(value)  # the provenance will hold it as JSON
        except TypeError:
            raise RunError(
                f"{stem}: parameter {name} must be made of numbers, texts, lists and dictionaries, not {text!r}"
            ) from None
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise RunError(
        f"{stem}: parameter {name} must be of type {type(default).__name__} (default {default!r}), not {text!r}"
    )


def check_parameters(notebook: NotebookNode, stem: str, *, texts: Mapping[str, str]) -> dict[str, object]:
    """Return the values of parameters' texts, if they fit the notebook and each other."""
    defaults = default_parameters(notebook)
    given = {name: check_parameter(stem, name, text=text, defaults=defaults) for name, text in texts.items()}
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    comments = {name: comment for cell in cells for name, _, comment in chapter_form.parameters(cell)}
    for name, value in given.items():
        where = f"{stem}: parameter {name}"
        given[name] = parameter_rules.fitted(where, value, default=defaults[name], comment=comments.get(name, ""))
    parameter_rules.agree(stem, given, parameters=defaults | given)
    return given


# Running and publishing


def publish(stem: str, parameters: dict[str, object], *, folder: Path, copy: Path, scratch: Path) -> None:
    """Execute a notebook and, if it succeeds, replace its copy and its results.

    Results are the files that earlier runs wrote into `folder`.
    """
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed run with the same process number
    out = scratch / "results"
    link = Path(os.path.relpath(folder, copy.parent)).as_posix()
    source = read_notebook(stem)
    defaults = default_parameters(source)
    changed = {name: value for name, value in parameters.items() if value != defaults[name]}
    code = code_hashes(source)
    start = time.perf_counter()
    env = {"NAAPLIB_OUT": str(out), "NAAPLIB_LINK": link}
    if folder == RESULTS / stem:
        env["NAAPLIB_RECORDS"] = "published"  # a published run reads records, and makes none
    notebook = execute(
        NOTEBOOKS / f"{stem}.ipynb", scratch / f"{stem}.ipynb", parameters=changed, home=copy.parent, env=env
    )
    seconds = time.perf_counter() - start
    record_path = out / "record.json"
    if not record_path.is_file():
        raise RunError(
            f"{stem} wrote no results: a notebook opens naaplib.compendium.results.Folder({stem!r}, reads=...)"
        )
    record = json.loads(record_path.read_text(encoding="utf-8"))
    record_path.unlink()
    written = {
        "code": code,
        "parameters": parameters,
        "reads": dict(sorted(record["reads"].items())),
        "outputs": {path.name: sha256(path) for path in sorted(out.iterdir())},
        "tolerances": record["tolerances"],
        "run": describe_run(seconds),
    }
    (out / "provenance.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    earlier = written_by_runs(folder)
    if foreign := [name for name in sorted(set(written["outputs"]) - earlier) if (folder / name).exists()]:
        raise RunError(
            f"{stem} would overwrite files in {shown(folder)} that no run wrote: {', '.join(foreign)}. Move them, and "
            f"run it again; what this run wrote lies in {shown(out)}."
        )
    # After a kill from here on, no provenance vouches for files of another run: the notebook runs again.
    write_if_changed(copy, nbformat.writes(notebook) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name in earlier - set(written["outputs"]):
        (folder / name).unlink(missing_ok=True)
    for name in ("provenance.json", *written["outputs"]):
        shutil.move(out / name, folder / name)
    shutil.rmtree(scratch)


def written_by_runs(folder: Path) -> set[str]:
    """Return the names of the files that the last run wrote into a folder.

    RunError refuses a folder that holds files but no results of a run.
    """
    record = provenance.read(folder)
    if record is None and folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{shown(folder)} holds files that no run wrote: name another folder")
    return {name for name in (record or {}).get("outputs", {}) if Path(name).name == name}


def destination(stem: str, to: Path | None) -> Path:
    """Return the folder of a run's results, or raise RunError."""
    if to is None:
        return RESULTS / stem
    folder = to.expanduser().resolve() / stem
    if any(folder.is_relative_to((RESULTS / name).resolve()) for name in stems()):
        raise RunError(f"--to {to} is where the published results lie: name another folder, such as results/trial")
    for path in (*reversed(folder.parents), folder):
        if path.exists() and not path.is_dir():
            where = f"--to {to}" if path == folder.parent else f"--to {to}: {path}"
            raise RunError(f"{where} is a file: name a folder")
    return folder


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file atomically, unless unchanged; return True if written."""
    if is_new := not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return is_new


def run(stem: str, overrides: dict[str, str], *, to: Path | None = None, force: bool = False) -> None:
    """Bring one notebook up to date, or run a trial into the folder `to`."""
    source = read_notebook(stem)
    defaults = default_parameters(source)
    parameters = defaults | check_parameters(source, stem, texts=overrides)
    if to is None and parameters != defaults:
        raise RunError(
            f"{stem} with other parameters would overwrite the published results: name a folder with --to results/trial"
        )
    folder = destination(stem, to)
    written_by_runs(folder)
    copy = (EXECUTED if to is None else folder) / f"{stem}.ipynb"
    reason = "asked for" if force else out_of_date(source, parameters, folder=folder)
    if not reason and not copy.is_file():
        reason = "no executed copy"
    if reason:
        print(f"{stem}: running ({reason})", flush=True)
        # A trial's scratch lies beside its results: the project itself may be read-only.
        scratch = SCRATCH / f"{stem}-{os.getpid()}" if to is None else folder.parent / f".{stem}-{os.getpid()}"
        publish(stem, parameters, folder=folder, copy=copy, scratch=scratch)
        print(f"{stem}: done; results in {shown(folder)}/, executed copy {shown(copy)}")
        return
    executed = nbformat.read(copy, as_version=4)
    if to is None and write_if_changed(copy, nbformat.writes(with_current_text(source, executed)) + "\n"):
        print(f"{stem}: current; text of the executed copy brought up to date")
    else:
        print(f"{stem}: current")
    for remark in make_records.remarks(stem):
        print(f"{stem}: {remark}")
    with suppress(OSError):  # a read-only project is current all the same
        (folder / "provenance.json").touch()


def shown(path: Path) -> str:
    """Return a path as typed from the project's root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def quick_parameters(stem: str) -> dict[str, object]:
    """Return a quick copy's parameters, from ``tests/notebooks/parameters.json``."""
    return json.loads((QUICK / "parameters.json").read_text(encoding="utf-8")).get(stem, {})


def quick_mark(stem: str) -> dict[str, object]:
    """Return the fingerprint of a quick copy: code and parameters.

    A copy with another fingerprint is stale.
    """
    return {"code": code_hashes(read_notebook(stem)), "parameters": quick_parameters(stem)}


def run_quick(stem: str) -> None:
    """Make the quick copy that nbval re-executes.

    It has small parameters and small made data, and needs no data folder.
    """
    parameters = quick_parameters(stem)
    if unknown := sorted(set(parameters) - set(default_parameters(read_notebook(stem)))):
        raise RunError(f"tests/notebooks/parameters.json names parameters that {stem} does not have: {unknown}")
    print(f"{stem}: making the quick copy", flush=True)
    scratch = SCRATCH / f"{stem}-quick"
    start = time.perf_counter()
    notebook = execute(
        NOTEBOOKS / f"{stem}.ipynb", scratch / f"{stem}.ipynb", parameters=parameters, home=QUICK, env={}
    )
    notebook.metadata["naaplib"] = quick_mark(stem)
    write_if_changed(QUICK / f"{stem}.ipynb", nbformat.writes(notebook) + "\n")
    shutil.rmtree(scratch)
    print(f"{stem}: quick copy made in {time.perf_counter() - start:.0f} s")


def main() -> int:
    """Run the command line ``python -m naaplib.compendium.run STEM ...``."""
    parser = argparse.ArgumentParser(prog="python -m naaplib.compendium.run", description=__doc__)
    parser.add_argument("stem", nargs="?", help="notebook, as in 05-baselines")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="another parameter value"
    )
    parser.add_argument("--to", type=Path, help="folder for a trial; published results stay as they are")
    parser.add_argument(
        "--all", action="store_true", help="bring every notebook up to date, those that others read first"
    )
    parser.add_argument("--force", action="store_true", help="run even if current")
    parser.add_argument("--quick", action="store_true", help="make the quick copy for nbval instead")
    parser.add_argument(
        "--reproduce",
        action="store_true",
        help="make records and run every notebook again in an empty folder, and report differences",
    )
    parser.add_argument("--fast", action="store_true", help="with --reproduce: take the records as they are")
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # Python 3.14's; earlier versions read -1e-3 as an option
    args = parser.parse_args()
    if (args.quick or args.reproduce or args.all) and (args.p or args.to):
        parser.error("--quick, --reproduce and --all take the parameters that are written down: no -p, no --to")
    if args.all == (args.stem is not None) and not args.reproduce:
        parser.error("name one notebook, or --all, or --reproduce; notebooks: " + ", ".join(stems()))

    def work() -> bool:
        if args.reproduce:
            from naaplib.compendium.reproduction import reproduce

            return reproduce(is_fast=args.fast)
        for stem in by_dependency() if args.all else [args.stem]:
            if args.quick:
                run_quick(stem)
            else:
                run(stem, dict(args.p), to=args.to, force=args.force)
        return True

    return command("naaplib.compendium.run", work, stopped="nothing was published")


if __name__ == "__main__":
    sys.exit(main())
