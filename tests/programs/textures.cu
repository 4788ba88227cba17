// Textures and surfaces: every kind of array and of memory, every way to address and to filter; results are compared with the host's own arithmetic.
// Coordinates are multiples of 1/64 of an element, so that weights of eight bits are exact.
#include "check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

const char *const PROGRAM = "textures";

constexpr int COUNT = 512;

// What a kernel reads at a coordinate.
struct Point {
    float x, y, z, level;
    int layer;
};

enum Kind { LINE, PLANE, VOLUME, LINES, PLANES, CUBE, CUBES, PLANE_LEVEL, PLANE_GRADIENT, GATHER, FETCH };

template <int KIND> __device__ float4 look_up(cudaTextureObject_t t, Point p) {
    if constexpr (KIND == LINE) return tex1D<float4>(t, p.x);
    if constexpr (KIND == PLANE) return tex2D<float4>(t, p.x, p.y);
    if constexpr (KIND == VOLUME) return tex3D<float4>(t, p.x, p.y, p.z);
    if constexpr (KIND == LINES) return tex1DLayered<float4>(t, p.x, p.layer);
    if constexpr (KIND == PLANES) return tex2DLayered<float4>(t, p.x, p.y, p.layer);
    if constexpr (KIND == CUBE) return texCubemap<float4>(t, p.x, p.y, p.z);
    if constexpr (KIND == CUBES) return texCubemapLayered<float4>(t, p.x, p.y, p.z, p.layer);
    if constexpr (KIND == PLANE_LEVEL) return tex2DLod<float4>(t, p.x, p.y, p.level);
    if constexpr (KIND == PLANE_GRADIENT)
        return tex2DGrad<float4>(t, p.x, p.y, make_float2(exp2f(p.level) / 64, 0), make_float2(0, 0.001f));
    if constexpr (KIND == GATHER) return tex2Dgather<float4>(t, p.x, p.y, 1);
    if constexpr (KIND == FETCH) return tex1Dfetch<float4>(t, (int)p.x);
}

template <int KIND> __global__ void read(cudaTextureObject_t texture, const Point *points, float4 *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) out[i] = look_up<KIND>(texture, points[i]);
}

template <typename T> __global__ void read_elements(cudaTextureObject_t texture, int width, T *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) out[i] = tex2D<T>(texture, (float)(i % width), (float)(i / width));
}

// An array as the host sees it: elements of four floats in slices of rows.
struct Image {
    int width, height, depth;
    std::vector<float4> elements;

    Image(int width, int height, int depth, unsigned seed) : width(width), height(height), depth(depth) {
        Random random(seed);
        for (int i = 0; i < width * height * depth; i++) {
            auto next = [&] { return (float)(random.next() % 1024) / 8; };
            elements.push_back(make_float4(next(), next(), next(), next()));
        }
    }
    const float4 &at(int x, int y, int z) const { return elements[(size_t)(z * height + y) * width + x]; }
};

// The element that a number means.
static bool addressed(long &number, int size, cudaTextureAddressMode mode, bool normalised) {
    bool inside = number >= 0 && number < size;
    if (mode == cudaAddressModeBorder) return inside;
    if (mode == cudaAddressModeWrap && normalised) {
        number = ((number % size) + size) % size;
    } else if (mode == cudaAddressModeMirror && normalised) {
        long period = 2 * size, place = ((number % period) + period) % period;
        number = place < size ? place : period - 1 - place;
    } else {
        number = std::min(std::max(number, 0L), (long)size - 1);
    }
    return true;
}

static float4 expected_in(const Image &image, const cudaTextureDesc &how, int dimensions, Point p, int layer) {
    bool normalised = how.normalizedCoords;
    double at[3] = {p.x, p.y, p.z};
    int size[3] = {image.width, image.height, image.depth};
    for (int d = 0; d < 3; d++) at[d] *= normalised ? size[d] : 1;
    double sum[4] = {};
    int corners = how.filterMode == cudaFilterModeLinear ? 1 << dimensions : 1;
    for (int corner = 0; corner < corners; corner++) {
        double weight = 1;
        long number[3] = {0, 0, layer};
        bool inside = true;
        for (int d = 0; d < dimensions; d++) {
            double place = corners > 1 ? at[d] - 0.5 : at[d];
            number[d] = (long)std::floor(place);
            double share = place - std::floor(place);
            if (corners > 1) weight *= corner >> d & 1 ? share : 1 - share;
            number[d] += corner >> d & 1;
            inside = addressed(number[d], size[d], how.addressMode[d], normalised) && inside;
        }
        const float *border = how.borderColor;
        float4 element = inside ? image.at(number[0], number[1], number[2])
                                : make_float4(border[0], border[1], border[2], border[3]);
        sum[0] += weight * element.x, sum[1] += weight * element.y;
        sum[2] += weight * element.z, sum[3] += weight * element.w;
    }
    return make_float4(sum[0], sum[1], sum[2], sum[3]);
}

