// What every test program shares: checked calls, one verdict line, and inputs that are the same everywhere.
//
// A program prints `PASS <name> <what it did>` and exits 0, or `FAIL <name>: <why>` and exits 1.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>

// Each program defines its own name.
extern const char *const PROGRAM;

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::printf("FAIL %s: ", PROGRAM);
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
    std::fflush(stdout);
    std::_Exit(1);
}

__attribute__((format(printf, 1, 2))) inline int pass(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::printf("PASS %s ", PROGRAM);
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
    return std::fflush(stdout) == 0 ? 0 : 1;
}

// A CUDA call that must succeed.
#define CHECK(call)                                                                                        \
    do {                                                                                                   \
        cudaError_t check_error = (call);                                                                  \
        if (check_error != cudaSuccess)                                                                    \
            fail("line %d: %s: %s (%d)", __LINE__, #call, cudaGetErrorName(check_error), (int)check_error); \
    } while (0)

// A CUDA call that must fail, and how.
#define EXPECT(call, expected)                                                                             \
    do {                                                                                                   \
        cudaError_t expect_error = (call);                                                                 \
        if (expect_error != (expected))                                                                    \
            fail("line %d: %s: %s, expected %s", __LINE__, #call, cudaGetErrorName(expect_error),           \
                 cudaGetErrorName(expected));                                                               \
    } while (0)

// A CUDA call that must fail in one of two ways: where releases of CUDA differ.
#define EXPECT_EITHER(call, one, other)                                                                    \
    do {                                                                                                   \
        cudaError_t expect_error = (call);                                                                 \
        if (expect_error != (one) && expect_error != (other))                                              \
            fail("line %d: %s: %s, expected %s or %s", __LINE__, #call, cudaGetErrorName(expect_error),     \
                 cudaGetErrorName(one), cudaGetErrorName(other));                                          \
    } while (0)

// Anything else that must hold.
#define REQUIRE(condition, ...)                                                                            \
    do {                                                                                                   \
        if (!(condition)) fail(__VA_ARGS__);                                                               \
    } while (0)

// A small generator (xorshift32), so that inputs do not depend on a C library.
struct Random {
    uint32_t state;
    explicit Random(uint32_t seed) : state(seed * 2654435761u + 1) {}
    uint32_t next() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return state;
    }
    // In [-1, 1), in steps of 1/4096: sums of products stay exact longer.
    float uniform() { return (float)(next() >> 19) / 4096.0f - 1.0f; }
};
