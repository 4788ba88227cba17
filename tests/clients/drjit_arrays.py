"""Dr.Jit: arrays that are traced and compiled to PTX of its own, gathers and scatters, loops, calls, reductions, differentiation, textures, random numbers."""

import drjit as dr
import numpy
from common import close, passed
from drjit.auto.ad import TensorXf
from drjit.cuda import PCG32, Array2f, Array3f, Bool, Float, Float64, Texture2f, UInt
from drjit.cuda.ad import Float as Variable

source = numpy.random.default_rng(5)


def of(array):
    return numpy.array(array)


x = source.random(4000, dtype=numpy.float32)
a = Float(x)
close("functions", of(dr.sin(a) * dr.exp(-a) + dr.sqrt(a)), numpy.sin(x) * numpy.exp(-x) + numpy.sqrt(x), rtol=1e-5)
close("doubles", of(dr.log(Float64(a) + 1)), numpy.log(x.astype(numpy.float64) + 1), rtol=1e-12)
close("a fused product", of(dr.fma(a, a, a)), (x.astype(numpy.float64) ** 2 + x).astype(numpy.float32), rtol=1e-6)
close("chosen", of(dr.select(a > 0.5, a, -a)), numpy.where(x > 0.5, x, -x))

numbers = source.integers(0, 64, 4000).astype(numpy.uint32)
index = UInt(numbers)
close("a gather", of(dr.gather(Float, a, index)), x[numbers])
bins = dr.zeros(UInt, 64)
dr.scatter_reduce(dr.ReduceOp.Add, bins, UInt(1), index)
close("bins", of(bins), numpy.bincount(numbers, minlength=64))
close("a sum", of(dr.sum(UInt(index))), [numbers.sum()])
close("the largest", of(dr.max(a)), [x.max()])
close("before", of(dr.cumsum(UInt(index))), numbers.cumsum(dtype=numpy.uint32))
close("which", of(dr.compress(index > 32)), numpy.flatnonzero(numbers > 32))


@dr.syntax
def steps_to_one(n):
    steps = UInt(0)
    while n > 1:
        n = dr.select(n & 1 == 0, n >> 1, 3 * n + 1)
        steps += 1
    return steps


def of_number(n):
    steps = 0
    while n > 1:
        n, steps = (n >> 1 if n & 1 == 0 else 3 * n + 1), steps + 1
    return steps


close("a loop", of(steps_to_one(UInt(index) + 1)), [of_number(int(n) + 1) for n in numbers])

functions = [lambda v: v * 2, lambda v: v + 10, lambda v: -v]
chosen = dr.switch(index % 3, functions, a)
close("calls", of(chosen), numpy.choose(numbers % 3, [x * 2, x + 10, -x]), rtol=1e-6)

points = Array3f(a, a * 2, a * 3)
close("lengths", of(dr.norm(points)), x * numpy.sqrt(numpy.float32(14)), rtol=1e-5)

v = Variable(x[:500])
dr.enable_grad(v)
loss = dr.sum(v * v * dr.sin(v))
dr.backward(loss)
close("gradients", of(v.grad), 2 * x[:500] * numpy.sin(x[:500]) + x[:500] ** 2 * numpy.cos(x[:500]), rtol=1e-4)

image = source.random((16, 32, 1), dtype=numpy.float32)
texture = Texture2f(image, wrap_mode=dr.WrapMode.Clamp)
column, row = source.integers(0, 32, 300), source.integers(0, 16, 300)
place = ((column + 0.5) / 32, (row + 0.5) / 16)
read = texture.eval(Array2f(*(Float(axis.astype(numpy.float32)) for axis in place)))
close("a texture", of(read[0]), image[row, column, 0], rtol=1e-5, atol=1e-6)

random = PCG32(1000)
drawn = of(random.next_float32())
close("random numbers are in their range", (drawn >= 0) & (drawn < 1), numpy.ones(1000, bool))
close("a mask", of(dr.count(Bool(a > 0.25))), [(x > 0.25).sum()])
close("bits", of((index << 3) ^ index & 5), (numbers << 3) ^ numbers & 5)
close("quotients and rests", of(index // 7 * 100 + index % 7), numbers // 7 * 100 + numbers % 7)
close("a tensor", of(TensorXf(numpy.arange(12, dtype=numpy.float32).reshape(3, 4)) * 2), numpy.arange(12).reshape(3, 4) * 2)

passed("drjit")