static bool is_near(float a, float b) { return std::fabs(a - b) <= 1e-3f * (1 + std::fabs(b)); }

static void compare(const char *what, const std::vector<float4> &got, const std::vector<Point> &points,
                    const std::function<float4(const Point &)> &expected) {
    for (int i = 0; i < COUNT; i++) {
        float4 e = expected(points[i]), g = got[i];
        if (!is_near(g.x, e.x) || !is_near(g.y, e.y) || !is_near(g.z, e.z) || !is_near(g.w, e.w))
            fail("%s at (%g, %g, %g) level %g layer %d: (%g %g %g %g), expected (%g %g %g %g)", what, points[i].x,
                 points[i].y, points[i].z, points[i].level, points[i].layer, g.x, g.y, g.z, g.w, e.x, e.y, e.z, e.w);
    }
}

static std::vector<Point> points_around(const Image &image, bool normalised, unsigned seed) {
    Random random(seed);
    auto next = [&](int size) {
        float place = ((int)(random.next() % (size * 3 * 64)) - size * 64) / 64.0f + 1 / 128.0f;
        return normalised ? place / size : place;
    };
    std::vector<Point> points(COUNT);
    for (Point &p : points)
        p = {next(image.width), next(image.height), next(image.depth), 0, (int)(random.next() % image.depth)};
    return points;
}

