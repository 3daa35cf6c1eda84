"""Share of a chapter's height that prose, code, tables and figures take, and what is cut off; run by hand.

python benchmarks/page_shares.py book/_build/html [WIDTH]
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# Height of the outermost elements of each kind, as they stand on the page when it is opened.
SHARES = """() => {
  const article = document.querySelector('article.bd-article');
  const kinds = {
    code: 'div.cell_input, div.highlight, details.hide', tables: '.table-scroll, table.table', figures: 'figure',
    prose: 'p, ul, ol, dl, h1, h2, h3, .formula',
  };
  const taken = new Set(), shares = {};
  for (const [kind, selector] of Object.entries(kinds)) {
    shares[kind] = 0;
    for (const element of article.querySelectorAll(selector)) {
      let parent = element;
      while (parent && !taken.has(parent)) parent = parent.parentElement;
      if (parent) continue;
      taken.add(element);
      shares[kind] += element.getBoundingClientRect().height;
    }
  }
  return {height: article.getBoundingClientRect().height, ...shares};
}"""
CUT = """() => {
  const wide = element => element.scrollWidth > element.clientWidth + 1;
  return [
    [...document.querySelectorAll('div.cell_input pre')].filter(wide).length,
    [...document.querySelectorAll('.table-scroll')].filter(wide).length,
  ];
}"""


def main(folder: Path, width: int) -> None:
    """Print one line for each chapter, and one for all."""
    total: dict[str, float] = {}
    cut = [0, 0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        for path in sorted((folder / "executed").glob("*.html")):
            page.goto(path.resolve().as_uri())
            found = page.evaluate(SHARES)
            code, tables = page.evaluate(CUT)
            cut = [cut[0] + code, cut[1] + tables]
            total = {kind: total.get(kind, 0) + height for kind, height in found.items()}
            print(f"{path.stem}: {found['height']:.0f} px, {say(found)}; cut off: {code} code cells, {tables} tables")
        browser.close()
    print(f"all: {total['height']:.0f} px, {say(total)}; cut off: {cut[0]} code cells, {cut[1]} tables")


def say(found: dict[str, float]) -> str:
    """Shares in percent."""
    parts = [f"{kind} {100 * height / found['height']:.0f} %" for kind, height in found.items() if kind != "height"]
    return ", ".join(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1280)
