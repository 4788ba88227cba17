"""tinygrad: what a network is made of, forward and back, compared with numpy. `DEV=CUDA` goes through NVRTC, `DEV=CUDA:PTX` writes PTX itself."""

import os

import numpy
from common import close, passed, true
from tinygrad import Context, Device, Tensor, TinyJit, dtypes

random = numpy.random.default_rng(4)


def normal(*shape):
    return random.standard_normal(shape, dtype=numpy.float32)


def on_device(array, dtype=dtypes.float32):
    return Tensor(array).cast(dtype).realize()


WRITES_PTX = os.environ["DEV"].endswith("PTX")
true("device", Device.DEFAULT == "CUDA")

# Element by element.
a, b = normal(37, 129), normal(37, 129)
x, y = on_device(a), on_device(b)
close("arithmetic", ((x * y + 3) / (y * y + 1)).numpy(), (a * b + 3) / (b * b + 1), rtol=1e-5, atol=1e-5)
for name, function in {
    "exp": numpy.exp, "sin": numpy.sin, "tanh": numpy.tanh, "abs": numpy.abs, "sqrt": numpy.sqrt, "log": numpy.log, "reciprocal": numpy.reciprocal,
}.items():
    positive = numpy.abs(a) + numpy.float32(0.1)
    close(name, getattr(on_device(positive), name)().numpy(), function(positive), rtol=2e-5, atol=1e-6)
close("where", (x > y).where(x, y).numpy(), numpy.maximum(a, b))
close("relu", x.relu().numpy(), numpy.maximum(a, 0))
close("sigmoid", x.sigmoid().numpy(), 1 / (1 + numpy.exp(-a)), rtol=1e-5)
close("gelu", x.gelu().numpy(), 0.5 * a * (1 + numpy.tanh(0.7978845608 * (a + 0.044715 * a**3))), atol=1e-5)

