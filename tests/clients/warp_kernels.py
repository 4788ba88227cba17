"""NVIDIA's Warp: kernels of its own language, structures, atomics, tiles, its sorts and spatial queries, gradients, streams, events, captured graphs."""

import numpy
import warp as wp
from common import close, passed, show, true

wp.config.log_level = wp.LOG_ERROR
wp.init()
# What nobody differentiates is half of what would be compiled.
wp.set_module_options({"enable_backward": False})
device = wp.get_device("cuda:0")
show("device", device.name, device.arch)
source = numpy.random.default_rng(3)


@wp.struct
class Body:
    place: wp.vec3
    mass: float


@wp.kernel
def scale_and_add(a: float, x: wp.array(dtype=float), y: wp.array(dtype=float)):
    i = wp.tid()
    y[i] = a * x[i] + y[i]


@wp.kernel
def count_bits(words: wp.array(dtype=wp.uint32), bins: wp.array(dtype=int)):
    word = words[wp.tid()]
    for bit in range(32):
        if (word >> wp.uint32(bit)) & wp.uint32(1) == wp.uint32(1):
            wp.atomic_add(bins, bit, 1)


@wp.kernel
def weigh(bodies: wp.array(dtype=Body), lengths: wp.array(dtype=float)):
    i = wp.tid()
    lengths[i] = wp.length(bodies[i].place) * bodies[i].mass


@wp.kernel
def turn(angles: wp.array(dtype=float), points: wp.array(dtype=wp.vec3), turned: wp.array(dtype=wp.vec3)):
    i = wp.tid()
    turned[i] = wp.quat_rotate(wp.quat_from_axis_angle(wp.vec3(0.0, 0.0, 1.0), angles[i]), points[i])


TILE = 16


