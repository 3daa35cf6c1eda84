"""Encodings as features."""

from fractions import Fraction

import numpy as np
import pytest

from naaplib.estimators.ensembles.encodings import encode

MIXED = [("conv", 2, True, None), ("pool", 2, False, None), ("conv", 8, True, None), ("skip", 4, True, None)]


def test_mixed_tuples_by_hand() -> None:
    """Names and truth values: a column each, by first occurrence; numbers: (2, 2, 8, 4) less 4, over the root of 6."""
    features = encode(MIXED)
    assert features[:, :3].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(features[:, 3], np.array([-2, -2, 4, 0]) / np.sqrt(6), rtol=1e-15)
    assert features[:, 4:].tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]  # None is everywhere and tells nothing


def test_numbers_can_be_names() -> None:
    """Operation numbers as categories; of numpy's scalars, fractions and lists too; mixed with text where so named."""
    assert encode([(0,), (2,), (1,), (2,)], categorical=[0]).tolist() == np.eye(3)[[0, 1, 2, 1]].tolist()
    assert encode([[np.str_("a"), np.int64(1)], ["b", Fraction(3)]]).tolist() == [[1, 0, -1], [0, 1, 1]]
    assert encode([("none",), (4,)], categorical=[0]).tolist() == [[1, 0], [0, 1]]


def test_amounts_do_not_depend_on_their_unit() -> None:
    """A law of standardisation; rows follow the encodings' order."""
    rng = np.random.default_rng(0)
    amounts = rng.random((20, 3))
    features = encode(amounts.tolist())
    np.testing.assert_allclose(encode((1000 * amounts + 7).tolist()), features, atol=1e-9)
    np.testing.assert_allclose(encode(amounts[::-1].tolist()), features[::-1], atol=1e-12)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(features.std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("encodings", "categorical", "message"),
    [
        ([], (), "there are no encodings"),
        ([(1, 2), (1, 2, 3)], (), r"encoding 1 is \(1, 2, 3\).*have 2 entries"),
        ([1, 2], (), "encoding 0 is 1; each must be a tuple"),
        (["ab", "cd"], (), "encoding 0 is 'ab'; each must be a tuple"),
        ([(1,), ("a",)], (), "position 0 holds numbers in some.*name it in `categorical`"),
        ([(1, float("nan")), (2, 1.0)], (), "position 1 holds nan; entries must be finite"),
        ([(1, (2, 3)), (2, (2, 4))], (), r"position 1 holds \(2, 3\); entries must be"),
        ([(1, 2), (1, 2)], (), "all 2 encodings are equal"),
        ([(1,), (2,)], (1,), r"categorical names the positions \[1\]; encodings have 0 to 0"),
    ],
)
def test_what_is_not_an_encoding_is_refused(encodings: list, categorical: tuple, message: str) -> None:
    """Each with its place."""
    with pytest.raises(ValueError, match=message):
        encode(encodings, categorical)
