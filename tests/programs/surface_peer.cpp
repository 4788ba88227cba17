// Two devices: what each can do with the other's memory, copies between contexts, and batches of copies. Each function is checked by the bytes
// that it moves, and access by what a kernel then reads, or is refused.
#include "driver.h"

const char *const PROGRAM = "surface_peer";

static const size_t BYTES = 64 << 10;
// A context on each device, with memory and a stream.
static CUcontext contexts[2];
static CUdeviceptr memory[2], other[2];
static CUstream streams[2];

static void use(int device) { OK("cuCtxSetCurrent", contexts[device]); }

static std::vector<unsigned char> pattern(unsigned seed, size_t bytes = BYTES) {
    std::vector<unsigned char> made(bytes);
    for (size_t i = 0; i < bytes; i++) made[i] = (unsigned char)(seed * 37 + i * 11 + i / 256);
    return made;
}

static void write(int device, CUdeviceptr to, const std::vector<unsigned char> &bytes) {
    use(device);
    OK("cuMemcpyHtoD_v2", to, (const void *)bytes.data(), bytes.size());
    OK("cuCtxSynchronize");
}

static std::vector<unsigned char> read(int device, CUdeviceptr from, size_t bytes = BYTES) {
    std::vector<unsigned char> got(bytes, 0xEE);
    use(device);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), from, bytes);
    return got;
}

static CUfunction function_in(CUmodule *module) {
    CUfunction function;
    OK("cuModuleLoadData", module, (const void *)PTX);
    OK("cuModuleGetFunction", &function, *module, "axpy");
    return function;
}

// out[i] = in[i] * 3 + 5, in the current context; the result of the wait for it.
static CUresult multiply(CUfunction function, CUdeviceptr out, CUdeviceptr in, unsigned count) {
    unsigned factor = 3;
    void *parameters[] = {&out, &in, &count, &factor};
    OK("cuLaunchKernel", function, (count + 127) / 128, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters,
       (void **)nullptr);
    return call("cuCtxSynchronize");
}

static void devices() {
    int count = 0, value = -1;
    OK("cuDeviceGetCount", &count);
    if (count != 2) fail(__LINE__, "this program needs two devices", count);
    OK("cuDeviceCanAccessPeer", &value, (CUdevice)0, (CUdevice)1);
    REQUIRE(value == 1);
    OK("cuDeviceCanAccessPeer", &value, (CUdevice)1, (CUdevice)1);
    REQUIRE(value == 0);
    value = -1;
    OK("cuDeviceGetP2PAttribute", &value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, (CUdevice)1, (CUdevice)0);
    REQUIRE(value == 1);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuDeviceGetP2PAttribute", &value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, (CUdevice)1,
          (CUdevice)1);
    // What the link does of atomic operations by itself: nothing, where it does none.
    OK("cuDeviceGetP2PAttribute", &value, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, (CUdevice)0, (CUdevice)1);
    const unsigned operations[] = {CU_ATOMIC_OPERATION_INTEGER_ADD, CU_ATOMIC_OPERATION_CAS}, unknown = 999;
    unsigned capabilities[] = {77u << 8, 77u << 8};
    OK("cuDeviceGetP2PAtomicCapabilities", capabilities, operations, 2u, (CUdevice)0, (CUdevice)1);
    for (unsigned capability : capabilities)
        REQUIRE(capability < 1u << 7 && ((capability & CU_ATOMIC_CAPABILITY_SCALAR_32) != 0) == (value == 1));
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuDeviceGetP2PAtomicCapabilities", capabilities, &unknown, 1u, (CUdevice)0, (CUdevice)1);
    for (int device = 0; device < 2; device++) {
        OK("cuCtxCreate_v2", &contexts[device], 0u, (CUdevice)device);
        OK("cuMemAlloc_v2", &memory[device], BYTES);
        // Beyond what is cut out of a chunk.
        OK("cuMemAlloc_v2", &other[device], (size_t)4 << 20);
        OK("cuStreamCreate", &streams[device], (unsigned)CU_STREAM_NON_BLOCKING);
    }
}

