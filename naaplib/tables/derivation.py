"""Derived data files made again from what their publishers serve: fetched, checked, rewritten as text, compared."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from naaplib import sources
from naaplib.tables import derived, releases


@dataclass(frozen=True)
class Raw:
    """A file of a public release.

    Parameters
    ----------
    address : str
        From where it is fetched: one commit, in full.
    checksum : str
        ``"sha256:..."`` of its bytes or, of a file whose bytes the project has never seen, ``"git:..."``: the number by
        which the commit names it, the SHA-1 of its length and bytes.
    """

    address: str
    checksum: str


def _read(table: str) -> dict[str, list[str]]:
    """Rows of a CSV table that lies beside this module, by their first column."""
    with Path(__file__).with_name(table).open(newline="", encoding="utf-8") as stream:
        return {name: rest for name, *rest in list(csv.reader(stream))[1:]}


RAW = {name: Raw(*rest) for name, rest in _read("raw.csv").items()}  # by release and path in its repository
TEXTS = {name: sha256 for name, (sha256,) in _read("texts.csv").items()}  # checksums of derived files, uncompressed


def derive(name: str) -> Path:
    """Make a derived file in the project's ``data`` folder, and compare it with the one that the book was made from.

    Parameters
    ----------
    name : str
        A key of `naaplib.tables.derived.FILES`.

    Returns
    -------
    Path
        Of the file, which has the expected bytes.

    Raises
    ------
    naaplib.sources.WrongData
        If a raw file has other bytes than expected, or the file derived from it has other values.
    OSError
        If a raw file is neither on this machine nor can be fetched.
    KeyError
        For a name that there is not.
    """
    if name not in TEXTS:
        raise KeyError(f"no derived data file is called {name!r}; there are: {', '.join(TEXTS)}")
    release = name.split("/")[0]
    content = releases.text(name, lambda path: find_raw(f"{release}/{path}")).encode()
    if (actual := hashlib.sha256(content).hexdigest()) != TEXTS[name]:
        raise sources.WrongData(
            f"{name} was derived, but its values are not the expected ones: the SHA-256 of its text is {actual}, "
            f"expected {TEXTS[name]}. The raw files are right, so the fault is in naaplib.tables.releases or in a "
            f"library that writes numbers otherwise; `make` installs the versions that it was tried with."
        )
    if name.endswith(".gz"):
        content = _compressed(content, Path(name).stem)
    if (actual := hashlib.sha256(content).hexdigest()) != derived.FILES[name].sha256:
        raise sources.WrongData(
            f"{name} was derived with equal values, but the zlib {zlib.ZLIB_RUNTIME_VERSION} of this Python compresses "
            f"them to other bytes, SHA-256 {actual}, expected {derived.FILES[name].sha256}, by which it is known. "
            f"Run this with a Python that has the classic zlib, not zlib-ng."
        )
    target = sources.ROOT / "data" / name
    _write(target, content)
    return target


def find_raw(name: str, timeout: float = sources.TIMEOUT) -> Path:
    """Path of a raw file, its bytes checked; fetched first into ``data/raw`` where this machine lacks it.

    Parameters
    ----------
    name : str
        A key of `RAW`. It is looked for under ``raw/`` in each of `naaplib.sources.folders`, so that a clone of the
        repository, at the commit of the address, serves as well.
    timeout : float
        Seconds in which a server must accept the connection, and between two parts of what it sends.

    Raises
    ------
    naaplib.sources.WrongData
        If the bytes found or served are not the expected ones; served ones are not kept.
    OSError
        If the address cannot be reached.
    """
    file = RAW[name]
    for path in (folder / "raw" / name for folder in sources.folders()):
        if path.is_file():
            _check(path, file.checksum, f"Remove it, then `make data` fetches {file.address}.")
            return path
    target = sources.ROOT / "data" / "raw" / name
    if file.checksum.startswith("sha256:"):
        return sources.download(file.address, target, file.checksum, timeout)
    import pooch

    part = target.with_name(f"{target.name}.part")  # pooch knows no checksums of git
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=timeout)(file.address, str(part), None)
        _check(part, file.checksum, f"It was served by {file.address}.")
        return part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _compressed(content: bytes, name: str) -> bytes:
    """Bytes that depend on nothing but content, name and zlib."""
    stream = io.BytesIO()
    with gzip.GzipFile(name, "wb", compresslevel=9, fileobj=stream, mtime=0) as file:
        file.write(content)
    return stream.getvalue()


def _check(path: Path, checksum: str, remedy: str) -> None:
    kind, expected = checksum.split(":")
    if kind == "git":
        content = path.read_bytes()
        actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        actual = sources.sha256(path)
    if actual != expected:
        raise sources.WrongData(
            f"{path} is not the expected file: its {kind} checksum is {actual}, not {expected}. {remedy}"
        )


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
