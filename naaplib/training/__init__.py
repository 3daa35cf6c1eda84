"""How it is trained: CIFAR-10 as tensors, the published recipe, and one network at a time."""
