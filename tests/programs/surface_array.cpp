// Arrays: their shapes, and copies from and to them, of lines, rectangles and boxes. Each is checked by the bytes that come back.
#include "driver.h"

const char *const PROGRAM = "surface_array";

using Bytes = std::vector<unsigned char>;

static CUstream stream;
static CUdeviceptr device;
static const size_t DEVICE_BYTES = 1 << 20;

static Bytes pattern(unsigned seed, size_t bytes) {
    Bytes made(bytes);
    for (size_t i = 0; i < bytes; i++) made[i] = (unsigned char)(seed * 37 + i * 11 + i / 256);
    return made;
}

static CUarray array_of(size_t width, size_t height, size_t depth, CUarray_format format, unsigned channels,
                        unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR shape = {};
    shape.Width = width, shape.Height = height, shape.Depth = depth;
    shape.Format = format, shape.NumChannels = channels, shape.Flags = flags;
    CUarray array = nullptr;
    OK("cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    REQUIRE(array);
    CUDA_ARRAY3D_DESCRIPTOR told = {};
    OK("cuArray3DGetDescriptor_v2", &told, array);
    REQUIRE(told.Width == width && told.Height == height && told.Depth == depth);
    REQUIRE(told.Format == format && told.NumChannels == channels && told.Flags == flags);
    return array;
}

// One end of a box: memory, or an array, and where the box begins in it.
struct End {
    CUmemorytype type;
    void *host;
    CUdeviceptr address;
    CUarray array;
    size_t pitch, rows, x, y, z;
};

static End in_array(CUarray array, size_t x = 0, size_t y = 0, size_t z = 0) {
    return {CU_MEMORYTYPE_ARRAY, nullptr, 0, array, 0, 0, x, y, z};
}
static End in_host(Bytes &bytes, size_t pitch, size_t rows) {
    return {CU_MEMORYTYPE_HOST, bytes.data(), 0, nullptr, pitch, rows, 0, 0, 0};
}
static End on_device(size_t pitch, size_t rows) {
    return {CU_MEMORYTYPE_DEVICE, nullptr, device, nullptr, pitch, rows, 0, 0, 0};
}

static CUDA_MEMCPY3D box(const End &to, const End &from, size_t width, size_t height, size_t depth) {
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = from.type, copy.dstMemoryType = to.type;
    copy.srcHost = from.host, copy.dstHost = to.host;
    copy.srcDevice = from.address, copy.dstDevice = to.address;
    copy.srcArray = from.array, copy.dstArray = to.array;
    copy.srcPitch = from.pitch, copy.dstPitch = to.pitch;
    copy.srcHeight = from.rows, copy.dstHeight = to.rows;
    copy.srcXInBytes = from.x, copy.srcY = from.y, copy.srcZ = from.z;
    copy.dstXInBytes = to.x, copy.dstY = to.y, copy.dstZ = to.z;
    copy.WidthInBytes = width, copy.Height = height, copy.Depth = depth;
    return copy;
}

static void move(const End &to, const End &from, size_t width, size_t height, size_t depth) {
    CUDA_MEMCPY3D copy = box(to, from, width, height, depth);
    OK("cuMemcpy3D_v2", (const CUDA_MEMCPY3D *)&copy);
    OK("cuCtxSynchronize");
}

// All bytes of an array, packed.
static Bytes read(CUarray array, size_t width, size_t height, size_t depth) {
    Bytes got(width * height * depth, 0xEE);
    move(in_host(got, width, height), in_array(array), width, height, depth);
    return got;
}

static void shapes() {
    CUDA_ARRAY_DESCRIPTOR flat = {}, told = {};
    flat.Width = 40, flat.Height = 9, flat.Format = CU_AD_FORMAT_HALF, flat.NumChannels = 4;
    CUarray array = nullptr;
    OK("cuArrayCreate_v2", &array, (const CUDA_ARRAY_DESCRIPTOR *)&flat);
    REQUIRE(array);
    OK("cuArrayGetDescriptor_v2", &told, array);
    REQUIRE(told.Width == 40 && told.Height == 9 && told.Format == CU_AD_FORMAT_HALF && told.NumChannels == 4);
    CUDA_ARRAY3D_DESCRIPTOR more = {};
    OK("cuArray3DGetDescriptor_v2", &more, array);
    REQUIRE(more.Width == 40 && more.Height == 9 && more.Depth == 0 && more.Flags == 0);
    // It is not sparse, not mapped later, and has one plane.
    CUDA_ARRAY_SPARSE_PROPERTIES sparse;
    CUDA_ARRAY_MEMORY_REQUIREMENTS requirements;
    CUarray plane = nullptr;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuArrayGetSparseProperties", &sparse, array);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuArrayGetMemoryRequirements", &requirements, array, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuArrayGetPlane", &plane, array, 0u);
    OK("cuArrayDestroy", array);
    FAILS("cuArrayGetDescriptor_v2", &told, array);
    FAILS("cuArrayGetPlane", &plane, array, 0u);
}

// Lines of an array of one dimension.
static void lines() {
    const size_t bytes = 1024;
    CUarray one = array_of(bytes / 4, 0, 0, CU_AD_FORMAT_FLOAT, 1, 0), two = array_of(bytes / 4, 0, 0, CU_AD_FORMAT_FLOAT, 1, 0);
    Bytes expected = pattern(1, bytes), got(bytes, 0);
    OK("cuMemcpyHtoA_v2", one, (size_t)0, (const void *)expected.data(), bytes);
    OK("cuMemcpyAtoH_v2", (void *)got.data(), one, (size_t)0, bytes);
    REQUIRE(got == expected);
    OK("cuMemcpyAtoA_v2", two, (size_t)64, one, (size_t)128, (size_t)256);
    OK("cuMemcpyAtoD_v2", device, two, (size_t)64, (size_t)256);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), device, (size_t)256);
    REQUIRE(!std::memcmp(got.data(), expected.data() + 128, 256));
    OK("cuMemcpyDtoA_v2", two, (size_t)512, device, (size_t)128);
    OK("cuMemcpyAtoH_v2", (void *)got.data(), two, (size_t)512, (size_t)128);
    REQUIRE(!std::memcmp(got.data(), expected.data() + 128, 128));
    // In a stream, from and to pinned memory.
    unsigned char *pinned = nullptr;
    OK("cuMemAllocHost_v2", (void **)&pinned, 2 * bytes);
    expected = pattern(2, bytes);
    std::memcpy(pinned, expected.data(), bytes);
    std::memset(pinned + bytes, 0, bytes);
    OK("cuMemcpyHtoAAsync_v2", one, (size_t)0, (const void *)pinned, bytes, stream);
    OK("cuMemcpyAtoHAsync_v2", (void *)(pinned + bytes), one, (size_t)0, bytes, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(!std::memcmp(pinned + bytes, expected.data(), bytes));
    // Whole elements inside.
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemcpyHtoA_v2", one, (size_t)4, (const void *)pinned, bytes);
    OK("cuMemFreeHost", (void *)pinned);
    OK("cuArrayDestroy", one);
    OK("cuArrayDestroy", two);
}

