"""Bibliography entries as a plain list: the usual markup uses a role that assistive technology no longer knows."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class ListCitations(SphinxPostTransform):
    """Put each run of citations into one list; authors and years stand in the text, so entries need no label."""

    default_priority = 900  # after the bibliography has been filled and references to it resolved

    def run(self, **kwargs: object) -> None:
        for citation in list(self.document.findall(nodes.citation)):
            entry = citation.children[1:]
            item = nodes.list_item("", *entry, ids=citation["ids"])
            place = citation.parent.index(citation)
            before = citation.parent[place - 1] if place else None
            if isinstance(before, nodes.bullet_list) and "bibliography" in before["classes"]:
                before += item
                citation.parent.remove(citation)
            else:
                citation.replace_self(nodes.bullet_list("", item, classes=["bibliography"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(ListCitations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
