"""What Triton makes of its usual kernels, for compute capabilities 7.5 and 8.0, run and compared with numpy.

Triton compiles without a GPU; only the last step, to machine code, is left out. Usage: triton_kernels.py FOLDER, where
the texts are left for the decoder (examples/decode).
"""

import pathlib
import sys

import numpy
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from driver import Kernel

sys.path.append(str(pathlib.Path(__file__).parents[1] / "gpu-check/clients"))
from kernels_triton import add, softmax

random = numpy.random.default_rng(1)


@triton.jit
def layer_norm(values, weights, shifts, out, columns, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    places = tl.arange(0, BLOCK)
    mask = places < columns
    line = tl.load(values + row * columns + places, mask=mask, other=0.0)
    centred = tl.where(mask, line - tl.sum(line, axis=0) / columns, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + epsilon)
    line = centred * scale * tl.load(weights + places, mask=mask) + tl.load(shifts + places, mask=mask)
    tl.store(out + row * columns + places, line, mask=mask)


@triton.jit
def product(left, right, out, m, n, k, TYPE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    inner = tl.arange(0, K)
    total = tl.zeros((M, N), dtype=TYPE)
    for start in range(0, k, K):
        along = start + inner
        a = tl.load(left + rows[:, None] * k + along[None, :], mask=(rows[:, None] < m) & (along[None, :] < k), other=0)
        b = tl.load(right + along[:, None] * n + columns[None, :], mask=(along[:, None] < k) & (columns[None, :] < n), other=0)
        total = tl.dot(a, b, total)
    tl.store(out + rows[:, None] * n + columns[None, :], total, mask=(rows[:, None] < m) & (columns[None, :] < n))


@triton.jit
def attention(queries, keys, values, out, length, scale, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
    block = tl.program_id(0)
    base = tl.program_id(1) * length * D
    rows = block * M + tl.arange(0, M)
    inner = tl.arange(0, D)
    query = tl.load(queries + base + rows[:, None] * D + inner[None, :])
    highest = tl.full((M,), -float("inf"), tl.float32)
    weight = tl.zeros((M,), tl.float32)
    total = tl.zeros((M, D), tl.float32)
    for start in range(0, (block + 1) * M, N):
        columns = start + tl.arange(0, N)
        key = tl.load(keys + base + columns[None, :] * D + inner[:, None])
        scores = tl.dot(query, key) * scale
        scores = tl.where(rows[:, None] >= columns[None, :], scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        powers = tl.exp(scores - higher[:, None])
        shrink = tl.exp(highest - higher)
        weight = weight * shrink + tl.sum(powers, 1)
        value = tl.load(values + base + columns[:, None] * D + inner[None, :])
        total = total * shrink[:, None] + tl.dot(powers.to(value.dtype), value)
        highest = higher
    tl.store(out + base + rows[:, None] * D + inner[None, :], total / weight[:, None])


@triton.jit
def scans(values, sums, ordered, counts, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    line = tl.load(values + places)
    tl.store(sums + places, tl.cumsum(line, 0))
    tl.store(ordered + places, tl.sort(line))
    tl.atomic_add(counts + line % 64, 1)
    tl.atomic_max(counts + 64, tl.argmax(line, 0))


def compiled(function, capability, signature, constants, folder, label, **options):
    """The kernel, and how many bytes of shared memory and threads it wants."""
    types = dict(zip(function.arg_names, signature))
    types |= {name: "constexpr" for name in constants}
    hints = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(signature) if name.startswith("*")}
    source = ASTSource(function, types, constexprs=constants, attrs=hints)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    (folder / f"triton-{capability}-{label}.ptx").write_text(made.asm["ptx"])
    kernel = Kernel(made.asm["ptx"], made.metadata.name)

    def launch(grid, arguments):
        # Triton adds parameters for scratch memory, which these kernels do not use.
        wanted = made.asm["ptx"].split(".entry", 1)[1].split(")", 1)[0].count(".param")
        missing = [numpy.uint64(0)] * (wanted - len(arguments))
        kernel(grid, (32 * made.metadata.num_warps,), [*arguments, *missing], made.metadata.shared)

    return launch


def close(label, got, want, tolerance):
    error = numpy.max(numpy.abs(got.astype(numpy.float64) - want))
    print(f"{label}: largest error {error:.3g}")
    if not error <= tolerance:
        raise SystemExit(f"FAIL {label}: {error} is more than {tolerance}")


def check(capability, folder):
    single = lambda *shape: random.standard_normal(shape, dtype=numpy.float32)
    left, right = single(10000), single(10000)
    out = numpy.zeros_like(left)
    compiled(add, capability, ["*fp32"] * 3 + ["i32"], {"BLOCK": 1024}, folder, "add")((10,), [left, right, out, numpy.int32(10000)])
    close(f"{capability} add", out, left + right, 0)

    table = single(100, 1000)
    out = numpy.zeros_like(table)
    launch = compiled(softmax, capability, ["*fp32"] * 2 + ["i32"], {"BLOCK": 1024}, folder, "softmax")
    launch((100,), [table, out, numpy.int32(1000)])
    powers = numpy.exp(table - table.max(1, keepdims=True))
    close(f"{capability} softmax", out, powers / powers.sum(1, keepdims=True), 1e-6)

    weights, shifts = single(1000), single(1000)
    launch = compiled(layer_norm, capability, ["*fp32"] * 4 + ["i32", "fp32"], {"BLOCK": 1024}, folder, "layer_norm")
    launch((100,), [table, weights, shifts, out, numpy.int32(1000), numpy.float32(1e-5)])
    want = (table - table.mean(1, keepdims=True)) / numpy.sqrt(table.var(1, keepdims=True) + 1e-5) * weights + shifts
    close(f"{capability} layer norm", out, want, 2e-5)

    for name, tolerance in (("fp32", 0.1 if capability >= 80 else 1e-4), ("fp16", 1e-4), ("bf16", 1e-4), ("i8", 0)):
        if capability < 80 and name in ("bf16", "i8"):
            continue
        for stages in (1, 3):
            check_product(capability, folder, name, stages, tolerance)

    heads, length, width = 2, 128, 64
    q, k, v = (single(heads, length, width).astype(numpy.float16) for _ in range(3))
    out = numpy.zeros((heads, length, width), numpy.float16)
    launch = compiled(attention, capability, ["*fp16"] * 4 + ["i32", "fp32"], {"M": 64, "N": 32, "D": width}, folder, "attention")
    launch((length // 64, heads), [q, k, v, out, numpy.int32(length), numpy.float32(width**-0.5)])
    q, k, v = (array.astype(numpy.float64) for array in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) * width**-0.5
    scores = numpy.where(numpy.tril(numpy.ones((length, length), bool)), scores, -numpy.inf)
    powers = numpy.exp(scores - scores.max(2, keepdims=True))
    close(f"{capability} attention", out, powers / powers.sum(2, keepdims=True) @ v, 4e-3)

    line = random.integers(0, 1000, 1024, dtype=numpy.int32)
    sums, ordered, counts = numpy.zeros_like(line), numpy.zeros_like(line), numpy.zeros(65, numpy.int32)
    compiled(scans, capability, ["*i32"] * 4, {"BLOCK": 1024}, folder, "scans")((1,), [line, sums, ordered, counts])
    close(f"{capability} cumsum", sums, numpy.cumsum(line), 0)
    close(f"{capability} sort", ordered, numpy.sort(line), 0)
    close(f"{capability} counts", counts, numpy.append(numpy.bincount(line % 64, minlength=64), numpy.argmax(line)), 0)


def check_product(capability, folder, name, stages, tolerance):
    m, n, k = 100, 72, 80
    a, b = random.standard_normal((m, k)), random.standard_normal((k, n))
    total, accumulator = numpy.zeros((m, n), numpy.float32), "fp32"
    if name == "i8":
        a, b = (random.integers(-128, 128, shape, dtype=numpy.int8) for shape in ((m, k), (k, n)))
        total, accumulator = numpy.zeros((m, n), numpy.int32), "i32"
    elif name == "bf16":
        # The upper halves of singles.
        a, b = ((array.astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16) for array in (a, b))
    else:
        a, b = (array.astype({"fp32": numpy.float32, "fp16": numpy.float16}[name]) for array in (a, b))
    exact = [
        (array.astype(numpy.uint32) << 16).view(numpy.float32) if name == "bf16" else array for array in (a, b)
    ]
    constants = {"TYPE": tl.int32 if name == "i8" else tl.float32, "M": 64, "N": 64, "K": 32}
    signature = [f"*{name}", f"*{name}", f"*{accumulator}", "i32", "i32", "i32"]
    label = f"product-{name}-{stages}"
    launch = compiled(product, capability, signature, constants, folder, label, num_stages=stages)
    launch((2, 2), [a, b, total, numpy.int32(m), numpy.int32(n), numpy.int32(k)])
    close(f"{capability} {label}", total, exact[0].astype(numpy.float64) @ exact[1].astype(numpy.float64), tolerance)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for capability in (75, 80):
        check(capability, folder)
