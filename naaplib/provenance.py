"""What results were made from, and whether they still are what would be made now."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from nbformat import NotebookNode

from naaplib.sources import ROOT, folders, sha256

PACKAGES = ("matplotlib", "numpy", "pandas", "scikit-learn", "scipy", "torch", "torchvision")


def bare_code(source: str) -> str:
    """Python source without docstrings, comment lines and blank lines, which change no result."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first, last = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def notebook_code(notebook: NotebookNode) -> str:
    """All code of a notebook but the injected parameters, as one module."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "\n".join(cell.source for cell in cells if "injected-parameters" not in cell.metadata.get("tags", []))


def imported_modules(source: str) -> set[Path]:
    """Files of ours that the source imports, and that those import, and so on."""
    found: set[Path] = set()
    pending = [source]
    while pending:
        for node in ast.walk(ast.parse(pending.pop())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
                if name.startswith("naaplib.") and path.is_file() and path not in found:
                    found.add(path)
                    pending.append(path.read_text())
    return found


def code_hashes(notebook: NotebookNode) -> dict[str, str]:
    """SHA-256 of the notebook's own code and of every module of ours that it uses, by name."""
    code = notebook_code(notebook)
    texts = {"notebook": code} | {p.relative_to(ROOT).as_posix(): p.read_text() for p in imported_modules(code)}
    return {name: hashlib.sha256(bare_code(text).encode()).hexdigest() for name, text in sorted(texts.items())}


def locate(label: str) -> Path | None:
    """The file that a provenance calls `label` (see `naaplib.results.label`), or None where this machine lacks it."""
    candidates = [ROOT / label]
    if label.startswith("data/"):
        candidates = [folder / label.removeprefix("data/") for folder in folders()]
    return next((path for path in candidates if path.is_file()), None)


def out_of_date(notebook: NotebookNode, parameters: dict[str, object], folder: Path) -> str:
    """Why the results in `folder` must be made again by the notebook; "" when they are current.

    A data file that is absent here counts as unchanged: a clone without data is not stale.
    """
    path = folder / "provenance.json"
    if not path.is_file():
        return "no results yet"
    provenance = json.loads(path.read_text())
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
    """Where and how a run took place: commit, versions, device, threads, seconds."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return {
        "commit": commit or "unknown",
        "device": names[0] if names else platform.processor() or platform.machine(),
        "n_cores": os.cpu_count(),
        "n_threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "seconds": round(seconds, 1),
    }
