#!/usr/bin/env python3
"""Train a small convolutional network on scikit-learn's handwritten digits with tinygrad.

An ordinary tinygrad script: it knows nothing of where its device is. `DEV` picks that, as in every
tinygrad program (`DEV=CUDA`, `DEV=CUDA:PTX`, `DEV=CPU`).

Everything is seeded and no kernel uses atomics, so two runs on one kind of device end with the same
bits in every parameter; `--save` writes them for `compare_params.py`.

The data set goes to the device once. Each epoch uploads a shuffled order, each step takes its slice of
it by a bound variable, and loss and hits are summed on the device and read once an epoch: a warm step
is kernel launches and nothing else.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from tinygrad import Context, Device, Tensor, TinyJit, Variable, dtypes, nn

BATCH = 64
HELD_OUT = 360
REQUIRED_ACCURACY = 0.95


class Network:
    """8x8 grey image -> 8 channels of 6x6 -> 16 of 4x4 -> pooled to 2x2 -> ten classes."""

    def __init__(self):
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.out = nn.Linear(64, 10)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        x = self.conv2(x).relu().max_pool2d()
        return self.out(x.flatten(1))


def load(seed: int):
    """The bundled digits as (train images, train labels, held-out images, held-out labels)."""
    digits = load_digits()
    images = (digits.images.astype(np.float32) / 16.0)[:, None]
    labels = digits.target.astype(np.int32)
    order = np.random.RandomState(seed).permutation(len(images))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    return images[train], labels[train], images[test], labels[test]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--accuracy", type=float, default=REQUIRED_ACCURACY, help="least held-out accuracy; less is a failure")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--save", metavar="FILE", help="write every parameter to FILE (.npz)")
    args = parser.parse_args()
    started = time.perf_counter()

    train_x, train_y, test_x, test_y = load(args.seed)
    x, y = Tensor(train_x).realize(), Tensor(train_y).realize()
    batches = len(train_x) // BATCH

    Tensor.manual_seed(args.seed)
    network = Network()
    optimizer = nn.optim.SGD(nn.state.get_parameters(network), lr=0.05, momentum=0.9)
    Tensor.realize(*nn.state.get_parameters([network, optimizer]))
    loss_sum = Tensor.zeros(1).contiguous().realize()
    hits = Tensor.zeros(1, dtype=dtypes.int32).contiguous().realize()

    @TinyJit
    def step(order: Tensor, batch: Variable) -> None:
        picked = order.reshape(batches, BATCH)[batch]
        images, labels = x[picked], y[picked]
        optimizer.zero_grad()
        scores = network(images)
        loss = scores.sparse_categorical_crossentropy(labels).backward()
        Tensor.realize(
            *optimizer.schedule_step(),
            loss_sum.assign(loss_sum + loss.detach()),
            hits.assign(hits + (scores.detach().argmax(axis=1) == labels).sum().cast(dtypes.int32)),
        )

    @TinyJit
    def classify(images: Tensor) -> Tensor:
        return network(images).argmax(axis=1).realize()

    print(f"device {Device.DEFAULT}: {len(train_x)} images to train on, {len(test_x)} held out, "
          f"{batches} steps of {BATCH} an epoch", flush=True)
    shuffle = np.random.RandomState(args.seed + 1)
    batch_index = Variable("batch", 0, batches - 1)
    with Context(TRAINING=1):
        for epoch in range(1, args.epochs + 1):
            epoch_started = time.perf_counter()
            order = Tensor(shuffle.permutation(len(train_x))[: batches * BATCH].astype(np.int32)).realize()
            loss_sum.assign(Tensor.zeros(1)).realize()
            hits.assign(Tensor.zeros(1, dtype=dtypes.int32)).realize()
            for batch in range(batches):
                step(order, batch_index.bind(batch))
            loss, accuracy = loss_sum.item() / batches, hits.item() / (batches * BATCH)
            print(f"epoch {epoch:3d}  loss {loss:.4f}  train accuracy {accuracy:6.2%}  "
                  f"{time.perf_counter() - epoch_started:6.2f} s", flush=True)

    predicted = classify(Tensor(test_x).realize()).numpy()
    accuracy = float((predicted == test_y).mean())
    print(f"held-out accuracy {accuracy:.2%} after {args.epochs} epochs, "
          f"{time.perf_counter() - started:.2f} s in all", flush=True)

    if args.save:
        np.savez(args.save, **{name: tensor.numpy() for name, tensor in nn.state.get_state_dict(network).items()})
    if accuracy < args.accuracy:
        print(f"held-out accuracy is below {args.accuracy:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
