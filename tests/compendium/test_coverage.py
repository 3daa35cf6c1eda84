"""The page of what runs: its list agrees with notebooks and library, and its faults are found."""

import re

import pandas as pd
import pytest

from naaplib.compendium import coverage, run


@pytest.fixture
def row() -> dict[str, str]:
    """A correct row."""
    return dict.fromkeys(coverage.COLUMNS, "") | {
        "study": "A study", "system": "scores", "experiment": "one & all", "where": "Table 1", "state": coverage.SMALL,
        "chapter": "06-training-free-scores", "parameter": 'n_cells=100; te_nas={"n_seeds": 5}',
    }  # fmt: skip


def test_the_list_agrees_with_the_code() -> None:
    """Chapters exist, parameters are in their notebooks with values of the right type, readers can be imported."""
    table = coverage.read()
    assert coverage.faults(table) == []
    assert not table.duplicated(["study", "experiment"]).any()


def test_every_study_and_every_chapter_is_in_the_list() -> None:
    """Five studies with each state somewhere, and each chapter beside what it runs."""
    table = coverage.read()
    studies = ["NAAP-440", "Neural predictor", "Architecture tuning", "Feature histories", "Training-free scores"]
    assert list(table["study"].unique())[:5] == studies
    assert set(table["state"]) == set(coverage.STATES)
    assert set(run.stems()) == set(table["chapter"]) - {""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "done"}, "the state is 'done'"),
        ({"chapter": "06-scores"}, "no chapter '06-scores'"),
        ({"chapter": ""}, "no chapter is named"),
        ({"parameter": ""}, "no parameter makes it"),
        ({"parameter": "n_networks=3"}, "no parameter 'n_networks'"),
        ({"parameter": 'n_cells="all"'}, "the chapter's is a int"),
        ({"parameter": 'te_nas={"seeds": 5}'}, "te_nas has no seeds"),
        ({"parameter": "n_cells"}, "not of the form"),
        ({"reader": "naaplib.tables.official.read_nothing"}, "cannot be imported"),
        ({"reader": "naaplib.nothing.read"}, "cannot be imported"),
        ({"state": coverage.DATA}, "not which, or who reads it"),
        ({"state": coverage.NOT_DONE}, "but a chapter or a parameter"),
    ],
)
def test_a_fault_is_named(row: dict[str, str], change: dict[str, str], message: str) -> None:
    """One row is right as it is; each change of it has one fault."""
    assert coverage.faults(pd.DataFrame([row])) == []
    faults = coverage.faults(pd.DataFrame([row | change]))
    assert any(message in fault for fault in faults), faults


def test_a_table_of_other_columns_is_refused() -> None:
    """The message names those that it must have."""
    assert "they must be" in coverage.faults(pd.DataFrame({"study": ["x"]}))[0]


def test_the_page_counts_and_links(row: dict[str, str]) -> None:
    """Numbers by state add up; a row has its chapter's link and its parameters as code; text is escaped."""
    other = row | {"experiment": "b", "state": coverage.NOT_DONE, "chapter": "", "parameter": "", "remark": "see `f`"}
    text = coverage.page(pd.DataFrame([row, other]))
    (line,) = re.findall(r'<tr><th scope="row"[^>]*>all</th>.*</tr>', text)
    assert re.findall(r">(\d+)<", line) == ["0", "1", "0", "1"]
    assert '<a href="executed/06-training-free-scores.html">06</a>' in text
    assert "<code>n_cells=100</code>; <code>te_nas={&quot;n_seeds&quot;: 5}</code>" in text
    assert "one &amp; all (Table 1)" in text
    assert "see <code>f</code>" in text
    assert "## A study" in text
