"""Chapter 07: feature histories."""
