"""Claims of the five studies beside the book's numbers, with verdicts.

``claims.yaml`` says what is claimed and where the book has the same number: file, row and column. Nothing measured here
is typed: our numbers, and those printed numbers that a table of results holds, are read when the page is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from naaplib.sources import ROOT, WrongData

FILE = Path(__file__).with_name("claims.yaml")
REPRODUCED, NOT_REPRODUCED, NOT_TRIED = "reproduced", "not reproduced", "not tried"
SLACK = 1e-9  # decimal text read as binary floats: a gap of exactly the tolerance passes


@dataclass(frozen=True)
class Claim:
    """A claim, what the book has beside it, and the verdict."""

    study: str
    where: str
    claim: str
    printed: str
    here: str
    verdict: str
    rule: str = ""
    file: str = ""
    why: str = ""
    together: str = ""


def judge(
    rule: str, printed: float | None, *, here: float, low: float | None = None, high: float | None = None
) -> tuple[str, str]:
    """Return the verdict on a number, and the rule in words.

    Parameters
    ----------
    rule : str
        ``"within N"``: the two differ by at most N. ``"equals"``: they are the same. ``"at_most"``, ``"at_least"``:
        ours keeps the printed bound. ``"positive"``, ``"negative"``: the whole 95 % interval, `low` to `high`, lies on
        that side of zero.
    printed, here, low, high : float
        In the same unit.

    Examples
    --------
    >>> judge("within 5", 42, here=45)
    ('reproduced', 'within 5')
    >>> judge("positive", None, here=0.3, low=-0.1, high=0.7)
    ('not reproduced', 'interval above 0')
    """
    name, _, distance = rule.partition(" ")
    if name in ("positive", "negative"):
        if low is None or high is None:
            raise ValueError(f"the rule {rule!r} needs the columns of an interval: low and high")
        holds = low > 0 if name == "positive" else high < 0
        return (REPRODUCED if holds else NOT_REPRODUCED), f"interval {'above' if name == 'positive' else 'below'} 0"
    if printed is None:
        raise ValueError(f"the rule {rule!r} needs a printed number")
    if name == "within":
        holds, words = abs(here - printed) <= float(distance) + SLACK, rule
    elif name == "equals":
        holds, words = abs(here - printed) <= SLACK, "equal"
    elif name == "at_most":
        holds, words = here <= printed + SLACK, "at most"
    elif name == "at_least":
        holds, words = here >= printed - SLACK, "at least"
    else:
        raise ValueError(f"no rule {rule!r}: give within N, equals, at_most, at_least, positive or negative")
    return (REPRODUCED if holds else NOT_REPRODUCED), words


def select(table: pd.DataFrame, row: dict[str, Any], *, file: str) -> pd.DataFrame:
    """Return the rows that have these values; WrongData says that there are none."""
    for names, value in row.items():
        name = next((name for name in names.split("|") if name in table.columns), None)
        if name is None:
            raise WrongData(f"{file} has no column {names}; it has {list(table.columns)}")
        table = table[table[name].astype(str) == str(value)]
    if table.empty:
        raise WrongData(f"{file} has no row {row}: correct the reference in {FILE.name}")
    return table


def say(value: float) -> str:
    """A number with at most four significant decimals, thousands separated."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def resolve(entry: dict[str, Any], study: str, *, where: str, results: Path) -> Iterator[Claim]:
    """Yield the claims of one entry: one, or one for each row that it reads.

    WrongData says which reference leads nowhere.
    """
    printed, why = entry.get("printed"), entry.get("why", "")
    if why:
        shown = "" if printed is None else f"{printed:g}"
        yield Claim(study, where, claim=entry["claim"], printed=shown, here="", verdict=NOT_TRIED, why=why)
        return
    whole, rows = _read(entry, results)
    for _, row in rows.iterrows():
        claimed = row[printed] if isinstance(printed, str) else printed
        if claimed == "":
            continue  # the paper leaves this cell empty
        number = None if claimed is True else float(str(claimed))
        scale, here = float(entry.get("scale", 1)), _ours(entry, row, whole)
        low, high = (scale * float(row[entry[end]]) if end in entry else None for end in ("low", "high"))
        verdict, words = judge(entry["rule"], number, here=here, low=low, high=high)
        ours = say(here) if low is None or high is None else f"{say(here)} ({say(low)} to {say(high)})"
        text = entry["claim"].format_map({str(name): value for name, value in row.items()})
        said = "yes" if number is None else say(number)
        facts = {"verdict": verdict, "rule": words, "file": entry["file"], "together": entry.get("together", "")}
        yield Claim(study, where, claim=text, printed=said, here=ours, **facts)


