"""Measured accuracies: NAAP-440, its features, benchmarks, and tables of papers."""
