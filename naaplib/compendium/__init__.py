"""Machinery that turns notebooks into a book: runs, results, provenance."""

try:
    import IPython
    import nbformat
except ImportError as error:
    text = "naaplib.compendium runs notebooks, and needs: pip install 'naaplib[book]'"
    raise ImportError(text, name=error.name) from None

del IPython, nbformat
