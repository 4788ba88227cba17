// A kernel that goes wrong in one way, and what CUDA makes of it: the code, from the next call that waits and from every later one, until the
// context is gone.
//   fault address|past|misaligned|endless|trap|assert|stack    a kernel's fault
//   fault memory                                               more memory than there is, and all of it back
//   fault image                                                no code for this device
//   fault silent                                               a kernel's fault, and no call of CUDA behind it: whoever wants to hear of it is told otherwise
//   fault spin                                                 an endless kernel and nothing else: to be ended from outside
#include "check.h"

#include <cassert>
#include <cstring>
#include <unistd.h>
#include <vector>

const char *const PROGRAM = "fault";
constexpr int N = 1 << 16;

__global__ void fill(unsigned *values, int n, unsigned first) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = first + i;
}
__global__ void write_at(int *at, int value) { *at = value; }
__global__ void endless(volatile int *flag) {
    while (*flag == 0) {}
}
__global__ void trap_here() { __trap(); }
__global__ void assert_here(int value) { assert(value == 0 && "as it must be"); }
// Deeper than any stack; volatile, so that no compiler makes a loop of it.
__device__ __noinline__ int deeper(volatile int *values, int depth) {
    volatile int here[16];
    here[depth & 15] = values[0] + depth;
    return depth < 0 ? here[0] : deeper(values, depth + 1) + here[depth & 15];
}
__global__ void overflow(int *values) { values[1] = deeper(values, 1); }

static void works(unsigned *values) {
    std::vector<unsigned> host(N);
    fill<<<N / 256, 256>>>(values, N, 17);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(host.data(), values, N * sizeof(unsigned), cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++) REQUIRE(host[i] == 17u + i, "element %d is %u", i, host[i]);
}

// Launches what goes wrong; the launch itself succeeds.
static cudaError_t launch_fault(const char *kind, unsigned *values) {
    cudaError_t expected = cudaErrorLaunchFailure;
    if (std::strcmp(kind, "address") == 0) {
        // Far from any allocation, aligned, and not the null page.
        write_at<<<1, 1>>>((int *)0x10000, 1);
        expected = cudaErrorIllegalAddress;
    } else if (std::strcmp(kind, "past") == 0) {
        write_at<<<1, 1>>>((int *)values + (256 << 20), 1);
        expected = cudaErrorIllegalAddress;
    } else if (std::strcmp(kind, "misaligned") == 0) {
        write_at<<<1, 1>>>((int *)((char *)values + 2), 1);
        expected = cudaErrorMisalignedAddress;
    } else if (std::strcmp(kind, "endless") == 0) {
        endless<<<1, 32>>>((int *)values);
        expected = cudaErrorLaunchTimeout;
    } else if (std::strcmp(kind, "trap") == 0) {
        trap_here<<<1, 1>>>();
    } else if (std::strcmp(kind, "assert") == 0) {
        assert_here<<<1, 1>>>(1);
        expected = cudaErrorAssert;
    } else if (std::strcmp(kind, "stack") == 0) {
        // Real devices tell of it as of any bad address, or as a failed launch.
        overflow<<<1, 1>>>((int *)values);
    } else {
        fail("no such fault: %s", kind);
    }
    CHECK(cudaGetLastError());
    return expected;
}

static void sticks(cudaError_t expected, unsigned *values, cudaStream_t other) {
    void *at;
    unsigned value;
    cudaEvent_t event;
    cudaStream_t stream;
    EXPECT(cudaDeviceSynchronize(), expected);
    // Asking for the last error does not clear this one.
    EXPECT(cudaGetLastError(), expected);
    EXPECT(cudaStreamSynchronize(other), expected);
    EXPECT(cudaStreamQuery(other), expected);
    EXPECT(cudaMalloc(&at, 16), expected);
    EXPECT(cudaMallocHost(&at, 16), expected);
    EXPECT(cudaMemcpy(&value, values, sizeof value, cudaMemcpyDeviceToHost), expected);
    EXPECT(cudaMemcpyAsync(&value, values, sizeof value, cudaMemcpyDeviceToHost, other), expected);
    EXPECT(cudaMemsetAsync(values, 0, 4, other), expected);
    EXPECT(cudaEventCreate(&event), expected);
    EXPECT(cudaStreamCreate(&stream), expected);
    fill<<<1, 1>>>(values, 1, 1);
    EXPECT(cudaGetLastError(), expected);
    EXPECT(cudaFree(values), expected);
    EXPECT(cudaDeviceSynchronize(), expected);
}

