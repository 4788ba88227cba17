"""CuPy: elementwise functions, reductions, kernels compiled here, sorting, transforms."""

from common import Results, need

need("cupy", "numpy")
results = Results()

import cupy
import numpy

source = numpy.random.default_rng(1).standard_normal(10000).astype(numpy.float32)
values = cupy.asarray(source)

results.begin("elementwise")
results.add("elementwise", cupy.asnumpy(cupy.exp(values) * 2 + cupy.sin(values)))
results.begin("reduction")
results.add("sum", float(values.sum()))
results.add("rows", cupy.asnumpy(values.reshape(100, 100).max(axis=1)))

results.begin("raw kernel")
kernel = cupy.RawKernel(
    r"""
extern "C" __global__ void scale(const float *in, float *out, float factor, int count) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) out[index] = in[index] * factor + index;
}""",
    "scale",
)
out = cupy.empty_like(values)
kernel((40,), (256,), (values, out, numpy.float32(1.5), numpy.int32(10000)))
results.add("raw_kernel", cupy.asnumpy(out))
expected = source * numpy.float32(1.5) + numpy.arange(10000, dtype=numpy.float32)
if not numpy.allclose(cupy.asnumpy(out), expected):
    raise SystemExit("FAIL the kernel's values are wrong")

results.begin("elementwise kernel")
squares = cupy.ElementwiseKernel("float32 x, float32 y", "float32 z", "z = (x - y) * (x - y)", "squares")
results.add("elementwise_kernel", cupy.asnumpy(squares(values, out)))
results.begin("product")
results.add("product", cupy.asnumpy(values.reshape(100, 100) @ values.reshape(100, 100)))
results.begin("sort")
results.add("sort", cupy.asnumpy(cupy.sort(values)))
results.begin("fft")
results.add("fft", cupy.asnumpy(cupy.abs(cupy.fft.fft(values[:4096]))))
results.begin("timing")
results.time("step", lambda: float((values * 2 + 1).sum()), 50)
results.save()
