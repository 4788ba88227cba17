// Initialisation, devices, contexts, capture state and the profiler: each function of the driver by what it changes or tells.
#include <atomic>
#include <thread>

#include "driver.h"

const char *const PROGRAM = "surface_context";

// The symbol that a search must find, and what it found.
static void finds(const char *name, const char *symbol) {
    void *found = nullptr;
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
    OK("cuGetProcAddress", name, &found, 11030, (cuuint64_t)0);
    REQUIRE(found == exported(symbol));
    found = nullptr;
    OK("cuGetProcAddress_v2", name, &found, 12000, (cuuint64_t)0, &status);
    REQUIRE(found == exported(symbol) && status == CU_GET_PROC_ADDRESS_SUCCESS);
}

static void initialisation() {
    int version = 0, count = -1;
    const char *text = nullptr;
    GIVES(CUDA_ERROR_NOT_INITIALIZED, "cuDeviceGetCount", &count);
    OK("cuInit", 0u);
    OK("cuDriverGetVersion", &version);
    REQUIRE(version >= 11000);
    OK("cuGetErrorName", CUDA_ERROR_OUT_OF_MEMORY, &text);
    REQUIRE(text && !std::strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY"));
    text = nullptr;
    OK("cuGetErrorString", CUDA_ERROR_OUT_OF_MEMORY, &text);
    REQUIRE(text && std::strlen(text) > 5);
    finds("cuMemAlloc", "cuMemAlloc_v2");
    finds("cuCtxSynchronize", "cuCtxSynchronize");
    // The table that every runtime asks for first; its first word is its size.
    const unsigned char id[16] = {0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a,
                                  0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9};
    const void *table = nullptr;
    OK("cuGetExportTable", &table, (const CUuuid *)id);
    REQUIRE(table && *(const size_t *)table > sizeof(size_t));
}

static int attribute(CUdevice device, CUdevice_attribute which) {
    int value = -77;
    OK("cuDeviceGetAttribute", &value, which, device);
    REQUIRE(value != -77);
    return value;
}

static void devices() {
    int count = -1, major = -1, minor = -1, value = -77;
    CUdevice device = -1, again = -1;
    char name[128] = "", place[32] = "";
    size_t total = 0;
    OK("cuDeviceGetCount", &count);
    REQUIRE(count >= 1);
    OK("cuDeviceGet", &device, 0);
    REQUIRE(device == 0);
    OK("cuDeviceComputeCapability", &major, &minor, device);
    REQUIRE(major == attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) &&
            minor == attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) && major >= 5);
    OK("cuDeviceGetName", name, (int)sizeof name, device);
    REQUIRE(name[0]);
    OK("cuDeviceGetPCIBusId", place, (int)sizeof place, device);
    OK("cuDeviceGetByPCIBusId", &again, (const char *)place);
    REQUIRE(again == device);
    OK("cuDeviceTotalMem_v2", &total, device);
    REQUIRE(total > 0);
    unsigned char first[16], second[16];
    std::memset(first, 0xEE, sizeof first);
    std::memset(second, 0xDD, sizeof second);
    OK("cuDeviceGetUuid", (CUuuid *)first, device);
    OK("cuDeviceGetUuid_v2", (CUuuid *)second, device);
    REQUIRE(!std::memcmp(first, second, sizeof first));
    if (has("cuDeviceGetProperties")) {
        CUdevprop properties = {};
        OK("cuDeviceGetProperties", &properties, device);
        REQUIRE(properties.maxThreadsPerBlock == attribute(device, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
        REQUIRE(properties.SIMDWidth == attribute(device, CU_DEVICE_ATTRIBUTE_WARP_SIZE));
    }
    OK("cuDeviceCanAccessPeer", &value, device, device);
    REQUIRE(value == 0);
    FAILS("cuDeviceGetP2PAttribute", &value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, device, device);
    // Nothing is atomic on a link that does not say so.
    const unsigned operations[] = {0, 9, 12};
    unsigned capabilities[] = {77u << 8, 77u << 8, 77u << 8};
    OK("cuDeviceGetHostAtomicCapabilities", capabilities, operations, 3u, device);
    bool is_native = attribute(device, CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED) != 0;
    for (unsigned capability : capabilities) REQUIRE(capability < 1u << 7 && (is_native || capability == 0));
    value = -77;
    OK("cuDeviceGetExecAffinitySupport", &value, CU_EXEC_AFFINITY_TYPE_SM_COUNT, device);
    REQUIRE(value == 0 || value == 1);
}

static void state(CUdevice device, unsigned flags, int active) {
    unsigned found_flags = 0x77;
    int found_active = -77;
    OK("cuDevicePrimaryCtxGetState", device, &found_flags, &found_active);
    REQUIRE((found_flags & CU_CTX_SCHED_MASK) == flags && found_active == active);
}

static void primary_context(CUdevice device) {
    CUcontext context = nullptr;
    state(device, 0, 0);
    OK("cuDevicePrimaryCtxSetFlags", device, (unsigned)CU_CTX_SCHED_BLOCKING_SYNC);
    state(device, CU_CTX_SCHED_BLOCKING_SYNC, 0);
    OK("cuDevicePrimaryCtxSetFlags_v2", device, (unsigned)CU_CTX_SCHED_YIELD);
    state(device, CU_CTX_SCHED_YIELD, 0);
    for (const char *end : {"cuDevicePrimaryCtxRelease", "cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxReset",
                            "cuDevicePrimaryCtxReset_v2"}) {
        OK("cuDevicePrimaryCtxRetain", &context, device);
        unsigned flags;
        int active = 0;
        OK("cuDevicePrimaryCtxGetState", device, &flags, &active);
        REQUIRE(context && active == 1);
        OK(end, device);
        OK("cuDevicePrimaryCtxGetState", device, &flags, &active);
        REQUIRE(active == 0);
    }
}

static CUcontext current() {
    CUcontext context = (CUcontext)(uintptr_t)0x77;
    OK("cuCtxGetCurrent", &context);
    REQUIRE(context != (CUcontext)(uintptr_t)0x77);
    return context;
}

static void settings(CUcontext context, CUdevice device) {
    unsigned flags = 0x77, version = 0;
    int least = 77, greatest = 77, cache = 77, shared = 77;
    CUdevice of_current = -1, of_context = -1;
    size_t limit = 0;
    OK("cuCtxGetFlags", &flags);
    REQUIRE((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_BLOCKING_SYNC);
    OK("cuCtxSetFlags", (unsigned)CU_CTX_SCHED_YIELD);
    OK("cuCtxGetFlags", &flags);
    REQUIRE((flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_YIELD);
    OK("cuCtxGetApiVersion", context, &version);
    REQUIRE(version >= 3010);
    OK("cuCtxGetDevice", &of_current);
    OK("cuCtxGetDevice_v2", &of_context, context);
    REQUIRE(of_current == device && of_context == device);
    OK("cuCtxGetStreamPriorityRange", &least, &greatest);
    REQUIRE(least == 0 && greatest <= 0);
    OK("cuCtxSetCacheConfig", (int)CU_FUNC_CACHE_PREFER_L1);
    OK("cuCtxGetCacheConfig", &cache);
    REQUIRE(cache == CU_FUNC_CACHE_PREFER_L1);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCtxSetSharedMemConfig", 99);
    OK("cuCtxGetSharedMemConfig", &shared);
    REQUIRE(shared >= 0 && shared <= 2);
    OK("cuCtxSetLimit", (int)CU_LIMIT_MALLOC_HEAP_SIZE, (size_t)16 << 20);
    OK("cuCtxGetLimit", &limit, (int)CU_LIMIT_MALLOC_HEAP_SIZE);
    REQUIRE(limit >= (size_t)16 << 20);
}

// A context that was made without a limit has the whole device, or the device knows no limits.
static void affinity(CUdevice device) {
    CUexecAffinityParam limit{};
    CUresult told = call("cuCtxGetExecAffinity", &limit, CU_EXEC_AFFINITY_TYPE_SM_COUNT);
    unsigned most = (unsigned)attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    unsigned count = limit.param.smCount.val;
    REQUIRE(told == CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY || (told == CUDA_SUCCESS && count > 0 && count <= most));
}

static void created_contexts(CUdevice device) {
    CUcontext second = nullptr, third = nullptr, fourth = nullptr, popped = nullptr;
    unsigned long long id_third = 0, id_fourth = 0;
    REQUIRE(current() == nullptr);
    OK("cuCtxCreate_v2", &second, (unsigned)CU_CTX_SCHED_BLOCKING_SYNC, device);
    REQUIRE(second && current() == second);
    settings(second, device);
    affinity(device);
    OK("cuCtxCreate_v3", &third, (CUexecAffinityParam *)nullptr, 0, 0u, device);
    REQUIRE(third && current() == third);
    OK("cuCtxCreate_v4", &fourth, (void *)nullptr, 0u, device);
    REQUIRE(fourth && current() == fourth);
    OK("cuCtxGetId", third, &id_third);
    OK("cuCtxGetId", fourth, &id_fourth);
    REQUIRE(id_third != id_fourth);
    for (const char *push : {"cuCtxPushCurrent", "cuCtxPushCurrent_v2"}) {
        OK(push, second);
        REQUIRE(current() == second);
        const char *pop = !std::strcmp(push, "cuCtxPushCurrent") ? "cuCtxPopCurrent" : "cuCtxPopCurrent_v2";
        popped = nullptr;
        OK(pop, &popped);
        REQUIRE(popped == second && current() == fourth);
    }
    OK("cuCtxSetCurrent", second);
    REQUIRE(current() == second);
    OK("cuCtxSetCurrent", fourth);
    // What is attached to lives until it has been detached from as often, and once more.
    CUcontext attached = nullptr, fifth = nullptr;
    OK("cuCtxCreate_v2", &fifth, 0u, device);
    OK("cuCtxAttach", &attached, 0u);
    REQUIRE(attached == fifth);
    OK("cuCtxDetach", fifth);
    REQUIRE(current() == fifth);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuCtxDetach", second);
    OK("cuCtxDetach", fifth);
    REQUIRE(current() == fourth);
    // A context that ends is current no more: the one below it is.
    OK(has("cuCtxDestroy") ? "cuCtxDestroy" : "cuCtxDestroy_v2", fourth);
    REQUIRE(current() == third);
    OK("cuCtxDestroy_v2", third);
    REQUIRE(current() == second);
}

// After the call, whatever was launched before has happened.
static void waits(const char *name, CUfunction slow, CUdeviceptr word) {
    unsigned rounds = SLOW, value = 1;
    void *parameters[] = {&word, &rounds, &value};
    CUevent done;
    OK("cuEventCreate", &done, 2u);
    OK("cuLaunchKernel", slow, 1u, 1u, 1u, 1u, 1u, 1u, 0u, (CUstream)0, parameters, (void **)0);
    OK("cuEventRecord", done, (CUstream)0);
    if (!std::strcmp(name, "cuCtxSynchronize"))
        OK(name);
    else
        OK(name, (CUcontext)0);
    OK("cuEventQuery", done);
    OK("cuEventDestroy_v2", done);
}

static unsigned read(CUdeviceptr place) {
    unsigned value = 0;
    OK("cuMemcpyDtoH_v2", (void *)&value, place, (size_t)4);
    return value;
}

static void start(CUfunction slow, CUdeviceptr word, unsigned value, CUstream stream) {
    unsigned rounds = SLOW;
    void *parameters[] = {&word, &rounds, &value};
    OK("cuLaunchKernel", slow, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, parameters, (void **)0);
}

// An event of a whole context is behind all its streams, and what such a wait holds back are all of them, also those that are made later.
static void whole_context(CUfunction slow, CUdeviceptr word) {
    CUcontext context = current(), other = nullptr;
    CUstream streams[3];
    CUevent all, gate;
    CUdeviceptr copies;
    OK("cuMemAlloc_v2", &copies, (size_t)16);
    OK("cuMemsetD32_v2", word, 0u, (size_t)1);
    OK("cuStreamCreate", &streams[0], 1u);
    OK("cuStreamCreate", &streams[1], 1u);
    OK("cuEventCreate", &all, 2u);
    OK("cuEventCreate", &gate, 2u);
    OK("cuCtxSynchronize");
    start(slow, word, 5, streams[0]);
    OK("cuCtxRecordEvent", context, all);
    OK("cuStreamWaitEvent", streams[1], all, 0u);
    OK("cuMemcpyDtoDAsync_v2", copies, word, (size_t)4, streams[1]);
    OK("cuEventSynchronize", all);
    REQUIRE(read(word) == 5);
    OK("cuStreamSynchronize", streams[1]);
    REQUIRE(read(copies) == 5);
    start(slow, word, 6, streams[0]);
    OK("cuEventRecord", gate, streams[0]);
    OK("cuCtxWaitEvent", context, gate);
    OK("cuStreamCreate", &streams[2], 1u);
    for (int i = 0; i < 3; i++) OK("cuMemcpyDtoDAsync_v2", copies + 4 * (unsigned)i, word, (size_t)4, streams[i]);
    for (CUstream stream : streams) OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < 3; i++) REQUIRE(read(copies + 4 * i) == 6);
    // Captures of the context are spoilt, since their streams cannot take part.
    CUgraph graph = nullptr;
    for (const char *spoils : {"cuCtxRecordEvent", "cuCtxWaitEvent"}) {
        OK("cuStreamBeginCapture_v2", streams[1], (int)CU_STREAM_CAPTURE_MODE_RELAXED);
        GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, spoils, context, gate);
        GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuStreamEndCapture", streams[1], &graph);
    }
    OK("cuCtxCreate_v2", &other, 0u, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_HANDLE, "cuCtxRecordEvent", other, all);
    OK("cuCtxWaitEvent", other, gate);
    OK("cuCtxDestroy_v2", other);
    for (CUstream stream : streams) OK("cuStreamDestroy_v2", stream);
}

// One thread makes, uses and destroys streams, while another asks for what concerns all streams of the context.
static void while_streams_come_and_go() {
    const unsigned STREAMS = 400;
    CUcontext context = current();
    CUdeviceptr words;
    CUevent all;
    std::atomic<bool> is_over{false};
    OK("cuMemAlloc_v2", &words, (size_t)STREAMS * 4);
    OK("cuEventCreate", &all, 2u);
    std::thread other([&] {
        OK("cuCtxSetCurrent", context);
        for (unsigned i = 0; i < STREAMS; i++) {
            CUstream stream;
            OK("cuStreamCreate", &stream, 1u);
            OK("cuMemsetD32Async", words + 4 * i, i, (size_t)1, stream);
            OK("cuStreamDestroy_v2", stream);
        }
        is_over = true;
    });
    while (!is_over) {
        OK("cuCtxRecordEvent", context, all);
        OK("cuCtxWaitEvent", context, all);
        CUdeviceptr other_memory;
        OK("cuMemAlloc_v2", &other_memory, (size_t)1000);
        OK("cuMemFree_v2", other_memory);
        OK("cuEventSynchronize", all);
    }
    other.join();
    OK("cuCtxSynchronize");
    for (unsigned i = 0; i < STREAMS; i++) REQUIRE(read(words + 4 * i) == i);
    OK("cuEventDestroy_v2", all);
    OK("cuMemFree_v2", words);
}

static void synchronisation() {
    CUmodule module;
    CUfunction slow;
    CUdeviceptr word;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &slow, module, "slow");
    OK("cuMemAlloc_v2", &word, (size_t)4);
    waits("cuCtxSynchronize", slow, word);
    if (has("cuCtxSynchronize_v2")) waits("cuCtxSynchronize_v2", slow, word);
    whole_context(slow, word);
    while_streams_come_and_go();
}

