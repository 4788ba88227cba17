"""Triton: addition, softmax, a tiled product."""

from common import Results, need

need("triton", "torch")
results = Results()

import torch
import triton
import triton.language as tl


@triton.jit
def add(left, right, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = places < count
    tl.store(out + places, tl.load(left + places, mask=mask) + tl.load(right + places, mask=mask), mask=mask)


@triton.jit
def softmax(values, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    places = tl.arange(0, BLOCK)
    mask = places < columns
    line = tl.load(values + row * columns + places, mask=mask, other=-float("inf"))
    powers = tl.exp(line - tl.max(line, axis=0))
    tl.store(out + row * columns + places, powers / tl.sum(powers, axis=0), mask=mask)


@triton.jit
def product(left, right, out, size, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inner = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, size, BLOCK):
        a = tl.load(left + rows[:, None] * size + (start + inner)[None, :])
        b = tl.load(right + (start + inner)[:, None] * size + columns[None, :])
        total += tl.dot(a, b)
    tl.store(out + rows[:, None] * size + columns[None, :], total)


generator = torch.Generator().manual_seed(2)
left, right = (torch.randn(10000, generator=generator).cuda() for _ in range(2))
results.begin("addition")
out = torch.empty_like(left)
add[(triton.cdiv(10000, 1024),)](left, right, out, 10000, BLOCK=1024)
results.add("addition", out.cpu())
if not torch.equal(out.cpu(), left.cpu() + right.cpu()):
    raise SystemExit("FAIL the sums are wrong")
results.begin("softmax")
table = left.reshape(100, 100).contiguous()
shares = torch.empty_like(table)
softmax[(100,)](table, shares, 100, BLOCK=128)
results.add("softmax", shares.cpu())
results.begin("product")
a, b = (torch.randn(128, 128, generator=generator).half().cuda() for _ in range(2))
c = torch.empty(128, 128, device="cuda")
product[(4, 4)](a, b, c, 128, BLOCK=32)
results.add("product", c.cpu())
if not torch.allclose(c.cpu(), a.cpu().float() @ b.cpu().float(), atol=1e-2, rtol=1e-2):
    raise SystemExit("FAIL the product is wrong")
results.begin("timing")


def step():
    add[(10,)](left, right, out, 10000, BLOCK=1024)
    torch.cuda.synchronize()


results.time("step", step, 100)
results.save()
