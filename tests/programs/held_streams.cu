// Eight host threads, each with its own stream. One is held: its stream waits, and it puts more work into it than a driver's queue takes.
// The others go on meanwhile, and one of them releases it: by a stream's write of a value, by a copy that an event waits
// for, by a copy that a kernel polls. Then the conditions of stream memory operations, and what they refuse.
//   held_streams [LAUNCHES]   what the held thread puts behind its wait; default 3000
#include "check.h"

#include <atomic>
#include <cuda.h>
#include <dlfcn.h>
#include <functional>
#include <thread>
#include <vector>

const char *const PROGRAM = "held_streams";
constexpr int WORKERS = 6, N = 3001, STILL = 20;

static CUresult (*wait32)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
static CUresult (*wait64)(CUstream, CUdeviceptr, cuuint64_t, unsigned);
static CUresult (*write32)(CUstream, CUdeviceptr, cuuint32_t, unsigned);
static CUresult (*write64)(CUstream, CUdeviceptr, cuuint64_t, unsigned);
static CUresult (*batch)(CUstream, unsigned, CUstreamBatchMemOpParams *, unsigned);

#define DRIVER(call)                                                                        \
    do {                                                                                    \
        CUresult driver_error = (call);                                                     \
        if (driver_error != CUDA_SUCCESS) fail("line %d: %s: %d", __LINE__, #call, driver_error); \
    } while (0)

#define REFUSED(call, expected)                                                             \
    do {                                                                                    \
        CUresult refused_error = (call);                                                    \
        if (refused_error != (expected))                                                    \
            fail("line %d: %s: %d, expected %d", __LINE__, #call, refused_error, (int)(expected)); \
    } while (0)

template <class F> static void find(void *library, F &function, const char *name) {
    function = reinterpret_cast<F>(dlsym(library, name));
    REQUIRE(function, "the driver has no %s", name);
}

__global__ void count(unsigned *at) { *at += 1; }

__global__ void mix(unsigned *values, int n, unsigned key) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = (values[i] ^ key) * 2654435761u + i;
}

__global__ void spin_until(volatile unsigned *flag, unsigned value) {
    while (*flag != value) {}
}

static cudaStream_t new_stream() {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static CUdeviceptr address(void *pointer) { return (CUdeviceptr)pointer; }

// Words on the device, zero.
static unsigned *new_words(int count) {
    unsigned *words;
    CHECK(cudaMalloc(&words, count * sizeof *words));
    CHECK(cudaMemset(words, 0, count * sizeof *words));
    CHECK(cudaDeviceSynchronize());
    return words;
}

// A round of what an undisturbed thread does: copies both ways, launches, an allocation.
static void round_of_work(cudaStream_t stream, unsigned seed) {
    std::vector<unsigned> values(N);
    unsigned *device;
    CHECK(cudaMalloc(&device, N * sizeof(unsigned)));
    for (int i = 0; i < N; i++) values[i] = seed + i;
    CHECK(cudaMemcpyAsync(device, values.data(), N * sizeof(unsigned), cudaMemcpyHostToDevice, stream));
    mix<<<(N + 127) / 128, 128, 0, stream>>>(device, N, seed);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(values.data(), device, N * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int i = 0; i < N; i++) {
        unsigned expected = ((seed + i) ^ seed) * 2654435761u + i;
        REQUIRE(values[i] == expected, "element %d is %u, expected %u", i, values[i], expected);
    }
    // Not freed here: giving memory back waits for every stream, and one is held.
    CHECK(cudaMemsetAsync(device, 0, N * sizeof(unsigned), stream));
}

// The held thread's queue, and what releases it. `hold` puts the wait into the stream; `release` runs on another thread.
static void held(int launches, const char *what, const std::function<void(cudaStream_t)> &hold,
                 const std::function<void(cudaStream_t)> &release) {
    unsigned *counter = new_words(1);
    std::atomic<int> posted{0};
    std::atomic<bool> over{false};
    cudaStream_t stream = new_stream();
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
        CHECK(cudaSetDevice(0));
        hold(stream);
        for (int i = 0; i < launches; i++) {
            count<<<1, 1, 0, stream>>>(counter);
            CHECK(cudaGetLastError());
            posted = i + 1;
        }
        CHECK(cudaStreamSynchronize(stream));
        unsigned counted = 0;
        CHECK(cudaMemcpy(&counted, counter, sizeof counted, cudaMemcpyDeviceToHost));
        REQUIRE(counted == (unsigned)launches, "%s: %u launches of %d ran", what, counted, launches);
        over = true;
    });
    threads.emplace_back([&] {
        // Releases once the other has not come further for a number of rounds: it is blocked, or done with its calls.
        cudaStream_t own = new_stream();
        for (int still = 0, last = -1; still < STILL;) {
            round_of_work(own, still);
            int now = posted;
            still = now == last && now > 0 ? still + 1 : 0;
            last = now;
        }
        REQUIRE(!over, "%s: the stream was not held", what);
        EXPECT(cudaStreamQuery(stream), cudaErrorNotReady);
        release(own);
        CHECK(cudaStreamSynchronize(own));
    });
    for (int worker = 0; worker < WORKERS; worker++) {
        threads.emplace_back([&, worker] {
            cudaStream_t own = new_stream();
            for (int round = 0; round < 10; round++) round_of_work(own, worker * 1000 + round);
        });
    }
    for (std::thread &thread : threads) thread.join();
    CHECK(cudaStreamDestroy(stream));
}

