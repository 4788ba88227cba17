"""Halide: pipelines that it compiles to PTX with LLVM, by schedules with blocks, shared memory, vectors and reductions."""

import halide as hl
import numpy
from common import close, passed

target = hl.get_host_target().with_feature(hl.TargetFeature.CUDA).with_feature(hl.TargetFeature.CUDACapability80)
source = numpy.random.default_rng(6)
x, y, bx, by, tx, ty = (hl.Var(name) for name in ("x", "y", "bx", "by", "tx", "ty"))


def realised(function, shape):
    """Halide's first dimension is numpy's last."""
    buffer = function.realize(list(reversed(shape)), target)
    buffer.copy_to_host()
    return numpy.array(buffer)


def of(name, array):
    return hl.Buffer(array, name)


image = source.random((60, 100), dtype=numpy.float32)
clamped = hl.BoundaryConditions.repeat_edge(of("image", image))

length = hl.Func("length")
length[x, y] = hl.sqrt(hl.f32(x) * hl.f32(x) + hl.f32(y) * hl.f32(y))
length.gpu_tile(x, y, bx, by, tx, ty, 16, 8)
rows, columns = numpy.mgrid[0:60, 0:100]
close("lengths", realised(length, (60, 100)), numpy.hypot(rows, columns), rtol=1e-5)

# A blur of two stages, the first in the shared memory of each block.
across, blurred = hl.Func("across"), hl.Func("blurred")
across[x, y] = (clamped[x - 1, y] + clamped[x, y] + clamped[x + 1, y]) / 3
blurred[x, y] = (across[x, y - 1] + across[x, y] + across[x, y + 1]) / 3
blurred.gpu_tile(x, y, bx, by, tx, ty, 16, 16)
across.compute_at(blurred, bx).gpu_threads(x, y)
padded = numpy.pad(image, 1, mode="edge")
expected = sum(padded[j : j + 60, i : i + 100] for j in range(3) for i in range(3)) / 9
close("a blur", realised(blurred, image.shape), expected, rtol=1e-5)

# A product of matrices, summed in a loop.
a, b = source.random((32, 48), dtype=numpy.float32), source.random((48, 32), dtype=numpy.float32)
left, right = of("left", a), of("right", b)
k = hl.RDom([(0, 48)])
product, result = hl.Func("product"), hl.Func("result")
product[x, y] = 0.0
product[x, y] += left[k.x, y] * right[x, k.x]
result[x, y] = product[x, y]
result.gpu_tile(x, y, bx, by, tx, ty, 16, 8)
close("a product", realised(result, (32, 32)), a @ b, rtol=1e-4)

# Bins by atomics.
numbers = source.integers(0, 16, 2000).astype(numpy.uint8)
values = of("values", numbers)
r = hl.RDom([(0, 2000)])
bins = hl.Func("bins")
bins[x] = 0
bins[hl.i32(values[r.x])] += 1
bins.gpu_tile(x, bx, tx, 16)
bins.update().atomic().gpu_tile(r.x, hl.RVar("rbx"), hl.RVar("rtx"), 64)
close("bins", realised(bins, (16,)), numpy.bincount(numbers, minlength=16))

passed("halide")
