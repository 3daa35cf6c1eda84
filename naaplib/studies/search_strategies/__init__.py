"""Chapter 09: guided and multi-fidelity searches."""
