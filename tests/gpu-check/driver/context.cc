// What a program can ask before `cuInit`, how functions are found, and contexts: what they cost, their limits, their handles.
#include "report.h"

#include <dlfcn.h>

static std::string found(const char *name, int version, unsigned long long flags) {
    void *function = (void *)1;
    CUdriverProcAddressQueryResult status = (CUdriverProcAddressQueryResult)77;
    CUresult result = CU(cuGetProcAddress, name, &function, version, flags, &status);
    return name_of(result) + (function == (void *)1 ? " untouched" : function ? " found" : " null") + format(" %d", (int)status);
}

static void finding_functions() {
    check("find.present", "success found 0", found("cuMemAlloc", 3020, 0));
    check("find.unknown-name", "success null 1", found("cuNoSuchFunction", 13000, 0));
    check("find.too-new", "success null 2", found("cuFuncGetParamInfo", 11000, 0));
    check("find.with-suffix", "success null 1", found("cuMemAlloc_v2", 13000, 0));
    check("find.per-thread", "success found 0", found("cuMemcpyHtoD", 13000, 2));
    observe("find.empty-name", found("", 0, 0));
    observe("find.flags-4", found("cuMemAlloc", 13000, 4));
    observe("find.flags-3", found("cuMemAlloc", 13000, 3));
    observe("find.version-0", found("cuMemAlloc", 0, 0));
    void *one = nullptr, *other = nullptr, *old = nullptr;
    CU(cuGetProcAddress, "cuMemAlloc", &one, 13000, 0, nullptr);
    CU(cuGetProcAddress, "cuMemAlloc", &other, 3020, 0, nullptr);
    CU(cuGetProcAddress, "cuMemAlloc", &old, 2000, 0, nullptr);
    check_yes("find.same-address", one && one == other);
    check_yes("find.old-form-is-another", old && old != one);
    check_yes("find.same-as-dlsym", one == (void *)driver.cuMemAlloc);
    // The first form of the function, by which cudart 11 looks things up.
    auto first_form = (CUresult(*)(const char *, void **, int, cuuint64_t))dlsym(RTLD_DEFAULT, "cuGetProcAddress");
    if (!first_form) {
        void *library = dlopen("libcuda.so.1", RTLD_NOW);
        first_form = (CUresult(*)(const char *, void **, int, cuuint64_t))dlsym(library, "cuGetProcAddress");
    }
    if (first_form) {
        void *function = (void *)1;
        check("find.first-form-miss", CUDA_ERROR_NOT_FOUND, first_form("cuNoSuchFunction", &function, 11080, 0));
        check_yes("find.first-form-writes-nothing", function == (void *)1);
    }
}

void check_start() {
    int count = -1, version = 0;
    CUdevice device = 0;
    check("before.device-count", CUDA_ERROR_NOT_INITIALIZED, CU(cuDeviceGetCount, &count));
    check("before.device-get", CUDA_ERROR_NOT_INITIALIZED, CU(cuDeviceGet, &device, 0));
    check("before.version", CUDA_SUCCESS, CU(cuDriverGetVersion, &version));
    observe("before.version-is", format("%d", version));
    CUcontext current = nullptr;
    observe("before.current", CU(cuCtxGetCurrent, &current));
    finding_functions();
    check("init.flags", CUDA_ERROR_INVALID_VALUE, CU(cuInit, 1));
    check("init", CUDA_SUCCESS, CU(cuInit, 0));
    check("init.again", CUDA_SUCCESS, CU(cuInit, 0));
    check("device-count", CUDA_SUCCESS, CU(cuDeviceGetCount, &count));
    char name[128] = "";
    CU(cuDeviceGetName, name, sizeof name, 0);
    note("device", "%s, driver %d", name, version);
}

static void attributes(const Setup &setup) {
    // What the worker decides by: mapping memory, exporting it, writing 64 bits from a stream, GPUDirect.
    struct {
        const char *name;
        int number;
    } interesting[] = {{"virtual-memory", 102}, {"posix-descriptors", 103}, {"gpudirect-with-virtual-memory", 110},
                       {"gpudirect", 116},      {"write-64-old", 93},      {"write-64", 122},
                       {"wait-nor", 123},       {"host-register", 99},     {"registered-pointer-is-host-pointer", 91},
                       {"memory-pools", 115},   {"unified-addressing", 41}};
    for (auto [attribute, number] : interesting) observe(std::string("attribute.") + attribute, format("%d", setup.attribute(number)));
    note("capability", "%d.%d", setup.attribute(75), setup.attribute(76));
    note("multiprocessors", "%d", setup.attribute(16));
}

