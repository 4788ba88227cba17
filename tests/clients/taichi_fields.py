"""Taichi: fields, its parallel loops, reductions, atomics, sparse fields, matrices, differentiation, arrays of numpy; a small simulation."""

import numpy
import taichi as ti
from common import close, passed, true

ti.init(arch=ti.cuda, log_level=ti.ERROR, random_seed=1)
true("it is CUDA", ti.lang.impl.current_cfg().arch == ti.cuda)
source = numpy.random.default_rng(4)

SIZE = 1000
values = ti.field(ti.f32, shape=SIZE)
total = ti.field(ti.i64, shape=())
bins = ti.field(ti.i32, shape=16)


@ti.kernel
def waves():
    for i in values:
        values[i] = ti.sin(i * 0.01) * ti.exp(-i * 0.001)


@ti.kernel
def count(numbers: ti.types.ndarray(dtype=ti.i32, ndim=1)):
    for i in numbers:
        total[None] += numbers[i]
        bins[numbers[i] % 16] += 1


@ti.kernel
def largest(numbers: ti.types.ndarray(dtype=ti.i32, ndim=1)) -> ti.i32:
    most = -1
    for i in numbers:
        ti.atomic_max(most, numbers[i])
    return most


waves()
i = numpy.arange(SIZE, dtype=numpy.float32)
close("a field", values.to_numpy(), numpy.sin(i * 0.01) * numpy.exp(-i * 0.001), rtol=1e-4, atol=1e-6)
numbers = source.integers(0, 10000, 3000).astype(numpy.int32)
count(numbers)
close("a sum", total.to_numpy(), numbers.sum())
close("bins", bins.to_numpy(), numpy.bincount(numbers % 16, minlength=16))
true("the largest", largest(numbers) == numbers.max(), numbers.max())

# Matrices, and a loop over two dimensions.
transform = ti.Matrix.field(2, 2, ti.f32, shape=8)
points = ti.Vector.field(2, ti.f32, shape=(8, 8))


@ti.kernel
def turn():
    for k in transform:
        angle = k * 0.3
        transform[k] = ti.Matrix([[ti.cos(angle), -ti.sin(angle)], [ti.sin(angle), ti.cos(angle)]])
    for j, k in points:
        points[j, k] = transform[j] @ ti.Vector([k + 1.0, 2.0])


turn()
angles, right = numpy.arange(8)[:, None] * 0.3, numpy.arange(8)[None] + 1.0
expected = numpy.stack([numpy.cos(angles) * right - numpy.sin(angles) * 2, numpy.sin(angles) * right + numpy.cos(angles) * 2], axis=2)
close("matrices", points.to_numpy(), expected, rtol=1e-4, atol=1e-5)

# A field of which only what is touched has memory.
blocks = ti.root.pointer(ti.ij, (8, 8))
pixels = ti.field(ti.i32)
blocks.dense(ti.ij, (4, 4)).place(pixels)


@ti.kernel
def touch():
    for k in range(8):
        pixels[k * 4, k * 4 + 1] = k + 1


@ti.kernel
def touched() -> ti.i32:
    cells = 0
    for j, k in pixels:
        cells += 1
    return cells


touch()
true("a sparse field", touched() == 8 * 16, touched())
close("what is in it", [pixels[k * 4, k * 4 + 1] for k in range(8)], numpy.arange(8) + 1)

# Differentiation.
x = ti.field(ti.f32, shape=64, needs_grad=True)
loss = ti.field(ti.f32, shape=(), needs_grad=True)


@ti.kernel
def energy():
    for k in x:
        loss[None] += x[k] ** 2 * ti.sin(x[k])


at = source.random(64, dtype=numpy.float32)
x.from_numpy(at)
with ti.ad.Tape(loss):
    energy()
close("gradients", x.grad.to_numpy(), 2 * at * numpy.sin(at) + at**2 * numpy.cos(at), rtol=1e-4)

# Heat in a plate, as numpy computes it.
PLATE = 48
now, then = ti.field(ti.f32, shape=(PLATE, PLATE)), ti.field(ti.f32, shape=(PLATE, PLATE))


@ti.kernel
def step(before: ti.template(), behind: ti.template()):
    for j, k in before:
        if 0 < j < PLATE - 1 and 0 < k < PLATE - 1:
            near = before[j - 1, k] + before[j + 1, k] + before[j, k - 1] + before[j, k + 1]
            behind[j, k] = before[j, k] + 0.2 * (near - 4 * before[j, k])
        else:
            behind[j, k] = before[j, k]


plate = source.random((PLATE, PLATE), dtype=numpy.float32)
now.from_numpy(plate)
for _ in range(20):
    step(now, then)
    now, then = then, now
    inner = plate[1:-1, 1:-1]
    near = plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
    plate[1:-1, 1:-1] = inner + numpy.float32(0.2) * (near - 4 * inner)
close("a simulation", now.to_numpy(), plate, rtol=1e-4, atol=1e-5)

passed("taichi")
