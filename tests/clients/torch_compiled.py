"""PyTorch compiled by Inductor: elementwise functions, a softmax and reductions, as kernels of Triton's."""

import torch
from common import close, passed


@torch.compile
def pointwise(x, y):
    return torch.sin(x) * y + torch.exp(y).relu()


@torch.compile
def attention_weights(x):
    return torch.softmax(x * 0.5, dim=1).sum(dim=0)


@torch.compile
def normalised(x):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],))


generator = torch.Generator().manual_seed(2)
x, y = (torch.randn(1000, generator=generator) for _ in range(2))
close("elementwise", pointwise(x.cuda(), y.cuda()).cpu(), torch.sin(x) * y + torch.exp(y).relu(), atol=1e-5)
table = torch.randn(64, 128, generator=generator)
close("softmax and sum", attention_weights(table.cuda()).cpu(), torch.softmax(table * 0.5, dim=1).sum(dim=0), atol=1e-5)
close("normalisation", normalised(table.cuda()).cpu(), torch.nn.functional.layer_norm(table, (128,)), atol=1e-5)
passed("torch_compiled")
