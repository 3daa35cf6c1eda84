"""The names that `import naaplib` offers."""

import re
import subprocess
import sys

import pytest

import naaplib
from naaplib import sources


def test_every_name_leads_to_its_attribute_with_a_docstring_and_an_example() -> None:
    """What the table names is there, public, and shows how it is used."""
    for name, place in naaplib.FRONT_DOOR.items():
        found = getattr(naaplib, name)
        assert place.split(":")[0].startswith("naaplib.")
        assert re.search(r">>> |``\w+\(", found.__doc__ or ""), name
    assert sorted(naaplib.FRONT_DOOR) == naaplib.__all__
    assert set(naaplib.__all__) <= set(dir(naaplib))


def test_import_is_quick_because_it_imports_no_other_module() -> None:
    """Neither torch nor pandas nor any module of ours is there after it."""
    program = "import sys, naaplib; print([n for n in sys.modules if n in ('torch', 'pandas') or 'naaplib.' in n])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=sources.ROOT
    )
    assert found.stdout.strip() == "[]"


def test_the_page_of_the_front_door_lists_every_name_and_every_command() -> None:
    """Each name of the front door has a row, and each command an example."""
    from naaplib.cli import main

    page = (sources.ROOT / "book" / "api" / "front-door.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \{py:\w+\}`(\w+) <", page, re.M)) == set(naaplib.FRONT_DOOR)
    assert set(re.findall(r"^\| `(\w+)` \| `naaplib \1 ", page, re.M)) == set(main.commands)


def test_an_unknown_name_lists_the_known() -> None:
    """As an AttributeError, so that hasattr works."""
    assert not hasattr(naaplib, "nix")
    with pytest.raises(AttributeError, match=r"naaplib has no 'nix'; it offers .*rank"):
        _ = naaplib.nix


def test_star_import_and_modules_work() -> None:
    """All names at once; a module of the library stays a module."""
    namespace: dict[str, object] = {}
    exec("from naaplib import *\nfrom naaplib import metrics, sources", namespace)
    assert set(naaplib.__all__) <= set(namespace)
    assert namespace["sources"] is sources