template <int KIND> static std::vector<float4> run(cudaTextureObject_t texture, const std::vector<Point> &points) {
    Point *in;
    float4 *out;
    CHECK(cudaMalloc(&in, COUNT * sizeof(Point)));
    CHECK(cudaMalloc(&out, COUNT * sizeof(float4)));
    CHECK(cudaMemcpy(in, points.data(), COUNT * sizeof(Point), cudaMemcpyHostToDevice));
    read<KIND><<<(COUNT + 127) / 128, 128>>>(texture, in, out);
    CHECK(cudaGetLastError());
    std::vector<float4> got(COUNT);
    CHECK(cudaMemcpy(got.data(), out, COUNT * sizeof(float4), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
    return got;
}

// An array with an image in it.
static cudaArray_t upload(const Image &image, cudaExtent extent, unsigned flags) {
    cudaChannelFormatDesc format = cudaCreateChannelDesc<float4>();
    cudaArray_t array;
    CHECK(cudaMalloc3DArray(&array, &format, extent, flags));
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr((void *)image.elements.data(), image.width * sizeof(float4), image.width, image.height);
    copy.dstArray = array;
    copy.extent = make_cudaExtent(image.width, image.height, image.depth);
    copy.kind = cudaMemcpyHostToDevice;
    CHECK(cudaMemcpy3D(&copy));
    return array;
}

static cudaTextureObject_t texture_of(cudaArray_t array, const cudaTextureDesc &how) {
    cudaResourceDesc what = {};
    what.resType = cudaResourceTypeArray;
    what.res.array.array = array;
    cudaTextureObject_t texture;
    CHECK(cudaCreateTextureObject(&texture, &what, &how, nullptr));
    return texture;
}

// One kind of array with every filter and address mode that it can have.
template <int KIND> static void every_way(const char *name, const Image &image, cudaExtent extent, unsigned flags, int dimensions) {
    cudaArray_t array = upload(image, extent, flags);
    for (int normalised = 0; normalised < 2; normalised++)
        for (auto filter : {cudaFilterModePoint, cudaFilterModeLinear})
            for (auto mode : {cudaAddressModeClamp, cudaAddressModeBorder, cudaAddressModeWrap, cudaAddressModeMirror}) {
                if (!normalised && (mode == cudaAddressModeWrap || mode == cudaAddressModeMirror)) continue;
                cudaTextureDesc how = {};
                for (auto &of_dimension : how.addressMode) of_dimension = mode;
                how.filterMode = filter;
                how.normalizedCoords = normalised;
                for (int i = 0; i < 4; i++) how.borderColor[i] = 10.0f * (i + 1);
                cudaTextureObject_t texture = texture_of(array, how);
                auto points = points_around(image, normalised, dimensions * 100 + mode);
                bool layered = flags & cudaArrayLayered;
                compare(name, run<KIND>(texture, points), points, [&](const Point &p) {
                    return expected_in(image, how, dimensions, p, layered ? p.layer : 0);
                });
                CHECK(cudaDestroyTextureObject(texture));
            }
    CHECK(cudaFreeArray(array));
}

static void arrays() {
    every_way<LINE>("line", Image(37, 1, 1, 1), make_cudaExtent(37, 0, 0), 0, 1);
    every_way<PLANE>("plane", Image(24, 17, 1, 2), make_cudaExtent(24, 17, 0), 0, 2);
    every_way<VOLUME>("volume", Image(8, 9, 10, 3), make_cudaExtent(8, 9, 10), 0, 3);
    every_way<LINES>("lines", Image(32, 1, 5, 4), make_cudaExtent(32, 0, 5), cudaArrayLayered, 1);
    every_way<PLANES>("planes", Image(16, 12, 4, 5), make_cudaExtent(16, 12, 4), cudaArrayLayered, 2);
}

// The face of a cube that a direction meets, and the point on it.
static Point on_face(const Point &p, int cube) {
    float size[3] = {std::fabs(p.x), std::fabs(p.y), std::fabs(p.z)};
    int axis = size[0] >= size[1] && size[0] >= size[2] ? 0 : size[1] >= size[2] ? 1 : 2;
    float at[3] = {p.x, p.y, p.z};
    bool negative = at[axis] < 0;
    float s = axis == 0 ? (negative ? p.z : -p.z) : axis == 1 ? p.x : (negative ? -p.x : p.x);
    float t = axis == 1 ? (negative ? -p.z : p.z) : -p.y;
    return {(s / size[axis] + 1) / 2, (t / size[axis] + 1) / 2, 0, 0, cube * 6 + axis * 2 + negative};
}

template <int KIND> static void cubes(const char *name, int count, unsigned flags) {
    Image image(16, 16, 6 * count, 7);
    cudaArray_t array = upload(image, make_cudaExtent(16, 16, 6 * count), cudaArrayCubemap | flags);
    cudaTextureDesc how = {};
    for (auto &mode : how.addressMode) mode = cudaAddressModeClamp;
    how.normalizedCoords = 1;
    cudaTextureObject_t texture = texture_of(array, how);
    Random random(8);
    std::vector<Point> points(COUNT);
    for (Point &p : points) {
        auto next = [&] { return (int)(random.next() % 2001) / 1000.0f - 1.0003f; };
        p = {next(), next(), next(), 0, (int)(random.next() % count)};
    }
    compare(name, run<KIND>(texture, points), points, [&](const Point &p) {
        Point at = on_face(p, count > 1 ? p.layer : 0);
        return expected_in(image, how, 2, at, at.layer);
    });
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFreeArray(array));
}

// Levels, one by one, between two, and by gradients.
static void levels() {
    cudaChannelFormatDesc format = cudaCreateChannelDesc<float4>();
    cudaMipmappedArray_t mipmapped;
    CHECK(cudaMallocMipmappedArray(&mipmapped, &format, make_cudaExtent(64, 64, 0), 5));
    std::vector<Image> images;
    for (int level = 0; level < 5; level++) {
        int size = 64 >> level;
        images.emplace_back(size, size, 1, 20 + level);
        cudaArray_t array;
        CHECK(cudaGetMipmappedArrayLevel(&array, mipmapped, level));
        CHECK(cudaMemcpy2DToArray(array, 0, 0, images.back().elements.data(), size * sizeof(float4), size * sizeof(float4),
                                  size, cudaMemcpyHostToDevice));
    }
    for (auto between : {cudaFilterModePoint, cudaFilterModeLinear}) {
        cudaResourceDesc what = {};
        what.resType = cudaResourceTypeMipmappedArray;
        what.res.mipmap.mipmap = mipmapped;
        cudaTextureDesc how = {};
        for (auto &mode : how.addressMode) mode = cudaAddressModeClamp;
        how.normalizedCoords = 1;
        how.mipmapFilterMode = between;
        how.maxMipmapLevelClamp = 3;
        cudaTextureObject_t texture;
        CHECK(cudaCreateTextureObject(&texture, &what, &how, nullptr));
        Random random(9);
        std::vector<Point> points(COUNT);
        for (Point &p : points) {
            auto next = [&] { return (random.next() % 64 + 0.5f) / 64; };
            // Away from the middle between two levels, where a point is either.
            p = {next(), next(), 0, (int)(random.next() % 20) / 4.0f + 0.0625f, 0};
        }
        auto expected = [&](const Point &p) {
            float level = std::min(p.level, 3.0f);
            if (between == cudaFilterModePoint) return expected_in(images[(int)std::floor(level + 0.5f)], how, 2, p, 0);
            int lower = (int)level;
            float share = level - lower;
            float4 a = expected_in(images[lower], how, 2, p, 0), b = expected_in(images[std::min(lower + 1, 4)], how, 2, p, 0);
            auto mix = [&](float one, float two) { return (1 - share) * one + share * two; };
            return make_float4(mix(a.x, b.x), mix(a.y, b.y), mix(a.z, b.z), mix(a.w, b.w));
        };
        compare("levels", run<PLANE_LEVEL>(texture, points), points, expected);
        if (between == cudaFilterModePoint) compare("gradients", run<PLANE_GRADIENT>(texture, points), points, expected);
        CHECK(cudaDestroyTextureObject(texture));
    }
    CHECK(cudaFreeMipmappedArray(mipmapped));
}

static void gather() {
    Image image(24, 17, 1, 30);
    cudaArray_t array = upload(image, make_cudaExtent(24, 17, 0), cudaArrayTextureGather);
    cudaTextureDesc how = {};
    for (auto &mode : how.addressMode) mode = cudaAddressModeClamp;
    cudaTextureObject_t texture = texture_of(array, how);
    auto points = points_around(image, false, 31);
    compare("gather", run<GATHER>(texture, points), points, [&](const Point &p) {
        long x = (long)std::floor(p.x - 0.5f), y = (long)std::floor(p.y - 0.5f);
        auto channel = [&](long i, long j) {
            addressed(i, 24, cudaAddressModeClamp, false);
            addressed(j, 17, cudaAddressModeClamp, false);
            return image.at(i, j, 0).y;
        };
        return make_float4(channel(x, y + 1), channel(x + 1, y + 1), channel(x + 1, y), channel(x, y));
    });
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFreeArray(array));
}

