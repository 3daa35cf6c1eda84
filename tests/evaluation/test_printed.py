"""Agreement: every word that a cell can be marked with."""

import numpy as np

from naaplib.evaluation.printed import mark


def test_every_mark_by_hand() -> None:
    """Equal, at the limit, beyond it on either side, and nothing printed."""
    marks = mark([48, 53, 54, 42, 50], [48, 48, 48, 48, np.nan], allowed=5)
    assert marks.tolist() == ["exact", "within 5", "off by +6", "off by -6", ""]


def test_the_limit_is_inclusive_for_decimal_fractions() -> None:
    """A difference of 0.001 is within 0.001, though binary fractions say otherwise."""
    assert 0.0079 - 0.0069 > 0.001
    assert mark([0.0079], [0.0069], allowed=0.001).tolist() == ["within 0.001"]
