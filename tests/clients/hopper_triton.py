"""Triton on a device of compute capability 9.0: tiles of tensors by descriptors that the host makes; its other kernels as it compiles them for
this device."""

import torch
import triton
import triton.language as tl
from common import close, passed, true
from kernels_triton import add, softmax
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def transposed_sum(left, right, out, BLOCK: tl.constexpr):
    x, y = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    tile = left.load([y, x]) + right.load([y, x])
    out.store([x, y], tile.T)


true("the device", torch.cuda.get_device_capability() >= (9, 0))
generator = torch.Generator().manual_seed(5)
left, right = (torch.randn(10000, generator=generator) for _ in range(2))
out = torch.empty(10000, device="cuda")
add[(triton.cdiv(10000, 1024),)](left.cuda(), right.cuda(), out, 10000, BLOCK=1024)
close("addition", out.cpu(), left + right)

table = left.reshape(100, 100)
shares = torch.empty(100, 100, device="cuda")
softmax[(100,)](table.cuda(), shares, 100, BLOCK=128)
close("softmax", shares.cpu(), torch.softmax(table, 1), atol=1e-6)

# The last tiles reach over the edges.
for kind, block in [(torch.float32, 32), (torch.float16, 64)]:
    a, b = (torch.randn(80, 144, generator=generator).to(kind) for _ in range(2))
    out = torch.zeros(144, 80, dtype=kind, device="cuda")
    describe = lambda tensor: TensorDescriptor.from_tensor(tensor, [block, block])
    transposed_sum[(triton.cdiv(144, block), triton.cdiv(80, block))](
        describe(a.cuda()), describe(b.cuda()), describe(out), BLOCK=block
    )
    close(f"tiles of {kind}", out.cpu(), (a + b).T)
passed("hopper_triton")
