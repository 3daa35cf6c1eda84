"""Penalties on size: factors on a score that make a search prefer small networks.

Fernandes (2022), section 4.2.1, equations 15 to 17. The equations and the text differ, so there are two readings:

- "printed" follows the equations: a density for size ≥ mu, and *size itself* otherwise. The smallest networks then lose
  most (0.05 MB: a factor of 0.05), and the factor jumps at mu.
- "intended" is 1 up to mu, then the density divided by its value at mu: continuous, and falling to 0. It is inferred
  from the text (each function is one at the origin and vanishes in a smooth transition) and the captions (for sizes
  above 200 kB). The division is not printed; it removes the jump.

The product of score and factor is implied, and makes sense for scores of 0 or more. Sizes are in megabytes, because mu
= 0.2 belongs to 200 kB in the text. The bytes per parameter are not stated; see `megabytes`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

READINGS = ("intended", "printed")


def megabytes(n_params: ArrayLike, bytes_per_param: float = 1) -> NDArray[np.float64]:
    """Compute the size of a network's parameters in megabytes of a million bytes.

    Parameters
    ----------
    n_params : array_like, any shape
        Number of parameters.
    bytes_per_param : float
        1 for weights of 8 bits, and for the number that NAS-Bench-201's interface calls MB (millions of parameters).
        The dissertation's sizes are probably the latter, because its target of 200 kB then lies inside that space (0.07
        to 1.53). 4 for single precision, with which every network of that space exceeds 200 kB.

    Returns
    -------
    ndarray, shape of n_params

    Examples
    --------
    >>> megabytes([73_306, 200_000], bytes_per_param=4).tolist()
    [0.293224, 0.8]
    """
    return np.asarray(n_params, dtype=float) * bytes_per_param / 1e6


def gaussian(size: ArrayLike, mu: float = 0.2, *, sigma: float = 0.4, reading: str = "intended") -> NDArray[np.float64]:
    """Half of a normal density above mu (equation 15).

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
        See the module's documentation.

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
    return _read(reading, size, mu=mu, decay=decay, density=decay / (sigma * math.sqrt(2 * math.pi)))


def hyperbolic_secant(size: ArrayLike, mu: float = 0.2, *, reading: str = "intended") -> NDArray[np.float64]:
    """Half of a hyperbolic secant density above mu, with a heavier tail (equation 16).

    The equation has no scale, so that the standard deviation is 1 MB and the factor falls slowly: 0.25 at mu + 1.3 MB.

    Parameters
    ----------
    size, reading
        As in `gaussian`.
    mu : float
        As in `gaussian`. The text gives no value; the captions of figures 17 and 18 say "superior to 200kB".

    Returns
    -------
    ndarray, shape of size
        "printed" jumps from mu to 0.5 at mu.
    """
    size, beyond = _checked(size, mu, 1.0, reading)
    tail = np.exp(-math.pi / 2 * (beyond - mu))  # sech by an exponential that cannot overflow
    decay = 2 * tail / (1 + tail**2)
    return _read(reading, size, mu=mu, decay=decay, density=decay / 2)


def rayleigh(
    size: ArrayLike, mu: float = 0.2, *, sigma: float = 0.10, reading: str = "intended"
) -> NDArray[np.float64]:
    """The falling part of a Rayleigh density with its peak at sigma (equation 17).

    Parameters
    ----------
    size, reading
        As in `gaussian`.
    mu : float
        As in `gaussian`. The text gives no value; the captions of figures 19 and 20 say "superior to 200kB".
    sigma : float
        In megabytes, above 0; 0.10 in the labels of figure 19. If mu < sigma, the density would rise beyond mu and be
        no penalty; this raises ValueError except in the printed reading.

    Returns
    -------
    ndarray, shape of size
        "printed" is 2.71 at mu with the default values, so that it rewards networks just above mu.
    """
    size, beyond = _checked(size, mu, sigma, reading)
    if reading == "intended" and mu < sigma:
        raise ValueError(f"mu is {mu}, sigma {sigma}: the density rises up to sigma, so mu must be at least sigma")
    decay = beyond / mu * np.exp((mu - beyond) * (mu + beyond) / (2 * sigma**2))
    return _read(reading, size, mu=mu, decay=decay, density=decay * mu / sigma**2 * math.exp(-(mu**2) / (2 * sigma**2)))


def _checked(size: ArrayLike, mu: float, sigma: float, reading: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check arguments; return sizes, and the larger of sizes and mu."""
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
    """Compute the factor in one reading, from the values at sizes of at least mu."""
    return np.where(size >= mu, density, size) if reading == "printed" else decay
