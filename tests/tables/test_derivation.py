"""Derived files made again: raw files found, fetched and checked; values compared; nothing wrong is kept."""

import gzip
import hashlib
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from naaplib import sources
from naaplib.tables import derivation, derived, releases

NAME = "neural_predictor/fig10_11_random_2000.csv"
PACKED = "neural_predictor/predictions_nlp_test.csv.gz"
TEXT = "n_samples,val_running_max,test_running_max\n1,90.00000,91.00000\n"
PACKED_TEXT = "y_true,y_pred\n90.00000,91.00000\n"
ARRAYS = {  # made raw files that the two are derived from
    f"neural_predictor/outputs/{stem}.npy": value
    for stem, value in {
        "random_val_avg_2000": 90.0, "random_test_avg_2000": 91.0, "nlp_y_true_test": 90.0, "nlp_y_pred_test": 91.0,
    }.items()
}  # fmt: skip
RAW = next(iter(ARRAYS))


def sha256(content: bytes) -> str:
    """Hexadecimal checksum."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: str) -> Path:
    """A project that knows two derived files, without any file; their raw files are served."""
    monkeypatch.delenv("NAAPLIB_DATA", raising=False)
    monkeypatch.setattr(sources, "ROOT", tmp_path / "project")
    known = {}
    for raw, value in ARRAYS.items():
        path = tmp_path / "served" / Path(raw).name
        np.save(path, np.array([value]))
        known[raw] = derivation.Raw(f"{served}/{path.name}", f"sha256:{sha256(path.read_bytes())}")
    monkeypatch.setattr(derivation, "RAW", known)
    packed = derivation._compressed(PACKED_TEXT.encode(), "predictions_nlp_test.csv")
    monkeypatch.setattr(derivation, "TEXTS", {NAME: sha256(TEXT.encode()), PACKED: sha256(PACKED_TEXT.encode())})
    files = {
        name: derived.File(sha256(content), "a release", "MIT")
        for name, content in ((NAME, TEXT.encode()), (PACKED, packed))
    }
    monkeypatch.setattr(derived, "FILES", files)
    return tmp_path / "project"


def test_a_file_is_fetched_derived_and_found(project: Path) -> None:
    """What it is derived from lies in data/raw afterwards, the result where `derived.find` looks."""
    assert derivation.derive(NAME) == project / "data" / NAME == derived.find(NAME)
    assert (project / "data" / NAME).read_text() == TEXT
    assert {path.name for path in (project / "data").rglob("*.*")} == {
        "random_val_avg_2000.npy", "random_test_avg_2000.npy", "fig10_11_random_2000.csv",
    }  # fmt: skip


def test_a_compressed_file_has_the_same_bytes_each_time(project: Path) -> None:
    """They tell no time; a name within the archive is the file's own."""
    first = derivation.derive(PACKED).read_bytes()
    assert derivation.derive(PACKED).read_bytes() == first
    assert gzip.decompress(first).decode() == PACKED_TEXT
    assert first[4:8] == bytes(4)
    assert first[10:].startswith(b"predictions_nlp_test.csv\0")


def test_raw_files_are_fetched_once(project: Path, tmp_path: Path) -> None:
    """A second derivation needs no server; one that was interrupted goes on with what is missing."""
    derivation.derive(NAME)
    for path in (tmp_path / "served").iterdir():
        path.unlink()
    (project / "data" / NAME).unlink()
    assert derivation.derive(NAME).read_text() == TEXT