// No access is needed for them.
static void copies() {
    auto expected = pattern(1);
    write(0, memory[0], expected);
    OK("cuMemcpyPeer", memory[1], contexts[1], memory[0], contexts[0], BYTES);
    OK("cuCtxSynchronize");
    REQUIRE(read(1, memory[1]) == expected);
    expected = pattern(2);
    write(1, other[1], expected);
    // Neither end is on the device of the stream's context.
    use(0);
    OK("cuMemcpyPeerAsync", memory[1], contexts[1], other[1], contexts[1], BYTES, streams[0]);
    OK("cuMemcpyPeerAsync", other[0], contexts[0], memory[1], contexts[1], BYTES, streams[0]);
    OK("cuStreamSynchronize", streams[0]);
    REQUIRE(read(0, other[0]) == expected);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuMemcpyPeer", memory[1], (CUcontext) nullptr, memory[0], contexts[0], BYTES);
    // The plain forms find out for themselves where memory is.
    expected = pattern(3);
    write(0, memory[0], expected);
    OK("cuMemcpyAsync", memory[1], memory[0], BYTES, streams[0]);
    OK("cuStreamSynchronize", streams[0]);
    REQUIRE(read(1, memory[1]) == expected);
}

// 20 bytes by 3 rows by 2 slices, out of rows of 64 bytes, into rows of 256.
static void boxes(const char *name, unsigned seed) {
    auto source = pattern(seed);
    write(0, memory[0], source);
    write(1, memory[1], std::vector<unsigned char>(BYTES, 0x55));
    CUDA_MEMCPY3D_PEER copy = {};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = memory[0], copy.srcContext = contexts[0], copy.srcPitch = 64, copy.srcHeight = 4, copy.srcY = 1;
    copy.dstDevice = memory[1], copy.dstContext = contexts[1], copy.dstPitch = 256, copy.dstHeight = 3, copy.dstXInBytes = 7;
    copy.WidthInBytes = 20, copy.Height = 3, copy.Depth = 2;
    use(1);
    if (std::strstr(name, "Async")) {
        OK(name, (const CUDA_MEMCPY3D_PEER *)&copy, streams[1]);
        OK("cuStreamSynchronize", streams[1]);
    } else {
        OK(name, (const CUDA_MEMCPY3D_PEER *)&copy);
    }
    std::vector<unsigned char> wanted(BYTES, 0x55);
    for (size_t slice = 0; slice < 2; slice++)
        for (size_t row = 0; row < 3; row++)
            for (size_t x = 0; x < 20; x++)
                wanted[(slice * 3 + row) * 256 + 7 + x] = source[(slice * 4 + 1 + row) * 64 + x];
    REQUIRE(read(1, memory[1]) == wanted);
    copy.srcContext = nullptr;
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuMemcpy3DPeer", (const CUDA_MEMCPY3D_PEER *)&copy);
}

static CUarray array_on(int device, size_t width, size_t height) {
    CUDA_ARRAY_DESCRIPTOR shape = {};
    shape.Width = width, shape.Height = height, shape.Format = CU_AD_FORMAT_UNSIGNED_INT32, shape.NumChannels = 1;
    CUarray array = nullptr;
    use(device);
    OK("cuArrayCreate_v2", &array, (const CUDA_ARRAY_DESCRIPTOR *)&shape);
    return array;
}

static CUDA_MEMCPY3D_PEER rows_of(size_t width, size_t height) {
    CUDA_MEMCPY3D_PEER copy = {};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcPitch = copy.dstPitch = copy.WidthInBytes = width, copy.Height = height, copy.Depth = 1;
    return copy;
}

