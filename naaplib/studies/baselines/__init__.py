"""Chapter 05: off-the-shelf regressors."""
