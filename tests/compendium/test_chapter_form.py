"""The form that chapters are given: boxes, folded code, parameters, numbers."""

import copy
import json

import pytest

from naaplib.compendium import chapter_form, run
from naaplib.sources import ROOT

INCLUDE = "```{include} ../../results/05-x/answer.md\n```"
HEAD = f"# Which?\n\n{INCLUDE}\n\n**What this does not show.** Much,\nand more.\n\nProse."
PROVENANCE = {
    "run": {"commit": "abc-dirty", "device": "CPU <1>", "n_cores": 2, "n_threads": "1", "seconds": 75.2},
    "reads": {"data/a.csv": "0"},
    "outputs": {"t.csv": "0", "f.csv": "0", "f.svg": "0", "answer.md": "0"},
}
SHOWN_TABLE = (
    '<div class="table-scroll" role="region">\n<table class="naap-table">\n<caption>All.</caption>\n<thead><tr>'
    '<th scope="col">name</th><th scope="col" class="number">macs</th></tr></thead>\n<tbody>\n'
    '<tr><th scope="row">a</th>'
    '<td class="number">1234567.5</td></tr>\n</tbody>\n</table>\n</div>\n\n[Data (CSV)](../../results/05-x/t.csv)'
)
SHOWN_FIGURE = "![Alt](../../results/05-x/f.svg)\n\n*A line.* [Data (CSV)](../../results/05-x/f.csv)"


def cell(kind: str, source: str, *outputs: str, tags: tuple[str, ...] = ()) -> dict:
    """A cell with Markdown outputs."""
    made = {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)} if tags else {}}
    if kind == "code":
        made["outputs"] = [{"output_type": "display_data", "data": {"text/markdown": text}} for text in outputs]
    return made


def notebook() -> dict:
    """A chapter with every part that has a form."""
    return {
        "cells": [
            cell("markdown", HEAD),
            cell("code", "n_seeds = 5  # runs; our choice\nscores = []  # names", tags=("parameters",)),
            cell("code", "a = 1"),
            cell("code", "score()", SHOWN_FIGURE, tags=("open",)),
            cell("code", "show()", SHOWN_TABLE),
            cell("markdown", "**Files and cost.** It reads a table."),
        ]
    }


def test_a_chapter_gets_its_form() -> None:
    """The title has its number; answer, limits and files are boxes; the run and the parameters are shown."""
    shaped = notebook()
    chapter_form.shape(shaped, "05-x", provenance=PROVENANCE, records=["2 h of work", "1 was made by other code"])
    first, table, files = (shaped["cells"][i]["source"] for i in (0, -2, -1))
    assert first.startswith('# 5. Which?\n\n<p class="badge-line">Run at <code>abc</code> with uncommitted changes')
    assert "CPU &lt;1&gt; · 1 min 15 s · 2 tables, 1 figure ·" in first
    assert f"::::{{admonition}} Answer\n:class: answer\n{INCLUDE}\n::::" in first
    assert ":::{admonition} What this does not show\n:class: limits\nMuch,\nand more.\n:::\n\nProse." in first
    assert "<code>n_seeds</code></th><td><code>5</code></td><td>runs; our choice</td>" in table
    assert 'make 05-x ARGS="-p n_seeds 10 --to results/trial"' in table
    assert files.startswith(":::{admonition} Files and cost\n:class: files\nIt reads a table.")
    assert "- **Reads** `data/a.csv`." in files
    assert "- **Records**: 2 h of work; 1 was made by other code." in files


@pytest.mark.parametrize(
    ("source", "example"),
    [
        ("seed = 20220819\nn_epochs = 3\nn_resamples = 100", "n_resamples 200"),
        ("other_seed = 1\nfirst_seed = 2\nn_epochs = 3", "n_epochs 6"),
        ("min_blocks = 3\nmax_strided = 3\nside = 32", "side 64"),
        ("n_jobs = 2\nn_seeds = 5", "n_seeds 10"),
    ],
)
def test_the_example_of_another_parameter_is_one_that_works(source: str, example: str) -> None:
    """Twice a seed says nothing, and twice a bound may leave no network; resamples are cheap."""
    assert f'ARGS="-p {example} --to' in chapter_form.parameter_table("05-x", source)


