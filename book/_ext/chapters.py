"""What stored outputs need to become a page: figures with captions, files outside the book as downloads."""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class CaptionFigures(SphinxTransform):
    """Make one figure of a paragraph that is an image and the following one that opens with an emphasised caption.

    The figure is named after its file, so that ``05-baselines.html#figure-5`` leads to it. One with pixels in it, whose
    lightness means something, has the class ``pixels``: a dark page shows it as it was drawn.
    """

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        for image in list(self.document.findall(nodes.image)):
            paragraph = image.parent
            if not isinstance(paragraph, nodes.paragraph) or len(paragraph) != 1:
                continue
            after = paragraph.next_node(descend=False, siblings=True)
            if not isinstance(after, nodes.paragraph) or not isinstance(after[0], nodes.emphasis):
                continue
            image["width"] = "100%"  # of the text; Sphinx then links it to the file itself, to be seen large on a phone
            figure = nodes.figure("", image)
            name = Path(image["uri"]).stem
            if has_pixels(self.document, image["uri"]):
                figure["classes"].append("pixels")
            if name not in self.document.ids:
                figure["ids"].append(name)
                self.document.ids[name] = figure
            links = nodes.inline("", "", *after[1:], classes=["links"])
            figure += nodes.caption("", "", *after[0].children, nodes.Text(" "), links)
            paragraph.replace_self(figure)
            after.parent.remove(after)


def has_pixels(document: nodes.document, uri: str) -> bool:
    """Whether an SVG that a page shows holds an image of pixels, as a map of colours does."""
    path = Path(document.get("source") or "").parent / uri
    return path.suffix == ".svg" and path.is_file() and "<image" in path.read_text(encoding="utf-8")


class DownloadOutsideFiles(SphinxTransform):
    """Turn a link to a notebook or text outside the book, which MyST takes for one of its pages, into a download."""

    default_priority = 501

    def apply(self, **kwargs: object) -> None:
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("refdomain") != "doc" or not link["reftarget"].startswith("../"):
                continue
            for suffix in self.config.source_suffix:
                if Path(self.app.srcdir, link["reftarget"] + suffix).is_file():
                    # A leading slash: relative to the book's folder, not to the page's.
                    target = f"/{link['reftarget']}{suffix}"
                    link.replace_self(addnodes.download_reference("", "", *link.children, reftarget=target))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both transforms."""
    app.add_transform(CaptionFigures)
    app.add_transform(DownloadOutsideFiles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
