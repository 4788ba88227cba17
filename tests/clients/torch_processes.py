"""PyTorch's tensors in several processes: memory of the device through queues, changed on either side, freed by whoever is last; workers of a DataLoader; and what
PyTorch says to a child that was forked too late."""

import gc
import multiprocessing as plain
import os
import sys

import numpy
import torch
import torch.multiprocessing as processes
from common import close, passed, show, true

COUNT = 50000
LIMIT = 100


def line(first):
    return torch.arange(first, first + COUNT, dtype=torch.float32)


def consume(tensors, answers):
    """Says what is in each tensor that it gets, and leaves zeros there; holds the last one until it is told."""
    held = None
    for tensor in iter(lambda: tensors.get(timeout=LIMIT), None):
        # Answers are numpy's: those go by value, and do not end with this process.
        found = tensor.cpu().numpy()
        tensor.zero_()
        torch.cuda.synchronize()
        answers.put((found, tensor.device.type))
        held = tensor
    answers.put(held.cpu().numpy())
    del held, tensor
    gc.collect()
    torch.cuda.ipc_collect()


def produce(first, tensors, done):
    """Gives a tensor away, frees its own, and fills memory that is as large."""
    tensor = line(first).cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        stream.wait_stream(torch.cuda.default_stream())
        tensor.copy_(line(first + 1).pin_memory(), non_blocking=True)
    # The queue's thread records the event for which the other side waits, in the default stream.
    torch.cuda.default_stream().wait_stream(stream)
    tensors.put(tensor)
    del tensor
    gc.collect()
    other = line(7).cuda()
    torch.cuda.ipc_collect()
    done.get(timeout=LIMIT)
    del other


def given_away(method):
    """The other process reads and changes what this one has."""
    context = processes.get_context(method)
    tensors, answers = context.Queue(), context.Queue()
    process = context.Process(target=consume, args=(tensors, answers))
    process.start()
    whole, table = line(1).cuda(), line(2).reshape(100, 500).cuda()
    for tensor in (whole, whole[100:200], table[3:5]):
        shape, expected = list(tensor.shape), tensor.cpu().numpy()
        tensors.put(tensor)
        found, kind = answers.get(timeout=LIMIT)
        true(f"{method}: a tensor of {shape}", kind == "cuda" and numpy.array_equal(found, expected))
        true(f"{method}: zeros of the other process in {shape}", not tensor.cpu().any())
    rest = whole.cpu()
    true(f"{method}: the rest is untouched", not rest.any())
    table[3:5].copy_(line(9)[:1000].reshape(2, 500))
    torch.cuda.synchronize()
    tensors.put(None)
    true(f"{method}: what is written here is seen there", numpy.array_equal(answers.get(timeout=LIMIT), line(9)[:1000].reshape(2, 500)))
    process.join(LIMIT)
    true(f"{method}: ends", process.exitcode == 0)


def taken(method):
    """The other process gives a tensor away and frees its own, and this one still has it."""
    context = processes.get_context(method)
    tensors, done = context.Queue(), context.Queue()
    process = context.Process(target=produce, args=(20, tensors, done))
    process.start()
    tensor = tensors.get(timeout=LIMIT)
    close(f"{method}: another process's tensor", tensor.cpu().numpy(), line(21).numpy())
    done.put(None)
    copy = tensor.clone()
    del tensor
    gc.collect()
    process.join(LIMIT)
    true(f"{method}: its end", process.exitcode == 0)
    close(f"{method}: a copy outlives it", copy.cpu().numpy(), line(21).numpy())


def wait(tensors, handles, answers):
    """Reads behind the other process's event, and records it once more, behind zeros."""
    tensor = tensors.get(timeout=LIMIT)
    event = torch.cuda.Event.from_ipc_handle(torch.device("cuda:0"), handles.get(timeout=LIMIT))
    stream = torch.cuda.Stream()
    event.wait(stream)
    with torch.cuda.stream(stream):
        found = torch.empty(COUNT, pin_memory=True).copy_(tensor, non_blocking=True)
        tensor.zero_()
        event.record(stream)
    stream.synchronize()
    answers.put(found.numpy().copy())
    del tensor
    gc.collect()


def events():
    context = processes.get_context("spawn")
    tensors, handles, answers = context.Queue(), context.Queue(), context.Queue()
    process = context.Process(target=wait, args=(tensors, handles, answers))
    process.start()
    tensor = torch.zeros(COUNT, device="cuda")
    torch.cuda.synchronize()
    event, stream = torch.cuda.Event(interprocess=True), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        tensor.copy_(line(5).pin_memory(), non_blocking=True)
        event.record(stream)
    tensors.put(tensor)
    handles.put(event.ipc_handle())
    close("behind another process's event", answers.get(timeout=LIMIT), line(5).numpy())
    event.synchronize()
    true("and the other way round", not tensor.cpu().any())
    process.join(LIMIT)
    true("its end", process.exitcode == 0)


def too_late(answers):
    try:
        torch.zeros(1, device="cuda")
        answers.put("no error")
    except RuntimeError as error:
        answers.put(str(error).split(".")[0])


def forked():
    context = plain.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=too_late, args=(answers,))
    process.start()
    said = answers.get(timeout=LIMIT)
    process.join(LIMIT)
    true("a child forked too late", "Cannot re-initialize CUDA in forked subprocess" in said and process.exitcode == 0, said)
    close("and its parent", line(3).cuda().cpu().numpy(), line(3).numpy())


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((1000,), float(index)), os.getpid()


def loaded():
    loader = torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=2, pin_memory=True, multiprocessing_context="fork")
    there, workers, pinned = [], set(), True
    for batch, process in loader:
        pinned = pinned and batch.is_pinned()
        there.append(batch.to("cuda", non_blocking=True))
        workers.update(process.tolist())
    true("workers", pinned and len(workers) == 2 and os.getpid() not in workers)
    close("their rows", torch.stack([batch.cpu() for batch in there]).numpy(), numpy.repeat(numpy.arange(40, dtype=numpy.float32), 1000).reshape(10, 4, 1000))


if __name__ == "__main__":
    loaded()
    for method in ("spawn", "forkserver"):
        given_away(method)
        taken(method)
    events()
    forked()
    loaded()
    passed("torch_processes")
