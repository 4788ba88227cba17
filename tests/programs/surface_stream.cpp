// Streams and events: order, waiting, and what they tell of themselves.
#include <atomic>

#include "driver.h"

const char *const PROGRAM = "surface_stream";

static CUcontext context;
static CUfunction slow;
static CUdeviceptr word;

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

static void told() {
    CUstream plain = nullptr, other = nullptr;
    unsigned flags = 77;
    int priority = 77, least = 0, greatest = 0;
    unsigned long long first = 0, second = 0;
    CUcontext of = nullptr;
    CUdevice device = -1;
    OK("cuCtxGetStreamPriorityRange", &least, &greatest);
    OK("cuStreamCreate", &plain, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreateWithPriority", &other, (unsigned)CU_STREAM_NON_BLOCKING, greatest);
    REQUIRE(plain && other && plain != other);
    OK("cuStreamGetFlags", plain, &flags);
    REQUIRE(flags == CU_STREAM_NON_BLOCKING);
    OK("cuStreamGetPriority", other, &priority);
    REQUIRE(priority == greatest);
    OK("cuStreamGetId", plain, &first);
    OK("cuStreamGetId", other, &second);
    REQUIRE(first != second);
    OK("cuStreamGetCtx", plain, &of);
    REQUIRE(of == context);
    // No context of ours is green.
    of = nullptr;
    CUgreenCtx green = (CUgreenCtx)(uintptr_t)0x77;
    OK("cuStreamGetCtx_v2", plain, &of, &green);
    REQUIRE(of == context && green == nullptr);
    green = (CUgreenCtx)(uintptr_t)0x77;
    OK("cuStreamGetGreenCtx", plain, &green);
    REQUIRE(green == nullptr);
    if (has("cuStreamGetDevice")) {
        OK("cuStreamGetDevice", plain, &device);
        REQUIRE(device == 0);
    }
    OK("cuStreamDestroy_v2", other);
    FAILS("cuStreamGetFlags", other, &flags);
    if (has("cuStreamDestroy")) {
        OK("cuStreamDestroy", plain);
        FAILS("cuStreamGetFlags", plain, &flags);
    }
}

// While the device is busy a query must say so. A thread that is held up may look too late: it tries again.
static void busy(const char *name, CUstream stream, CUevent event) {
    for (int attempt = 0; attempt < 20; attempt++) {
        start_slow(stream, 1);
        OK("cuEventRecord", event, stream);
        CUresult result = !std::strcmp(name, "cuStreamQuery") ? call(name, stream) : call(name, event);
        OK("cuStreamSynchronize", stream);
        if (result == CUDA_ERROR_NOT_READY) return;
        REQUIRE(result == CUDA_SUCCESS);
    }
    fail(__LINE__, std::string(name) + " never says that the device is busy");
}

// After the call the event has happened: nothing that follows waits for it.
static void waiting(CUstream stream, CUstream other) {
    CUevent done = nullptr;
    OK("cuEventCreate", &done, (unsigned)CU_EVENT_DISABLE_TIMING);
    REQUIRE(done);
    busy("cuStreamQuery", stream, done);
    busy("cuEventQuery", stream, done);
    OK("cuStreamQuery", stream);
    for (const char *wait : {"cuStreamSynchronize", "cuEventSynchronize"}) {
        start_slow(stream, 2);
        OK("cuEventRecord", done, stream);
        bool by_stream = !std::strcmp(wait, "cuStreamSynchronize");
        CUresult waited = by_stream ? call(wait, stream) : call(wait, done);
        REQUIRE(waited == CUDA_SUCCESS);
        OK("cuEventQuery", done);
    }
    // Another stream waits for the event: what it reads then is what the kernel stored.
    CUdeviceptr copy;
    OK("cuMemAlloc_v2", &copy, (size_t)4);
    for (const char *record : {"cuEventRecord", "cuEventRecordWithFlags"}) {
        OK("cuMemsetD32_v2", word, 7u, (size_t)1);
        OK("cuCtxSynchronize");
        start_slow(stream, 8);
        if (!std::strcmp(record, "cuEventRecord"))
            OK(record, done, stream);
        else
            OK(record, done, stream, 0u);
        OK("cuStreamWaitEvent", other, done, 0u);
        OK("cuMemcpyDtoDAsync_v2", copy, word, (size_t)4, other);
        OK("cuStreamSynchronize", other);
        REQUIRE(read(copy) == 8);
    }
    OK("cuEventDestroy_v2", done);
    FAILS("cuEventQuery", done);
}

static void time_between(CUstream stream) {
    CUevent begin, end;
    OK("cuEventCreate", &begin, 0u);
    OK("cuEventCreate", &end, 0u);
    OK("cuEventRecord", begin, stream);
    start_slow(stream, 3);
    OK("cuEventRecord", end, stream);
    OK("cuEventSynchronize", end);
    for (const char *elapsed : {"cuEventElapsedTime", "cuEventElapsedTime_v2"}) {
        if (!has(elapsed)) continue;
        float milliseconds = -1;
        OK(elapsed, &milliseconds, begin, end);
        REQUIRE(milliseconds > 0);
    }
    if (has("cuEventDestroy")) {
        OK("cuEventDestroy", begin);
        FAILS("cuEventQuery", begin);
    }
}

// A write is there after it; a wait holds its stream until another stream has made the word what is waited for.
static void words(CUstream stream, CUstream other) {
    CUdeviceptr at = 0;
    OK("cuMemAlloc_v2", &at, (size_t)8);
    CUstreamBatchMemOpParams operation{};
    operation.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = at;
    unsigned expected = 100;
    for (const char *write : {"cuStreamWriteValue32", "cuStreamWriteValue32_v2", "cuStreamWriteValue64",
                              "cuStreamWriteValue64_v2", "cuStreamBatchMemOp", "cuStreamBatchMemOp_v2"}) {
        if (!has(write)) continue;
        operation.writeValue.value = ++expected;
        if (std::strstr(write, "Batch")) OK(write, stream, 1u, &operation, 0u);
        else if (std::strstr(write, "64")) OK(write, stream, at, (cuuint64_t)expected, 0u);
        else OK(write, stream, at, (cuuint32_t)expected, 0u);
        OK("cuStreamSynchronize", stream);
        REQUIRE(read(at) == expected);
    }
    for (const char *wait : {"cuStreamWaitValue32", "cuStreamWaitValue32_v2", "cuStreamWaitValue64",
                             "cuStreamWaitValue64_v2"}) {
        if (!has(wait)) continue;
        OK("cuMemsetD32Async", at, 0u, (size_t)2, other);
        OK("cuStreamSynchronize", other);
        const unsigned equal = CU_STREAM_WAIT_VALUE_EQ;
        if (std::strstr(wait, "64")) OK(wait, stream, at, (cuuint64_t)1, equal);
        else OK(wait, stream, at, (cuuint32_t)1, equal);
        REQUIRE(call("cuStreamQuery", stream) == CUDA_ERROR_NOT_READY);
        OK("cuMemsetD32Async", at, 1u, (size_t)1, other);
        OK("cuStreamSynchronize", stream);
    }
}

// What a function that a stream calls sees.
static struct {
    std::atomic<int> calls;
    int order[8];
    CUresult inside;
    CUstream stream;
    CUresult status;
    unsigned found;
} seen;
static unsigned *landed;

static void CUDA_CB host_function(void *data) {
    seen.order[seen.calls] = (int)(intptr_t)data;
    seen.found = *landed;
    usleep(20000);
    CUdevice device;
    seen.inside = call("cuCtxGetDevice", &device);
    *landed = 1000 + (unsigned)(intptr_t)data;
    seen.calls++;
}

static void CUDA_CB callback(CUstream stream, CUresult status, void *data) {
    seen.stream = stream;
    seen.status = status;
    seen.order[seen.calls] = (int)(intptr_t)data;
    seen.calls++;
}

// The function is called after what was put into the stream before, and before what was put there after it.
static void functions(CUstream stream, CUstream other) {
    OK("cuMemHostAlloc", (void **)&landed, (size_t)4, 0u);
    int number = 0;
    for (CUstream in : {stream, (CUstream)0}) {
        for (const char *launch : {"cuLaunchHostFunc", "cuLaunchHostFunc_v2"}) {
            if (!has(launch)) continue;
            seen.calls = 0;
            *landed = 0;
            start_slow(in, (unsigned)++number);
            OK("cuMemcpyDtoHAsync_v2", (void *)landed, word, (size_t)4, in);
            if (!std::strcmp(launch, "cuLaunchHostFunc"))
                OK(launch, in, (CUhostFn)host_function, (void *)(intptr_t)number);
            else
                OK(launch, in, (CUhostFn)host_function, (void *)(intptr_t)number, 0u);
            OK("cuMemsetD32Async", word, 7u, (size_t)1, in);
            // Not before the function has returned.
            REQUIRE(call("cuStreamQuery", in) == CUDA_ERROR_NOT_READY);
            OK("cuStreamSynchronize", in);
            REQUIRE(seen.calls == 1 && seen.order[0] == number && seen.found == (unsigned)number);
            REQUIRE(seen.inside == CUDA_ERROR_NOT_PERMITTED);
            REQUIRE(*landed == 1000u + (unsigned)number && read(word) == 7);
            // A copy behind a function takes what the function has written.
            OK("cuLaunchHostFunc", in, (CUhostFn)host_function, (void *)(intptr_t)(number + 100));
            OK("cuMemcpyHtoDAsync_v2", word, (const void *)landed, (size_t)4, in);
            OK("cuStreamSynchronize", in);
            REQUIRE(read(word) == 1100u + (unsigned)number);
        }
    }
    // Several in a row; an event behind them, for which another stream waits.
    CUevent done;
    OK("cuEventCreate", &done, (unsigned)CU_EVENT_DISABLE_TIMING);
    seen.calls = 0;
    for (int i = 0; i < 3; i++) OK("cuLaunchHostFunc", stream, (CUhostFn)host_function, (void *)(intptr_t)i);
    OK("cuEventRecord", done, stream);
    OK("cuStreamWaitEvent", other, done, 0u);
    OK("cuStreamSynchronize", other);
    REQUIRE(seen.calls == 3 && seen.order[0] == 0 && seen.order[1] == 1 && seen.order[2] == 2);
    OK("cuEventDestroy_v2", done);
    FAILS("cuLaunchHostFunc", stream, (CUhostFn)0, (void *)0);
    seen.calls = 0;
    seen.status = (CUresult)77;
    OK("cuStreamAddCallback", stream, (CUstreamCallback)callback, (void *)5, 0u);
    OK("cuStreamSynchronize", stream);
    REQUIRE(seen.calls == 1 && seen.order[0] == 5 && seen.stream == stream && seen.status == CUDA_SUCCESS);
    FAILS("cuStreamAddCallback", stream, (CUstreamCallback)callback, (void *)0, 1u);
}

static CUlaunchAttributeValue attribute_of(CUstream stream, int which) {
    CUlaunchAttributeValue value;
    std::memset(&value, 0x77, sizeof value);
    OK("cuStreamGetAttribute", stream, which, &value);
    return value;
}

// What a stream is told of its work stays, and can be given to another stream.
static void attributes(CUstream stream, CUstream other) {
    const int policy = CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, priority = CU_LAUNCH_ATTRIBUTE_PRIORITY;
    CUlaunchAttributeValue value{};
    value.syncPolicy = CU_SYNC_POLICY_YIELD;
    OK("cuStreamSetAttribute", stream, policy, (const CUlaunchAttributeValue *)&value);
    REQUIRE(attribute_of(stream, policy).syncPolicy == CU_SYNC_POLICY_YIELD);
    REQUIRE(attribute_of(other, policy).syncPolicy == CU_SYNC_POLICY_AUTO);
    OK("cuStreamCopyAttributes", other, stream);
    REQUIRE(attribute_of(other, policy).syncPolicy == CU_SYNC_POLICY_YIELD);
    int least = 0, greatest = 0, told = 77;
    OK("cuCtxGetStreamPriorityRange", &least, &greatest);
    REQUIRE(attribute_of(stream, priority).priority == least);
    std::memset(&value, 0, sizeof value);
    value.priority = greatest;
    OK("cuStreamSetAttribute", stream, priority, (const CUlaunchAttributeValue *)&value);
    REQUIRE(attribute_of(stream, priority).priority == greatest);
    OK("cuStreamGetPriority", stream, &told);
    REQUIRE(told == greatest);
    // A window of nothing takes back what was said of a window.
    std::memset(&value, 0, sizeof value);
    OK("cuStreamSetAttribute", stream, (int)CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW, (const CUlaunchAttributeValue *)&value);
    REQUIRE(attribute_of(stream, CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW).accessPolicyWindow.num_bytes == 0);
    FAILS("cuStreamSetAttribute", stream, (int)CU_LAUNCH_ATTRIBUTE_COOPERATIVE, (const CUlaunchAttributeValue *)&value);
}

// Streams share the queues of the device, so where there are many each takes little; a copy that is more than that still goes, also behind
// work that is known to be done.
static void crowd() {
    const size_t size = 32 << 20;
    std::vector<CUstream> streams(512);
    for (auto &stream : streams) OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    std::vector<unsigned char> bytes(size, 5), back(size);
    CUdeviceptr place;
    OK("cuMemAlloc_v2", &place, size);
    for (CUstream in : {streams[3], (CUstream)0}) {
        OK("cuMemsetD8Async", place, (unsigned char)1, size, in);
        OK("cuMemcpyDtoHAsync_v2", (void *)back.data(), place, (size_t)1000, in);
        REQUIRE(back[999] == 1);
        OK("cuMemcpyHtoDAsync_v2", place, (const void *)bytes.data(), size, in);
        OK("cuMemcpyDtoHAsync_v2", (void *)back.data(), place, size, in);
        OK("cuStreamSynchronize", in);
        REQUIRE(back == bytes);
    }
    OK("cuMemFree_v2", place);
    for (auto stream : streams) OK("cuStreamDestroy_v2", stream);
}

// The legacy stream and those that block wait for each other: also who only waits for one, asks for it, or frees memory in it.
static void with_the_legacy_stream(CUstream apart) {
    const CUstream legacy = nullptr;
    const unsigned equal = CU_STREAM_WAIT_VALUE_EQ;
    const size_t size = 4096;
    CUstream one, two;
    CUdeviceptr flag, kept;
    OK("cuStreamCreate", &one, 0u);
    OK("cuStreamCreate", &two, 0u);
    OK("cuMemAlloc_v2", &flag, (size_t)4);
    OK("cuMemAlloc_v2", &kept, size);
    OK("cuMemsetD32_v2", flag, 0u, (size_t)1);
    OK("cuCtxSynchronize");

    OK("cuStreamWaitValue32_v2", one, flag, (cuuint32_t)1, equal);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", one);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", legacy);
    OK("cuStreamWriteValue32_v2", apart, flag, (cuuint32_t)1, 0u);
    OK("cuStreamSynchronize", legacy);
    OK("cuStreamQuery", one);

    unsigned seen_apart = 0;
    OK("cuStreamWaitValue32_v2", legacy, flag, (cuuint32_t)2, equal);
    OK("cuMemsetD32Async", kept, 9u, (size_t)1, legacy);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", two);
    OK("cuStreamWriteValue32_v2", apart, flag, (cuuint32_t)2, 0u);
    OK("cuStreamSynchronize", two);
    OK("cuMemcpyDtoHAsync_v2", (void *)&seen_apart, kept, (size_t)4, apart);
    OK("cuStreamSynchronize", apart);
    REQUIRE(seen_apart == 9);

    if (has("cuMemAllocAsync")) {
        CUdeviceptr first, second;
        OK("cuMemAllocAsync", &first, size, one);
        OK("cuMemsetD8Async", first, (unsigned char)1, size, one);
        OK("cuStreamWaitValue32_v2", one, flag, (cuuint32_t)3, equal);
        OK("cuMemcpyDtoDAsync_v2", kept, first, size, one);
        OK("cuMemFreeAsync", first, legacy);
        // If it is the same memory, it is so behind the copy.
        OK("cuMemAllocAsync", &second, size, two);
        OK("cuMemsetD8Async", second, (unsigned char)2, size, two);
        OK("cuStreamWriteValue32_v2", apart, flag, (cuuint32_t)3, 0u);
        OK("cuCtxSynchronize");
        REQUIRE(read(kept) == 0x01010101);
        OK("cuMemFreeAsync", second, two);
    }
    OK("cuMemFree_v2", kept);
    OK("cuMemFree_v2", flag);
    OK("cuStreamDestroy_v2", one);
    OK("cuStreamDestroy_v2", two);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUmodule module;
    CUstream stream, other;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &slow, module, "slow");
    OK("cuMemAlloc_v2", &word, (size_t)4);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    told();
    waiting(stream, other);
    time_between(stream);
    words(stream, other);
    with_the_legacy_stream(other);
    functions(stream, other);
    attributes(stream, other);
    crowd();
    return pass("streams and events: order, waiting, what they tell");
}