def _read(entry: dict[str, Any], results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the table that an entry names, and the rows of it that it means."""
    path = results / entry["file"]
    if not path.is_file():
        raise WrongData(f"{FILE.name} refers to results/{entry['file']}, which is not there")
    whole = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [entry[key] for key in ("column", "low", "high", "over") if key in entry]
    names += [entry["printed"]] if isinstance(entry.get("printed"), str) else []
    if absent := sorted(set(names) - set(whole.columns)):
        raise WrongData(f"results/{entry['file']} has no column {absent}; it has {list(whole.columns)}")
    rows = select(whole, entry.get("row", {}), file=entry["file"])
    if "row" in entry and len(rows) != 1:
        raise WrongData(f"results/{entry['file']} has {len(rows)} rows {entry['row']}: name one")
    if entry.get("sum"):
        rows = pd.DataFrame({entry["column"]: [str(rows[entry["column"]].astype(float).sum())]})
    return whole, rows


def _ours(entry: dict[str, Any], row: pd.Series, whole: pd.DataFrame) -> float:
    """Compute our number from a row, and from other rows where the entry says so."""
    here = float(row[entry["column"]])
    if "over" in entry:
        here /= float(row[entry["over"]] or "inf")  # an empty cell: never
    other = {
        key: float(select(whole, entry[key], file=entry["file"])[entry["column"]].iloc[0])
        for key in ("plus", "minus", "by")
        if key in entry
    }
    here = (here + other.get("plus", 0) - other.get("minus", 0)) / other.get("by", 1)
    return here * float(entry.get("scale", 1))


def claims(results: Path = ROOT / "results", file: Path = FILE) -> list[Claim]:
    """Return all claims with their verdicts, in the order of the file.

    Parameters
    ----------
    results : Path
        Folder of the chapters' results.
    file : Path
        The list of claims.

    Raises
    ------
    naaplib.sources.WrongData
        If a claim refers to a file, column or row that is not there.
    """
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [
        claim
        for group in groups
        for entry in group["claims"]
        for claim in resolve(entry, group["study"], where=group["where"], results=results)
    ]


def beside(other: Path, stems: Collection[str]) -> pd.DataFrame:
    """Judge the claims of some chapters on two tables of accuracies.

    Parameters
    ----------
    other : Path
        Folder of results of the chapters on another table, as `naaplib.compendium.editions` makes it. A claim whose row
        it lacks, as after a trial with fewer algorithms, is left out.
    stems : collection of str
        The chapters.

    Returns
    -------
    DataFrame
        study, where, claim, printed, and for both tables our number and the verdict: here, verdict, there,
        verdict_there.
    """
    key = ["study", "where", "claim", "printed"]
    ours = pd.DataFrame([claim.__dict__ for claim in claims() if claim.file.split("/")[0] in stems])
    found = []
    for group in yaml.safe_load(FILE.read_text(encoding="utf-8")):
        for entry in group["claims"]:
            if entry.get("file", "").split("/")[0] in stems:
                with suppress(WrongData):
                    found += [
                        claim.__dict__ for claim in resolve(entry, group["study"], where=group["where"], results=other)
                    ]
    theirs = pd.DataFrame(found, columns=list(ours)).rename(columns={"here": "there", "verdict": "verdict_there"})
    both = ours.merge(theirs[[*key, "there", "verdict_there"]], on=key)
    return both[[*key, "here", "verdict", "there", "verdict_there"]]


def table(found: list[Claim]) -> pd.DataFrame:
    """Return claims as a table with one row each."""
    columns = ["study", "where", "claim", "printed", "here", "rule", "verdict", "file", "why"]
    return pd.DataFrame([{name: getattr(claim, name) for name in columns} for claim in found], columns=columns)


def lines(found: list[Claim]) -> list[dict[str, str]]:
    """Return the lines of the page: one for a claim, or for claims shown together."""
    shown: list[dict[str, str]] = []
    groups: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in found:
        if claim.together:
            groups.setdefault((claim.study, claim.where, claim.together), []).append(claim)
    done = set()
    for claim in found:
        key = (claim.study, claim.where, claim.together)
        line = {name: getattr(claim, name) for name in ("study", "where", "claim", "printed", "here", "rule", "file")}
        line |= {"verdict": claim.verdict if not claim.why else f"{claim.verdict}: {claim.why}"}
        if claim.together:
            if key in done:
                continue
            done.add(key)
            counts = Counter(one.verdict for one in groups[key])
            n_equal = sum(one.printed == one.here for one in groups[key])
            line |= {
                "claim": claim.together,
                "printed": f"{len(groups[key])} numbers",
                "here": f"{n_equal} equal",
                "verdict": ", ".join(f"{counts[name]} {name}" for name in (REPRODUCED, NOT_REPRODUCED) if counts[name]),
            }
        shown.append(line)
    return shown
