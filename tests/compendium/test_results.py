"""House format of tables and figures, and the comparison of a re-run with what was published."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.compendium import results
from naaplib.evaluation.style import subplots

WAS = "mae, row 1 (a): 0.0100 became"
FRAME = pd.DataFrame({"algorithm": ["1-NN", "3-NN"], "mae": [0.00712, np.nan], "violations": [52, 64]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> results.Folder:
    """A results folder as a run opens it."""
    monkeypatch.setenv("NAAPLIB_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("NAAPLIB_LINK", "../../results/05-baselines")
    return results.Folder("05-baselines", reads=[results.ROOT / "LICENSE"])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Markdown texts displayed, in order."""
    texts: list[str] = []
    monkeypatch.setattr(results, "display", lambda markdown: texts.append(markdown.data))
    return texts


def test_written_table_has_stated_digits_and_empty_missing_cells(folder: results.Folder) -> None:
    """Floats get their column's decimals, integers none, a missing value nothing."""
    folder.write_table(FRAME, "cells", digits={"mae": 3})
    assert (folder.path / "cells.csv").read_text() == "algorithm,mae,violations\n1-NN,0.007,52\n3-NN,,64\n"


def test_second_table_of_the_same_name_is_refused(folder: results.Folder) -> None:
    """Nothing that a run wrote is overwritten in the same run."""
    folder.write_table(FRAME, "cells")
    with pytest.raises(FileExistsError, match=r"cells\.csv was written before in this run of 05-baselines"):
        folder.write_table(FRAME, "cells")


@pytest.mark.parametrize("option", ["digits", "tolerance"])
def test_option_for_a_column_that_is_not_there_is_refused(folder: results.Folder, option: str) -> None:
    """A mistyped column name in digits or tolerance does not pass silently."""
    with pytest.raises(ValueError, match=r"\['mea'\]"):
        folder.write_table(FRAME, "cells", **{option: {"mea": 3}})


def test_record_holds_what_was_read_and_the_tolerances(folder: results.Folder) -> None:
    """The record names inputs by a path that holds on every machine."""
    folder.write_table(FRAME, "cells", tolerance={"mae": 0.001})
    record = json.loads((folder.path / "record.json").read_text())
    assert record == {
        "reads": {"LICENSE": results.sha256(results.ROOT / "LICENSE")},
        "tolerances": {"cells.csv": {"mae": 0.001}},
    }


def test_data_file_has_the_same_label_in_every_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NAAPLIB_DATA's file and data/'s file of the same name are the same input."""
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path))
    assert results.label(tmp_path / "naap440" / "naap440.csv") == "data/naap440/naap440.csv"
    assert results.label(results.ROOT / "data" / "naap440" / "naap440.csv") == "data/naap440/naap440.csv"


def test_a_link_in_a_data_folder_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leads to is this machine's affair, and must not get into a provenance."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "table.csv").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "naap440.csv").symlink_to(tmp_path / "store" / "table.csv")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    for folder in ("data", "linked"):
        monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path / folder))
        assert results.label(tmp_path / folder / "naap440.csv") == "data/naap440.csv"
    assert results.label(tmp_path / "data" / "other.csv") == "data/other.csv"


def test_shown_table_names_rows_and_columns_and_links_its_file(folder: results.Folder, shown: list[str]) -> None:
    """A screen reader finds caption and scopes; text is escaped; the CSV is one click away."""
    folder.show_table(FRAME.replace("1-NN", "a < b"), "Two rows (n = 2).", csv="cells", digits={"mae": 2})
    (text,) = shown
    assert "<caption>Two rows (n = 2).</caption>" in text
    assert re.findall(r'<th scope="(\w+)"[^>]*>([^<]*)<', text) == [
        ("col", "algorithm"), ("col", "mae"), ("col", "violations"), ("row", "a &lt; b"), ("row", "3-NN"),
    ]  # fmt: skip
    assert '<td class="number">0.01</td><td class="number">52</td>' in text
    assert "[Data (CSV)](../../results/05-baselines/cells.csv)" in text
    assert "\n\n" not in text[: text.index("</div>")], "a blank line would end the HTML block"


def test_shown_table_is_written_for_readers(folder: results.Folder, shown: list[str]) -> None:
    """Underscores and truth values are not shown; columns of numbers are aligned as such, also when given as text."""
    folder.show_table(pd.DataFrame({"goal": ["a"], "at_most": ["0.5"], "met": [True]}), "One goal (n = 1).")
    assert '<th scope="col" class="number">at most</th>' in shown[0]
    assert '<td class="number">0.5</td><td>yes</td>' in shown[0]


def test_figure_comes_with_data_caption_and_links_and_is_the_same_twice(
    folder: results.Folder, shown: list[str], tmp_path: Path
) -> None:
    """SVG and CSV are written, the same bytes from the same drawing, and the page leads to both."""
    for name in ("one", "two"):
        figure, axes = subplots()
        axes.plot([0, 1], [1, 0])
        folder.write_figure(figure, "slope", data=FRAME, caption="A slope (n = 2).", alt="A line that falls.")
        (folder.path / "slope.svg").rename(tmp_path / f"{name}.svg")
        (folder.path / "slope.csv").unlink()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert shown[0].startswith("![A line that falls.](../../results/05-baselines/slope.svg)\n\n*A slope (n = 2).*")
    assert "(../../results/05-baselines/slope.csv)" in shown[0]
    assert shown[0] == shown[1]


def test_alternative_text_that_would_break_the_page_is_refused(folder: results.Folder) -> None:
    """Markdown's own brackets cannot stand in the alternative text."""
    figure, _ = subplots()
    with pytest.raises(ValueError, match="must be one line without square brackets"):
        folder.write_figure(figure, "slope", data=FRAME, caption="A slope.", alt="see [1]")


