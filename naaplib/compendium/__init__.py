"""Machinery that turns notebooks into a book: runs, results, provenance."""