// A wait that is not satisfied holds the stream; the value that satisfies it releases it.
static void condition(bool wide, unsigned flags, uint64_t first, uint64_t wanted, uint64_t second) {
    unsigned *words = new_words(4);
    cudaStream_t waiting = new_stream(), writing = new_stream();
    uint64_t start = first;
    CHECK(cudaMemcpy(words, &start, sizeof start, cudaMemcpyHostToDevice));
    // A copy of pageable memory may return before the device has it, and the streams here do not wait for it.
    CHECK(cudaDeviceSynchronize());
    if (wide) DRIVER(wait64(waiting, address(words), wanted, flags));
    else DRIVER(wait32(waiting, address(words), (unsigned)wanted, flags));
    DRIVER(write32(waiting, address(words + 2), 77, CU_STREAM_WRITE_VALUE_DEFAULT));
    round_of_work(writing, 5);
    EXPECT(cudaStreamQuery(waiting), cudaErrorNotReady);
    unsigned mark = 1;
    CHECK(cudaMemcpyAsync(&mark, words + 2, sizeof mark, cudaMemcpyDeviceToHost, writing));
    CHECK(cudaStreamSynchronize(writing));
    REQUIRE(mark == 0, "condition %u was taken for satisfied", flags);
    if (wide) DRIVER(write64(writing, address(words), second, CU_STREAM_WRITE_VALUE_DEFAULT));
    else DRIVER(write32(writing, address(words), (unsigned)second, CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER));
    CHECK(cudaStreamSynchronize(waiting));
    CHECK(cudaMemcpy(&mark, words + 2, sizeof mark, cudaMemcpyDeviceToHost));
    REQUIRE(mark == 77, "condition %u: the write behind it wrote %u", flags, mark);
    CHECK(cudaStreamDestroy(waiting));
    CHECK(cudaStreamDestroy(writing));
    CHECK(cudaFree(words));
}

static void conditions() {
    condition(false, CU_STREAM_WAIT_VALUE_GEQ, 0, 1, 2);
    // Greater or equal is cyclic: the difference, signed.
    condition(false, CU_STREAM_WAIT_VALUE_GEQ, 0xfffffff0u, 3, 4);
    condition(false, CU_STREAM_WAIT_VALUE_EQ, 6, 5, 5);
    condition(false, CU_STREAM_WAIT_VALUE_AND, 1, 6, 4);
    condition(false, CU_STREAM_WAIT_VALUE_NOR, 0xffffffffu, 0x7fffffffu, 1);
    condition(true, CU_STREAM_WAIT_VALUE_GEQ, 1, 1ull << 40, 1ull << 41);
    condition(true, CU_STREAM_WAIT_VALUE_EQ, 5, 5 | 1ull << 63, 5 | 1ull << 63);
    condition(true, CU_STREAM_WAIT_VALUE_AND, 1, 1ull << 50, 1ull << 50);
}

static CUstreamBatchMemOpParams operation(CUstreamBatchMemOpType type, void *at, uint64_t value, unsigned flags) {
    CUstreamBatchMemOpParams parameters{};
    parameters.waitValue.operation = type;
    parameters.waitValue.address = address(at);
    parameters.waitValue.value64 = value;
    parameters.waitValue.flags = flags;
    return parameters;
}

