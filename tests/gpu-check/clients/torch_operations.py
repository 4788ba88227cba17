"""PyTorch: one operation of many kinds each, compared natively and remotely. Each kind is tried even if another one failed."""

from common import Results, need

need("torch")
results = Results()

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import torch.nn.functional as F

device = os.environ.get("CHECK_DEVICE", "cuda")
torch.manual_seed(3)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
generator = torch.Generator().manual_seed(5)


def random(*shape):
    return torch.randn(*shape, generator=generator).to(device)


def gradients():
    weights = random(64, 64).requires_grad_()
    (torch.tanh(random(32, 64) @ weights) ** 2).sum().backward()
    return weights.grad


def mixed_precision():
    with torch.autocast(device, dtype=torch.bfloat16):
        return (random(128, 128) @ random(128, 128)).float()


def streams():
    if device == "cpu":
        return random(8)
    stream, values = torch.cuda.Stream(), random(1000)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        doubled = values * 2
    torch.cuda.current_stream().wait_stream(stream)
    return doubled


def pinned():
    values = torch.arange(10000, dtype=torch.float32)
    values = values.pin_memory() if device != "cpu" else values
    return values.to(device, non_blocking=True).cpu()


KINDS = {
    "elementwise": lambda: torch.exp(random(1000)).clamp(max=9) + torch.sin(random(1000)),
    "reduction": lambda: random(1000, 100).sum(0),
    "product": lambda: random(256, 300) @ random(300, 200),
    "batched_product": lambda: torch.bmm(random(8, 64, 32), random(8, 32, 64)),
    "half_product": lambda: (random(256, 256).half() @ random(256, 256).half()).float(),
    "convolution": lambda: F.conv2d(random(4, 8, 32, 32), random(16, 8, 3, 3)),
    "gradients": gradients,
    "mixed_precision": mixed_precision,
    "fft": lambda: torch.fft.fft(random(1024)).abs(),
    "solve": lambda: torch.linalg.solve(random(32, 32) + 8 * torch.eye(32, device=device), random(32, 4)),
    "singular_values": lambda: torch.linalg.svdvals(random(32, 32)),
    "sort": lambda: random(10000).sort()[0],
    "top": lambda: random(10000).topk(100)[0],
    "cumulative_sum": lambda: random(5000).cumsum(0),
    "gather": lambda: random(1000).gather(0, torch.randint(0, 1000, (500,), generator=generator).to(device)),
    "embedding": lambda: F.embedding(torch.arange(50, device=device), random(100, 16)),
    "attention": lambda: F.scaled_dot_product_attention(random(2, 4, 32, 16), random(2, 4, 32, 16), random(2, 4, 32, 16)),
    "normalisation": lambda: F.layer_norm(random(32, 64), (64,)),
    "random_on_device": lambda: torch.randn(1000, device=device),
    "streams": streams,
    "pinned": pinned,
}

failures = []
for name, operation in KINDS.items():
    results.begin(name)
    try:
        results.add(name, operation().detach().cpu())
    except RuntimeError as error:
        failures.append(name)
        print(f"FAIL {name}: {str(error).splitlines()[0]}", flush=True)
        # After a fault of the device nothing works any more.
        if "illegal" in str(error) or "unspecified launch" in str(error):
            break
if failures:
    raise SystemExit(f"FAIL {len(failures)} of {len(KINDS)} kinds: {', '.join(failures)}")
results.begin("timing")
left, right = random(512, 512), random(512, 512)
results.time("step", lambda: (left @ right).sum().item(), 50)
results.save()
