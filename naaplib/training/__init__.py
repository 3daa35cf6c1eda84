"""Training of networks: CIFAR-10 as tensors, the published recipe, and trainers."""
