"""Predictions of a tuning search's surrogate, with intervals that are calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.estimators.ensembles.calibration import conformal_factor, mean_and_spread, rescale, spread_factor
from naaplib.parallel import one_thread
from naaplib.search.rounds import Evaluation, Settings, history
from naaplib.search.search_space import SearchSpace

_N_FOLDS = {"predict": 5, "intervals": 10}
_FEWEST = 2  # full evaluations


class _Evaluated(NamedTuple):
    """Evaluations as an ensemble is fitted to them."""

    rows: NDArray[np.int64]
    measured: NDArray[np.float64]
    fidelities: NDArray[np.int64]
    weights: list[float]

    @property
    def settings(self) -> dict[str, Any]:
        """What `DeepEnsemble.fit` and `cross_predict` take beside rows and values."""
        return {"fidelities": self.fidelities, "weights": self.weights}


def predict(space: SearchSpace, done: Sequence[Evaluation], *, settings: Settings, calibrated: bool) -> pd.DataFrame:
    """Predict full values of all architectures; see `.tuning.Search.predict`."""
    given = _evaluated(done, settings)
    with one_thread():
        predicted = space.ensemble.fit(*given[:2], **given.settings).predict()
        if calibrated:
            n_folds = min(_N_FOLDS["predict"], len(given.rows))
            held_out = space.ensemble.cross_predict(*given[:2], **given.settings, n_folds=n_folds)
            is_full = given.fidelities == 0
            predicted = rescale(predicted, spread_factor(held_out[:, is_full], given.measured[is_full]))
    mean, spread = mean_and_spread(predicted)
    return pd.DataFrame({"mean": mean, "spread": spread})


def intervals(space: SearchSpace, done: Sequence[Evaluation], *, settings: Settings, level: float) -> pd.DataFrame:
    """Predict intervals of full values of all architectures."""
    given = _evaluated(done, settings)
    with one_thread():
        mean, spread = mean_and_spread(space.ensemble.fit(*given[:2], **given.settings).predict())
        n_folds = min(_N_FOLDS["intervals"], len(given.rows))
        held_out = space.ensemble.cross_predict(*given[:2], **given.settings, n_folds=n_folds)
    factor = conformal_factor(held_out, given.measured, level=level)
    return pd.DataFrame({"mean": mean, "low": mean - factor * spread, "high": mean + factor * spread})


def _evaluated(done: Sequence[Evaluation], settings: Settings) -> _Evaluated:
    """Return evaluations for a fit, and refuse too few."""
    rows, levels, values = history(done)
    n_full = int((levels == 0).sum())
    if n_full < _FEWEST:
        raise ValueError(f"{n_full} full evaluations are done; predictions need {_FEWEST} or more")
    return _Evaluated(rows, values, levels, [1.0, settings.cheap_weight])