// Memory of the device: a line, whose outside is zero, and rows with a pitch.
static void memory() {
    Image image(300, 1, 1, 40);
    float4 *line;
    CHECK(cudaMalloc(&line, 300 * sizeof(float4)));
    CHECK(cudaMemcpy(line, image.elements.data(), 300 * sizeof(float4), cudaMemcpyHostToDevice));
    cudaResourceDesc what = {};
    what.resType = cudaResourceTypeLinear;
    what.res.linear.devPtr = line;
    what.res.linear.desc = cudaCreateChannelDesc<float4>();
    what.res.linear.sizeInBytes = 300 * sizeof(float4);
    cudaTextureDesc how = {};
    cudaTextureObject_t texture;
    CHECK(cudaCreateTextureObject(&texture, &what, &how, nullptr));
    std::vector<Point> points(COUNT);
    for (int i = 0; i < COUNT; i++) points[i] = {(float)(i - 20), 0, 0, 0, 0};
    compare("line of memory", run<FETCH>(texture, points), points, [&](const Point &p) {
        bool inside = p.x >= 0 && p.x < 300;
        return inside ? image.at((int)p.x, 0, 0) : make_float4(0, 0, 0, 0);
    });
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFree(line));

    Image plane(30, 20, 1, 41);
    void *rows;
    size_t pitch;
    CHECK(cudaMallocPitch(&rows, &pitch, 30 * sizeof(float4), 20));
    CHECK(cudaMemcpy2D(rows, pitch, plane.elements.data(), 30 * sizeof(float4), 30 * sizeof(float4), 20, cudaMemcpyHostToDevice));
    what = {};
    what.resType = cudaResourceTypePitch2D;
    what.res.pitch2D.devPtr = rows;
    what.res.pitch2D.desc = cudaCreateChannelDesc<float4>();
    what.res.pitch2D.width = 30, what.res.pitch2D.height = 20, what.res.pitch2D.pitchInBytes = pitch;
    for (auto &mode : how.addressMode) mode = cudaAddressModeClamp;
    how.filterMode = cudaFilterModeLinear;
    CHECK(cudaCreateTextureObject(&texture, &what, &how, nullptr));
    points = points_around(plane, false, 42);
    compare("rows of memory", run<PLANE>(texture, points), points, [&](const Point &p) { return expected_in(plane, how, 2, p, 0); });
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFree(rows));
}

