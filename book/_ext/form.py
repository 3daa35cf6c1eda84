"""The form of chapters, which `naaplib.compendium.chapter_form` gives them, and a role that refers to their results."""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from naaplib.compendium import chapter_form, make_records
from naaplib.compendium.chapter_form import duration, labels, provenance_of, shape

CHAPTER = re.compile(r"executed/((\d\d)-[\w-]+)$")


class Result(SphinxRole):
    """A figure or table of a chapter by its number: {result}`05-baselines/table-3` is a link "Table 5.1"."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, or a warning where there is no such result."""
        stem, _, name = self.text.partition("/")
        book = Path(self.env.srcdir)
        known = labels(book, stem) if (book / "executed" / f"{stem}.ipynb").is_file() else {}
        if name not in known:
            message = self.inliner.reporter.warning(
                f"no figure or table {self.text}; {stem} shows {sorted(known)}", line=self.lineno
            )
            return [nodes.literal("", self.text)], [message]
        self.env.note_dependency(f"executed/{stem}.ipynb")
        address = self.env.app.builder.get_relative_uri(self.env.docname, f"executed/{stem}")
        return [nodes.reference("", known[name], refuri=f"{address}#{name}", internal=True)], []


def about_records(stem: str) -> list[str]:
    """How long a chapter's records took, and which of them other code than today's made."""
    seconds = make_records.seconds(stem)
    counts = {"other code": 0, "before indexes": 0}
    for remark in make_records.remarks(stem):
        for kind in counts:
            counts[kind] += int(remark.split()[0]) if f"made {kind}" in remark or f"made by {kind}" in remark else 0
    said = [f"{duration(seconds)} of work, added up"] if seconds else []
    if n := counts["other code"]:
        said.append(f"{n} made by other code than today's; [](../reproducing.md) names the modules that differ")
    if n := counts["before indexes"]:
        said.append(f"{n} made before indexes named the code")
    return said


def read_chapter(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give a chapter its form before it is parsed."""
    if found := CHAPTER.match(docname):
        notebook = json.loads(source[0])
        told = provenance_of(Path(app.srcdir), found[1])
        shape(notebook, found[1], provenance=told, records=about_records(found[1]))
        for path in (Path(chapter_form.__file__), Path(app.srcdir).parent / "results" / found[1] / "provenance.json"):
            app.env.note_dependency(str(path))
        source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the form and the role."""
    app.connect("source-read", read_chapter)
    app.add_role("result", Result())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
