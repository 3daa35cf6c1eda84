"""What ``make data`` brings: all, or a folder, a file, what a chapter read; what it says; what it does on failure."""

import json
import re
from pathlib import Path

import pytest

from naaplib import sources
from naaplib.tables import derivation, derived, fetch
from naaplib.training import cifar10

STEMS = sorted(path.parent.name for path in sources.ROOT.glob("results/*/provenance.json"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: str) -> Path:
    """A project that knows three made files, of which ``one/gone.csv`` is served nowhere, and one derived file."""
    monkeypatch.delenv("NAAPLIB_DATA", raising=False)
    monkeypatch.setattr(sources, "ROOT", tmp_path / "project")
    (tmp_path / "served" / "table.csv").write_bytes(b"a\n1\n")
    sha256 = sources.sha256(tmp_path / "served" / "table.csv")
    addresses = {"one/gone.csv": "gone.csv", "one/table.csv": "table.csv", "two/table.csv": "table.csv"}
    known = {name: sources.File(f"{served}/{path}", sha256, "MIT") for name, path in addresses.items()}
    monkeypatch.setattr(sources, "FILES", known)
    monkeypatch.setattr(derived, "FILES", {"three/made.csv": derived.File(sha256, "a release; how", "none stated")})

    def derive(name: str) -> Path:
        path = tmp_path / "project" / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a\n1\n")
        return path

    monkeypatch.setattr(derivation, "derive", derive)
    return tmp_path / "project"


def test_a_folder_is_its_files_alone() -> None:
    """The table of NAAP-440 comes without the images."""
    assert fetch.chosen(["naap440"]) == ["naap440/naap440.csv", "naap440/generated_schemes.json", "naap440/results.csv"]
    assert fetch.chosen(["naap440/"]) == fetch.chosen(["naap440"])
    assert fetch.chosen(["naap440/naap440.csv"]) == ["naap440/naap440.csv"]
    assert fetch.chosen([fetch.IMAGES]) == ["cifar-10-batches-py"]
    assert fetch.chosen(["cifar100"]) == ["cifar-100-python"]
    assert "cifar-100-python" not in fetch.chosen([])


def test_nothing_named_is_everything_once() -> None:
    """Fetched files, derived files and the images."""
    assert fetch.chosen([]) == [*sources.FILES, *derived.FILES, "cifar-10-batches-py"]
    assert fetch.chosen(["nasbench201", "naap440", "naap440/results.csv"]) == list(sources.FILES)[:5]


@pytest.mark.parametrize("stem", STEMS)
def test_a_chapter_is_what_it_read(stem: str) -> None:
    """Every data file that the published run of a chapter read can be brought, and nothing else comes."""
    reads = json.loads((sources.ROOT / "results" / stem / "provenance.json").read_text())["reads"]
    read = {name.removeprefix("data/") for name in reads if name.startswith("data/")}
    assert set(fetch.chosen([stem])) == {fetch.IMAGES if name.startswith(fetch.IMAGES) else name for name in read}


@pytest.mark.parametrize("word", ["naap", "440", "naap440/naap440", "12-unwritten", "."])
def test_an_unknown_word_is_refused_with_the_known_ones(word: str, capsys: pytest.CaptureFixture) -> None:
    """By the command line with status 2; the beginning of a name is none."""
    with pytest.raises(SystemExit) as caught:
        fetch.main(["naap440", word])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"no data is called {word!r}. It can be a folder (naap440, nasbench201, proxylessnas, nasbench101," in said
    assert "01-search-space, " in said


def test_what_messages_promise_is_brought() -> None:
    """A missing derived file says ``make data WHAT=...``; that is its folder."""
    for name, file in derived.FILES.items():
        promise = re.search("`make data WHAT=(.+?)`", file.derived_from)
        assert promise
        assert name in fetch.chosen([promise[1]])


def test_make_hands_on_what_is_asked_for() -> None:
    """The target calls this command with WHAT."""
    assert "\n\t@$(BIN)/python -m naaplib.tables.fetch $(WHAT)\n" in (sources.ROOT / "Makefile").read_text()


def test_command_line_says_what_it_does(made: Path, capsys: pytest.CaptureFixture) -> None:
    """First run: from where, under which licence, and that it was checked; second run: that it is there."""
    assert fetch.main(["two", "three"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("two/table.csv: fetching from http://127.0.0.1")
    assert lines[0].endswith("/table.csv (licence: MIT)")
    assert lines[1:] == [
        f"two/table.csv: checked, {made / 'data' / 'two' / 'table.csv'}",
        "three/made.csv: deriving from a release (licence: none stated)",
        f"three/made.csv: as expected, {made / 'data' / 'three' / 'made.csv'}",
    ]
    assert fetch.main(["two", "three"]) == 0
    assert [line.split(", ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "two/table.csv: present",
        "three/made.csv: present",
    ]


def test_a_failure_leaves_other_folders_their_turn(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The rest of its own folder is left out; one line says why, one what is not complete; status 1."""
    monkeypatch.setattr(cifar10, "main", lambda name: 1)
    assert fetch.main([]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("one/gone.csv could not be had: HTTPError: 404")
    assert "A copy at data/one/gone.csv, or in a folder that NAAPLIB_DATA names, serves as well." in said[0]
    assert said[1].startswith("Not complete: one, cifar-10-batches-py. Started again, this goes on")
    found = {path.relative_to(made / "data").as_posix() for path in (made / "data").rglob("*.csv")}
    assert found == {"two/table.csv", "three/made.csv"}


def test_a_wrong_file_is_named(made: Path, capsys: pytest.CaptureFixture) -> None:
    """A fetched one and a derived one: path and checksums, left as they are; status 1."""
    for name in ("two/table.csv", "three/made.csv"):
        path = made / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
        assert fetch.main([name]) == 1
        assert f"{path} is not the expected file" in capsys.readouterr().err
        assert path.read_bytes() == b"mine"


def test_a_chapter_without_data_needs_none(capsys: pytest.CaptureFixture) -> None:
    """That is said, not everything fetched."""
    assert fetch.main(["01-search-space"]) == 0
    assert capsys.readouterr().out == "Nothing to bring: that chapter reads no data.\n"
