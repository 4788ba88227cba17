// Green contexts: parts of a device, streams whose kernels stay in them, and what a green context is as a context.
#include <atomic>
#include <set>
#include <thread>

#include "driver.h"

const char *const PROGRAM = "surface_green";

// `where` stores on which multiprocessor each block ran, after some work, so that all are needed.
static const char *const WHERE = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry where(.param .u64 out)
{
    .reg .pred %p;
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    mov.u32 %r1, 0;
again:
    add.u32 %r1, %r1, 1;
    setp.lt.u32 %p, %r1, 20000;
    @%p bra again;
    mov.u32 %r2, %smid;
    mov.u32 %r3, %ctaid.x;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r3, 4;
    add.s64 %rd2, %rd2, %rd3;
    st.global.u32 [%rd2], %r2;
    ret;
}
)";

// What a group of a split shall be: CUDA 13.1's CU_DEV_SM_RESOURCE_GROUP_PARAMS.
struct Group {
    unsigned count, together, preferred, flags, rest[12];
};

static const int SM = CU_DEV_RESOURCE_TYPE_SM;
static const unsigned BLOCKS = 256;
static CUcontext primary;
static CUfunction where, slow;
static CUdeviceptr places, word;
static unsigned total;

static std::set<unsigned> multiprocessors(CUstream stream) {
    std::vector<unsigned> found(BLOCKS);
    void *parameters[] = {&places};
    OK("cuMemsetD32_v2", places, 0xDEADu, (size_t)BLOCKS);
    OK("cuCtxSynchronize");
    OK("cuLaunchKernel", where, BLOCKS, 1u, 1u, 32u, 1u, 1u, 0u, stream, parameters, (void **)0);
    OK("cuStreamSynchronize", stream);
    OK("cuMemcpyDtoH_v2", (void *)found.data(), places, BLOCKS * sizeof(unsigned));
    std::set<unsigned> set(found.begin(), found.end());
    REQUIRE(!set.count(0xDEAD));
    return set;
}

static void start_slow(CUstream stream, unsigned value) {
    unsigned rounds = SLOW;
    void *parameters[] = {&word, &rounds, &value};
    OK("cuLaunchKernel", slow, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, parameters, (void **)0);
}

static unsigned read(CUdeviceptr place) {
    unsigned value = 0;
    OK("cuMemcpyDtoH_v2", (void *)&value, place, (size_t)4);
    return value;
}

static void resources(CUdevResource *parts) {
    CUdevResource whole{}, same{}, rest{};
    int count = 0;
    OK("cuDeviceGetAttribute", &count, (int)CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, (CUdevice)0);
    OK("cuDeviceGetDevResource", (CUdevice)0, &whole, SM);
    total = whole.sm.smCount;
    REQUIRE(whole.type == CU_DEV_RESOURCE_TYPE_SM && total == (unsigned)count);
    if (total < 4) fail(__LINE__, "this program needs four multiprocessors", (int)total);
    OK("cuCtxGetDevResource", primary, &same, SM);
    REQUIRE(same.sm.smCount == total);
    unsigned groups = 0;
    OK("cuDevSmResourceSplitByCount", (CUdevResource *)nullptr, &groups, (const CUdevResource *)&whole, (CUdevResource *)nullptr, 0u, 2u);
    REQUIRE(groups >= 2);
    groups = 2;
    OK("cuDevSmResourceSplitByCount", parts, &groups, (const CUdevResource *)&whole, &rest, 0u, 2u);
    REQUIRE(groups == 2 && parts[0].type == CU_DEV_RESOURCE_TYPE_SM && parts[0].sm.smCount >= 2);
    unsigned left = rest.type == CU_DEV_RESOURCE_TYPE_SM ? rest.sm.smCount : 0;
    REQUIRE(parts[0].sm.smCount + parts[1].sm.smCount + left == total);
    Group group{};
    OK("cuDevSmResourceSplit", (CUdevResource *)nullptr, 1u, (const CUdevResource *)&whole, (CUdevResource *)nullptr, 0u, &group);
    REQUIRE(group.count >= 2 && group.count <= total);
    group = {2, 2, 0, 0, {}};
    OK("cuDevSmResourceSplit", &same, 1u, (const CUdevResource *)&whole, &rest, 0u, &group);
    REQUIRE(same.sm.smCount == 2 && rest.sm.smCount == total - 2);
    GIVES(CUDA_ERROR_INVALID_RESOURCE_TYPE, "cuDeviceGetDevResource", (CUdevice)0, &same, 77);
    CUdevResource nothing{};
    GIVES(CUDA_ERROR_INVALID_RESOURCE_TYPE, "cuDevSmResourceSplitByCount", parts, &groups, (const CUdevResource *)&nothing, &rest, 0u, 2u);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuDevSmResourceSplitByCount", parts, &groups, (const CUdevResource *)&whole, &rest, 0u, total + 1);
}

