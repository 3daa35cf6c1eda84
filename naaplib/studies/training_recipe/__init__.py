"""Chapter 02: the training recipe."""
