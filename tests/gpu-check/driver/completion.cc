// How a stream tells that it has come somewhere: it writes to pinned memory, and a thread of the processor looks. And what waits while a
// stream is held.
#include "report.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

using Word = volatile uint64_t;

// A page that both sides see.
struct Page {
    Word *host = nullptr;
    CUdeviceptr device = 0;
    CUresult result;
    Page() {
        result = CU(cuMemHostAlloc, (void **)&host, 4096, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
        if (result != CUDA_SUCCESS) return;
        for (int i = 0; i < 512; i++) host[i] = 0;
        result = CU(cuMemHostGetDevicePointer, &device, (void *)host, 0);
    }
};

// Whether a word reaches a value within a time.
static bool reaches(Word &word, uint64_t value, double limit = 10) {
    for (double end = seconds() + limit; word != value;)
        if (seconds() > end) return false;
    return true;
}

static void written_values(Page &page, CUstream stream) {
    check("write-64", CUDA_SUCCESS, CU(cuStreamWriteValue64, stream, page.device, 0x123456789ABCDEF0, 0));
    check_yes("write-64.is-seen", reaches(page.host[0], 0x123456789ABCDEF0));
    check("write-32", CUDA_SUCCESS, CU(cuStreamWriteValue32, stream, page.device + 8, 77, 0));
    check_yes("write-32.is-seen", reaches(page.host[1], 77));
    check("write-64.legacy-stream", CUDA_SUCCESS, CU(cuStreamWriteValue64, nullptr, page.device + 16, 5, 0));
    check_yes("write-64.legacy-stream-is-seen", reaches(page.host[2], 5));
    check("write-64.per-thread-stream", CUDA_SUCCESS, CU(cuStreamWriteValue64, CU_STREAM_PER_THREAD, page.device + 24, 6, 0));
    check_yes("write-64.per-thread-stream-is-seen", reaches(page.host[3], 6));
    observe("write-64.host-address", CU(cuStreamWriteValue64, stream, (CUdeviceptr)page.host + 32, 1, 0));
    observe("write-64.odd-address", CU(cuStreamWriteValue64, stream, page.device + 36, 1, 0));
    CU(cuStreamSynchronize, stream);
}

// What the stream did before the written value is visible to whoever has seen the value.
static void order(Setup &setup, Page &page, CUstream stream) {
    int *landed = nullptr;
    CU(cuMemHostAlloc, (void **)&landed, 4096, 0);
    int late = 0, not_ready = 0, lost = 0;
    const int rounds = 2000;
    for (int round = 1; round <= rounds; round++) {
        int value = round;
        setup.launch(setup.store_at, stream, {&setup.words, &value});
        CU(cuMemcpyDtoHAsync, landed, setup.words, 4, stream);
        CU(cuStreamWriteValue64, stream, page.device, round, 0);
        if (!reaches(page.host[0], round)) {
            lost++;
            break;
        }
        late += *(volatile int *)landed != round;
        not_ready += CU(cuStreamQuery, stream) == CUDA_ERROR_NOT_READY;
    }
    check("order.lost", std::string("0"), format("%d", lost));
    check("order.copy-lands-before-the-value", "0 late", format("%d late", late));
    note("order.query-behind-the-value", "NOT_READY %d times of %d", not_ready, rounds);
    CU(cuMemFreeHost, landed);
}

static void percentiles(const char *name, std::vector<double> &times) {
    std::sort(times.begin(), times.end());
    note(name, "%.2f us median, %.2f at 90 %%, %.2f at 99 %%", times[times.size() / 2] * 1e6, times[times.size() * 9 / 10] * 1e6,
         times[times.size() * 99 / 100] * 1e6);
}

static void latencies(Setup &setup, Page &page, CUstream stream) {
    std::vector<double> call, seen, launched, synchronized;
    uint64_t value = 1000000;
    for (int i = 0; i < 1000; i++) {
        double started = seconds();
        CU(cuStreamWriteValue64, stream, page.device, ++value, 0);
        call.push_back(seconds() - started);
        reaches(page.host[0], value);
        seen.push_back(seconds() - started);
        started = seconds();
        setup.launch(setup.nothing, stream, {});
        CU(cuStreamWriteValue64, stream, page.device, ++value, 0);
        reaches(page.host[0], value);
        launched.push_back(seconds() - started);
        started = seconds();
        setup.launch(setup.nothing, stream, {});
        CU(cuStreamSynchronize, stream);
        synchronized.push_back(seconds() - started);
    }
    percentiles("latency.write-call", call);
    percentiles("latency.write-until-seen", seen);
    percentiles("latency.launch-and-write-until-seen", launched);
    percentiles("latency.launch-and-synchronize", synchronized);
    double started = seconds();
    for (int i = 0; i < 10000; i++) setup.launch(setup.nothing, stream, {});
    note("latency.launch-call", "%.2f us each of 10000", (seconds() - started) * 1e2);
    started = seconds();
    for (int i = 0; i < 10000; i++) CU(cuStreamQuery, stream);
    note("latency.query-call", "%.2f us", (seconds() - started) * 1e2);
    CU(cuStreamSynchronize, stream);
}

void check_completion() {
    Setup setup;
    if (!setup.is_good) return;
    Page page;
    check("page", CUDA_SUCCESS, page.result);
    if (page.result != CUDA_SUCCESS) return;
    observe("page.device-address-is-host-address", page.device == (CUdeviceptr)page.host ? "yes" : "no");
    CUstream stream = nullptr;
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    CUresult first = CU(cuStreamWriteValue64, stream, page.device, 1, 0);
    if (first == CUDA_ERROR_NOT_SUPPORTED) return skip("write-64", name_of(first));
    written_values(page, stream);
    order(setup, page, stream);
    latencies(setup, page, stream);
}

// A stream that waits for a word of the processor's memory.
class Hold {
  public:
    Hold(Page &page, CUstream stream) : page(page), stream(stream) {}
    CUresult begin() {
        page.host[10] = 0;
        return CU(cuStreamWaitValue32, stream, page.device + 80, 1, CU_STREAM_WAIT_VALUE_GEQ);
    }
    void end() { page.host[10] = 1; }