// The green context as a context: what is made in it is the primary context's, the null stream and new ones are its own.
static void as_context(CUgreenCtx green, const std::set<unsigned> &allowed, unsigned count) {
    CUcontext context = nullptr, current = nullptr, of = nullptr;
    CUgreenCtx found = nullptr;
    CUstream stream;
    CUdevResource part{};
    unsigned long long id = 0, own = 0;
    OK("cuCtxFromGreenCtx", &context, green);
    REQUIRE(context && context != primary);
    OK("cuCtxPushCurrent_v2", context);
    OK("cuCtxGetCurrent", &current);
    REQUIRE(current == context);
    OK("cuCtxGetDevResource", context, &part, SM);
    REQUIRE(part.sm.smCount == count);
    OK("cuStreamGetGreenCtx", (CUstream)0, &found);
    REQUIRE(found == green);
    OK("cuGreenCtxGetId", green, &id);
    OK("cuGreenCtxGetId", (CUgreenCtx) nullptr, &own);
    REQUIRE(id == own);
    for (unsigned number : multiprocessors((CUstream)0)) REQUIRE(allowed.count(number));
    // What is copied behind it waits for the null stream.
    start_slow((CUstream)0, 3);
    REQUIRE(read(word) == 3);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamGetCtx_v2", stream, &of, &found);
    REQUIRE(of == primary && found == green);
    for (unsigned number : multiprocessors(stream)) REQUIRE(allowed.count(number));
    // What a stream was given that is destroyed is waited for.
    start_slow(stream, 4);
    OK("cuStreamDestroy_v2", stream);
    OK("cuCtxSynchronize");
    REQUIRE(read(word) == 4);
    // What is of no stream is of the primary context.
    CUlibrary library;
    CUkernel kernel;
    OK("cuLibraryLoadData", &library, (const void *)PTX, (CUjit_option *)nullptr, (void **)nullptr, 0u, (CUlibraryOption *)nullptr, (void **)nullptr, 0u);
    OK("cuLibraryGetKernel", &kernel, library, "slow");
    OK("cuLibraryUnload", library);
    GIVES(CUDA_ERROR_INVALID_HANDLE, "cuStreamQuery", CU_STREAM_PER_THREAD);
    OK("cuCtxPopCurrent_v2", &current);
    REQUIRE(current == context);
    OK("cuStreamGetGreenCtx", (CUstream)0, &found);
    REQUIRE(found == nullptr);
}

