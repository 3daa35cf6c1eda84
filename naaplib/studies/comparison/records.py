"""Records of the comparison of estimators."""

from __future__ import annotations

from naaplib.cache import Piece
from naaplib.studies.comparison import announced, cells


def pieces() -> list[Piece]:
    """Return the records of the study."""
    return [*announced.pieces(), *cells.pieces()]
