"""Predict a neural network's accuracy without paying for its training."""

__version__ = "0.1.0"