static void batches() {
    unsigned *words = new_words(8);
    cudaStream_t waiting = new_stream(), writing = new_stream();
    CUstreamBatchMemOpParams held[3] = {
        operation(CU_STREAM_MEM_OP_WAIT_VALUE_32, words, 3, CU_STREAM_WAIT_VALUE_EQ),
        operation(CU_STREAM_MEM_OP_WAIT_VALUE_64, words + 2, 1ull << 33, CU_STREAM_WAIT_VALUE_GEQ),
        operation(CU_STREAM_MEM_OP_WRITE_VALUE_64, words + 4, 0x1234567890ull, 0),
    };
    DRIVER(batch(waiting, 3, held, 0));
    CUstreamBatchMemOpParams barrier{};
    barrier.memoryBarrier.operation = CU_STREAM_MEM_OP_BARRIER;
    barrier.memoryBarrier.flags = CU_STREAM_MEMORY_BARRIER_TYPE_GPU;
    CUstreamBatchMemOpParams release[3] = {
        operation(CU_STREAM_MEM_OP_WRITE_VALUE_32, words, 3, 0),
        barrier,
        operation(CU_STREAM_MEM_OP_WRITE_VALUE_64, words + 2, 1ull << 34, 0),
    };
    DRIVER(batch(writing, 1, release, 0));
    CHECK(cudaStreamSynchronize(writing));
    EXPECT(cudaStreamQuery(waiting), cudaErrorNotReady);
    DRIVER(batch(writing, 2, release + 1, 0));
    CHECK(cudaStreamSynchronize(waiting));
    uint64_t written = 0;
    CHECK(cudaMemcpy(&written, words + 4, sizeof written, cudaMemcpyDeviceToHost));
    REQUIRE(written == 0x1234567890ull, "the batch wrote %llx", (unsigned long long)written);
    DRIVER(batch(writing, 0, nullptr, 0));
    // What is wrong is refused as a whole, and nothing of it is done.
    CUstreamBatchMemOpParams wrong[2] = {operation(CU_STREAM_MEM_OP_WRITE_VALUE_32, words, 99, 0),
                                         operation((CUstreamBatchMemOpType)7, words, 0, 0)};
    REFUSED(batch(writing, 2, wrong, 0), CUDA_ERROR_INVALID_VALUE);
    REFUSED(batch(writing, 2, release, 1), CUDA_ERROR_INVALID_VALUE);
    REFUSED(batch(writing, 100000, release, 0), CUDA_ERROR_INVALID_VALUE);
    REFUSED(batch(writing, 1, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
    REFUSED(wait32(writing, address(words) + 2, 0, 0), CUDA_ERROR_INVALID_VALUE);
    REFUSED(wait64(writing, address(words) + 4, 0, 0), CUDA_ERROR_INVALID_VALUE);
    REFUSED(wait32(writing, address(words), 0, 4), CUDA_ERROR_INVALID_VALUE);
    REFUSED(write32(writing, address(words), 0, 2), CUDA_ERROR_INVALID_VALUE);
    REFUSED(write32(writing, 4096, 0, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK(cudaStreamSynchronize(writing));
    unsigned first = 0;
    CHECK(cudaMemcpy(&first, words, sizeof first, cudaMemcpyDeviceToHost));
    REQUIRE(first == 3, "a refused batch wrote %u", first);
    // Whether the device reaches the memory of the program is printed, not compared.
    unsigned *pinned;
    CHECK(cudaMallocHost(&pinned, 64));
    std::printf("~pinned %d\n", write32(writing, address(pinned), 1, 0));
    CHECK(cudaStreamSynchronize(writing));
    CHECK(cudaFreeHost(pinned));
    CHECK(cudaStreamDestroy(waiting));
    CHECK(cudaStreamDestroy(writing));
    CHECK(cudaFree(words));
}

int main(int arguments, char **argument) {
    int launches = arguments > 1 ? std::atoi(argument[1]) : 3000;
    CHECK(cudaSetDevice(0));
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    REQUIRE(driver, "no driver: %s", dlerror());
    find(driver, wait32, "cuStreamWaitValue32_v2");
    find(driver, wait64, "cuStreamWaitValue64_v2");
    find(driver, write32, "cuStreamWriteValue32_v2");
    find(driver, write64, "cuStreamWriteValue64_v2");
    find(driver, batch, "cuStreamBatchMemOp_v2");
    // Loads the kernels while nothing is held.
    unsigned *flags = new_words(4);
    count<<<1, 1>>>(flags + 3);
    spin_until<<<1, 1>>>(flags + 3, 1);
    CHECK(cudaDeviceSynchronize());
    static const unsigned one = 1;
    held(
        launches, "a value", [&](cudaStream_t stream) { DRIVER(wait32(stream, address(flags), 1, CU_STREAM_WAIT_VALUE_GEQ)); },
        [&](cudaStream_t own) { DRIVER(write32(own, address(flags), 1, CU_STREAM_WRITE_VALUE_DEFAULT)); });
    held(
        launches, "an event",
        [&](cudaStream_t stream) {
            cudaEvent_t event;
            cudaStream_t other = new_stream();
            CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
            DRIVER(wait32(other, address(flags + 1), 1, CU_STREAM_WAIT_VALUE_EQ));
            CHECK(cudaEventRecord(event, other));
            CHECK(cudaStreamWaitEvent(stream, event, 0));
            CHECK(cudaEventDestroy(event));
        },
        [&](cudaStream_t own) { CHECK(cudaMemcpyAsync(flags + 1, &one, sizeof one, cudaMemcpyHostToDevice, own)); });
    held(
        launches, "a kernel that polls",
        [&](cudaStream_t stream) {
            spin_until<<<1, 1, 0, stream>>>(flags + 2, 1);
            CHECK(cudaGetLastError());
        },
        [&](cudaStream_t own) { CHECK(cudaMemcpyAsync(flags + 2, &one, sizeof one, cudaMemcpyHostToDevice, own)); });
    conditions();
    batches();
    return pass("%d threads, %d launches behind a wait", WORKERS + 2, launches);
}
