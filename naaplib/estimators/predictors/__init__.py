"""Neural predictors of accuracy from graphs."""
