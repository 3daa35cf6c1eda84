"""Trials of a study: evaluations, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Trial:
    """An evaluation of a study.

    Attributes
    ----------
    number : int
        Number from 0, in the order proposed.
    params : dict, or whatever the space has
        Configuration to evaluate.
    n_epochs : int
        Epochs to train it for in all, earlier ones included.
    value : float
        Score; NaN if it failed, or before it is known.
    state : {"RUNNING", "COMPLETE", "FAIL"}
    cost : int
        Epochs that it added.
    """

    number: int
    params: Any
    n_epochs: int
    value: float = math.nan
    state: str = "RUNNING"
    cost: int = 0


def incumbents(trials: Sequence[Trial]) -> list[Trial | None]:
    """Return the best trial after each: most epochs first, then the highest value.

    Examples
    --------
    >>> scores = [(1, 0.9), (3, 0.5), (1, 0.95)]
    >>> trials = [Trial(i, {}, n_epochs=n, value=v, state="COMPLETE") for i, (n, v) in enumerate(scores)]
    >>> [one.number for one in incumbents(trials)]
    [0, 1, 1]
    """
    best: Trial | None = None
    found = []
    for one in trials:
        if one.state == "COMPLETE" and (best is None or (one.n_epochs, one.value) > (best.n_epochs, best.value)):
            best = one
        found.append(best)
    return found
