"""Machinery that turns notebooks into a book: runs, results, provenance."""

try:
    import IPython
    import nbformat
except ImportError:
    raise ImportError("naaplib.compendium runs notebooks, and needs: pip install 'naaplib[book]'") from None

del IPython, nbformat
