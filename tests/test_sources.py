"""Data files: where they are looked for, how a wrong one is refused, how a missing one is fetched."""

import hashlib
import re
import socket
import tomllib
from pathlib import Path

import pytest

from naaplib import sources
from naaplib.compendium import provenance

NAME = "made/table.csv"
TEXT = b"ModelId,MaxAccuracy\n1,0.5\n"
SHA256 = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that knows one data file and has none, without NAAPLIB_DATA."""
    monkeypatch.delenv("NAAPLIB_DATA", raising=False)
    monkeypatch.setattr(sources, "ROOT", tmp_path / "project")
    know(monkeypatch, "http://127.0.0.1:9/nobody-listens.csv")
    return tmp_path / "project"


def know(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Make the one known file come from `address`."""
    monkeypatch.setattr(sources, "FILES", {NAME: sources.File(address, SHA256, "MIT")})


def put(folder: Path, content: bytes = TEXT) -> Path:
    """Put the file into a data folder."""
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def server(served: str, tmp_path: Path) -> str:
    """Address of a local web server that serves ``good.csv`` and ``bad.csv``."""
    (tmp_path / "served" / "good.csv").write_bytes(TEXT)
    (tmp_path / "served" / "bad.csv").write_bytes(b"something else\n")
    return served


def test_the_named_folder_comes_before_the_projects_own(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NAAPLIB_DATA first, then data/; each is used where it alone has the file."""
    own = put(project / "data")
    assert sources.find(NAME) == own
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path / "elsewhere"))
    assert sources.folders() == [tmp_path / "elsewhere", project / "data"]
    assert sources.find(NAME) == own
    named = put(tmp_path / "elsewhere")
    assert sources.find(NAME) == named


def test_a_missing_file_names_itself_the_places_and_the_remedy(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message holds the file, both folders, `make data` and the address."""
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(sources.MissingData) as caught:
        sources.find(NAME)
    for part in (NAME, str(tmp_path / "elsewhere"), str(project / "data"), "make data", "nobody-listens.csv"):
        assert part in str(caught.value)


def test_a_file_with_other_bytes_is_refused_with_both_checksums(project: Path) -> None:
    """The message holds path, actual and expected SHA-256."""
    path = put(project / "data", b"other")
    with pytest.raises(sources.WrongData) as caught:
        sources.find(NAME)
    for part in (str(path), SHA256, hashlib.sha256(b"other").hexdigest()):
        assert part in str(caught.value)


def test_a_file_that_changes_after_it_was_checked_is_checked_again(project: Path) -> None:
    """The checksum is remembered for the file as it was, not for its name."""
    path = put(project / "data")
    sources.find(NAME)
    path.write_bytes(b"spoilt")
    with pytest.raises(sources.WrongData):
        sources.find(NAME)


def test_an_unknown_name_is_refused_with_the_known_ones(project: Path) -> None:
    """A typing error shows what there is."""
    with pytest.raises(KeyError, match=r"no data file is called 'tabel.csv'; there are: made/table.csv"):
        sources.find("tabel.csv")


def test_fetch_downloads_checks_and_keeps(project: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the address serves lies in data/ afterwards; a second call needs no server."""
    know(monkeypatch, f"{server}/good.csv")
    assert sources.fetch(NAME) == project / "data" / NAME
    assert (project / "data" / NAME).read_bytes() == TEXT
    know(monkeypatch, "http://127.0.0.1:9/nobody-listens.csv")
    assert sources.fetch(NAME) == project / "data" / NAME


def test_fetch_refuses_wrong_bytes_and_keeps_nothing(
    project: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends something else leaves no file behind; the message holds address and both checksums."""
    know(monkeypatch, f"{server}/bad.csv")
    with pytest.raises(sources.WrongData) as caught:
        sources.fetch(NAME)
    for part in (f"{server}/bad.csv", SHA256, hashlib.sha256(b"something else\n").hexdigest()):
        assert part in str(caught.value)
    assert not list((project / "data").rglob("*.*"))


def test_fetch_leaves_a_wrong_file_of_the_users_alone(
    project: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there and is another one is named, not overwritten."""
    know(monkeypatch, f"{server}/good.csv")
    path = put(project / "data", b"mine")
    with pytest.raises(sources.WrongData, match="Remove it"):
        sources.fetch(NAME)
    assert path.read_bytes() == b"mine"


def test_every_file_has_a_fixed_address_a_checksum_and_a_licence() -> None:
    """Addresses name a commit, so that what they serve cannot change; where no licence is stated, it says so."""
    for file in sources.FILES.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        commit = file.address.split("/")[5]
        assert re.fullmatch("[0-9a-f]{40}", commit)
        assert file.licence in {"MIT", "none stated"}


def test_the_table_names_each_file_once() -> None:
    """No row of the table hides another; all its rows are known."""
    rows = (sources.ROOT / "naaplib" / "sources.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == list(sources.FILES)


def test_files_that_the_library_reads_are_installed_with_it() -> None:
    """Each file under naaplib but modules and pages matches a pattern of the package data in pyproject.toml."""
    patterns = tomllib.loads((sources.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {
        path
        for package, names in patterns.items()
        for name in names
        for path in sources.ROOT.joinpath(*package.split(".")).glob(name)
    }
    files = {path for path in (sources.ROOT / "naaplib").rglob("*") if path.is_file()}
    assert packaged == {path for path in files if path.suffix not in {".py", ".pyc", ".md"}}


def test_the_table_of_files_is_no_code() -> None:
    """Provenance follows imports to modules: with `sources` a chapter depends on its code, not on the list of files."""
    assert provenance.imported_modules("from naaplib import sources") == {sources.ROOT / "naaplib" / "sources.py"}


def test_a_silent_server_is_given_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit, with an error of the network; nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        know(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/table.csv")
        with pytest.raises(OSError, match="timed out"):
            sources.fetch(NAME, timeout=0.3)
    assert not list((project / "data").rglob("*.*"))
