"""Kernels in Triton that several checks share. No check by itself."""

import triton
import triton.language as tl


@triton.jit
def add(left, right, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = places < count
    tl.store(out + places, tl.load(left + places, mask=mask) + tl.load(right + places, mask=mask), mask=mask)


@triton.jit
def softmax(values, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    places = tl.arange(0, BLOCK)
    mask = places < columns
    line = tl.load(values + row * columns + places, mask=mask, other=-float("inf"))
    powers = tl.exp(line - tl.max(line, axis=0))
    tl.store(out + row * columns + places, powers / tl.sum(powers, axis=0), mask=mask)


@triton.jit
def product(left, right, out, size, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inner = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, size, BLOCK):
        a = tl.load(left + rows[:, None] * size + (start + inner)[None, :])
        b = tl.load(right + (start + inner)[:, None] * size + columns[None, :])
        total += tl.dot(a, b)
    tl.store(out + rows[:, None] * size + columns[None, :], total)
