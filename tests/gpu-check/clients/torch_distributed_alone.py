"""PyTorch's distributed package on NCCL with one rank: a communicator, its collectives, and a network trained in DistributedDataParallel."""

from common import Results, need

need("torch")
results = Results()

import os
import socket

import torch
import torch.distributed as distributed

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
torch.manual_seed(11)
torch.backends.cuda.matmul.allow_tf32 = False

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
device = torch.device("cuda", 0)
distributed.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1, device_id=device)
generator = torch.Generator().manual_seed(5)


def random(*shape):
    return torch.randn(*shape, generator=generator).to(device)


results.begin("collectives")
given = random(10000)
summed = given.clone()
distributed.all_reduce(summed)
results.add("summed", summed)
distributed.broadcast(given, src=0)
results.add("broadcast", given)
gathered = torch.empty(10000, device=device)
distributed.all_gather_into_tensor(gathered, given)
results.add("gathered", gathered)
scattered = torch.empty(10000, device=device)
distributed.reduce_scatter_tensor(scattered, given, op=distributed.ReduceOp.AVG)
results.add("scattered", scattered)
distributed.barrier()

results.begin("training")
network = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 8)).to(device)
network = torch.nn.parallel.DistributedDataParallel(network, device_ids=[0])
optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
inputs, targets = random(32, 64), random(32, 8)
for _ in range(5):
    optimiser.zero_grad()
    loss = torch.nn.functional.mse_loss(network(inputs), targets)
    loss.backward()
    optimiser.step()
results.add("loss", loss.detach())
distributed.destroy_process_group()
results.save()
