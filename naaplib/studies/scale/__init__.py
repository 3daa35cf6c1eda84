"""Chapter 11: what large populations cost."""
