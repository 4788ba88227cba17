// What the programs for the driver's functions share: functions found by name, checked calls, one verdict line.
//
//   PROGRAM [--without NAME]… [--pretend NAME]
//
// `--without` leaves out what the driver does not have. With `--pretend` the named function is replaced by one that returns success
// and does nothing, and the program must fail: that proves that it tests the function.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <cuda.h>
#include <dlfcn.h>
#include <unistd.h>

// Each program defines its own name.
extern const char *const PROGRAM;

static std::set<std::string> left_out;
static std::string pretended;
static void *library;

[[noreturn]] static void fail(int line, const std::string &what, int result = 0) {
    std::printf("FAIL %s: line %d: %s (%d)\n", PROGRAM, line, what.c_str(), result);
    std::fflush(stdout);
    std::_Exit(1);
}

[[maybe_unused]] static int pass(const char *what) {
    std::printf("PASS %s %s\n", PROGRAM, what);
    return std::fflush(stdout) == 0 ? 0 : 1;
}

static CUresult merely_succeed() { return CUDA_SUCCESS; }

// The library's own function, whatever is pretended.
static void *exported(const char *name) {
    void *address = dlsym(library, name);
    if (!address) fail(0, std::string("libcuda.so.1 has no ") + name);
    return address;
}

[[maybe_unused]] static bool has(const char *name) { return !left_out.count(name); }

static void open_driver(int count, char **arguments) {
    for (int i = 1; i + 1 < count; i += 2) {
        if (!std::strcmp(arguments[i], "--without"))
            left_out.insert(arguments[i + 1]);
        else if (!std::strcmp(arguments[i], "--pretend"))
            pretended = arguments[i + 1];
        else
            fail(0, std::string("unknown argument ") + arguments[i]);
    }
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) fail(0, dlerror());
    if (!pretended.empty()) exported(pretended.c_str());
}

// Calls a function by the name under which it is exported. The arguments have exactly the types of the C signature: what a header
// renames (`cuMemAlloc` is `cuMemAlloc_v2`), and old versions that it no longer declares, are called alike.
template <typename... Arguments> static CUresult call(const char *name, Arguments... arguments) {
    void *address = pretended == name ? (void *)merely_succeed : exported(name);
    return ((CUresult(*)(Arguments...))address)(arguments...);
}

// A call that must succeed, one that must fail with a code, one that must fail, and a condition.
#define OK(...)                                                                                             \
    do {                                                                                                    \
        CUresult ok_result = call(__VA_ARGS__);                                                             \
        if (ok_result != CUDA_SUCCESS) fail(__LINE__, #__VA_ARGS__, ok_result);                             \
    } while (0)
#define GIVES(code, ...)                                                                                    \
    do {                                                                                                    \
        CUresult gives_result = call(__VA_ARGS__);                                                          \
        if (gives_result != (code)) fail(__LINE__, #__VA_ARGS__ " must give " #code, gives_result);         \
    } while (0)
#define FAILS(...)                                                                                          \
    do {                                                                                                    \
        if (call(__VA_ARGS__) == CUDA_SUCCESS) fail(__LINE__, #__VA_ARGS__ " must fail");                   \
    } while (0)
#define REQUIRE(condition)                                                                                  \
    do {                                                                                                    \
        if (!(condition)) fail(__LINE__, #condition);                                                       \
    } while (0)

// Rows from or to an array of two dimensions, one of which is null: there it is host memory.
[[maybe_unused]] static void copy_rows(CUarray to, CUarray from, void *host, size_t row, size_t rows) {
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = from ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_HOST;
    copy.dstMemoryType = to ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_HOST;
    copy.srcArray = from, copy.dstArray = to, copy.srcHost = host, copy.dstHost = host;
    copy.srcPitch = copy.dstPitch = copy.WidthInBytes = row, copy.Height = rows;
    OK("cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&copy);
    OK("cuCtxSynchronize");
}

// Two kernels: `axpy` computes out[i] = in[i] * factor + offset; `slow` counts to `rounds` and then stores `value`.
static const char *const PTX = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .global .align 4 .u32 offset = 5;

.visible .entry axpy(.param .u64 out, .param .u64 in, .param .u32 n, .param .u32 factor)
{
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r5, [n];
    setp.ge.u32 %p, %r4, %r5;
    @%p bra done;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.u64 %rd3, [in];
    cvta.to.global.u64 %rd4, %rd3;
    mul.wide.u32 %rd5, %r4, 4;
    add.s64 %rd6, %rd4, %rd5;
    ld.global.u32 %r6, [%rd6];
    ld.param.u32 %r7, [factor];
    mul.lo.u32 %r6, %r6, %r7;
    ld.global.u32 %r7, [offset];
    add.u32 %r6, %r6, %r7;
    add.s64 %rd6, %rd2, %rd5;
    st.global.u32 [%rd6], %r6;
done:
    ret;
}

.visible .entry slow(.param .u64 out, .param .u32 rounds, .param .u32 value)
{
    .reg .pred %p;
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    ld.param.u32 %r1, [rounds];
    mov.u32 %r2, 0;
again:
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p, %r2, %r1;
    @%p bra again;
    ld.param.u32 %r3, [value];
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    st.volatile.global.u32 [%rd2], %r3;
    ret;
}
)";

// Some tens of milliseconds on any device: what does not wait for it comes too early.
[[maybe_unused]] static const unsigned SLOW = 4000000;
