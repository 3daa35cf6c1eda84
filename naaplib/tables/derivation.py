"""Rebuild derived data files from public releases.

Raw files are fetched and checked; the results are compared with their checksums.
"""

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
from naaplib.cache import writing
from naaplib.tables import derived, releases


@dataclass(frozen=True)
class Raw:
    """A file of a public release.

    Parameters
    ----------
    address : str
        Address that contains the full commit.
    checksum : str
        ``"sha256:..."`` of its bytes or ``"git:..."``, the commit's SHA-1 of its length and bytes, for a file that the
        project has never had.
    """

    address: str
    checksum: str


def _read(table: str) -> dict[str, list[str]]:
    """Read a CSV table beside this module; return its rows by their first column."""
    with Path(__file__).with_name(table).open(newline="", encoding="utf-8") as stream:
        return {name: rest for name, *rest in list(csv.reader(stream))[1:]}


RAW = {name: Raw(*rest) for name, rest in _read("raw.csv").items()}  # by release and path in its repository
TEXTS = {name: sha256 for name, (sha256,) in _read("texts.csv").items()}  # checksums of derived files, uncompressed


def derive(name: str) -> Path:
    """Derive a file in the project's ``data`` folder, and check it.

    The check compares it with the file that the book used.

    Parameters
    ----------
    name : str
        A key of ``derived.FILES``.

    Returns
    -------
    Path
        Path of the file, which has the expected bytes.

    Raises
    ------
    naaplib.sources.WrongData
        If a raw file has other bytes than expected, or the file derived from it has other values.
    OSError
        If a raw file is neither on this machine nor can be fetched.
    KeyError
        If the name is not in `FILES`.
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
    target = sources.data_folder() / name
    with writing(target) as stream:
        stream.write(content)
    return target


def find_raw(name: str) -> Path:
    """Find a raw file, or fetch it into ``data/raw``, and check its bytes.

    Parameters
    ----------
    name : str
        A key of `RAW`. The file is looked for under ``raw/`` in each of `naaplib.sources.folders`; a clone of the
        repository at the commit of the address is possible there.

    Raises
    ------
    naaplib.sources.WrongData
        If the bytes found or served are not the expected ones; served bytes are deleted.
    OSError
        If the address cannot be reached.
    """
    file = RAW[name]
    for path in (folder / "raw" / name for folder in sources.folders()):
        if path.is_file():
            _check(path, file.checksum, f"Remove it, then `make data` fetches {file.address}.")
            return path
    target = sources.data_folder() / "raw" / name
    if file.checksum.startswith("sha256:"):
        return sources.download(file.address, target, expected=file.checksum)
    import pooch

    part = target.with_name(f"{target.name}.part")  # pooch does not support git's checksums
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=sources.TIMEOUT)(file.address, str(part), None)
        _check(part, file.checksum, f"It was served by {file.address}.")
        return part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _compressed(content: bytes, name: str) -> bytes:
    """Compress content to bytes that depend only on it, the name and zlib."""
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
