// Memory: allocations, copies, fills, host memory, and what is told of an address. Each function is checked by the bytes that it moves.
#include "driver.h"

#include <atomic>
#include <thread>

const char *const PROGRAM = "surface_memory";

static const size_t BYTES = 4096;
static CUstream stream;
static CUdeviceptr first, second;

static std::vector<unsigned char> read(CUdeviceptr from, size_t bytes) {
    std::vector<unsigned char> got(bytes, 0xEE);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), from, bytes);
    return got;
}

static std::vector<unsigned char> pattern(unsigned seed, size_t bytes) {
    std::vector<unsigned char> made(bytes);
    for (size_t i = 0; i < bytes; i++) made[i] = (unsigned char)(seed * 37 + i * 11 + i / 256);
    return made;
}

static void write(CUdeviceptr to, const std::vector<unsigned char> &bytes) {
    OK("cuMemcpyHtoD_v2", to, (const void *)bytes.data(), bytes.size());
    // The stream of the asynchronous calls does not wait for the default one.
    OK("cuCtxSynchronize");
}

static void allocations() {
    size_t free_bytes = 0, total = 0, pitch = 0, size = 0;
    CUdeviceptr pitched = 0, base = 0;
    OK("cuMemAlloc_v2", &first, BYTES);
    OK("cuMemAlloc_v2", &second, BYTES);
    REQUIRE(first && second && first != second);
    OK("cuMemGetInfo_v2", &free_bytes, &total);
    REQUIRE(free_bytes > 0 && free_bytes <= total);
    OK("cuMemAllocPitch_v2", &pitched, &pitch, (size_t)100, (size_t)8, 4u);
    REQUIRE(pitched && pitch >= 100 && pitch % 16 == 0);
    OK("cuMemGetAddressRange_v2", &base, &size, first + 100);
    REQUIRE(base == first && size == BYTES);
    OK("cuMemFree_v2", pitched);
    FAILS("cuMemGetAddressRange_v2", &base, &size, pitched);
}

