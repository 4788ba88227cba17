"""cuda-python in two processes: buffers of a memory pool go through a queue, by the pool's descriptor and what it says of each, and are computed with on either side."""

import multiprocessing

import numpy
from common import close, passed, raises, true
from cuda.core import Device, DeviceMemoryResource, DeviceMemoryResourceOptions, LegacyPinnedMemoryResource

COUNT = 50000
LIMIT = 100


def line(first):
    return numpy.arange(first, first + COUNT, dtype=numpy.float32)


def staging(buffer):
    return numpy.from_dlpack(buffer).view(numpy.float32)


def other(device_id, buffers, answers):
    """Says what is in each buffer, and leaves something else there."""
    device = Device(device_id)
    device.set_current()
    stream = device.create_stream()
    pinned = LegacyPinnedMemoryResource().allocate(4 * COUNT, stream=stream)
    for buffer in iter(lambda: buffers.get(timeout=LIMIT), None):
        buffer.copy_to(pinned, stream=stream)
        stream.sync()
        answers.put(staging(pinned).copy())
        staging(pinned)[:] *= 2
        buffer.copy_from(pinned, stream=stream)
        stream.sync()
        answers.put(buffer.is_mapped)
        buffer.close(stream)
    stream.sync()


if __name__ == "__main__":
    device = Device()
    device.set_current()
    stream = device.create_stream()
    pinned = LegacyPinnedMemoryResource().allocate(4 * COUNT, stream=stream)
    memory = DeviceMemoryResource(device, options=DeviceMemoryResourceOptions(max_size=64 << 20, ipc_enabled=True))
    true("a pool for others", memory.is_ipc_enabled)
    context = multiprocessing.get_context("spawn")
    buffers, answers = context.Queue(), context.Queue()
    process = context.Process(target=other, args=(device.device_id, buffers, answers))
    process.start()
    kept = [memory.allocate(4 * COUNT, stream=stream) for _ in range(3)]
    for number, buffer in enumerate(kept):
        staging(pinned)[:] = line(number)
        buffer.copy_from(pinned, stream=stream)
        stream.sync()
        buffers.put(buffer)
        close(f"buffer {number}, there", answers.get(timeout=LIMIT), line(number))
        true(f"buffer {number}, imported", answers.get(timeout=LIMIT))
        buffer.copy_to(pinned, stream=stream)
        stream.sync()
        close(f"buffer {number}, and back", staging(pinned), line(number) * 2)
    buffers.put(None)
    process.join(LIMIT)
    true("the other ends", process.exitcode == 0)
    for buffer in kept:
        buffer.close(stream)
    own = DeviceMemoryResource(device, options=DeviceMemoryResourceOptions(max_size=1 << 20))
    alone = own.allocate(4096, stream=stream)
    raises("a pool of its own", RuntimeError, "not IPC-enabled", lambda: alone.ipc_descriptor)
    passed("cuda_python_ipc")
