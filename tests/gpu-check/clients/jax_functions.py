"""JAX: compiled products, gradients, a scan, random numbers."""

from common import Results, need

need("jax", "numpy")
results = Results()

import os

import jax
import jax.numpy as jnp
import numpy

# JAX would compute on the processor without a word.
if jax.default_backend() != "gpu" and os.environ.get("CHECK_DEVICE") != "cpu":
    raise SystemExit(f"FAIL the default backend is {jax.default_backend()}")
source = numpy.random.default_rng(4)
left = jnp.asarray(source.standard_normal((128, 128)), dtype=jnp.float32)
right = jnp.asarray(source.standard_normal((128, 128)), dtype=jnp.float32)


def add(name, values):
    results.add(name, numpy.asarray(values))


results.begin("elementwise")
add("elementwise", jnp.sin(left) + jnp.exp(right))
results.begin("product")
multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
add("product", multiply(left, right))
results.begin("gradient")
add("gradient", jax.jit(jax.grad(lambda w: jnp.sum(jnp.tanh(left @ w) ** 2)))(right))
results.begin("scan")
add("scan", jax.lax.scan(lambda total, row: (total + row, total.sum()), jnp.zeros(128), left)[1])
results.begin("random")
add("random", jax.random.normal(jax.random.PRNGKey(1), (1000,)))
results.begin("sort")
add("sort", jnp.sort(left.ravel()))
results.begin("timing")
results.time("step", lambda: multiply(left, right).block_until_ready(), 50)
results.save()
