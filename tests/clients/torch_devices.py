"""PyTorch on two devices: memory of each, copies between them by streams of either, and graphs of copies and fills, which need no kernel of PyTorch's."""

import numpy
import torch
from common import close, passed, raises, true

FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")
COUNT = 300000


def line(first):
    return torch.arange(first, first + COUNT, dtype=torch.float32)


def devices():
    true("devices", torch.cuda.device_count() == 2)
    uuids = {str(torch.cuda.get_device_properties(number).uuid) for number in range(2)}
    true("two of them", len(uuids) == 2)
    true("peers", torch.cuda.can_device_access_peer(0, 1) and torch.cuda.can_device_access_peer(1, 0))
    first = torch.empty(1, device=FIRST)
    before = torch.cuda.mem_get_info(1)[0]
    held = torch.empty(100 << 20, dtype=torch.uint8, device=SECOND)
    after = torch.cuda.mem_get_info(1)[0]
    true("whose memory", before - after >= 100 << 20 and torch.cuda.memory_allocated(0) == 512, first.device, held.device)
    raises("no third", RuntimeError, "invalid device ordinal", lambda: torch.empty(1, device="cuda:2"))


def copies():
    there = line(1).to(FIRST)
    close("to the other", there.to(SECOND).cpu().numpy(), line(1).numpy())
    # In streams of the source, of the destination, and across.
    back = torch.empty(COUNT, device=FIRST)
    streams = [torch.cuda.Stream(device) for device in (FIRST, SECOND)]
    over = torch.empty(COUNT, device=SECOND)
    torch.cuda.synchronize(FIRST), torch.cuda.synchronize(SECOND)
    with torch.cuda.stream(streams[0]):
        over.copy_(there, non_blocking=True)
        event = streams[0].record_event()
    with torch.cuda.stream(streams[1]):
        event.wait(streams[1])
        back.copy_(over, non_blocking=True)
        landed = torch.empty(COUNT, pin_memory=True).copy_(over, non_blocking=True)
    for stream in streams:
        stream.synchronize()
    torch.cuda.synchronize(FIRST)
    close("there", landed.numpy(), line(1).numpy())
    close("and back", back.cpu().numpy(), line(1).numpy())
    with torch.cuda.device(1):
        close("on the current device", line(5).cuda().to(FIRST).cpu().numpy(), line(5).numpy())
    part = line(9).reshape(1000, 300).to(FIRST)
    close("rows", part[100:200].to(SECOND).cpu().numpy(), line(9).reshape(1000, 300)[100:200].numpy())


def graphs():
    """What is captured is done at each launch, with what memory holds then."""
    source, copied, cleared = (torch.empty(COUNT, device=FIRST) for _ in range(3))
    pinned, landed = torch.empty(COUNT, pin_memory=True), torch.empty(COUNT, pin_memory=True)
    cleared.copy_(line(1))
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        source.copy_(pinned, non_blocking=True)
        copied.copy_(source, non_blocking=True)
        cleared.zero_()
        inside = torch.empty(COUNT, device=FIRST)
        inside.copy_(copied, non_blocking=True)
        landed.copy_(inside, non_blocking=True)
    close("nothing is done yet", cleared.cpu().numpy(), line(1).numpy())
    for first in (3, 4, 5):
        pinned.copy_(line(first))
        cleared.copy_(line(1))
        graph.replay()
        torch.cuda.synchronize()
        close(f"launch {first}", landed.numpy(), line(first).numpy())
        true(f"cleared {first}", not cleared.cpu().any() and torch.equal(copied.cpu(), line(first)))
    graph.reset()


devices()
copies()
graphs()
passed("torch_devices")