static void copies(unsigned char *pinned) {
    auto expected = pattern(1, BYTES);
    write(first, expected);
    REQUIRE(read(first, BYTES) == expected);
    expected = pattern(2, BYTES);
    write(first, expected);
    OK("cuMemcpyDtoD_v2", second, first, BYTES);
    REQUIRE(read(second, BYTES) == expected);
    expected = pattern(3, BYTES);
    std::memcpy(pinned, expected.data(), BYTES);
    OK("cuMemcpyHtoDAsync_v2", first, (const void *)pinned, BYTES, stream);
    OK("cuMemcpyDtoDAsync_v2", second, first, BYTES, stream);
    std::memset(pinned + BYTES, 0, BYTES);
    OK("cuMemcpyDtoHAsync_v2", (void *)(pinned + BYTES), second, BYTES, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(read(first, BYTES) == expected && read(second, BYTES) == expected);
    REQUIRE(!std::memcmp(pinned + BYTES, expected.data(), BYTES));
    // The forms that find out for themselves what the addresses are.
    expected = pattern(4, BYTES);
    write(first, expected);
    OK("cuMemcpy", second, first, BYTES);
    REQUIRE(read(second, BYTES) == expected);
    expected = pattern(5, BYTES);
    write(first, expected);
    OK("cuMemcpyAsync", second, first, BYTES, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(read(second, BYTES) == expected);
}

// All addresses are of one space. A program may call device memory the host's, and a copy goes by what the memory is.
static void copies_of_device_memory_called_the_hosts() {
    void *const called = (void *)second;
    auto expected = pattern(40, BYTES);
    auto moved = [&](unsigned seed, CUdeviceptr from) {
        expected = pattern(seed, BYTES);
        write(from, expected);
    };
    moved(40, first);
    OK("cuMemcpyDtoHAsync_v2", called, first, BYTES, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(read(second, BYTES) == expected);
    moved(41, second);
    OK("cuMemcpyHtoDAsync_v2", first, (const void *)called, BYTES, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(read(first, BYTES) == expected);
    moved(42, first);
    OK("cuMemcpyDtoH_v2", called, first, BYTES);
    REQUIRE(read(second, BYTES) == expected);
    moved(43, second);
    OK("cuMemcpyHtoD_v2", first, (const void *)called, BYTES);
    REQUIRE(read(first, BYTES) == expected);
    moved(44, first);
    CUDA_MEMCPY2D rows = {};
    rows.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    rows.srcDevice = first;
    rows.dstMemoryType = CU_MEMORYTYPE_HOST;
    rows.dstHost = called;
    rows.srcPitch = rows.dstPitch = rows.WidthInBytes = 64;
    rows.Height = BYTES / 64;
    OK("cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&rows);
    REQUIRE(read(second, BYTES) == expected);
}

// A rectangle of 100 bytes by 8 rows out of host memory with rows of 128 bytes, to rows of 256 bytes on the device.
static void rectangle(const char *name, unsigned seed) {
    auto rows = pattern(seed, 128 * 8);
    OK("cuMemsetD8_v2", second, (unsigned char)0x55, BYTES);
    OK("cuCtxSynchronize");
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = rows.data();
    copy.srcPitch = 128;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = second;
    copy.dstPitch = 256;
    copy.WidthInBytes = 100;
    copy.Height = 8;
    if (std::strstr(name, "Async")) {
        OK(name, (const CUDA_MEMCPY2D *)&copy, stream);
        OK("cuStreamSynchronize", stream);
    } else {
        OK(name, (const CUDA_MEMCPY2D *)&copy);
    }
    auto got = read(second, 256 * 8);
    for (size_t row = 0; row < 8; row++)
        for (size_t x = 0; x < 256; x++) REQUIRE(got[row * 256 + x] == (x < 100 ? rows[row * 128 + x] : 0x55));
}

// One end of a box: memory of a kind with rows and slices, and where the box begins in it.
struct End {
    CUmemorytype type;
    void *host;
    CUdeviceptr device;
    size_t pitch, rows, x, y, z;
    // Where a byte of the box lies.
    size_t at(size_t byte, size_t row, size_t slice) const {
        return ((z + slice) * rows + y + row) * pitch + x + byte;
    }
};

static CUDA_MEMCPY3D box(const End &to, const End &from, size_t width, size_t height, size_t depth) {
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = from.type, copy.dstMemoryType = to.type;
    copy.srcHost = from.host, copy.dstHost = to.host;
    copy.srcDevice = from.device, copy.dstDevice = to.device;
    copy.srcPitch = from.pitch, copy.dstPitch = to.pitch;
    copy.srcHeight = from.rows, copy.dstHeight = to.rows;
    copy.srcXInBytes = from.x, copy.srcY = from.y, copy.srcZ = from.z;
    copy.dstXInBytes = to.x, copy.dstY = to.y, copy.dstZ = to.z;
    copy.WidthInBytes = width, copy.Height = height, copy.Depth = depth;
    return copy;
}

// The same box from the host to the device, within the device, and back; what is not in the box keeps its value.
static void volume(const char *name, unsigned char *pinned, unsigned seed) {
    const size_t width = 20, height = 3, depth = 2;
    bool later = std::strstr(name, "Async");
    auto run = [&](const End &to, const End &from) {
        CUDA_MEMCPY3D copy = box(to, from, width, height, depth);
        if (later) {
            OK(name, (const CUDA_MEMCPY3D *)&copy, stream);
        } else {
            OK(name, (const CUDA_MEMCPY3D *)&copy);
        }
    };
    auto expect = [&](const unsigned char *got, size_t bytes, const End &end, const unsigned char *source, const End &of) {
        std::vector<unsigned char> wanted(bytes, 0x55);
        for (size_t slice = 0; slice < depth; slice++)
            for (size_t row = 0; row < height; row++)
                for (size_t x = 0; x < width; x++) wanted[end.at(x, row, slice)] = source[of.at(x, row, slice)];
        REQUIRE(!std::memcmp(got, wanted.data(), bytes));
    };
    auto bytes = pattern(seed, BYTES);
    std::vector<unsigned char> back(BYTES, 0x55);
    for (CUdeviceptr place : {first, second}) OK("cuMemsetD8_v2", place, (unsigned char)0x55, BYTES);
    OK("cuCtxSynchronize");
    const End source = {CU_MEMORYTYPE_HOST, bytes.data(), 0, 32, 5, 3, 2, 1};
    const End there = {CU_MEMORYTYPE_DEVICE, nullptr, first, 64, 8, 4, 1, 1};
    // Rows that touch, and slices with a gap.
    const End moved = {CU_MEMORYTYPE_UNIFIED, nullptr, second, width, 4, 0, 0, 3};
    const End home = {CU_MEMORYTYPE_HOST, back.data(), 0, 40, 6, 7, 0, 2};
    run(there, source);
    run(moved, there);
    run(home, moved);
    if (later) OK("cuStreamSynchronize", stream);
    OK("cuCtxSynchronize");
    expect(read(first, BYTES).data(), BYTES, there, bytes.data(), source);
    expect(read(second, BYTES).data(), BYTES, moved, bytes.data(), source);
    expect(back.data(), BYTES, home, bytes.data(), source);
    // The same out of and into pinned memory, without gaps on either side.
    unsigned char *from = pinned, *to = from + BYTES;
    std::memcpy(from, bytes.data(), BYTES);
    std::memset(to, 0x55, BYTES);
    const End dense = {CU_MEMORYTYPE_HOST, from, 0, 0, 0, 0, 0, 0}, into = {CU_MEMORYTYPE_HOST, to, 0, 0, 0, 0, 0, 0};
    const End between = {CU_MEMORYTYPE_DEVICE, nullptr, first, width, height, 0, 0, 0};
    run(between, dense);
    run(into, between);
    if (later) OK("cuStreamSynchronize", stream);
    OK("cuCtxSynchronize");
    std::vector<unsigned char> wanted(BYTES, 0x55);
    std::memcpy(wanted.data(), from, width * height * depth);
    REQUIRE(!std::memcmp(to, wanted.data(), BYTES));
    // Rows that overlap.
    End narrow = there;
    narrow.pitch = width - 1;
    CUDA_MEMCPY3D wrong = box(narrow, source, width, height, depth);
    if (later) {
        FAILS(name, (const CUDA_MEMCPY3D *)&wrong, stream);
    } else {
        FAILS(name, (const CUDA_MEMCPY3D *)&wrong);
    }
}

// One fill of 16 elements, by rows of 8 if it is two-dimensional; everything else keeps its value.
template <typename Element> static void fill(const char *name, Element value) {
    OK("cuMemcpyDtoD_v2", first, second, BYTES);
    auto before = read(first, BYTES);
    bool rows = std::strstr(name, "D2D"), later = std::strstr(name, "Async");
    const size_t pitch = 256, width = rows ? 8 : 16, height = rows ? 2 : 1;
    if (rows && later)
        OK(name, first, pitch, value, width, height, stream);
    else if (rows)
        OK(name, first, pitch, value, width, height);
    else if (later)
        OK(name, first, value, width, stream);
    else
        OK(name, first, value, width);
    OK("cuCtxSynchronize");
    auto got = read(first, BYTES);
    for (size_t row = 0; row < height; row++)
        for (size_t x = 0; x < width; x++)
            std::memcpy(&before[row * pitch + x * sizeof value], &value, sizeof value);
    REQUIRE(got == before);
}

static void fills() {
    write(second, pattern(9, BYTES));
    for (const char *name : {"cuMemsetD8_v2", "cuMemsetD8Async", "cuMemsetD2D8_v2", "cuMemsetD2D8Async"})
        fill<unsigned char>(name, 0xA5);
    for (const char *name : {"cuMemsetD16_v2", "cuMemsetD16Async", "cuMemsetD2D16_v2", "cuMemsetD2D16Async"})
        fill<unsigned short>(name, 0xA5C3);
    for (const char *name : {"cuMemsetD32_v2", "cuMemsetD32Async", "cuMemsetD2D32_v2", "cuMemsetD2D32Async"})
        fill<unsigned>(name, 0xA5C3F00Du);
}

// What the program sees itself is filled when a synchronous call returns; nothing is waited for here.
static void fill_seen(CUdeviceptr at) {
    const unsigned char *bytes = (const unsigned char *)(uintptr_t)at;
    const size_t length = 1 << 20;
    OK("cuMemsetD8_v2", at, (unsigned char)0xA1, length);
    REQUIRE(bytes[0] == 0xA1 && bytes[length - 1] == 0xA1);
    OK("cuMemsetD16_v2", at, (unsigned short)0xA2A2, length / 2);
    REQUIRE(bytes[0] == 0xA2 && bytes[length - 1] == 0xA2);
    OK("cuMemsetD32_v2", at, 0xA3A3A3A3u, length / 4);
    REQUIRE(bytes[0] == 0xA3 && bytes[length - 1] == 0xA3);
    OK("cuMemsetD2D8_v2", at, length / 2, (unsigned char)0xA4, length / 4, (size_t)2);
    REQUIRE(bytes[length / 4 - 1] == 0xA4 && bytes[length / 4] == 0xA3);
    REQUIRE(bytes[3 * length / 4 - 1] == 0xA4 && bytes[length - 1] == 0xA3);
}

static void fills_of_seen_memory() {
    void *pinned = nullptr;
    CUdeviceptr managed = 0, mapped = 0, base = 0;
    size_t size = 0;
    OK("cuMemHostAlloc", &pinned, (size_t)1 << 20, (unsigned)CU_MEMHOSTALLOC_DEVICEMAP);
    OK("cuMemHostGetDevicePointer_v2", &mapped, pinned, 0u);
    REQUIRE(mapped == (CUdeviceptr)(uintptr_t)pinned);
    // Pinned memory is an allocation of the device's addresses.
    OK("cuMemGetAddressRange_v2", &base, &size, mapped + 100);
    REQUIRE(base == mapped && size == 1 << 20);
    fill_seen(mapped);
    OK("cuMemFreeHost", pinned);
    FAILS("cuMemGetAddressRange_v2", &base, &size, mapped);
    OK("cuMemAllocManaged", &managed, (size_t)1 << 20, (unsigned)CU_MEM_ATTACH_GLOBAL);
    fill_seen(managed);
    OK("cuMemFree_v2", managed);
}

static void host_memory() {
    void *plain = nullptr, *flagged = nullptr;
    unsigned flags = 77;
    OK("cuMemAllocHost_v2", &plain, BYTES);
    REQUIRE(plain);
    std::memset(plain, 1, BYTES);
    OK("cuMemHostAlloc", &flagged, BYTES, (unsigned)(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
    REQUIRE(flagged);
    std::memset(flagged, 1, BYTES);
    OK("cuMemHostGetFlags", &flags, flagged);
    REQUIRE((flags & CU_MEMHOSTALLOC_PORTABLE) && (flags & CU_MEMHOSTALLOC_DEVICEMAP));
    CUdeviceptr mapped = 0;
    OK("cuMemHostGetDevicePointer_v2", &mapped, flagged, 0u);
    REQUIRE(mapped);
    OK("cuMemFreeHost", plain);
    FAILS("cuMemHostGetFlags", &flags, plain);
    OK("cuMemFreeHost", flagged);
    void *own = std::aligned_alloc(4096, 2 * BYTES);
    std::memset(own, 0, 2 * BYTES);
    FAILS("cuMemHostGetFlags", &flags, own);
    OK("cuMemHostRegister_v2", own, 2 * BYTES, 0u);
    OK("cuMemHostGetFlags", &flags, own);
    OK("cuMemHostUnregister", own);
    FAILS("cuMemHostGetFlags", &flags, own);
    std::free(own);
}

static void addresses(unsigned char *pinned) {
    unsigned type = 77;
    CUdeviceptr start = 0;
    size_t size = 0;
    OK("cuPointerGetAttribute", (void *)&type, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, first + 8);
    REQUIRE(type == CU_MEMORYTYPE_DEVICE);
    OK("cuPointerGetAttribute", (void *)&type, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)pinned);
    REQUIRE(type == CU_MEMORYTYPE_HOST);
    CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
    void *places[] = {&start, &size};
    OK("cuPointerGetAttributes", 2u, (CUpointer_attribute *)wanted, (void **)places, first + 8);
    REQUIRE(start == first && size == BYTES);
    // cudart reads a word that it has not cleared.
    unsigned managed = ~0u;
    OK("cuPointerGetAttribute", (void *)&managed, (int)CU_POINTER_ATTRIBUTE_IS_MANAGED, (CUdeviceptr)(uintptr_t)pinned);
    REQUIRE(managed == 0);
    CUpointer_attribute is_managed = CU_POINTER_ATTRIBUTE_IS_MANAGED;
    void *place = &managed;
    for (CUdeviceptr at : {first, (CUdeviceptr)(uintptr_t)&managed}) {
        managed = ~0u;
        OK("cuPointerGetAttributes", 1u, &is_managed, &place, at);
        REQUIRE(managed == 0);
    }
    unsigned yes = 1;
    OK("cuPointerSetAttribute", (const void *)&yes, (int)CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, first);
    FAILS("cuPointerSetAttribute", (const void *)&yes, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, first);
}

// Addresses are reserved, memory is made, and mapped there in two pieces: then it is memory like any other, also across the seam.
static void virtual_memory() {
    int supported = 0;
    OK("cuDeviceGetAttribute", &supported, (int)CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, (CUdevice)0);
    REQUIRE(supported == 1);
    CUmemAllocationProp wanted{};
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    size_t piece = 0, free_before = 0, free_now = 0, total = 0;
    OK("cuMemGetAllocationGranularity", &piece, (const CUmemAllocationProp *)&wanted, (int)CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    REQUIRE(piece > 0 && piece % 65536 == 0);
    OK("cuMemGetInfo_v2", &free_before, &total);
    CUdeviceptr start = 0;
    OK("cuMemAddressReserve", &start, 4 * piece, (size_t)0, (CUdeviceptr)0, 0ull);
    REQUIRE(start && start % piece == 0);
    CUmemGenericAllocationHandle pieces[2] = {0, 0}, again = 0;
    for (auto &handle : pieces) {
        OK("cuMemCreate", &handle, piece, (const CUmemAllocationProp *)&wanted, 0ull);
        REQUIRE(handle);
    }
    REQUIRE(pieces[0] != pieces[1]);
    OK("cuMemGetInfo_v2", &free_now, &total);
    REQUIRE(free_now + 2 * piece <= free_before);
    CUmemAllocationProp told{};
    OK("cuMemGetAllocationPropertiesFromHandle", &told, pieces[1]);
    REQUIRE(told.type == wanted.type && told.location.type == wanted.location.type && told.location.id == 0);
    for (int i : {0, 1}) OK("cuMemMap", start + i * piece, piece, (size_t)0, pieces[i], 0ull);
    FAILS("cuMemMap", start + piece, piece, (size_t)0, pieces[0], 0ull);
    // Nobody may use it yet.
    unsigned long long flags = 77;
    CUmemLocation here = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    OK("cuMemGetAccess", &flags, (const CUmemLocation *)&here, start);
    REQUIRE(flags == CU_MEM_ACCESS_FLAGS_PROT_NONE);
    FAILS("cuMemsetD8_v2", start, (unsigned char)1, (size_t)1);
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    OK("cuMemSetAccess", start, 2 * piece, (const CUmemAccessDesc *)&access, (size_t)1);
    OK("cuMemGetAccess", &flags, (const CUmemLocation *)&here, start + piece);
    REQUIRE(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    std::vector<unsigned char> bytes(2 * piece), back(2 * piece, 1);
    OK("cuMemcpyDtoH_v2", (void *)back.data(), start, back.size());
    REQUIRE(back == bytes);
    for (size_t i = 0; i < bytes.size(); i++) bytes[i] = (unsigned char)(i * 7 + i / 4096);
    OK("cuMemcpyHtoD_v2", start, (const void *)bytes.data(), bytes.size());
    OK("cuMemsetD8_v2", start + piece - 100, (unsigned char)9, (size_t)200);
    std::memset(&bytes[piece - 100], 9, 200);
    OK("cuMemcpyDtoH_v2", (void *)back.data(), start, back.size());
    REQUIRE(back == bytes);
    FAILS("cuMemsetD8_v2", start + 2 * piece - 1, (unsigned char)9, (size_t)2);
    unsigned type = 77;
    OK("cuPointerGetAttribute", (void *)&type, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, start + piece + 5);
    REQUIRE(type == CU_MEMORYTYPE_DEVICE);
    FAILS("cuMemFree_v2", start);
    // A handle from an address: the memory outlives the first handle, and the mapping.
    if (has("cuMemRetainAllocationHandle")) {
        OK("cuMemRetainAllocationHandle", &again, (void *)(uintptr_t)(start + piece + 5));
        REQUIRE(again == pieces[1]);
        OK("cuMemRelease", again);
    }
    FAILS("cuMemAddressFree", start, 4 * piece);
    OK("cuMemUnmap", start, 2 * piece);
    FAILS("cuMemsetD8_v2", start, (unsigned char)1, (size_t)1);
    OK("cuMemMap", start + 3 * piece, piece, (size_t)0, pieces[1], 0ull);
    OK("cuMemSetAccess", start + 3 * piece, piece, (const CUmemAccessDesc *)&access, (size_t)1);
    OK("cuMemcpyDtoH_v2", (void *)back.data(), start + 3 * piece, piece);
    REQUIRE(!std::memcmp(back.data(), &bytes[piece], piece));
    OK("cuMemUnmap", start + 3 * piece, piece);
    for (auto handle : pieces) OK("cuMemRelease", handle);
    FAILS("cuMemRelease", pieces[0]);
    OK("cuMemAddressFree", start, 4 * piece);
    FAILS("cuMemAddressFree", start, 4 * piece);
    OK("cuMemGetInfo_v2", &free_now, &total);
    REQUIRE(free_now >= free_before);
}

template <typename Value> static Value of_pool(CUmemoryPool pool, CUmemPool_attribute attribute) {
    Value value = (Value)77;
    OK("cuMemPoolGetAttribute", pool, (int)attribute, (void *)&value);
    return value;
}

// Memory in the order of a stream, of the pool that a device has, and of one that the program makes.
static void pools() {
    if (!has("cuMemAllocAsync")) return;
    int supported = 0;
    OK("cuDeviceGetAttribute", &supported, (int)CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, (CUdevice)0);
    REQUIRE(supported == 1);
    CUmemoryPool own = nullptr, first = nullptr, other = nullptr;
    CUmemLocation here = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    OK("cuDeviceGetDefaultMemPool", &first, (CUdevice)0);
    REQUIRE(first);
    OK("cuDeviceGetMemPool", &other, (CUdevice)0);
    REQUIRE(other == first);
    other = nullptr;
    OK("cuMemGetDefaultMemPool", &other, &here, (int)CU_MEM_ALLOCATION_TYPE_PINNED);
    REQUIRE(other == first);
    CUmemPoolProps wanted{};
    wanted.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location = here;
    OK("cuMemPoolCreate", &own, (const CUmemPoolProps *)&wanted);
    REQUIRE(own && own != first);
    for (const char *set : {"cuDeviceSetMemPool", "cuMemSetMemPool"}) {
        bool by_device = !std::strcmp(set, "cuDeviceSetMemPool");
        if (by_device) OK(set, (CUdevice)0, own);
        else OK(set, &here, (int)CU_MEM_ALLOCATION_TYPE_PINNED, own);
        other = nullptr;
        OK("cuMemGetMemPool", &other, &here, (int)CU_MEM_ALLOCATION_TYPE_PINNED);
        REQUIRE(other == own);
        OK("cuDeviceSetMemPool", (CUdevice)0, first);
    }
    // What is freed is kept up to the threshold.
    cuuint64_t threshold = 64 << 20;
    OK("cuMemPoolSetAttribute", own, (int)CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (void *)&threshold);
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) == threshold);
    REQUIRE(of_pool<int>(own, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC) == 1);
    CUmemAccess_flags access = (CUmemAccess_flags)77;
    OK("cuMemPoolGetAccess", &access, own, &here);
    REQUIRE(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    CUmemAccessDesc granted = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    OK("cuMemPoolSetAccess", own, (const CUmemAccessDesc *)&granted, (size_t)1);
    granted.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    FAILS("cuMemPoolSetAccess", own, (const CUmemAccessDesc *)&granted, (size_t)1);
    CUdeviceptr memory[3] = {0, 0, 0};
    const size_t size = 4 << 20;
    for (auto &piece : memory) {
        OK("cuMemAllocFromPoolAsync", &piece, size, own, stream);
        REQUIRE(piece);
        OK("cuMemsetD8Async", piece, (unsigned char)(&piece - memory + 1), size, stream);
    }
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 3 * size);
    CUmemoryPool of = nullptr;
    OK("cuPointerGetAttribute", (void *)&of, (int)CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, memory[1]);
    REQUIRE(of == own);
    std::vector<unsigned char> back(size);
    for (int i : {0, 1, 2}) {
        OK("cuMemcpyDtoHAsync_v2", (void *)back.data(), memory[i], size, stream);
        OK("cuStreamSynchronize", stream);
        REQUIRE(back[0] == i + 1 && back[size - 1] == i + 1);
    }
    OK("cuMemFreeAsync", memory[0], stream);
    FAILS("cuMemFreeAsync", memory[0], stream);
    FAILS("cuMemFree_v2", memory[0]);
    // The same stream has it again at once; what was put there is after what used it before.
    CUdeviceptr again = 0;
    OK("cuMemAllocFromPoolAsync", &again, size, own, stream);
    REQUIRE(again == memory[0]);
    // What is freed is not used any more, whenever the stream comes to it.
    std::atomic<bool> may_go_on(false);
    CUhostFn wait = [](void *flag) {
        while (!static_cast<std::atomic<bool> *>(flag)->load())
            std::this_thread::yield();
    };
    OK("cuLaunchHostFunc", stream, wait, (void *)&may_go_on);
    OK("cuMemFreeAsync", memory[1], stream);
    cuuint64_t used = of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    may_go_on = true;
    REQUIRE(used == 2 * size);
    OK("cuMemFree_v2", memory[2]);
    OK("cuMemFreeAsync", again, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 0);
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 3 * size);
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 2 * size);
    size_t free_before = 0, free_after = 0, total = 0;
    OK("cuMemGetInfo_v2", &free_before, &total);
    OK("cuMemPoolTrimTo", own, (size_t)0);
    REQUIRE(of_pool<cuuint64_t>(own, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);
    OK("cuMemGetInfo_v2", &free_after, &total);
    REQUIRE(free_after >= free_before + 2 * size);
    // The device's own pool keeps nothing beyond the next wait.
    OK("cuMemAllocAsync", &again, size, stream);
    REQUIRE(again);
    OK("cuMemsetD32Async", again, 7u, size / 4, stream);
    OK("cuMemcpyDtoHAsync_v2", (void *)back.data(), again, size, stream);
    OK("cuMemFreeAsync", again, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(back[0] == 7 && back[size - 4] == 7);
    REQUIRE(of_pool<cuuint64_t>(first, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 0);
    FAILS("cuMemPoolDestroy", first);
    OK("cuMemPoolDestroy", own);
    FAILS("cuMemPoolTrimTo", own, (size_t)0);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUcontext context;
    void *pinned = nullptr;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemHostAlloc", &pinned, 2 * BYTES, 0u);
    REQUIRE(pinned);
    allocations();
    copies((unsigned char *)pinned);
    copies_of_device_memory_called_the_hosts();
    rectangle("cuMemcpy2D_v2", 6);
    rectangle("cuMemcpy2DUnaligned_v2", 7);
    rectangle("cuMemcpy2DAsync_v2", 8);
    volume("cuMemcpy3D_v2", (unsigned char *)pinned, 9);
    volume("cuMemcpy3DAsync_v2", (unsigned char *)pinned, 10);
    fills();
    fills_of_seen_memory();
    host_memory();
    addresses((unsigned char *)pinned);
    virtual_memory();
    pools();
    return pass("allocations, copies, fills, host memory, addresses");
}
