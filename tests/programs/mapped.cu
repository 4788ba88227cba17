// Mapped host memory by the runtime: a kernel reads and writes what the host allocated, by either pointer, a structure of pinned pointers, memory of the
// program's own that was registered; and flags in both directions while a kernel runs.
#include <atomic>
#include <vector>

#include "check.h"

const char *const PROGRAM = "mapped";

static const int COUNT = 20000;

__global__ void twice(const int *in, int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) out[i] = in[i] * 2;
}

struct Both {
    const int *in;
    int *out;
};

__global__ void thrice(Both both) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) both.out[i] = both.in[i] * 3;
}

// Answers each number that the host asks, until it asks a negative one.
__global__ void answer(volatile int *asked, volatile int *answered) {
    for (int round = 1;; round++) {
        while (asked[0] != round) {}
        int number = asked[1];
        if (number < 0) return;
        answered[1] = number * number;
        __threadfence_system();
        answered[0] = round;
    }
}

static void both_ways(int *in, int *out, const int *seen_in, int *seen_out) {
    const int blocks = (COUNT + 255) / 256;
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < COUNT; i++) in[i] = i * round;
        twice<<<blocks, 256>>>(seen_in, seen_out);
        CHECK(cudaDeviceSynchronize());
        for (int i = 0; i < COUNT; i++) REQUIRE(out[i] == i * round * 2, "round %d: %d of %d", round, out[i], i);
        thrice<<<blocks, 256>>>(Both{seen_in, seen_out});
        CHECK(cudaStreamSynchronize(0));
        for (int i = 0; i < COUNT; i++) REQUIRE(out[i] == i * round * 3, "round %d: %d of %d", round, out[i], i);
    }
}

static void conversation() {
    volatile int *asked, *answered;
    CHECK(cudaHostAlloc((void **)&asked, 64, cudaHostAllocMapped));
    CHECK(cudaHostAlloc((void **)&answered, 64, cudaHostAllocMapped));
    asked[0] = answered[0] = 0;
    answer<<<1, 1>>>(asked, answered);
    CHECK(cudaGetLastError());
    for (int round = 1; round <= 50; round++) {
        asked[1] = round == 50 ? -1 : round + 1000;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        asked[0] = round;
        if (round == 50) break;
        while (answered[0] != round) {}
        REQUIRE(answered[1] == (round + 1000) * (round + 1000), "round %d: %d", round, answered[1]);
    }
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaFreeHost((void *)asked));
    CHECK(cudaFreeHost((void *)answered));
}

int main() {
    const size_t bytes = COUNT * sizeof(int);
    int *in, *out, *seen_in, *seen_out;
    CHECK(cudaHostAlloc(&in, bytes, cudaHostAllocMapped));
    CHECK(cudaHostAlloc(&out, bytes, cudaHostAllocMapped));
    CHECK(cudaHostGetDevicePointer(&seen_in, in, 0));
    CHECK(cudaHostGetDevicePointer(&seen_out, out, 0));
    both_ways(in, out, seen_in, seen_out);
    both_ways(in, out, in, out);
    cudaPointerAttributes attributes{};
    CHECK(cudaPointerGetAttributes(&attributes, in + 5));
    REQUIRE(attributes.type == cudaMemoryTypeHost && attributes.hostPointer == in + 5, "type %d", attributes.type);
    CHECK(cudaFreeHost(in));
    CHECK(cudaFreeHost(out));
    // Unified addressing: pinned memory is mapped without asking.
    CHECK(cudaMallocHost(&in, bytes));
    std::vector<int> own(COUNT);
    CHECK(cudaHostRegister(own.data(), bytes, cudaHostRegisterDefault));
    both_ways(in, own.data(), in, own.data());
    CHECK(cudaHostUnregister(own.data()));
    CHECK(cudaFreeHost(in));
    conversation();
    return pass("%d numbers by mapped memory, and 49 questions while a kernel ran", COUNT);
}
