"""Who can tell early: regressors, the candidates that selection chooses from, and training-free scores."""
