"""PyTorch's distributed package on NCCL, a process and a device for each rank: sums, gatherings and scatterings of tensors.

NCCL's ordinary kernels are machine code alone; its symmetric ones, which it takes for memory that no one has registered if it is told to, are PTX too (see
`nccl_collectives`).
"""

import datetime
import os
import socket

import torch
import torch.distributed as distributed
import torch.multiprocessing as processes
from common import close, passed, true

LIMIT = datetime.timedelta(seconds=100)
COUNT = 1000


def line(rank, count=COUNT):
    return torch.arange(count, dtype=torch.float32) + 10 * rank


def rank_of(rank, ranks, port, answers):
    torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=ranks,
        timeout=LIMIT,
        device_id=torch.device("cuda", rank),
    )
    summed = line(rank).cuda()
    distributed.all_reduce(summed)
    work = distributed.all_reduce(summed, async_op=True)
    work.wait()
    gathered = torch.empty(ranks * COUNT, device="cuda")
    distributed.all_gather_into_tensor(gathered, line(rank).cuda())
    scattered = torch.empty(COUNT, device="cuda")
    distributed.reduce_scatter_tensor(scattered, line(rank, ranks * COUNT).cuda())
    found = {"summed": summed, "gathered": gathered, "scattered": scattered}
    answers.put((rank, {name: tensor.cpu().numpy() for name, tensor in found.items()}))
    distributed.destroy_process_group()


def main():
    ranks = torch.cuda.device_count()
    true("ranks", ranks > 1, ranks)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ["NCCL_SYM_NOWIN_ENABLE"] = "1"
    answers = processes.get_context("spawn").SimpleQueue()
    started = processes.spawn(rank_of, (ranks, port, answers), ranks, join=False)
    found = dict(answers.get() for _ in range(ranks))
    while not started.join():
        pass
    total = sum(line(other) for other in range(ranks))
    every = sum(line(other, ranks * COUNT) for other in range(ranks))
    for rank in range(ranks):
        close(f"summed twice, rank {rank}", found[rank]["summed"], (ranks * total).numpy())
        close(f"gathered, rank {rank}", found[rank]["gathered"], torch.cat([line(other) for other in range(ranks)]).numpy())
        close(f"scattered, rank {rank}", found[rank]["scattered"], every[COUNT * rank : COUNT * (rank + 1)].numpy())
    passed("torch distributed")


if __name__ == "__main__":
    main()
