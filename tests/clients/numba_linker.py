"""numba-cuda as it is where nvJitLink is not installed: it links with the driver, so its kernels need no line information on the software GPU."""

from cuda import pathfinder

find = pathfinder.load_nvidia_dynamic_lib


def find_all_but_one(name):
    """Finds NVIDIA's libraries as if the package nvidia-nvjitlink were not there."""
    if name == "nvJitLink":
        raise pathfinder.DynamicLibNotFoundError(name)
    return find(name)


pathfinder.load_nvidia_dynamic_lib = find_all_but_one

import numpy
from common import close, passed
from numba import cuda, float32


@cuda.jit(device=True)
def polynomial(x):
    return (2 * x + 3) * x - 1


@cuda.jit
def apply(values, out):
    index = cuda.grid(1)
    if index < out.size:
        out[index] = polynomial(values[index])


@cuda.jit
def reverse(values):
    shared = cuda.shared.array(64, float32)
    thread = cuda.threadIdx.x
    shared[thread] = values[thread]
    cuda.syncthreads()
    values[thread] = shared[63 - thread]


@cuda.reduce
def total(a, b):
    return a + b


values = numpy.random.default_rng(1).standard_normal(10000).astype(numpy.float32)
there = cuda.to_device(values)
out = cuda.device_array_like(values)
apply[40, 256](there, out)
close("a device function", out.copy_to_host(), (2 * values + 3) * values - 1, atol=1e-5)
reverse[1, 64](there)
close("shared memory", there.copy_to_host()[:64], values[:64][::-1])
numbers = numpy.arange(5000, dtype=numpy.int64)
close("reduction", total(cuda.to_device(numbers)), numbers.sum())
# Code in C++, compiled here and linked to a kernel in Python.
tripled = cuda.declare_device("tripled", "int32(int32)", link=cuda.CUSource('extern "C" __device__ int tripled(int *out, int x) { *out = 3 * x; return 0; }'))


@cuda.jit
def linked(values):
    index = cuda.grid(1)
    values[index] = tripled(values[index])


numbers = numpy.arange(64, dtype=numpy.int32)
there = cuda.to_device(numbers)
linked[1, 64](there)
close("code in C++", there.copy_to_host(), 3 * numbers)
passed("numba_linker")
