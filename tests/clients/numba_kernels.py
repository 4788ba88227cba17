"""numba-cuda: kernels in Python. Compiled with line information, since a cubin then carries its PTX, which the software GPU executes."""

import numpy
from common import close, passed, true
from kernels_numba import add, block_sums, jit
from numba import cuda
from numba.cuda.random import create_xoroshiro128p_states, xoroshiro128p_uniform_float32


@jit
def count(values, bins, extremes):
    index = cuda.grid(1)
    if index < values.size:
        cuda.atomic.add(bins, values[index] % bins.size, 1)
        cuda.atomic.max(extremes, 0, values[index])
        cuda.atomic.min(extremes, 1, values[index])


@jit
def transpose(source, out):
    row, column = cuda.grid(2)
    if row < source.shape[0] and column < source.shape[1]:
        out[column, row] = source[row, column]


@jit
def uniform(states, out):
    index = cuda.grid(1)
    out[index] = xoroshiro128p_uniform_float32(states, index)


source = numpy.random.default_rng(1)
left = source.standard_normal(10000).astype(numpy.float32)
right = source.standard_normal(10000).astype(numpy.float32)

out = cuda.device_array_like(left)
add[40, 256](left, right, out)
close("addition", out.copy_to_host(), left + right)

sums = cuda.device_array(40, dtype=numpy.float32)
block_sums[40, 256](left, sums)
padded = numpy.pad(left, (0, 240)).reshape(40, 256)
close("shared memory", sums.copy_to_host(), padded.sum(axis=1), atol=1e-4)

values = source.integers(0, 1000, 10000).astype(numpy.int32)
bins = cuda.to_device(numpy.zeros(7, dtype=numpy.int32))
extremes = cuda.to_device(numpy.array([-1, 5000], dtype=numpy.int32))
count[40, 256](values, bins, extremes)
close("atomic sums", bins.copy_to_host(), numpy.bincount(values % 7).astype(numpy.int32))
close("atomic extremes", extremes.copy_to_host(), numpy.array([values.max(), values.min()]))

table = left.reshape(100, 100)
turned = cuda.device_array((100, 100), dtype=numpy.float32)
transpose[(7, 7), (16, 16)](cuda.to_device(table), turned)
close("two dimensions", turned.copy_to_host(), table.T)
# Part of a device array, and a copy of one in another.
there = cuda.to_device(table)
close("a slice", there[10:20].copy_to_host(), table[10:20])
there[20:30].copy_to_device(there[0:10])
close("a copy on the device", there.copy_to_host()[20:30], table[0:10])

stream = cuda.stream()
begin, end = cuda.event(), cuda.event()
pinned = cuda.pinned_array(10000, dtype=numpy.float32)
with stream.auto_synchronize():
    begin.record(stream)
    with cuda.pinned(left):
        there = cuda.to_device(left, stream=stream)
        add[40, 256, stream](there, there, out)
        out.copy_to_host(pinned, stream=stream)
        end.record(stream)
        stream.synchronize()
close("stream", pinned, left + left)
true("events", end.query() and cuda.event_elapsed_time(begin, end) > 0)

states = create_xoroshiro128p_states(256, seed=1)
drawn = cuda.device_array(256, dtype=numpy.float32)
uniform[1, 256](states, drawn)
numbers = drawn.copy_to_host()
true("random", 0.4 < numbers.mean() < 0.6 and len(set(numbers.tolist())) > 250, numbers)

# What kernels and Python both reach: mapped memory while the stream is idle, and managed memory.
for name, shared in (("mapped", cuda.mapped_array(10000, dtype=numpy.float32)), ("managed", cuda.managed_array(10000, dtype=numpy.float32))):
    for factor in (1, 3):
        shared[:] = left * factor
        add[40, 256](shared, shared, shared)
        cuda.synchronize()
        close(f"{name} memory", numpy.asarray(shared), left * numpy.float32(2 * factor))

device = cuda.get_current_device()
free, total = cuda.current_context().get_memory_info()
true("device", 0 < free <= total, device.name, device.compute_capability, device.MULTIPROCESSOR_COUNT, total)
passed("numba_kernels")
