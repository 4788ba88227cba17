"""One of PyTorch's ways to memory, by the environment's PYTORCH_CUDA_ALLOC_CONF: segments of its own, segments that grow (virtual memory management), or
cudaMallocAsync (pools). What it says about memory, and tensors in another process."""

import gc
import os

import numpy
import torch
import torch.multiprocessing as processes
from common import passed, raises, true

MIB = 1 << 20
LIMIT = 100


def filled(number, size):
    return torch.full((size,), number, dtype=torch.uint8)


def consume(tensors, answers):
    for tensor in iter(lambda: tensors.get(timeout=LIMIT), None):
        answers.put(tensor.cpu().clone())
        tensor.copy_(filled(99, tensor.numel()))
        torch.cuda.synchronize()
        answers.put(None)
        del tensor
    gc.collect()
    torch.cuda.ipc_collect()


def shared(way):
    """Tensors of segments that grow go by descriptors of their memory."""
    context = processes.get_context("spawn")
    tensors, answers = context.Queue(), context.Queue()
    process = context.Process(target=consume, args=(tensors, answers))
    process.start()
    for number, size in ((1, 1000), (2, 30 * MIB), (3, 5000)):
        tensor = filled(number, size).cuda()
        tensors.put(tensor)
        found = answers.get(timeout=LIMIT)
        true(f"{way}: {size} bytes in another process", torch.equal(found, filled(number, size)))
        answers.get(timeout=LIMIT)
        true(f"{way}: {size} bytes changed there", torch.equal(tensor.cpu(), filled(99, size)))
    tensors.put(None)
    process.join(LIMIT)
    true(f"{way}: the other ends", process.exitcode == 0)


def one(way):
    true(f"{way}: backend", torch.cuda.get_allocator_backend() == ("cudaMallocAsync" if "Async" in way else "native"))
    sizes = numpy.random.default_rng(5).integers(1, 3 * MIB, 60)
    kept = {}
    for number, size in enumerate(sizes.tolist()):
        kept[number] = filled(number, size).cuda()
        if number % 3 == 2:
            del kept[number - 1]
    for number, tensor in kept.items():
        if not torch.equal(tensor.cpu(), filled(number, tensor.numel())):
            raise SystemExit(f"FAIL {way}: tensor {number}")
    true(f"{way}: tensors", len(kept) == 40)
    # A segment that grows: more than was there, beside what stays.
    large = filled(200, 100 * MIB).cuda()
    true(f"{way}: 100 MiB", torch.equal(large.cpu(), filled(200, 100 * MIB)))
    larger = filled(201, 180 * MIB).cuda()
    del large
    true(f"{way}: 180 MiB", torch.equal(larger.cpu(), filled(201, 180 * MIB)))
    streams = [torch.cuda.Stream() for _ in range(3)]
    landed = []
    for number, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            tensor = filled(number, MIB).pin_memory().to("cuda", non_blocking=True)
            there = torch.empty(MIB, dtype=torch.uint8, pin_memory=True)
            landed.append(there.copy_(tensor, non_blocking=True))
            tensor.record_stream(streams[0])
            del tensor
    torch.cuda.synchronize()
    true(f"{way}: streams", all(bool((there == number).all()) for number, there in enumerate(landed)))
    before = torch.cuda.memory_reserved()
    del larger
    kept.clear()
    torch.cuda.empty_cache()
    after, (free, total) = torch.cuda.memory_reserved(), torch.cuda.mem_get_info()
    true(f"{way}: given back", after < before and torch.cuda.memory_allocated() == 0 and 0 < free <= total)
    raises(f"{way}: out of memory", torch.cuda.OutOfMemoryError, "out of memory", lambda: torch.empty(1 << 40, dtype=torch.uint8, device="cuda"))
    nearly = torch.empty(total * 3 // 4, dtype=torch.uint8, device="cuda")
    raises(f"{way}: a second one", torch.cuda.OutOfMemoryError, "out of memory", lambda: torch.empty(total // 2, dtype=torch.uint8, device="cuda"))
    del nearly
    again = torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    true(f"{way}: memory again", again.numel() == total // 2)
    del again
    torch.cuda.empty_cache()
    statistics = torch.cuda.memory_stats()
    # 60 tensors, and those after them.
    if "Async" not in way:
        true(f"{way}: statistics", statistics["allocation.all.allocated"] >= 67 and statistics["num_ooms"] == 2, statistics["num_ooms"])
        snapshots(way)
        shared(way)


def snapshots(way):
    """What PyTorch remembers of its memory."""
    torch.cuda.memory._record_memory_history(max_entries=1000)
    tensor = filled(1, 3 * MIB).cuda()
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(enabled=None)
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"] if block["state"] == "active_allocated"]
    true(f"{way}: snapshot", [block["address"] for block in blocks if block["size"] >= 3 * MIB] == [tensor.data_ptr()])
    told = {entry["action"] for trace in snapshot["device_traces"] for entry in trace}
    true(f"{way}: history", "alloc" in told and bool(told & {"segment_alloc", "segment_map"}))
    grows = {segment["is_expandable"] for segment in snapshot["segments"]}
    true(f"{way}: segments", grows == {way.endswith("True")})


if __name__ == "__main__":
    one(os.environ["PYTORCH_CUDA_ALLOC_CONF"])
    passed("torch_allocators")
