"""Chapter 01: the search space."""
