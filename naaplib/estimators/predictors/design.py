"""Design and training schedule of networks on graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

KINDS = ("gcn", "mlp", "cnn")
NORMALISATIONS = ("symmetric", "none")


@dataclass(frozen=True)
class Design:
    """Architecture of networks on graphs.

    Parameters
    ----------
    kind : {"gcn", "mlp", "cnn"}
        Kind of network; see `.networks.Networks`.
    n_layers : int
        Number of layers of that kind.
    width : int
        Units of each layer.
    n_hidden : tuple of int
        Units of each dense layer between pooling and output.
    head_relu : bool
        True adds a ReLU to those layers; without it, all layers after the pooling are linear.
    normalisation : {"symmetric", "none"}
        "symmetric" divides A + I by the square roots of the row sums of its row and its column.
    masked : bool
        True ignores padded nodes; false pools them with the others.
    """

    kind: str
    n_layers: int
    width: int
    n_hidden: tuple[int, ...]
    head_relu: bool
    normalisation: str
    masked: bool

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("normalisation", NORMALISATIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        _require_positive(self, "n_layers", "width")
        if not self.n_hidden or any(not isinstance(size, Integral) or size < 1 for size in self.n_hidden):
            raise ValueError(f"n_hidden is {self.n_hidden}; it must be one whole number above 0, or several")


@dataclass(frozen=True)
class Schedule:
    """Training schedule of networks with Adam.

    Parameters
    ----------
    n_epochs, batch_size : int
        The last batch of an epoch may be smaller.
    rate : float
        Learning rate of the first step; it falls as a cosine.
    horizon : int or None
        Step at which the cosine reaches 0 and stays there; None takes the last step.
    penalty : float
        Factor on the sum of squares of all kernels in the loss.
    dropout : float
        Dropout rate of the head's hidden units.
    """

    n_epochs: int
    batch_size: int
    rate: float
    horizon: int | None
    penalty: float
    dropout: float

    def __post_init__(self) -> None:
        _require_positive(self, "n_epochs", "batch_size", *([] if self.horizon is None else ["horizon"]))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not 0 < self.rate < math.inf or not 0 <= self.penalty < math.inf:
            raise ValueError(
                f"the learning rate is {self.rate}, the penalty {self.penalty}; they must be finite numbers, above 0 "
                f"and not below 0"
            )


def _require_positive(record: Design | Schedule, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be at least 1, and a whole number")
