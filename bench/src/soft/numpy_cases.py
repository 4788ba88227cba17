"""The cases of `bench soft` as numpy does them: a line for each, its name and the best time in seconds."""

import sys
import time

import numpy


def measure(name, function):
    if name not in sys.argv[1:]:
        return
    best = float("inf")
    for _ in range(9):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    print(f"{name}\t{best}")


def softmax(rows):
    powers = numpy.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def layer_norm(rows, weights, shifts):
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / numpy.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5) * weights + shifts


def convolution(images, weights, bias):
    windows = numpy.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 144)
    return numpy.maximum(columns @ weights.reshape(16, 144).T + bias, 0)


random = numpy.random.default_rng(1)
x, y = (random.random(1 << 20, dtype=numpy.float32) for _ in range(2))
measure("saxpy 2^20", lambda: 2.5 * x + y)
measure("sum of 2^20", x.sum)
a, b = (random.random((256, 256), dtype=numpy.float32) for _ in range(2))
for name in ("naive 32x8", "naive 16x16", "tiled 32x32", "mma"):
    measure(f"matmul {name}", lambda: a @ b)
rows, weights, shifts = random.random((256, 1024), dtype=numpy.float32), x[:1024], y[:1024]
measure("softmax 256x1024", lambda: softmax(rows))
measure("layer norm 256x1024", lambda: layer_norm(rows, weights, shifts))
images, kernel = random.random((4, 16, 34, 34), dtype=numpy.float32), random.random((16, 16, 3, 3), dtype=numpy.float32)
measure("convolution 3x3", lambda: convolution(images, kernel, x[:16]))
