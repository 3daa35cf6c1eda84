"""Penalties on size: factors by which a score is multiplied, so that a search prefers small networks.

Fernandes (2022), section 4.2.1, equations 15 to 17. There are two readings, because the equations and the text differ:

- "printed": the equations as they stand: a density where size ≥ mu, and *size itself* otherwise. The smallest networks
  then lose most (0.05 MB: a factor of 0.05), and the factor jumps at mu.
- "intended": 1 up to mu, then the density divided by its value at mu: continuous, and falling to 0. Inferred, from the
  text (each function is one at the origin and vanishes in a smooth transition) and the captions (for sizes above
  200 kB). The division is printed nowhere; it removes the jump.

That score and factor are multiplied is implied, not written; it makes sense for scores that are not negative. Sizes are
in megabytes: mu = 0.2 goes with 200 kB in the text. What a parameter takes is not said there; see `megabytes`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

READINGS = ("intended", "printed")


def megabytes(n_params: ArrayLike, bytes_per_param: float = 1) -> NDArray[np.float64]:
    """Size of a network's parameters in megabytes of a million bytes.

    Parameters
    ----------
    n_params : array_like, any shape
        Number of parameters.
    bytes_per_param : float
        1 for weights of 8 bits, and for the number that the interface of NAS-Bench-201 calls MB (millions of
        parameters), from which the dissertation's sizes probably come: only then is its target of 200 kB inside that
        space (0.07 to 1.53). 4 for single precision, with which every network of that space is above 200 kB.

    Returns
    -------
    ndarray, shape of n_params

    Examples
    --------
    >>> megabytes([73_306, 200_000], bytes_per_param=4).tolist()
    [0.293224, 0.8]
    """
    return np.asarray(n_params, dtype=float) * bytes_per_param / 1e6


def gaussian(size: ArrayLike, mu: float = 0.2, sigma: float = 0.4, reading: str = "intended") -> NDArray[np.float64]:
    """Half of a bell curve from mu on (equation 15): density of the normal distribution.

    Parameters
    ----------
    size : array_like, any shape
        Megabytes, at least 0.
    mu : float
        Largest size without a penalty, in megabytes, above 0; 0.2 in the text.
    sigma : float
        Standard deviation in megabytes, above 0. The text gives 0.4 and calls it sigma squared. Taken as sigma, the
        printed density is 0.997 at mu, so that it nearly joins a factor of 1 (hence the default here); with
        sigma = sqrt(0.4) it is 0.631.
    reading : {"intended", "printed"}
        See the module.

    Returns
    -------
    ndarray, shape of size

    Examples
    --------
    >>> gaussian([0.1, 0.2, 0.6, 1.0]).round(3).tolist()
    [1.0, 1.0, 0.607, 0.135]
    >>> gaussian([0.1, 0.2, 0.6, 1.0], reading="printed").round(3).tolist()
    [0.1, 0.997, 0.605, 0.135]
    """
    size, beyond = _checked(size, mu, sigma, reading)
    decay = np.exp(-(((beyond - mu) / sigma) ** 2) / 2)
    return _read(reading, size, mu, decay, decay / (sigma * math.sqrt(2 * math.pi)))


def hyperbolic_secant(size: ArrayLike, mu: float = 0.2, reading: str = "intended") -> NDArray[np.float64]:
    """Half of a bell curve with a heavier tail (equation 16): density of the hyperbolic secant distribution.

    The equation has no scale, so that the standard deviation is 1 MB and the factor falls slowly: 0.25 at mu + 1.3 MB.

    Parameters
    ----------
    size, reading
        As in `gaussian`.
    mu : float
        As in `gaussian`. Not in the text; the captions of figures 17 and 18 say "superior to 200kB".

    Returns
    -------
    ndarray, shape of size
        "printed" is 0.5 at mu, where it jumps from mu.
    """
    size, beyond = _checked(size, mu, 1.0, reading)
    tail = np.exp(-math.pi / 2 * (beyond - mu))  # sech through the exponential that cannot overflow
    decay = 2 * tail / (1 + tail**2)
    return _read(reading, size, mu, decay, decay / 2)


def rayleigh(size: ArrayLike, mu: float = 0.2, sigma: float = 0.10, reading: str = "intended") -> NDArray[np.float64]:
    """The falling part of a Rayleigh density (equation 17), which has its peak at sigma.

    Parameters
    ----------
    size, reading
        As in `gaussian`.
    mu : float
        As in `gaussian`. Not in the text; the captions of figures 19 and 20 say "superior to 200kB".
    sigma : float
        In megabytes, above 0; 0.10 in the labels of figure 19. Where mu < sigma the density would still rise beyond mu,
        which is no penalty: refused, but in the printed reading.

    Returns
    -------
    ndarray, shape of size
        "printed" is 2.71 at mu with the default values, so that it rewards networks just above mu.
    """
    size, beyond = _checked(size, mu, sigma, reading)
    if reading == "intended" and mu < sigma:
        raise ValueError(f"mu is {mu}, sigma {sigma}: the density rises up to sigma, so mu must be at least sigma")
    decay = beyond / mu * np.exp((mu - beyond) * (mu + beyond) / (2 * sigma**2))
    return _read(reading, size, mu, decay, decay * mu / sigma**2 * math.exp(-(mu**2) / (2 * sigma**2)))


def _checked(size: ArrayLike, mu: float, sigma: float, reading: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sizes, and sizes or mu where that is larger; what makes no sense is refused."""
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}; it must be one of {READINGS}")
    for name, value in (("mu", mu), ("sigma", sigma)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; it must be a number of megabytes above 0")
    size = np.asarray(size, dtype=float)
    bad = size[~(np.isfinite(size) & (size >= 0))]
    if bad.size:
        raise ValueError(f"sizes must be finite and at least 0, in megabytes; got {bad[:5].tolist()}")
    return size, np.maximum(size, mu)


def _read(
    reading: str, size: NDArray[np.float64], mu: float, decay: NDArray[np.float64], density: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The factor in one reading, from the values at sizes of mu and more."""
    return np.where(size >= mu, density, size) if reading == "printed" else decay
