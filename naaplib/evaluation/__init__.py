"""Evaluation of estimators and searches: protocols, rankings, figure style."""
