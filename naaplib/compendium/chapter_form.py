"""Form of a chapter in the book: boxes, folded code, parameters, numbers.

The executed copy stays as the run left it. The book's extension ``form`` gives it this form as Sphinx reads it, so that
all chapters share one.
"""

from __future__ import annotations

import ast
import html
import io
import json
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ANSWER = re.compile(r"^```\{include\} (\S+/answer\.md)\n```$", re.M)
LIMITS = re.compile(r"^\*\*What this does not show\.\*\*\s+(.+?)(?=\n\n|\Z)", re.M | re.S)
FILES = re.compile(r"\A\*\*Files[\w ]*\.\*\*\s+(.+)\Z", re.S)
TABLE = re.compile(r'<table class="naap-table">')
CSV = re.compile(r"\[Data \(CSV\)\]\(\S*?([^/\s]+)\.csv\)")
FIGURE = re.compile(r"\A!\[[^\]]*\]\(\S*?([^/\s]+)\.svg\)\n\n\*(?!\*)")
OPEN = "open"  # tag of a cell whose code stands open: the call that carries the method
HEADLINE = "headline"  # tag of a cell whose figure shows the answer, where it is not the one named here
HEADLINES = {
    "00-comparison": "figure-headline",
    "03-accuracy-table": "figure-runs",
    "04-feature-ablation": "figure-splits",
    "05-baselines": "figure-splits",
    "06-training-free-scores": "figure-taus",
    "07-feature-histories": "figure-early",
    "08-neural-predictor": "figure-systems",
    "09-search-strategies": "figure-n-against-k",
    "10-architecture-tuning": "figure-regret",
    "11-scale": "figure-seconds",
}
SHOWN_FILES = 8
WIDE = 8  # columns, from which on a table is set smaller
LONG = 14  # rows, from which on a table scrolls under its head


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(4.2), duration(75), duration(7260)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def parameters(source: str) -> list[tuple[str, str, str]]:
    """Name, value and comment of every assignment in a parameters cell."""
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            last = node.end_lineno or node.lineno
            said = [comments[line] for line in range(node.lineno, last + 1) if line in comments]
            value = ast.get_source_segment(source, node.value) or lines[node.lineno - 1]
            value = re.sub(r"\s*#[^\n]*$", "", value, flags=re.M) if "\n" in value else value
            found.append((node.targets[0].id, " ".join(value.split()), "; ".join(said)))
    return found


def parameter_table(stem: str, source: str) -> str:
    """Return Markdown: parameters as a table, and the command to run with others."""
    rows = parameters(source)
    body = "\n".join(
        f'<tr><th scope="row"><code>{html.escape(name)}</code></th><td><code>{html.escape(value)}</code></td>'
        f"<td>{html.escape(meaning)}</td></tr>"
        for name, value, meaning in rows
    )
    numbers = [(name, value) for name, value, _ in rows if value.isdigit() and name != "n_jobs" and name[-4:] != "seed"]
    name, value = min(numbers, key=lambda one: _rank(one[0]), default=rows[0][:2])
    other = str(2 * int(value)) if value.isdigit() else value.strip('"') or "VALUE"
    return (
        "## Parameters\n\n"
        '<div class="table-scroll" role="region" tabindex="0" aria-label="Parameters">\n'
        '<table class="naap-table parameters"><thead><tr><th scope="col">name</th><th scope="col">value</th>'
        f'<th scope="col">meaning, unit, source</th></tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</div>\n\n'
        "To run the chapter with another value, into a folder of its own:\n\n"
        f'```console\nmake {stem} ARGS="-p {name} {other} --to results/trial"\n```'
    )


def _rank(name: str) -> tuple[bool, bool, bool]:
    """Order parameters for an example: twice as many resamples are cheap, and twice a bound may leave nothing."""
    return name != "n_resamples", not name.startswith("n_"), name.startswith(("min", "max"))


def badge(stem: str, provenance: dict[str, Any]) -> str:
    """Return Markdown: commit, device and time of the run in one line."""
    run, outputs = provenance["run"], provenance.get("outputs", {})
    commit, dirty, _ = run["commit"].partition("-dirty")
    changes = " with uncommitted changes" if dirty else ""
    n_tables, n_figures = (sum(name.endswith(end) for name in outputs) for end in (".csv", ".svg"))
    parts = [
        f"Run at <code>{html.escape(commit)}</code>{changes}",
        f"{html.escape(run['device'])}",
        duration(run["seconds"]),
        ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in ((n_tables, "table"), (n_figures, "figure"))),
        '<a href="#parameters">parameters</a>',
    ]
    return '<p class="badge-line">' + " · ".join(parts) + "</p>"


def footer(stem: str, text: str, *, provenance: dict[str, Any] | None, records: Sequence[str] = ()) -> str:
    """Return Markdown: a grey box with files and cost of the chapter."""
    lines = [text.strip()]
    if provenance:
        run = provenance["run"]
        names = sorted(provenance["reads"])
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        reads = ", ".join(f"`{name}`" for name in names[:SHOWN_FILES]) + more if names else "no file"
        threads = {"default": "the libraries' number of threads", "1": "1 thread"}.get(
            run["n_threads"], f"{run['n_threads']} threads"
        )
        lines += [
            f"- **Reads** {reads}.",
            f"- **Writes** {len(provenance['outputs'])} files into `results/{stem}/`.",
            f"- **Costs** {duration(run['seconds'])} on {run['device']}, {run['n_cores']} cores, {threads}.",
        ]
    if records:
        lines.append(f"- **Records**: {'; '.join(records)}.")
    opening = lines[0] + "\n\n" if lines[0] else ""
    return ":::{admonition} Files and cost\n:class: files\n" + opening + "\n".join(lines[1:]) + "\n:::"


