"""Chapter 06: zero-cost proxies."""