static size_t free_bytes() {
    size_t left = 0, total = 0;
    CU(cuMemGetInfo, &left, &total);
    return left;
}

static void limits() {
    for (int limit = 0; limit < 8; limit++) {
        size_t value = 0;
        CUresult result = CU(cuCtxGetLimit, &value, (CUlimit)limit);
        observe(format("limit.%d", limit), result ? name_of(result) : format("%zu", value));
    }
    size_t value = 0;
    observe("limit.set-stack", CU(cuCtxSetLimit, CU_LIMIT_STACK_SIZE, 4096));
    CU(cuCtxGetLimit, &value, CU_LIMIT_STACK_SIZE);
    observe("limit.stack-after", format("%zu", value));
    observe("limit.unknown", CU(cuCtxGetLimit, &value, (CUlimit)99));
}

static void second_context(const Setup &setup) {
    size_t before = free_bytes();
    CUcontext other = nullptr, current = nullptr;
    double started = seconds();
    CUresult made = driver.create_context ? driver.create_context(&other, 0, setup.device) : CUDA_ERROR_NOT_FOUND;
    if (!works("second.create", made)) return;
    note("second.time", "%.1f ms", (seconds() - started) * 1e3);
    CU(cuCtxGetCurrent, &current);
    check_yes("second.is-current", current == other && other != setup.context);
    note("second.memory", "%.1f MiB more are taken", (double)(before - free_bytes()) / (1 << 20));
    unsigned long long first_id = 0, second_id = 0;
    CU(cuCtxGetId, setup.context, &first_id);
    CU(cuCtxGetId, other, &second_id);
    check_yes("second.ids-differ", first_id != second_id);
    unsigned version = 0, flags = 77;
    observe("second.api-version", CU(cuCtxGetApiVersion, other, &version));
    observe("second.api-version-is", format("%u", version));
    CU(cuCtxGetFlags, &flags);
    observe("second.flags", format("%u", flags));
    CUdeviceptr memory = 0;
    check("second.memory", CUDA_SUCCESS, CU(cuMemAlloc, &memory, 4096));
    CU(cuCtxPopCurrent, &current);
    // Memory belongs to a context; the address space is one.
    observe("second.copy-from-other-context", CU(cuMemcpyDtoD, setup.words, memory, 16));
    observe("second.free-from-other-context", CU(cuMemFree, memory));
    check("second.destroy", CUDA_SUCCESS, CU(cuCtxDestroy, other));
}

void check_context() {
    CU(cuInit, 0);
    unsigned flags = 77;
    int active = 77;
    CU(cuDevicePrimaryCtxGetState, 0, &flags, &active);
    check("primary.before", "flags 0 active 0", format("flags %u active %d", flags, active));
    CUdeviceptr nothing = 0;
    check("primary.none-current", CUDA_ERROR_INVALID_CONTEXT, CU(cuMemAlloc, &nothing, 16));
    double started = seconds();
    Setup setup(false);
    if (!setup.is_good) return;
    note("primary.time", "%.1f ms", (seconds() - started) * 1e3);
    size_t left = 0, total = 0, device_total = 0;
    check("memory.info", CUDA_SUCCESS, CU(cuMemGetInfo, &left, &total));
    CU(cuDeviceTotalMem, &device_total, setup.device);
    check_yes("memory.totals-agree", total == device_total);
    note("memory.first-context", "%.1f MiB of %.0f are not free with one context", (double)(total - left) / (1 << 20),
         (double)total / (1 << 20));
    CU(cuDevicePrimaryCtxGetState, 0, &flags, &active);
    check("primary.after", "flags 0 active 1", format("flags %u active %d", flags, active));
    observe("primary.set-flags-while-active", CU(cuDevicePrimaryCtxSetFlags, 0, CU_CTX_SCHED_BLOCKING_SYNC));
    CU(cuDevicePrimaryCtxGetState, 0, &flags, &active);
    observe("primary.flags-then", format("%u", flags));
    CUcontext again = nullptr;
    check("primary.retain-again", CUDA_SUCCESS, CU(cuDevicePrimaryCtxRetain, &again, setup.device));
    check_yes("primary.same-handle", again == setup.context);
    check("primary.release", CUDA_SUCCESS, CU(cuDevicePrimaryCtxRelease, setup.device));
    attributes(setup);
    limits();
    int least = 77, greatest = 77;
    CU(cuCtxGetStreamPriorityRange, &least, &greatest);
    observe("priorities", format("%d to %d", least, greatest));
    CUfunc_cache cache = (CUfunc_cache)77;
    observe("cache-config", CU(cuCtxGetCacheConfig, &cache));
    observe("cache-config-is", format("%d", (int)cache));
    second_context(setup);
}