// Arrays of both contexts in copies of either, and from and to each one's memory. An array says itself whose it is.
static void arrays() {
    const size_t row = 1024, rows = 100, bytes = row * rows;
    auto expected = pattern(60, bytes);
    std::vector<unsigned char> got(bytes, 0xEE);
    CUarray array[2] = {array_on(0, row / 4, rows), array_on(1, row / 4, rows)};
    auto from = rows_of(row, rows), across = from, back = from;
    from.srcMemoryType = back.dstMemoryType = CU_MEMORYTYPE_HOST;
    from.srcHost = expected.data(), from.dstArray = array[0];
    across.srcArray = array[0], across.dstArray = array[1];
    back.srcArray = array[1], back.dstHost = got.data();
    // From one context, to the other's array; each of the rest in the context that has nothing to do with one of its ends.
    use(1);
    OK("cuMemcpy3DPeer", (const CUDA_MEMCPY3D_PEER *)&from);
    OK("cuMemcpy3DPeerAsync", (const CUDA_MEMCPY3D_PEER *)&across, streams[1]);
    OK("cuStreamSynchronize", streams[1]);
    use(0);
    OK("cuMemcpy3DPeer", (const CUDA_MEMCPY3D_PEER *)&back);
    REQUIRE(got == expected);
    // Rows with gaps.
    std::vector<unsigned char> wide(bytes * 2, 0x55);
    back.dstHost = wide.data(), back.dstPitch = row * 2;
    OK("cuMemcpy3DPeer", (const CUDA_MEMCPY3D_PEER *)&back);
    for (size_t y = 0; y < rows; y++) {
        REQUIRE(!std::memcmp(&wide[y * row * 2], &expected[y * row], row));
        REQUIRE(wide[y * row * 2 + row] == 0x55);
    }
    // Memory of one device and an array of the other, in either's context.
    const size_t few = BYTES / row;
    auto other = pattern(61);
    write(1, memory[1], other);
    auto into = rows_of(row, few), out = into;
    into.srcMemoryType = out.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    into.srcDevice = memory[1], into.srcContext = contexts[1], into.dstArray = array[0];
    out.srcArray = array[0], out.dstDevice = memory[1], out.dstContext = contexts[1];
    for (int device : {0, 1}) {
        use(device);
        OK("cuMemcpy3DPeerAsync", (const CUDA_MEMCPY3D_PEER *)&into, streams[device]);
        OK("cuMemsetD8Async", memory[1], (unsigned char)0, BYTES, streams[device]);
        OK("cuMemcpy3DPeerAsync", (const CUDA_MEMCPY3D_PEER *)&out, streams[device]);
        OK("cuStreamSynchronize", streams[device]);
        REQUIRE(read(1, memory[1]) == other);
    }
    into.srcContext = nullptr;
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuMemcpy3DPeer", (const CUDA_MEMCPY3D_PEER *)&into);
    OK("cuArrayDestroy", array[0]);
    OK("cuArrayDestroy", array[1]);
    for (int device : {0, 1}) {
        use(device);
        OK("cuCtxSynchronize");
    }
}