def test_code_is_folded_but_for_the_call_that_is_tagged() -> None:
    """A cell tagged "open" shows its code."""
    shaped = notebook()
    chapter_form.shape(shaped, "05-x", provenance=None)
    tags = [one["metadata"]["tags"] for one in shaped["cells"] if one["cell_type"] == "code"]
    assert [("hide-input" in one) for one in tags] == [True, True, False, True]


def test_figures_and_tables_are_numbered_by_chapter() -> None:
    """Captions begin with the number; a table's file names its anchor; numbers have separators."""
    shaped = notebook()
    labels = chapter_form.shape(shaped, "05-x", provenance=None)
    figure, table = (shaped["cells"][i]["outputs"][0]["data"]["text/markdown"] for i in (3, 4))
    assert labels == {"f": "Figure 5.1", "t": "Table 5.1"}
    assert "\n\n*Figure 5.1. A line.*" in figure
    assert '<caption><span class="number-of">Table 5.1.</span> All.</caption>' in table
    assert table.startswith('<div id="t" class="table-scroll"')
    assert ">1,234,567.5<" in table


def test_the_figure_that_shows_the_answer_stands_under_it() -> None:
    """The tagged cell's figure moves up and is the first; a link stays where it was, and its code too."""
    shaped = notebook()
    second = SHOWN_FIGURE.replace("f.svg", "g.svg").replace("f.csv", "g.csv")
    shaped["cells"].insert(4, cell("code", "again()", second, tags=("headline",)))
    labels = chapter_form.shape(shaped, "05-x", provenance=None)
    assert (labels["g"], labels["f"]) == ("Figure 5.1", "Figure 5.2")
    assert shaped["cells"][1]["outputs"][0]["data"]["text/markdown"].startswith("![Alt](../../results/05-x/g.svg)")
    (left,) = (one for one in shaped["cells"] if one["source"] == "again()")
    assert '<a href="#g">Figure 5.1</a>' in left["outputs"][0]["data"]["text/markdown"]


def test_seeds_and_identifiers_have_no_separators() -> None:
    """A seed is a name that happens to be a number."""
    table = SHOWN_TABLE.replace(">macs<", ">seed<")
    assert chapter_form.readable(table) == table


def test_a_notebook_without_the_usual_parts_stays_whole() -> None:
    """No part is needed: what is not found is not shaped."""
    plain = {"cells": [cell("markdown", "# Plain\n\nText.")]}
    chapter_form.shape(plain, "12-x", provenance=None)
    assert plain["cells"] == [cell("markdown", "# 12. Plain\n\nText.")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('a = "x"  # what; ours', [("a", '"x"', "what; ours")]),
        ("b = [\n    1,  # one\n    2,\n]  # all", [("b", "[ 1, 2, ]", "one; all")]),
        ("# a remark\nc = -1", [("c", "-1", "")]),
    ],
)
def test_parameters_are_read_with_their_comments(source: str, expected: list[tuple[str, str, str]]) -> None:
    """Name, value and comment of each, over several lines too."""
    assert chapter_form.parameters(source) == expected


@pytest.mark.parametrize("stem", run.stems())
def test_every_chapter_has_all_parts(stem: str) -> None:
    """Each executed copy gets an answer, limits, a table of its parameters and a footer."""
    path = ROOT / "book" / "executed" / f"{stem}.ipynb"
    shaped = json.loads(path.read_text())
    before = copy.deepcopy(shaped)
    chapter_form.shape(shaped, stem, provenance=chapter_form.provenance_of(ROOT / "book", stem))
    text = "\n".join("".join(one["source"]) for one in shaped["cells"] if one["cell_type"] == "markdown")
    parts = (":class: answer", ":class: limits", ":class: files", "## Parameters\n", 'class="badge-line"')
    assert [part for part in parts if text.count(part) != 1] == []
    code = [one["source"] for one in shaped["cells"] if one["cell_type"] == "code" and one["id"] != "shown-at-the-top"]
    assert code == [one["source"] for one in before["cells"] if one["cell_type"] == "code"]
