"""What the book's own Sphinx extensions write, and whether its pages name everything there is."""

import importlib.util
import json
import pkgutil
import re
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document

from naaplib.compendium import pages

ROOT = Path(__file__).resolve().parents[1]


def extension(name: str) -> ModuleType:
    """A local extension of the book as a module."""
    spec = importlib.util.spec_from_file_location(f"book_{name}", ROOT / "book" / "_ext" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fragments = extension("fragments")


def run(seconds: float, threads: str = "1", commit: str = "0123456789ab") -> str:
    """A provenance whose run took so long."""
    where = {"device": "Fast CPU", "n_cores": 2, "n_threads": threads, "python": "3.11.7"}
    return json.dumps({"run": where | {"commit": commit, "seconds": seconds, "versions": {"torch": "2.11.0"}}})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two chapters; the first shows a table and a figure, and has a third CSV that it does not show."""
    one = "../../results/01-one"
    outputs = [
        f"<table>\n<caption>Best &amp; worst; n = 2.</caption></table>\n\n[Data (CSV)]({one}/best.csv) · [x](y)",
        f"![A line]({one}/line.svg)\n\n*A line, n = 3.* [Data (CSV)]({one}/line.csv) · [x](y)",
    ]
    for stem, title, shown in (("01-one", "What is one?", outputs), ("02-two", "Two?", [])):
        folder = tmp_path / "results" / stem
        folder.mkdir(parents=True)
        cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nText.")]
        for text in shown:
            output = nbformat.v4.new_output("display_data", {"text/markdown": text})
            cells.append(nbformat.v4.new_code_cell("folder.show()", outputs=[output]))
        (tmp_path / "executed").mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "executed" / f"{stem}.ipynb")
    one = tmp_path / "results" / "01-one"
    (one / "best.csv").write_text("name,mae\na,0.1\nb,0.2\n")
    (one / "line.csv").write_text("x\n1\n")
    (one / "raw.csv").write_text(",".join(f"c{i}" for i in range(15)) + "\n")
    (one / "provenance.json").write_text(run(75.2))
    (tmp_path / "results" / "02-two" / "provenance.json").write_text(run(4, "2", "0123456789ab-dirty"))
    return tmp_path


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"), (3599.7, "1 h 0 min"), (7260, "2 h 1 min")],
)
def test_durations_are_said_in_the_two_largest_units(seconds: float, expected: str) -> None:
    """Rounding comes first, so that 59.6 s is a minute."""
    assert fragments.duration(seconds) == expected


def test_runs_are_listed_by_machine(project: Path) -> None:
    """Runs with other threads stand apart; a commit with changes on top is said to have them."""
    expected = (
        "On one Fast CPU, 2 cores visible, 1 thread; Python 3.11.7, torch 2.11.0:\n\n"
        "| Chapter | Time | Commit |\n|---|---:|---|\n"
        "| [01-one](executed/01-one.ipynb) | 1 min 15 s | `0123456789ab` |\n\n"
        "On one Fast CPU, 2 cores visible, 2 threads; Python 3.11.7, torch 2.11.0:\n\n"
        "| Chapter | Time | Commit |\n|---|---:|---|\n"
        "| [02-two](executed/02-two.ipynb) | 4 s | `0123456789ab` and uncommitted changes |\n"
    )
    assert fragments.write_runs(project / "results") == expected


def test_downloads_are_described_by_their_captions(project: Path) -> None:
    """Each CSV has its caption where the chapter shows it, its size, and at most twelve column names."""
    names = ", ".join(f"`c{i}`" for i in range(12))
    expected = (
        "### 01-one: What is one?\n\n"
        "- [best.csv](../results/01-one/best.csv): Best &amp; worst; n = 2. 2 rows; `name`, `mae`.\n"
        "- [line.csv](../results/01-one/line.csv): A line, n = 3. 1 row; `x`.\n"
        f"- [raw.csv](../results/01-one/raw.csv): 0 rows; {names} and 3 more.\n\n"
        "### 02-two: Two?\n\n\n"
    )
    assert fragments.write_downloads(project / "results", project / "executed") == expected


def test_outside_files_are_named_with_address_checksum_and_licence() -> None:
    """Every file that `naaplib.sources` can fetch is on the page about data."""
    text = fragments.write_sources()
    missing = [
        name
        for name, file in fragments.FILES.items()
        if f"`{name}`\n: From <{file.address}>; licence: {file.licence}; SHA-256 `{file.sha256}`" not in text
    ]
    assert missing == []


def test_image_and_emphasised_paragraph_become_a_figure() -> None:
    """The emphasis is the caption, what follows it stays beside it, the file's name is the anchor."""
    document = new_document("page")
    image = nodes.image(uri="../../results/01-one/line.svg", alt="A line")
    document += nodes.paragraph("", "", image)
    link = nodes.reference("", "Data", refuri="line.csv")
    document += nodes.paragraph("", "", nodes.emphasis("", "A line."), nodes.Text(" "), link)
    extension("chapters").CaptionFigures(document).apply()
    (figure,) = document.children
    actual = (
        type(figure),
        figure["ids"],
        figure[0]["alt"],
        figure[1].astext(),
        len(list(figure[1].findall(nodes.reference))),
    )
    assert actual == (nodes.figure, ["line"], "A line", "A line.  Data", 1)


@pytest.mark.parametrize(("content", "classes"), [("<svg/>", []), ("<svg><image/></svg>", ["pixels"])])
def test_figure_with_pixels_is_marked(tmp_path: Path, content: str, classes: list[str]) -> None:
    """Its lightness means something, so that a dark page must not turn it round."""
    (tmp_path / "map.svg").write_text(content)
    document = new_document(str(tmp_path / "page.md"))
    document["source"] = str(tmp_path / "page.md")
    document += nodes.paragraph("", "", nodes.image(uri="map.svg", alt="A map"))
    document += nodes.paragraph("", "", nodes.emphasis("", "A map."))
    extension("chapters").CaptionFigures(document).apply()
    assert document[0]["classes"] == classes


def test_image_without_caption_stays_as_it_is() -> None:
    """An image in a sentence, or before ordinary text, is no figure."""
    document = new_document("page")
    document += nodes.paragraph("", "", nodes.image(uri="a.svg", alt="A"))
    document += nodes.paragraph("", "Text.")
    extension("chapters").CaptionFigures(document).apply()
    assert [type(child) for child in document.children] == [nodes.paragraph, nodes.paragraph]


def test_glossary_is_read_with_first_sentences() -> None:
    """Terms without marks; each entry ends with its first sentence."""
    found = extension("terms").entries((ROOT / "book" / "metrics.md").read_text())
    assert found["zero-cost proxy"].startswith("A score of a network that has not been trained")
    assert [term for term, text in found.items() if not text or "\n" in text or "`" in text] == []


@pytest.mark.parametrize(("address", "buttons"), [("", False), ("https://example.org/a/b", True)])
def test_buttons_follow_the_address_of_the_repository(address: str, buttons: bool) -> None:
    """Without an address the theme gets no option; with one it gets the buttons that need it."""
    config = SimpleNamespace(repository_address=address, repository_branch="main", html_theme_options={})
    extension("repository").add_buttons(None, config)
    chosen = config.html_theme_options
    assert [chosen.get("use_edit_page_button", False), "launch_buttons" in chosen] == [buttons, buttons]


def test_buttons_of_a_chapter_lead_to_its_source() -> None:
    """An executed copy is made, so that an edit of it would be lost; nested buttons are mended too."""
    buttons = [{"buttons": [{"url": "https://example.org/edit/main/book/executed/05-x.ipynb"}]}, {"type": "toggle"}]
    extension("repository").to_source(buttons)
    assert buttons[0]["buttons"][0]["url"] == "https://example.org/edit/main/notebooks/05-x.ipynb"


def test_the_reference_covers_every_module() -> None:
    """Each module of naaplib has one section on a page and one line in the list of modules; nothing else has."""
    files = (
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "naaplib").rglob("*.py")
        if path.name != "__init__.py"
    )
    modules = {".".join(file.parts) for file in files}
    pages = "\n".join(path.read_text() for path in (ROOT / "book" / "api").glob("*.md"))
    described = Counter(re.findall(r"automodule:: (\S+)", pages))
    listed = Counter(re.findall(r"^   (naaplib\S+)$", pages, re.M))
    once = Counter(modules)
    assert [described - once, listed - once, once - described, once - listed] == [Counter()] * 4


