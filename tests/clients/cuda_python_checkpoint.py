"""cuda.core's checkpoints: one process suspends another, has its memory, and lets it go on with what was in it; wrong orders and times that are over get cuda.core's own errors."""

import multiprocessing
import queue

import numpy
from common import close, passed, raises, true
from cuda.core import Device, LegacyPinnedMemoryResource
from cuda.core.checkpoint import Process
from cuda.core._utils.cuda_utils import CUDAError

COUNT = 50000
LIMIT = 100


def line(first):
    return numpy.arange(first, first + COUNT, dtype=numpy.float32)


def staging(buffer):
    return numpy.from_dlpack(buffer).view(numpy.float32)


def other(orders, answers):
    """Keeps one buffer, and says what is in it when it is asked."""
    device = Device()
    device.set_current()
    stream = device.create_stream()
    pinned = LegacyPinnedMemoryResource().allocate(4 * COUNT, stream=stream)
    buffer = device.memory_resource.allocate(4 * COUNT, stream=stream)
    staging(pinned)[:] = line(3)
    buffer.copy_from(pinned, stream=stream)
    stream.sync()
    answers.put("ready")
    while orders.get(timeout=LIMIT):
        staging(pinned)[:] = 0
        buffer.copy_to(pinned, stream=stream)
        stream.sync()
        answers.put(staging(pinned).copy())


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    orders, answers = context.Queue(), context.Queue()
    child = context.Process(target=other, args=(orders, answers))
    child.start()
    true("the other begins", answers.get(timeout=LIMIT) == "ready")
    process = Process(child.pid)
    # Nothing so far has used a device in this process.
    true("runs", process.state == "running")
    true("has a thread for it", process.restore_thread_id > 0)
    raises("not locked", CUDAError, "ILLEGAL_STATE", process.checkpoint)
    process.lock(timeout_ms=10000)
    true("locked", process.state == "locked")
    raises("locked already", CUDAError, "ILLEGAL_STATE", process.lock)
    orders.put(True)
    try:
        true("waits", False, answers.get(timeout=0.5))
    except queue.Empty:
        pass
    process.checkpoint()
    true("checkpointed", process.state == "checkpointed")
    device = Device()
    device.set_current()
    raises("locked no more", CUDAError, "ILLEGAL_STATE", process.unlock)
    process.restore()
    true("locked again", process.state == "locked")
    process.unlock()
    true("runs again", process.state == "running")
    close("what it has", answers.get(timeout=LIMIT), line(3))
    # Every device onto itself.
    process.lock()
    process.checkpoint()
    process.restore(gpu_mapping={device.uuid: device.uuid})
    process.unlock()
    orders.put(True)
    close("and once more", answers.get(timeout=LIMIT), line(3))
    orders.put(False)
    child.join(LIMIT)
    true("the other ends", child.exitcode == 0)
    raises("no process", CUDAError, "INVALID_VALUE", lambda: process.state)
    passed("cuda_python_checkpoint")
