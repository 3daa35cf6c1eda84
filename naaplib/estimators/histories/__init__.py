"""Feature histories: ensembles of last layers retrained on recent epochs."""

from naaplib.estimators.histories.ensemble import Ensemble, correct, estimate, window

__all__ = ["Ensemble", "correct", "estimate", "window"]