# Every type, and conversions between them.
whole = random.integers(0, 100, (19, 53))
for dtype in (dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.uint16, dtypes.int32, dtypes.uint32, dtypes.int64, dtypes.uint64, dtypes.float16, dtypes.float64):
    kind = numpy.dtype(dtype.fmt)
    values = whole.astype(kind)
    tensor = on_device(whole, dtype)
    close(f"{dtype.name} arithmetic", (tensor * 3 - tensor // 2 if kind.kind != "f" else tensor * 3 - tensor).numpy(),
          (values * kind.type(3) - (values // 2 if kind.kind != "f" else values)).astype(kind))
    close(f"{dtype.name} to single", tensor.cast(dtypes.float32).numpy(), values.astype(numpy.float32))
    close(f"{dtype.name} maximum", tensor.max(axis=1).numpy(), values.max(axis=1))
    close(f"{dtype.name} minimum", tensor.min().numpy(), values.min())
for dtype in (dtypes.int32, dtypes.uint32, dtypes.int64):
    values, tensor = whole.astype(dtype.fmt), on_device(whole, dtype)
    close(f"{dtype.name} bits", ((tensor & 12) | (tensor ^ 5)).numpy(), (values & 12) | (values ^ 5))
    close(f"{dtype.name} shifts", ((tensor << 3) + (tensor >> 1)).numpy(), (values << 3) + (values >> 1))
    close(f"{dtype.name} remainder", (tensor % 7).numpy(), values % 7)
truth = whole % 2 == 0
close("booleans", (on_device(truth, dtypes.bool) & (on_device(whole, dtypes.int32) > 50)).numpy(), truth & (whole > 50))

# Reductions, of one line and of many.
wide = normal(7, 5000)
tensor = on_device(wide)
close("sum of all", tensor.sum().numpy(), wide.sum(dtype=numpy.float64), rtol=1e-3)
close("sum of lines", tensor.sum(axis=1).numpy(), wide.sum(axis=1), rtol=1e-3, atol=1e-3)
close("sum of columns", tensor.sum(axis=0).numpy(), wide.sum(axis=0), rtol=1e-4, atol=1e-5)
close("mean and variance", tensor.var(axis=1).numpy(), wide.var(axis=1, ddof=1), rtol=1e-4)
close("argmax", tensor.argmax(axis=1).numpy(), wide.argmax(axis=1).astype(numpy.int32))
close("cumsum", on_device(whole, dtypes.int32).cumsum(axis=1).numpy(), whole.cumsum(axis=1).astype(numpy.int32))
close("sort", on_device(whole, dtypes.int32).sort(dim=1)[0].numpy(), numpy.sort(whole, axis=1).astype(numpy.int32))

# The layers of a network.
shares = numpy.exp(a - a.max(axis=1, keepdims=True))
shares /= shares.sum(axis=1, keepdims=True)
close("softmax", x.softmax().numpy(), shares, rtol=1e-5, atol=1e-6)
close("log softmax", x.log_softmax().numpy(), numpy.log(shares), rtol=1e-4, atol=1e-5)
centred = (a - a.mean(axis=1, keepdims=True)) / numpy.sqrt(a.var(axis=1, keepdims=True) + 1e-5)
close("layer norm", x.layernorm().numpy(), centred, atol=1e-5)
image, kernel = normal(2, 3, 12, 12), normal(5, 3, 3, 3)
windows = numpy.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))
convolved = numpy.einsum("bchwij,ocij->bohw", windows, kernel)
close("convolution", on_device(image).conv2d(on_device(kernel)).numpy(), convolved, atol=1e-4)
with Context(WINO=1):
    close("convolution by Winograd", on_device(image).conv2d(on_device(kernel)).numpy(), convolved, atol=1e-3)
close("pooling", on_device(image).max_pool2d((2, 2)).numpy(), image.reshape(2, 3, 6, 2, 6, 2).max(axis=(3, 5)))
table, index = normal(50, 16), random.integers(0, 50, (4, 9))
close("embedding", on_device(table)[Tensor(index.astype(numpy.int32))].numpy(), table[index])
q, k, v = (normal(2, 4, 16, 8) for _ in range(3))
scores = q @ k.transpose(0, 1, 3, 2) / numpy.sqrt(numpy.float32(8))
scores = numpy.where(numpy.tril(numpy.ones((16, 16), bool)), scores, -numpy.inf)
scores = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
attended = scores / scores.sum(axis=-1, keepdims=True) @ v
close("attention", Tensor.scaled_dot_product_attention(*map(on_device, (q, k, v)), is_causal=True).numpy(), attended, atol=1e-5)

# Products: by single numbers, and by the matrix instructions of halves and bfloat16.
left, right = normal(96, 64), normal(64, 80)
close("product", (on_device(left) @ on_device(right)).numpy(), left @ right, rtol=1e-4, atol=1e-4)
left, right = normal(128, 64), normal(64, 128)
for dtype, digits in ((dtypes.float16, 11), (dtypes.bfloat16, 8)):
    first, second = on_device(left, dtype), on_device(right, dtype)
    exact = first.float().numpy().astype(numpy.float64) @ second.float().numpy()
    # A sum in the type itself is rounded again and again.
    close(f"product of {dtype.name}", first.matmul(second, dtype=dtypes.float32).numpy(), exact, atol=1e-3)
    close(f"product in {dtype.name}", (first @ second).float().numpy(), exact, rtol=2.0 ** (3 - digits), atol=2.0 ** (5 - digits))
for dtype in (dtypes.float16, dtypes.bfloat16):
    tensor = on_device(a, dtype)
    values = tensor.float().numpy()
    close(f"arithmetic of {dtype.name}", (tensor * 2 + 1).float().numpy(), values * 2 + 1, rtol=2e-2, atol=1e-2)
    if WRITES_PTX and dtype == dtypes.bfloat16:
        continue  # tinygrad fails in compiling this.
    close(f"softmax of {dtype.name}", tensor.softmax().float().numpy(), shares, rtol=5e-2, atol=1e-3)

# Back through it, and a step of each optimiser.
weights, target = on_device(table), on_device(normal(50, 16))
weights.requires_grad = True
((weights * 2 - target).tanh() ** 2).sum().backward()
inner = numpy.tanh(table * 2 - target.numpy())
close("gradient", weights.grad.numpy(), 4 * inner * (1 - inner**2), atol=1e-5)


@TinyJit
def step(values):
    return (values @ values.transpose()).relu().sum(axis=0).realize()


for round in range(4):
    given = normal(24, 24)
    close(f"replayed {round}", step(on_device(given)).numpy(), numpy.maximum(given @ given.T, 0).sum(axis=0), rtol=1e-4, atol=1e-3)

Tensor.manual_seed(7)
drawn = Tensor.rand(10000).numpy()
true("random numbers", 0 <= drawn.min() < 0.01 and 0.99 < drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.02)
passed("tinygrad_kernels")