// A graph that copies from one device to the other.
static void captured() {
    CUgraph graph;
    CUgraphExec exec;
    use(0);
    OK("cuStreamBeginCapture_v2", streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK("cuMemcpyPeerAsync", memory[1], contexts[1], memory[0], contexts[0], BYTES, streams[0]);
    OK("cuStreamEndCapture", streams[0], &graph);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    for (unsigned seed = 20; seed < 22; seed++) {
        auto expected = pattern(seed);
        write(0, memory[0], expected);
        OK("cuGraphLaunch", exec, streams[0]);
        OK("cuStreamSynchronize", streams[0]);
        REQUIRE(read(1, memory[1]) == expected);
    }
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
}

static CUmemcpyAttributes attributes(CUmemcpySrcAccessOrder order) {
    CUmemcpyAttributes made = {};
    made.srcAccessOrder = order;
    return made;
}

// Three copies: from the host, from a device, to the host; the source of the first may be changed at once.
static void batch(const char *name, unsigned seed) {
    bool is_second = std::strstr(name, "_v2");
    auto from = pattern(seed), device = pattern(seed + 1);
    const auto expected = from;
    std::vector<unsigned char> back(BYTES, 0xEE);
    write(0, memory[0], device);
    CUdeviceptr destinations[] = {memory[1], other[0], (CUdeviceptr)back.data()};
    CUdeviceptr sources[] = {(CUdeviceptr)from.data(), memory[0], memory[0]};
    size_t sizes[] = {BYTES, BYTES, BYTES}, first[] = {0, 1}, wrong = 99;
    CUmemcpyAttributes said[] = {attributes(CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL), attributes(CU_MEMCPY_SRC_ACCESS_ORDER_STREAM)};
    auto run = [&](CUstream stream) {
        return is_second ? call(name, destinations, sources, sizes, (size_t)3, said, first, (size_t)2, stream)
                         : call(name, destinations, sources, sizes, (size_t)3, said, first, (size_t)2, &wrong, stream);
    };
    if (run(streams[0]) != CUDA_SUCCESS) fail(__LINE__, name);
    std::fill(from.begin(), from.end(), 0);
    OK("cuStreamSynchronize", streams[0]);
    REQUIRE(read(1, memory[1]) == expected && read(0, other[0]) == device && back == device);
    // Of a batch that is wrong nothing is copied, and the first that is wrong is told.
    write(1, memory[1], device);
    use(0);
    destinations[2] = 0;
    REQUIRE(run(streams[0]) == CUDA_ERROR_INVALID_VALUE && (is_second || wrong == 2));
    destinations[2] = (CUdeviceptr)back.data(), said[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
    REQUIRE(run(streams[0]) == CUDA_ERROR_INVALID_VALUE && (is_second || wrong == 1));
    said[1] = said[0], first[1] = 3;
    REQUIRE(run(streams[0]) == CUDA_ERROR_INVALID_VALUE && (is_second || wrong == SIZE_MAX));
    first[1] = 1;
    REQUIRE(run(nullptr) == CUDA_ERROR_INVALID_VALUE && (is_second || wrong == SIZE_MAX));
    OK("cuStreamSynchronize", streams[0]);
    REQUIRE(read(1, memory[1]) == device);
}

// Two boxes at once.
static void batch_of_boxes(const char *name, unsigned seed) {
    bool is_second = std::strstr(name, "_v2"), is_single = std::strstr(name, "With");
    size_t wrong = 99;
    auto source = pattern(seed);
    write(0, memory[0], source);
    write(1, memory[1], std::vector<unsigned char>(BYTES, 0x55));
    use(0);
    CUDA_MEMCPY3D_BATCH_OP operations[2] = {};
    for (size_t i = 0; i < 2; i++) {
        auto &operation = operations[i];
        operation.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
        operation.src.type = operation.dst.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
        operation.src.op.ptr.ptr = memory[0] + i * 4096;
        operation.dst.op.ptr.ptr = memory[1] + i * 8192;
        operation.dst.op.ptr.rowLength = 64, operation.dst.op.ptr.layerHeight = 4;
        operation.extent.width = 20, operation.extent.height = 3, operation.extent.depth = 2;
    }
    auto run = [&] {
        if (is_single) {
            CUresult one = call(name, &operations[0], 0ull, streams[0]);
            return one != CUDA_SUCCESS ? one : call(name, &operations[1], 0ull, streams[0]);
        }
        return is_second ? call(name, (size_t)2, operations, 0ull, streams[0])
                         : call(name, (size_t)2, operations, &wrong, 0ull, streams[0]);
    };
    if (run() != CUDA_SUCCESS) fail(__LINE__, name);
    OK("cuStreamSynchronize", streams[0]);
    std::vector<unsigned char> wanted(BYTES, 0x55);
    for (size_t i = 0; i < 2; i++)
        for (size_t row = 0; row < 6; row++)
            for (size_t x = 0; x < 20; x++)
                wanted[i * 8192 + (row / 3 * 4 + row % 3) * 64 + x] = source[i * 4096 + row * 20 + x];
    REQUIRE(read(1, memory[1]) == wanted);
    use(0);
    operations[1].extent.depth = 0;
    REQUIRE(run() == CUDA_ERROR_INVALID_VALUE && (is_second || is_single || wrong == 1));
}

static void one_with_attributes() {
    auto expected = pattern(50);
    auto from = expected;
    auto said = attributes(CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL);
    use(0);
    OK("cuMemcpyWithAttributesAsync", memory[1], (CUdeviceptr)from.data(), BYTES, &said, streams[0]);
    std::fill(from.begin(), from.end(), 0);
    OK("cuStreamSynchronize", streams[0]);
    REQUIRE(read(1, memory[1]) == expected);
    said.flags = 0x80;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemcpyWithAttributesAsync", memory[1], memory[0], BYTES, &said, streams[0]);
}

// Memory that the program maps itself is opened to devices one by one.
static CUdeviceptr mapped_for(CUdevice owner, CUdevice reader) {
    const size_t size = 2 << 20;
    CUmemAllocationProp properties = {};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {owner}};
    OK("cuMemCreate", &handle, size, (const CUmemAllocationProp *)&properties, 0ull);
    OK("cuMemAddressReserve", &address, size, (size_t)0, (CUdeviceptr)0, 0ull);
    OK("cuMemMap", address, size, (size_t)0, handle, 0ull);
    CUmemAccessDesc access[2] = {};
    access[0].location = {CU_MEM_LOCATION_TYPE_DEVICE, {owner}};
    access[1].location = {CU_MEM_LOCATION_TYPE_DEVICE, {reader}};
    access[0].flags = access[1].flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    OK("cuMemSetAccess", address, size, (const CUmemAccessDesc *)access, (size_t)2);
    for (auto &one : access) {
        unsigned long long flags = 0;
        OK("cuMemGetAccess", &flags, (const CUmemLocation *)&one.location, address);
        REQUIRE(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    }
    return address;
}

static void access() {
    const unsigned count = BYTES / 4;
    std::vector<unsigned> values(count), got(count);
    CUmodule module;
    use(0);
    CUfunction function = function_in(&module);
    auto reads = [&](CUdeviceptr in, unsigned seed) {
        for (unsigned i = 0; i < count; i++) values[i] = i * 7 + seed;
        use(1);
        OK("cuMemcpyHtoD_v2", in, (const void *)values.data(), BYTES);
        OK("cuCtxSynchronize");
        use(0);
        if (CUresult result = multiply(function, memory[0], in, count)) fail(__LINE__, "a kernel reads a peer's memory", result);
        OK("cuMemcpyDtoH_v2", (void *)got.data(), memory[0], BYTES);
        for (unsigned i = 0; i < count; i++) REQUIRE(got[i] == values[i] * 3 + 5);
    };
    reads(mapped_for(1, 0), 1);
    // Where managed memory is everybody's, kernels reach it without more.
    int is_everybodys = 0;
    OK("cuDeviceGetAttribute", &is_everybodys, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, (CUdevice)0);
    if (is_everybodys) {
        CUdeviceptr managed;
        use(1);
        OK("cuMemAllocManaged", &managed, BYTES, (unsigned)CU_MEM_ATTACH_GLOBAL);
        reads(managed, 6);
        use(1);
        OK("cuMemFree_v2", managed);
        use(0);
    }
    // A pool of the other device that is opened to this one, what it has and what it gets; then closed, and opened once more.
    CUmemoryPool pool;
    CUdeviceptr piece[2];
    CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemAccess_flags told = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    OK("cuDeviceGetDefaultMemPool", &pool, (CUdevice)1);
    use(1);
    OK("cuMemAllocFromPoolAsync", &piece[0], BYTES, pool, streams[1]);
    OK("cuMemPoolGetAccess", &told, pool, &here);
    REQUIRE(told == CU_MEM_ACCESS_FLAGS_PROT_NONE);
    for (auto flags : {CU_MEM_ACCESS_FLAGS_PROT_READWRITE, CU_MEM_ACCESS_FLAGS_PROT_NONE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE}) {
        CUmemAccessDesc granted{here, flags};
        OK("cuMemPoolSetAccess", pool, (const CUmemAccessDesc *)&granted, (size_t)1);
        OK("cuMemPoolGetAccess", &told, pool, &here);
        REQUIRE(told == flags);
    }
    OK("cuMemAllocFromPoolAsync", &piece[1], (size_t)8 << 20, pool, streams[1]);
    OK("cuStreamSynchronize", streams[1]);
    reads(piece[0], 7);
    reads(piece[1], 8);
    use(1);
    for (CUdeviceptr freed : piece) OK("cuMemFreeAsync", freed, streams[1]);
    OK("cuStreamSynchronize", streams[1]);
    CUmemAccessDesc closed{here, CU_MEM_ACCESS_FLAGS_PROT_NONE};
    OK("cuMemPoolSetAccess", pool, (const CUmemAccessDesc *)&closed, (size_t)1);
    use(0);
    GIVES(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "cuCtxDisablePeerAccess", contexts[1]);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuCtxEnablePeerAccess", contexts[0], 0u);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCtxEnablePeerAccess", contexts[1], 1u);
    OK("cuCtxEnablePeerAccess", contexts[1], 0u);
    GIVES(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "cuCtxEnablePeerAccess", contexts[1], 0u);
    reads(memory[1], 2);
    reads(other[1], 3);
    // What is made afterwards is reached too.
    CUdeviceptr later[2];
    use(1);
    OK("cuMemAlloc_v2", &later[0], BYTES);
    OK("cuMemAlloc_v2", &later[1], (size_t)8 << 20);
    reads(later[0], 4);
    reads(later[1], 5);
    // It goes one way.
    use(1);
    GIVES(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "cuCtxDisablePeerAccess", contexts[0]);
    use(0);
    OK("cuCtxDisablePeerAccess", contexts[1]);
    // This is the last act of the context, and on real cards of the process.
    CUresult result = multiply(function, memory[0], memory[1], count);
    if (result != CUDA_ERROR_ILLEGAL_ADDRESS) fail(__LINE__, "without access it is an illegal address", result);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    devices();
    copies();
    boxes("cuMemcpy3DPeer", 10);
    boxes("cuMemcpy3DPeerAsync", 11);
    arrays();
    captured();
    use(0);
    batch("cuMemcpyBatchAsync", 30);
    batch("cuMemcpyBatchAsync_v2", 32);
    batch_of_boxes("cuMemcpy3DBatchAsync", 40);
    batch_of_boxes("cuMemcpy3DBatchAsync_v2", 41);
    batch_of_boxes("cuMemcpy3DWithAttributesAsync", 42);
    one_with_attributes();
    access();
    return pass("copies between devices, batches, access");
}
