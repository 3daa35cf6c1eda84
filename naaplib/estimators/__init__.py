"""Early predictors of accuracy: regressors, zero-cost proxies, curves and graphs."""
