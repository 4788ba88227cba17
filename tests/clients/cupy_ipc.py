"""Memory and an event of one process used by another: the runtime's handles as CuPy gives them."""

import multiprocessing

import cupy
import numpy
from cupy.cuda import runtime

from common import close, passed, raises, true

COUNT = 50000


def array_at(address, owner):
    memory = cupy.cuda.UnownedMemory(address, 4 * COUNT, owner)
    return cupy.ndarray(COUNT, numpy.float32, cupy.cuda.MemoryPointer(memory, 0))


def other(memory, event, sums):
    """Doubles what the first process has exported, after its event, and says how much was there."""
    address = runtime.ipcOpenMemHandle(memory)
    runtime.streamWaitEvent(0, runtime.ipcOpenEventHandle(event))
    values = array_at(address, None)
    sums.put(float(values.get().astype(numpy.float64).sum()))
    values *= 2
    runtime.deviceSynchronize()
    runtime.ipcCloseMemHandle(address)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    table = numpy.arange(COUNT, dtype=numpy.float32)
    memory = cupy.cuda.Memory(4 * COUNT)
    there = array_at(memory.ptr, memory)
    there.set(table)
    event = runtime.eventCreateWithFlags(runtime.eventDisableTiming | runtime.eventInterprocess)
    runtime.eventRecord(event, 0)
    handles = runtime.ipcGetMemHandle(memory.ptr), runtime.ipcGetEventHandle(event)
    sums = context.Queue()
    process = context.Process(target=other, args=(*handles, sums))
    process.start()
    found = sums.get(timeout=100)
    process.join()
    true("the other process", process.exitcode == 0)
    true("what it found", found == float(table.astype(numpy.float64).sum()), found)
    close("what it left", there.get(), table * 2)
    raises("one's own", runtime.CUDARuntimeError, "cudaErrorDeviceUninitialized", lambda: runtime.ipcOpenMemHandle(handles[0]))
    passed("cupy_ipc")
