// The driver API alone, as a program without cudart uses it: the library is opened at run time, modules are
// PTX text, parameters go by `kernelParams` and by `extra`.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cuda.h>
#include <dlfcn.h>

static const char *const PROGRAM = "driver_api";

static const char *const PTX = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .global .align 4 .u32 offset = 5;

.visible .entry axpy(
    .param .u64 out,
    .param .u64 in,
    .param .u32 n,
    .param .u32 factor)
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
)";

// Every driver function used, by the symbol that programs link.
#define FUNCTIONS(X)                                                                                        \
    X(cuInit) X(cuDriverGetVersion) X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetName)                   \
    X(cuDeviceGetAttribute) X(cuGetErrorName)                                                               \
    X(cuModuleLoadData) X(cuModuleLoadDataEx) X(cuModuleUnload) X(cuModuleGetFunction)                      \
    X(cuFuncGetAttribute) X(cuLaunchKernel) X(cuCtxSynchronize)                                             \
    X(cuStreamCreate) X(cuStreamSynchronize) X(cuCtxGetCurrent) X(cuCtxSetCurrent)                          \
    X(cuMemHostAlloc) X(cuMemFreeHost) X(cuDevicePrimaryCtxRetain)                                          \
    X(cuModuleGetFunctionCount) X(cuModuleEnumerateFunctions) X(cuFuncGetName) X(cuLibraryLoadData)         \
    X(cuLibraryUnload) X(cuLibraryGetKernelCount) X(cuLibraryEnumerateKernels) X(cuKernelGetName)         \
    X(cuStreamGetCtx_v2) X(cuStreamGetGreenCtx)
#define FUNCTIONS_V2(X)                                                                                     \
    X(cuCtxDestroy) X(cuCtxPushCurrent) X(cuCtxPopCurrent) X(cuDeviceTotalMem) X(cuModuleGetGlobal)         \
    X(cuMemAlloc) X(cuMemFree) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync)    \
    X(cuMemcpyDtoD) X(cuMemsetD32) X(cuMemGetInfo) X(cuStreamDestroy) X(cuDevicePrimaryCtxRelease)

// cuda.h renames the second kind (`#define cuMemAlloc cuMemAlloc_v2`), so the names expand before they are quoted.
#define QUOTE_(name) #name
#define QUOTE(name) QUOTE_(name)
#define POINTER(name) static decltype(&name) p_##name;
#define POINTER_V2(name) POINTER_EXPANDED(name)
#define POINTER_EXPANDED(name) POINTER(name)
FUNCTIONS(POINTER)
FUNCTIONS_V2(POINTER_V2)
// The context of CUDA 11 and 12; cuda.h of 13 names the fourth version.
static CUresult (*p_cuCtxCreate_v2)(CUcontext *, unsigned, CUdevice);

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define CALL(name) CAT(p_, name)

[[noreturn]] static void fail(int line, const char *what, CUresult result) {
    const char *name = "unknown error";
    if (p_cuGetErrorName) p_cuGetErrorName(result, &name);
    std::printf("FAIL %s: line %d: %s: %s (%d)\n", PROGRAM, line, what, name ? name : "unknown error", (int)result);
    std::exit(1);
}

