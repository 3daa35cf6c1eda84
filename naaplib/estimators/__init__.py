"""Who can tell early: regressors, training-free scores, predictors on graphs."""
