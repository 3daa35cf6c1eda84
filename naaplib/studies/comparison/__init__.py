"""The comparison of all estimators."""
