"""The built book in a browser: every page, wide and on a phone, light and dark."""

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build" / "book"  # not book/_build, which belongs to `make book`
WIDTHS = (1280, 390)
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
KINDS = ("console", "request", "image", "alternative text", "overflow", "cut off", "accessibility")

# Preloading would fetch style sheets a second time, from wrong addresses; what is not a violation is not reported.
AXE = {"preload": False, "resultTypes": ["violations"]}
CONTRAST = AXE | {"runOnly": ["color-contrast"]}
ALL_BUT_CONTRAST = AXE | {"rules": {"color-contrast": {"enabled": False}}}
# Accessibility faults of the theme itself: axe's rule, a part of the element's selector, why it stays.
THEME_FAULTS = (("region", ".title", "the theme puts the book's name above its navigation, outside of every landmark"),)


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong on one page in one view."""

    kind: str
    page: str
    view: str
    what: str


# Building and serving


@pytest.fixture(scope="session")
def build() -> subprocess.CompletedProcess[str]:
    """The book built afresh, warnings as errors."""
    shutil.rmtree(OUTPUT / "_build", ignore_errors=True)
    program = str(Path(sys.executable).with_name("jupyter-book"))
    command = [program, "build", "book", "-n", "-W", "--keep-going", "--path-output", str(OUTPUT)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def site(build: subprocess.CompletedProcess[str]) -> Path:
    """Folder of the built pages, whether or not the build had warnings."""
    folder = OUTPUT / "_build" / "html"
    assert (folder / "intro.html").is_file(), build.stdout + build.stderr
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system, cut off from every host but this one."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "no chromium on this machine: install it (Debian: apt-get install chromium) to check the book's pages"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        yield browser
        browser.close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def serve() -> Iterator[object]:
    """A function from a folder to the address at which it is served."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


# Looking at pages

LOOK = """() => {
  const name = image => image.getAttribute('src') || image.outerHTML.slice(0, 80);
  const images = [...document.images];
  const content = document.querySelector('main') || document.body;
  const folded = [...document.querySelectorAll('details:not([open])')];
  folded.forEach(fold => fold.open = true);
  // Code wraps and tables fit; where the window is narrow, a table may scroll if the keyboard can reach it.
  const cut = [...content.querySelectorAll('pre, table, .table-scroll')].filter(element => {
    const scroller = element.closest('.table-scroll');
    const mayScroll = scroller && scroller.tabIndex === 0 && window.innerWidth < 1000;
    if (mayScroll) return getComputedStyle(scroller).overflowX !== 'auto';
    return element.scrollWidth > element.clientWidth + 1
      || element.getBoundingClientRect().right > content.getBoundingClientRect().right + 1;
  }).map(element => `${element.tagName} ${element.getAttribute('aria-label') || element.textContent.slice(0, 60)}`);
  folded.forEach(fold => fold.open = false);
  return {
    'cut off': cut,
    'image': images.filter(image => !(image.complete && image.naturalWidth)).map(name),
    // An empty text is right for a decoration outside of the content, such as the mark beside the book's name.
    'alternative text': images
      .filter(image => !image.alt.trim() && (content.contains(image) || !image.hasAttribute('alt')))
      .map(name),
    'overflow': document.documentElement.scrollWidth > window.innerWidth
      ? [`${document.documentElement.scrollWidth} px in a window of ${window.innerWidth} px`] : [],
  };
}"""


# The theme follows the system a moment later; a page without the theme has nothing to wait for.
FOLLOWS = "scheme => [undefined, scheme].includes(document.documentElement.dataset.theme)"


