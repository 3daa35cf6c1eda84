"""Read the file of a search, finished or still running, as a table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from naaplib.search.journal import MARK, RETRY
from naaplib.search.tuning import FIDELITIES

NO_TRACE = "is no trace of a search: name a file that a search wrote, as storage= or trace="


def read(path: str | Path) -> pd.DataFrame:
    """Read the evaluations in the file of a search.

    The file may be in use: it is not locked, and an incomplete last line is left out.

    Parameters
    ----------
    path : path
        File with one JSON object a line: of `naaplib.search.strategies` or of `naaplib.search.tuning`.

    Returns
    -------
    DataFrame
        One row per evaluation, in the file's order: step (from 1), configuration (as JSON; the position in its space
        for a tuning search), budget (epochs, or the name of the fidelity), spent (epochs so far, or evaluations),
        value (NaN for a failure), failure (text), best (highest value so far at the largest budget so far).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is not one of a search.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    entries = _entries(path)
    rows: list[dict[str, Any]] = []
    trained: dict[str, int] = {}
    spent, best, longest = 0, math.nan, -math.inf
    for entry in entries:
        found = entry.get("score", entry.get("value"))
        value = math.nan if found is None else float(found)
        if "configuration" in entry:
            name, budget = json.dumps(entry["configuration"]), entry["budget"]
            spent += max(budget - trained.get(name, 0), 0)
            trained[name] = max(budget, trained.get(name, 0))
            level, shown = budget, budget
        else:
            name, level = str(entry["position"]), -entry["fidelity"]  # 0 is the full one
            shown = FIDELITIES[entry["fidelity"]]
            spent += 1
        if math.isfinite(value) and (level > longest or (level == longest and not value <= best)):
            best, longest = value, level
        rows.append({
            "step": len(rows) + 1, "configuration": name, "budget": shown, "spent": spent, "value": value,
            "failure": entry.get("failure", ""), "best": best,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["step", "configuration", "budget", "spent", "value", "failure", "best"])


def summarise(trace: pd.DataFrame) -> dict[str, Any]:
    """Return the number of evaluations and failures, what was spent, and the best.

    >>> rows = {"configuration": ["[1]", "[2]"], "budget": [3, 3], "spent": [3, 6], "value": [0.5, 0.7], "failure": ""}
    >>> summarise(pd.DataFrame(rows).assign(best=[0.5, 0.7]))["configuration"]
    '[2]'
    """
    found: dict[str, Any] = {
        "evaluations": len(trace),
        "failures": int((trace["failure"] != "").sum()),
        "spent": int(trace["spent"].max()) if len(trace) else 0,
    }
    if trace["best"].notna().any():
        best = trace["best"].iloc[-1]
        level = trace["budget"].map(lambda one: -FIDELITIES.index(one) if isinstance(one, str) else one)
        longest = level == level[trace["value"].notna()].max()  # a smaller budget may have given the same value
        row = trace[longest & (trace["value"] == best)].iloc[0]  # the first, as in `naaplib.search.Study`
        budget = row["budget"] if isinstance(row["budget"], str) else int(row["budget"])
        found |= {"best": float(best), "configuration": row["configuration"], "budget": budget}
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return the evaluations; a second one of the same kind replaces a failure."""
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        first, *lines = [json.loads(line) for line in whole]
        if not first.keys() & {MARK, "strategy", "tool"}:
            raise ValueError
        entries: dict[str, dict[str, Any]] = {}
        for line in lines:
            if RETRY in line:
                continue
            subject = {key: line[key] for key in ("configuration", "budget", "position", "fidelity") if key in line}
            if "budget" not in subject and "fidelity" not in subject:
                raise ValueError
            entries[json.dumps(subject)] = line
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{path} {NO_TRACE}") from None
    return list(entries.values())
