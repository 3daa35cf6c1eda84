"""Text that the project itself decides: which run made each chapter, which tables and outside files there are.

It is written as Markdown into ``build/book/`` before the pages are read, and pages include them. So are the archive of
all tables and their dictionary.
"""

import csv
import json
import re
from collections import defaultdict
from pathlib import Path

import nbformat
import pandas as pd
from sphinx.application import Sphinx

from naaplib.architectures.schemes import enumerate_schemes
from naaplib.compendium import claims, coverage, make_records, pages
from naaplib.compendium.chapter_form import duration
from naaplib.compendium.pages import title
from naaplib.sources import FILES
from naaplib.training.cifar10 import ADDRESSES
from naaplib.training.gpus import memory_plan

SHOWN_PACKAGES = ("torch", "scikit-learn", "numpy", "pandas")


def describe_machine(run: dict) -> str:
    """One sentence: processor, threads, versions."""
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in SHOWN_PACKAGES if name in run["versions"])
    number = run["n_threads"]
    threads = {"default": "as many threads as the libraries choose", "1": "1 thread"}.get(number, f"{number} threads")
    return f"On one {run['device']}, {run['n_cores']} cores visible, {threads}; Python {run['python']}, {versions}:"


def write_runs(results: Path) -> str:
    """Markdown: for every machine and set of versions, the chapters that were run on it, their time and commit."""
    machines = defaultdict(list)
    for path in sorted(results.glob("*/provenance.json")):
        run = json.loads(path.read_text())["run"]
        stem = path.parent.name
        commit, dirty, _ = run["commit"].partition("-dirty")
        changes = " and uncommitted changes" if dirty else ""
        row = f"| [{stem}](executed/{stem}.ipynb) | {duration(run['seconds'])} | `{commit}`{changes} |"
        machines[describe_machine(run)].append(row)
    head = "| Chapter | Time | Commit |\n|---|---:|---|\n"
    return "\n\n".join(f"{machine}\n\n{head}" + "\n".join(rows) for machine, rows in machines.items()) + "\n"


def write_records(records: Path) -> str:
    """Markdown: for every study with records, number, time, and how many today's code made."""
    rows = []
    for path in sorted(records.glob("*/index.json")):
        study, index = path.parent.name, json.loads(path.read_text())
        if "records" not in index:
            continue
        entries = list(index["records"].values())
        known = [entry["seconds"] for entry in entries if entry["seconds"] is not None]
        unknown = len(entries) - len(known)
        time = (duration(sum(known)) if known else "") + (f", {unknown} not known" if unknown and known else "")
        same = len(entries) - sum(int(text.split()[0]) for text in make_records.remarks(study, records))
        rows.append(f"| {study} | {len(entries)} | {time} | {same} |")
    return "| Study | Records | Time | By today's code |\n|---|---:|---|---:|\n" + "\n".join(rows) + "\n"


def write_tolerances(results: Path) -> str:
    """Markdown: for every chapter, how many tables must be identical, and the largest tolerance of each column."""
    rows = []
    for path in sorted(results.glob("*/provenance.json")):
        provenance = json.loads(path.read_text())
        allowed: dict[str, float] = {}
        free = set()
        for columns in provenance["tolerances"].values():
            for name, value in columns.items():
                if value is None:
                    free.add(name)
                else:
                    allowed[name] = max(allowed.get(name, 0.0), value)
        told = ", ".join(f"`{name}` {value:g}" for name, value in sorted(allowed.items())) or "none"
        left = ", ".join(f"`{name}`" for name in sorted(free)) or "none"
        rows.append(f"{path.parent.name}\n: Allowed: {told}. Not compared: {left}.")
    return "\n\n".join(rows) + "\n"


