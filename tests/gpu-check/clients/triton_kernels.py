"""Triton: addition, softmax, a tiled product."""

from common import Results, need

need("triton", "torch")
results = Results()

import torch
import triton
from kernels_triton import add, product, softmax

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
