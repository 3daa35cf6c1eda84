"""Pages made of results: claims, first page, data dictionary, citation."""

from __future__ import annotations

import html
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

from naaplib.cache import writing
from naaplib.compendium.chapter_form import FIGURE, labels
from naaplib.compendium.claims import NOT_REPRODUCED, NOT_TRIED, REPRODUCED, Claim, lines

VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_TRIED)


def html_table(head: Iterable[str], rows: Iterable[Iterable[str]], *, name: str, numeric: Iterable[str] = ()) -> str:
    """Return a table in the book's style.

    Cells are HTML; `numeric` names columns that are set to the right.
    """
    head, numeric = list(head), set(numeric)
    styles = [' class="number"' if column in numeric else "" for column in head]
    top = "".join(f'<th scope="col"{style}>{column}</th>' for column, style in zip(head, styles, strict=True))
    body = []
    for cells in rows:
        first, *others = cells
        body.append(
            f'<tr><th scope="row"{styles[0]}>{first}</th>'
            + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(others, styles[1:], strict=True))
            + "</tr>"
        )
    return (
        f'<div class="table-scroll" role="region" tabindex="0" aria-label="{html.escape(name)}">\n'
        f'<table class="naap-table">\n<thead><tr>{top}</tr></thead>\n<tbody>\n' + "\n".join(body) + "\n</tbody>\n"
        "</table>\n</div>"
    )


def source_link(book: Path, file: str, *, known: dict[str, dict[str, str]]) -> str:
    """Return a link to the figure or table that shows a file, or to its chapter."""
    if not file:
        return ""
    stem, _, name = file.partition("/")
    if stem not in known:
        copy = book / "executed" / f"{stem}.ipynb"
        known[stem] = labels(book, stem) if copy.is_file() else {}
    label = known[stem].get(Path(name).stem)
    anchor = f"#{Path(name).stem}" if label else ""
    return f'<a href="executed/{stem}.html{anchor}">{label or f"{stem[:2]}, {name}"}</a>'


def claims_page(found: list[Claim], book: Path) -> str:
    """Return Markdown: numbers of verdicts by study, then every claim."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for claim in found:
        counts[claim.study][claim.verdict] += 1
    sums = Counter(claim.verdict for claim in found)
    rows = [[study, *(str(of[name]) for name in VERDICTS)] for study, of in counts.items()]
    rows.append(["all", *(f"<b>{sums[name]}</b>" for name in VERDICTS)])
    parts = [html_table(["study", *VERDICTS], rows, name="Verdicts by study", numeric=VERDICTS)]
    known: dict[str, dict[str, str]] = {}
    for study in counts:
        body = [
            [
                html.escape(f"{line['where']}: {line['claim']}"),
                html.escape(line["printed"]),
                html.escape(line["here"]),
                html.escape(line["rule"]),
                f'<span class="verdict {mark(line["verdict"])}">{html.escape(line["verdict"])}</span>',
                source_link(book, line["file"], known=known),
            ]
            for line in lines(found)
            if line["study"] == study
        ]
        head = ["claim", "printed", "here", "rule", "verdict", "from"]
        parts.append(f"## {study}\n\n" + html_table(head, body, name=f"Claims: {study}", numeric=("printed", "here")))
    return "\n\n".join(parts) + "\n"


def mark(verdict: str) -> str:
    """Return the class of a verdict, which gives it its colour."""
    if verdict.startswith(NOT_TRIED):
        return "open"
    return "no" if NOT_REPRODUCED in verdict else "yes"


def first_sentence(text: str) -> str:
    """Return the first sentence of an answer.

    >>> first_sentence("It has **0.65** (95 % interval .6 to .7). More."), first_sentence("Yes.\\n\\n- More.")
    ('It has **0.65** (95 % interval .6 to .7).', 'Yes.')
    """
    first = text.strip().split("\n\n")[0]
    return re.split(r"(?<=[.!?])\s+(?=[A-Z*])", " ".join(first.split()), maxsplit=1)[0]


def title(notebook: Path) -> str:
    """Return the first heading of a notebook, without its mark."""
    text: str = nbformat.read(notebook, as_version=4).cells[0].source
    return text.splitlines()[0].removeprefix("# ").strip()


def figure_of(notebook: Path, name: str) -> str:
    """Return a figure of a chapter as Markdown for a page beside the chapters' folder."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/markdown", "")
            if (match := FIGURE.match(text)) and match[1] == name:
                return text.replace("](../../", "](../")
    return ""


