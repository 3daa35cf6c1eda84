"""Objective on a table of learning curves, and the results of its searches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib.architectures.schemes import Scheme
from naaplib.search.samplers import Draw, Trial

END = "no more"


class TableObjective:
    """Architectures with known learning curves: further training reads a later epoch.

    A configuration is a row's index.

    Parameters
    ----------
    scores : array_like, shape (n_archs, n_epochs)
        Scores that a search sees after epochs 1, 2, ...: accuracies, or estimates made then.
    paths : sequence of sequences of str, optional
        The choices that make each architecture, all different. By default each is one choice among all.

    Examples
    --------
    >>> table = TableObjective([[0.3, 0.6], [0.5, 0.55]])
    >>> table.evaluate(0, budget=1), table.evaluate(0, budget=2)
    (0.3, 0.6)
    """

    remembers = True

    def __init__(self, scores: ArrayLike, paths: Sequence[Sequence[str]] | None = None) -> None:
        self.scores = np.asarray(scores, dtype=float)
        if self.scores.ndim != 2 or not self.scores.size:
            raise ValueError(f"scores must be (n_archs, n_epochs), of one each at least, not {self.scores.shape}")
        named = [(str(i),) for i in range(len(self.scores))] if paths is None else [tuple(path) for path in paths]
        if len(set(named)) < len(self.scores) or len(named) != len(self.scores):
            raise ValueError(f"{len(self.scores)} architectures need as many different paths, not {len(set(named))}")
        digest = hashlib.sha256(self.scores.tobytes() + json.dumps(named).encode())
        self.name = f"table {digest.hexdigest()[:16]}"
        self._rows = {(*path, END): i for i, path in enumerate(named)}
        self._options: dict[tuple[str, ...], dict[str, int]] = {}  # by path: next choices, and their rows' number
        for path in self._rows:
            for depth, choice in enumerate(path):
                options = self._options.setdefault(path[:depth], {})
                options[choice] = options.get(choice, 0) + 1

    def suggest(self, trial: Trial) -> int:
        """Choose a row, choice by choice; every row is as likely for a `Draw`.

        The name of a choice has its depth and its options, so that equal options are one choice wherever they occur.
        """
        path: tuple[str, ...] = ()
        while path not in self._rows:
            options = self._options[path]
            names = tuple(options)
            name = f"{len(path) + 1}: {' | '.join(names)}"
            if len(names) == 1:
                choice = names[0]
            elif isinstance(trial, Draw):
                choice = trial.suggest_categorical(name, names, weights=list(options.values()))
            else:
                choice = trial.suggest_categorical(name, names)
            path = (*path, choice)
        return self._rows[path]

    def evaluate(self, configuration: int, budget: int) -> float:
        """Return a row's score after `budget` epochs."""
        if not 1 <= budget <= self.scores.shape[1]:
            raise ValueError(f"budget is {budget}; the table has epochs 1 to {self.scores.shape[1]}")
        return float(self.scores[configuration, budget - 1])


def paths(schemes: Sequence[Scheme]) -> list[tuple[str, ...]]:
    """Return schemes as choices, one per block.

    A choice has kernel size, width, stride, and "residual" if the block is.
    """
    return [
        tuple(
            f"{block.kernel_size} x {block.kernel_size}, {block.width}, stride {block.stride}"
            + ", residual" * block.residual
            for block in scheme
        )
        for scheme in schemes
    ]


def found(trace: pd.DataFrame, worth: ArrayLike, *, at: Sequence[int]) -> NDArray[np.float64]:
    """Return the true accuracy of a search's incumbent after each number of epochs.

    Parameters
    ----------
    trace : DataFrame
        As a strategy returns it for a `TableObjective`.
    worth : array_like, shape (n_archs,)
        True accuracies.
    at : sequence of int
        Epochs spent.

    Returns
    -------
    ndarray, shape (n_at,)
        NaN before the first evaluation.
    """
    values = np.asarray(worth, dtype=float)[[json.loads(name) for name in trace["incumbent"]]]
    steps = np.searchsorted(trace["spent"].to_numpy(), at, side="right")
    return np.where(steps > 0, values[np.maximum(steps - 1, 0)], np.nan)
