"""What a search writes down: found again, torn or not, and kept from other searches."""

from pathlib import Path

import pytest

from naaplib.search.journal import Journal

TOLD = {"search": "by hand", "sizes": (1, 2)}
ENTRIES = [{"value": 0.1 + 0.2}, {"value": None, "why": "failed"}]


def fill(path: Path | None) -> None:
    with Journal(path, TOLD) as journal:
        for entry in ENTRIES:
            journal.add(entry)


@pytest.mark.parametrize("torn", [b"", b'{"value', b"\xff\xfe"])
def test_entries_are_there_again(tmp_path: Path, torn: bytes) -> None:
    """With every digit; a torn last line is dropped, and overwritten by what comes next."""
    path = tmp_path / "deep" / "trace.jsonl"
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path, TOLD) as journal:
        assert journal.entries == ENTRIES
        journal.add(ENTRIES[0])
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[1]


def test_each_entry_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """Before the context ends."""
    with Journal(tmp_path / "trace", TOLD) as journal:
        for n, entry in enumerate(ENTRIES, start=2):
            journal.add(entry)
            assert len((tmp_path / "trace").read_bytes().splitlines()) == n


@pytest.mark.parametrize(("content", "message"), [(b'{"search": "other"}\n', "is of another search"),
                                                  (b"no trace\n", "is no trace of a search")])  # fmt: skip
def test_what_is_not_its_own_is_refused_and_kept(tmp_path: Path, content: bytes, message: str) -> None:
    """The file is as it was."""
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message), Journal(path, TOLD):
        pass
    assert path.read_bytes() == content


def test_without_a_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor read."""
    monkeypatch.chdir(tmp_path)
    fill(None)
    with Journal(None, TOLD) as journal:
        assert journal.entries == []
    assert list(tmp_path.iterdir()) == []
