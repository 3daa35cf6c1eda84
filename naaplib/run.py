"""Run notebooks: check parameters, skip what is current, publish results, executed copy and provenance."""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from naaplib.provenance import code_hashes, describe_run, out_of_date
from naaplib.sources import ROOT, sha256

NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
EXECUTED = ROOT / "book" / "executed"
QUICK = ROOT / "tests" / "notebooks"
SCRATCH = ROOT / "build" / "run"


class RunError(Exception):
    """A run that cannot start, or that failed; the message is for the person at the terminal."""


def stems() -> list[str]:
    """Stems of all notebooks, in reading order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def read_notebook(stem: str) -> NotebookNode:
    """The source notebook; unknown stems are refused with the list of known ones."""
    if stem not in stems():
        raise RunError(f"there is no notebook {stem!r}; there are: {', '.join(stems())}")
    return nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4)


# Parameters


def default_parameters(notebook: NotebookNode) -> dict[str, object]:
    """Names and default values of the cell tagged ``parameters``, which holds literal assignments only."""
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


def check_parameter(stem: str, name: str, text: str, defaults: dict[str, object]) -> object:
    """The value that `text` stands for, if the notebook has such a parameter and the type fits its default.

    An int is taken where the default is a float; a default of None takes any literal.
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
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    raise RunError(
        f"{stem}: parameter {name} must be of type {type(default).__name__} (default {default!r}), not {text!r}"
    )


# Running and publishing


def execute(stem: str, parameters: dict[str, object], scratch: Path, home: Path, env: dict[str, str]) -> NotebookNode:
    """Execute a notebook as if it lay in `home`, with what cells write on the terminal; return the clean copy."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    scratch.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    target = scratch / f"{stem}.ipynb"
    terminal = Terminal() if sys.stderr.isatty() else None
    show = {"stdout_file": terminal, "stderr_file": terminal, "progress_bar": terminal is not None}
    before = dict(os.environ)
    os.environ |= env | ({"NAAPLIB_PROGRESS": "1"} if terminal else {})
    try:
        source = NOTEBOOKS / f"{stem}.ipynb"
        papermill.execute_notebook(source, target, parameters, cwd=home, kernel_name="python3", **show)
    except PapermillExecutionError as error:
        raise RunError(
            f"{stem} failed: {error.ename}: {error.evalue}\n"
            f"Nothing published was touched; {shown(target)} shows the cell and the whole traceback."
        ) from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    return clean_copy(nbformat.read(target, as_version=4))


class Terminal(io.TextIOBase):
    """Where cells' text goes: above papermill's bar, which it clears and draws again; their own bars in its place."""

    def write(self, text: str) -> int:
        """Show a piece of text at once."""
        if text.startswith(("\r", "\n")):  # a bar's frame, and its end
            sys.stderr.write(text)
        else:
            tqdm.write(text, sys.stderr, end="")
        sys.stderr.flush()
        return len(text)


def clean_copy(notebook: NotebookNode) -> NotebookNode:
    """The notebook without papermill's, the kernel's and progress bars' traces, its injected parameters hidden."""
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            tags = [*tags, "remove-cell"]
        kept = {key: value for key, value in cell.metadata.items() if key not in ("papermill", "execution", "tags")}
        cell.metadata = NotebookNode(kept | ({"tags": tags} if tags else {}))
        if "outputs" in cell:
            cell.outputs = [output for output in map(without_bars, cell.outputs) if output.get("text") != ""]
    return notebook


def without_bars(output: NotebookNode) -> NotebookNode:
    """An output without the frames of progress bars, which begin with a carriage return; other text stays."""
    if output.output_type == "stream" and output.name == "stderr":
        text = re.sub(r"\r[^\n]*\n?", "", output.text)
        output.text = text if text.strip() else ""
    return output