static int kernel_fault(const char *kind) {
    unsigned *values, *pinned;
    cudaStream_t other;
    CHECK(cudaMalloc(&values, N * sizeof(unsigned)));
    CHECK(cudaMallocHost(&pinned, N * sizeof(unsigned)));
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    works(values);
    CHECK(cudaMemset(values, 0, N * sizeof(unsigned)));
    CHECK(cudaDeviceSynchronize());
    cudaError_t expected = launch_fault(kind, values);
    // Behind the fault: what it would bring never comes.
    cudaError_t behind = cudaMemcpyAsync(pinned, values, N * sizeof(unsigned), cudaMemcpyDeviceToHost);
    REQUIRE(behind == cudaSuccess || behind == expected, "the copy behind it: %s", cudaGetErrorName(behind));
    sticks(expected, values, other);
    // The end of the context is the way out, where the device itself is sound.
    CHECK(cudaDeviceReset());
    // Whether it ended with the context or not: nobody waits for what was to land in it.
    (void)cudaFreeHost(pinned);
    (void)cudaGetLastError();
    CHECK(cudaMalloc(&values, N * sizeof(unsigned)));
    works(values);
    return pass("%s: %s", kind, cudaGetErrorName(expected));
}

static int memory() {
    constexpr size_t PIECE = 64 << 20;
    size_t before, total, after;
    void *one;
    CHECK(cudaMalloc(&one, PIECE));
    // What is loaded when it is first needed takes memory too.
    works((unsigned *)one);
    CHECK(cudaFree(one));
    CHECK(cudaMemGetInfo(&before, &total));
    EXPECT(cudaMalloc(&one, total + 1), cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError(), cudaErrorMemoryAllocation);
    std::vector<void *> pieces;
    cudaError_t error;
    while ((error = cudaMalloc(&one, PIECE)) == cudaSuccess) pieces.push_back(one);
    REQUIRE(error == cudaErrorMemoryAllocation, "not %s", cudaGetErrorName(error));
    EXPECT(cudaGetLastError(), cudaErrorMemoryAllocation);
    REQUIRE(pieces.size() > 0 && pieces.size() * PIECE > before / 2, "only %zu pieces of %zu bytes", pieces.size(), before);
    // It is no error that stays: with what there is, all goes on.
    works((unsigned *)pieces[0]);
    for (void *piece : pieces) CHECK(cudaFree(piece));
    CHECK(cudaMemGetInfo(&after, &total));
    REQUIRE(after == before, "%zu bytes free before, %zu after", before, after);
    unsigned *values;
    CHECK(cudaMalloc(&values, N * sizeof(unsigned)));
    works(values);
    return pass("memory: %zu pieces and all of it back", pieces.size());
}

static int image() {
    unsigned *values;
    CHECK(cudaMalloc(&values, N * sizeof(unsigned)));
    fill<<<1, 1>>>(values, 1, 1);
    EXPECT(cudaGetLastError(), cudaErrorNoKernelImageForDevice);
    // Nothing sticks: what needs no code works.
    CHECK(cudaMemset(values, 0, 4));
    CHECK(cudaDeviceSynchronize());
    fill<<<1, 1>>>(values, 1, 1);
    EXPECT(cudaGetLastError(), cudaErrorNoKernelImageForDevice);
    CHECK(cudaFree(values));
    return pass("image: no code for this device");
}

static int spin() {
    int *flag;
    CHECK(cudaMalloc(&flag, 256 << 20));
    CHECK(cudaMemset(flag, 0, 256 << 20));
    CHECK(cudaDeviceSynchronize());
    endless<<<1, 32>>>(flag);
    CHECK(cudaGetLastError());
    // The launch is on its way when this line is: a query sends what is queued.
    EXPECT(cudaStreamQuery(0), cudaErrorNotReady);
    std::printf("spinning\n");
    std::fflush(stdout);
    CHECK(cudaDeviceSynchronize());
    return pass("spin: ended by itself");
}

static int silent() {
    write_at<<<1, 1>>>((int *)0x10000, 1);
    // The launch is on its way when this line is: a query sends what is queued.
    (void)cudaStreamQuery(0);
    std::printf("silent\n");
    std::fflush(stdout);
    for (int i = 0; i < 60; i++) sleep(1);
    return pass("silent: nobody was told");
}

int main(int count, char **arguments) {
    const char *kind = count > 1 ? arguments[1] : "address";
    if (std::strcmp(kind, "memory") == 0) return memory();
    if (std::strcmp(kind, "image") == 0) return image();
    if (std::strcmp(kind, "silent") == 0) return silent();
    if (std::strcmp(kind, "spin") == 0) return spin();
    return kernel_fault(kind);
}
