"""Architectures to train: schemes and cells, their networks and their graphs."""
