import numpy as np
import pytest
from scipy.stats import norm

from naaplib.estimators.predictors.targets import OUTPUTS, decode, encode

Y = np.array([0.5, 0.9, 0.7, 0.7, 0.92, 0.91, 0.8, 0.6])


@pytest.mark.parametrize("output", ["standardised", "normal scores", "loss"])
def test_what_was_trained_on_comes_back(output: str) -> None:
    """Decoding undoes encoding, for equal targets too."""
    np.testing.assert_allclose(decode(output, Y, z=encode(output, Y)), Y)


def test_normal_scores_are_quantiles_of_ranks() -> None:
    """Ranks by hand, less one half, by n; equal ones share the mean of theirs."""
    ranks = np.array([1, 6, 3.5, 3.5, 8, 7, 5, 2])
    np.testing.assert_allclose(encode("normal scores", Y), norm.ppf((ranks - 0.5) / 8))


def test_beyond_the_training_targets_order_is_kept() -> None:
    """On straight lines with the slope of the outer quarter: what is predicted to be best is not all one value."""
    y = np.array([0.1, 0.2, 0.4, 0.8])
    knots = encode("normal scores", y)
    step = knots[-1] - knots[-2]
    assert decode("normal scores", y, z=knots[[-1]] + step).item() == pytest.approx(1.2)
    assert decode("normal scores", y, z=knots[[0]] - (knots[1] - knots[0])).item() == pytest.approx(0.0)
    z = np.linspace(-5, 5, 50)
    assert (np.diff(decode("normal scores", y, z=z)) > 0).all()


def test_equal_targets_are_predicted_for_ever() -> None:
    """Whatever the network says."""
    for output in ("standardised", "normal scores"):
        assert set(decode(output, np.full(4, 0.3), z=np.zeros(2))) == {0.3}


def test_percentages_become_fractions() -> None:
    """The shifted sigmoid is one half at 0, plus a tenth, and ends at 1; the plain one is one half."""
    z = np.array([-99, 0, 99])
    np.testing.assert_allclose(decode("shifted", Y, z=z), [0.1, 0.6, 1])
    np.testing.assert_allclose(decode("sigmoid", Y, z=z), [0, 0.5, 1], atol=1e-40)
    assert decode("loss", Y, z=z).tolist() == [0, 0, 99]
    assert encode("shifted", Y).tolist() == (100 * Y).tolist()
    assert len(OUTPUTS) == 5
