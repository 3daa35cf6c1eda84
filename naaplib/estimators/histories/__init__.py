"""Feature histories: last layers trained again, and ensembles of them."""

from naaplib.estimators.histories.ensemble import Ensemble, correct, estimate, window

__all__ = ["Ensemble", "correct", "estimate", "window"]
