"""Triton: kernels compiled from Python, launched on PyTorch's memory. A cubin of Triton's carries its PTX, which the software GPU executes."""

import torch
import triton
import triton.language as tl
from common import close, passed
from kernels_triton import add, product, softmax


@triton.jit
def scan(values, out, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + places, tl.cumsum(tl.load(values + places), axis=0))


generator = torch.Generator().manual_seed(2)
left, right = (torch.randn(10000, generator=generator) for _ in range(2))
a, b = left.cuda(), right.cuda()
out = torch.empty_like(a)
add[(triton.cdiv(10000, 1024),)](a, b, out, 10000, BLOCK=1024)
close("addition", out.cpu(), left + right)

table = left.reshape(100, 100)
shares = torch.empty(100, 100, device="cuda")
softmax[(100,)](table.cuda(), shares, 100, BLOCK=128)
close("softmax", shares.cpu(), torch.softmax(table, 1), atol=1e-6)

a, b = (torch.randn(128, 128, generator=generator).half() for _ in range(2))
out = torch.empty(128, 128, device="cuda")
product[(4, 4)](a.cuda(), b.cuda(), out, 128, BLOCK=32)
close("product", out.cpu(), a.float() @ b.float(), atol=1e-2)

numbers = torch.randint(0, 100, (1024,), generator=generator, dtype=torch.int32)
out = torch.empty(1024, dtype=torch.int32, device="cuda")
scan[(4,)](numbers.cuda(), out, BLOCK=256)
close("scan", out.cpu(), numbers.reshape(4, 256).cumsum(1).reshape(-1))
passed("triton_kernels")
