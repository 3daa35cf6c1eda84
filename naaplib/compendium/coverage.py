"""Page of what the studies did: which of it runs here, and what the rest needs.

``book/coverage.csv`` has one row for each experiment; `faults` holds it against the notebooks and the library.
"""

from __future__ import annotations

import ast
import html
import importlib
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from naaplib.compendium import run
from naaplib.compendium.pages import html_table
from naaplib.sources import ROOT

FILE = ROOT / "book" / "coverage.csv"
HERE, SMALL, DATA, NOT_DONE = STATES = ("runs here", "small here, full on a GPU", "needs data", "not done")
CLASSES = {HERE: "yes", SMALL: "open", DATA: "open", NOT_DONE: "no"}  # colours, as those of verdicts
COLUMNS = ["study", "system", "experiment", "where", "state", "chapter", "parameter", "data", "reader", "remark"]


def read(path: Path = FILE) -> pd.DataFrame:
    """Read the list of experiments; every cell is text, and may be empty.

    Its columns are study, system (a part of the study), experiment, where (in the study), state (one of `STATES`),
    chapter (the notebook's stem), parameter ("name=value; name=value", which make a small run the full one), data (a
    file that is needed), reader (dotted name of the function that reads it), remark.
    """
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def parameters(text: str) -> dict[str, object]:
    """Parse values of a notebook's parameters.

    Examples
    --------
    >>> parameters('n_cells=100; te_nas={"n_seeds": 3}')
    {'n_cells': 100, 'te_nas': {'n_seeds': 3}}
    """
    parts = [part for part in re.split(r";\s*(?=\w+=)", text) if part]
    return {name: ast.literal_eval(value) for name, _, value in (part.partition("=") for part in parts)}


def faults(table: pd.DataFrame) -> list[str]:
    """List what is wrong with the rows: states, chapters, parameters and readers.

    A parameter must be in the notebook's parameters cell, with a value of the same type; the keys of a mapping must be
    known, unless the notebook's mapping is empty. A reader must be importable.
    """
    if list(table) != COLUMNS:
        return [f"the columns are {list(table)}; they must be {COLUMNS}"]
    found, known = [], {stem: run.default_parameters(run.read_notebook(stem)) for stem in run.stems()}
    for row in table.itertuples():
        name = f"{row.study}, {row.experiment}"
        if row.state not in STATES:
            found.append(f"{name}: the state is {row.state!r}; it must be one of {', '.join(STATES)}")
        if row.state in (HERE, SMALL) and not row.chapter:
            found.append(f"{name}: {row.state}, but no chapter is named")
        if row.state == NOT_DONE and (row.chapter or row.parameter):
            found.append(f"{name}: {NOT_DONE}, but a chapter or a parameter is named")
        if row.state == SMALL and not row.parameter:
            found.append(f"{name}: {SMALL}, but no parameter makes it the full one")
        if row.state == DATA and not (row.data and row.reader):
            found.append(f"{name}: {DATA}, but not which, or who reads it")
        if row.chapter and row.chapter not in known:
            found.append(f"{name}: there is no chapter {row.chapter!r}")
        elif row.parameter:
            found += [
                f"{name}: {fault}" for fault in _of_parameters(str(row.parameter), known.get(str(row.chapter), {}))
            ]
        if row.reader and not _is_there(str(row.reader)):
            found.append(f"{name}: {row.reader} cannot be imported")
    return found


def _of_parameters(text: str, defaults: Mapping[str, object]) -> list[str]:
    found = []
    try:
        given = parameters(text)
    except (SyntaxError, ValueError):
        return [f"{text!r} is not of the form name=value; name=value"]
    for name, value in given.items():
        if name not in defaults:
            found.append(f"the chapter has no parameter {name!r}")
        elif type(value) is not type(defaults[name]):
            found.append(f"{name} is {value!r}; the chapter's is a {type(defaults[name]).__name__}")
        elif isinstance(value, dict) and (own := defaults[name]) and (new := sorted(set(value) - set(own))):  # type: ignore[call-overload]
            found.append(f"{name} has no {', '.join(new)}")
    return found


def _is_there(name: str) -> bool:
    module, _, function = name.rpartition(".")
    try:
        return callable(getattr(importlib.import_module(module), function, None))
    except ImportError:
        return False


def page(table: pd.DataFrame) -> str:
    """Return Markdown: counts by study and state, then a table of each study."""
    counts = pd.crosstab(table["study"], table["state"])
    counts = counts.reindex(columns=STATES, fill_value=0).loc[table["study"].unique()]
    counts.loc["all"] = counts.sum()
    rows = [[html.escape(str(name)), *map(str, values)] for name, *values in counts.itertuples()]
    parts = [html_table(["study", *STATES], rows, name="Experiments by study and state", numeric=STATES)]
    for study, part in table.groupby("study", sort=False):
        body = [_cells(row) for _, row in part.iterrows()]
        head = ["system", "experiment", "state", "chapter", "what it needs, and remarks"]
        parts.append(f"## {study}\n\n" + html_table(head, body, name=f"Experiments: {study}"))
    return "\n\n".join(parts) + "\n"


def _cells(row: pd.Series) -> list[str]:
    where = f" ({html.escape(row['where'])})" if row["where"] else ""
    state = f'<span class="verdict {CLASSES[row["state"]]}">{row["state"]}</span>'
    stem = row["chapter"]
    chapter = f'<a href="executed/{stem}.html">{stem[:2]}</a>' if stem else ""
    needs = [f"<code>{html.escape(part)}</code>" for part in re.split(r";\s*(?=\w+=)", row["parameter"]) if part]
    if row["data"]:
        reader = f", read by <code>{html.escape(row['reader'])}</code>" if row["reader"] else ""
        needs.append(f"{html.escape(row['data'])}{reader}")
    if row["remark"]:
        needs.append(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(row["remark"])))
    return [html.escape(row["system"]), html.escape(row["experiment"]) + where, state, chapter, "; ".join(needs)]
