"""Benchmarks and example programs, which the suite does not run, use names that the library has."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from naaplib.sources import ROOT

FILES = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "book" / "examples").glob("*.py"))]


def load(path: Path) -> ModuleType:
    """Import a file under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"imported_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unknown_names(source: str, namespace: dict[str, object]) -> list[str]:
    """Attributes that a source takes of modules in its namespace, and that these do not have."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = namespace.get(node.value.id)
            if isinstance(owner, ModuleType) and not hasattr(owner, node.attr):
                found.append(f"{node.value.id}.{node.attr}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_benchmark_uses_names_that_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be imported, and what it takes of a module by name exists there; a module that moved is found out."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert unknown_names(path.read_text(), vars(load(path))) == []


def test_a_name_that_moved_is_found() -> None:
    """The check finds an attribute that its module lacks, and not those of other objects."""
    assert unknown_names("ast.parse('')\nast.moved()\nother.moved()", {"ast": ast, "other": 1}) == ["ast.moved"]