def thousands(cell: re.Match[str]) -> str:
    """Return a number of at least four digits with separators."""
    return f"{cell[1]}{int(cell[2]):,}{cell[3] or ''}<"


def readable(text: str) -> str:
    """Return a table's HTML with thousands separated, marked if wide or long.

    Seeds and identifiers stay as they are.
    """
    heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", text)
    if not any(re.search(r"seed|\bid\b|ModelId", head, re.I) for head in heads):
        text = re.sub(r'(<t[dh][^>]*class="number">-?)(\d{4,})(\.\d+)?<', thousands, text)
    if len(heads) > WIDE:
        text = text.replace('class="naap-table"', 'class="naap-table wide"', 1)
    if text.count("<tr>") > LONG:
        text = text.replace('class="table-scroll"', 'class="table-scroll long"', 1)
    return text


def number_outputs(cells: list[dict[str, Any]], number: int) -> dict[str, str]:
    """Number figures and tables in their captions.

    Returns labels, as "Figure 5.1", by the names of their files.
    """
    counts = {"Figure": 0, "Table": 0}
    named: dict[str, str] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(data.get("text/markdown", ""))
            csv = CSV.search(text)
            if figure := FIGURE.match(text):
                counts["Figure"] += 1
                label = f"Figure {number}.{counts['Figure']}"
                named.setdefault(figure[1], label)
                text = text[: figure.end() - 1] + f"*{label}. " + text[figure.end() :]
            elif TABLE.search(text):
                counts["Table"] += 1
                label = f"Table {number}.{counts['Table']}"
                text = readable(text).replace("<caption>", f'<caption><span class="number-of">{label}.</span> ', 1)
                if csv and csv[1] not in named:
                    named[csv[1]] = label
                    text = text.replace("<div ", f'<div id="{csv[1]}" ', 1)
            else:
                continue
            data["text/markdown"] = text
    return named


def hoist(cells: list[dict[str, Any]], stem: str) -> None:
    """Move the figure that shows the answer under the answer.

    Its place has a link to it. A chapter without such a figure stays as it is.
    """
    shown = [
        (cell, output, figure[1])
        for cell in cells
        for output in cell.get("outputs", [])
        if (figure := FIGURE.match("".join(output.get("data", {}).get("text/markdown", ""))))
    ]
    tagged = [one for one in shown if HEADLINE in one[0].get("metadata", {}).get("tags", [])]
    for _, output, name in tagged or [one for one in shown if one[2] == HEADLINES.get(stem)]:
        # MyST-NB leaves cells without a source out
        top = {"output_type": "display_data", "metadata": {}, "data": output["data"]}
        head = {
            "cell_type": "code",
            "id": "shown-at-the-top",
            "execution_count": None,
            "source": "# shown",
            "outputs": [top],
        }
        cells.insert(1, head | {"metadata": {"tags": ["remove-input"]}})
        link = f'<p class="moved"><a href="#{name}">Figure {int(stem[:2])}.1</a> is at the top of the chapter.</p>'
        output["data"] = {"text/markdown": link}
        break


def fold(cell: dict[str, Any]) -> None:
    """Fold the code of a cell unless it is tagged to stand open."""
    tags = cell.setdefault("metadata", {}).setdefault("tags", [])
    if not {OPEN, "hide-input", "hide-cell", "remove-input", "remove-cell"} & set(tags):
        tags.append("hide-input")
        if "parameters" in tags:
            cell["metadata"]["mystnb"] = {"code_prompt_show": "Code: parameters"}


def shape(
    notebook: dict[str, Any], stem: str, *, provenance: dict[str, Any] | None, records: Sequence[str] = ()
) -> dict[str, str]:
    """Give a notebook the form of a chapter, in place.

    Returns the labels of its figures and tables by the names of their files.
    """
    number = int(stem[:2])
    cells = notebook["cells"]
    table = ""
    for cell in cells:
        if cell["cell_type"] == "code":
            if "parameters" in cell.get("metadata", {}).get("tags", []):
                table = parameter_table(stem, "".join(cell["source"]))
            fold(cell)
            continue
        text = "".join(cell["source"])
        text = re.sub(r"\A# (?!\d)", f"# {number}. ", text)
        text = ANSWER.sub(r"::::{admonition} Answer\n:class: answer\n```{include} \1\n```\n::::", text)
        text = LIMITS.sub(r":::{admonition} What this does not show\n:class: limits\n\1\n:::", text)
        text = FILES.sub(lambda found: footer(stem, found[1], provenance=provenance, records=records), text)
        cell["source"] = text
    hoist(cells, stem)
    if provenance and cells and cells[0]["cell_type"] == "markdown":
        head, _, rest = cells[0]["source"].partition("\n")
        cells[0]["source"] = f"{head}\n\n{badge(stem, provenance)}\n{rest}"
    if table:
        last = ":class: files" in "".join(cells[-1]["source"]) and cells[-1]["cell_type"] == "markdown"
        place = len(cells) - 1 if last else len(cells)
        cells.insert(place, {"cell_type": "markdown", "id": "parameters-table", "metadata": {}, "source": table})
    return number_outputs(cells, number)


def provenance_of(book: Path, stem: str) -> dict[str, Any] | None:
    """The provenance of a chapter's results, or None without one."""
    path = book.parent / "results" / stem / "provenance.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def labels(book: Path, stem: str) -> dict[str, str]:
    """Labels of a chapter's figures and tables by the names of their files."""
    path = book / "executed" / f"{stem}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    hoist(cells, stem)
    return number_outputs(cells, int(stem[:2]))
