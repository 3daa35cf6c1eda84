"""Chapter 04: sets of features."""
