// Wrong calls, and what each must answer: the same codes on every device and at any distance.
//
//   wrong_calls [--without FUNCTION]…
//
// Prints a line for each call, in the form of the checks of `tests/gpu-check`:
//
//   check FUNCTION.MISTAKE: expected CODE[|CODE], got CODE OK|DIFFERS
//
// Where an expected code comes from is said at each group. *Reference*: the CUDA driver API reference (docs.nvidia.com/cuda/cuda-driver-api) names it
// in the function's text, or as the only one of its returns that fits. Two codes are given where the reference allows both. What no reference tells and
// nobody has seen is not here: freed handles, at which a driver may crash, are asked one by one in `tests/gpu-check`.
#include <thread>

#include "driver.h"

const char *const PROGRAM = "wrong_calls";

static int checks, differences;

static std::string name_of(CUresult code) {
    const char *text = nullptr;
    using Name = CUresult (*)(CUresult, const char **);
    if (((Name)exported("cuGetErrorName"))(code, &text) != CUDA_SUCCESS || !text) return std::to_string(code);
    return text;
}

static void check(const std::string &name, std::vector<CUresult> expected, CUresult got) {
    std::string text;
    bool is_expected = false;
    for (CUresult code : expected) {
        text += (text.empty() ? "" : "|") + name_of(code);
        is_expected = is_expected || code == got;
    }
    checks++;
    differences += !is_expected;
    std::printf("check %s: expected %s, got %s %s\n", name.c_str(), text.c_str(), name_of(got).c_str(),
                is_expected ? "OK" : "DIFFERS");
}

