"""Neural predictors of accuracy from graphs of architectures."""

from naaplib.estimators.predictors.estimator import NeuralPredictor, faithful, fit_many, tuned

__all__ = ["NeuralPredictor", "faithful", "fit_many", "tuned"]
