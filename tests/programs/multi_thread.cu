// Eight host threads, each with its own stream and memory, then all on the default stream; and one thread
// that waits for a long time while the others go on.
#include "check.h"

#include <atomic>
#include <thread>
#include <vector>

const char *const PROGRAM = "multi_thread";
constexpr int THREADS = 8, ROUNDS = 20, N = 20011;

__global__ void mix(unsigned *values, int n, unsigned key) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = (values[i] ^ key) * 2654435761u + i;
}

__global__ void spin_for(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}

static void work(int thread, bool own_stream) {
    CHECK(cudaSetDevice(0));
    cudaStream_t stream = nullptr;
    if (own_stream) CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned *pinned;
    CHECK(cudaMallocHost(&pinned, N * sizeof(unsigned)));
    for (int round = 0; round < ROUNDS; round++) {
        unsigned *device;
        CHECK(cudaMalloc(&device, N * sizeof(unsigned)));
        for (int i = 0; i < N; i++) pinned[i] = thread * 1000003 + round * 101 + i;
        CHECK(cudaMemcpyAsync(device, pinned, N * sizeof(unsigned), cudaMemcpyHostToDevice, stream));
        for (unsigned key = 1; key <= 3; key++) {
            mix<<<(N + 127) / 128, 128, 0, stream>>>(device, N, key * (thread + 1));
            CHECK(cudaGetLastError());
        }
        CHECK(cudaMemcpyAsync(pinned, device, N * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < N; i++) {
            unsigned expected = thread * 1000003 + round * 101 + i;
            for (unsigned key = 1; key <= 3; key++) expected = (expected ^ key * (thread + 1)) * 2654435761u + i;
            REQUIRE(pinned[i] == expected, "thread %d round %d element %d is %u, expected %u", thread, round, i,
                    pinned[i], expected);
        }
        CHECK(cudaFree(device));
    }
    // An error of one thread is no other thread's last error.
    if (thread == 0) EXPECT(cudaSetDevice(4711), cudaErrorInvalidDevice);
    if (thread != 0) CHECK(cudaGetLastError());
    CHECK(cudaFreeHost(pinned));
    if (own_stream) CHECK(cudaStreamDestroy(stream));
}

static void run_threads(bool own_stream) {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < THREADS; thread++) threads.emplace_back(work, thread, own_stream);
    for (std::thread &thread : threads) thread.join();
}

// One thread waits for a slow kernel; another must be able to work meanwhile.
static void wait_and_work() {
    cudaStream_t slow;
    CHECK(cudaStreamCreateWithFlags(&slow, cudaStreamNonBlocking));
    spin_for<<<1, 1, 0, slow>>>(20000000);
    CHECK(cudaGetLastError());
    std::thread waits([slow] { CHECK(cudaStreamSynchronize(slow)); });
    work(1, true);
    waits.join();
    CHECK(cudaStreamDestroy(slow));
}

int main() {
    run_threads(true);
    run_threads(false);
    wait_and_work();
    return pass("%d threads, %d rounds, own streams and the default one", THREADS, ROUNDS);
}
