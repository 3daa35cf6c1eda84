"""Who can tell early: regressors and the candidates that selection chooses from."""
