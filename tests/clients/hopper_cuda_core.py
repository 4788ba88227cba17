"""cuda.core on a device of compute capability 9.0: launches in clusters, whose blocks reach each other's shared memory, and a tile of a matrix by a tensor map."""

import numpy
from common import close, passed, raises, true
from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, Program, ProgramOptions, launch
from cuda.core.utils import StridedMemoryView

SOURCE = r"""
// Each block gives its number to the next one of its cluster.
extern "C" __global__ void ring(int *out) {
    __shared__ int cell;
    unsigned rank, size, here = (unsigned)__cvta_generic_to_shared(&cell), there;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"((rank + 1) % size));
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(there), "r"(blockIdx.x) : "memory");
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    if (threadIdx.x == 0) out[blockIdx.x] = cell + 1000 * size;
}

struct alignas(64) Map { char bytes[128]; };

// A tile of 8 by 8 numbers, at a place that may be outside of the matrix.
extern "C" __global__ void tile(const __grid_constant__ Map map, int x, int y, float *out) {
    __shared__ alignas(128) float there[64];
    __shared__ alignas(8) unsigned long long barrier;
    unsigned to = (unsigned)__cvta_generic_to_shared(there), bar = (unsigned)__cvta_generic_to_shared(&barrier);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 256;" ::"r"(bar) : "memory");
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(&map), "r"(x),
                     "r"(y), "r"(bar) : "memory");
    }
    __syncthreads();
    asm volatile("{ .reg .pred p; WAIT: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0; @!p bra WAIT; }" ::"r"(bar) : "memory");
    out[threadIdx.x] = there[threadIdx.x];
}
"""


def checked(answer):
    """The values of a call that succeeded."""
    code, *values = answer
    if code != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{code.name}")
    return values[0] if len(values) == 1 else values


device = Device()
device.set_current()
stream = device.create_stream()
true("the device", device.compute_capability >= (9, 0) and device.properties.cluster_launch)
program = Program(SOURCE, code_type="c++", options=ProgramOptions(std="c++17", arch="compute_90"))
module = program.compile("ptx")
ring, tile = module.get_kernel("ring"), module.get_kernel("tile")

buffer = device.allocate(64 * 4, stream=stream)
out = numpy.empty(64, numpy.int32)


def fetch(where):
    checked(driver.cuMemcpyDtoHAsync(where.ctypes.data, int(buffer.handle), where.nbytes, int(stream.handle)))
    stream.sync()
    return where


for size in (1, 2, 4, 8):
    launch(stream, LaunchConfig(grid=16 // size, cluster=size, block=32), ring, buffer)
    block = numpy.arange(16)
    close(f"clusters of {size}", fetch(out)[:16], block // size * size + (block + size - 1) % size + 1000 * size)
raises("clusters of 32", Exception, "", lambda: launch(stream, LaunchConfig(grid=1, cluster=32, block=32), ring, buffer))

matrix = numpy.arange(20 * 12, dtype=numpy.float32).reshape(12, 20)
source = device.allocate(matrix.nbytes, stream=stream)
checked(driver.cuMemcpyHtoDAsync(int(source.handle), matrix.ctypes.data, matrix.nbytes, int(stream.handle)))
stream.sync()
view = StridedMemoryView.from_buffer(source, shape=matrix.shape, dtype=matrix.dtype)
described = view.as_tensor_map((8, 8))
padded = numpy.pad(matrix, 8)
for x, y in ((0, 0), (7, 3), (-3, -5), (16, 9), (-8, 0)):
    launch(stream, LaunchConfig(grid=1, block=64), tile, described, numpy.int32(x), numpy.int32(y), buffer)
    found = fetch(numpy.empty(64, numpy.float32)).reshape(8, 8)
    close(f"a tile at {x}, {y}", found, padded[y + 8 : y + 16, x + 8 : x + 16])
passed("hopper_cuda_core")