@pytest.mark.parametrize(
    ("new", "tolerance", "expected"),
    [
        ("k,mae,v\na,0.0100,3\nb,0.0200,4\n", {}, ("identical", "")),
        ("k,mae,v\na,0.0110,3\nb,0.0200,4\n", {"mae": 0.001}, ("within tolerance", f"{WAS} 0.0110, allowed 0.001")),
        ("k,mae,v\na,0.0111,3\nb,0.0200,4\n", {"mae": 0.001}, ("different", f"{WAS} 0.0111, allowed 0.001")),
        ("k,mae,v\na,0.0110,3\nb,0.0200,5\n", {"mae": 0.001}, ("different", "v, row 2 (b): 4 became 5, allowed 0")),
        ("k,mae,v\nc,0.0100,3\nb,0.0200,4\n", {"mae": 0.001}, ("different", "k, row 1 (a): a became c, allowed 0")),
        ("k,mae,v\na,,3\nb,0.0200,4\n", {"mae": 0.001}, ("different", "mae, row 1 (a): 0.0100 became , allowed 0.001")),
        ("k,mae,v\na,0.0100,3\nb,0.0200,9\n", {"v": None}, ("within tolerance", "")),
        ("k,mae,v\na,0.0100,3\n", {}, ("different", "2 rows became 1")),
        ("k,mae\na,0.0100\nb,0.0200\n", {}, ("different", "columns ['k', 'mae', 'v'] became ['k', 'mae']")),
        (None, {}, ("different", "not written")),
    ],
)  # fmt: skip
def test_comparison_names_the_largest_difference(
    tmp_path: Path, new: str | None, tolerance: dict[str, float], expected: tuple[str, str]
) -> None:
    """Identical, within the stated tolerance (inclusive), or different, and where."""
    (tmp_path / "old.csv").write_text("k,mae,v\na,0.0100,3\nb,0.0200,4\n")
    if new is not None:
        (tmp_path / "new.csv").write_text(new)
    assert results.compare(tmp_path / "old.csv", tmp_path / "new.csv", tolerance=tolerance) == expected


def test_further_findings_are_a_list_under_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is left out; without any the answer stands alone."""
    for name, further, text in (("a", ("More.", "", "Last."), "Yes.\n\n- More.\n- Last.\n"), ("b", (), "Yes.\n")):
        monkeypatch.setenv("NAAPLIB_OUT", str(tmp_path / name))
        results.Folder("05-trial", reads=[results.ROOT / "LICENSE"]).write_answer(" Yes.\n", *further)
        assert (tmp_path / name / "answer.md").read_text() == text


def test_a_committed_answer_is_short() -> None:
    """Three sentences at most before the list, and two in each of its items."""
    for path in sorted((results.ROOT / "results").glob("[0-9][0-9]-*/answer.md")):
        first, *further = path.read_text(encoding="utf-8").replace("\n\n- ", "\n- ").split("\n- ")
        ends = [len(re.findall(r"[.?!](?:\s+(?=[A-Z*])|\s*$)", text)) for text in (first, *further)]
        assert ends[0] <= 3, path
        assert max(ends[1:], default=0) <= 2, path
