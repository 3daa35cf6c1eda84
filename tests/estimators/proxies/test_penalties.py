"""Penalties: what the equations print, what they intend, and where the two part."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from naaplib.estimators.proxies import penalties
from naaplib.estimators.proxies.penalties import gaussian, hyperbolic_secant, rayleigh

PENALTIES = [gaussian, hyperbolic_secant, rayleigh]
# Equations 15 to 17 above mu, for one size, with the default values; written out separately.
DENSITIES = {
    gaussian: lambda x: math.exp(-0.5 * ((x - 0.2) / 0.4) ** 2) / (0.4 * math.sqrt(2 * math.pi)),
    hyperbolic_secant: lambda x: 0.5 / math.cosh(math.pi / 2 * (x - 0.2)),
    rayleigh: lambda x: x / 0.1**2 * math.exp(-(x**2) / (2 * 0.1**2)),
}


@pytest.mark.parametrize(
    ("penalty", "options", "expected"),
    [
        pytest.param(gaussian, {}, 0.997, id="Gaussian, spread 0.4 taken as sigma"),
        pytest.param(gaussian, {"sigma": math.sqrt(0.4)}, 0.631, id="Gaussian, spread 0.4 taken as sigma squared"),
        pytest.param(hyperbolic_secant, {}, 0.5, id="hyperbolic secant"),
        pytest.param(rayleigh, {}, 2.71, id="Rayleigh"),
    ],
)
def test_printed_densities_at_mu(penalty: Callable, options: dict[str, float], expected: float) -> None:
    """By hand: at mu none of the densities is 1, and Rayleigh's is far above."""
    digits = 2 if penalty is rayleigh else 3
    assert round(float(penalty(0.2, reading="printed", **options)), digits) == expected


@pytest.mark.parametrize("penalty", PENALTIES)
def test_printed_reading_is_the_equations(penalty: Callable) -> None:
    """Slow twin: the density from mu on, the size itself below."""
    sizes = [0.0, 0.05, 0.1999, 0.2, 0.21, 0.35, 0.8, 1.5315]
    expected = [DENSITIES[penalty](x) if x >= 0.2 else x for x in sizes]
    assert penalty(sizes, reading="printed") == pytest.approx(np.array(expected), rel=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_intended_reading_is_the_density_over_its_value_at_mu(penalty: Callable) -> None:
    """Slow twin: beyond mu the two readings differ by one constant factor."""
    sizes = [0.21, 0.35, 0.8, 1.5315]
    expected = [DENSITIES[penalty](x) / DENSITIES[penalty](0.2) for x in sizes]
    assert penalty(sizes) == pytest.approx(np.array(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("penalty", "options"),
    [(penalty, {}) for penalty in PENALTIES]
    + [(gaussian, {"mu": 0.5, "sigma": 0.05}), (hyperbolic_secant, {"mu": 1.0}), (rayleigh, {"mu": 0.3, "sigma": 0.3})],
)
def test_intended_reading_spares_small_networks_and_then_falls(penalty: Callable, options: dict[str, float]) -> None:
    """Law: exactly 1 up to mu, no jump, strictly falling beyond, never 0 nor above 1 in the range of the spaces."""
    mu = options.get("mu", 0.2)
    assert penalty(np.linspace(0, mu, 1001), **options).tolist() == [1.0] * 1001
    factors = penalty(np.linspace(mu, mu + 1.5, 100_001), **options)
    assert (np.diff(factors) < 0).all()
    assert (factors[0], bool(factors[-1] > 0)) == (1.0, True)
    assert np.diff(factors).min() > -0.001


@pytest.mark.parametrize("penalty", PENALTIES)
def test_printed_reading_takes_most_from_the_smallest_networks(penalty: Callable) -> None:
    """Below mu the printed factor is the size: half the size is half the score, and nothing at mu joins it."""
    below, half = penalty([0.19, 0.095], reading="printed")
    assert (below, half) == (0.19, 0.095)
    assert penalty(0.2, reading="printed") - penalty(np.nextafter(0.2, 0), reading="printed") > 0.25


@pytest.mark.parametrize("reading", penalties.READINGS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_far_beyond_mu_nothing_is_left(penalty: Callable, reading: str) -> None:
    """Limit: 0, without a warning, where a float can hold no smaller number; the shape is that of the sizes."""
    assert penalty(np.full((2, 3), 1e6), reading=reading).tolist() == [[0.0] * 3] * 2


def test_megabytes_by_hand() -> None:
    """The smallest network of NAS-Bench-201 is below the target with a byte a parameter, above it with four."""
    assert [float(penalties.megabytes(73_306, n_bytes)) for n_bytes in (1, 4)] == [0.073306, 0.293224]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("size", [-0.1, math.nan, math.inf])
def test_sizes_that_are_none_are_refused(penalty: Callable, size: float) -> None:
    """Which sizes are wrong, and their unit."""
    with pytest.raises(ValueError, match=rf"at least 0, in megabytes; got \[{size}\]"):
        penalty([0.1, size])


@pytest.mark.parametrize(
    ("penalty", "options", "message"),
    [
        (gaussian, {"reading": "literal"}, r"reading is 'literal'; it must be one of \('intended', 'printed'\)"),
        (hyperbolic_secant, {"mu": 0.0}, "mu is 0.0; it must be a number of megabytes above 0"),
        (gaussian, {"sigma": 0.0}, "sigma is 0.0; it must be a number of megabytes above 0"),
        (rayleigh, {"sigma": -1.0}, "sigma is -1.0; it must be a number of megabytes above 0"),
        (rayleigh, {"mu": 0.2, "sigma": 0.4}, "the density rises up to sigma, so mu must be at least sigma"),
    ],
)
def test_wrong_options_are_refused(penalty: Callable, options: dict, message: str) -> None:
    """What came and what is allowed."""
    with pytest.raises(ValueError, match=message):
        penalty([0.1, 0.3], **options)


def test_printed_rayleigh_may_rise() -> None:
    """The printed reading is literal: with mu below sigma it rises up to sigma."""
    low, high = rayleigh([0.2, 0.4], mu=0.1, sigma=0.4, reading="printed")
    assert low < high
