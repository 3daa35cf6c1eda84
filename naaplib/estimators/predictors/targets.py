"""Target transforms of neural predictors, and their losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from torch import Tensor, nn

Values = NDArray[np.float64]
OUTPUTS = ("shifted", "sigmoid", "loss", "standardised", "normal scores")


def activate(output: str, z: Tensor) -> Tensor:
    """Convert the last layer's outputs z to the unit of the error (percent)."""
    if output == "shifted":
        return (100 * z.sigmoid() + 10).clamp(max=100)
    if output == "sigmoid":
        return 100 * z.sigmoid()
    return z.relu() if output == "loss" else z


def squared_error(output: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the elementwise squared error of outputs z and encoded targets."""
    return lambda z, wanted: (activate(output, z) - wanted).square()


def cross_entropy(z: Tensor, wanted: Tensor) -> Tensor:
    """Elementwise cross-entropy of log-odds z and labels of 0 or 1."""
    return nn.functional.binary_cross_entropy_with_logits(z, wanted, reduction="none")


def encode(output: str, y: Values) -> Values:
    """Encode targets (n_train,) for training; ties share the score of their mean rank."""
    if output in ("shifted", "sigmoid"):
        return 100 * y
    if output == "standardised":
        return (y - y.mean()) / (y.std() or 1.0)
    return norm.ppf((rankdata(y) - 0.5) / y.size) if output == "normal scores" else y


def decode(output: str, y: Values, *, z: Values) -> Values:
    """Convert outputs z (n_archs,) to targets, given training targets y (n_train,)."""
    if output == "standardised":
        return z * (y.std() or 1.0) + y.mean()
    if output == "normal scores":
        knots, first = np.unique(encode(output, y), return_index=True)
        return _interpolate(z, knots, y[first])
    return activate(output, torch.from_numpy(z)).numpy() / (1 if output == "loss" else 100)


def _interpolate(z: Values, knots: Values, values: Values) -> Values:
    """Interpolate linearly between knots, and extrapolate beyond them.

    The slope outside is that of the outer quarter of the knots.
    """
    if knots.size == 1:
        return np.full(z.shape, values[0])
    quarter = max(knots.size // 4, 1)
    low = (values[quarter] - values[0]) / (knots[quarter] - knots[0])
    high = (values[-1] - values[-1 - quarter]) / (knots[-1] - knots[-1 - quarter])
    inside = np.interp(z, knots, values)
    return inside + low * np.minimum(z - knots[0], 0) + high * np.maximum(z - knots[-1], 0)


def check(output: str, used: Values) -> None:
    """Raise ValueError for an unknown output, or for targets that it cannot have."""
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}; it must be one of {', '.join(OUTPUTS)}")
    if not np.isfinite(used).all():
        raise ValueError(f"{(~np.isfinite(used)).sum()} targets to train on are NaN or infinite; leave those rows out")
    low, high = used.min(), used.max()
    if output in ("shifted", "sigmoid") and not 0 <= low <= high <= 1:
        raise ValueError(
            f"with output {output!r} targets are accuracies in [0, 1]; they go from {low:.4g} to {high:.4g}"
        )
    if output == "loss" and low < 0:
        raise ValueError(f"with output 'loss' targets are losses of 0 or more; they go from {low:.4g}")