// Elements of other formats: as they are, and as fractions.
template <typename T, typename Read>
static void elements(cudaTextureReadMode mode, bool is_srgb, const std::function<bool(const T &, const Read &)> &is_right) {
    const int width = 32, height = COUNT / 32;
    std::vector<T> image(COUNT);
    Random random(50);
    for (size_t i = 0; i < COUNT * sizeof(T); i++) ((unsigned char *)image.data())[i] = (unsigned char)random.next();
    cudaChannelFormatDesc format = cudaCreateChannelDesc<T>();
    cudaArray_t array;
    CHECK(cudaMallocArray(&array, &format, width, height));
    CHECK(cudaMemcpy2DToArray(array, 0, 0, image.data(), width * sizeof(T), width * sizeof(T), height, cudaMemcpyHostToDevice));
    cudaTextureDesc how = {};
    how.readMode = mode;
    how.sRGB = is_srgb;
    for (auto &address : how.addressMode) address = cudaAddressModeClamp;
    cudaTextureObject_t texture = texture_of(array, how);
    Read *out;
    CHECK(cudaMalloc(&out, COUNT * sizeof(Read)));
    read_elements<Read><<<4, 128>>>(texture, width, out);
    CHECK(cudaGetLastError());
    std::vector<Read> got(COUNT);
    CHECK(cudaMemcpy(got.data(), out, COUNT * sizeof(Read), cudaMemcpyDeviceToHost));
    for (int i = 0; i < COUNT; i++)
        if (!is_right(image[i], got[i])) fail("elements of %zu bytes, mode %d: number %d is wrong", sizeof(T), (int)mode, i);
    CHECK(cudaFree(out));
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFreeArray(array));
}

static void formats() {
    elements<uchar4, uchar4>(cudaReadModeElementType, false, [](const uchar4 &a, const uchar4 &b) {
        return a.x == b.x && a.y == b.y && a.z == b.z && a.w == b.w;
    });
    elements<short2, short2>(cudaReadModeElementType, false, [](const short2 &a, const short2 &b) { return a.x == b.x && a.y == b.y; });
    elements<unsigned, unsigned>(cudaReadModeElementType, false, [](unsigned a, unsigned b) { return a == b; });
    elements<uchar4, float4>(cudaReadModeNormalizedFloat, false, [](const uchar4 &a, const float4 &b) {
        return is_near(b.x, a.x / 255.0f) && is_near(b.w, a.w / 255.0f);
    });
    elements<signed char, float>(cudaReadModeNormalizedFloat, false, [](signed char a, float b) {
        return is_near(b, std::max(a / 127.0f, -1.0f));
    });
    elements<ushort2, float2>(cudaReadModeNormalizedFloat, false, [](const ushort2 &a, const float2 &b) {
        return is_near(b.x, a.x / 65535.0f) && is_near(b.y, a.y / 65535.0f);
    });
    elements<uchar4, float4>(cudaReadModeNormalizedFloat, true, [](const uchar4 &a, const float4 &b) {
        float c = a.x / 255.0f, linear = c <= 0.04045f ? c / 12.92f : std::pow((c + 0.055f) / 1.055f, 2.4f);
        // Devices convert by tables.
        return std::fabs(b.x - linear) < 4e-3f && is_near(b.w, a.w / 255.0f);
    });
}

// Each element is read, doubled, and written beside the old one, in planes, layers and volumes.
__global__ void double_plane(cudaSurfaceObject_t from, cudaSurfaceObject_t to, int width, int height) {
    int x = threadIdx.x, y = blockIdx.x;
    if (x >= width || y >= height) return;
    float2 value = surf2Dread<float2>(from, x * 8, y);
    surf2Dwrite(make_float2(value.x * 2, value.y + 1), to, (width - 1 - x) * 8, y);
    // Outside: zero is read, nothing is written; clamped, the last of the row.
    float2 outside = surf2Dread<float2>(from, width * 8 + 8, y, cudaBoundaryModeZero);
    surf2Dwrite(outside, to, x * 8, height + y, cudaBoundaryModeZero);
    float2 last = surf2Dread<float2>(from, width * 8 + 800, y, cudaBoundaryModeClamp);
    if (outside.x != 0 || outside.y != 0 || last.x != surf2Dread<float2>(from, (width - 1) * 8, y).x) __trap();
}

