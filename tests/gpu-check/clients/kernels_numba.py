"""Kernels for numba-cuda that several checks share. No check by itself.

Compiled with line information: a cubin then carries its PTX, which the software GPU executes.
"""

from numba import cuda, float32

jit = cuda.jit(lineinfo=True)


@jit
def add(left, right, out):
    index = cuda.grid(1)
    if index < out.size:
        out[index] = left[index] + right[index]


@jit
def block_sums(values, out):
    shared = cuda.shared.array(256, float32)
    thread = cuda.threadIdx.x
    index = cuda.grid(1)
    shared[thread] = values[index] if index < values.size else 0.0
    cuda.syncthreads()
    width = 128
    while width > 0:
        if thread < width:
            shared[thread] += shared[thread + width]
        cuda.syncthreads()
        width //= 2
    if thread == 0:
        out[cuda.blockIdx.x] = shared[0]