  private:
    Page &page;
    CUstream stream;
};

// A call on a thread of its own, and whether it returns.
class Attempt {
  public:
    Attempt(CUcontext context, std::function<CUresult()> call)
        : thread([this, context, call] {
              CU(cuCtxSetCurrent, context);
              CUresult answer = call();
              std::lock_guard<std::mutex> guard(mutex);
              result = answer;
              is_over = true;
              changed.notify_all();
          }) {}
    bool returns(double limit = 0.25) {
        std::unique_lock<std::mutex> guard(mutex);
        // By the system's clock: the other one would need a newer C library than the bundle may.
        auto end = std::chrono::system_clock::now() + std::chrono::milliseconds((int)(limit * 1e3));
        return changed.wait_until(guard, end, [this] { return is_over; });
    }
    CUresult join() {
        thread.join();
        return result;
    }

  private:
    std::mutex mutex;
    std::condition_variable changed;
    bool is_over = false;
    CUresult result = CUDA_ERROR_UNKNOWN;
    std::thread thread;
};

// Whether a call returns while a stream is held with work behind the hold.
static void while_held(Setup &setup, Hold &hold, CUstream held, const char *name, const char *expected,
                       std::function<CUresult()> call) {
    if (!works(std::string(name) + ".hold", hold.begin())) return;
    setup.launch(setup.nothing, held, {});
    Attempt attempt(setup.context, call);
    // One that has to return has time on a busy machine too.
    double limit = expected && std::string(expected) == "returns" ? 10 : 0.25;
    std::string answer = attempt.returns(limit) ? "returns" : "waits";
    hold.end();
    observe(std::string(name) + ".result", attempt.join());
    if (expected) check(name, expected, answer);
    else observe(name, answer);
    CU(cuStreamSynchronize, held);
}

static void queue_depth(Setup &setup, Hold &hold, CUstream held) {
    if (!works("depth.hold", hold.begin())) return;
    const int most = 200000;
    std::atomic<int> launched{0};
    Attempt attempt(setup.context, [&] {
        CUresult result = CUDA_SUCCESS;
        while (launched < most && result == CUDA_SUCCESS) {
            result = setup.launch(setup.nothing, held, {});
            launched++;
        }
        return result;
    });
    // It is full when nothing more goes in for a while.
    int before = -1;
    while (!attempt.returns() && launched != before) before = launched;
    note("depth", "%d launches %s", launched.load(), launched < most ? "until the next one waits" : "without waiting");
    observe("depth.a-full-queue-makes-launches-wait", launched < most ? "yes" : "no");
    hold.end();
    check("depth.result", CUDA_SUCCESS, attempt.join());
    CU(cuStreamSynchronize, held);
}

void check_held() {
    Setup setup;
    if (!setup.is_good) return;
    Page page;
    CUstream held = nullptr, other = nullptr;
    CUevent event = nullptr;
    CU(cuStreamCreate, &held, CU_STREAM_NON_BLOCKING);
    CU(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    CU(cuEventCreate, &event, CU_EVENT_DISABLE_TIMING);
    Hold hold(page, held);
    CUresult result = page.result == CUDA_SUCCESS ? hold.begin() : page.result;
    if (result == CUDA_ERROR_NOT_SUPPORTED) return skip("hold", name_of(result));
    if (!works("hold", result)) return;
    setup.keep_busy(held, 0, 9);
    check("hold.is-busy", CUDA_ERROR_NOT_READY, CU(cuStreamQuery, held));
    hold.end();
    check("hold.ends", CUDA_SUCCESS, CU(cuStreamSynchronize, held));
    CUdeviceptr memory = 0, kept = 0;
    void *host = nullptr;
    CUstream made = nullptr;
    CUevent made_event = nullptr;
    CUmodule module = nullptr;
    std::string image = read_image("kernels.ptx");
    CU(cuMemAlloc, &kept, 8 << 20);
    std::unique_ptr<int[]> pageable(new int[1024]);
    auto held_check = [&](const char *name, const char *expected, std::function<CUresult()> call) {
        while_held(setup, hold, held, name, expected, call);
    };
    held_check("other-stream.launch", "returns", [&] {
        setup.launch(setup.nothing, other, {});
        return CU(cuStreamSynchronize, other);
    });
    held_check("other-stream.copy-out", "returns", [&] {
        CU(cuMemcpyDtoHAsync, pageable.get(), setup.words, 4096, other);
        return CU(cuStreamSynchronize, other);
    });
    held_check("context-synchronize", "waits", [&] { return CU(cuCtxSynchronize); });
    held_check("legacy.copy-out", nullptr, [&] { return CU(cuMemcpyDtoH, pageable.get(), setup.words, 64); });
    held_check("held.write-value", "returns", [&] { return CU(cuStreamWriteValue64, held, page.device + 128, 1, 0); });
    held_check("held.event-record", "returns", [&] { return CU(cuEventRecord, event, held); });
    held_check("held.pinned-copy-in", "returns", [&] { return CU(cuMemcpyHtoDAsync, setup.words, (void *)(page.host + 256), 64, held); });
    held_check("held.pageable-copy-in-64", nullptr, [&] { return CU(cuMemcpyHtoDAsync, setup.words, pageable.get(), 64, held); });
    held_check("held.pageable-copy-in-4096", nullptr, [&] { return CU(cuMemcpyHtoDAsync, setup.words, pageable.get(), 4096, held); });
    held_check("held.pageable-copy-out", "waits", [&] { return CU(cuMemcpyDtoHAsync, pageable.get(), setup.words, 64, held); });
    held_check("memory.allocate", nullptr, [&] { return CU(cuMemAlloc, &memory, 8 << 20); });
    held_check("memory.free", nullptr, [&] { return CU(cuMemFree, kept); });
    held_check("memory.host-allocate", nullptr, [&] { return CU(cuMemHostAlloc, &host, 1 << 20, 0); });
    held_check("memory.host-free", nullptr, [&] { return CU(cuMemFreeHost, host); });
    held_check("stream.create", nullptr, [&] { return CU(cuStreamCreate, &made, CU_STREAM_NON_BLOCKING); });
    held_check("stream.destroy", nullptr, [&] { return CU(cuStreamDestroy, made); });
    held_check("event.create", nullptr, [&] { return CU(cuEventCreate, &made_event, 0); });
    held_check("module.load", nullptr, [&] { return CU(cuModuleLoadData, &module, image.data()); });
    CUfunction function = nullptr;
    held_check("module.first-launch", nullptr, [&] {
        if (CUresult error = CU(cuModuleGetFunction, &function, module, "nothing")) return error;
        return setup.launch(function, other, {});
    });
    held_check("module.unload", nullptr, [&] { return CU(cuModuleUnload, module); });
    held_check("context.limit", nullptr, [&] { return CU(cuCtxSetLimit, CU_LIMIT_STACK_SIZE, 2048); });
    queue_depth(setup, hold, held);
}
