#!/usr/bin/env python3
"""Train a network of two layers with tinygrad and nothing else, where more does not fit: whether a sum is large. Prints the losses; fails if they
do not fall. It knows nothing of where its device is."""

import sys

from tinygrad import Context, Tensor, nn

STEPS = 12


class Network:
    """Eight numbers -> sixteen -> two classes."""

    def __init__(self):
        self.hidden = nn.Linear(8, 16)
        self.out = nn.Linear(16, 2)

    def __call__(self, x):
        return self.out(self.hidden(x).relu())


def main():
    Tensor.manual_seed(7)
    inputs = Tensor.rand(64, 8).realize()
    labels = (inputs.sum(1) > 4).cast("int").realize()
    network = Network()
    optimiser = nn.optim.SGD(nn.state.get_parameters(network), lr=0.5)
    losses = []
    with Context(TRAINING=1):
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = network(inputs).sparse_categorical_crossentropy(labels).backward()
            optimiser.step()
            losses.append(loss.item())
    print(" ".join(f"{loss:.6f}" for loss in losses))
    return 0 if losses[-1] < losses[0] * 0.98 else 1


sys.exit(main())
