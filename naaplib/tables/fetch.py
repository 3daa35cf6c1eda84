"""Fetch data files that the project does not carry (``make data``).

By default, all are fetched.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence

from naaplib import sources
from naaplib.tables import derivation, derived

IMAGES = "cifar-10-batches-py"  # a folder, for `naaplib.training.cifar10`
MORE = {"cifar100": "cifar-100-python"}  # fetched where asked for: no published chapter reads it from the start


def chosen(words: Sequence[str]) -> list[str]:
    """List the names of the requested data files.

    Parameters
    ----------
    words : sequence of str
        Each is a file (``"naap440/naap440.csv"``), a folder (``"naap440"``), or a chapter (``"05-baselines"``), which
        stands for the files that its published run read. An empty sequence selects everything.

    Returns
    -------
    list of str
        Unique names, folder by folder.

    Raises
    ------
    ValueError
        If a word is none of these; the message lists folders and chapters.
    """
    names = [*sources.FILES, *derived.FILES, IMAGES, *MORE.values()]
    found: set[str] = set() if words else set(names) - set(MORE.values())
    for word in words:
        word = MORE.get(word, word)
        record = sources.ROOT / "results" / word / "provenance.json"
        if of_word := {name for name in names if f"{name}/".startswith(f"{word.rstrip('/')}/")}:
            found |= of_word
        elif record.is_file():
            reads = [
                f"{read.removeprefix('data/')}/" for read in json.loads(record.read_text(encoding="utf-8"))["reads"]
            ]
            found |= {name for name in names if any(read.startswith(f"{name}/") for read in reads)}
        else:
            folders = dict.fromkeys(name.split("/")[0] for name in names)
            chapters = sorted(path.parent.name for path in sources.ROOT.glob("results/*/provenance.json"))
            raise ValueError(
                f"no data is called {word!r}. It can be a folder ({', '.join(folders)}), a file in one, "
                f"as in naap440/naap440.csv, or a chapter ({', '.join(chapters)})"
            )
    return [name for name in names if name in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m naaplib.tables.fetch [WHAT ...]`` and print what is done.

    Returns the exit status: 1 if a file is not available, else 0.

    After a failure, the rest of its folder is skipped, and other folders are still fetched.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the lines below say the same in fewer words
    parser = argparse.ArgumentParser(
        usage='make data [WHAT="..."]', description="Bring data files into data/, checked by hash."
    )
    parser.add_argument("what", nargs="*", help="files, folders or chapters; everything if none is named")
    try:
        names = chosen(parser.parse_args(arguments).what)
    except ValueError as error:
        parser.error(str(error))
    if not names:
        print("Nothing to bring: that chapter reads no data.")
    incomplete = []
    for folder, of_folder in itertools.groupby(names, key=lambda name: name.split("/")[0]):
        if not all(map(_bring, of_folder)):  # stops at the first that fails
            incomplete.append(folder)
    if incomplete:
        print(f"Not complete: {', '.join(incomplete)}. Started again, this goes on where it stopped.", file=sys.stderr)
    return 1 if incomplete else 0


def _bring(name: str) -> bool:
    """Fetch a file, print the result, and return True for success."""
    if name in (IMAGES, *MORE.values()):
        from naaplib.training import cifar10

        return cifar10.main("CIFAR-10" if name == IMAGES else "CIFAR-100") == 0
    find = sources.find if name in sources.FILES else derived.find
    try:
        try:
            print(f"{name}: present, {find(name)}")
        except sources.MissingData:
            if name in sources.FILES:
                file = sources.FILES[name]
                print(f"{name}: fetching from {file.address} (licence: {file.licence})", flush=True)
                print(f"{name}: checked, {sources.fetch(name)}")
            else:
                origin = derived.FILES[name].derived_from.split(";")[0]
                print(f"{name}: deriving from {origin} (licence: {derived.FILES[name].licence})", flush=True)
                print(f"{name}: as expected, {derivation.derive(name)}")
    except sources.WrongData as error:
        print(error, file=sys.stderr)
        return False
    except OSError as error:
        print(
            f"{name} could not be had: {type(error).__name__}: {error}. Is this machine online? "
            f"A copy at data/{name}, or in a folder that NAAPLIB_DATA names, serves as well.",
            file=sys.stderr,
        )
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
