"""Neural predictors of accuracy from graphs of architectures."""

from naaplib.estimators.predictors.estimator import NeuralPredictor, fit_many
from naaplib.estimators.predictors.presets import faithful, tuned

__all__ = ["NeuralPredictor", "faithful", "fit_many", "tuned"]
