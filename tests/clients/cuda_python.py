"""cuda-python: cuda.core compiles and launches, cuda.bindings calls the driver beneath it."""

import numpy
from common import close, passed, raises, true
from cuda.bindings import driver
from cuda.core import Device, EventOptions, LaunchConfig, LegacyPinnedMemoryResource, Program, ProgramOptions, launch

SOURCE = """
extern "C" __global__ void saxpy(float a, const float *x, const float *y, float *out, size_t count) {
    size_t index = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (index < count) out[index] = a * x[index] + y[index];
}
extern "C" __global__ void doubled(int *values) { values[threadIdx.x] *= 2; }
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
major, minor = device.compute_capability
true("device", (major, minor) >= (7, 0), device.name, device.uuid, (major, minor), device.properties.warp_size)

program = Program(SOURCE, code_type="c++", options=ProgramOptions(std="c++17", arch=f"compute_{major}{minor}"))
module = program.compile("ptx")
saxpy = module.get_kernel("saxpy")
attributes = saxpy.attributes
true("attributes", attributes.max_threads_per_block >= 512, attributes.max_threads_per_block, attributes.shared_size_bytes)

count = 10000
source = numpy.random.default_rng(1)
x, y = (source.standard_normal(count).astype(numpy.float32) for _ in range(2))
out = numpy.empty_like(x)
buffers = [device.allocate(x.nbytes, stream=stream) for _ in range(3)]
for buffer, values in zip(buffers, (x, y)):
    checked(driver.cuMemcpyHtoDAsync(int(buffer.handle), values.ctypes.data, values.nbytes, int(stream.handle)))
started = stream.record(options=EventOptions(timing_enabled=True))
launch(stream, LaunchConfig(grid=40, block=256), saxpy, numpy.float32(2), *buffers, numpy.uint64(count))
ended = stream.record(options=EventOptions(timing_enabled=True))
checked(driver.cuMemcpyDtoHAsync(out.ctypes.data, int(buffers[2].handle), out.nbytes, int(stream.handle)))
stream.sync()
close("saxpy", out, numpy.float32(2) * x + y, atol=1e-6)
true("events", ended.is_done and ended - started > 0)

pinned = LegacyPinnedMemoryResource().allocate(64 * 4)
there = numpy.ctypeslib.as_array((numpy.ctypeslib.ctypes.c_int * 64).from_address(int(pinned.handle)))
there[:] = numpy.arange(64)
buffer = device.allocate(256, stream=stream)
buffer.copy_from(pinned, stream=stream)
launch(stream, LaunchConfig(grid=1, block=64), module.get_kernel("doubled"), buffer)
buffer.copy_to(pinned, stream=stream)
stream.sync()
close("pinned memory", there, numpy.arange(64) * 2)

# The driver itself: a module, an occupancy, memory, an error.
image = checked(driver.cuModuleLoadData(module.code))
function = checked(driver.cuModuleGetFunction(image, b"doubled"))
blocks = checked(driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, 64, 0))
true("occupancy", blocks > 0, blocks)
address = checked(driver.cuMemAlloc(256))
checked(driver.cuMemsetD32(address, 21, 64))
arguments = ((address,), (None,))
checked(driver.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, 0, arguments, 0))
back = numpy.zeros(64, dtype=numpy.int32)
checked(driver.cuMemcpyDtoH(back.ctypes.data, address, 256))
close("driver", back, numpy.full(64, 42))
base, size = checked(driver.cuMemGetAddressRange(int(address) + 8))
true("address range", int(base) == int(address) and size == 256)
kind = checked(driver.cuPointerGetAttribute(driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address))
true("pointer", int(kind) == int(driver.CUmemorytype.CU_MEMORYTYPE_DEVICE))
checked(driver.cuMemFree(address))
raises("an error", RuntimeError, "CUDA_ERROR_NOT_FOUND", lambda: checked(driver.cuModuleGetFunction(image, b"nothing")))
checked(driver.cuModuleUnload(image))
passed("cuda_python")
