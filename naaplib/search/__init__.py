"""Searches: by a score, guided by a predictor, multi-fidelity, Bayesian."""
