"""The wheel: what it holds, and that it works with its core dependencies and nothing else."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MOST_BYTES = 2 << 20


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, because a build leaves its traces beside its source."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "naaplib", source / "naaplib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-build-isolation", "--no-deps", "-w", str(target), str(source)], check=True)
    (built,) = target.glob("*.whl")
    return built


def closure(texts: list[str]) -> set[str]:
    """Names of the installed distributions that requirements bring, directly or not."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in texts]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # such as a GPU's libraries, on a machine without one
            continue
        if name not in found:
            found.add(name)
            waiting += [(Requirement(text), one) for text in requires for one in ("", *requirement.extras)]
    return found


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel, and links to its core dependencies."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    for name in closure(PROJECT["dependencies"]):
        distribution = metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-deps", "--target", str(site), str(wheel)], check=True)
    return home / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in the environment, away from the checkout."""
    return subprocess.run(
        [str(python), "-I", "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_what_the_library_needs(wheel: Path) -> None:
    """Every module, table and source of the package, and nothing else; it is small."""
    patterns = ("*.py", "*.csv", "*.cpp", "*.yaml")
    source = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in (ROOT / "naaplib").rglob(pattern)}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == source
    assert "naaplib/training/compiled.cpp" in names
    assert wheel.stat().st_size < MOST_BYTES


def test_only_extras_bring_the_book_and_optuna(wheel: Path) -> None:
    """The wheel requires a dozen packages, without any that notebooks, Optuna or Dask are made of."""
    text = next(zipfile.ZipFile(wheel).read(n) for n in zipfile.ZipFile(wheel).namelist() if n.endswith("/METADATA"))
    requires = [line.split(": ", 1)[1] for line in text.decode().splitlines() if line.startswith("Requires-Dist: ")]
    core = {Requirement(one).name for one in requires if "extra ==" not in one}
    assert core == {Requirement(one).name for one in PROJECT["dependencies"]}
    assert len(core) <= 13
    hidden = {"nbformat", "papermill", "ipykernel", "ipython", "jupyter-book", "optuna", "dask", "distributed"}
    assert closure(PROJECT["dependencies"]) & hidden == set()
    assert set(EXTRAS) == {"book", "search", "cluster", "test", "lint", "dev"}
    (everything,) = (Requirement(one).extras for one in EXTRAS["dev"] if one.startswith("naaplib["))
    assert everything == set(EXTRAS) - {"dev"}


def test_every_module_imports_without_the_extras(python: Path, tmp_path: Path) -> None:
    """In an environment of core dependencies alone; only what runs notebooks is refused, in one line."""
    code = """
import importlib, pkgutil, sys
import naaplib
assert "site-packages" in naaplib.__file__, naaplib.__file__
names = [one.name for one in pkgutil.walk_packages(naaplib.__path__, "naaplib.", onerror=lambda name: None)]
assert len(names) > 100
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error, sep=": ")
"""
    found = run(python, code, tmp_path)
    assert found.returncode == 0, found.stderr
    refused = dict(line.split(": ", 1) for line in found.stdout.splitlines())
    assert {".".join(name.split(".")[:2]) for name in refused} == {"naaplib.compendium", "naaplib.run"}
    assert set(refused.values()) == {"naaplib.compendium runs notebooks, and needs: pip install 'naaplib[book]'"}


def test_the_wheel_brings_the_command(python: Path, wheel: Path, tmp_path: Path) -> None:
    """Its entry point leads to a command that ranks models, and that has no chapters without a checkout."""
    text = next(zipfile.ZipFile(wheel).read(n) for n in zipfile.ZipFile(wheel).namelist() if "entry_points" in n)
    assert "naaplib = naaplib.cli:main" in text.decode()
    code = "import sys; from naaplib.cli import main; main(sys.argv[1:])"
    ranked, chapter = (
        subprocess.run(
            [str(python), "-I", "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        for words in (["rank", "squeezenet1_1", "--by", "macs", "--side", "64"], ["chapter", "05"])
    )
    assert "squeezenet1_1" in ranked.stdout, ranked.stderr
    assert chapter.returncode == 1
    assert chapter.stderr == "Error: there are no chapters here: only a checkout of the project has them\n"


def test_searches_run_without_the_extras(python: Path, tmp_path: Path) -> None:
    """All but BOHB, which names the extra that it needs."""
    code = """
import naaplib
def accuracy(params, n_epochs):
    return 1 - 1 / (n_epochs * params["width"])
for method in ("random", "halving", "hyperband", "tuning"):
    study = naaplib.search({"width": list(range(8, 40))}, accuracy, budget=90, method=method, max_epochs=9)
    assert study.best_value > 0.9, method
try:
    naaplib.search({"width": [8, 9]}, accuracy, budget=90, method="bohb")
except ImportError as error:
    print(error)
"""
    found = run(python, code, tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "BOHB and TPE need Optuna: pip install 'naaplib[search]'\n"


def test_files_of_the_wheel_are_found(python: Path, tmp_path: Path) -> None:
    """Tables, sources and what is compiled; downloads go to the user's cache, not beside the package."""
    code = """
from pathlib import Path
from naaplib import sources
from naaplib.tables import printed
from naaplib.training import compiled
assert sources.FILES
assert Path(compiled.__file__).with_suffix(".cpp").is_file()
assert list(Path(printed.__file__).parent.glob("papers/*.csv"))
print(sources.data_folder())
"""
    found = run(python, code, tmp_path)
    assert found.returncode == 0, found.stderr
    folder = Path(found.stdout.strip())
    assert folder.name == "naaplib"
    assert not folder.is_relative_to(python.parents[1])
