// What the programs about manners share: the driver found at run time, one checked piece of work, one verdict line.
//
// A program prints `PASS <case>` and exits as its case says, or `FAIL <case>: line …` and exits 1.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <cuda.h>
#include <dlfcn.h>
#include <unistd.h>

// Every driver function used, by the symbol that programs link.
#define FUNCTIONS(X)                                                                                        \
    X(cuInit) X(cuDriverGetVersion) X(cuDeviceGetCount) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent)      \
    X(cuModuleLoadData) X(cuModuleGetFunction) X(cuMemAlloc) X(cuMemFree) X(cuMemcpyHtoD) X(cuMemcpyDtoH)   \
    X(cuLaunchKernel) X(cuCtxSynchronize) X(cuGetProcAddress) X(cuGraphicsUnregisterResource) X(cuGetExportTable)

#define QUOTE_(name) #name
#define QUOTE(name) QUOTE_(name)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define CALL(name) CAT(p_, name)
#define POINTER(name) static decltype(&name) CAT(p_, name);
FUNCTIONS(POINTER)
#undef POINTER

static std::string CASE;

[[noreturn]] static inline void fail(int line, const char *what, int result) {
    std::printf("FAIL %s: line %d: %s: %d\n", CASE.c_str(), line, what, result);
    std::fflush(stdout);
    _exit(1);
}

static inline void pass() {
    std::printf("PASS %s\n", CASE.c_str());
    std::fflush(stdout);
}

#define EXPECT(call, expected)                                                                              \
    do {                                                                                                    \
        int expect_result = (int)(call);                                                                    \
        if (expect_result != (int)(expected)) fail(__LINE__, #call " is not " #expected, expect_result);    \
    } while (0)
#define CHECK(call) EXPECT(call, CUDA_SUCCESS)
#define REQUIRE(condition)                                                                                  \
    do {                                                                                                    \
        if (!(condition)) fail(__LINE__, #condition, -1);                                                   \
    } while (0)

static inline void *open_driver(int flags = RTLD_NOW) {
    void *library = dlopen("libcuda.so.1", flags);
    if (!library) {
        std::printf("FAIL %s: %s\n", CASE.c_str(), dlerror());
        _exit(1);
    }
#define RESOLVE(name) REQUIRE((CALL(name) = (decltype(CALL(name)))dlsym(library, QUOTE(name))) != nullptr);
    FUNCTIONS(RESOLVE)
#undef RESOLVE
    return library;
}

static const char *const PTX = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry triple(.param .u64 data, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<6>;
    .reg .b64 %rd<4>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r5, [n];
    setp.ge.u32 %p, %r4, %r5;
    @%p bra done;
    ld.param.u64 %rd1, [data];
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r4, 4;
    add.s64 %rd2, %rd2, %rd3;
    ld.global.u32 %r1, [%rd2];
    mul.lo.u32 %r1, %r1, 3;
    st.global.u32 [%rd2], %r1;
done:
    ret;
}
)";

static CUcontext context;
static CUfunction triple;

// The driver, its device's primary context, and the kernel.
static inline CUresult begin() {
    CUmodule module;
    CUresult result = CALL(cuInit)(0);
    if (!result) result = CALL(cuDevicePrimaryCtxRetain)(&context, 0);
    if (!result) result = CALL(cuCtxSetCurrent)(context);
    if (!result) result = CALL(cuModuleLoadData)(&module, PTX);
    if (!result) result = CALL(cuModuleGetFunction)(&triple, module, "triple");
    return result;
}

static inline CUresult launch(CUdeviceptr data, unsigned n) {
    void *parameters[] = {&data, &n};
    return CALL(cuLaunchKernel)(triple, (n + 127) / 128, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr);
}

// Numbers go to the device, are multiplied there, and come back right. For any thread of the program.
static inline CUresult work(unsigned n = 300) {
    std::vector<unsigned> numbers(n), got(n);
    for (unsigned i = 0; i < n; i++) numbers[i] = i * 7 + 1;
    CUdeviceptr data = 0;
    CUresult result = CALL(cuCtxSetCurrent)(context);
    if (!result) result = CALL(cuMemAlloc)(&data, n * 4);
    if (!result) result = CALL(cuMemcpyHtoD)(data, numbers.data(), n * 4);
    if (!result) result = launch(data, n);
    if (!result) result = CALL(cuMemcpyDtoH)(got.data(), data, n * 4);
    if (!result)
        for (unsigned i = 0; i < n; i++) REQUIRE(got[i] == numbers[i] * 3);
    CUresult freed = data ? CALL(cuMemFree)(data) : CUDA_SUCCESS;
    return result ? result : freed;
}

// A function that is not served: one line in the log.
static inline CUresult refused() { return CALL(cuGraphicsUnregisterResource)(nullptr); }

// The program's cases by name.
struct Case {
    const char *name;
    void (*run)();
};

static inline int run_case(int count, char **arguments, const std::vector<Case> &cases) {
    CASE = count > 1 ? arguments[1] : "";
    for (const Case &one : cases)
        if (CASE == one.name) {
            one.run();
            return 0;
        }
    std::printf("FAIL %s: no such case\n", CASE.c_str());
    return 2;
}