def opening(results: Path, book: Path) -> str:
    """Return Markdown: the answer of the comparison, and the one figure that shows it."""
    answer, copy = results / "00-comparison" / "answer.md", book / "executed" / "00-comparison.ipynb"
    if not answer.is_file() or not copy.is_file():
        return ""
    box = f":::{{admonition}} Answer\n:class: answer\n{answer.read_text(encoding='utf-8').strip()}\n:::"
    return "\n\n".join([box, figure_of(copy, "figure-headline")]).strip() + "\n"


def first_page(results: Path, book: Path) -> str:
    """Return Markdown: what to use, and a sentence for each chapter."""
    parts = []
    table = results / "00-comparison" / "recommendation.csv"
    if table.is_file():
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        if {"kendall_tau", "low", "high"} <= set(frame):
            taus = frame[["kendall_tau", "low", "high"]].astype(float).to_numpy()
            frame["Kendall's tau"] = [f"{tau:.2f} ({low:.2f} to {high:.2f})" for tau, low, high in taus]
            frame = frame.drop(columns=["kendall_tau", "low", "high", "needs", "epochs"], errors="ignore")
        head = [name.replace("_", " ") for name in frame.columns]
        rows = [[html.escape(cell) for cell in row] for row in frame.itertuples(index=False, name=None)]
        parts.append("## What to use\n\n" + html_table(head, rows, name="What to use"))
    items = []
    for answer in sorted(results.glob("[0-9][0-9]-*/answer.md")):
        stem = answer.parent.name
        notebook = book / "executed" / f"{stem}.ipynb"
        if notebook.is_file():
            sentence = first_sentence(answer.read_text(encoding="utf-8"))
            items.append(f"[{int(stem[:2])}. {title(notebook)}](executed/{stem}.ipynb)\n: {sentence}")
    return "\n\n".join([*parts, "## Each chapter in a sentence", *items]) + "\n"


def citation(file: Path) -> str:
    """Return Markdown: how to cite this book, from its ``CITATION.cff``."""
    cff: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    authors = ", ".join(one.get("name") or f"{one['given-names']} {one['family-names']}" for one in cff["authors"])
    fields = {"title": f"{{{cff['title']}}}", "author": f"{{{{{authors}}}}}", "version": f"{{{cff['version']}}}"}
    for name in ("doi", "url"):
        if cff.get(name):
            fields[name] = f"{{{cff[name]}}}"
    if released := cff.get("date-released"):
        fields["year"] = f"{{{str(released)[:4]}}}"
    body = ",\n".join(f"  {name} = {value}" for name, value in fields.items())
    return (
        f":::{{admonition}} To cite this book\n:class: cite\n{authors}. *{cff['title']}*, version {cff['version']}. "
        f"Please cite the studies too ([](bibliography.md)).\n\n```bibtex\n@software{{naaplib,\n{body}\n}}\n```\n:::\n"
    )


def every_table(results: Path) -> list[Path]:
    """Return all CSV files of chapters and of records."""
    return sorted([*results.glob("[0-9][0-9]-*/*.csv"), *results.glob("records/*/*.csv")])


def describe_columns(results: Path, known: pd.DataFrame) -> pd.DataFrame:
    """Return the data dictionary: meaning, unit and files of every column.

    Parameters
    ----------
    results : Path
        Folder of the chapters' results.
    known : DataFrame
        Columns ``column``, ``unit`` and ``meaning``. A name that begins with ``^`` is a regular expression, and its
        groups may stand in the meaning as ``\\1``; the first line that fits a column describes it.
    """
    where: dict[str, list[str]] = defaultdict(list)
    for path in every_table(results):
        for name in pd.read_csv(path, nrows=0).columns:
            where[name].append(path.relative_to(results).as_posix())
    rows = []
    for name, places in sorted(where.items()):
        meaning = unit = ""
        for line in known.itertuples():
            pattern = str(line.column)
            match = re.fullmatch(pattern[1:] if pattern.startswith("^") else re.escape(pattern), name)
            if match:
                meaning, unit = match.expand(str(line.meaning)), match.expand(str(line.unit))
                break
        rows.append((name, meaning, unit, " ".join(places)))
    return pd.DataFrame(rows, columns=["column", "meaning", "unit", "files"])


def write_zip(target: Path, results: Path, *, others: dict[str, str]) -> None:
    """Write an archive of all tables and of other texts.

    The same content gives the same bytes.
    """
    entries = {path.relative_to(results).as_posix(): path.read_bytes() for path in every_table(results)}
    entries |= {name: text.encode() for name, text in others.items()}
    with writing(target) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(f"naaplib-tables/{name}"), entries[name], zipfile.ZIP_DEFLATED)