#define CHECK(call)                                                                                         \
    do {                                                                                                    \
        CUresult check_result = (call);                                                                     \
        if (check_result != CUDA_SUCCESS) fail(__LINE__, #call, check_result);                              \
    } while (0)
#define EXPECT(call, expected)                                                                              \
    do {                                                                                                    \
        CUresult expect_result = (call);                                                                    \
        if (expect_result != (expected)) fail(__LINE__, #call " (expected " #expected ")", expect_result);  \
    } while (0)
#define REQUIRE(condition)                                                                                  \
    do {                                                                                                    \
        if (!(condition)) fail(__LINE__, #condition, CUDA_SUCCESS);                                         \
    } while (0)

template <typename Function> static void resolve(void *library, const char *name, Function *slot) {
    *slot = (Function)dlsym(library, name);
    if (!*slot) {
        std::printf("FAIL %s: libcuda.so.1 has no %s\n", PROGRAM, name);
        std::exit(1);
    }
}

static void open_driver() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        std::printf("FAIL %s: %s\n", PROGRAM, dlerror());
        std::exit(1);
    }
#define RESOLVE(name) resolve(library, QUOTE(name), &CALL(name));
    FUNCTIONS(RESOLVE)
    FUNCTIONS_V2(RESOLVE)
    resolve(library, "cuCtxCreate_v2", &p_cuCtxCreate_v2);
}

struct Packed {
    CUdeviceptr out, in;
    unsigned n, factor;
};

static void check(const std::vector<unsigned> &got, unsigned factor, unsigned offset) {
    for (unsigned i = 0; i < got.size(); i++) REQUIRE(got[i] == (i * 3 + 1) * factor + offset);
}

// What is in a module and in a library, without knowing a name.
static void enumerations(CUmodule module) {
    unsigned count = 0;
    CHECK(p_cuModuleGetFunctionCount(&count, module));
    REQUIRE(count == 1);
    CUfunction functions[2] = {}, named;
    CHECK(p_cuModuleEnumerateFunctions(functions, 2, module));
    CHECK(p_cuModuleGetFunction(&named, module, "axpy"));
    REQUIRE(functions[0] == named && functions[1] == nullptr);
    const char *name = nullptr;
    CHECK(p_cuFuncGetName(&name, functions[0]));
    REQUIRE(std::strcmp(name, "axpy") == 0);

    CUlibrary library;
    CUkernel kernel;
    CHECK(p_cuLibraryLoadData(&library, PTX, nullptr, nullptr, 0, nullptr, nullptr, 0));
    CHECK(p_cuLibraryGetKernelCount(&count, library));
    REQUIRE(count == 1);
    CHECK(p_cuLibraryEnumerateKernels(&kernel, 1, library));
    CHECK(p_cuKernelGetName(&name, kernel));
    REQUIRE(std::strcmp(name, "axpy") == 0);
    CHECK(p_cuLibraryUnload(library));
}

static void launches(CUmodule module, unsigned n) {
    CUfunction axpy;
    EXPECT(p_cuModuleGetFunction(&axpy, module, "no_such_kernel"), CUDA_ERROR_NOT_FOUND);
    CHECK(p_cuModuleGetFunction(&axpy, module, "axpy"));
    int threads = 0;
    CHECK(p_cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, axpy));
    REQUIRE(threads >= 128);
    std::vector<unsigned> in(n), got(n);
    for (unsigned i = 0; i < n; i++) in[i] = i * 3 + 1;
    size_t bytes = n * sizeof(unsigned);
    CUdeviceptr din, dout;
    CHECK(CALL(cuMemAlloc)(&din, bytes));
    CHECK(CALL(cuMemAlloc)(&dout, bytes));
    CHECK(CALL(cuMemcpyHtoD)(din, in.data(), bytes));
    CHECK(CALL(cuMemsetD32)(dout, 0xDEAD, n));
    unsigned blocks = (n + 127) / 128, factor = 3;

    void *parameters[] = {&dout, &din, &n, &factor};
    CHECK(p_cuLaunchKernel(axpy, blocks, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    // The parameters are taken at the call.
    factor = 1000;
    CHECK(CALL(cuMemcpyDtoH)(got.data(), dout, bytes));
    check(got, 3, 5);

    Packed packed = {dout, din, n, 11};
    size_t packed_bytes = sizeof packed;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &packed_bytes,
                     CU_LAUNCH_PARAM_END};
    CUstream stream;
    CHECK(p_cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CUcontext current, its_context = nullptr;
    CUgreenCtx its_green = (CUgreenCtx)stream, also_green = (CUgreenCtx)stream;
    CHECK(p_cuCtxGetCurrent(&current));
    CHECK(p_cuStreamGetCtx_v2(stream, &its_context, &its_green));
    CHECK(p_cuStreamGetGreenCtx(stream, &also_green));
    REQUIRE(its_context == current && its_green == nullptr && also_green == nullptr);
    unsigned *pinned;
    CHECK(p_cuMemHostAlloc((void **)&pinned, bytes, 0));
    CHECK(p_cuLaunchKernel(axpy, blocks, 1, 1, 128, 1, 1, 0, stream, nullptr, extra));
    packed.factor = 1000;
    CHECK(CALL(cuMemcpyDtoHAsync)(pinned, dout, bytes, stream));
    CHECK(p_cuStreamSynchronize(stream));
    check(std::vector<unsigned>(pinned, pinned + n), 11, 5);

    // A module's variable, found by name and written.
    CUdeviceptr variable;
    size_t variable_bytes = 0;
    CHECK(CALL(cuModuleGetGlobal)(&variable, &variable_bytes, module, "offset"));
    REQUIRE(variable_bytes == 4);
    unsigned offset = 40;
    CHECK(CALL(cuMemcpyHtoDAsync)(variable, &offset, sizeof offset, stream));
    packed.factor = 7;
    CHECK(p_cuLaunchKernel(axpy, blocks, 1, 1, 128, 1, 1, 0, stream, nullptr, extra));
    CHECK(CALL(cuMemcpyDtoHAsync)(pinned, dout, bytes, stream));
    CHECK(p_cuStreamSynchronize(stream));
    check(std::vector<unsigned>(pinned, pinned + n), 7, 40);
    offset = 5;
    CHECK(CALL(cuMemcpyHtoD)(variable, &offset, sizeof offset));

    EXPECT(p_cuLaunchKernel(axpy, 1, 1, 1, 4096, 1, 1, 0, stream, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
    CHECK(p_cuMemFreeHost(pinned));
    CHECK(CALL(cuStreamDestroy)(stream));
    CHECK(CALL(cuMemFree)(din));
    CHECK(CALL(cuMemFree)(dout));
}

int main() {
    open_driver();
    int version = 0, count = 0, major = 0;
    CUdevice device;
    CUcontext context, current, primary;
    char name[128];
    size_t total = 0, free_bytes = 0, total_again = 0;
    EXPECT(p_cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
    CHECK(p_cuInit(0));
    CHECK(p_cuDriverGetVersion(&version));
    CHECK(p_cuDeviceGetCount(&count));
    REQUIRE(count > 0 && version >= 11000);
    CHECK(p_cuDeviceGet(&device, 0));
    EXPECT(p_cuDeviceGet(&device, count), CUDA_ERROR_INVALID_DEVICE);
    CHECK(p_cuDeviceGetName(name, sizeof name, device));
    CHECK(CALL(cuDeviceTotalMem)(&total, device));
    CHECK(p_cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    REQUIRE(major >= 7);
    CUdeviceptr nothing;
    EXPECT(CALL(cuMemAlloc)(&nothing, 16), CUDA_ERROR_INVALID_CONTEXT);

    CHECK(p_cuCtxCreate_v2(&context, 0, device));
    CHECK(p_cuCtxGetCurrent(&current));
    REQUIRE(current == context);
    CHECK(CALL(cuMemGetInfo)(&free_bytes, &total_again));
    REQUIRE(free_bytes <= total_again && total_again == total);
    CUmodule module;
    EXPECT(p_cuModuleLoadData(&module, ".version 7.0\n.target sm_70\nnonsense"), CUDA_ERROR_INVALID_PTX);
    CHECK(p_cuModuleLoadData(&module, PTX));
    enumerations(module);
    for (unsigned n : {1u, 127u, 1000u, 70001u}) launches(module, n);
    CHECK(p_cuModuleUnload(module));

    char log[512] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)sizeof log};
    CHECK(p_cuModuleLoadDataEx(&module, PTX, 2, options, values));
    launches(module, 300);

    // Two contexts: the stack, and memory that belongs to its context.
    CHECK(p_cuDevicePrimaryCtxRetain(&primary, device));
    CHECK(CALL(cuCtxPushCurrent)(primary));
    CHECK(p_cuCtxGetCurrent(&current));
    REQUIRE(current == primary && primary != context);
    CHECK(CALL(cuMemAlloc)(&nothing, 4096));
    CHECK(CALL(cuMemFree)(nothing));
    CHECK(CALL(cuCtxPopCurrent)(&current));
    REQUIRE(current == primary);
    CHECK(p_cuCtxGetCurrent(&current));
    REQUIRE(current == context);
    CHECK(CALL(cuDevicePrimaryCtxRelease)(device));
    launches(module, 64);
    CHECK(p_cuModuleUnload(module));
    CHECK(p_cuCtxSynchronize());
    CHECK(p_cuCtxSetCurrent(nullptr));
    EXPECT(CALL(cuMemAlloc)(&nothing, 16), CUDA_ERROR_INVALID_CONTEXT);
    CHECK(CALL(cuCtxDestroy)(context));
    std::printf("PASS %s kernelParams, extra, globals, two contexts\n", PROGRAM);
    return 0;
}
