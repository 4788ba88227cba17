"""NCCL, by NVIDIA's own binding (nccl4py): sums, gatherings and scatterings over all devices, of one process and of a process for each.

NCCL's ordinary kernels are machine code alone. Its symmetric ones, which read and write the memory of all devices through windows that each of them has registered,
are PTX too; it takes them among devices that NVLink connects, as NVML says.
"""

import contextlib
import itertools
import multiprocessing

import cuda.core as core
import nccl.core as nccl
import numpy
from common import close, fail, passed, true
from cuda.bindings import driver

LIMIT = 100
# Few numbers go by kernels that wait for each word, many by those that wait once for all.
COUNTS = (5000, 300000)
# Sums of small whole numbers, which every kind of number has exactly.
KINDS = (numpy.float32, numpy.float16)


def line(rank, count, kind):
    return ((numpy.arange(count) * 7 + rank * 3) % 61).astype(kind)


class Array:
    """Numbers at the beginning of a buffer."""

    def __init__(self, buffer, count, kind):
        self.address, self.count, self.kind = int(buffer.handle), count, numpy.dtype(kind)
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": self.kind.str,
            "data": (self.address, False),
            "version": 3,
            "stream": None,
        }


class Rank:
    """A rank, its device, and the two pieces of memory that it has registered."""

    def __init__(self, communicator):
        self.communicator, self.device = communicator, communicator.device
        self.rank, self.ranks = communicator.rank, communicator.nranks
        self.device.set_current()
        self.stream = self.device.create_stream()
        self.buffers = [nccl.mem_alloc(4 * max(COUNTS) * self.ranks) for _ in range(2)]

    def register(self, which):
        self.device.set_current()
        self.communicator.register_window(self.buffers[which], nccl.WindowFlag.COLL_SYMMETRIC)

    def fill(self, count, kind):
        self.device.set_current()
        values = line(self.rank, count * self.ranks, kind)
        done(driver.cuMemcpyHtoDAsync(int(self.buffers[0].handle), values.ctypes.data, values.nbytes, self.stream.handle))
        self.stream.sync()

    def start(self, what, count, kind):
        """The collective: `what` says how much is given and taken."""
        given, taken = (Array(buffer, size, kind) for buffer, size in zip(self.buffers, SIZES[what](count, self.ranks)))
        self.device.set_current()
        if what == "gathered":
            self.communicator.allgather(given, taken, stream=self.stream)
        elif what == "scattered":
            self.communicator.reduce_scatter(given, taken, nccl.SUM, stream=self.stream)
        else:
            self.communicator.allreduce(given, taken, nccl.SUM, stream=self.stream)

    def taken(self, what, count, kind):
        self.device.set_current()
        self.stream.sync()
        values = numpy.empty(SIZES[what](count, self.ranks)[1], kind)
        done(driver.cuMemcpyDtoH(values.ctypes.data, int(self.buffers[1].handle), values.nbytes))
        return values


def done(result):
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        fail(f"a copy: {result[0].name}")


# How many numbers each rank gives and takes.
SIZES = {
    "summed": lambda count, ranks: (count * ranks, count * ranks),
    "gathered": lambda count, ranks: (count, count * ranks),
    "scattered": lambda count, ranks: (count * ranks, count),
}


def expected(what, count, kind, rank, ranks):
    if what == "gathered":
        return numpy.concatenate([line(other, count, kind) for other in range(ranks)])
    total = sum(line(other, count * ranks, kind) for other in range(ranks))
    return total[count * rank : count * (rank + 1)] if what == "scattered" else total


def run(communicators, group):
    """All collectives, by the ranks that are this process's: what each has taken."""
    ranks = [Rank(communicator) for communicator in communicators]
    for which in range(2):
        with group():
            for each in ranks:
                each.register(which)
    found = []
    for count, kind in itertools.product(COUNTS, KINDS):
        for each in ranks:
            each.fill(count, kind)
        for what in SIZES:
            with group():
                for each in ranks:
                    each.start(what, count, kind)
            found += [(what, count, kind, each.rank, each.taken(what, count, kind)) for each in ranks]
    return found


def check(where, found, ranks):
    for what, count, kind, rank, values in found:
        close(f"{count} {what} {kind.__name__}, {where}, rank {rank}", values, expected(what, count, kind, rank, ranks))


def process(rank, ranks, identity, answers):
    """One rank, in a process of its own."""
    core.Device(rank).set_current()
    communicator = nccl.Communicator.init(ranks, rank, identity)
    answers.put((rank, run([communicator], contextlib.nullcontext)))
    communicator.destroy()


def in_processes(ranks):
    context = multiprocessing.get_context("spawn")
    answers, identity = context.Queue(), nccl.get_unique_id()
    processes = [context.Process(target=process, args=(rank, ranks, identity, answers)) for rank in range(ranks)]
    for each in processes:
        each.start()
    found = dict(answers.get(timeout=LIMIT) for _ in processes)
    for each in processes:
        each.join(LIMIT)
        true("a process ended well", each.exitcode == 0)
    return [found[rank] for rank in range(ranks)]


def main():
    ranks = core.system.get_num_devices()
    communicators = nccl.Communicator.init_all(ranks)
    true("ranks", len(communicators) == ranks > 1, ranks)
    check("one process", run(communicators, nccl.group), ranks)
    for communicator in communicators:
        communicator.destroy()
    for found in in_processes(ranks):
        check("a process each", found, ranks)
    passed("nccl")


if __name__ == "__main__":
    main()
