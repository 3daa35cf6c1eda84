"""Zero-cost proxies: scores of networks that nobody has trained."""