static void capture() {
    CUstream stream;
    OK("cuStreamCreate", &stream, 1u);
    int status = 77;
    OK("cuStreamIsCapturing", stream, &status);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_NONE);
    status = 77;
    cuuint64_t id;
    OK("cuStreamGetCaptureInfo", stream, &status, &id);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_NONE);
    status = 77;
    status = 77;
    OK("cuStreamGetCaptureInfo_v3", stream, &status, (cuuint64_t *)0, (CUgraph *)0, (const CUgraphNode **)0, (const CUgraphEdgeData **)0,
       (size_t *)0);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_NONE);
    status = 77;
    OK("cuStreamGetCaptureInfo_v2", stream, &status, (cuuint64_t *)0, (CUgraph *)0, (const CUgraphNode **)0, (size_t *)0);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_NONE);
    int mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    OK("cuThreadExchangeStreamCaptureMode", &mode);
    REQUIRE(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK("cuThreadExchangeStreamCaptureMode", &mode);
    REQUIRE(mode == CU_STREAM_CAPTURE_MODE_RELAXED);
}

// What leaves no trace is told by what it refuses.
static void hints() {
    OK("cuProfilerStart");
    OK("cuProfilerStop");
    OK("cuCtxSetCurrent", (CUcontext)0);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuProfilerStart");
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuProfilerStop");
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuCtxResetPersistingL2Cache");
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    initialisation();
    devices();
    primary_context(0);
    created_contexts(0);
    synchronisation();
    capture();
    hints();
    return pass("devices, contexts, settings, synchronisation");
}