def with_current_text(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The source's cells with the outputs of a run of the same code: prose may be mended without running again."""
    fresh = clean_copy(nbformat.from_dict(source))
    cells, runs = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (fresh, executed))
    for cell, run in zip(cells, runs, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    return fresh


def publish(stem: str, parameters: dict[str, object], folder: Path, copy: Path) -> None:
    """Execute a notebook; on success only, replace its executed copy and then its results, provenance among them."""
    scratch = SCRATCH / f"{stem}-{os.getpid()}"
    out = scratch / "results"
    link = Path(os.path.relpath(folder, copy.parent)).as_posix()
    defaults = default_parameters(read_notebook(stem))
    changed = {name: value for name, value in parameters.items() if value != defaults[name]}
    code = code_hashes(read_notebook(stem))
    start = time.perf_counter()
    notebook = execute(stem, changed, scratch, copy.parent, {"NAAPLIB_OUT": str(out), "NAAPLIB_LINK": link})
    seconds = time.perf_counter() - start
    record_path = out / "record.json"
    if not record_path.is_file():
        raise RunError(f"{stem} wrote no results: a notebook opens naaplib.results.Folder({stem!r}, reads=...)")
    record = json.loads(record_path.read_text())
    record_path.unlink()
    provenance = {
        "code": code,
        "parameters": parameters,
        "reads": dict(sorted(record["reads"].items())),
        "outputs": {path.name: sha256(path) for path in sorted(out.iterdir())},
        "tolerances": record["tolerances"],
        "run": describe_run(seconds),
    }
    (out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    # A kill from here on leaves no provenance that vouches for files of another run: the notebook runs again.
    write_if_changed(out / copy.name if copy.parent == folder else copy, nbformat.writes(notebook) + "\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.move(folder, scratch / "old")
    shutil.move(out, folder)
    shutil.rmtree(scratch)


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file by renaming, unless it holds that text already; say whether it was written."""
    if path.is_file() and path.read_text() == text:
        return False
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
    return True


def run(stem: str, overrides: dict[str, str], to: Path | None = None, force: bool = False) -> None:
    """Bring one notebook up to date, or run a trial with other parameters into the folder `to`."""
    source = read_notebook(stem)
    defaults = default_parameters(source)
    parameters = defaults | {name: check_parameter(stem, name, text, defaults) for name, text in overrides.items()}
    if to is None and parameters != defaults:
        raise RunError(
            f"{stem} with other parameters would overwrite the published results: name a folder with --to results/trial"
        )
    folder = RESULTS / stem if to is None else to.resolve() / stem
    if to is not None and any(folder.is_relative_to(RESULTS / name) for name in stems()):
        raise RunError(f"--to {to} is where the published results lie: name another folder, such as results/trial")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "provenance.json").is_file():
        raise RunError(f"{shown(folder)} holds files that no run wrote, and a run replaces the folder: name another")
    copy = (EXECUTED if to is None else folder) / f"{stem}.ipynb"
    reason = "asked for" if force else out_of_date(source, parameters, folder)
    if not reason and not copy.is_file():
        reason = "no executed copy"
    if reason:
        print(f"{stem}: running ({reason})", flush=True)
        publish(stem, parameters, folder, copy)
        print(f"{stem}: done; results in {shown(folder)}/, executed copy {shown(copy)}")
        return
    executed = nbformat.read(copy, as_version=4)
    if to is None and write_if_changed(copy, nbformat.writes(with_current_text(source, executed)) + "\n"):
        print(f"{stem}: current; text of the executed copy brought up to date")
    else:
        print(f"{stem}: current")
    (folder / "provenance.json").touch()


def shown(path: Path) -> str:
    """A path as a person would type it from the project's root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def quick_parameters(stem: str) -> dict[str, object]:
    """Parameters of a notebook's quick copy, from ``tests/notebooks/parameters.json``."""
    return json.loads((QUICK / "parameters.json").read_text()).get(stem, {})


def quick_mark(stem: str) -> dict[str, object]:
    """What a quick copy was made from; a copy that carries another mark is stale."""
    return {"code": code_hashes(read_notebook(stem)), "parameters": quick_parameters(stem)}


def run_quick(stem: str) -> None:
    """Make the quick copy that nbval re-executes: small parameters, small made data, no data folder."""
    parameters = quick_parameters(stem)
    if unknown := sorted(set(parameters) - set(default_parameters(read_notebook(stem)))):
        raise RunError(f"tests/notebooks/parameters.json names parameters that {stem} does not have: {unknown}")
    print(f"{stem}: making the quick copy", flush=True)
    scratch = SCRATCH / f"{stem}-quick"
    start = time.perf_counter()
    notebook = execute(stem, parameters, scratch, QUICK, {})
    notebook.metadata["naaplib"] = quick_mark(stem)
    write_if_changed(QUICK / f"{stem}.ipynb", nbformat.writes(notebook) + "\n")
    shutil.rmtree(scratch)
    print(f"{stem}: quick copy made in {time.perf_counter() - start:.0f} s")


def reproduce(fresh: Path = ROOT / "build" / "reproduce") -> bool:
    """Run every notebook from scratch into `fresh`; report on each table; say whether none is different."""
    from naaplib.results import compare

    rows = []
    for stem in stems():
        try:
            run(stem, {}, to=fresh, force=True)
        except RunError as error:
            rows.append((stem, "failed", str(error).splitlines()[0]))
            continue
        tolerances = json.loads((RESULTS / stem / "provenance.json").read_text())["tolerances"]
        for name in sorted({path.name for folder in (RESULTS, fresh) for path in (folder / stem).glob("*.csv")}):
            published = RESULTS / stem / name
            new = "different", "not among the published results"
            found = compare(published, fresh / stem / name, tolerances.get(name)) if published.is_file() else new
            rows.append((f"{stem}/{name}", *found))
    width = max(len(name) for name, _, _ in rows)
    report = "\n".join(f"{name:{width}}  {verdict:16}  {where}".rstrip() for name, verdict, where in rows)
    fresh.mkdir(parents=True, exist_ok=True)
    (fresh / "report.txt").write_text(report + "\n")
    print(f"\n{report}\n\nThe re-made results and this report lie in {shown(fresh)}/")
    return all(verdict in ("identical", "within tolerance") for _, verdict, _ in rows)


def main() -> int:
    """Command line: ``python -m naaplib.run STEM [-p NAME VALUE]... [--to FOLDER]``."""
    parser = argparse.ArgumentParser(prog="python -m naaplib.run", description=__doc__)
    parser.add_argument("stem", nargs="?", help="notebook, as in 05-baselines")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="another parameter value"
    )
    parser.add_argument("--to", type=Path, help="folder for a trial; published results stay as they are")
    parser.add_argument("--force", action="store_true", help="run even if current")
    parser.add_argument("--quick", action="store_true", help="make the quick copy for nbval instead")
    parser.add_argument(
        "--reproduce", action="store_true", help="run every notebook from scratch and report differences"
    )
    args = parser.parse_args()
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not a user's of the same name
    if data := os.environ.get("NAAPLIB_DATA"):
        os.environ["NAAPLIB_DATA"] = str(Path(data).expanduser().absolute())  # notebooks run in another folder
    if (args.quick or args.reproduce) and (args.p or args.to):
        parser.error("--quick and --reproduce take the parameters that are written down: no -p, no --to")
    try:
        if args.reproduce:
            return 0 if reproduce() else 1
        if args.stem is None:
            parser.error("name a notebook, or --reproduce; notebooks: " + ", ".join(stems()))
        if args.quick:
            run_quick(args.stem)
        else:
            run(args.stem, dict(args.p), args.to, args.force)
    except RunError as error:
        print(f"naaplib.run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
