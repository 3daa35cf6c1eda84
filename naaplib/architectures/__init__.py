"""What can be trained: schemes of layers and cells, the networks that they describe, and their graphs."""
