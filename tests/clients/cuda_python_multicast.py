"""cuda-python with a multicast object: two processes, each with a device and memory of it, sum what both have and write to both under one address."""

import ctypes
import multiprocessing
from multiprocessing import reduction

import numpy
from common import close, passed, true
from cuda.bindings import driver
from cuda.core import Device, Program, ProgramOptions

COUNT = 4096
LIMIT = 100
DESCRIPTOR = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR

CODE = r"""
extern "C" __global__ void sum(float *out, const float *in) {
    unsigned i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    float a, b, c, d;
    asm volatile("multimem.ld_reduce.relaxed.sys.global.add.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "l"(in + i) : "memory");
    out[i] = a, out[i + 1] = b, out[i + 2] = c, out[i + 3] = d;
}

extern "C" __global__ void spread(float *to, float first) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    asm volatile("multimem.st.relaxed.sys.global.f32 [%0], %1;" :: "l"(to + i), "f"(first + i) : "memory");
}
"""


def check(result):
    """The values of a call, which must have succeeded."""
    code, *values = result
    if code != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{code}")
    return values[0] if len(values) == 1 else values


def properties(devices, size):
    wanted = driver.CUmulticastObjectProp()
    wanted.numDevices, wanted.size, wanted.handleTypes, wanted.flags = devices, size, DESCRIPTOR.value, 0
    return wanted


def line(device):
    return numpy.arange(COUNT, dtype=numpy.float32) * (device + 1) + device


class Part:
    """One device's memory in an object, mapped for itself and as a part of it."""

    def __init__(self, device, both, size):
        self.device, self.size = device, size
        check(driver.cuMulticastAddDevice(both, device))
        wanted = driver.CUmemAllocationProp()
        wanted.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = device
        wanted.requestedHandleTypes = DESCRIPTOR
        memory = check(driver.cuMemCreate(size, wanted, 0))
        check(driver.cuMulticastBindMem(both, 0, memory, 0, size, 0))
        self.own, self.all = self.mapped(memory), self.mapped(both)
        check(driver.cuMemRelease(memory))
        self.out = check(driver.cuMemAlloc(4 * COUNT))
        options = ProgramOptions(arch="sm_90", std="c++17")
        text = bytes(Program(CODE, code_type="c++", options=options).compile("ptx").code)
        self.module = check(driver.cuModuleLoadData(text + b"\0"))

    def mapped(self, handle):
        start = check(driver.cuMemAddressReserve(self.size, self.size, 0, 0))
        check(driver.cuMemMap(start, self.size, 0, handle, 0))
        access = driver.CUmemAccessDesc()
        access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        access.location.id = self.device
        access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        check(driver.cuMemSetAccess(start, self.size, [access], 1))
        return start

    def launch(self, name, threads, values, types):
        function = check(driver.cuModuleGetFunction(self.module, name))
        check(driver.cuLaunchKernel(function, threads // 128, 1, 1, 128, 1, 1, 0, 0, (values, types), 0))
        check(driver.cuCtxSynchronize())

    def write(self, numbers):
        check(driver.cuMemcpyHtoD(self.own, numbers.ctypes.data, numbers.nbytes))
        check(driver.cuCtxSynchronize())

    def read(self, start):
        found = numpy.empty(COUNT, dtype=numpy.float32)
        check(driver.cuMemcpyDtoH(found.ctypes.data, start, found.nbytes))
        return found

    def sums(self):
        self.launch(b"sum", COUNT // 4, (int(self.out), int(self.all)), (ctypes.c_void_p, ctypes.c_void_p))
        return self.read(self.out)

    def own_numbers(self):
        return self.read(self.own)

    def spread(self, first):
        self.launch(b"spread", COUNT, (int(self.all), first), (ctypes.c_void_p, ctypes.c_float))

    def end(self):
        check(driver.cuModuleUnload(self.module))
        check(driver.cuMemFree(self.out))
        for start in (self.own, self.all):
            check(driver.cuMemUnmap(start, self.size))
            check(driver.cuMemAddressFree(start, self.size))


def begin(device):
    Device(device).set_current()
    return check(driver.cuMulticastGetGranularity(properties(2, 1), driver.CUmulticastGranularity_flags.CU_MULTICAST_GRANULARITY_MINIMUM))


def other(connection):
    """The second device's process: it is told what to do, and says what it has."""
    size = begin(1)
    both = check(driver.cuMemImportFromShareableHandle(reduction.recv_handle(connection), DESCRIPTOR))
    part = Part(1, both, size)
    part.write(line(1))
    connection.send("written")
    for what, *values in iter(connection.recv, None):
        connection.send(getattr(part, what)(*values))
    part.end()
    check(driver.cuMemRelease(both))
    connection.send("over")


if __name__ == "__main__":
    check(driver.cuInit(0))
    supported = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED
    true("both devices can", all(check(driver.cuDeviceGetAttribute(supported, device)) == 1 for device in range(2)))
    size = begin(0)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=other, args=(there,))
    process.start()
    both = check(driver.cuMulticastCreate(properties(2, size)))
    descriptor = check(driver.cuMemExportToShareableHandle(both, DESCRIPTOR, 0))
    reduction.send_handle(here, descriptor, process.pid)
    part = Part(0, both, size)
    part.write(line(0))
    true("the other has written", here.recv() == "written")
    close("sums, here", part.sums(), line(0) + line(1))
    here.send(("sums",))
    close("sums, there", here.recv(), line(0) + line(1))
    part.spread(5.0)
    here.send(("own_numbers",))
    close("what one has written, there", here.recv(), numpy.arange(COUNT, dtype=numpy.float32) + 5)
    here.send(("spread", 7.0))
    true("the other has spread", here.recv() is None)
    close("what the other has written", part.own_numbers(), numpy.arange(COUNT, dtype=numpy.float32) + 7)
    here.send(None)
    true("the other is over", here.recv() == "over")
    process.join(LIMIT)
    true("the other ends", process.exitcode == 0)
    check(driver.cuMulticastUnbind(both, 0, 0, size))
    part.end()
    check(driver.cuMemRelease(both))
    passed("cuda_python_multicast")
