// What wrong calls answer, and what everything answers after a kernel's fault.
#include "report.h"

// Wrong arguments that a driver can see without following a pointer: nulls, sizes, flags, numbers.
void check_wrong_calls() {
    Setup setup;
    if (!setup.is_good) return;
    CUdeviceptr memory = 0;
    CUstream stream = nullptr;
    CUevent event = nullptr;
    CUfunction function = nullptr;
    int value = 0;
    float milliseconds = 0;
    CUdevice device = 0;
    int word = 0;
    check("device.number", CUDA_ERROR_INVALID_DEVICE, CU(cuDeviceGet, &device, 99));
    check("device.negative", CUDA_ERROR_INVALID_DEVICE, CU(cuDeviceGet, &device, -1));
    observe("device.attribute-unknown", CU(cuDeviceGetAttribute, &value, (CUdevice_attribute)9999, 0));
    observe("device.attribute-of-other", CU(cuDeviceGetAttribute, &value, (CUdevice_attribute)16, 99));
    check("allocate.nothing", CUDA_ERROR_INVALID_VALUE, CU(cuMemAlloc, &memory, 0));
    check("allocate.too-much", CUDA_ERROR_OUT_OF_MEMORY, CU(cuMemAlloc, &memory, (size_t)1 << 50));
    observe("allocate.whole-address-space", CU(cuMemAlloc, &memory, (size_t)-1));
    observe("free.null", CU(cuMemFree, 0));
    check("free.inside", CUDA_ERROR_INVALID_VALUE, CU(cuMemFree, setup.words + 256));
    check("free.nowhere", CUDA_ERROR_INVALID_VALUE, CU(cuMemFree, 0x1000));
    check("copy.null-host", CUDA_ERROR_INVALID_VALUE, CU(cuMemcpyHtoD, setup.words, nullptr, 4));
    check("copy.nowhere", CUDA_ERROR_INVALID_VALUE, CU(cuMemcpyDtoH, &word, 0x1000, 4));
    observe("copy.nothing", CU(cuMemcpyDtoH, &word, setup.words, 0));
    observe("copy.nothing-nowhere", CU(cuMemcpyDtoH, &word, 0x1000, 0));
    observe("copy.beyond", CU(cuMemcpyDtoH, &word, setup.words + (1 << 20) - 2, 4));
    check("fill.nowhere", CUDA_ERROR_INVALID_VALUE, CU(cuMemsetD32, 0x1000, 0, 4));
    observe("fill.odd", CU(cuMemsetD32, setup.words + 2, 0, 4));
    observe("pointer.nowhere", CU(cuPointerGetAttribute, &value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 0x1000));
    observe("pointer.of-host", CU(cuPointerGetAttribute, &value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)&word));
    observe("pointer.unknown", CU(cuPointerGetAttribute, &value, (CUpointer_attribute)999, setup.words));
    observe("host.free-foreign", CU(cuMemFreeHost, &word));
    observe("host.unregister-foreign", CU(cuMemHostUnregister, &word));
    observe("host.allocate-nothing", CU(cuMemHostAlloc, (void **)&memory, 0, 0));
    observe("stream.flags", CU(cuStreamCreate, &stream, 64));
    observe("stream.destroy-legacy", CU(cuStreamDestroy, nullptr));
    observe("event.flags", CU(cuEventCreate, &event, 64));
    check("event.create", CUDA_SUCCESS, CU(cuEventCreate, &event, 0));
    observe("event.query-unrecorded", CU(cuEventQuery, event));
    observe("event.elapsed-unrecorded", CU(cuEventElapsedTime, &milliseconds, event, event));
    check("function.unknown", CUDA_ERROR_NOT_FOUND, CU(cuModuleGetFunction, &function, setup.module, "none"));
    observe("function.attribute-unknown", CU(cuFuncGetAttribute, &value, (CUfunction_attribute)999, setup.add));
    observe("limit.set-unknown", CU(cuCtxSetLimit, (CUlimit)99, 1));
    auto shape = [&](unsigned blocks, unsigned threads, unsigned shared) {
        return CU(cuLaunchKernel, setup.nothing, blocks, 1, 1, threads, 1, 1, shared, nullptr, nullptr, nullptr);
    };
    // The open question: what the driver says to a shape that cannot be.
    check("launch.no-blocks", CUDA_ERROR_INVALID_VALUE, shape(0, 1, 0));
    check("launch.no-threads", CUDA_ERROR_INVALID_VALUE, shape(1, 0, 0));
    check("launch.too-many-threads", CUDA_ERROR_INVALID_VALUE, shape(1, 4096, 0));
    check("launch.too-much-shared", CUDA_ERROR_INVALID_VALUE, shape(1, 1, 100 << 20));
    check("afterwards", CUDA_SUCCESS, CU(cuCtxSynchronize));
}

