"""JAX: devices, arrays there and back, compiled functions, gradients, scans, random numbers, a product."""

import jax
import jax.numpy as jnp
import numpy
from common import close, passed, true

device = jax.devices()[0]
true("device", device.platform == "gpu" and jax.default_backend() == "gpu", device.device_kind)
true("memory", 0 < device.memory_stats()["bytes_limit"])

source = numpy.random.default_rng(1)
values = source.standard_normal(10000).astype(numpy.float32)
there = jax.device_put(values)
close("there and back", there, values)
close("elementwise", jax.jit(lambda x: jnp.sin(x) * 2 + jnp.exp(-x))(there), numpy.sin(values) * 2 + numpy.exp(-values), atol=1e-5)
close("sum", jnp.sum(there), values.sum(), atol=1e-3)
table = values.reshape(100, 100)
close("rows", jnp.max(there.reshape(100, 100), axis=1), table.max(axis=1))
close("gradient", jax.jit(jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2)))(there), 2 * numpy.tanh(values) / numpy.cosh(values) ** 2, atol=1e-5)
close("running sum", jax.lax.scan(lambda total, row: (total + row, total + row), jnp.zeros(100), there.reshape(100, 100))[1], table.cumsum(axis=0), atol=1e-4)
close("where", jnp.where(there > 0, there, -1), numpy.where(values > 0, values, numpy.float32(-1)))
close("many at once", jax.vmap(lambda row: row @ row)(there.reshape(100, 100)), (table * table).sum(axis=1), atol=1e-3)
small = table[:32, :32]
close("product", jnp.matmul(jax.device_put(small), jax.device_put(small), precision="highest"), small @ small, atol=1e-3)
drawn = numpy.asarray(jax.random.normal(jax.random.PRNGKey(1), (10000,)))
with jax.default_device(jax.devices("cpu")[0]):
    close("random", drawn, jax.random.normal(jax.random.PRNGKey(1), (10000,)), atol=1e-5)
passed("jax_arrays")