@wp.kernel
def multiply(a: wp.array2d(dtype=float), b: wp.array2d(dtype=float), c: wp.array2d(dtype=float)):
    row, column = wp.tid()
    total = wp.tile_zeros(shape=(TILE, TILE), dtype=wp.float32)
    for step in range(a.shape[1] // TILE):
        left = wp.tile_load(a, shape=(TILE, TILE), offset=(row * TILE, step * TILE))
        right = wp.tile_load(b, shape=(TILE, TILE), offset=(step * TILE, column * TILE))
        wp.tile_matmul(left, right, total)
    wp.tile_store(c, total, offset=(row * TILE, column * TILE))


@wp.kernel
def neighbours(grid: wp.uint64, points: wp.array(dtype=wp.vec3), radius: float, counts: wp.array(dtype=int)):
    i = wp.hash_grid_point_id(grid, wp.tid())
    count = int(0)
    for other in wp.hash_grid_query(grid, points[i], radius):
        if wp.length(points[other] - points[i]) <= radius:
            count += 1
    counts[i] = count


@wp.kernel(enable_backward=True)
def energy(x: wp.array(dtype=float), loss: wp.array(dtype=float)):
    i = wp.tid()
    wp.atomic_add(loss, 0, x[i] * x[i] * wp.sin(x[i]))


def on_device(array, **options):
    return wp.array(array, device=device, **options)


x, y = source.random(5000, dtype=numpy.float32), source.random(5000, dtype=numpy.float32)
there = on_device(y)
wp.launch(scale_and_add, dim=x.size, inputs=[2.5, on_device(x)], outputs=[there], device=device)
close("a x + y", there.numpy(), numpy.float32(2.5) * x + y, rtol=1e-6)

words = source.integers(0, 2**32, 4000, dtype=numpy.uint32)
bins = wp.zeros(32, dtype=int, device=device)
wp.launch(count_bits, dim=words.size, inputs=[on_device(words)], outputs=[bins], device=device)
close("atomics", bins.numpy(), [(words >> bit & 1).sum() for bit in range(32)])

places, masses = source.random((100, 3), dtype=numpy.float32), source.random(100, dtype=numpy.float32)
bodies = numpy.zeros(100, dtype=Body.numpy_dtype())
bodies["place"], bodies["mass"] = places, masses
lengths = wp.empty(100, dtype=float, device=device)
wp.launch(weigh, dim=100, inputs=[on_device(bodies, dtype=Body)], outputs=[lengths], device=device)
close("structures", lengths.numpy(), numpy.linalg.norm(places, axis=1) * masses, rtol=1e-5)

angles = source.random(100, dtype=numpy.float32) * 6
turned = wp.empty(100, dtype=wp.vec3, device=device)
wp.launch(turn, dim=100, inputs=[on_device(angles), on_device(places, dtype=wp.vec3)], outputs=[turned], device=device)
cosines, sines = numpy.cos(angles), numpy.sin(angles)
expected = numpy.stack([places[:, 0] * cosines - places[:, 1] * sines, places[:, 0] * sines + places[:, 1] * cosines, places[:, 2]], axis=1)
close("quaternions", turned.numpy(), expected, rtol=1e-4, atol=1e-5)

a, b = source.random((48, 64), dtype=numpy.float32), source.random((64, 32), dtype=numpy.float32)
product = wp.zeros((48, 32), dtype=float, device=device)
wp.launch_tiled(multiply, dim=(3, 2), inputs=[on_device(a), on_device(b)], outputs=[product], block_dim=64, device=device)
close("tiles", product.numpy(), a @ b, rtol=1e-5)

keys = numpy.concatenate([source.integers(0, 1000, 3000, dtype=numpy.int32), numpy.zeros(3000, numpy.int32)])
values = numpy.arange(6000, dtype=numpy.int32)
sorted_keys, sorted_values = on_device(keys), on_device(values)
wp.utils.radix_sort_pairs(sorted_keys, sorted_values, 3000)
order = numpy.argsort(keys[:3000], kind="stable")
close("sorted keys", sorted_keys.numpy()[:3000], keys[:3000][order])
close("and what goes with them", sorted_values.numpy()[:3000], values[:3000][order])
scanned = wp.empty(6000, dtype=int, device=device)
wp.utils.array_scan(on_device(keys), scanned, inclusive=True)
close("a scan", scanned.numpy(), keys.cumsum(dtype=numpy.int32))

points = source.random((400, 3), dtype=numpy.float32)
distances = numpy.linalg.norm(points[:, None].astype(numpy.float64) - points[None], axis=2)
radius = 0.2
counts = (distances <= radius).sum(axis=1)
# In each of several streams, with a grid of its own, which goes when the next one comes: its memory is not given to another while it is used.
found = [wp.zeros(400, dtype=int, device=device) for _ in range(6)]
places = on_device(points, dtype=wp.vec3)
for counted in found:
    with wp.ScopedStream(wp.Stream(device)):
        grid = wp.HashGrid(16, 16, 16, device)
        grid.build(places, radius)
        wp.launch(neighbours, dim=400, inputs=[grid.id, places, radius], outputs=[counted], device=device)
for number, counted in enumerate(found):
    close(f"neighbours in stream {number}", counted.numpy(), counts)

at = on_device(x[:500], requires_grad=True)
loss = wp.zeros(1, dtype=float, device=device, requires_grad=True)
with wp.Tape() as tape:
    wp.launch(energy, dim=500, inputs=[at], outputs=[loss], device=device)
tape.backward(loss)
close("gradients", at.grad.numpy(), 2 * x[:500] * numpy.sin(x[:500]) + x[:500] ** 2 * numpy.cos(x[:500]), rtol=1e-5)

there, addend = wp.zeros(5000, dtype=float, device=device), on_device(x)
with wp.ScopedCapture(device) as capture:
    for _ in range(3):
        wp.launch(scale_and_add, dim=x.size, inputs=[0.5, addend], outputs=[there], device=device)
for _ in range(4):
    wp.capture_launch(capture.graph)
close("a captured graph", there.numpy(), 6 * x, rtol=1e-6)

first, second = wp.Stream(device), wp.Stream(device)
pinned = wp.array(x, device="cpu", pinned=True)
with wp.ScopedStream(first):
    there = wp.empty(5000, dtype=float, device=device)
    wp.copy(there, pinned)
    event = first.record_event()
second.wait_event(event)
with wp.ScopedStream(second):
    wp.launch(scale_and_add, dim=x.size, inputs=[1.0, there], outputs=[there], device=device)
wp.synchronize_stream(second)
close("streams and events", there.numpy(), 2 * x)
true("timing", wp.get_event_elapsed_time(first.record_event(wp.Event(device, enable_timing=True)), first.record_event(wp.Event(device, enable_timing=True))) >= 0)

passed("warp")
