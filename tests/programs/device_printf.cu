// Device printf between host lines: what a synchronise flushes comes before the host's next line. Blocks
// and warps may print in any order, so a line is printed by one thread at a time where order is checked.
// Standard output is compared with device_printf.expected (the test sorts nothing).
#include "check.h"

const char *const PROGRAM = "device_printf";

__global__ void one_line(int number) { printf("device: line %d\n", number); }

__global__ void formats() {
    printf("device: %d %u %x %5d|%-5d|%05d\n", -7, 7u, 0xBEEFu, 42, 42, 42);
    printf("device: %lld %llx %c %s %%\n", -1234567890123ll, 0x123456789ABCDEFull, 'z', "string");
    printf("device: %.3f %8.2e %g\n", 3.14159, 12345.678, 0.5f);
    printf("device: no arguments\n");
}

// The lanes of one warp take turns, so their lines are in order.
__global__ void in_turn() {
    for (int turn = 0; turn < 4; turn++) {
        if (threadIdx.x == turn * 9) printf("device: thread %d of block %d\n", threadIdx.x, blockIdx.x);
        __syncwarp();
    }
}

int main() {
    std::printf("host: start\n");
    std::fflush(stdout);
    one_line<<<1, 1>>>(1);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    std::printf("host: after the first synchronise\n");
    std::fflush(stdout);
    formats<<<1, 1>>>();
    one_line<<<1, 1>>>(2);
    CHECK(cudaDeviceSynchronize());
    std::printf("host: after the second\n");
    std::fflush(stdout);
    in_turn<<<1, 32>>>();
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaDeviceSynchronize());
    one_line<<<1, 1, 0, stream>>>(3);
    CHECK(cudaStreamSynchronize(stream));
    std::printf("host: after the stream\n");
    std::fflush(stdout);
    CHECK(cudaStreamDestroy(stream));
    // A copy that blocks flushes as well, a short one and a long one.
    static char bytes[3 << 20];
    void *there;
    CHECK(cudaMalloc(&there, sizeof bytes));
    for (size_t size : {sizeof(int), sizeof bytes}) {
        one_line<<<1, 1>>>(4);
        CHECK(cudaMemcpy(bytes, there, size, cudaMemcpyDeviceToHost));
        std::printf("host: after a copy\n");
        std::fflush(stdout);
    }
    CHECK(cudaFree(there));
    // And a synchronise with what is known to be done.
    cudaEvent_t event;
    CHECK(cudaEventCreate(&event));
    one_line<<<1, 1>>>(5);
    CHECK(cudaEventRecord(event));
    cudaError_t state;
    while ((state = cudaEventQuery(event)) == cudaErrorNotReady) {}
    CHECK(state);
    CHECK(cudaDeviceSynchronize());
    std::printf("host: after the query\n");
    std::fflush(stdout);
    CHECK(cudaEventDestroy(event));
    return pass("lines in order");
}
