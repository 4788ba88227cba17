"""PyTorch without kernels of its own: the wheels have machine code alone, so the software GPU runs none of them. Devices, memory, copies, streams, events,
and what it says where a kernel is needed."""

import numpy
import torch
from common import close, passed, raises, show, true

true("available", torch.cuda.is_available() and torch.cuda.device_count() == 1, torch.version.cuda)
properties = torch.cuda.get_device_properties(0)
show("device", properties.name, properties.major, properties.minor, properties.total_memory, properties.multi_processor_count, properties.uuid)
free, total = torch.cuda.mem_get_info()
true("memory", 0 < free <= total == properties.total_memory)

values = torch.from_numpy(numpy.random.default_rng(1).standard_normal(100000).astype(numpy.float32))
there = values.cuda()
close("pageable memory", there.cpu().numpy(), values.numpy())
close("pinned memory", values.pin_memory().to("cuda", non_blocking=True).cpu().numpy(), values.numpy())
true("pinned", values.pin_memory().is_pinned() and not values.is_pinned())
close("a copy on the device", there.clone().cpu().numpy(), values.numpy())
table = values.reshape(100, 1000)
close("part of a table", table[:, :500].cuda().cpu().numpy(), table[:, :500].numpy())
close("zeros", torch.zeros(1000, device="cuda").cpu().numpy(), numpy.zeros(1000, dtype=numpy.float32))
mebibytes = torch.arange(4 << 20, dtype=torch.int64)
close("32 MiB", mebibytes.cuda().cpu().numpy(), mebibytes.numpy())

stream, landed = torch.cuda.Stream(), torch.empty(100000, pin_memory=True)
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
with torch.cuda.stream(stream):
    stream.wait_stream(torch.cuda.default_stream())
    begin.record()
    landed.copy_(there, non_blocking=True)
    end.record()
end.synchronize()
true("events", end.query() and begin.elapsed_time(end) > 0)
close("pinned memory in a stream", landed.numpy(), values.numpy())
true("stream", stream.query())

before = torch.cuda.memory_allocated()
held = torch.empty(10 << 20, dtype=torch.uint8, device="cuda")
after = torch.cuda.memory_allocated()
true("statistics", after - before == 10 << 20 and torch.cuda.memory_reserved() >= after, torch.cuda.max_memory_allocated())
del held
torch.cuda.empty_cache()
true("given back", torch.cuda.memory_reserved() < after, torch.cuda.memory_stats()["num_alloc_retries"])
raises("out of memory", torch.cuda.OutOfMemoryError, "CUDA out of memory", lambda: torch.empty(1 << 40, dtype=torch.uint8, device="cuda"))
close("memory after that", there.cpu().numpy(), values.numpy())
registered = torch.arange(1000, dtype=torch.float32)
torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(registered.data_ptr(), 4000, 0))
true("registered", registered.is_pinned())
close("registered memory", registered.to("cuda", non_blocking=True).cpu().numpy(), registered.numpy())
torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(registered.data_ptr()))
pool = torch.cuda.MemPool()
with torch.cuda.use_mem_pool(pool):
    apart = values[:1000].cuda()
true("memory apart", len(pool.snapshot()) == 1)
close("what is there", apart.cpu().numpy(), values[:1000].numpy())
torch.cuda.set_per_process_memory_fraction(0.25)
raises("a limit of its own", torch.cuda.OutOfMemoryError, "CUDA out of memory", lambda: torch.empty(total // 2, dtype=torch.uint8, device="cuda"))
torch.cuda.set_per_process_memory_fraction(1.0)
raises("no kernel", RuntimeError, "no kernel image is available", lambda: there + 1)
torch.cuda.synchronize()
close("memory after that, too", there.cpu().numpy(), values.numpy())
passed("torch_runtime")
