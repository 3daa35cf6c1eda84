"""Pages made of results: first page, dictionary, archive, citation."""

import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from naaplib.compendium import pages
from naaplib.sources import ROOT


def test_almost_every_column_is_in_the_dictionary() -> None:
    """At most one column in twenty may be new and not yet described; the message names them."""
    known = pd.read_csv(ROOT / "book" / "columns.csv", dtype=str, keep_default_na=False)
    found = pages.describe_columns(ROOT / "results", known)
    missing = list(found.loc[found["meaning"] == "", "column"])
    assert len(missing) <= len(found) / 20, f"describe in book/columns.csv: {missing}"


def test_a_column_is_described_by_the_first_line_that_fits(tmp_path: Path) -> None:
    """Exact names and regular expressions, whose groups stand in the meaning; unknown ones have none."""
    (tmp_path / "05-x").mkdir()
    file = tmp_path / "05-x" / "t.csv"
    file.write_text("mae,mae_low,new\n")
    known = pd.DataFrame(
        [("mae", "accuracy", "error"), (r"^(.+)_low", r"as \1", r"lower end of \1")],
        columns=["column", "unit", "meaning"],
    )
    found = pages.describe_columns(tmp_path, known)
    expected = [
        ("mae", "error", "accuracy", "05-x/t.csv"),
        ("mae_low", "lower end of mae", "as mae", "05-x/t.csv"),
        ("new", "", "", "05-x/t.csv"),
    ]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_the_archive_holds_every_table_and_is_the_same_each_time(tmp_path: Path) -> None:
    """Its bytes depend on its content only."""
    (tmp_path / "05-x").mkdir()
    (tmp_path / "05-x" / "t.csv").write_text("a\n1\n")
    (tmp_path / "records" / "x").mkdir(parents=True)
    (tmp_path / "records" / "x" / "slow.csv").write_text("b\n2\n")
    archives = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for path in archives:
        pages.write_zip(path, tmp_path, others={"dictionary.csv": "column\n"})
    with zipfile.ZipFile(archives[0]) as archive:
        names = [name.removeprefix("naaplib-tables/") for name in archive.namelist()]
    assert names == ["05-x/t.csv", "dictionary.csv", "records/x/slow.csv"]
    assert archives[0].read_bytes() == archives[1].read_bytes()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Results and executed copies of one chapter."""
    (tmp_path / "results" / "05-x").mkdir(parents=True)
    (tmp_path / "results" / "05-x" / "answer.md").write_text("It is **3**. And more.\n")
    (tmp_path / "book" / "executed").mkdir(parents=True)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# How many?")])
    nbformat.write(made, tmp_path / "book" / "executed" / "05-x.ipynb")
    return tmp_path


def test_the_first_page_has_a_sentence_for_each_chapter(project: Path) -> None:
    """Without a comparison it has no figure."""
    text = pages.first_page(project / "results", project / "book")
    assert text == "## Each chapter in a sentence\n\n[5. How many?](executed/05-x.ipynb)\n: It is **3**.\n"


def test_the_first_page_begins_with_the_answer_and_its_one_figure(project: Path) -> None:
    """The answer and the figure as the chapter shows them; then the recommendations, each with its interval."""
    assert pages.opening(project / "results", project / "book") == ""
    folder = project / "results" / "00-comparison"
    folder.mkdir()
    (folder / "answer.md").write_text("Before it is trained. And so on.\n")
    cells = [nbformat.v4.new_markdown_cell("# All?")]
    for name in ("figure-headline", "figure-sample-efficiency"):
        text = f"![Alt](../../results/00-comparison/{name}.svg)\n\n*Caption.* [Data (CSV)](../../results/x.csv)"
        outputs = [nbformat.v4.new_output("display_data", {"text/markdown": text})]
        cells.append(nbformat.v4.new_code_cell("draw()", outputs=outputs))
    (folder / "recommendation.csv").write_text(
        "you_have,use,needs,epochs,kendall_tau,low,high\n<40 networks,MACs,0,0,0.7361,0.716,0.757\n"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "book" / "executed" / "00-comparison.ipynb")
    top = pages.opening(project / "results", project / "book")
    box = ":::{admonition} Answer\n:class: answer\nBefore it is trained. And so on.\n:::"
    assert top.startswith(f"{box}\n\n![Alt](../results")
    assert (top.count("figure-headline.svg"), top.count("figure-sample")) == (1, 0)
    text = pages.first_page(project / "results", project / "book")
    places = [text.index(part) for part in ["you have", "0.74 (0.72 to 0.76)", "How many?"]]
    assert places == sorted(places)
    assert "needs" not in text
    assert "&lt;40 networks" in text


def test_the_citation_is_that_of_the_file() -> None:
    """Title and version stand in the box and in the BibTeX entry."""
    text = pages.citation(ROOT / "CITATION.cff")
    assert text.count("naaplib: predicting a neural network's accuracy") == 2
    assert "@software{naaplib," in text
