"""Files that are whole or absent."""

import doctest
from pathlib import Path

import pytest

from naaplib import cache


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(cache)
    assert (result.attempted >= 3, result.failed) == (True, 0)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """The old content, and no part; text goes in as it is, line ends included."""
    path = tmp_path / "folder" / "file.txt"
    cache.write_text(path, "a\r\nä\n")
    assert path.read_bytes() == b"a\r\n\xc3\xa4\n"
    with pytest.raises(RuntimeError, match="half way"), cache.writing(path) as stream:
        stream.write(b"new")
        stream.flush()
        raise RuntimeError("half way")
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"a\r\n\xc3\xa4\n", [path])
