"""Predict a neural network's accuracy without paying for its training.

The names below are the front door. Each is imported from its module on first use, so that ``import naaplib`` is quick;
modules of the library import each other, and never this.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Name -> where it lives: "module:attribute".
FRONT_DOOR = {
    "GraphPredictor": "naaplib.estimators.predictors.graph_predictor:GraphPredictor",
    "HistoryTracker": "naaplib.estimators.histories.tracker:HistoryTracker",
    "Study": "naaplib.search.study:Study",
    "evaluate": "naaplib.evaluation.evaluate:evaluate",
    "load_naap440": "naaplib.tables.load:load_naap440",
    "plot_evaluation": "naaplib.evaluation.plots:plot_evaluation",
    "plot_learning_curves": "naaplib.evaluation.plots:plot_learning_curves",
    "plot_predictions": "naaplib.evaluation.plots:plot_predictions",
    "plot_ranking": "naaplib.evaluation.plots:plot_ranking",
    "plot_trajectory": "naaplib.evaluation.plots:plot_trajectory",
    "predict": "naaplib.estimators.final_accuracy:predict",
    "rank": "naaplib.estimators.proxies.rank:rank",
    "search": "naaplib.search:package",  # which can be called, and is the package of that name
    "train_population": "naaplib.training.own:train_population",
}

__all__ = sorted(FRONT_DOOR)


def __getattr__(name: str) -> Any:
    if name not in FRONT_DOOR:
        raise AttributeError(f"naaplib has no {name!r}; it offers {', '.join(__all__)}, and its modules")
    module, attribute = FRONT_DOOR[name].split(":")
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found  # the next use finds it at once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *FRONT_DOOR})
