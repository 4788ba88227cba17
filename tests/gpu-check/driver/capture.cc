// Stream capture: whom its modes forbid what, and what a private write does to a stream that is being captured.
#include "report.h"

#include <thread>

// What `calls` gives on another thread that has the same context.
static CUresult on_another_thread(CUcontext context, std::function<CUresult()> calls) {
    CUresult result = CUDA_ERROR_UNKNOWN;
    std::thread([&] {
        CU(cuCtxSetCurrent, context);
        result = calls();
    }).join();
    return result;
}

static CUresult relax() {
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    return CU(cuThreadExchangeStreamCaptureMode, &mode);
}

static CUresult allocate() {
    CUdeviceptr memory = 0;
    CUresult result = CU(cuMemAlloc, &memory, 4096);
    if (result == CUDA_SUCCESS) CU(cuMemFree, memory);
    return result;
}

// Begins a capture, does one thing, and tells what that gave and how the capture ended.
static void while_capturing(CUstream stream, const std::string &name, CUstreamCaptureMode mode, std::function<CUresult()> call) {
    if (!works(name + ".begin", CU(cuStreamBeginCapture, stream, mode))) return;
    observe(name, call());
    CUgraph graph = nullptr;
    observe(name + ".end", CU(cuStreamEndCapture, stream, &graph));
    if (graph) CU(cuGraphDestroy, graph);
}

static void modes() {
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    check("exchange", CUDA_SUCCESS, CU(cuThreadExchangeStreamCaptureMode, &mode));
    check("exchange.default-is-global", "0", format("%d", (int)mode));
    mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    CU(cuThreadExchangeStreamCaptureMode, &mode);
    check("exchange.was-relaxed", "2", format("%d", (int)mode));
    mode = (CUstreamCaptureMode)9;
    observe("exchange.unknown", CU(cuThreadExchangeStreamCaptureMode, &mode));
}

static void forbidden(Setup &setup, CUstream stream, CUstream other) {
    struct {
        const char *name;
        CUstreamCaptureMode mode;
    } kinds[] = {{"global", CU_STREAM_CAPTURE_MODE_GLOBAL}, {"thread", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL}, {"relaxed", CU_STREAM_CAPTURE_MODE_RELAXED}};
    for (auto [kind, mode] : kinds) {
        std::string name = std::string(kind) + ".";
        while_capturing(stream, name + "allocate", mode, allocate);
        while_capturing(stream, name + "allocate-elsewhere", mode, [&] { return on_another_thread(setup.context, allocate); });
        while_capturing(stream, name + "allocate-elsewhere-relaxed", mode, [&] {
            return on_another_thread(setup.context, [] {
                relax();
                return allocate();
            });
        });
        while_capturing(stream, name + "query", mode, [&] { return CU(cuStreamQuery, stream); });
        while_capturing(stream, name + "synchronize", mode, [&] { return CU(cuStreamSynchronize, stream); });
        while_capturing(stream, name + "context-synchronize", mode, [&] { return CU(cuCtxSynchronize); });
        while_capturing(stream, name + "other-stream-synchronize", mode, [&] { return CU(cuStreamSynchronize, other); });
        while_capturing(stream, name + "legacy-launch", mode, [&] { return setup.launch(setup.nothing, nullptr, {}); });
        while_capturing(stream, name + "legacy-launch-elsewhere-relaxed", mode, [&] {
            return on_another_thread(setup.context, [&] {
                relax();
                return setup.launch(setup.nothing, nullptr, {});
            });
        });
        while_capturing(stream, name + "end-elsewhere", mode, [&] {
            return on_another_thread(setup.context, [&] {
                CUgraph graph = nullptr;
                return CU(cuStreamEndCapture, stream, &graph);
            });
        });
    }
}

static void private_operations(Setup &setup, CUstream stream, CUstream other) {
    CUdeviceptr device = 0;
    void *host = nullptr;
    CU(cuMemHostAlloc, &host, 4096, CU_MEMHOSTALLOC_DEVICEMAP);
    CU(cuMemHostGetDevicePointer, &device, host, 0);
    const CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    while_capturing(stream, "private.write-value", relaxed, [&] { return CU(cuStreamWriteValue64, stream, device, 1, 0); });
    while_capturing(stream, "private.write-value-elsewhere", CU_STREAM_CAPTURE_MODE_GLOBAL, [&] {
        return on_another_thread(setup.context, [&] { return CU(cuStreamWriteValue64, other, device, 1, 0); });
    });
    CUevent event = nullptr;
    CU(cuEventCreate, &event, CU_EVENT_DISABLE_TIMING);
    while_capturing(stream, "private.record-and-query", relaxed, [&] {
        CU(cuEventRecord, event, stream);
        return CU(cuEventQuery, event);
    });
    CU(cuEventDestroy, event);
}

static void a_graph(Setup &setup, CUstream stream) {
    CUgraph graph = nullptr;
    CUgraphExec runnable = nullptr;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    int value = 31, got = 0;
    if (!works("graph.begin", CU(cuStreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_RELAXED))) return;
    CU(cuStreamIsCapturing, stream, &status);
    check("graph.status", "1", format("%d", (int)status));
    check("graph.launch", CUDA_SUCCESS, setup.launch(setup.store_at, stream, {&setup.words, &value}));
    check("graph.end", CUDA_SUCCESS, CU(cuStreamEndCapture, stream, &graph));
    check("graph.instantiate", CUDA_SUCCESS, CU(cuGraphInstantiateWithFlags, &runnable, graph, 0));
    check("graph.run", CUDA_SUCCESS, CU(cuGraphLaunch, runnable, stream));
    CU(cuStreamSynchronize, stream);
    CU(cuMemcpyDtoH, &got, setup.words, 4);
    check("graph.value", "31", format("%d", got));
    CU(cuGraphExecDestroy, runnable);
    CU(cuGraphDestroy, graph);
}

void check_capture() {
    Setup setup;
    if (!setup.is_good) return;
    CUstream stream = nullptr, other = nullptr;
    // A blocking stream, for which the legacy stream's rule holds.
    CU(cuStreamCreate, &stream, CU_STREAM_DEFAULT);
    CU(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    CUgraph graph = nullptr;
    CUresult result = CU(cuStreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    if (result == CUDA_ERROR_NOT_SUPPORTED) return skip("capture", name_of(result));
    check("capture.begin", CUDA_SUCCESS, result);
    observe("capture.begin-twice", CU(cuStreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    observe("capture.end", CU(cuStreamEndCapture, stream, &graph));
    if (graph) CU(cuGraphDestroy, graph);
    observe("capture.legacy", CU(cuStreamBeginCapture, nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
    observe("capture.end-of-none", CU(cuStreamEndCapture, other, &graph));
    modes();
    a_graph(setup, stream);
    forbidden(setup, stream, other);
    private_operations(setup, stream, other);
}