def test_every_chapter_has_its_place() -> None:
    """Each notebook is in the table of contents, and the first sentence of its answer on the first page."""
    stems = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    shown = pages.first_page(ROOT / "results", ROOT / "book")
    answers = {stem for stem in stems if f"(executed/{stem}.ipynb)\n: " in shown}
    assert "{include} ../build/book/first.md" in (ROOT / "book" / "intro.md").read_text()
    chapters = {file.removeprefix("executed/") for file in files if file.startswith("executed/")}
    assert (chapters ^ stems, answers ^ stems) == (set(), set())


def prose() -> dict[str, str]:
    """Text of every page of the book and of every notebook, by its path; outputs and code are left out."""
    texts = {
        path: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("book/api/*.md")]
    }
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return {path.relative_to(ROOT).as_posix(): text for path, text in texts.items()}


def names(text: str) -> list[str]:
    """Dotted names of ours in a text; the package's name alone, and paths of files, are none."""
    return re.findall(r"(?<![\w/.-])naaplib(?:\.\w+)+", text)


def test_the_prose_names_what_exists() -> None:
    """Every module, class and function that a page names with its whole name can be imported."""
    absent = []
    for path, text in prose().items():
        for name in names(text):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                absent.append(f"{path}: {name}")
    assert absent == []


def test_a_name_is_found_in_prose() -> None:
    """At the end of a sentence and in a directive too; a file's path is not taken for a name."""
    text = "See `naaplib.tables`.\n.. automodule:: naaplib.search.tuning\nnaaplib/tables/derived.csv, naaplib."
    assert names(text) == ["naaplib.tables", "naaplib.search.tuning"]


PRIVATE = (  # what the field has other words for
    r"foretold|foretells?|mended|shaken|gave out|spelled out|taken up again|goes on from|(?:is|are|was|were) judged by|"
    r"(?:go|goes|going) by|(?:a|the|its|of) rate (?:falls|restarts|of)|to be told|(?<!well )worth \d"
)


def test_the_prose_has_the_words_of_the_field() -> None:
    """Chapters and pages of the book say predict, repaired, perturbed, diverged, per block, resume and score."""
    pages = {path: text for path, text in prose().items() if path.startswith(("book/", "notebooks/"))}
    found = {path: re.findall(PRIVATE, text.replace("\n", " ")) for path, text in pages.items()}
    assert {path: words for path, words in found.items() if words} == {}
