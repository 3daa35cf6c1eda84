"""Chapter 08: neural predictors."""
