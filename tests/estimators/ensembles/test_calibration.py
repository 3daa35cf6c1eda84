"""Calibration of an ensemble's spread."""

import math

import numpy as np
import pandas as pd
import pytest

from naaplib.estimators.ensembles.calibration import conformal_factor, coverage, mean_and_spread, rescale, spread_factor


def test_mean_and_spread_by_hand() -> None:
    """Members 1, 3 and 5 have the mean 3 and the standard deviation 2."""
    mean, spread = mean_and_spread([[1, 0], [3, 1], [5, 2]])
    assert mean.tolist() == [3, 1]
    assert spread.tolist() == [2, 1]


def test_factor_by_hand() -> None:
    """Truths 2 and 0.5 spreads away: the root of (4 + 1/4) / 2; scaled by it, the factor is 1."""
    members, truths = [[1, 0], [3, 1], [5, 2]], [7, 0.5]
    assert spread_factor(members, truths) == pytest.approx(math.sqrt(4.25 / 2))
    scaled = rescale(members, spread_factor(members, truths))
    assert spread_factor(scaled, truths) == pytest.approx(1)
    np.testing.assert_allclose(scaled.mean(axis=0), [3, 1])


def test_the_factor_makes_truths_most_likely() -> None:
    """Any other factor lowers the normal likelihood."""
    rng = np.random.default_rng(0)
    members, truths = rng.normal(size=(4, 50)), rng.normal(0, 3, 50)
    mean, spread = mean_and_spread(members)

    def surprise(factor: float) -> float:
        return float((np.log(factor * spread) + ((truths - mean) / (factor * spread)) ** 2 / 2).sum())

    best = spread_factor(members, truths)
    assert surprise(best) < min(surprise(0.98 * best), surprise(1.02 * best))


def test_conformal_factor_by_hand() -> None:
    """The error of rank ceil(5 x 0.5) = 3 among four, and the largest where the rank is beyond them."""
    members = np.tile([[-1.0], [0.0], [1.0]], 4)
    truths = [0.5, -3.0, 2.0, 1.0]
    assert conformal_factor(members, truths, level=0.5) == 2
    assert conformal_factor(members, truths, level=0.8) == 3
    assert conformal_factor(members, truths, level=0.95) == 3
    with pytest.raises(ValueError, match="level is 1; it must lie between 0 and 1"):
        conformal_factor(members, truths, level=1)


def test_conformal_intervals_cover_what_they_promise() -> None:
    """Truths with long tails about members that agree too much: 0.95 covers 0.95 to within three standard errors."""
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(200):
        members, truths = rng.normal(0, 0.1, (5, 60)), rng.standard_t(3, 60)
        factor = conformal_factor(members[:, :40], truths[:40], level=0.95)
        mean, spread = mean_and_spread(members[:, 40:])
        shares.append((np.abs(truths[40:] - mean) <= factor * spread).mean())
    assert np.mean(shares) == pytest.approx(0.95, abs=0.02)


def test_coverage_by_hand() -> None:
    """Mean 0, spread 1; half of a normal distribution lies within 0.674, and 0.95 within 1.960."""
    members = np.tile([[-1.0], [0.0], [1.0]], 5)
    found = coverage(members, [0.6, -0.7, 1.9, -2.0, 0.0], levels=[0.5, 0.95])
    expected = pd.DataFrame({"nominal": [0.5, 0.95], "share": [0.4, 0.8], "n": 5})
    pd.testing.assert_frame_equal(found, expected)


def test_many_members_of_the_truths_own_distribution_cover_as_they_should() -> None:
    """Within three standard errors; five members cover less: of a nominal 0.95, t with 4 degrees says 0.847."""
    rng = np.random.default_rng(1)
    for n_members, expected in [(200, 0.95), (5, 0.847)]:
        found = coverage(rng.normal(size=(n_members, 5000)), rng.normal(size=5000), levels=[0.95])
        assert found["share"].item() == pytest.approx(expected, abs=0.016)


@pytest.mark.parametrize(
    ("predicted", "truths", "message"),
    [
        ([[1.0, 2.0]], [1.0, 2.0], r"two members or more; their shape is \(1, 2\)"),
        ([[1.0, 2.0], [2.0, 3.0]], [1.0], "truths must be 2 finite numbers"),
        ([[1.0, 2.0], [2.0, 3.0]], [1.0, np.nan], "truths must be 2 finite numbers"),
        ([[1.0, 2.0], [1.0, 3.0]], [1.0, 2.0], "members agree exactly"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(predicted: list, truths: list, message: str) -> None:
    """By both functions alike."""
    for judge in (coverage, spread_factor):
        with pytest.raises(ValueError, match=message):
            judge(predicted, truths)


def test_levels_and_factors_are_checked() -> None:
    """Shares between 0 and 1, a positive factor."""
    with pytest.raises(ValueError, match=r"levels are \[1\]; they must lie between 0 and 1"):
        coverage([[0, 1], [1, 2]], [0, 1], levels=[1])
    with pytest.raises(ValueError, match="the factor is 0; it must be positive"):
        rescale([[0, 1], [1, 2]], 0)
