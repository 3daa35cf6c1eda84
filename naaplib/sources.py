"""Download and check data files that the project does not carry.

`FILES` lists each one with its address, checksum and licence.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 30.0  # seconds to wait for a connection, and for each part of the response


@dataclass(frozen=True)
class File:
    """A file with a public address.

    Parameters
    ----------
    address : str
        Address of one fixed version, whose bytes do not change.
    sha256 : str
        Hexadecimal checksum of its bytes.
    licence : str
        SPDX identifier of its licence, or "none stated" if the publisher states none.
    """

    address: str
    sha256: str
    licence: str


def _read(table: Path) -> dict[str, File]:
    """Read a CSV table with columns name, address, sha256, licence; return it by name."""
    with table.open(newline="", encoding="utf-8") as stream:
        return {row.pop("name"): File(**row) for row in csv.DictReader(stream)}


FILES = _read(Path(__file__).with_name("sources.csv"))  # data, not code: a further file makes no result out of date


class MissingData(FileNotFoundError):
    """A data file that this machine does not have.

    The message names the file, the places where it was looked for, and how to get it.
    """


class WrongData(ValueError):
    """A data file whose bytes are not the expected ones."""


def folders() -> list[Path]:
    """List the folders in which data files are looked for, in that order.

    Returns
    -------
    list of Path
        The folder that the environment variable ``NAAPLIB_DATA`` names, if it is set, then `data_folder`. Both are laid
        out as the names in `FILES`.
    """
    named = os.environ.get("NAAPLIB_DATA")
    return ([Path(named).expanduser().absolute()] if named else []) + [data_folder()]


def data_folder() -> Path:
    """Return the folder that files are downloaded into.

    Returns
    -------
    Path
        The project's ``data`` in a checkout; the user's cache folder if the library was installed without one.
    """
    if any(ROOT.glob("naaplib-*.dist-info")):  # beside the package, as an installer leaves it
        import pooch

        return Path(pooch.os_cache("naaplib"))
    return ROOT / "data"


def sha256(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file; an unchanged file is read only once."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def find(name: str) -> Path:
    """Find a data file on this machine and check its bytes.

    Parameters
    ----------
    name : str
        A key of `FILES`, as in ``"naap440/naap440.csv"``.

    Returns
    -------
    Path
        Path in the first of `folders` that has the file.

    Raises
    ------
    MissingData
        If no folder has it.
    WrongData
        If the first file found has other bytes than expected.
    """
    file = _entry(name)
    for path in (folder / name for folder in folders()):
        if path.is_file():
            _check(path, file.sha256)
            return path
    looked = " or ".join(str(folder / name) for folder in folders())
    raise MissingData(
        f"{name} is not on this machine: looked for {looked}. `make data` fetches it from {file.address}; "
        f"or let NAAPLIB_DATA point at a folder that has it."
    )


def fetch(name: str, timeout: float = TIMEOUT) -> Path:
    """Find a data file, or download it into the ``data`` folder; check its bytes.

    Parameters
    ----------
    name : str
        A key of `FILES`.
    timeout : float
        Seconds to wait for a connection, and for each part of the response.

    Returns
    -------
    Path
        Path of the file, which exists and has the expected bytes.

    Raises
    ------
    WrongData
        If the bytes found or served are not the expected ones. A file that existed before is not changed.
    OSError
        If the address cannot be reached, or does not respond in time.
    """
    file = _entry(name)
    try:
        return find(name)
    except MissingData:
        return download(file.address, data_folder() / name, expected=f"sha256:{file.sha256}", timeout=timeout)


def download(address: str, target: Path, *, expected: str, timeout: float = TIMEOUT) -> Path:
    """Download a file, check its bytes, and then give it its name.

    A file that already has the expected bytes is not downloaded again.

    Parameters
    ----------
    address : str
        HTTP or HTTPS address.
    target : Path
        Path of the file. Its folder is created if it does not exist.
    expected : str
        Name of a checksum and its value, as in ``"md5:..."``.
    timeout : float
        As in `fetch`.

    Raises
    ------
    WrongData
        If the server sends other bytes.
    OSError
        If the address cannot be reached, or does not respond in time.
    """
    import pooch

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=timeout)
    try:  # pooch downloads under a temporary name and moves the file here once its bytes are checked
        pooch.retrieve(address, known_hash=expected, fname=target.name, path=target.parent, downloader=downloader)
    except OSError:
        raise
    except ValueError as error:
        raise WrongData(f"{address}: {error}") from None
    return target


def _entry(name: str) -> File:
    if name not in FILES:
        raise KeyError(f"no data file is called {name!r}; there are: {', '.join(FILES)}")
    return FILES[name]


def _check(path: Path, expected: str) -> None:
    actual = sha256(path)
    if actual != expected:
        raise WrongData(
            f"{path} is not the expected file: its SHA-256 is {actual}, expected {expected}. "
            f"Remove it, then `make data` fetches the right one."
        )


@functools.cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """Compute the checksum; the arguments size and time of change show changed files."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
