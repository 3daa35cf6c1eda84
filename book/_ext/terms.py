"""Glossary on hover: the first use of a term on a page leads to its entry, which shows when the pointer rests on it."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

GLOSSARY = re.compile(r"^:::\{glossary\}\n(.*?)^:::", re.M | re.S)
NOT_IN = (
    nodes.reference,
    nodes.title,
    nodes.literal,
    nodes.literal_block,
    nodes.raw,
    nodes.caption,
    addnodes.pending_xref,
)
# Everyday words that are terms too: a link at each would say nothing.
PLAIN = {
    "block",
    "epoch",
    "record",
    "resume",
    "skip",
    "target",
    "cycle",
    "stage",
    "cache",
    "budget",
    "architecture",
    "bracket",
}


def entries(text: str) -> dict[str, str]:
    """Terms of a glossary and their first sentences, as plain text.

    >>> entries(":::{glossary}\\nrung\\n  A *step* of a bracket. More.\\n:::")
    {'rung': 'A step of a bracket.'}
    """
    found: dict[str, str] = {}
    for block in GLOSSARY.findall(text):
        for part in re.split(r"\n\s*\n", block.strip("\n")):
            term, *lines = part.splitlines()
            plain = re.sub(r"[*`]", "", " ".join(line.strip() for line in lines))
            found[term.strip()] = re.split(r"(?<=\.)\s", plain)[0]
    return found


class LinkTerms(SphinxTransform):
    """Make a reference of the first use of each term in a chapter or page, but not in the glossary or the reference."""

    default_priority = 600

    def apply(self, **kwargs: object) -> None:
        """Go through the text once for all terms."""
        name = self.env.docname
        if name == "metrics" or name.startswith("api/"):
            return
        terms = [term for term in self.app.glossary if term not in PLAIN]
        if not terms:
            return
        pattern = re.compile(r"\b(" + "|".join(sorted(map(re.escape, terms), key=len, reverse=True)) + r")(s?)\b", re.I)
        seen: set[str] = set()
        for text in list(self.document.findall(nodes.Text)):
            if inside(text):
                continue
            pieces, last = [], 0
            for match in pattern.finditer(text):
                term = match[1].lower()
                if term in seen:
                    continue
                seen.add(term)
                pieces.append(nodes.Text(text[last : match.start()]))
                reference = addnodes.pending_xref(
                    "", nodes.inline("", match[0], classes=["term"]), refdomain="std", reftype="term",
                    reftarget=term, refexplicit=True, refdoc=name, refwarn=True,
                )  # fmt: skip
                pieces.append(reference)
                last = match.end()
            if pieces:
                text.parent.replace(text, [*pieces, nodes.Text(text[last:])])


def inside(node: nodes.Node) -> bool:
    """Whether a text stands in a link, a heading, code or a caption."""
    while node := node.parent:
        if isinstance(node, NOT_IN):
            return True
    return False


class Explain(SphinxPostTransform):
    """Give every link to a term the term's first sentence as its title, which shows on hover."""

    default_priority = 20  # after references have been resolved

    def run(self, **kwargs: object) -> None:
        """Set the titles."""
        for link in self.document.findall(nodes.reference):
            address = link.get("refuri", "") or "#" + link.get("refid", "")
            if "#term-" in address:
                term = address.split("#term-")[1].replace("-", " ")
                known = {name.lower().replace("-", " "): text for name, text in self.app.glossary.items()}
                if term in known:
                    link["reftitle"] = known[term]
                    link["classes"] = [*link.get("classes", []), "term-link"]


def read_glossary(app: Sphinx) -> None:
    """Read the terms before any page."""
    path = Path(app.srcdir) / "metrics.md"
    app.glossary = entries(path.read_text(encoding="utf-8")) if path.is_file() else {}  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both transforms."""
    app.connect("builder-inited", read_glossary)
    app.add_transform(LinkTerms)
    app.add_post_transform(Explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