// Nulls where something has to be: a driver may crash at each, so what is likelier comes later.
void check_null_arguments() {
    Setup setup;
    if (!setup.is_good) return;
    CUfunction function = nullptr;
    size_t bytes = 0;
    observe("device.null", CU(cuDeviceGet, nullptr, 0));
    observe("device.total-null", CU(cuDeviceTotalMem, nullptr, 0));
    check("allocate.null", CUDA_ERROR_INVALID_VALUE, CU(cuMemAlloc, nullptr, 16));
    observe("stream.null-output", CU(cuStreamCreate, nullptr, 0));
    observe("event.null", CU(cuEventQuery, nullptr));
    observe("event.destroy-null", CU(cuEventDestroy, nullptr));
    observe("function.null-name", CU(cuModuleGetFunction, &function, setup.module, nullptr));
    observe("function.null-module", CU(cuModuleGetFunction, &function, nullptr, "add"));
    observe("current.null", CU(cuCtxGetCurrent, nullptr));
    observe("info.null", CU(cuMemGetInfo, nullptr, &bytes));
    observe("launch.null-function", CU(cuLaunchKernel, nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
    observe("launch.no-parameters", CU(cuLaunchKernel, setup.store_at, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
}

// Handles whose objects are gone: each kind in a process of its own, since a driver may crash.
void check_freed_stream() {
    Setup setup;
    CUstream stream = nullptr;
    if (!setup.is_good || !works("create", CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING))) return;
    check("destroy", CUDA_SUCCESS, CU(cuStreamDestroy, stream));
    observe("query", CU(cuStreamQuery, stream));
    observe("synchronize", CU(cuStreamSynchronize, stream));
    observe("launch", setup.launch(setup.nothing, stream, {}));
    observe("destroy-again", CU(cuStreamDestroy, stream));
}

void check_freed_event() {
    Setup setup;
    CUevent event = nullptr;
    if (!setup.is_good || !works("create", CU(cuEventCreate, &event, 0))) return;
    check("destroy", CUDA_SUCCESS, CU(cuEventDestroy, event));
    observe("query", CU(cuEventQuery, event));
    observe("record", CU(cuEventRecord, event, nullptr));
    observe("synchronize", CU(cuEventSynchronize, event));
    observe("destroy-again", CU(cuEventDestroy, event));
}

void check_freed_module() {
    Setup setup;
    if (!setup.is_good) return;
    check("unload", CUDA_SUCCESS, CU(cuModuleUnload, setup.module));
    CUfunction function = nullptr;
    observe("function", CU(cuModuleGetFunction, &function, setup.module, "add"));
    observe("launch", setup.launch(setup.nothing, nullptr, {}));
    observe("unload-again", CU(cuModuleUnload, setup.module));
}

void check_freed_context() {
    Setup setup;
    CUcontext context = nullptr, current = nullptr;
    if (!setup.is_good || !driver.create_context) return;
    if (!works("create", driver.create_context(&context, 0, setup.device))) return;
    CUdeviceptr memory = 0;
    CU(cuMemAlloc, &memory, 4096);
    check("destroy", CUDA_SUCCESS, CU(cuCtxDestroy, context));
    observe("current-then", CU(cuCtxGetCurrent, &current));
    observe("current-is", current == nullptr ? "none" : current == setup.context ? "the primary one" : "another");
    observe("allocate-then", CU(cuMemAlloc, &memory, 16));
    observe("set-current", CU(cuCtxSetCurrent, context));
    observe("destroy-again", CU(cuCtxDestroy, context));
    CU(cuCtxSetCurrent, setup.context);
    observe("free-its-memory", CU(cuMemFree, memory));
    check("primary-still-works", CUDA_SUCCESS, CU(cuCtxSynchronize));
}

// Everything after a fault: the same error until the context is gone.
static void after(Setup &setup, CUstream stream, CUresult expected, CUdeviceptr page, volatile unsigned long long *word) {
    CUdeviceptr memory = 0;
    int value = 0;
    size_t left = 0, total = 0;
    CUevent event = nullptr;
    check("synchronize", expected, CU(cuStreamSynchronize, stream));
    check("synchronize-again", expected, CU(cuCtxSynchronize));
    check("query", expected, CU(cuStreamQuery, stream));
    check("query-legacy", expected, CU(cuStreamQuery, nullptr));
    check("allocate", expected, CU(cuMemAlloc, &memory, 16));
    check("copy-out", expected, CU(cuMemcpyDtoH, &value, setup.words, 4));
    check("launch", expected, setup.launch(setup.nothing, stream, {}));
    observe("free", CU(cuMemFree, setup.words));
    observe("info", CU(cuMemGetInfo, &left, &total));
    observe("stream-create", CU(cuStreamCreate, &stream, 0));
    observe("event-create", CU(cuEventCreate, &event, 0));
    observe("module-load", [&] {
        CUmodule module = nullptr;
        return CU(cuModuleLoadData, &module, read_image("kernels.ptx").data());
    }());
    observe("current", CU(cuCtxGetCurrent, &setup.context));
    observe("limit", CU(cuCtxGetLimit, &left, CU_LIMIT_STACK_SIZE));
    observe("write-value", page ? CU(cuStreamWriteValue64, nullptr, page, 9, 0) : CUDA_ERROR_NOT_SUPPORTED);
    note("write-value-behind-the-fault", "the word is %llu", word ? *word : 0);
    observe("second-context", [&] {
        CUcontext other = nullptr;
        return driver.create_context ? driver.create_context(&other, 0, setup.device) : CUDA_ERROR_NOT_FOUND;
    }());
    observe("release", CU(cuDevicePrimaryCtxRelease, setup.device));
}

// The kernel's parameters are a place, `offset` bytes into the setup's memory or at that address, and a value.
static void fault(CUresult expected, const char *kernel, bool is_inside, CUdeviceptr offset) {
    Setup setup;
    if (!setup.is_good) return;
    CUdeviceptr place = (is_inside ? setup.words : 0) + offset;
    int one = 1;
    CUstream stream = nullptr;
    CUfunction function = nullptr;
    volatile unsigned long long *word = nullptr;
    CUdeviceptr page = 0;
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    if (CU(cuMemHostAlloc, (void **)&word, 4096, CU_MEMHOSTALLOC_DEVICEMAP) == CUDA_SUCCESS) {
        *word = 0;
        CU(cuMemHostGetDevicePointer, &page, (void *)word, 0);
    }
    if (!works("function", CU(cuModuleGetFunction, &function, setup.module, kernel))) return;
    check("launch-of-the-fault", CUDA_SUCCESS, setup.launch(function, stream, {&place, &one}));
    // Queued before the driver knows of it: whether the stream writes its progress all the same.
    if (page) CU(cuStreamWriteValue64, stream, page, 1, 0);
    double started = seconds();
    CUresult result = CUDA_ERROR_NOT_READY;
    while (result == CUDA_ERROR_NOT_READY && seconds() - started < 20) result = CU(cuStreamQuery, stream);
    check("query-until-it-tells", expected, result);
    note("query-until-it-tells", "%.2f ms", (seconds() - started) * 1e3);
    after(setup, stream, expected, page, word);
}

void check_fault_address() { fault(CUDA_ERROR_ILLEGAL_ADDRESS, "store_at", false, 0x10000); }

void check_fault_misaligned() { fault(CUDA_ERROR_MISALIGNED_ADDRESS, "store_at", true, 2); }

void check_fault_trap() { fault(CUDA_ERROR_LAUNCH_FAILED, "trap_here", true, 0); }