def test_raw_files_of_a_named_folder_serve(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a clone of the repository does under ``raw`` in the folder that NAAPLIB_DATA names; nothing is fetched."""
    (tmp_path / "own" / "raw" / "neural_predictor").mkdir(parents=True)
    (tmp_path / "served").rename(tmp_path / "own" / "raw" / "neural_predictor" / "outputs")
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path / "own"))
    assert derivation.derive(NAME) == project / "data" / NAME
    assert not (project / "data" / "raw").exists()


def test_a_raw_file_with_other_bytes_is_refused(project: Path) -> None:
    """One that is there: named with both checksums and the remedy, left alone, nothing derived from it."""
    path = project / "data" / "raw" / RAW
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    expected = derivation.RAW[RAW].checksum.removeprefix("sha256:")
    with pytest.raises(sources.WrongData) as caught:
        derivation.derive(NAME)
    for part in (str(path), sha256(b"mine"), expected, "Remove it", derivation.RAW[RAW].address):
        assert part in str(caught.value)
    assert path.read_bytes() == b"mine"
    assert not (project / "data" / NAME).exists()


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_a_served_file_with_other_bytes_is_refused(
    kind: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named with its address; not kept, under no name."""
    raw = derivation.RAW[RAW]
    monkeypatch.setitem(derivation.RAW, RAW, derivation.Raw(raw.address, f"{kind}:0123"))
    with pytest.raises(sources.WrongData, match=re.escape(raw.address)):
        derivation.derive(NAME)
    assert not list((project / "data").rglob("*.*"))


def test_a_file_known_by_git_only_is_checked_by_its_number_there(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git itself says the number of the made file."""
    served = tmp_path / "served" / Path(RAW).name
    number = subprocess.run(
        ["git", "hash-object", str(served)], capture_output=True, text=True, check=True
    ).stdout.strip()
    monkeypatch.setitem(derivation.RAW, RAW, derivation.Raw(derivation.RAW[RAW].address, f"git:{number}"))
    path = derivation.find_raw(RAW)
    assert path == project / "data" / "raw" / RAW
    assert path.read_bytes() == served.read_bytes()
    served.unlink()
    assert derivation.find_raw(RAW) == path  # checked again, not fetched again
    path.write_bytes(b"spoilt")
    with pytest.raises(sources.WrongData, match=f"its git checksum is [0-9a-f]{{40}}, not {number}"):
        derivation.find_raw(RAW)


@pytest.mark.parametrize("kind", ["sha256", "git"])
def test_an_address_out_of_reach_is_an_error_of_the_network(
    kind: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listening; nothing is left behind."""
    monkeypatch.setitem(derivation.RAW, RAW, derivation.Raw("http://127.0.0.1:9/nobody.npy", f"{kind}:0123"))
    with pytest.raises(OSError, match="nobody"):
        derivation.derive(NAME)
    assert not list((project / "data").rglob("*.*"))


def test_other_values_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a library writes numbers otherwise: both checksums, and that raw files are right; nothing is kept."""
    monkeypatch.setattr(releases, "text", lambda name, find: TEXT.replace("91", "92"))
    with pytest.raises(sources.WrongData, match=f"values are not the expected ones.*expected {sha256(TEXT.encode())}"):
        derivation.derive(NAME)
    assert not (project / "data" / NAME).exists()


def test_equal_values_in_other_bytes_are_refused_with_the_cause(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zlib that compresses otherwise: the file would not be taken, so it is not written."""
    monkeypatch.setitem(derived.FILES, PACKED, derived.File("0123", "a release", "MIT"))
    with pytest.raises(sources.WrongData, match=r"equal values, but the zlib .* expected 0123.*classic zlib"):
        derivation.derive(PACKED)
    assert not (project / "data" / PACKED).exists()


def test_an_unknown_file_is_refused_with_the_known_ones(project: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(KeyError, match=f"no derived data file is called 'fig8'; there are: {NAME}"):
        derivation.derive("fig8")


def test_every_raw_file_has_an_address_of_one_commit() -> None:
    """In full, of the release that derived files name, at the path that its name has; with a checksum."""
    for name, raw in derivation.RAW.items():
        release, path = name.split("/", 1)
        parts = re.fullmatch(
            rf"https://raw\.githubusercontent\.com/([^/]+/[^/]+)/([0-9a-f]{{40}})/{re.escape(path)}", raw.address
        )
        assert parts
        origins = {file.derived_from for known, file in derived.FILES.items() if known.startswith(f"{release}/")}
        assert len(origins) == 1
        assert origins.pop().startswith(f"github.com/{parts[1]} at {parts[2]}, {path.rsplit('/', 1)[0]};")
        assert re.fullmatch("sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", raw.checksum)


def test_every_derived_file_has_a_checksum_of_its_text() -> None:
    """The same as that of its bytes, where it is not compressed."""
    assert list(derivation.TEXTS) == list(derived.FILES)
    for name, file in derived.FILES.items():
        assert re.fullmatch("[0-9a-f]{64}", derivation.TEXTS[name])
        assert (derivation.TEXTS[name] == file.sha256) == (not name.endswith(".gz"))


@pytest.mark.usefixtures("replication", "nasbench101", "nasbench_nlp")
def test_checksums_of_texts_are_those_of_the_files() -> None:
    """Of all 19, uncompressed."""
    for name, expected in derivation.TEXTS.items():
        content = derived.find(name).read_bytes()
        assert sha256(gzip.decompress(content) if name.endswith(".gz") else content) == expected
