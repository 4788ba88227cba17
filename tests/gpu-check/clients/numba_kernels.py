"""numba-cuda: kernels from Python: addition, a reduction in shared memory, atomics."""

from common import Results, need

need("numba", "numpy")
results = Results()

import numpy
from kernels_numba import add, block_sums
from numba import cuda


@cuda.jit
def count(values, bins):
    index = cuda.grid(1)
    if index < values.size:
        cuda.atomic.add(bins, values[index], 1)


left = numpy.arange(10000, dtype=numpy.float32)
right = numpy.sqrt(left)
results.begin("addition")
out = cuda.device_array_like(left)
add[40, 256](left, right, out)
got = out.copy_to_host()
results.add("addition", got)
if not numpy.array_equal(got, left + right):
    raise SystemExit("FAIL the sums are wrong")
results.begin("shared memory")
sums = cuda.device_array(40, dtype=numpy.float32)
block_sums[40, 256](right, sums)
results.add("block_sums", sums.copy_to_host())
results.begin("atomics")
bins = cuda.to_device(numpy.zeros(10, dtype=numpy.int32))
count[40, 256]((numpy.arange(10000) % 10).astype(numpy.int32), bins)
results.add("bins", bins.copy_to_host())
results.begin("streams")
stream = cuda.stream()
with stream.auto_synchronize():
    there = cuda.to_device(left, stream=stream)
    add[40, 256, stream](there, there, out)
    doubled = out.copy_to_host(stream=stream)
results.add("doubled", doubled)
results.begin("timing")


def step():
    add[40, 256](there, there, out)
    cuda.synchronize()


results.time("step", step, 100)
results.save()
