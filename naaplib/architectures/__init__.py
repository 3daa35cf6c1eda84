"""What can be trained: schemes of layers, and the networks that they describe."""
