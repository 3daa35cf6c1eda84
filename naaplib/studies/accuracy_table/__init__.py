"""Chapter 03: the networks trained again."""
