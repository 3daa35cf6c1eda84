"""Provenance of results: what made them, and a check that it is unchanged."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tokenize
from importlib import metadata
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from naaplib.sources import ROOT, WrongData, folders, sha256

PACKAGES = ("matplotlib", "numpy", "pandas", "scikit-learn", "scipy", "torch", "torchvision")


def bare_code(source: str) -> str:
    """Strip docstrings, comments and blank lines, which change no result."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]].rstrip()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first, last = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line for line in lines if line.strip())


def imported_modules(source: str) -> set[Path]:
    """Return the project's files that a source imports, directly or not.

    Packages that re-export are included. The front door, ``naaplib/__init__.py``, is not: it imports everything, and
    notebooks do not use it.
    """
    found: set[Path] = set()
    pending = [source]
    while pending:
        for node in ast.walk(ast.parse(pending.pop())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in (name for name in names if name.startswith("naaplib.")):
                place = ROOT.joinpath(*name.split("."))
                for path in (place.with_suffix(".py"), place / "__init__.py"):
                    if path.is_file() and path not in found and bare_code(path.read_text(encoding="utf-8")):
                        found.add(path)
                        pending.append(path.read_text(encoding="utf-8"))
    return found


def code_hashes(notebook: NotebookNode) -> dict[str, str]:
    """Return SHA-256 of the notebook's own code, and of each module that it uses.

    Keys are "notebook" and the paths of the modules. A module that is compiled from C++ has its source as well.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    own = json.dumps([bare_code(cell) for cell in cells])
    return module_hashes("\n".join(cells)) | {"notebook": hashlib.sha256(own.encode()).hexdigest()}


def module_hashes(source: str) -> dict[str, str]:
    """Return SHA-256 of the code of each module that a source uses, by path.

    A module that is compiled from C++ has its source as well.
    """
    modules = {path.relative_to(ROOT).as_posix(): path for path in imported_modules(source)}
    texts = {name: bare_code(path.read_text(encoding="utf-8")) for name, path in sorted(modules.items())}
    sources = [path.with_suffix(".cpp") for path in modules.values()]
    texts |= {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sources if path.is_file()}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def locate(label: str) -> Path | None:
    """Return the file of a label in a provenance, or None if this machine lacks it.

    See `.results.label`.
    """
    candidates = [ROOT / label]
    if label.startswith("data/"):
        candidates = [folder / label.removeprefix("data/") for folder in folders()]
    return next((path for path in candidates if path.is_file()), None)


def read(folder: Path) -> dict[str, Any] | None:
    """Return the provenance in a folder of results, or None without one.

    WrongData says that the file is not as a run writes it.
    """
    path = folder / "provenance.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"code", "parameters", "reads", "outputs"} <= set(found):
        raise WrongData(
            f"{path} is not as a run writes it (a merge conflict?): restore it, or remove the folder to run anew"
        )
    return found


def out_of_date(notebook: NotebookNode, parameters: dict[str, object], *, folder: Path) -> str:
    """Return the reason why a notebook must run again; "" if results are current.

    A data file that this machine lacks counts as unchanged: a clone without data is not stale.
    """
    provenance = read(folder)
    if provenance is None:
        return "no results yet"
    code = code_hashes(notebook)
    if changed := sorted(n for n in code | provenance["code"] if code.get(n) != provenance["code"].get(n)):
        return f"changed: {', '.join(changed)}"
    if provenance["parameters"] != json.loads(json.dumps(parameters)):
        return "other parameters"
    for label, digest in provenance["reads"].items():
        file = locate(label)
        if file is None and not label.startswith("data/"):
            return f"input {label} is gone"
        if file is not None and sha256(file) != digest:
            return f"input {label} changed"
    for name, digest in provenance["outputs"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return f"output {name} is gone or was edited"
    return ""


def describe_run(seconds: float) -> dict[str, object]:
    """Return commit, versions, device, threads and seconds of a run."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except FileNotFoundError:  # this machine has no git
            return ""

    edited = "-dirty" if git("status", "--porcelain", "naaplib", "notebooks") else ""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    return {
        "commit": git("rev-parse", "--short=12", "HEAD") + edited or "unknown",
        "device": names[0] if names else platform.processor() or platform.machine(),
        "n_cores": os.cpu_count(),
        "n_threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "seconds": round(seconds, 1),
    }
