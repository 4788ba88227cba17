// What the programs that use NVIDIA's libraries share: three verdicts.
//
//   PASS <name> <what>                      exit 0: the library computed, and the result is right
//   REFUSED <name> <call>: <status>         exit 3: all calls up to the first that computes succeeded; that one failed with the
//                                           library's own error, and everything could be given back in order afterwards
//   FAIL <name>: <why>                      exit 1: anything else
//
// A device that has no code for itself in the library (all of these hold machine code) has to end in the second.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime_api.h>

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

// A call of any of the libraries that must succeed: all of them have 0 for that.
#define CHECK(call)                                                          \
    do {                                                                     \
        int check_status = (int)(call);                                      \
        if (check_status != 0) fail("line %d: %s: %d", __LINE__, #call, check_status); \
    } while (0)

// Anything else that must hold.
#define REQUIRE(condition, ...)               \
    do {                                      \
        if (!(condition)) fail(__VA_ARGS__);  \
    } while (0)

// The first call that did not compute, and its status.
struct Refusal {
    const char *call = nullptr;
    int status = 0;
    explicit operator bool() const { return call != nullptr; }
};

// A call that needs device code: it may fail, with the library's own error. Later ones are then left out.
#define COMPUTE(refusal, call_)                       \
    do {                                              \
        if (!(refusal)) {                             \
            int compute_status = (int)(call_);        \
            if (compute_status != 0) {                \
                (refusal).call = #call_;              \
                (refusal).status = compute_status;    \
            }                                         \
        }                                             \
    } while (0)

// The verdict, after everything was given back: `return verdict(refusal, "…")`.
__attribute__((format(printf, 2, 3))) inline int verdict(const Refusal &refusal, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (refusal) {
        std::printf("REFUSED %s %s: %d; ", PROGRAM, refusal.call, refusal.status);
    } else {
        std::printf("PASS %s ", PROGRAM);
    }
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
    if (std::fflush(stdout) != 0) return 1;
    return refusal ? 3 : 0;
}

inline bool close(float got, float expected, float tolerance = 1e-3f) {
    return std::fabs(got - expected) <= tolerance * (1.0f + std::fabs(expected));
}
