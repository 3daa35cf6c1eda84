"""Formulas as MathML, which browsers draw themselves: no script, no font, no server."""

from docutils.nodes import Node, SkipNode
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def visit_inline(translator: HTML5Translator, node: Node) -> None:
    """Write a formula that stands in a sentence."""
    translator.body.append(convert(node.astext(), display="inline"))
    raise SkipNode


def visit_block(translator: HTML5Translator, node: Node) -> None:
    """Write a formula that stands by itself."""
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>\n')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name that `html_math_renderer` uses."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
