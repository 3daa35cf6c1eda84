"""Who looks for the best: random search that keeps what a score likes best, and search guided by a predictor."""