def captions(notebook: Path) -> dict[str, str]:
    """For each CSV that a chapter links to from a figure or table, the caption shown with it."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/markdown", "")
            link = re.search(r"\[Data \(CSV\)\]\(\S*?([^/\s]+\.csv)\)", text)
            caption = re.search(r"<caption>(.*?)</caption>", text, re.S) or re.search(r"^\*(.+?)\*(?: |$)", text, re.M)
            if link and caption:
                found.setdefault(link[1], " ".join(caption[1].split()))
    return found


def describe_csv(path: Path, caption: str | None) -> str:
    """The caption, if there is one, the number of rows, and the columns' names."""
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    names = ", ".join(f"`{name}`" for name in head[:12])
    more = f" and {len(head) - 12} more" if len(head) > 12 else ""
    opening = f"{caption} " if caption else ""
    return f"{opening}{len(rows):,} {'row' if len(rows) == 1 else 'rows'}; {names}{more}."


def write_downloads(results: Path, executed: Path) -> str:
    """Markdown: for every chapter, a link to each of its tables, what it is, its size and columns."""
    sections = []
    for folder in sorted(path.parent for path in results.glob("*/provenance.json")):
        notebook = executed / f"{folder.name}.ipynb"
        shown = captions(notebook)
        items = [
            f"- [{path.name}](../results/{folder.name}/{path.name}): {describe_csv(path, shown.get(path.name))}"
            for path in sorted(folder.glob("*.csv"))
        ]
        sections.append(f"### {folder.name}: {title(notebook)}\n\n" + "\n".join(items))
    return "\n\n".join(sections) + "\n"


def write_sources() -> str:
    """Markdown: every file that others made, with its address, checksum and licence."""
    items = [
        f"`{name}`\n: From <{file.address}>; licence: {file.licence}; SHA-256 `{file.sha256}`"
        for name, file in FILES.items()
    ]
    images = " or ".join(f"<{address}>" for address in ADDRESSES)
    items.append(f"`cifar-10-batches-py/`\n: CIFAR-10; from {images}; licence: none stated; torchvision's MD5 sums")
    return "\n\n".join(items) + "\n"


def write_if_changed(path: Path, text: str) -> None:
    """Write a text unless it is there, so that Sphinx reads only changed pages anew."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def write_memory() -> str:
    """Markdown: how GPUs of several sizes train the 440 networks, computed from the shapes of a step."""
    head = (
        "| Memory of the GPU | Torch's trainer | They need | Fused trainer | They need |\n|---:|---:|---:|---:|---:|\n"
    )
    plans = [memory_plan(enumerate_schemes(), trainer=trainer).itertuples() for trainer in ("torch", "fused")]
    return head + "".join(
        f"| {rows[0].gigabytes} GB | "
        + " | ".join(f"{r.n_archs} ({r.n_parts}) | {r.needed:.1f} GB" for r in rows)
        + " |\n"
        for rows in zip(*plans, strict=True)
    )


def write_fragments(app: Sphinx) -> None:
    """Write the parts of pages, and what readers download."""
    book = Path(app.srcdir)
    results, executed = book.parent / "results", book / "executed"
    folder = book.parent / "build" / "book"
    folder.mkdir(parents=True, exist_ok=True)
    known = pd.read_csv(book / "columns.csv", dtype=str, keep_default_na=False)
    dictionary = pages.describe_columns(results, known).to_csv(index=False, lineterminator="\n")
    found = claims.claims(results)
    texts = {
        "citation.md": pages.citation(book.parent / "CITATION.cff"),
        "claims.csv": claims.table(found).to_csv(index=False, lineterminator="\n"),
        "claims.md": pages.claims_page(found, book),
        "data-dictionary.csv": dictionary,
        "coverage.md": coverage.page(coverage.read(book / "coverage.csv")),
        "memory.md": write_memory(),
        "downloads.md": write_downloads(results, executed),
        "opening.md": pages.opening(results, book),
        "first.md": pages.first_page(results, book),
        "runs.md": write_runs(results),
        "records.md": write_records(results / "records"),
        "tolerances.md": write_tolerances(results),
        "sources.md": write_sources(),
    }
    for name, text in texts.items():
        write_if_changed(folder / name, text)
    pages.write_zip(folder / "naaplib-tables.zip", results, others={"data-dictionary.csv": dictionary})


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the fragments as soon as the book's folder is known."""
    app.connect("builder-inited", write_fragments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