__global__ void fill_others(cudaSurfaceObject_t layers, cudaSurfaceObject_t volume, cudaSurfaceObject_t line) {
    int x = threadIdx.x, y = blockIdx.x, z = blockIdx.y;
    surf2DLayeredwrite((unsigned)(x + 100 * y + 10000 * z), layers, x * 4, y, z);
    surf3Dwrite((unsigned short)(x + 10 * y + 100 * z), volume, x * 2, y, z);
    if (y == 0 && z == 0) surf1Dwrite((unsigned char)(200 - x), line, x);
}

static cudaSurfaceObject_t surface_of(cudaArray_t array) {
    cudaResourceDesc what = {};
    what.resType = cudaResourceTypeArray;
    what.res.array.array = array;
    cudaSurfaceObject_t surface;
    CHECK(cudaCreateSurfaceObject(&surface, &what));
    return surface;
}

template <typename T> static cudaArray_t surface_array(cudaExtent extent, unsigned flags) {
    cudaChannelFormatDesc format = cudaCreateChannelDesc<T>();
    cudaArray_t array;
    CHECK(cudaMalloc3DArray(&array, &format, extent, flags | cudaArraySurfaceLoadStore));
    return array;
}

template <typename T> static std::vector<T> download(cudaArray_t array, int width, int height, int depth) {
    std::vector<T> got((size_t)width * height * depth);
    cudaMemcpy3DParms copy = {};
    copy.srcArray = array;
    copy.dstPtr = make_cudaPitchedPtr(got.data(), width * sizeof(T), width, height);
    copy.extent = make_cudaExtent(width, height, depth);
    copy.kind = cudaMemcpyDeviceToHost;
    CHECK(cudaMemcpy3D(&copy));
    return got;
}

static void surfaces() {
    const int width = 48, height = 20;
    cudaArray_t from = surface_array<float2>(make_cudaExtent(width, height, 0), 0);
    cudaArray_t to = surface_array<float2>(make_cudaExtent(width, height, 0), 0);
    std::vector<float2> image(width * height);
    for (int i = 0; i < width * height; i++) image[i] = make_float2((float)i, (float)(i % 7));
    CHECK(cudaMemcpy2DToArray(from, 0, 0, image.data(), width * 8, width * 8, height, cudaMemcpyHostToDevice));
    cudaSurfaceObject_t source = surface_of(from), target = surface_of(to);
    double_plane<<<height, 64>>>(source, target, width, height);
    CHECK(cudaGetLastError());
    auto got = download<float2>(to, width, height, 1);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            float2 old = image[y * width + x], now = got[y * width + width - 1 - x];
            if (now.x != old.x * 2 || now.y != old.y + 1) fail("surface at %d, %d: %g %g", x, y, now.x, now.y);
        }
    cudaArray_t layers = surface_array<unsigned>(make_cudaExtent(16, 8, 3), cudaArrayLayered);
    cudaArray_t volume = surface_array<unsigned short>(make_cudaExtent(16, 8, 3), 0);
    cudaArray_t line = surface_array<unsigned char>(make_cudaExtent(16, 0, 0), 0);
    cudaSurfaceObject_t others[] = {surface_of(layers), surface_of(volume), surface_of(line)};
    fill_others<<<dim3(8, 3), 16>>>(others[0], others[1], others[2]);
    CHECK(cudaGetLastError());
    auto in_layers = download<unsigned>(layers, 16, 8, 3);
    auto in_volume = download<unsigned short>(volume, 16, 8, 3);
    auto in_line = download<unsigned char>(line, 16, 1, 1);
    for (int i = 0; i < 16 * 8 * 3; i++) {
        int x = i % 16, y = i / 16 % 8, z = i / 128;
        if (in_layers[i] != (unsigned)(x + 100 * y + 10000 * z)) fail("layers at %d: %u", i, in_layers[i]);
        if (in_volume[i] != x + 10 * y + 100 * z) fail("volume at %d: %u", i, in_volume[i]);
        if (i < 16 && in_line[i] != 200 - i) fail("line at %d: %u", i, in_line[i]);
    }
    for (auto surface : {source, target, others[0], others[1], others[2]}) CHECK(cudaDestroySurfaceObject(surface));
    for (auto array : {from, to, layers, volume, line}) CHECK(cudaFreeArray(array));
}

int main() {
    arrays();
    cubes<CUBE>("cube", 1, 0);
    cubes<CUBES>("cubes", 3, cudaArrayLayered);
    levels();
    gather();
    memory();
    formats();
    surfaces();
    return pass("arrays, layers, cubes, levels, memory, formats, surfaces");
}
