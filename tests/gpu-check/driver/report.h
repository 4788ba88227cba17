// What the driver checks share: the driver's functions, found by name in `libcuda.so.1` as programs find them, and the lines of a report.
//
//   check NAME: expected WHAT, got WHAT OK|DIFFERS|SKIPPED     an assumption; `expected anything` only records an answer
//   note NAME: TEXT                                           a measurement, not compared
//   end GROUP: N checks                                       the last line: without it the group crashed
//
// A name never has a colon or a space. Answers are the same from run to run, so that two runs can be compared line by line.
#pragma once

#include <cuda.h>

#include <chrono>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

// Every driver function that is called, by the name that programs link (cuda.h may rename: cuMemAlloc is cuMemAlloc_v2).
#define DRIVER_FUNCTIONS(X)                                                                                        \
    X(cuInit) X(cuDriverGetVersion) X(cuGetErrorName) X(cuGetProcAddress) X(cuGetExportTable)                      \
    X(cuDeviceGet) X(cuDeviceGetCount) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDeviceTotalMem)               \
    X(cuDeviceGetUuid) X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease) X(cuDevicePrimaryCtxGetState)       \
    X(cuDevicePrimaryCtxSetFlags) X(cuCtxDestroy) X(cuCtxGetCurrent) X(cuCtxSetCurrent)                             \
    X(cuCtxPushCurrent) X(cuCtxPopCurrent) X(cuCtxSynchronize) X(cuCtxGetLimit) X(cuCtxSetLimit) X(cuCtxGetFlags)   \
    X(cuCtxGetApiVersion) X(cuCtxGetCacheConfig) X(cuCtxGetId) X(cuCtxGetStreamPriorityRange)                       \
    X(cuMemGetInfo) X(cuMemAlloc) X(cuMemFree) X(cuMemHostAlloc) X(cuMemFreeHost) X(cuMemHostGetDevicePointer)      \
    X(cuMemHostRegister) X(cuMemHostUnregister) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyDtoD)                     \
    X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync) X(cuMemsetD32) X(cuMemsetD8) X(cuMemsetD32Async)                      \
    X(cuPointerGetAttribute) X(cuMemAddressReserve) X(cuMemAddressFree) X(cuMemCreate) X(cuMemRelease) X(cuMemMap)  \
    X(cuMemUnmap) X(cuMemSetAccess) X(cuMemGetAllocationGranularity)                                                \
    X(cuModuleLoadData) X(cuModuleUnload) X(cuModuleGetFunction) X(cuModuleGetGlobal) X(cuModuleGetLoadingMode)     \
    X(cuFuncGetAttribute) X(cuFuncGetParamInfo) X(cuLibraryLoadData) X(cuLibraryUnload) X(cuLibraryGetKernel)       \
    X(cuLibraryGetGlobal) X(cuKernelGetFunction) X(cuKernelGetParamInfo) X(cuLaunchKernel)                          \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor)                                                                  \
    X(cuStreamCreate) X(cuStreamDestroy) X(cuStreamSynchronize) X(cuStreamQuery) X(cuStreamWaitEvent)               \
    X(cuStreamWriteValue32) X(cuStreamWriteValue64) X(cuStreamWaitValue32) X(cuStreamGetId)                         \
    X(cuEventCreate) X(cuEventDestroy) X(cuEventRecord) X(cuEventQuery) X(cuEventSynchronize) X(cuEventElapsedTime) \
    X(cuStreamBeginCapture) X(cuStreamEndCapture) X(cuStreamIsCapturing) X(cuThreadExchangeStreamCaptureMode)       \
    X(cuGraphInstantiateWithFlags) X(cuGraphLaunch) X(cuGraphDestroy) X(cuGraphExecDestroy)

struct Driver {
#define DRIVER_MEMBER(name) decltype(&::name) name;
    DRIVER_FUNCTIONS(DRIVER_MEMBER)
#undef DRIVER_MEMBER
    // The context of CUDA 11 and 12, which every driver still has; cuda.h of 13 names another version.
    CUresult (*create_context)(CUcontext *, unsigned, CUdevice);
};
extern Driver driver;

// A call of the driver; a function that it lacks answers CUDA_ERROR_NOT_FOUND.
#define CU(name, ...) (driver.name ? driver.name(__VA_ARGS__) : CUDA_ERROR_NOT_FOUND)

// Where the images of the kernels are.
extern std::string image_folder;

std::string name_of(CUresult result);
std::string hexadecimal(unsigned long long value);
std::string format(const char *text, ...) __attribute__((format(printf, 1, 2)));

void check(const std::string &name, const std::string &expected, const std::string &got);
void check(const std::string &name, CUresult expected, CUresult got);
void check_any(const std::string &name, std::initializer_list<CUresult> expected, CUresult got);
void check_yes(const std::string &name, bool got);
void observe(const std::string &name, const std::string &got);
void observe(const std::string &name, CUresult got);
// Whether a driver may say that it lacks something (`--lenient`).
bool is_lenient_run();
void skip(const std::string &name, const std::string &why);
void note(const std::string &name, const char *text, ...) __attribute__((format(printf, 2, 3)));

// A call that the rest of a group needs: true if it succeeded, else it is reported.
bool works(const std::string &name, CUresult got);

double seconds();

// A session's beginning: cuInit, device 0, its primary context current, the kernels loaded from PTX.
struct Setup {
    CUdevice device = 0;
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction add = nullptr, wait_then_store = nullptr, nothing = nullptr, store_at = nullptr;
    CUdeviceptr words = 0; // 1 MiB
    bool is_good = false;
    explicit Setup(bool with_kernels = true);
    int attribute(int number) const;
    // Keeps a stream busy for so long, then stores `value` at words[0].
    CUresult keep_busy(CUstream stream, double how_long, int value = 1);
    CUresult launch(CUfunction function, CUstream stream, std::vector<void *> parameters, unsigned blocks = 1,
                    unsigned threads = 1);
};

// The bytes of an image, with a NUL behind; empty if there is none.
std::string read_image(const std::string &name);

// The groups, each the subject of one process.
struct Group {
    const char *name;
    const char *what;
    void (*run)();
};
extern const std::vector<Group> GROUPS;

void check_start();
void check_context();
void check_windows();
void check_mapping();
void check_copies();
void check_completion();
void check_held();
void check_capture();
void check_modules();
void check_tables();
void check_table_calls();
void check_wrong_calls();
void check_null_arguments();
void check_freed_stream();
void check_freed_event();
void check_freed_module();
void check_freed_context();
void check_fault_address();
void check_fault_misaligned();
void check_fault_trap();