// A wrong call: what is wrong, the code, the function and its arguments.
#define WRONG(mistake, code, function, ...)                                                                            \
    do {                                                                                                               \
        if (has(function)) check(std::string(function) + "." mistake, {code}, call(function, ##__VA_ARGS__));          \
    } while (0)
#define EITHER(mistake, one, other, function, ...)                                                                     \
    do {                                                                                                               \
        if (has(function)) check(std::string(function) + "." mistake, {one, other}, call(function, ##__VA_ARGS__));    \
    } while (0)

static const CUresult INVALID = CUDA_ERROR_INVALID_VALUE;
static const CUdevice NO_DEVICE = 99;
// In the first page there is never anything.
static const CUdeviceptr NOWHERE = 0x100;

template <typename T> static T *null() { return nullptr; }

static int number;
static unsigned flags;
static size_t size, more;
static float milliseconds;
static void *pointer;
static CUdeviceptr address;
static CUdevice device;
static CUcontext context;
static CUstream stream;
static CUevent event;
static CUmodule module;
static CUlibrary loaded;
static CUkernel kernel;
static CUfunction function;
static CUmemoryPool pool;
static unsigned char uuid[16];
static char text[64];

// Reference, of cuInit: "If cuInit() has not been called, any function from the driver API will return CUDA_ERROR_NOT_INITIALIZED."
static void before_initialisation() {
    const CUresult code = CUDA_ERROR_NOT_INITIALIZED;
    WRONG("before-init", code, "cuDeviceGetCount", &number);
    WRONG("before-init", code, "cuDeviceGet", &device, 0);
    WRONG("before-init", code, "cuDeviceGetName", text, 64, (CUdevice)0);
    WRONG("before-init", code, "cuDeviceTotalMem_v2", &size, (CUdevice)0);
    WRONG("before-init", code, "cuDeviceGetAttribute", &number, (int)CU_DEVICE_ATTRIBUTE_WARP_SIZE, (CUdevice)0);
    WRONG("before-init", code, "cuDeviceGetUuid", (CUuuid *)uuid, (CUdevice)0);
    WRONG("before-init", code, "cuDeviceGetByPCIBusId", &device, "0000:00:00.0");
    WRONG("before-init", code, "cuDeviceCanAccessPeer", &number, (CUdevice)0, (CUdevice)0);
    WRONG("before-init", code, "cuDeviceGetDefaultMemPool", &pool, (CUdevice)0);
    WRONG("before-init", code, "cuDevicePrimaryCtxRetain", &context, (CUdevice)0);
    WRONG("before-init", code, "cuDevicePrimaryCtxGetState", (CUdevice)0, &flags, &number);
    WRONG("before-init", code, "cuDevicePrimaryCtxRelease_v2", (CUdevice)0);
    WRONG("before-init", code, "cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    WRONG("before-init", code, "cuCtxGetCurrent", &context);
    WRONG("before-init", code, "cuCtxSetCurrent", null<CUctx_st>());
    WRONG("before-init", code, "cuCtxPopCurrent_v2", &context);
    WRONG("before-init", code, "cuCtxGetDevice", &device);
    WRONG("before-init", code, "cuCtxSynchronize");
    WRONG("before-init", code, "cuMemAlloc_v2", &address, (size_t)16);
    WRONG("before-init", code, "cuMemFree_v2", NOWHERE);
    WRONG("before-init", code, "cuMemGetInfo_v2", &size, &more);
    WRONG("before-init", code, "cuMemHostAlloc", &pointer, (size_t)16, 0u);
    WRONG("before-init", code, "cuMemAllocHost_v2", &pointer, (size_t)16);
    WRONG("before-init", code, "cuMemcpyHtoD_v2", NOWHERE, (const void *)text, (size_t)4);
    WRONG("before-init", code, "cuMemcpyDtoH_v2", (void *)text, NOWHERE, (size_t)4);
    WRONG("before-init", code, "cuMemcpy", NOWHERE, NOWHERE, (size_t)4);
    WRONG("before-init", code, "cuMemsetD8_v2", NOWHERE, (unsigned char)0, (size_t)4);
    WRONG("before-init", code, "cuMemAllocAsync", &address, (size_t)16, (CUstream)0);
    WRONG("before-init", code, "cuMemAddressReserve", &address, (size_t)2 << 20, (size_t)0, (CUdeviceptr)0, 0ull);
    WRONG("before-init", code, "cuPointerGetAttribute", (void *)&number, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, NOWHERE);
    WRONG("before-init", code, "cuStreamCreate", &stream, 0u);
    WRONG("before-init", code, "cuStreamSynchronize", (CUstream)0);
    WRONG("before-init", code, "cuStreamQuery", (CUstream)0);
    WRONG("before-init", code, "cuEventCreate", &event, 0u);
    WRONG("before-init", code, "cuModuleLoadData", &module, (const void *)PTX);
    WRONG("before-init", code, "cuLibraryLoadData", &loaded, (const void *)PTX, null<CUjit_option>(), null<void *>(), 0u,
          null<CUlibraryOption>(), null<void *>(), 0u);
    WRONG("before-init", code, "cuCoredumpGetAttribute", CU_COREDUMP_FILE, (void *)text, &size);
    WRONG("before-init", code, "cuCoredumpSetAttribute", CU_COREDUMP_FILE, (void *)text, &size);
    CUgraphConditionalHandle handle = 0;
    WRONG("before-init", code, "cuGraphConditionalHandleCreate", &handle, null<CUgraph_st>(), null<CUctx_st>(), 0u, 0u);
}

// Reference: initialisation, error handling, devices.
static void devices() {
    const CUresult code = CUDA_ERROR_INVALID_DEVICE;
    WRONG("flags", INVALID, "cuInit", 1u);
    WRONG("null", INVALID, "cuDriverGetVersion", null<int>());
    const char *name = nullptr;
    WRONG("unknown", INVALID, "cuGetErrorName", (CUresult)99999, &name);
    WRONG("unknown", INVALID, "cuGetErrorString", (CUresult)99999, &name);
    WRONG("null", INVALID, "cuDeviceGetCount", null<int>());
    WRONG("null", INVALID, "cuDeviceGet", null<CUdevice>(), 0);
    WRONG("number", code, "cuDeviceGet", &device, 99);
    WRONG("negative", code, "cuDeviceGet", &device, -1);
    WRONG("device", code, "cuDeviceGetName", text, 64, NO_DEVICE);
    WRONG("null", INVALID, "cuDeviceGetName", null<char>(), 64, (CUdevice)0);
    WRONG("device", code, "cuDeviceTotalMem_v2", &size, NO_DEVICE);
    WRONG("null", INVALID, "cuDeviceTotalMem_v2", null<size_t>(), (CUdevice)0);
    WRONG("device", code, "cuDeviceGetAttribute", &number, (int)CU_DEVICE_ATTRIBUTE_WARP_SIZE, NO_DEVICE);
    WRONG("null", INVALID, "cuDeviceGetAttribute", null<int>(), (int)CU_DEVICE_ATTRIBUTE_WARP_SIZE, (CUdevice)0);
    WRONG("unknown", INVALID, "cuDeviceGetAttribute", &number, 9999, (CUdevice)0);
    WRONG("zero", INVALID, "cuDeviceGetAttribute", &number, 0, (CUdevice)0);
    WRONG("device", code, "cuDeviceGetUuid", (CUuuid *)uuid, NO_DEVICE);
    WRONG("device", code, "cuDeviceGetUuid_v2", (CUuuid *)uuid, NO_DEVICE);
    WRONG("null", INVALID, "cuDeviceGetUuid_v2", null<CUuuid>(), (CUdevice)0);
    WRONG("device", code, "cuDeviceGetPCIBusId", text, 64, NO_DEVICE);
    WRONG("null", INVALID, "cuDeviceGetPCIBusId", null<char>(), 64, (CUdevice)0);
    WRONG("null", INVALID, "cuDeviceGetByPCIBusId", null<CUdevice>(), "0000:00:00.0");
    WRONG("null-name", INVALID, "cuDeviceGetByPCIBusId", &device, null<const char>());
    WRONG("device", code, "cuDeviceComputeCapability", &number, &number, NO_DEVICE);
    WRONG("device", code, "cuDeviceCanAccessPeer", &number, (CUdevice)0, NO_DEVICE);
    WRONG("device", code, "cuDeviceGetExecAffinitySupport", &number, (int)CU_EXEC_AFFINITY_TYPE_SM_COUNT, NO_DEVICE);
    WRONG("device", code, "cuDeviceGetDefaultMemPool", &pool, NO_DEVICE);
    WRONG("device", code, "cuDeviceGetMemPool", &pool, NO_DEVICE);
    WRONG("device", code, "cuDevicePrimaryCtxRetain", &context, NO_DEVICE);
    WRONG("null", INVALID, "cuDevicePrimaryCtxRetain", null<CUcontext>(), (CUdevice)0);
    WRONG("device", code, "cuDevicePrimaryCtxGetState", NO_DEVICE, &flags, &number);
    WRONG("device", code, "cuDevicePrimaryCtxSetFlags_v2", NO_DEVICE, 0u);
    WRONG("flags", INVALID, "cuDevicePrimaryCtxSetFlags_v2", (CUdevice)0, 0xFF00u);
    WRONG("device", code, "cuDevicePrimaryCtxRelease_v2", NO_DEVICE);
    WRONG("device", code, "cuDevicePrimaryCtxReset_v2", NO_DEVICE);
    WRONG("not-retained", CUDA_ERROR_INVALID_CONTEXT, "cuDevicePrimaryCtxRelease_v2", (CUdevice)0);
    WRONG("device", code, "cuCtxCreate_v2", &context, 0u, NO_DEVICE);
    WRONG("null", INVALID, "cuCtxCreate_v2", null<CUcontext>(), 0u, (CUdevice)0);
    WRONG("flags", INVALID, "cuCtxCreate_v2", &context, 0xFF00u, (CUdevice)0);
    CUdriverProcAddressQueryResult status;
    WRONG("null-name", INVALID, "cuGetProcAddress_v2", null<const char>(), &pointer, 12000, (cuuint64_t)0, &status);
    WRONG("null", INVALID, "cuGetProcAddress_v2", "cuInit", null<void *>(), 12000, (cuuint64_t)0, &status);
}

// Reference: each of these lists CUDA_ERROR_INVALID_CONTEXT, "most frequently … that there is no context bound to the current thread".
static void without_a_context() {
    const CUresult code = CUDA_ERROR_INVALID_CONTEXT;
    WRONG("no-context", code, "cuCtxSynchronize");
    WRONG("no-context", code, "cuCtxGetDevice", &device);
    WRONG("no-context", code, "cuCtxGetFlags", &flags);
    WRONG("no-context", code, "cuCoredumpGetAttribute", CU_COREDUMP_FILE, (void *)text, &size);
    WRONG("no-context", code, "cuCoredumpSetAttribute", CU_COREDUMP_FILE, (void *)text, &size);
    WRONG("no-context", code, "cuCtxGetLimit", &size, (int)CU_LIMIT_STACK_SIZE);
    WRONG("no-context", code, "cuCtxSetLimit", (int)CU_LIMIT_STACK_SIZE, (size_t)1024);
    WRONG("no-context", code, "cuCtxGetCacheConfig", &number);
    WRONG("no-context", code, "cuCtxSetCacheConfig", (int)CU_FUNC_CACHE_PREFER_L1);
    WRONG("no-context", code, "cuCtxGetStreamPriorityRange", &number, &number);
    WRONG("no-context", code, "cuCtxPopCurrent_v2", &context);
    WRONG("no-context", code, "cuMemAlloc_v2", &address, (size_t)16);
    WRONG("no-context", code, "cuMemAllocPitch_v2", &address, &size, (size_t)16, (size_t)16, 4u);
    WRONG("no-context", code, "cuMemGetInfo_v2", &size, &more);
    WRONG("no-context", code, "cuMemHostAlloc", &pointer, (size_t)16, 0u);
    WRONG("no-context", code, "cuMemAllocHost_v2", &pointer, (size_t)16);
    WRONG("no-context", code, "cuMemHostRegister_v2", (void *)text, (size_t)16, 0u);
    WRONG("no-context", code, "cuMemcpyHtoD_v2", NOWHERE, (const void *)text, (size_t)4);
    WRONG("no-context", code, "cuMemcpyDtoH_v2", (void *)text, NOWHERE, (size_t)4);
    WRONG("no-context", code, "cuMemcpyDtoD_v2", NOWHERE, NOWHERE, (size_t)4);
    WRONG("no-context", code, "cuMemcpyHtoDAsync_v2", NOWHERE, (const void *)text, (size_t)4, (CUstream)0);
    WRONG("no-context", code, "cuMemsetD8_v2", NOWHERE, (unsigned char)0, (size_t)4);
    WRONG("no-context", code, "cuMemsetD32_v2", NOWHERE, 0u, (size_t)4);
    WRONG("no-context", code, "cuMemAllocAsync", &address, (size_t)16, (CUstream)0);
    WRONG("no-context", code, "cuStreamCreate", &stream, 0u);
    WRONG("no-context", code, "cuStreamCreateWithPriority", &stream, 0u, 0);
    WRONG("no-context", code, "cuStreamSynchronize", (CUstream)0);
    WRONG("no-context", code, "cuStreamQuery", (CUstream)0);
    WRONG("no-context", code, "cuEventCreate", &event, 0u);
    WRONG("no-context", code, "cuModuleLoadData", &module, (const void *)PTX);
    WRONG("no-context", code, "cuModuleLoadDataEx", &module, (const void *)PTX, 0u, null<CUjit_option>(), null<void *>());
}

// Reference: context management.
static void contexts() {
    WRONG("null", INVALID, "cuCtxGetCurrent", null<CUcontext>());
    WRONG("null", INVALID, "cuCtxGetDevice", null<CUdevice>());
    WRONG("null", INVALID, "cuCtxGetFlags", null<unsigned>());
    WRONG("null", INVALID, "cuCtxGetLimit", null<size_t>(), (int)CU_LIMIT_STACK_SIZE);
    WRONG("unknown", CUDA_ERROR_UNSUPPORTED_LIMIT, "cuCtxGetLimit", &size, 99);
    WRONG("unknown", CUDA_ERROR_UNSUPPORTED_LIMIT, "cuCtxSetLimit", 99, (size_t)1);
    WRONG("null", INVALID, "cuCtxGetCacheConfig", null<int>());
    WRONG("unknown", INVALID, "cuCtxSetCacheConfig", 99);
    WRONG("null", INVALID, "cuCtxGetApiVersion", context, null<unsigned>());
    WRONG("null", INVALID, "cuCtxGetId", context, null<unsigned long long>());
    WRONG("flags", INVALID, "cuCtxSetFlags", 0xFF00u);
}

// Reference: memory management.
static void memory(CUdeviceptr words) {
    WRONG("null", INVALID, "cuMemAlloc_v2", null<CUdeviceptr>(), (size_t)16);
    WRONG("nothing", INVALID, "cuMemAlloc_v2", &address, (size_t)0);
    WRONG("too-much", CUDA_ERROR_OUT_OF_MEMORY, "cuMemAlloc_v2", &address, (size_t)1 << 46);
    WRONG("null", INVALID, "cuMemAllocPitch_v2", null<CUdeviceptr>(), &size, (size_t)16, (size_t)16, 4u);
    WRONG("null-pitch", INVALID, "cuMemAllocPitch_v2", &address, null<size_t>(), (size_t)16, (size_t)16, 4u);
    WRONG("element", INVALID, "cuMemAllocPitch_v2", &address, &size, (size_t)16, (size_t)16, 3u);
    WRONG("nothing", INVALID, "cuMemAllocPitch_v2", &address, &size, (size_t)0, (size_t)16, 4u);
    WRONG("nowhere", INVALID, "cuMemFree_v2", NOWHERE);
    WRONG("inside", INVALID, "cuMemFree_v2", words + 256);
    WRONG("nowhere", CUDA_ERROR_NOT_FOUND, "cuMemGetAddressRange_v2", &address, &size, NOWHERE);
    WRONG("null", INVALID, "cuMemHostAlloc", null<void *>(), (size_t)16, 0u);
    WRONG("flags", INVALID, "cuMemHostAlloc", &pointer, (size_t)16, 0x100u);
    WRONG("null", INVALID, "cuMemAllocHost_v2", null<void *>(), (size_t)16);
    WRONG("foreign", INVALID, "cuMemFreeHost", (void *)text);
    WRONG("foreign", INVALID, "cuMemHostGetFlags", &flags, (void *)text);
    WRONG("foreign", INVALID, "cuMemHostGetDevicePointer_v2", &address, (void *)text, 0u);
    WRONG("null", INVALID, "cuMemHostRegister_v2", null<void>(), (size_t)16, 0u);
    WRONG("nothing", INVALID, "cuMemHostRegister_v2", (void *)text, (size_t)0, 0u);
    WRONG("flags", INVALID, "cuMemHostRegister_v2", (void *)text, (size_t)16, 0x100u);
    static char registered[8192];
    OK("cuMemHostRegister_v2", (void *)registered, sizeof registered, 0u);
    WRONG("twice", CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "cuMemHostRegister_v2", (void *)registered, sizeof registered,
          0u);
    OK("cuMemHostUnregister", (void *)registered);
    WRONG("foreign", CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "cuMemHostUnregister", (void *)registered);
    WRONG("null-host", INVALID, "cuMemcpyHtoD_v2", words, null<const void>(), (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyHtoD_v2", NOWHERE, (const void *)text, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyDtoH_v2", (void *)text, NOWHERE, (size_t)4);
    WRONG("null-host", INVALID, "cuMemcpyDtoH_v2", null<void>(), words, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyDtoD_v2", words, NOWHERE, (size_t)4);
    WRONG("to-nowhere", INVALID, "cuMemcpyDtoD_v2", NOWHERE, words, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyHtoDAsync_v2", NOWHERE, (const void *)text, (size_t)4, (CUstream)0);
    WRONG("nowhere", INVALID, "cuMemcpyDtoHAsync_v2", (void *)text, NOWHERE, (size_t)4, (CUstream)0);
    WRONG("nowhere", INVALID, "cuMemcpyDtoDAsync_v2", words, NOWHERE, (size_t)4, (CUstream)0);
    CUDA_MEMCPY2D shape{};
    shape.srcMemoryType = CU_MEMORYTYPE_HOST;
    shape.srcHost = text;
    shape.srcPitch = 4;
    shape.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    shape.dstDevice = words;
    shape.dstPitch = 16;
    shape.WidthInBytes = 8;
    shape.Height = 2;
    WRONG("pitch", INVALID, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&shape);
    shape.srcPitch = 8;
    shape.dstPitch = 4;
    WRONG("pitch-of-destination", INVALID, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&shape);
    shape.dstPitch = 16;
    shape.dstMemoryType = (CUmemorytype)99;
    WRONG("kind", INVALID, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&shape);
    WRONG("kind", INVALID, "cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *)&shape, (CUstream)0);
    WRONG("nowhere", INVALID, "cuMemsetD8_v2", NOWHERE, (unsigned char)0, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemsetD16_v2", NOWHERE, (unsigned short)0, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemsetD32_v2", NOWHERE, 0u, (size_t)4);
    WRONG("odd", INVALID, "cuMemsetD16_v2", words + 1, (unsigned short)0, (size_t)4);
    WRONG("odd", INVALID, "cuMemsetD32_v2", words + 2, 0u, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemsetD32Async", NOWHERE, 0u, (size_t)4, (CUstream)0);
    WRONG("odd", INVALID, "cuMemsetD32Async", words + 2, 0u, (size_t)4, (CUstream)0);
    WRONG("pitch", INVALID, "cuMemsetD2D8_v2", words, (size_t)4, (unsigned char)0, (size_t)8, (size_t)2);
    WRONG("pitch", INVALID, "cuMemsetD2D32_v2", words, (size_t)4, 0u, (size_t)8, (size_t)2);
    WRONG("of-host", INVALID, "cuPointerGetAttribute", (void *)&number, (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
          (CUdeviceptr)(uintptr_t)text);
    WRONG("null", INVALID, "cuPointerGetAttribute", null<void>(), (int)CU_POINTER_ATTRIBUTE_MEMORY_TYPE, words);
    WRONG("unknown", INVALID, "cuPointerGetAttribute", (void *)&number, 999, words);
    WRONG("unknown", INVALID, "cuPointerSetAttribute", (const void *)&number, 999, words);
}

// Reference: memory management, of arrays, and unified addressing's copies; texture and surface object management.
static void arrays(CUdeviceptr words) {
    CUarray array = nullptr;
    CUDA_ARRAY_DESCRIPTOR flat{}, flat_told{};
    flat.Width = 16, flat.Height = 4, flat.Format = CU_AD_FORMAT_FLOAT, flat.NumChannels = 1;
    CUDA_ARRAY_DESCRIPTOR other = flat;
    const CUDA_ARRAY_DESCRIPTOR *good = &flat, *bad = &other;
    WRONG("null", INVALID, "cuArrayCreate_v2", null<CUarray>(), good);
    WRONG("null-description", INVALID, "cuArrayCreate_v2", &array, null<const CUDA_ARRAY_DESCRIPTOR>());
    other.Width = 0;
    WRONG("nothing", INVALID, "cuArrayCreate_v2", &array, bad);
    other = flat, other.NumChannels = 3;
    WRONG("channels", INVALID, "cuArrayCreate_v2", &array, bad);
    other = flat, other.Format = (CUarray_format)0x7777;
    WRONG("format", INVALID, "cuArrayCreate_v2", &array, bad);
    CUDA_ARRAY3D_DESCRIPTOR shape{}, shape_told{};
    shape.Width = 16, shape.Depth = 3, shape.Format = CU_AD_FORMAT_FLOAT, shape.NumChannels = 1;
    WRONG("no-height", INVALID, "cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    shape.Height = 8, shape.Depth = 6, shape.Flags = CUDA_ARRAY3D_CUBEMAP;
    WRONG("no-cube", INVALID, "cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    shape.Flags = 0x40000000;
    WRONG("flags", INVALID, "cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    WRONG("null", INVALID, "cuArray3DCreate_v2", null<CUarray>(), (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    shape.Flags = 0;
    CUmipmappedArray levels = nullptr;
    WRONG("null", INVALID, "cuMipmappedArrayCreate", null<CUmipmappedArray>(), (const CUDA_ARRAY3D_DESCRIPTOR *)&shape, 2u);
    WRONG("no-levels", INVALID, "cuMipmappedArrayCreate", &levels, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape, 0u);
    OK("cuArrayCreate_v2", &array, good);
    WRONG("null", INVALID, "cuArrayGetDescriptor_v2", null<CUDA_ARRAY_DESCRIPTOR>(), array);
    WRONG("null", INVALID, "cuArray3DGetDescriptor_v2", null<CUDA_ARRAY3D_DESCRIPTOR>(), array);
    EITHER("null-array", INVALID, CUDA_ERROR_INVALID_HANDLE, "cuArrayGetDescriptor_v2", &flat_told, (CUarray) nullptr);
    EITHER("null-array", INVALID, CUDA_ERROR_INVALID_HANDLE, "cuArray3DGetDescriptor_v2", &shape_told, (CUarray) nullptr);
    EITHER("null", INVALID, CUDA_ERROR_INVALID_HANDLE, "cuArrayDestroy", (CUarray) nullptr);
    EITHER("null", INVALID, CUDA_ERROR_INVALID_HANDLE, "cuMipmappedArrayDestroy", (CUmipmappedArray) nullptr);
    WRONG("past-the-end", INVALID, "cuMemcpyHtoA_v2", array, (size_t)60, (const void *)text, (size_t)8);
    WRONG("past-the-end", INVALID, "cuMemcpyAtoH_v2", (void *)text, array, (size_t)64, (size_t)4);
    WRONG("null-host", INVALID, "cuMemcpyHtoA_v2", array, (size_t)0, null<const void>(), (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyAtoD_v2", NOWHERE, array, (size_t)0, (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyDtoA_v2", array, (size_t)0, NOWHERE, (size_t)4);
    CUDA_MEMCPY2D box{};
    box.srcMemoryType = CU_MEMORYTYPE_DEVICE, box.srcDevice = words, box.srcPitch = 64;
    box.dstMemoryType = CU_MEMORYTYPE_ARRAY, box.dstArray = array, box.WidthInBytes = 64, box.Height = 5;
    WRONG("past-the-array", INVALID, "cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&box);
    CUtexObject texture = 0;
    CUsurfObject surface = 0;
    CUDA_RESOURCE_DESC what{};
    CUDA_TEXTURE_DESC how{};
    what.resType = CU_RESOURCE_TYPE_ARRAY, what.res.array.hArray = array;
    const CUDA_RESOURCE_DESC *read = &what;
    const CUDA_TEXTURE_DESC *plainly = &how;
    const CUDA_RESOURCE_VIEW_DESC *whole = nullptr;
    WRONG("null", INVALID, "cuTexObjectCreate", null<CUtexObject>(), read, plainly, whole);
    WRONG("null-resource", INVALID, "cuTexObjectCreate", &texture, null<const CUDA_RESOURCE_DESC>(), plainly, whole);
    WRONG("null-description", INVALID, "cuTexObjectCreate", &texture, read, null<const CUDA_TEXTURE_DESC>(), whole);
    WRONG("not-for-surfaces", INVALID, "cuSurfObjectCreate", &surface, read);
    WRONG("null", INVALID, "cuSurfObjectCreate", null<CUsurfObject>(), read);
    WRONG("null-resource", INVALID, "cuSurfObjectCreate", &surface, null<const CUDA_RESOURCE_DESC>());
    what.resType = (CUresourcetype)9;
    WRONG("kind", INVALID, "cuTexObjectCreate", &texture, read, plainly, whole);
    what.resType = CU_RESOURCE_TYPE_LINEAR, what.res.linear.devPtr = NOWHERE, what.res.linear.sizeInBytes = 64;
    what.res.linear.format = CU_AD_FORMAT_FLOAT, what.res.linear.numChannels = 1;
    WRONG("nowhere", INVALID, "cuTexObjectCreate", &texture, read, plainly, whole);
    WRONG("surface-of-memory", INVALID, "cuSurfObjectCreate", &surface, read);
    OK("cuArrayDestroy", array);
}

// Reference: texture and surface reference management; of getters: "CUDA_ERROR_INVALID_VALUE if the texture reference is not bound".
static void references(CUdeviceptr words) {
    static const char *const declared = ".version 7.0\n.target sm_70\n.address_size 64\n"
                                        ".visible .global .texref picture;\n.visible .global .surfref canvas;\n";
    CUmodule of = nullptr;
    CUtexref picture = nullptr, made = nullptr;
    CUsurfref canvas = nullptr, none = nullptr;
    CUarray array = nullptr;
    CUmipmappedArray levels = nullptr;
    CUarray_format format;
    OK("cuModuleLoadData", &of, (const void *)declared);
    WRONG("null", INVALID, "cuModuleGetTexRef", null<CUtexref>(), of, "picture");
    WRONG("null", INVALID, "cuModuleGetSurfRef", null<CUsurfref>(), of, "canvas");
    WRONG("unknown", CUDA_ERROR_NOT_FOUND, "cuModuleGetTexRef", &made, of, "nothing");
    WRONG("unknown", CUDA_ERROR_NOT_FOUND, "cuModuleGetSurfRef", &none, of, "nothing");
    WRONG("null", INVALID, "cuTexRefCreate", null<CUtexref>());
    OK("cuModuleGetTexRef", &picture, of, "picture");
    OK("cuModuleGetSurfRef", &canvas, of, "canvas");
    WRONG("unbound", INVALID, "cuTexRefGetArray", &array, picture);
    WRONG("unbound", INVALID, "cuTexRefGetMipmappedArray", &levels, picture);
    WRONG("unbound", INVALID, "cuTexRefGetAddress_v2", &address, picture);
    WRONG("unbound", INVALID, "cuSurfRefGetArray", &array, canvas);
    WRONG("null", INVALID, "cuTexRefGetFlags", null<unsigned>(), picture);
    WRONG("null", INVALID, "cuTexRefGetFormat", &format, null<int>(), picture);
    WRONG("null", INVALID, "cuTexRefSetBorderColor", picture, null<float>());
    WRONG("components", INVALID, "cuTexRefSetFormat", picture, CU_AD_FORMAT_FLOAT, 3);
    WRONG("mode", INVALID, "cuTexRefSetAddressMode", picture, 0, (CUaddress_mode)77);
    WRONG("dimension", INVALID, "cuTexRefSetAddressMode", picture, 3, CU_TR_ADDRESS_MODE_CLAMP);
    WRONG("mode", INVALID, "cuTexRefSetFilterMode", picture, (CUfilter_mode)77);
    WRONG("mode", INVALID, "cuTexRefSetMipmapFilterMode", picture, (CUfilter_mode)77);
    WRONG("flags", INVALID, "cuTexRefSetFlags", picture, 0x40000000u);
    CUDA_ARRAY_DESCRIPTOR rows{};
    rows.Width = 4, rows.Height = 2, rows.Format = CU_AD_FORMAT_FLOAT, rows.NumChannels = 1;
    const CUDA_ARRAY_DESCRIPTOR *good = &rows;
    WRONG("null", INVALID, "cuTexRefSetAddress2D_v3", picture, null<const CUDA_ARRAY_DESCRIPTOR>(), words, (size_t)32);
    WRONG("unaligned", INVALID, "cuTexRefSetAddress2D_v3", picture, good, words + 16, (size_t)32);
    WRONG("pitch", INVALID, "cuTexRefSetAddress2D_v3", picture, good, words, (size_t)20);
    WRONG("nowhere", INVALID, "cuTexRefSetAddress_v2", &size, picture, NOWHERE, (size_t)64);
    OK("cuArrayCreate_v2", &array, good);
    WRONG("flags", INVALID, "cuTexRefSetArray", picture, array, 0u);
    WRONG("not-for-surfaces", INVALID, "cuSurfRefSetArray", canvas, array, 0u);
    WRONG("flags", INVALID, "cuSurfRefSetArray", canvas, array, 1u);
    OK("cuArrayDestroy", array);
    WRONG("of-a-module", INVALID, "cuTexRefDestroy", picture);
    OK("cuModuleUnload", of);
}

// Reference: virtual memory management.
static void virtual_memory() {
    CUmemAllocationProp properties{}, other{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    other = properties;
    other.type = (CUmemAllocationType)77;
    const CUmemAllocationProp *good = &properties, *bad = &other;
    const int minimum = CU_MEM_ALLOC_GRANULARITY_MINIMUM;
    size_t unit = 0;
    OK("cuMemGetAllocationGranularity", &unit, good, minimum);
    CUmemGenericAllocationHandle handle = 0;
    unsigned long long access = 0;
    WRONG("null", INVALID, "cuMemGetAllocationGranularity", null<size_t>(), good, minimum);
    WRONG("null-properties", INVALID, "cuMemGetAllocationGranularity", &size, null<const CUmemAllocationProp>(), minimum);
    WRONG("kind", INVALID, "cuMemGetAllocationGranularity", &size, bad, minimum);
    WRONG("null", INVALID, "cuMemCreate", null<CUmemGenericAllocationHandle>(), unit, good, 0ull);
    WRONG("null-properties", INVALID, "cuMemCreate", &handle, unit, null<const CUmemAllocationProp>(), 0ull);
    WRONG("nothing", INVALID, "cuMemCreate", &handle, (size_t)0, good, 0ull);
    WRONG("size", INVALID, "cuMemCreate", &handle, unit + 1, good, 0ull);
    WRONG("flags", INVALID, "cuMemCreate", &handle, unit, good, 1ull);
    WRONG("kind", INVALID, "cuMemCreate", &handle, unit, bad, 0ull);
    other = properties;
    other.location.id = NO_DEVICE;
    EITHER("device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMemCreate", &handle, unit, bad, 0ull);
    WRONG("null", INVALID, "cuMemAddressReserve", null<CUdeviceptr>(), unit, (size_t)0, (CUdeviceptr)0, 0ull);
    WRONG("nothing", INVALID, "cuMemAddressReserve", &address, (size_t)0, (size_t)0, (CUdeviceptr)0, 0ull);
    WRONG("size", INVALID, "cuMemAddressReserve", &address, (size_t)100, (size_t)0, (CUdeviceptr)0, 0ull);
    WRONG("flags", INVALID, "cuMemAddressReserve", &address, unit, (size_t)0, (CUdeviceptr)0, 1ull);
    WRONG("nowhere", INVALID, "cuMemAddressFree", NOWHERE, unit);
    WRONG("nowhere", INVALID, "cuMemUnmap", NOWHERE, unit);
    WRONG("handle", INVALID, "cuMemRelease", (CUmemGenericAllocationHandle)0);
    CUdeviceptr place = 0;
    OK("cuMemAddressReserve", &place, unit, (size_t)0, (CUdeviceptr)0, 0ull);
    OK("cuMemCreate", &handle, unit, good, 0ull);
    CUmemAccessDesc wanted{};
    wanted.location = properties.location;
    wanted.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    WRONG("not-mapped", INVALID, "cuMemSetAccess", place, unit, (const CUmemAccessDesc *)&wanted, (size_t)1);
    WRONG("not-mapped", INVALID, "cuMemUnmap", place, unit);
    WRONG("offset", INVALID, "cuMemMap", place, unit, unit, handle, 0ull);
    WRONG("flags", INVALID, "cuMemMap", place, unit, (size_t)0, handle, 1ull);
    WRONG("nowhere", INVALID, "cuMemMap", NOWHERE, unit, (size_t)0, handle, 0ull);
    OK("cuMemMap", place, unit, (size_t)0, handle, 0ull);
    WRONG("twice", INVALID, "cuMemMap", place, unit, (size_t)0, handle, 0ull);
    WRONG("null", INVALID, "cuMemSetAccess", place, unit, null<const CUmemAccessDesc>(), (size_t)1);
    WRONG("nobody", INVALID, "cuMemSetAccess", place, unit, (const CUmemAccessDesc *)&wanted, (size_t)0);
    WRONG("null", INVALID, "cuMemGetAccess", null<unsigned long long>(), (const CUmemLocation *)&properties.location, place);
    WRONG("nowhere", INVALID, "cuMemGetAccess", &access, (const CUmemLocation *)&properties.location, NOWHERE);
    OK("cuMemUnmap", place, unit);
    const int descriptors = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    int descriptor = -1;
    WRONG("not-exportable", INVALID, "cuMemExportToShareableHandle", (void *)&descriptor, handle, descriptors, 0ull);
    OK("cuMemRelease", handle);
    OK("cuMemAddressFree", place, unit);
}

// Reference: multicast object management. Where two devices can.
static void multicast() {
    int devices = 0, supported = 0;
    OK("cuDeviceGetCount", &devices);
    OK("cuDeviceGetAttribute", &supported, (int)CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, (CUdevice)0);
    if (devices < 2 || !supported) return;
    CUmulticastObjectProp properties{}, other{};
    properties.numDevices = 2, properties.size = 1;
    const CUmulticastObjectProp *good = &properties, *bad = &other;
    size_t unit = 0;
    OK("cuMulticastGetGranularity", &unit, good, (int)CU_MULTICAST_GRANULARITY_RECOMMENDED);
    WRONG("null", INVALID, "cuMulticastGetGranularity", null<size_t>(), good, 0);
    WRONG("null-properties", INVALID, "cuMulticastGetGranularity", &size, null<const CUmulticastObjectProp>(), 0);
    WRONG("option", INVALID, "cuMulticastGetGranularity", &size, good, 77);
    properties.size = unit;
    CUmemGenericAllocationHandle object = 0, memory = 0;
    WRONG("null", INVALID, "cuMulticastCreate", null<CUmemGenericAllocationHandle>(), good);
    WRONG("null-properties", INVALID, "cuMulticastCreate", &object, null<const CUmulticastObjectProp>());
    other = properties, other.size = unit / 2;
    WRONG("size", INVALID, "cuMulticastCreate", &object, bad);
    other = properties, other.flags = 1;
    WRONG("flags", INVALID, "cuMulticastCreate", &object, bad);
    other = properties, other.numDevices = 0;
    WRONG("nobody", INVALID, "cuMulticastCreate", &object, bad);
    OK("cuMulticastCreate", &object, good);
    WRONG("handle", INVALID, "cuMulticastAddDevice", (CUmemGenericAllocationHandle)0, (CUdevice)0);
    EITHER("device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMulticastAddDevice", object, NO_DEVICE);
    for (CUdevice device = 0; device < 2; device++) OK("cuMulticastAddDevice", object, device);
    CUmemAllocationProp wanted{};
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    OK("cuMemCreate", &memory, unit, (const CUmemAllocationProp *)&wanted, 0ull);
    const size_t none = 0;
    WRONG("handle", INVALID, "cuMulticastBindMem", (CUmemGenericAllocationHandle)0, none, memory, none, unit, 0ull);
    WRONG("memory", INVALID, "cuMulticastBindMem", object, none, (CUmemGenericAllocationHandle)0, none, unit, 0ull);
    WRONG("offset", INVALID, "cuMulticastBindMem", object, unit, memory, none, unit, 0ull);
    WRONG("unaligned", INVALID, "cuMulticastBindMem", object, (size_t)16, memory, none, unit / 2, 0ull);
    WRONG("memory-offset", INVALID, "cuMulticastBindMem", object, none, memory, unit, unit, 0ull);
    WRONG("size", INVALID, "cuMulticastBindMem", object, none, memory, none, 2 * unit, 0ull);
    WRONG("flags", INVALID, "cuMulticastBindMem", object, none, memory, none, unit, 1ull);
    EITHER("device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMulticastBindMem_v2", object, NO_DEVICE, none, memory, none, unit, 0ull);
    EITHER("another-device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMulticastBindMem_v2", object, (CUdevice)1, none, memory, none,
           unit, 0ull);
    WRONG("nowhere", INVALID, "cuMulticastBindAddr", object, none, NOWHERE, unit, 0ull);
    EITHER("device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMulticastBindAddr_v2", object, NO_DEVICE, none, NOWHERE, unit, 0ull);
    WRONG("handle", INVALID, "cuMulticastUnbind", (CUmemGenericAllocationHandle)0, (CUdevice)0, none, unit);
    EITHER("device", CUDA_ERROR_INVALID_DEVICE, INVALID, "cuMulticastUnbind", object, NO_DEVICE, none, unit);
    WRONG("size", INVALID, "cuMulticastUnbind", object, (CUdevice)0, none, 2 * unit);
    OK("cuMemRelease", memory);
    OK("cuMemRelease", object);
}

// Reference: shareable handles of physical memory; what is no descriptor of such memory is an invalid argument.
static void shareable_handles() {
    const int descriptors = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    int supported = 0, descriptor = -1, pipe_ends[2] = {-1, -1};
    OK("cuDeviceGetAttribute", &supported, (int)CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, (CUdevice)0);
    if (!supported) return;
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    const CUmemAllocationProp *good = &properties;
    size_t unit = 0;
    CUmemGenericAllocationHandle handle = 0, imported = 0;
    OK("cuMemGetAllocationGranularity", &unit, good, (int)CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    OK("cuMemCreate", &handle, unit, good, 0ull);
    WRONG("null", INVALID, "cuMemExportToShareableHandle", null<void>(), handle, descriptors, 0ull);
    WRONG("handle", INVALID, "cuMemExportToShareableHandle", (void *)&descriptor, (CUmemGenericAllocationHandle)0, descriptors,
          0ull);
    WRONG("flags", INVALID, "cuMemExportToShareableHandle", (void *)&descriptor, handle, descriptors, 1ull);
    WRONG("not-requested", INVALID, "cuMemExportToShareableHandle", (void *)&descriptor, handle,
          (int)CU_MEM_HANDLE_TYPE_FABRIC, 0ull);
    OK("cuMemRelease", handle);
    if (pipe(pipe_ends) != 0) fail(__LINE__, "pipe");
    WRONG("null", INVALID, "cuMemImportFromShareableHandle", null<CUmemGenericAllocationHandle>(), (void *)(intptr_t)pipe_ends[0],
          descriptors);
    WRONG("foreign", INVALID, "cuMemImportFromShareableHandle", &imported, (void *)(intptr_t)pipe_ends[0], descriptors);
    WRONG("closed", INVALID, "cuMemImportFromShareableHandle", &imported, (void *)(intptr_t)-1, descriptors);
    WRONG("kind", INVALID, "cuMemImportFromShareableHandle", &imported, (void *)(intptr_t)pipe_ends[0], 0);
    for (int end : pipe_ends) close(end);
}

// Reference: stream-ordered memory.
static void pools() {
    int supported = 0;
    OK("cuDeviceGetAttribute", &supported, (int)CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, (CUdevice)0);
    if (!supported) return;
    CUmemPoolProps properties{};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    cuuint64_t value = 0;
    OK("cuDeviceGetDefaultMemPool", &pool, (CUdevice)0);
    WRONG("null", INVALID, "cuDeviceGetDefaultMemPool", null<CUmemoryPool>(), (CUdevice)0);
    WRONG("null", INVALID, "cuMemPoolCreate", null<CUmemoryPool>(), (const CUmemPoolProps *)&properties);
    CUmemoryPool made = nullptr;
    WRONG("null-properties", INVALID, "cuMemPoolCreate", &made, null<const CUmemPoolProps>());
    properties.allocType = (CUmemAllocationType)77;
    WRONG("kind", INVALID, "cuMemPoolCreate", &made, (const CUmemPoolProps *)&properties);
    WRONG("unknown", INVALID, "cuMemPoolSetAttribute", pool, 99, (void *)&value);
    WRONG("null", INVALID, "cuMemPoolSetAttribute", pool, (int)CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, null<void>());
    WRONG("unknown", INVALID, "cuMemPoolGetAttribute", pool, 99, (void *)&value);
    WRONG("null", INVALID, "cuMemPoolGetAttribute", pool, (int)CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, null<void>());
    WRONG("null", INVALID, "cuMemAllocAsync", null<CUdeviceptr>(), (size_t)16, (CUstream)0);
    WRONG("null-pool", INVALID, "cuMemAllocFromPoolAsync", &address, (size_t)16, (CUmemoryPool)0, (CUstream)0);
    WRONG("nowhere", INVALID, "cuMemFreeAsync", NOWHERE, (CUstream)0);
    const int descriptors = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemPoolPtrExportData data{};
    WRONG("null", INVALID, "cuMemPoolExportToShareableHandle", null<void>(), pool, descriptors, 0ull);
    WRONG("not-requested", INVALID, "cuMemPoolExportToShareableHandle", (void *)&number, pool, descriptors, 0ull);
    WRONG("null", INVALID, "cuMemPoolImportFromShareableHandle", null<CUmemoryPool>(), (void *)(intptr_t)-1, descriptors, 0ull);
    WRONG("closed", INVALID, "cuMemPoolImportFromShareableHandle", &made, (void *)(intptr_t)-1, descriptors, 0ull);
    WRONG("null", INVALID, "cuMemPoolExportPointer", null<CUmemPoolPtrExportData>(), NOWHERE);
    WRONG("nowhere", INVALID, "cuMemPoolExportPointer", &data, NOWHERE);
    WRONG("null", INVALID, "cuMemPoolImportPointer", null<CUdeviceptr>(), pool, &data);
    WRONG("null-data", INVALID, "cuMemPoolImportPointer", &address, pool, null<CUmemPoolPtrExportData>());
    WRONG("own-pool", INVALID, "cuMemPoolImportPointer", &address, pool, &data);
}

// Reference: streams and events.
static void streams(CUdeviceptr words) {
    CUevent timed = nullptr, untimed = nullptr, later = nullptr;
    WRONG("null", INVALID, "cuStreamCreate", null<CUstream>(), 0u);
    WRONG("flags", INVALID, "cuStreamCreate", &stream, 64u);
    WRONG("null", INVALID, "cuStreamCreateWithPriority", null<CUstream>(), 0u, 0);
    WRONG("flags", INVALID, "cuStreamCreateWithPriority", &stream, 64u, 0);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    WRONG("null", INVALID, "cuStreamGetFlags", stream, null<unsigned>());
    WRONG("null", INVALID, "cuStreamGetPriority", stream, null<int>());
    WRONG("null", INVALID, "cuStreamGetId", stream, null<unsigned long long>());
    WRONG("null", INVALID, "cuStreamGetCtx", stream, null<CUcontext>());
    WRONG("null", INVALID, "cuStreamIsCapturing", stream, null<int>());
    WRONG("unknown", INVALID, "cuThreadExchangeStreamCaptureMode", &(number = 99));
    WRONG("null", INVALID, "cuThreadExchangeStreamCaptureMode", null<int>());
    WRONG("null", INVALID, "cuEventCreate", null<CUevent>(), 0u);
    WRONG("flags", INVALID, "cuEventCreate", &event, 64u);
    const CUresult handle = CUDA_ERROR_INVALID_HANDLE;
    WRONG("null", handle, "cuEventRecord", (CUevent)0, stream);
    WRONG("null", handle, "cuEventQuery", (CUevent)0);
    WRONG("null", handle, "cuEventSynchronize", (CUevent)0);
    WRONG("null", handle, "cuEventDestroy_v2", (CUevent)0);
    WRONG("null", handle, "cuStreamWaitEvent", stream, (CUevent)0, 0u);
    OK("cuEventCreate", &timed, 0u);
    OK("cuEventCreate", &later, 0u);
    OK("cuEventCreate", &untimed, (unsigned)CU_EVENT_DISABLE_TIMING);
    WRONG("flags", INVALID, "cuStreamWaitEvent", stream, timed, 4u);
    WRONG("flags", INVALID, "cuEventRecordWithFlags", timed, stream, 4u);
    WRONG("not-recorded", handle, "cuEventElapsedTime", &milliseconds, timed, later);
    OK("cuEventRecord", timed, stream);
    OK("cuEventRecord", untimed, stream);
    OK("cuStreamSynchronize", stream);
    WRONG("null", INVALID, "cuEventElapsedTime", null<float>(), timed, timed);
    WRONG("untimed", handle, "cuEventElapsedTime", &milliseconds, timed, untimed);
    WRONG("other-not-recorded", handle, "cuEventElapsedTime", &milliseconds, timed, later);
    WRONG("null-event", handle, "cuEventElapsedTime", &milliseconds, (CUevent)0, timed);
    WRONG("null", INVALID, "cuLaunchHostFunc", stream, (CUhostFn)0, null<void>());
    WRONG("flags", INVALID, "cuStreamAddCallback", stream, (CUstreamCallback)1, null<void>(), 1u);
    WRONG("null", INVALID, "cuStreamAddCallback", stream, (CUstreamCallback)0, null<void>(), 0u);
    WRONG("nowhere", INVALID, "cuStreamWriteValue32_v2", stream, NOWHERE, (cuuint32_t)0, 0u);
    WRONG("odd", INVALID, "cuStreamWriteValue32_v2", stream, words + 2, (cuuint32_t)0, 0u);
    WRONG("odd", INVALID, "cuStreamWriteValue64_v2", stream, words + 4, (cuuint64_t)0, 0u);
    WRONG("nowhere", INVALID, "cuStreamWaitValue32_v2", stream, NOWHERE, (cuuint32_t)0, 0u);
    WRONG("odd", INVALID, "cuStreamWaitValue32_v2", stream, words + 2, (cuuint32_t)0, 0u);
    CUstreamBatchMemOpParams operation{};
    operation.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    operation.writeValue.address = words;
    WRONG("null", INVALID, "cuStreamBatchMemOp_v2", stream, 1u, null<CUstreamBatchMemOpParams>(), 0u);
    WRONG("too-many", INVALID, "cuStreamBatchMemOp_v2", stream, 257u, &operation, 0u);
    WRONG("flags", INVALID, "cuStreamBatchMemOp_v2", stream, 1u, &operation, 1u);
    operation.operation = (CUstreamBatchMemOpType)77;
    WRONG("kind", INVALID, "cuStreamBatchMemOp_v2", stream, 1u, &operation, 0u);
    OK("cuStreamSynchronize", stream);
    OK("cuEventDestroy_v2", timed);
    OK("cuEventDestroy_v2", later);
    OK("cuEventDestroy_v2", untimed);
}

// Reference: modules and libraries.
static void modules() {
    const CUresult missing = CUDA_ERROR_NOT_FOUND, handle = CUDA_ERROR_INVALID_HANDLE;
    static const char garbage[256] = "\177this is no image of any kind that is known to anybody";
    static const char broken[] = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entri broken() { ret; }\n";
    const void *image = PTX;
    CUmodule made = nullptr;
    WRONG("null", INVALID, "cuModuleLoadData", &made, null<const void>());
    WRONG("null-output", INVALID, "cuModuleLoadData", null<CUmodule>(), image);
    WRONG("garbage", CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadFatBinary", &made, (const void *)garbage);
    WRONG("syntax", CUDA_ERROR_INVALID_PTX, "cuModuleLoadData", &made, (const void *)broken);
    WRONG("syntax", CUDA_ERROR_INVALID_PTX, "cuModuleLoadDataEx", &made, (const void *)broken, 0u, null<CUjit_option>(),
          null<void *>());
    WRONG("file", CUDA_ERROR_FILE_NOT_FOUND, "cuModuleLoad", &made, "/nonexistent/module.ptx");
    WRONG("null", INVALID, "cuModuleLoad", &made, null<const char>());
    WRONG("unknown", missing, "cuModuleGetFunction", &function, module, "none");
    WRONG("null-name", INVALID, "cuModuleGetFunction", &function, module, null<const char>());
    WRONG("null-output", INVALID, "cuModuleGetFunction", null<CUfunction>(), module, "axpy");
    WRONG("null", handle, "cuModuleGetFunction", &function, (CUmodule)0, "axpy");
    WRONG("unknown", missing, "cuModuleGetGlobal_v2", &address, &size, module, "none");
    WRONG("null-name", INVALID, "cuModuleGetGlobal_v2", &address, &size, module, null<const char>());
    WRONG("null", handle, "cuModuleUnload", (CUmodule)0);
    WRONG("null", INVALID, "cuModuleGetFunctionCount", null<unsigned>(), module);
    WRONG("null", INVALID, "cuLibraryLoadData", null<CUlibrary>(), image, null<CUjit_option>(), null<void *>(), 0u,
          null<CUlibraryOption>(), null<void *>(), 0u);
    WRONG("null-image", INVALID, "cuLibraryLoadData", &loaded, null<const void>(), null<CUjit_option>(), null<void *>(), 0u,
          null<CUlibraryOption>(), null<void *>(), 0u);
    WRONG("file", CUDA_ERROR_FILE_NOT_FOUND, "cuLibraryLoadFromFile", &loaded, "/nonexistent/library.ptx",
          null<CUjit_option>(), null<void *>(), 0u, null<CUlibraryOption>(), null<void *>(), 0u);
    OK("cuLibraryLoadData", &loaded, image, null<CUjit_option>(), null<void *>(), 0u, null<CUlibraryOption>(), null<void *>(),
       0u);
    WRONG("unknown", missing, "cuLibraryGetKernel", &kernel, loaded, "none");
    WRONG("null-name", INVALID, "cuLibraryGetKernel", &kernel, loaded, null<const char>());
    WRONG("null-output", INVALID, "cuLibraryGetKernel", null<CUkernel>(), loaded, "axpy");
    WRONG("unknown", missing, "cuLibraryGetGlobal", &address, &size, loaded, "none");
    WRONG("null", INVALID, "cuLibraryGetModule", null<CUmodule>(), loaded);
    WRONG("null", handle, "cuLibraryGetKernel", &kernel, (CUlibrary)0, "axpy");
    WRONG("null", handle, "cuLibraryUnload", (CUlibrary)0);
    WRONG("null", handle, "cuKernelGetFunction", &function, (CUkernel)0);
    OK("cuLibraryUnload", loaded);
}

// Reference: execution control and occupancy.
static void functions(CUfunction axpy) {
    WRONG("no-threads", INVALID, "cuFuncSetBlockShape", axpy, 0, 1, 1);
    WRONG("before-all", INVALID, "cuParamSeti", axpy, -4, 1u);
    WRONG("no-blocks", INVALID, "cuLaunchGrid", axpy, 0, 1);
    const CUresult handle = CUDA_ERROR_INVALID_HANDLE;
    const CUfunction none = nullptr;
    WRONG("null", handle, "cuFuncGetAttribute", &number, (int)CU_FUNC_ATTRIBUTE_NUM_REGS, none);
    WRONG("null-output", INVALID, "cuFuncGetAttribute", null<int>(), (int)CU_FUNC_ATTRIBUTE_NUM_REGS, axpy);
    WRONG("unknown", INVALID, "cuFuncGetAttribute", &number, 999, axpy);
    WRONG("null", handle, "cuFuncSetAttribute", none, (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 16);
    WRONG("read-only", INVALID, "cuFuncSetAttribute", axpy, (int)CU_FUNC_ATTRIBUTE_NUM_REGS, 16);
    WRONG("too-much", INVALID, "cuFuncSetAttribute", axpy, (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 30);
    WRONG("unknown", INVALID, "cuFuncSetCacheConfig", axpy, 99);
    WRONG("beyond", INVALID, "cuFuncGetParamInfo", axpy, (size_t)4, &size, &more);
    WRONG("null", INVALID, "cuFuncGetName", null<const char *>(), axpy);
    WRONG("null", INVALID, "cuFuncGetModule", null<CUmodule>(), axpy);
    unsigned n = 0, factor = 1;
    CUdeviceptr place = 0;
    void *parameters[] = {&place, &place, &n, &factor};
    auto launch = [&](const char *mistake, CUresult code, CUfunction what, std::vector<unsigned> shape, unsigned shared,
                      void **given, void **extra) {
        check(std::string("cuLaunchKernel.") + mistake, {code},
              call("cuLaunchKernel", what, shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shared, (CUstream)0,
                   given, extra));
    };
    launch("null", handle, none, {1, 1, 1, 1, 1, 1}, 0, parameters, nullptr);
    launch("no-blocks", INVALID, axpy, {0, 1, 1, 1, 1, 1}, 0, parameters, nullptr);
    launch("no-blocks-y", INVALID, axpy, {1, 0, 1, 1, 1, 1}, 0, parameters, nullptr);
    launch("no-threads", INVALID, axpy, {1, 1, 1, 0, 1, 1}, 0, parameters, nullptr);
    launch("no-threads-z", INVALID, axpy, {1, 1, 1, 1, 1, 0}, 0, parameters, nullptr);
    launch("too-many-threads", INVALID, axpy, {1, 1, 1, 4096, 1, 1}, 0, parameters, nullptr);
    launch("too-many-threads-in-all", INVALID, axpy, {1, 1, 1, 64, 64, 1}, 0, parameters, nullptr);
    launch("too-many-threads-z", INVALID, axpy, {1, 1, 1, 1, 1, 65}, 0, parameters, nullptr);
    launch("too-many-blocks-y", INVALID, axpy, {1, 65536, 1, 1, 1, 1}, 0, parameters, nullptr);
    launch("too-many-blocks-z", INVALID, axpy, {1, 1, 65536, 1, 1, 1}, 0, parameters, nullptr);
    launch("too-many-blocks-x", INVALID, axpy, {0x80000000u, 1, 1, 1, 1, 1}, 0, parameters, nullptr);
    launch("too-much-shared", INVALID, axpy, {1, 1, 1, 1, 1, 1}, 100u << 20, parameters, nullptr);
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, text, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
    size = 24;
    launch("parameters-twice", INVALID, axpy, {1, 1, 1, 1, 1, 1}, 0, parameters, extra);
    WRONG("null", INVALID, "cuLaunchKernelEx", null<const CUlaunchConfig>(), axpy, parameters, null<void *>());
    int cooperative = 0;
    OK("cuDeviceGetAttribute", &cooperative, (int)CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, (CUdevice)0);
    if (cooperative)
        WRONG("too-large", CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "cuLaunchCooperativeKernel", axpy, 1000000u, 1u, 1u, 1024u,
              1u, 1u, 0u, (CUstream)0, parameters);
    WRONG("null", handle, "cuOccupancyMaxActiveBlocksPerMultiprocessor", &number, none, 32, (size_t)0);
    WRONG("null-output", INVALID, "cuOccupancyMaxActiveBlocksPerMultiprocessor", null<int>(), axpy, 32, (size_t)0);
    WRONG("no-threads", INVALID, "cuOccupancyMaxActiveBlocksPerMultiprocessor", &number, axpy, 0, (size_t)0);
    WRONG("flags", INVALID, "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", &number, axpy, 32, (size_t)0, 0x100u);
}

// A stream whose capture is spoilt, and what its end then answers.
static void ends_spoilt(CUstream captured) {
    CUgraph graph = nullptr;
    WRONG("spoilt", CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuStreamEndCapture", captured, &graph);
}

// Reference: the codes 900 to 908 are named for these mistakes, in the enumeration of results and at the functions.
static void captures(CUdeviceptr words) {
    const int relaxed = CU_STREAM_CAPTURE_MODE_RELAXED, local = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    CUgraph graph = nullptr;
    CUstream captured, other, blocking;
    CUevent mark;
    OK("cuStreamCreate", &captured, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &blocking, 0u);
    OK("cuEventCreate", &mark, (unsigned)CU_EVENT_DISABLE_TIMING);
    auto begin = [&](CUstream stream) { OK("cuStreamBeginCapture_v2", stream, relaxed); };
    auto fork = [&] {
        begin(captured);
        OK("cuEventRecord", mark, captured);
        OK("cuStreamWaitEvent", other, mark, 0u);
        OK("cuMemsetD32Async", words, 0u, (size_t)4, other);
    };
    WRONG("not-capturing", CUDA_ERROR_ILLEGAL_STATE, "cuStreamEndCapture", captured, &graph);
    WRONG("mode", INVALID, "cuStreamBeginCapture_v2", captured, 99);
    WRONG("legacy", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamBeginCapture_v2", (CUstream)0, relaxed);
    begin(captured);
    WRONG("captured", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamSynchronize", captured);
    ends_spoilt(captured);
    begin(captured);
    WRONG("captured", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamQuery", captured);
    WRONG("in-a-spoilt-capture", CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuMemsetD32Async", words, 0u, (size_t)4, captured);
    ends_spoilt(captured);
    begin(captured);
    OK("cuEventRecord", mark, captured);
    WRONG("of-a-capture", CUDA_ERROR_CAPTURED_EVENT, "cuEventQuery", mark);
    call("cuStreamEndCapture", captured, &graph);
    begin(captured);
    OK("cuEventRecord", mark, captured);
    WRONG("of-a-capture", CUDA_ERROR_CAPTURED_EVENT, "cuEventSynchronize", mark);
    call("cuStreamEndCapture", captured, &graph);
    fork();
    WRONG("not-joined", CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "cuStreamEndCapture", captured, &graph);
    fork();
    WRONG("in-another-stream", CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "cuStreamEndCapture", other, &graph);
    call("cuStreamEndCapture", captured, &graph);
    fork();
    begin(blocking);
    WRONG("of-another-capture", CUDA_ERROR_STREAM_CAPTURE_MERGE, "cuStreamWaitEvent", blocking, mark, 0u);
    call("cuStreamEndCapture", blocking, &graph);
    call("cuStreamEndCapture", captured, &graph);
    begin(blocking);
    WRONG("legacy-in-a-capture", CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "cuMemsetD32Async", words, 0u, (size_t)4, (CUstream)0);
    ends_spoilt(blocking);
    OK("cuStreamBeginCapture_v2", captured, local);
    std::thread([&] {
        OK("cuCtxSetCurrent", context);
        WRONG("of-another-thread", CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "cuStreamEndCapture", captured, &graph);
    }).join();
    call("cuStreamEndCapture", captured, &graph);
    for (CUstream stream : {captured, other, blocking}) OK("cuStreamDestroy_v2", stream);
    OK("cuEventDestroy_v2", mark);
}

// Reference: of cuGraphConditionalHandleCreate, CUDA_ERROR_INVALID_VALUE is all that fits, and flags "currently must be CU_GRAPH_COND_ASSIGN_DEFAULT or 0"; of
// CUDA_CONDITIONAL_NODE_PARAMS, "allowed values are 1 for CU_GRAPH_COND_TYPE_WHILE, 1 or 2 for CU_GRAPH_COND_TYPE_IF, or any value greater than zero for
// CU_GRAPH_COND_TYPE_SWITCH", "handles must be created in advance of creating the node", and of cuGraphAddNode again CUDA_ERROR_INVALID_VALUE.
static void conditions() {
    const char *create = "cuGraphConditionalHandleCreate", *add = "cuGraphAddNode_v2";
    if (!has(create) || !has(add)) return;
    CUgraph graph = nullptr;
    CUgraphNode node = nullptr;
    CUgraphConditionalHandle handle = 0;
    OK("cuGraphCreate", &graph, 0u);
    WRONG("null", INVALID, create, null<CUgraphConditionalHandle>(), graph, context, 0u, 0u);
    WRONG("null-graph", INVALID, create, &handle, null<CUgraph_st>(), context, 0u, 0u);
    WRONG("flags", INVALID, create, &handle, graph, context, 0u, 2u);
    OK(create, &handle, graph, context, 1u, (unsigned)CU_GRAPH_COND_ASSIGN_DEFAULT);
    auto wrong = [&](const char *mistake, CUgraphConditionalHandle of, CUgraphConditionalNodeType type, unsigned size) {
        CUgraphNodeParams parameters = {};
        parameters.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
        parameters.conditional.handle = of, parameters.conditional.type = type;
        parameters.conditional.size = size, parameters.conditional.ctx = context;
        check(std::string(add) + ".conditional-" + mistake, {INVALID},
              call(add, &node, graph, (const CUgraphNode *)0, (const CUgraphEdgeData *)0, (size_t)0, &parameters));
    };
    wrong("no-body", handle, CU_GRAPH_COND_TYPE_IF, 0);
    wrong("three-branches", handle, CU_GRAPH_COND_TYPE_IF, 3);
    wrong("two-loops", handle, CU_GRAPH_COND_TYPE_WHILE, 2);
    wrong("no-choice", handle, CU_GRAPH_COND_TYPE_SWITCH, 0);
    wrong("type", handle, (CUgraphConditionalNodeType)99, 1);
    wrong("no-handle", 0, CU_GRAPH_COND_TYPE_IF, 1);
    OK("cuGraphDestroy", graph);
}

// Reference, of cuEventRecord and cuEventElapsedTime: event and stream must be of the same context, "otherwise CUDA_ERROR_INVALID_HANDLE is returned".
static void another_context() {
    CUcontext second = nullptr;
    CUevent foreign = nullptr;
    CUstream other = nullptr;
    OK("cuCtxCreate_v2", &second, 0u, (CUdevice)0);
    OK("cuEventCreate", &foreign, 0u);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    WRONG("of-another-context", CUDA_ERROR_INVALID_HANDLE, "cuEventRecord", foreign, stream);
    OK("cuCtxPopCurrent_v2", &second);
    WRONG("stream-of-another-context", CUDA_ERROR_INVALID_HANDLE, "cuEventRecord", event, other);
    OK("cuCtxDestroy_v2", second);
    EITHER("destroyed", CUDA_ERROR_CONTEXT_IS_DESTROYED, CUDA_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent", second);
}

// Reference, of cuCtxEnablePeerAccess: "Returns CUDA_ERROR_INVALID_CONTEXT if there is no current context, peerContext is not a valid context, or if the
// current context is peerContext", CUDA_ERROR_PEER_ACCESS_UNSUPPORTED if the device cannot reach the peer's, as one device cannot reach itself; of
// cuCtxDisablePeerAccess: CUDA_ERROR_PEER_ACCESS_NOT_ENABLED. Of the copies: INVALID_CONTEXT and INVALID_VALUE are all that fits.
static void peers(CUdeviceptr words) {
    CUcontext second = nullptr;
    OK("cuCtxCreate_v2", &second, 0u, (CUdevice)0);
    OK("cuCtxPopCurrent_v2", &second);
    WRONG("null", CUDA_ERROR_INVALID_CONTEXT, "cuCtxEnablePeerAccess", null<CUctx_st>(), 0u);
    WRONG("own", CUDA_ERROR_INVALID_CONTEXT, "cuCtxEnablePeerAccess", context, 0u);
    WRONG("flags", INVALID, "cuCtxEnablePeerAccess", second, 1u);
    WRONG("same-device", CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "cuCtxEnablePeerAccess", second, 0u);
    WRONG("null", CUDA_ERROR_INVALID_CONTEXT, "cuCtxDisablePeerAccess", null<CUctx_st>());
    WRONG("not-enabled", CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "cuCtxDisablePeerAccess", second);
    WRONG("null-context", CUDA_ERROR_INVALID_CONTEXT, "cuMemcpyPeer", words, context, words, null<CUctx_st>(), (size_t)4);
    WRONG("nowhere", INVALID, "cuMemcpyPeer", words, context, NOWHERE, second, (size_t)4);
    WRONG("null-context", CUDA_ERROR_INVALID_CONTEXT, "cuMemcpyPeerAsync", words, null<CUctx_st>(), words, context, (size_t)4, stream);
    WRONG("null", INVALID, "cuMemcpy3DPeer", null<CUDA_MEMCPY3D_PEER>());
    WRONG("null", INVALID, "cuMemcpy3DPeerAsync", null<CUDA_MEMCPY3D_PEER>(), stream);
    OK("cuCtxDestroy_v2", second);
}

// Reference, of cuMemcpyBatchAsync: "the first entry in attrsIdxs must always be 0. Also, each entry must be greater than the previous entry and the last entry
// should be less than count"; each copy must have "the appropriate srcAccessOrder setting, otherwise the API will return CUDA_ERROR_INVALID_VALUE"; the
// stream "must not be legacy NULL stream"; of cuMemcpy3DBatchAsync: width, height and depth "must not be zero", flags "must be zero now".
static void batches(CUdeviceptr words) {
    CUdeviceptr to[] = {words, words + 64}, from[] = {words + 128, words + 192};
    size_t sizes[] = {4, 4}, first[] = {0, 1}, wrong = 0;
    CUmemcpyAttributes said[2] = {};
    said[0].srcAccessOrder = said[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    auto *attributes = said;
    const size_t two = 2, none = 0, one = 1;
    WRONG("legacy-stream", INVALID, "cuMemcpyBatchAsync", to, from, sizes, two, attributes, first, one, &wrong, (CUstream)0);
    WRONG("null", INVALID, "cuMemcpyBatchAsync", null<CUdeviceptr>(), from, sizes, two, attributes, first, one, &wrong, stream);
    WRONG("no-copy", INVALID, "cuMemcpyBatchAsync", to, from, sizes, none, attributes, first, one, &wrong, stream);
    WRONG("no-attributes", INVALID, "cuMemcpyBatchAsync", to, from, sizes, two, attributes, first, none, &wrong, stream);
    first[0] = 1;
    WRONG("first-is-not-0", INVALID, "cuMemcpyBatchAsync_v2", to, from, sizes, two, attributes, first, one, stream);
    first[0] = 0, first[1] = 0;
    WRONG("not-ascending", INVALID, "cuMemcpyBatchAsync_v2", to, from, sizes, two, attributes, first, two, stream);
    first[1] = 2;
    WRONG("beyond", INVALID, "cuMemcpyBatchAsync_v2", to, from, sizes, two, attributes, first, two, stream);
    said[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
    WRONG("order", INVALID, "cuMemcpyBatchAsync_v2", to, from, sizes, two, attributes, first, one, stream);
    WRONG("order", INVALID, "cuMemcpyWithAttributesAsync", words, words + 64, (size_t)4, attributes, stream);
    WRONG("null", INVALID, "cuMemcpyWithAttributesAsync", words, words + 64, (size_t)4, null<CUmemcpyAttributes>(), stream);
    CUDA_MEMCPY3D_BATCH_OP box = {};
    auto *boxes = &box;
    box.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    box.src.type = box.dst.type = CU_MEMCPY_OPERAND_TYPE_POINTER;
    box.src.op.ptr.ptr = words, box.dst.op.ptr.ptr = words + 4096;
    WRONG("empty", INVALID, "cuMemcpy3DBatchAsync", one, boxes, &wrong, 0ull, stream);
    box.extent.width = box.extent.height = box.extent.depth = 2;
    WRONG("flags", INVALID, "cuMemcpy3DBatchAsync", one, boxes, &wrong, 1ull, stream);
    WRONG("legacy-stream", INVALID, "cuMemcpy3DBatchAsync_v2", one, boxes, 0ull, (CUstream)0);
    box.src.op.ptr.rowLength = 1;
    WRONG("short-rows", INVALID, "cuMemcpy3DBatchAsync_v2", one, boxes, 0ull, stream);
    box.src.op.ptr.rowLength = 0, box.src.type = (CUmemcpy3DOperandType)9;
    WRONG("operand", INVALID, "cuMemcpy3DWithAttributesAsync", boxes, 0ull, stream);
}

// Reference, of cuIpcOpenMemHandle: "Flags … Must be specified as CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS". That a process cannot open what it has exported itself, and
// gets CUDA_ERROR_INVALID_CONTEXT, is what programs report of NVIDIA's driver.
static void shared_memory(CUdeviceptr words) {
    CUipcMemHandle handle = {};
    const unsigned lazily = CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS;
    WRONG("null", INVALID, "cuIpcGetMemHandle", null<CUipcMemHandle>(), words);
    WRONG("nowhere", INVALID, "cuIpcGetMemHandle", &handle, NOWHERE);
    WRONG("null", INVALID, "cuIpcOpenMemHandle_v2", null<CUdeviceptr>(), handle, lazily);
    WRONG("flags", INVALID, "cuIpcOpenMemHandle_v2", &address, handle, 0u);
    WRONG("no-handle", CUDA_ERROR_INVALID_HANDLE, "cuIpcOpenMemHandle_v2", &address, handle, lazily);
    OK("cuIpcGetMemHandle", &handle, words);
    WRONG("own", CUDA_ERROR_INVALID_CONTEXT, "cuIpcOpenMemHandle_v2", &address, handle, lazily);
    WRONG("not-open", INVALID, "cuIpcCloseMemHandle", words);
}

// Reference: core dumps. The codes of each function are those that it lists; which one it is for what, the names tell.
static void core_dumps() {
    const CUcoredumpSettings enable = CU_COREDUMP_ENABLE_ON_EXCEPTION, none = (CUcoredumpSettings)0;
    char value[4] = {};
    for (const char *function : {"cuCoredumpGetAttributeGlobal", "cuCoredumpGetAttribute", "cuCoredumpSetAttributeGlobal", "cuCoredumpSetAttribute"}) {
        WRONG("null-size", INVALID, function, enable, (void *)value, null<size_t>());
        WRONG("unknown", INVALID, function, none, (void *)value, &(size = 4));
        WRONG("too-small", INVALID, function, CU_COREDUMP_GENERATION_FLAGS, (void *)value, &(size = 2));
    }
    WRONG("too-small", INVALID, "cuCoredumpGetAttributeGlobal", CU_COREDUMP_FILE, (void *)value, &(size = 4));
    WRONG("empty", INVALID, "cuCoredumpSetAttributeGlobal", CU_COREDUMP_FILE, (void *)value, &(size = 1));
    // "cannot be set on a per-context basis"
    EITHER("of-context", CUDA_ERROR_NOT_PERMITTED, CUDA_ERROR_NOT_SUPPORTED, "cuCoredumpSetAttribute", CU_COREDUMP_ENABLE_USER_TRIGGER,
           (void *)value, &(size = 1));
    EITHER("of-context", CUDA_ERROR_NOT_PERMITTED, CUDA_ERROR_NOT_SUPPORTED, "cuCoredumpSetAttribute", CU_COREDUMP_PIPE, (void *)"a", &(size = 2));
    WRONG("null", INVALID, "cuCoredumpRegisterStartCallback", null<void>(), null<void>(), &pointer);
    WRONG("null", INVALID, "cuCoredumpRegisterCompleteCallback", null<void>(), null<void>(), &pointer);
    WRONG("null", INVALID, "cuCoredumpDeregisterStartCallback", null<void>());
    WRONG("null", INVALID, "cuCoredumpDeregisterCompleteCallback", null<void>());
}

// Reference: attributes of streams, links between devices and the host, events of contexts, the log.
static void newer() {
    CUlaunchAttributeValue value{};
    unsigned operation = 0, capability = 0, place = 0;
    char told[64];
    size_t room = sizeof told;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    const int policy = CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY, cooperative = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    WRONG("null", INVALID, "cuStreamGetAttribute", stream, policy, null<CUlaunchAttributeValue>());
    WRONG("unknown", INVALID, "cuStreamGetAttribute", stream, 999, &value);
    WRONG("null", INVALID, "cuStreamSetAttribute", stream, policy, null<CUlaunchAttributeValue>());
    WRONG("not-of-streams", INVALID, "cuStreamSetAttribute", stream, cooperative, &value);
    WRONG("null", INVALID, "cuCtxGetExecAffinity", null<CUexecAffinityParam>(), CU_EXEC_AFFINITY_TYPE_SM_COUNT);
    WRONG("null", INVALID, "cuDeviceGetHostAtomicCapabilities", null<unsigned>(), &operation, 1u, (CUdevice)0);
    WRONG("none", INVALID, "cuDeviceGetHostAtomicCapabilities", &capability, &operation, 0u, (CUdevice)0);
    WRONG("unknown", INVALID, "cuDeviceGetHostAtomicCapabilities", &capability, &(operation = 999), 1u, (CUdevice)0);
    WRONG("no-device", CUDA_ERROR_INVALID_DEVICE, "cuDeviceGetHostAtomicCapabilities", &capability, &(operation = 0), 1u, NO_DEVICE);
    WRONG("same", CUDA_ERROR_INVALID_DEVICE, "cuDeviceGetP2PAtomicCapabilities", &capability, &operation, 1u, (CUdevice)0, (CUdevice)0);
    WRONG("null-event", CUDA_ERROR_INVALID_HANDLE, "cuCtxRecordEvent", context, (CUevent)0);
    WRONG("null-event", CUDA_ERROR_INVALID_HANDLE, "cuCtxWaitEvent", context, (CUevent)0);
    WRONG("null", INVALID, "cuLogsCurrent", null<unsigned>(), 0u);
    WRONG("flags", INVALID, "cuLogsCurrent", &place, 1u);
    WRONG("null", INVALID, "cuLogsDumpToMemory", null<unsigned>(), null<char>(), &room, 0u);
    WRONG("null-size", INVALID, "cuLogsDumpToMemory", null<unsigned>(), told, null<size_t>(), 0u);
    WRONG("null", INVALID, "cuLogsDumpToFile", null<unsigned>(), null<char>(), 0u);
    WRONG("null", INVALID, "cuLogsRegisterCallback", null<void>(), null<void>(), &pointer);
    WRONG("null", INVALID, "cuLogsUnregisterCallback", null<void>());
    WRONG("flags", INVALID, "cuCtxAttach", &context, 1u);
    WRONG("null", INVALID, "cuCtxAttach", null<CUcontext>(), 0u);
    WRONG("null", CUDA_ERROR_INVALID_CONTEXT, "cuCtxDetach", (CUcontext)0);
    OK("cuStreamDestroy_v2", stream);
}

// Reference: green contexts.
static void green() {
    CUdevResource whole{}, part{};
    CUdevResourceDesc desc = nullptr;
    CUgreenCtx none = nullptr;
    unsigned long long id = 0;
    const int multiprocessors = CU_DEV_RESOURCE_TYPE_SM;
    WRONG("no-device", CUDA_ERROR_INVALID_DEVICE, "cuDeviceGetDevResource", NO_DEVICE, &whole, multiprocessors);
    WRONG("null", INVALID, "cuDeviceGetDevResource", (CUdevice)0, null<CUdevResource>(), multiprocessors);
    WRONG("unknown", CUDA_ERROR_INVALID_RESOURCE_TYPE, "cuDeviceGetDevResource", (CUdevice)0, &whole, 77);
    OK("cuDeviceGetDevResource", (CUdevice)0, &whole, multiprocessors);
    WRONG("null-context", CUDA_ERROR_INVALID_CONTEXT, "cuCtxGetDevResource", (CUcontext)0, &whole, multiprocessors);
    WRONG("null-count", INVALID, "cuDevSmResourceSplitByCount", &part, null<unsigned>(), &whole, null<CUdevResource>(), 0u, 2u);
    WRONG("no-resource", CUDA_ERROR_INVALID_RESOURCE_TYPE, "cuDevSmResourceSplitByCount", &part, &(flags = 1), &part, null<CUdevResource>(), 0u, 2u);
    WRONG("too-many", INVALID, "cuDevSmResourceSplitByCount", &part, &(flags = 1), &whole, null<CUdevResource>(), 0u, whole.sm.smCount + 1);
    WRONG("null", INVALID, "cuDevResourceGenerateDesc", null<CUdevResourceDesc>(), &whole, 1u);
    WRONG("none", INVALID, "cuDevResourceGenerateDesc", &desc, &whole, 0u);
    WRONG("null", INVALID, "cuGreenCtxCreate", null<CUgreenCtx>(), desc, (CUdevice)0, 1u);
    WRONG("null-green", CUDA_ERROR_INVALID_CONTEXT, "cuGreenCtxDestroy", none);
    WRONG("null-green", CUDA_ERROR_INVALID_CONTEXT, "cuCtxFromGreenCtx", &context, none);
    WRONG("null-green", CUDA_ERROR_INVALID_CONTEXT, "cuGreenCtxGetDevResource", none, &part, multiprocessors);
    WRONG("null-green", CUDA_ERROR_INVALID_CONTEXT, "cuGreenCtxGetId", none, &id);
    WRONG("null-green", CUDA_ERROR_INVALID_CONTEXT, "cuGreenCtxStreamCreate", &stream, none, (unsigned)CU_STREAM_NON_BLOCKING, 0);
}

// Reference, of the checkpoint functions: their returns, "Process must be in the … state", "Reserved for future use, must be zeroed". None of them is in need of cuInit.
static void checkpoints() {
    const int own = (int)getpid(), nobody = -1, without = 1;
    CUprocessState state;
    CUcheckpointLockArgs lock = {};
    CUcheckpointCheckpointArgs checkpoint = {};
    CUcheckpointRestoreArgs restore = {};
    CUcheckpointUnlockArgs unlock = {};
    for (int process : {nobody, 0, without}) {
        WRONG("no-process", INVALID, "cuCheckpointProcessGetState", process, &state);
        WRONG("no-process", INVALID, "cuCheckpointProcessGetRestoreThreadId", process, &number);
        WRONG("no-process", INVALID, "cuCheckpointProcessLock", process, &lock);
        WRONG("no-process", INVALID, "cuCheckpointProcessCheckpoint", process, &checkpoint);
        WRONG("no-process", INVALID, "cuCheckpointProcessRestore", process, &restore);
        WRONG("no-process", INVALID, "cuCheckpointProcessUnlock", process, &unlock);
    }
    WRONG("null", INVALID, "cuCheckpointProcessGetState", own, null<CUprocessState>());
    WRONG("null", INVALID, "cuCheckpointProcessGetRestoreThreadId", own, null<int>());
    const CUresult illegal = CUDA_ERROR_ILLEGAL_STATE;
    WRONG("running", illegal, "cuCheckpointProcessCheckpoint", own, &checkpoint);
    WRONG("running", illegal, "cuCheckpointProcessRestore", own, &restore);
    WRONG("running", illegal, "cuCheckpointProcessUnlock", own, &unlock);
    restore.gpuPairsCount = 1;
    WRONG("no-pairs", INVALID, "cuCheckpointProcessRestore", own, &restore);
    restore.gpuPairsCount = 0;
    for (void *last : {(void *)&lock, (void *)&checkpoint, (void *)&restore, (void *)&unlock}) ((char *)last)[63] = 1;
    WRONG("reserved", INVALID, "cuCheckpointProcessLock", own, &lock);
    WRONG("reserved", INVALID, "cuCheckpointProcessCheckpoint", own, &checkpoint);
    WRONG("reserved", INVALID, "cuCheckpointProcessRestore", own, &restore);
    WRONG("reserved", INVALID, "cuCheckpointProcessUnlock", own, &unlock);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    before_initialisation();
    OK("cuInit", 0u);
    devices();
    without_a_context();
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    contexts();
    CUdeviceptr words = 0;
    CUfunction axpy = nullptr;
    OK("cuMemAlloc_v2", &words, (size_t)1 << 20);
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &axpy, module, "axpy");
    memory(words);
    arrays(words);
    references(words);
    virtual_memory();
    multicast();
    shareable_handles();
    pools();
    streams(words);
    peers(words);
    batches(words);
    shared_memory(words);
    newer();
    core_dumps();
    green();
    checkpoints();
    modules();
    functions(axpy);
    captures(words);
    conditions();
    OK("cuEventCreate", &event, 0u);
    another_context();
    // None of it has harmed anything.
    OK("cuMemsetD32_v2", words, 7u, (size_t)1 << 18);
    OK("cuCtxSynchronize");
    std::printf("end wrong-calls: %d checks\n", checks);
    if (differences) fail(__LINE__, std::to_string(differences) + " answers are not as expected");
    return pass("wrong calls answer as they must");
}
