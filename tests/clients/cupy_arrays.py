"""CuPy: elementwise functions, reductions, kernels compiled here, sorting and scans by CUB and Thrust, random numbers, streams."""

import ctypes

import cupy
import numpy
from common import close, passed, true

source = numpy.random.default_rng(1)
values = source.standard_normal(10000).astype(numpy.float32)
there = cupy.asarray(values)
table, there2 = values.reshape(100, 100), there.reshape(100, 100)

close("elementwise", (cupy.exp(there) * 2 + cupy.sin(there)).get(), numpy.exp(values) * 2 + numpy.sin(values), atol=1e-5)
close("where", cupy.where(there > 0, there, -1).get(), numpy.where(values > 0, values, numpy.float32(-1)))
close("broadcast", (there2 + there[:100]).get(), table + values[:100])
close("integers", (cupy.arange(1000) // 7 % 5).get(), numpy.arange(1000) // 7 % 5)

close("sum", there.sum().get(), values.sum(), atol=1e-3)
close("sum of rows", there2.sum(axis=1).get(), table.sum(axis=1), atol=1e-4)
close("maximum of columns", there2.max(axis=0).get(), table.max(axis=0))
close("argmin", there.argmin().get(), values.argmin())
close("mean and deviation", [float(there.mean()), float(there.std())], [values.mean(), values.std()], atol=1e-5)
close("count", cupy.count_nonzero(there > 0).get(), numpy.count_nonzero(values > 0))

scale = cupy.RawKernel(
    r"""
extern "C" __global__ void scale(const float *in, float *out, float factor, int count) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) out[index] = in[index] * factor + index;
}""",
    "scale",
)
out = cupy.empty_like(there)
scale((40,), (256,), (there, out, numpy.float32(1.5), numpy.int32(10000)))
close("raw kernel", out.get(), values * numpy.float32(1.5) + numpy.arange(10000, dtype=numpy.float32), rtol=1e-6)
squares = cupy.ElementwiseKernel("float32 x, float32 y", "float32 z", "z = (x - y) * (x - y)", "squares")
close("elementwise kernel", squares(there, out).get(), (values - out.get()) ** 2, rtol=1e-5)
norm = cupy.ReductionKernel("float32 x", "float32 y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")
close("reduction kernel", norm(there).get(), numpy.linalg.norm(values), rtol=1e-5)
module = cupy.RawModule(code=r"""
__constant__ int offset;
__device__ int total;
extern "C" __global__ void add(const int *in) { atomicAdd(&total, in[threadIdx.x] + offset); }
""")
whole = cupy.ndarray((), "int32", module.get_global("total"))
whole[...] = 0
cupy.ndarray((), "int32", module.get_global("offset"))[...] = 3
module.get_function("add")((1,), (64,), (cupy.arange(64, dtype="int32"),))
close("globals", whole.get(), numpy.arange(64).sum() + 3 * 64)

close("sort", cupy.sort(there).get(), numpy.sort(values))
close("sort of rows", cupy.sort(there2, axis=1).get(), numpy.sort(table, axis=1))
close("argsort", cupy.argsort(there).get(), numpy.argsort(values, kind="stable"))
numbers = source.integers(0, 50, 5000)
close("scan", cupy.cumsum(cupy.asarray(numbers)).get(), numpy.cumsum(numbers))
close("scan of rows", cupy.cumprod(cupy.asarray(numbers % 3 + 1).reshape(500, 10), axis=1).get(), (numbers % 3 + 1).reshape(500, 10).cumprod(axis=1))
close("unique", cupy.unique(cupy.asarray(numbers)).get(), numpy.unique(numbers))
close("histogram", cupy.bincount(cupy.asarray(numbers)).get(), numpy.bincount(numbers))
close("selection", there[there > 1].get(), values[values > 1])
close("top", cupy.partition(there, 50)[:50].get().max(), numpy.sort(values)[49])

drawn = cupy.random.default_rng(3).standard_normal(10000).get()
true("random", abs(drawn.mean()) < 0.05 and abs(drawn.std() - 1) < 0.05, drawn)
drawn = cupy.random.default_rng(4).integers(0, 10, 1000).get()
true("random integers", set(drawn.tolist()) == set(range(10)), drawn)

stream = cupy.cuda.Stream(non_blocking=True)
begin, end = cupy.cuda.Event(), cupy.cuda.Event()
called = []
with stream:
    begin.record()
    tripled = there * 3
    end.record()
    stream.launch_host_func(called.append, "by the stream")
stream.synchronize()
true("host function", called == ["by the stream"])
true("events", cupy.cuda.get_elapsed_time(begin, end) > 0)
close("stream", tripled.get(), values * 3)
pinned = numpy.frombuffer(cupy.cuda.alloc_pinned_memory(values.nbytes), numpy.float32, values.size)
tripled.get(stream=stream, out=pinned)
stream.synchronize()
close("pinned memory", pinned, values * 3)

with stream:
    captured = cupy.multiply(there, 2)
    stream.begin_capture()
    cupy.multiply(there, 2, out=captured)
    cupy.add(captured, there, out=captured)
    true("capturing", stream.is_capturing())
    graph = stream.end_capture()
for factor in (1, 5):
    with stream:
        there[...] = cupy.asarray(values * numpy.float32(factor))
    graph.launch(stream)
    stream.synchronize()
    close(f"graph, launch with {factor}", captured.get(), values * numpy.float32(3 * factor), rtol=1e-6)

managed = cupy.cuda.malloc_managed(values.nbytes)
shared = cupy.ndarray(values.shape, numpy.float32, managed)
seen = numpy.ctypeslib.as_array((ctypes.c_float * values.size).from_address(managed.ptr))
seen[:] = values
shared *= 2
cupy.cuda.Device().synchronize()
close("managed memory", seen, values * 2)

pool = cupy.get_default_memory_pool()
free, total = cupy.cuda.Device().mem_info
true("memory pool", 0 < pool.used_bytes() <= pool.total_bytes() and free < total)
del there, there2, out, tripled, captured, graph, whole, table
pool.free_all_blocks()
passed("cupy_arrays")
