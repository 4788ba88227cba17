// Errors as CUDA gives them. A call that is wrong in itself fails by itself and harms nothing; a kernel
// that goes out of bounds fails every later call of the process.
//   error_paths            the calls, then an illegal address
//   error_paths trap|assert  the fault of that kind instead
#include "check.h"

#include <cassert>
#include <cstring>

const char *const PROGRAM = "error_paths";

__global__ void write_at(int *at, int value) { *at = value; }
__global__ void trap_here() { __trap(); }
__global__ void assert_here(int value) { assert(value == 0); }

static void recoverable(int *good) {
    // The runtimes of CUDA 12 and 13 translate the driver's answer to a wrong shape differently.
    write_at<<<1, 2048>>>(good, 1);
    EXPECT_EITHER(cudaGetLastError(), cudaErrorInvalidConfiguration, cudaErrorInvalidValue);
    CHECK(cudaGetLastError());
    write_at<<<0, 1>>>(good, 1);
    EXPECT_EITHER(cudaGetLastError(), cudaErrorInvalidConfiguration, cudaErrorInvalidValue);
    write_at<<<1, 1, 100 << 20>>>(good, 1);
    EXPECT(cudaGetLastError(), cudaErrorInvalidValue);
    EXPECT(cudaMalloc((void **)nullptr, 16), cudaErrorInvalidValue);
    EXPECT(cudaMemcpy(nullptr, good, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    EXPECT(cudaMemcpy(good, nullptr, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    EXPECT(cudaMemset((void *)16, 0, 4), cudaErrorInvalidValue);
    EXPECT(cudaFree((void *)((char *)good + 8)), cudaErrorInvalidValue);
    EXPECT(cudaMemcpy(good, good, 4, (cudaMemcpyKind)99), cudaErrorInvalidMemcpyDirection);
    EXPECT(cudaSetDevice(-1), cudaErrorInvalidDevice);
    void *pinned = nullptr;
    CHECK(cudaMallocHost(&pinned, 64));
    EXPECT_EITHER(cudaEventElapsedTime(nullptr, nullptr, nullptr), cudaErrorInvalidResourceHandle, cudaErrorInvalidValue);
    CHECK(cudaFreeHost(pinned));
    // The last error is remembered until it is asked for; peeking leaves it.
    EXPECT(cudaSetDevice(12345), cudaErrorInvalidDevice);
    EXPECT(cudaPeekAtLastError(), cudaErrorInvalidDevice);
    EXPECT(cudaGetLastError(), cudaErrorInvalidDevice);
    CHECK(cudaGetLastError());
    // And after all that, the device works.
    int value = 0;
    write_at<<<1, 1>>>(good, 77);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&value, good, sizeof value, cudaMemcpyDeviceToHost));
    REQUIRE(value == 77, "the kernel after the errors wrote %d", value);
}

static void sticky(cudaError_t expected, int *good) {
    EXPECT(cudaDeviceSynchronize(), expected);
    EXPECT(cudaGetLastError(), expected);
    // Asking does not clear it, and everything fails with it.
    EXPECT(cudaDeviceSynchronize(), expected);
    void *at;
    EXPECT(cudaMalloc(&at, 16), expected);
    int value;
    EXPECT(cudaMemcpy(&value, good, sizeof value, cudaMemcpyDeviceToHost), expected);
    write_at<<<1, 1>>>(good, 1);
    EXPECT(cudaGetLastError(), expected);
}

int main(int count, char **arguments) {
    const char *kind = count > 1 ? arguments[1] : "address";
    int *good;
    CHECK(cudaMalloc(&good, 1024));
    recoverable(good);
    cudaError_t expected;
    if (std::strcmp(kind, "trap") == 0) {
        trap_here<<<1, 1>>>();
        expected = cudaErrorLaunchFailure;
    } else if (std::strcmp(kind, "assert") == 0) {
        assert_here<<<1, 1>>>(1);
        expected = cudaErrorAssert;
    } else {
        // Far from any allocation, aligned, and not the null page.
        write_at<<<1, 1>>>((int *)0x10000, 1);
        expected = cudaErrorIllegalAddress;
    }
    sticky(expected, good);
    return pass("recoverable errors, then a sticky %s", cudaGetErrorName(expected));
}