// Rectangles, with rows that have gaps in the program's memory, large enough to travel in several pieces.
static void rectangles() {
    const size_t row = 1000 * 4, pitch = 4352, rows = 100;
    CUarray array = array_of(1000, rows, 0, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
    Bytes source = pattern(3, pitch * rows), packed(row * rows);
    for (size_t y = 0; y < rows; y++) std::memcpy(&packed[y * row], &source[y * pitch], row);
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST, copy.srcHost = source.data(), copy.srcPitch = pitch;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY, copy.dstArray = array;
    copy.WidthInBytes = row, copy.Height = rows;
    OK("cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&copy);
    REQUIRE(read(array, row, rows, 1) == packed);
    // A part of it, to rows with gaps: what is not the box's keeps its value.
    Bytes got(pitch * rows, 0x55);
    CUDA_MEMCPY2D back = {};
    back.srcMemoryType = CU_MEMORYTYPE_ARRAY, back.srcArray = array, back.srcXInBytes = 400, back.srcY = 7;
    back.dstMemoryType = CU_MEMORYTYPE_HOST, back.dstHost = got.data(), back.dstPitch = pitch;
    back.WidthInBytes = 1200, back.Height = 90;
    OK("cuMemcpy2DUnaligned_v2", (const CUDA_MEMCPY2D *)&back);
    for (size_t y = 0; y < rows; y++)
        for (size_t x = 0; x < pitch; x++) {
            bool inside = x < 1200 && y < 90;
            REQUIRE(got[y * pitch + x] == (inside ? packed[(y + 7) * row + 400 + x] : 0x55));
        }
    // To pinned memory in a stream, with gaps and without.
    unsigned char *pinned = nullptr;
    OK("cuMemAllocHost_v2", (void **)&pinned, pitch * rows);
    for (size_t to : {row, pitch}) {
        std::memset(pinned, 0x66, pitch * rows);
        back.srcXInBytes = 0, back.srcY = 0, back.WidthInBytes = row, back.Height = rows;
        back.dstHost = pinned, back.dstPitch = to;
        OK("cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *)&back, stream);
        OK("cuStreamSynchronize", stream);
        for (size_t y = 0; y < rows; y++) REQUIRE(!std::memcmp(pinned + y * to, &packed[y * row], row));
    }
    OK("cuMemFreeHost", (void *)pinned);
    // Outside of it nothing is copied.
    back.srcY = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&back);
    back.srcY = 0, back.srcXInBytes = 2, back.WidthInBytes = 4;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&back);
    OK("cuArrayDestroy", array);
}

// Boxes of arrays of three dimensions and of layers: from the host, through the device and another array, and back.
static void boxes(unsigned flags) {
    const size_t row = 24 * 8, rows = 10, slices = 5;
    CUarray one = array_of(24, rows, slices, CU_AD_FORMAT_SIGNED_INT16, 4, flags);
    CUarray two = array_of(24, rows, slices, CU_AD_FORMAT_SIGNED_INT16, 4, flags);
    Bytes source = pattern(4 + flags, row * rows * slices), blank(source.size(), 0);
    move(in_array(one), in_host(source, row, rows), row, rows, slices);
    move(in_array(two), in_host(blank, row, rows), row, rows, slices);
    REQUIRE(read(one, row, rows, slices) == source);
    const size_t width = 80, height = 4, depth = 3;
    CUDA_MEMCPY3D there = box(on_device(128, 6), in_array(one, 16, 2, 1), width, height, depth);
    CUDA_MEMCPY3D again = box(in_array(two, 40, 5, 2), on_device(128, 6), width, height, depth);
    OK("cuMemcpy3DAsync_v2", (const CUDA_MEMCPY3D *)&there, stream);
    OK("cuMemcpy3DAsync_v2", (const CUDA_MEMCPY3D *)&again, stream);
    OK("cuStreamSynchronize", stream);
    Bytes wanted = blank;
    for (size_t z = 0; z < depth; z++)
        for (size_t y = 0; y < height; y++)
            std::memcpy(&wanted[((z + 2) * rows + y + 5) * row + 40], &source[((z + 1) * rows + y + 2) * row + 16], width);
    REQUIRE(read(two, row, rows, slices) == wanted);
    // Between arrays.
    move(in_array(two, 0, 0, 4), in_array(one, 0, 0, 0), row, rows, 1);
    std::memcpy(&wanted[4 * rows * row], &source[0], rows * row);
    REQUIRE(read(two, row, rows, slices) == wanted);
    // In a graph, as often as it is launched.
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    CUgraphNode first = nullptr;
    OK("cuGraphCreate", &graph, 0u);
    CUDA_MEMCPY3D node = box(in_array(two), in_host(source, row, rows), row, rows, slices);
    CUcontext context = nullptr;
    OK("cuCtxGetCurrent", &context);
    OK("cuGraphAddMemcpyNode", &first, graph, (const CUgraphNode *)nullptr, (size_t)0, (const CUDA_MEMCPY3D *)&node, context);
    CUDA_MEMCPY3D told = {};
    OK("cuGraphMemcpyNodeGetParams", first, &told);
    REQUIRE(told.dstMemoryType == CU_MEMORYTYPE_ARRAY && told.dstArray == two);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    source[100] ^= 0xFF;
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(read(two, row, rows, slices) == source);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
    OK("cuArrayDestroy", one);
    OK("cuArrayDestroy", two);
}

static void levels() {
    CUDA_ARRAY3D_DESCRIPTOR shape = {};
    shape.Width = 64, shape.Height = 24, shape.Format = CU_AD_FORMAT_UNSIGNED_INT8, shape.NumChannels = 1;
    CUmipmappedArray mipmapped = nullptr;
    OK("cuMipmappedArrayCreate", &mipmapped, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape, 4u);
    REQUIRE(mipmapped);
    std::vector<CUarray> level(4, nullptr);
    for (unsigned i = 0; i < 4; i++) {
        OK("cuMipmappedArrayGetLevel", &level[i], mipmapped, i);
        CUDA_ARRAY3D_DESCRIPTOR told = {};
        OK("cuArray3DGetDescriptor_v2", &told, level[i]);
        REQUIRE(told.Width == 64u >> i && told.Height == 24u >> i && told.Depth == 0);
        Bytes bytes = pattern(10 + i, told.Width * told.Height);
        move(in_array(level[i]), in_host(bytes, told.Width, told.Height), told.Width, told.Height, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        size_t width = 64 >> i, height = 24 >> i;
        REQUIRE(read(level[i], width, height, 1) == pattern(10 + i, width * height));
    }
    CUarray none = nullptr;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMipmappedArrayGetLevel", &none, mipmapped, 4u);
    CUDA_ARRAY_SPARSE_PROPERTIES sparse;
    CUDA_ARRAY_MEMORY_REQUIREMENTS requirements;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMipmappedArrayGetSparseProperties", &sparse, mipmapped);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMipmappedArrayGetMemoryRequirements", &requirements, mipmapped, (CUdevice)0);
    OK("cuMipmappedArrayDestroy", mipmapped);
    FAILS("cuMipmappedArrayGetLevel", &none, mipmapped, 0u);
}

// What is destroyed gives its memory back.
static void memory_comes_back() {
    size_t before = 0, during = 0, after = 0, total = 0;
    OK("cuMemGetInfo_v2", &before, &total);
    CUarray array = array_of(4096, 2048, 0, CU_AD_FORMAT_FLOAT, 1, 0);
    OK("cuMemGetInfo_v2", &during, &total);
    REQUIRE(during + (32u << 20) <= before);
    OK("cuArrayDestroy", array);
    OK("cuMemGetInfo_v2", &after, &total);
    REQUIRE(after >= during + (32u << 20));
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    CUcontext context = nullptr;
    OK("cuDevicePrimaryCtxRetain", &context, 0);
    OK("cuCtxSetCurrent", context);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemAlloc_v2", &device, DEVICE_BYTES);
    shapes();
    lines();
    rectangles();
    boxes(0);
    boxes(CUDA_ARRAY3D_LAYERED);
    levels();
    memory_comes_back();
    return pass("shapes, lines, rectangles, boxes, layers, levels");
}
