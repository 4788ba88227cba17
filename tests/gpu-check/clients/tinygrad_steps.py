"""tinygrad: a few steps of training a small network; kernels are PTX, so the software GPU runs it too."""

from common import Results, need

need("tinygrad", "numpy")
results = Results()

import numpy
from tinygrad import Context, Tensor, TinyJit
from tinygrad.nn.optim import SGD

source = numpy.random.default_rng(6)
pictures = source.standard_normal((32, 64)).astype(numpy.float32)
labels = source.integers(0, 10, 32).astype(numpy.int32)
first = Tensor(source.standard_normal((64, 32)).astype(numpy.float32) * 0.1)
second = Tensor(source.standard_normal((32, 10)).astype(numpy.float32) * 0.1)
optimizer = SGD([first, second], lr=0.1)
inputs, expected = Tensor(pictures).realize(), Tensor(labels).realize()


@TinyJit
def step():
    optimizer.zero_grad()
    loss = inputs.matmul(first).relu().matmul(second).sparse_categorical_crossentropy(expected).backward()
    Tensor.realize(loss, *optimizer.schedule_step())
    return loss


def train():
    with Context(TRAINING=1):
        return step().item()


results.begin("training")
losses = [train() for _ in range(10)]
results.add("losses", losses)
if not losses[-1] < losses[0]:
    raise SystemExit(f"FAIL the network did not learn: {losses}")
results.add("first", first.numpy())
results.add("second", second.numpy())
results.begin("timing")
results.time("step", train, 20)
results.save()
