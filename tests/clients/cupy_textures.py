"""CuPy's textures and surfaces: objects of arrays and of memory, filtered and addressed, read and written by its kernels."""

import cupy
import numpy
from common import close, passed
from cupy.cuda import runtime, texture

source = numpy.random.default_rng(2)
width, height, depth = 24, 18, 5
CLAMP, WRAP = runtime.cudaAddressModeClamp, runtime.cudaAddressModeWrap
POINT, LINEAR = runtime.cudaFilterModePoint, runtime.cudaFilterModeLinear

kernels = cupy.RawModule(code=r"""
extern "C" __global__ void plane(float *out, cudaTextureObject_t texture, const float *x, const float *y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = tex2D<float>(texture, x[i], y[i]);
}
extern "C" __global__ void volume(float *out, cudaTextureObject_t texture, int width, int height) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = tex3D<float>(texture, i % width + 0.5f, i / width % height + 0.5f, i / width / height + 0.5f);
}
extern "C" __global__ void line(float *out, cudaTextureObject_t texture) { out[threadIdx.x] = tex1Dfetch<float>(texture, 63 - threadIdx.x); }
extern "C" __global__ void turn(cudaSurfaceObject_t surface, int width) {
    float here = surf2Dread<float>(surface, threadIdx.x * 4, blockIdx.x);
    __syncthreads();
    surf2Dwrite(here * 2, surface, (width - 1 - threadIdx.x) * 4, blockIdx.x);
}
""")
one_float = texture.ChannelFormatDescriptor(32, 0, 0, 0, runtime.cudaChannelFormatKindFloat)


def plane(how, x, y):
    x, y = cupy.asarray(x, dtype="float32"), cupy.asarray(y, dtype="float32")
    out = cupy.zeros(x.size, dtype="float32")
    kernels.get_function("plane")(((x.size + 63) // 64,), (64,), (out, how, x, y, numpy.int32(x.size)))
    return out.get()


image = source.integers(0, 1000, (height, width)).astype(numpy.float32)
array = texture.CUDAarray(one_float, width, height)
array.copy_from(image)
back = numpy.empty_like(image)
array.copy_to(back)
close("array", back, image)
there = cupy.empty((height, width), dtype="float32")
array.copy_to(there)
close("array to the device", there.get(), image)

of_array = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
x, y = source.integers(0, width, 200), source.integers(0, height, 200)
points = texture.TextureObject(of_array, texture.TextureDescriptor((CLAMP, CLAMP), POINT, runtime.cudaReadModeElementType))
close("points", plane(points, x + 0.25, y + 0.75), image[y, x])
close("clamped", plane(points, x - width, y + height), image[-1, 0].repeat(200))
wrapping = texture.TextureDescriptor((WRAP, WRAP), POINT, runtime.cudaReadModeElementType, normalizedCoords=1)
close("wrapped", plane(texture.TextureObject(of_array, wrapping), (x + 0.5) / width + 2, (y + 0.5) / height - 1), image[y, x])
between = texture.TextureObject(of_array, texture.TextureDescriptor((CLAMP, CLAMP), LINEAR, runtime.cudaReadModeElementType))
right = numpy.minimum(x + 1, width - 1)
close("filtered", plane(between, x + 0.75, y + 0.5), image[y, x] * 0.75 + image[y, right] * 0.25, rtol=1e-5)

# Rows of CuPy's own memory: 32 floats, a multiple of what rows must be aligned to.
rows = cupy.asarray(source.integers(0, 1000, (8, 32)).astype(numpy.float32))
of_rows = texture.ResourceDescriptor(runtime.cudaResourceTypePitch2D, arr=rows, chDesc=one_float, width=32, height=8, pitchInBytes=128)
x, y = source.integers(0, 32, 100), source.integers(0, 8, 100)
how = texture.TextureDescriptor((CLAMP, CLAMP), POINT, runtime.cudaReadModeElementType)
close("rows of memory", plane(texture.TextureObject(of_rows, how), x + 0.5, y + 0.5), rows.get()[y, x])
line = cupy.arange(64, dtype="float32")
of_line = texture.ResourceDescriptor(runtime.cudaResourceTypeLinear, arr=line, chDesc=one_float, sizeInBytes=256)
out = cupy.zeros(64, dtype="float32")
# Kept: what is destroyed while its kernel runs may be gone.
line_texture = texture.TextureObject(of_line, texture.TextureDescriptor())
kernels.get_function("line")((1,), (64,), (out, line_texture))
close("line of memory", out.get(), numpy.arange(64)[::-1])

solid = source.integers(0, 1000, (depth, height, width)).astype(numpy.float32)
box = texture.CUDAarray(one_float, width, height, depth)
box.copy_from(solid)
of_box = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=box)
inside = texture.TextureObject(of_box, texture.TextureDescriptor((CLAMP, CLAMP, CLAMP), POINT, runtime.cudaReadModeElementType))
out = cupy.zeros(solid.size, dtype="float32")
kernels.get_function("volume")((solid.size // 24,), (24,), (out, inside, numpy.int32(width), numpy.int32(height)))
close("volume", out.get(), solid.ravel())

drawn = texture.CUDAarray(one_float, width, height, 0, runtime.cudaArraySurfaceLoadStore)
drawn.copy_from(image)
surface = texture.SurfaceObject(texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=drawn))
kernels.get_function("turn")((height,), (width,), (surface, numpy.int32(width)))
drawn.copy_to(back)
close("surface", back, image[:, ::-1] * 2)

passed("cupy_textures")