def switch(page: Page, scheme: str) -> None:
    """Let the page follow a colour scheme of the system."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(FOLLOWS, arg=scheme)


# Contrast takes most of the time. Of texts whose elements have the same kinds, styles and rows of tables around them,
# and so the same colours, one that is seen stays.
REMOVE_TWINS = """() => {
  const kind = e => [e.tagName, e.className, e.getAttribute('style'), e.tagName === 'TR' && e.rowIndex % 2].join('.');
  const seen = new Set();
  for (const element of [...document.querySelectorAll('.bd-article *')]) {
    if (element.children.length || !element.textContent.trim() || !element.checkVisibility()) continue;
    const kinds = [];
    for (let around = element; around; around = around.parentElement) kinds.push(kind(around));
    if (seen.has(kinds.join(' '))) element.remove();
    seen.add(kinds.join(' '));
  }
}"""


def look(page: Page, name: str, view: str) -> set[Fault]:
    """Faults of images and of layout that the page has as it stands."""
    return {Fault(kind, name, view, what) for kind, found in page.evaluate(LOOK).items() for what in found}


def inaccessible(page: Page, name: str, view: str, seen: set[int], rules: dict[str, object]) -> set[Fault]:
    """Faults by some of axe's rules; `seen` collects which entries of THEME_FAULTS were met."""
    faults = set()
    for violation in Axe().run(page, None, rules).response["violations"]:
        for node in violation["nodes"]:
            selector = " ".join(str(part) for part in node["target"])
            known = {
                i for i, (rule, part, _) in enumerate(THEME_FAULTS) if rule == violation["id"] and part in selector
            }
            seen |= known
            if not known:
                faults.add(
                    Fault("accessibility", name, view, f"{violation['id']}: {selector}: {node['failureSummary']}")
                )
    return faults


def inspect(browser: Browser, address: str, names: list[str]) -> tuple[set[Fault], set[int]]:
    """Faults of the named pages under an address, in both widths, each in light and dark; theme faults met on the way.

    A page is loaded once for each width, in light on the wide screen and in dark on the phone, and then switched. What
    does not depend on colours is looked for in one of the two schemes. Contrast is looked for on the wide screen; on
    the phone on the first page, for what the theme shows on phones only.
    """
    faults: set[Fault] = set()
    seen: set[int] = set()
    for width in WIDTHS:
        schemes = ("light", "dark") if width == WIDTHS[0] else ("dark", "light")
        with browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce") as context:
            page = context.new_page()
            events: list[tuple[str, str]] = []
            page.on(
                "console", lambda m, e=events: e.append(("console", m.text)) if m.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda error, e=events: e.append(("console", str(error))))
            page.on(
                "request",
                lambda r, e=events: None if r.url.startswith((address, "data:")) else e.append(("request", r.url)),
            )
            page.on(
                "response",
                lambda r, e=events: e.append(("request", f"{r.status} {r.url}")) if r.status >= 400 else None,
            )
            for name in names:
                events.clear()
                page.emulate_media(color_scheme=schemes[0])  # there is no page yet that could follow
                page.goto(address + name, wait_until="load")
                for scheme in schemes:
                    switch(page, scheme)
                    faults |= look(page, name, f"{width} px, {scheme}")
                faults |= inaccessible(page, name, f"{width} px", seen, ALL_BUT_CONTRAST)
                page.evaluate(REMOVE_TWINS)
                for scheme in reversed(schemes) if width == WIDTHS[0] or name == names[0] else ():
                    switch(page, scheme)
                    faults |= inaccessible(page, name, f"{width} px, {scheme}", seen, CONTRAST)
                faults |= {Fault(kind, name, f"{width} px", what) for kind, what in events}
    return faults, seen


def pages(site: Path) -> list[Path]:
    """Every page that readers can come to; templates that the theme leaves among its static files are none."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def redirects(path: Path) -> bool:
    """Whether a page only leads to another one."""
    return 'http-equiv="Refresh"' in path.read_text()


@pytest.fixture(scope="session")
def inspection(browser: Browser, serve, site: Path) -> tuple[set[Fault], set[int]]:
    """Faults of the whole book, and the theme's own faults that were met."""
    names = [path.relative_to(site).as_posix() for path in pages(site) if not redirects(path)]
    return inspect(browser, serve(site), names)


# Following links