// Events of whole green contexts.
static void events(const CUgreenCtx *greens, const CUstream *streams) {
    CUevent event;
    CUdeviceptr copy;
    CUstream plain;
    OK("cuEventCreate", &event, (unsigned)CU_EVENT_DISABLE_TIMING);
    OK("cuStreamCreate", &plain, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemAlloc_v2", &copy, (size_t)4);
    start_slow(streams[0], 5);
    OK("cuGreenCtxRecordEvent", greens[0], event);
    OK("cuStreamWaitEvent", plain, event, 0u);
    OK("cuMemcpyDtoDAsync_v2", copy, word, (size_t)4, plain);
    OK("cuStreamSynchronize", plain);
    REQUIRE(read(copy) == 5);
    start_slow(plain, 6);
    OK("cuEventRecord", event, plain);
    OK("cuGreenCtxWaitEvent", greens[1], event);
    OK("cuMemcpyDtoDAsync_v2", copy, word, (size_t)4, streams[1]);
    OK("cuStreamSynchronize", streams[1]);
    REQUIRE(read(copy) == 6);
    OK("cuStreamDestroy_v2", plain);
}

// Whether a wait for a green context that has begun while two streams are held ends although they are given more meanwhile.
static bool ends_in_time(CUcontext context, const CUstream *held, CUdeviceptr gates) {
    const CUdeviceptr last = gates + 4;
    OK("cuMemsetD32_v2", gates, 0u, (size_t)2);
    OK("cuCtxSynchronize");
    auto hold = [&](CUdeviceptr gate) {
        for (int i = 0; i < 2; i++) OK("cuStreamWaitValue32_v2", held[i], gate, 1u, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
    };
    hold(gates);
    std::atomic<bool> begun{false}, over{false};
    std::thread waiter([&] {
        OK("cuCtxSetCurrent", context);
        begun = true;
        OK("cuCtxSynchronize");
        over = true;
    });
    while (!begun) std::this_thread::yield();
    usleep(200 << 10);
    bool was_over = over;
    hold(last);
    OK("cuMemsetD32_v2", gates, 1u, (size_t)1);
    for (int i = 0; i < 300 && !over; i++) usleep(10 << 10);
    bool in_time = over;
    OK("cuMemsetD32_v2", last, 1u, (size_t)1);
    waiter.join();
    if (was_over) fail(__LINE__, "a wait for a green context does not wait for its streams");
    return in_time;
}

// What a wait for a green context is about: all that its streams had been given, and no capture goes on in them.
static void synchronises(CUgreenCtx green) {
    CUcontext context = nullptr, popped;
    CUstream held[2];
    CUdeviceptr gates;
    OK("cuCtxFromGreenCtx", &context, green);
    OK("cuMemAlloc_v2", &gates, (size_t)8);
    for (CUstream &stream : held) OK("cuGreenCtxStreamCreate", &stream, green, (unsigned)CU_STREAM_NON_BLOCKING, 0);
    // The other thread may come late on a busy machine.
    int rounds = 0;
    while (!ends_in_time(context, held, gates))
        if (++rounds == 3) fail(__LINE__, "a wait for a green context waits for what came after it began");
    for (CUstream stream : held) OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuCtxPushCurrent_v2", context);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuCtxSynchronize");
    OK("cuCtxPopCurrent_v2", &popped);
    for (CUstream stream : held) {
        CUgraph graph = nullptr;
        GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuStreamEndCapture", stream, &graph);
        OK("cuStreamDestroy_v2", stream);
    }
    OK("cuMemFree_v2", gates);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUmodule module;
    CUdevResource parts[2], part{};
    CUgreenCtx greens[2] = {}, found = nullptr;
    CUstream streams[2] = {};
    OK("cuInit", 0u);
    OK("cuDevicePrimaryCtxRetain", &primary, (CUdevice)0);
    OK("cuCtxSetCurrent", primary);
    OK("cuModuleLoadData", &module, (const void *)WHERE);
    OK("cuModuleGetFunction", &where, module, "where");
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &slow, module, "slow");
    OK("cuMemAlloc_v2", &places, BLOCKS * sizeof(unsigned));
    OK("cuMemAlloc_v2", &word, (size_t)4);
    resources(parts);
    std::set<unsigned> where_each[2];
    unsigned long long ids[2] = {};
    for (int i = 0; i < 2; i++) {
        CUdevResourceDesc desc = nullptr;
        OK("cuDevResourceGenerateDesc", &desc, &parts[i], 1u);
        OK("cuGreenCtxCreate", &greens[i], desc, (CUdevice)0, (unsigned)CU_GREEN_CTX_DEFAULT_STREAM);
        REQUIRE(greens[i]);
        OK("cuGreenCtxGetId", greens[i], &ids[i]);
        OK("cuGreenCtxGetDevResource", greens[i], &part, SM);
        REQUIRE(part.sm.smCount == parts[i].sm.smCount);
        OK("cuGreenCtxStreamCreate", &streams[i], greens[i], (unsigned)CU_STREAM_NON_BLOCKING, 0);
        OK("cuStreamGetGreenCtx", streams[i], &found);
        REQUIRE(found == greens[i]);
        std::memset(&part, 0, sizeof part);
        OK("cuStreamGetDevResource", streams[i], &part, SM);
        REQUIRE(part.sm.smCount == parts[i].sm.smCount);
        where_each[i] = multiprocessors(streams[i]);
        REQUIRE(where_each[i].size() <= parts[i].sm.smCount);
    }
    REQUIRE(ids[0] != ids[1]);
    for (unsigned number : where_each[0]) REQUIRE(!where_each[1].count(number));
    // All that the part may use: what both of its runs have used is within it.
    std::set<unsigned> allowed;
    for (unsigned number = 0; number < total; number++)
        if (!where_each[1].count(number)) allowed.insert(number);
    as_context(greens[0], allowed, parts[0].sm.smCount);
    events(greens, streams);
    synchronises(greens[0]);
    CUevent event;
    CUstreamAttrValue attribute{};
    OK("cuStreamGetAttribute", streams[0], (int)CU_LAUNCH_ATTRIBUTE_PRIORITY, &attribute);
    OK("cuGreenCtxDestroy", greens[0]);
    // A stream that it leaves behind harms nothing.
    OK("cuEventCreate", &event, (unsigned)CU_EVENT_DISABLE_TIMING);
    OK("cuEventRecord", event, streams[1]);
    OK("cuCtxWaitEvent", primary, event);
    OK("cuCtxSynchronize");
    GIVES((CUresult)917 /* CUDA_ERROR_STREAM_DETACHED, of newer headers */, "cuStreamQuery", streams[0]);
    OK("cuStreamDestroy_v2", streams[0]);
    OK("cuCtxSynchronize");
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuGreenCtxGetDevResource", greens[0], &part, SM);
    REQUIRE(!multiprocessors(streams[1]).empty());
    OK("cuGreenCtxDestroy", greens[1]);
    OK("cuDevicePrimaryCtxRelease_v2", (CUdevice)0);
    return pass("green contexts: parts of a device, their streams, as contexts");
}