class Anchors(HTMLParser):
    """Collects where a page leads and what in it can be led to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, and the addresses of links, images, styles and scripts."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.targets.add(value or "")
            elif name in ("href", "src") and value:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Every link of the site to a page, file or place of its own that is not there, as ``page -> link``."""
    parsed: dict[Path, Anchors] = {}
    for path in pages(site):
        parsed[path] = Anchors()
        parsed[path].feed(path.read_text())
    broken = []
    for path, anchors in parsed.items():
        here = f"/{path.relative_to(site).as_posix()}"
        for link in anchors.links:
            parts = urlsplit(urljoin(here, link))
            if parts.scheme or parts.netloc:
                continue
            target = site / unquote(parts.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            fragment = unquote(parts.fragment)
            if not target.is_file() or (fragment and target in parsed and fragment not in parsed[target].targets):
                broken.append(f"{here} -> {link}")
    return sorted(broken)


# The book


def test_the_book_builds_without_a_warning(build: subprocess.CompletedProcess[str]) -> None:
    """Warnings are errors, and there is none; unresolved references count as warnings."""
    messages = re.sub(r"\x1b\[[\d;]*m", "", build.stderr)
    assert (build.returncode, messages) == (0, ""), messages


def test_no_link_within_the_book_is_broken(site: Path) -> None:
    """Every link to a page, a heading, a figure or a download of the book leads somewhere."""
    assert broken_links(site) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_has_a_fault(inspection: tuple[set[Fault], set[int]], kind: str) -> None:
    """No console message, no request to another host, no broken image, no overflow: on every page in every view."""
    found = sorted(fault for fault in inspection[0] if fault.kind == kind)
    assert found == [], "\n".join(f"{fault.page} ({fault.view}): {fault.what}" for fault in found)


def test_every_exemption_of_the_theme_is_needed(inspection: tuple[set[Fault], set[int]]) -> None:
    """A fault that the theme no longer has is struck from the list."""
    assert [entry for i, entry in enumerate(THEME_FAULTS) if i not in inspection[1]] == []


def test_every_figure_leads_to_its_data_and_its_notebook(site: Path) -> None:
    """The caption of each figure in a chapter links to a CSV and to a notebook."""
    captions = [
        caption.split("</figcaption>")[0]
        for path in sorted(site.glob("executed/*.html"))
        for caption in path.read_text().split("<figcaption>")[1:]
    ]
    assert captions, "no chapter has a figure"
    assert [caption for caption in captions if not (".csv" in caption and ".ipynb" in caption)] == []


def test_a_link_to_a_moved_figure_finds_it_above(site: Path) -> None:
    """The figure that shows the answer stands before the place that it was moved from, at least in some chapters."""
    places = []
    for path in sorted(site.glob("executed/*.html")):
        text = path.read_text()
        if moved := re.search(r'<p class="moved"><a href="#([\w-]+)">', text):
            places.append((path.stem, -1 < text.find(f'id="{moved[1]}"') < moved.start()))
    assert places and all(above for _, above in places), places


def test_every_table_can_be_downloaded(site: Path) -> None:
    """The page about data links to each CSV that the chapters wrote."""
    anchors = Anchors()
    anchors.feed((site / "data.html").read_text())
    linked = sorted(Path(link).name for link in anchors.links if link.startswith("_downloads/"))
    others = ["data-dictionary.csv", "naaplib-tables.zip"]
    assert linked == sorted([path.name for path in (ROOT / "results").glob("*/*.csv")] + others)


def test_pages_follow_the_readers_colour_scheme(browser: Browser, serve, site: Path) -> None:
    """A page is dark where the system is dark, and changes with it."""
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(serve(site) + "intro.html")
        opened = page.evaluate("document.documentElement.dataset.theme")
        page.emulate_media(color_scheme="light")
        page.wait_for_function(FOLLOWS, arg="light")
        assert (opened, page.evaluate("document.documentElement.dataset.theme")) == ("dark", "light")


def test_figures_are_dark_on_dark_pages(browser: Browser, serve, site: Path) -> None:
    """A drawn figure has no white card in the dark; a map of colours keeps its own colours."""
    filters = "selector => getComputedStyle(document.querySelector(selector)).filter"
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(serve(site) + "executed/07-feature-histories.html")
        drawn, mapped = (page.evaluate(filters, f"figure{kind} img") for kind in (":not(.pixels)", ".pixels"))
        page.emulate_media(color_scheme="light")
        page.wait_for_function(FOLLOWS, arg="light")
        light = page.evaluate(filters, "figure img")
    assert (drawn.startswith("invert("), mapped, light) == (True, "none", "none")


def test_code_is_folded_and_can_be_opened(browser: Browser, serve, site: Path) -> None:
    """A chapter opens without code; a click on "Code" shows it."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(serve(site) + "executed/05-baselines.html")
        cells = page.locator("div.cell_input")
        shown = [cells.nth(i).is_visible() for i in range(cells.count())]
        page.locator("details.hide > summary").first.click()
        assert (sum(shown), cells.first.is_visible()) == (0, True)


def test_terms_explain_themselves(browser: Browser, serve, site: Path) -> None:
    """A term of the glossary has its first sentence as its title, and leads to its entry."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(serve(site) + "executed/10-architecture-tuning.html")
        link = page.locator("a.term-link", has_text="surrogate").first
        title, address = link.get_attribute("title"), link.get_attribute("href")
    assert (title or "").startswith("A model that stands for training in a search.")
    assert (address or "").endswith("metrics.html#term-surrogate")


# The checks themselves

FAULTY = """<!doctype html><html lang="en"><head><title>Faulty</title><link rel="icon" href="data:,"></head><body><main>
<h1>Faulty</h1>
<p style="color: #999; background: #bbb">Hardly legible</p>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">
<img src="missing.png" alt="Nothing">
<img src="http://elsewhere.example/picture.png" alt="From elsewhere">
<div style="width: 2000px">Wide</div>
<pre style="width: 100px; overflow: hidden">A line of code that is longer than its box</pre>
<script>console.error("something failed")</script>
</main></body></html>"""
SOUND = """<!doctype html><html lang="en"><head><title>Sound</title><link rel="icon" href="data:,"></head><body><main>
<h1>Sound</h1><p>All is well.</p></main></body></html>"""


@pytest.fixture(scope="session")
def made(browser: Browser, serve, tmp_path_factory: pytest.TempPathFactory) -> set[Fault]:
    """Faults found on one faulty and one sound page."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "faulty.html").write_text(FAULTY)
    (folder / "sound.html").write_text(SOUND)
    return inspect(browser, serve(folder), ["faulty.html", "sound.html"])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_finds_a_fault_of_each_kind(made: set[Fault], kind: str) -> None:
    """What the check looks for, it finds on a page made to have it, at both widths; and nothing on a sound page."""
    found = [fault for fault in made if fault.kind == kind]
    widths = {fault.view.split(",")[0] for fault in found}
    assert ({fault.page for fault in found}, widths) == ({"faulty.html"}, {"1280 px", "390 px"})


def test_the_check_names_both_bad_requests(made: set[Fault]) -> None:
    """A file that is not there and a host that is not ours are told apart."""
    found = {fault.what.split("/")[0] + " " + fault.what.split("/")[-1] for fault in made if fault.kind == "request"}
    assert found == {"404 http: missing.png", "http: picture.png"}


def test_the_check_finds_broken_links(tmp_path: Path) -> None:
    """A missing page, a missing heading and a missing image are named; sound links are not."""
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#nowhere">2</a><a href="c.html">3</a>'
        '<img src="d.png"><a href="#top">5</a><a href="https://example.org/x">6</a><p id="top"></p>'
    )
    (tmp_path / "b.html").write_text('<h2 id="there">There</h2><a href="/a.html">back</a>')
    assert broken_links(tmp_path) == ["/a.html -> b.html#nowhere", "/a.html -> c.html", "/a.html -> d.png"]
