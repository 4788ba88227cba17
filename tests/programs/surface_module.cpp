// Modules, libraries, functions, launches and occupancy.
#include <cstddef>

#include "driver.h"

const char *const PROGRAM = "surface_module";

static const unsigned COUNT = 1000;
static CUdeviceptr in, out;

// A launch of `axpy` in some form must have computed this.
static void computed(unsigned factor) {
    std::vector<unsigned> got(COUNT);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), out, COUNT * sizeof(unsigned));
    for (unsigned i = 0; i < COUNT; i++) REQUIRE(got[i] == i * factor + 5);
    OK("cuMemsetD32_v2", out, 0xDEADu, (size_t)COUNT);
}

static void plain_launch(CUfunction axpy, unsigned factor) {
    unsigned n = COUNT;
    void *parameters[] = {&out, &in, &n, &factor};
    OK("cuLaunchKernel", axpy, 8u, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream)0, parameters, (void **)0);
    computed(factor);
}

static void launches(CUfunction axpy) {
    unsigned n = COUNT, factor = 4;
    void *parameters[] = {&out, &in, &n, &factor};
    plain_launch(axpy, 3);
    CUlaunchConfig configuration = {};
    configuration.gridDimX = 8;
    configuration.blockDimX = 128;
    configuration.gridDimY = configuration.gridDimZ = configuration.blockDimY = configuration.blockDimZ = 1;
    OK("cuLaunchKernelEx", (const CUlaunchConfig *)&configuration, axpy, parameters, (void **)0);
    computed(4);
    struct {
        CUdeviceptr out, in;
        unsigned n, factor;
    } packed = {out, in, n, 5};
    size_t bytes = sizeof packed;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    OK("cuLaunchKernelEx", (const CUlaunchConfig *)&configuration, axpy, (void **)0, extra);
    computed(5);
    // NCCL gives the first part of a structure of 4 KiB, as much as its kernel will look at; what is not given is zeros.
    bytes = offsetof(decltype(packed), factor);
    OK("cuLaunchKernelEx", (const CUlaunchConfig *)&configuration, axpy, (void **)0, extra);
    computed(0);
    int cooperative = -1;
    OK("cuDeviceGetAttribute", &cooperative, (int)CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, (CUdevice)0);
    factor = 6;
    CUresult result = call("cuLaunchCooperativeKernel", axpy, 8u, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream)0, parameters);
    REQUIRE(result == (cooperative ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED));
    if (cooperative) computed(6);
}

// The interface that cuLaunchKernel replaced: shape and parameters are set one by one.
static void replaced_launches(CUfunction axpy) {
    unsigned factor = 7;
    float as_float;
    std::memcpy(&as_float, &factor, sizeof as_float);
    CUstream stream;
    OK("cuStreamCreate", &stream, 0u);
    OK("cuFuncSetBlockShape", axpy, 128, 1, 1);
    OK("cuParamSetSize", axpy, 24u);
    OK("cuParamSetv", axpy, 0, (void *)&out, 8u);
    OK("cuParamSetv", axpy, 8, (void *)&in, 8u);
    OK("cuParamSeti", axpy, 16, COUNT);
    OK("cuParamSetf", axpy, 20, as_float);
    OK("cuLaunchGrid", axpy, 4, 2);
    std::vector<unsigned> got(COUNT);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), out, COUNT * sizeof(unsigned));
    for (unsigned i = 0; i < COUNT; i++) REQUIRE(got[i] == (i < 512 ? i * 7 + 5 : 0xDEAD));
    OK("cuLaunchGridAsync", axpy, 8, 1, stream);
    OK("cuStreamSynchronize", stream);
    computed(7);
    OK("cuLaunch", axpy);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), out, COUNT * sizeof(unsigned));
    for (unsigned i = 0; i < COUNT; i++) REQUIRE(got[i] == (i < 128 ? i * 7 + 5 : 0xDEAD));
    // More shared memory than a block can have.
    OK("cuFuncSetSharedSize", axpy, 200u << 20);
    FAILS("cuLaunchGrid", axpy, 8, 1);
    OK("cuFuncSetSharedSize", axpy, 16u);
    OK("cuLaunchGrid", axpy, 8, 1);
    computed(7);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuFuncSetBlockShape", axpy, 0, 1, 1);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuLaunchGrid", axpy, 0, 1);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuParamSeti", axpy, -4, 1u);
    OK("cuStreamDestroy_v2", stream);
}

// What a file of the program's own machine holds.
static std::string file_with(const char *text) {
    char path[] = "/tmp/surface_module_XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0 && write(file, text, std::strlen(text)) == (ssize_t)std::strlen(text));
    close(file);
    return path;
}

static CUfunction function_of(CUmodule module) {
    CUfunction function = nullptr;
    OK("cuModuleGetFunction", &function, module, "axpy");
    REQUIRE(function);
    return function;
}

static void modules() {
    CUmodule module = nullptr;
    CUdeviceptr variable = 0;
    size_t bytes = 0;
    int mode = 77;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    plain_launch(function_of(module), 2);
    OK("cuModuleGetGlobal_v2", &variable, &bytes, module, "offset");
    REQUIRE(variable && bytes == 4);
    unsigned count = 77;
    CUfunction all[2] = {};
    OK("cuModuleGetFunctionCount", &count, module);
    REQUIRE(count == 2);
    OK("cuModuleEnumerateFunctions", (CUfunction *)all, 2u, module);
    REQUIRE(all[0] && all[1] && all[0] != all[1]);
    OK("cuModuleUnload", module);
    CUfunction gone;
    FAILS("cuModuleGetFunction", &gone, module, "axpy");
    module = nullptr;
    OK("cuModuleLoadDataEx", &module, (const void *)PTX, 0u, (CUjit_option *)0, (void **)0);
    plain_launch(function_of(module), 7);
    std::string path = file_with(PTX);
    module = nullptr;
    OK("cuModuleLoad", &module, path.c_str());
    unlink(path.c_str());
    plain_launch(function_of(module), 8);
    FAILS("cuModuleLoadFatBinary", &module, (const void *)"this is no fat binary, but long enough to be looked at as one");
    if (has("cuModuleGetLoadingMode")) {
        OK("cuModuleGetLoadingMode", &mode);
        REQUIRE(mode == CU_MODULE_EAGER_LOADING || mode == CU_MODULE_LAZY_LOADING);
    }
}

// A kernel in which a hundred values live at the same time: it stores a hundred words in the other order.
static std::string wide_kernel() {
    std::string text = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry wide(.param .u64 at)\n{\n.reg .b64 %at; .reg .b32 %v<100>;\n"
                       "ld.param.u64 %at, [at];\n";
    for (int i = 0; i < 100; i++) text += "ld.global.u32 %v" + std::to_string(i) + ", [%at+" + std::to_string(4 * i) + "];\n";
    for (int i = 0; i < 100; i++) text += "st.global.u32 [%at+" + std::to_string(4 * i) + "], %v" + std::to_string(99 - i) + ";\n";
    return text + "ret;\n}\n";
}

// How many registers it says it has, once it has computed.
static int registers_of_wide(CUmodule module) {
    int registers = -1;
    CUfunction wide = nullptr;
    void *parameters[] = {&out};
    std::vector<unsigned> words(100);
    OK("cuModuleGetFunction", &wide, module, "wide");
    OK("cuMemcpyDtoD_v2", out, in, words.size() * sizeof(unsigned));
    OK("cuLaunchKernel", wide, 1u, 1u, 1u, 1u, 1u, 1u, 0u, (CUstream)0, parameters, (void **)0);
    OK("cuMemcpyDtoH_v2", (void *)words.data(), out, words.size() * sizeof(unsigned));
    for (unsigned i = 0; i < 100; i++) REQUIRE(words[i] == 99 - i);
    OK("cuMemsetD32_v2", out, 0xDEADu, (size_t)COUNT);
    OK("cuFuncGetAttribute", &registers, (int)CU_FUNC_ATTRIBUTE_NUM_REGS, wide);
    OK("cuModuleUnload", module);
    return registers;
}

// What a compilation may have of registers.
static void limited_registers() {
    CUmodule module = nullptr;
    const std::string text = wide_kernel();
    OK("cuModuleLoadData", &module, (const void *)text.c_str());
    REQUIRE(registers_of_wide(module) > 40);
    for (unsigned most : {40u, 64u}) {
        CUjit_option option = CU_JIT_MAX_REGISTERS;
        void *value = (void *)(uintptr_t)most;
        OK("cuModuleLoadDataEx", &module, (const void *)text.c_str(), 1u, &option, &value);
        int registers = registers_of_wide(module);
        REQUIRE(registers > 0 && registers <= (int)most);
    }
}

static void functions() {
    CUmodule module = nullptr, owner = nullptr;
    const char *name = nullptr;
    size_t parameters = 0, offset = 77, size = 77;
    int value = -77;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    CUfunction axpy = function_of(module);
    OK("cuFuncGetModule", &owner, axpy);
    REQUIRE(owner == module);
    OK("cuFuncGetName", &name, axpy);
    REQUIRE(name && !std::strcmp(name, "axpy"));
    OK("cuFuncGetParamCount", axpy, &parameters);
    REQUIRE(parameters == 4);
    OK("cuFuncGetParamInfo", axpy, (size_t)2, &offset, &size);
    REQUIRE(offset == 16 && size == 4);
    OK("cuFuncGetAttribute", &value, (int)CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, axpy);
    REQUIRE(value >= 128);
    // What the text is for, not the version of its language: CUB chooses by it.
    OK("cuFuncGetAttribute", &value, (int)CU_FUNC_ATTRIBUTE_PTX_VERSION, axpy);
    REQUIRE(value == 70);
    OK("cuFuncSetAttribute", axpy, (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1024);
    OK("cuFuncGetAttribute", &value, (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, axpy);
    REQUIRE(value == 1024);
    OK("cuFuncLoad", axpy);
    int state = 77;
    OK("cuFuncIsLoaded", &state, axpy);
    REQUIRE(state == CU_FUNCTION_LOADING_STATE_LOADED);
    OK("cuFuncSetCacheConfig", axpy, (int)CU_FUNC_CACHE_PREFER_L1);
    OK("cuFuncSetSharedMemConfig", axpy, 0);
    // What leaves no trace is told by what it refuses.
    FAILS("cuFuncLoad", (CUfunction)0);
    FAILS("cuFuncSetCacheConfig", (CUfunction)0, (int)CU_FUNC_CACHE_PREFER_L1);
    FAILS("cuFuncSetSharedMemConfig", (CUfunction)0, 0);
    launches(axpy);
    replaced_launches(axpy);
}

// Two texts, one of which calls a function of the other.
static const char CALLER[] = R"(
.version 6.4
.target sm_70
.address_size 64
.extern .func (.param .b32 result) tripled (.param .b32 value);
.visible .entry apply (.param .u64 place)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [place];
    cvta.to.global.u64 %rd2, %rd1;
    ld.global.u32 %r1, [%rd2];
    {
        .param .b32 given;
        .param .b32 got;
        st.param.b32 [given], %r1;
        call.uni (got), tripled, (given);
        ld.param.b32 %r2, [got];
    }
    st.global.u32 [%rd2], %r2;
    ret;
}
)";
static const char CALLED[] = R"(
.version 6.4
.target sm_70
.address_size 64
.visible .func (.param .b32 result) tripled (.param .b32 value)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [value];
    mul.lo.s32 %r2, %r1, 3;
    st.param.b32 [result], %r2;
    ret;
}
)";

// What was linked is a module's image, and its kernel does what both texts say.
static void try_linked(void *image, size_t size) {
    REQUIRE(image && size > 0);
    CUmodule module = nullptr;
    CUfunction apply = nullptr;
    OK("cuModuleLoadData", &module, (const void *)image);
    OK("cuModuleGetFunction", &apply, module, "apply");
    CUdeviceptr place;
    unsigned value = 14;
    OK("cuMemAlloc_v2", &place, (size_t)4);
    OK("cuMemcpyHtoD_v2", place, (const void *)&value, (size_t)4);
    void *parameters[] = {&place};
    OK("cuLaunchKernel", apply, 1u, 1u, 1u, 1u, 1u, 1u, 0u, (CUstream)0, parameters, (void **)0);
    OK("cuMemcpyDtoH_v2", (void *)&value, place, (size_t)4);
    REQUIRE(value == 42);
    OK("cuModuleUnload", module);
}

static void linkers() {
    std::string path = "/tmp/surface_module." + std::to_string(getpid()) + ".ptx";
    FILE *file = std::fopen(path.c_str(), "w");
    REQUIRE(file && std::fputs(CALLED, file) >= 0 && std::fclose(file) == 0);
    for (bool old : {false, true}) {
        const char *create = old ? "cuLinkCreate" : "cuLinkCreate_v2", *add = old ? "cuLinkAddData" : "cuLinkAddData_v2",
                   *add_file = old ? "cuLinkAddFile" : "cuLinkAddFile_v2";
        if (!has(create)) continue;
        for (bool from_file : {false, true}) {
            CUlinkState state = nullptr;
            char errors[2000] = "untouched";
            CUjit_option names[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_OPTIMIZATION_LEVEL};
            void *values[] = {errors, (void *)sizeof errors, (void *)3};
            OK(create, 3u, names, values, &state);
            REQUIRE(state);
            OK(add, state, (int)CU_JIT_INPUT_PTX, (void *)CALLER, sizeof CALLER, "caller", 0u, (CUjit_option *)0, (void **)0);
            if (from_file)
                OK(add_file, state, (int)CU_JIT_INPUT_PTX, path.c_str(), 0u, (CUjit_option *)0, (void **)0);
            else
                OK(add, state, (int)CU_JIT_INPUT_PTX, (void *)CALLED, sizeof CALLED, "called", 0u, (CUjit_option *)0, (void **)0);
            void *image = nullptr;
            size_t size = 0;
            OK("cuLinkComplete", state, &image, &size);
            try_linked(image, size);
            OK("cuLinkDestroy", state);
            FAILS("cuLinkComplete", state, &image, &size);
        }
        // What is wrong with code is said by the call that adds it, or at the end, and in words.
        CUlinkState state = nullptr;
        char errors[2000] = "";
        CUjit_option names[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
        void *values[] = {errors, (void *)sizeof errors};
        const char wrong[] = ".version 6.4\n.target sm_70\n.address_size 64\nthis is no PTX\n";
        OK(create, 2u, names, values, &state);
        CUresult added = call(add, state, (int)CU_JIT_INPUT_PTX, (void *)wrong, sizeof wrong, "wrong", 0u, (CUjit_option *)0, (void **)0);
        void *image = nullptr;
        size_t size = 0;
        if (added == CUDA_SUCCESS) added = call("cuLinkComplete", state, &image, &size);
        REQUIRE(added == CUDA_ERROR_INVALID_PTX);
        REQUIRE(std::strlen(errors) > 0);
        OK("cuLinkDestroy", state);
        FAILS(add_file, state, (int)CU_JIT_INPUT_PTX, path.c_str(), 0u, (CUjit_option *)0, (void **)0);
    }
    unlink(path.c_str());
}

static CUkernel kernel_of(CUlibrary loaded) {
    CUkernel kernel = nullptr;
    OK("cuLibraryGetKernel", &kernel, loaded, "axpy");
    REQUIRE(kernel);
    return kernel;
}

static CUlibrary load(const char *name, const void *what) {
    CUlibrary loaded = nullptr;
    OK(name, &loaded, what, (CUjit_option *)0, (void **)0, 0u, (CUlibraryOption *)0, (void **)0, 0u);
    REQUIRE(loaded);
    return loaded;
}

static void libraries() {
    CUlibrary loaded = load("cuLibraryLoadData", PTX), owner = nullptr;
    CUkernel kernel = kernel_of(loaded);
    CUfunction function = nullptr;
    CUmodule module = nullptr;
    CUdeviceptr variable = 0;
    const char *name = nullptr;
    size_t parameters = 0, offset = 77, size = 77, bytes = 0;
    int value = -77;
    OK("cuKernelGetFunction", &function, kernel);
    REQUIRE(function);
    plain_launch(function, 9);
    plain_launch((CUfunction)kernel, 10);
    OK("cuKernelGetName", &name, kernel);
    REQUIRE(name && !std::strcmp(name, "axpy"));
    OK("cuKernelGetLibrary", &owner, kernel);
    REQUIRE(owner == loaded);
    OK("cuKernelGetParamCount", kernel, &parameters);
    REQUIRE(parameters == 4);
    OK("cuKernelGetParamInfo", kernel, (size_t)3, &offset, &size);
    REQUIRE(offset == 20 && size == 4);
    OK("cuKernelSetAttribute", (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 2048, kernel, (CUdevice)0);
    OK("cuKernelGetAttribute", &value, (int)CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel, (CUdevice)0);
    REQUIRE(value == 2048);
    OK("cuKernelSetCacheConfig", kernel, (int)CU_FUNC_CACHE_PREFER_L1, (CUdevice)0);
    FAILS("cuKernelSetCacheConfig", (CUkernel)0, (int)CU_FUNC_CACHE_PREFER_L1, (CUdevice)0);
    OK("cuLibraryGetGlobal", &variable, &bytes, loaded, "offset");
    REQUIRE(variable && bytes == 4);
    OK("cuLibraryGetModule", &module, loaded);
    plain_launch(function_of(module), 11);
    void *unified = nullptr;
    GIVES(CUDA_ERROR_NOT_FOUND, "cuLibraryGetUnifiedFunction", &unified, loaded, "axpy");
    unsigned count = 77;
    CUkernel all[2] = {};
    OK("cuLibraryGetKernelCount", &count, loaded);
    REQUIRE(count == 2);
    OK("cuLibraryEnumerateKernels", (CUkernel *)all, 2u, loaded);
    REQUIRE(all[0] && all[1] && all[0] != all[1]);
    OK("cuLibraryUnload", loaded);
    FAILS("cuLibraryGetKernel", &kernel, loaded, "axpy");
    std::string path = file_with(PTX);
    loaded = load("cuLibraryLoadFromFile", path.c_str());
    unlink(path.c_str());
    plain_launch((CUfunction)kernel_of(loaded), 12);
}

static void occupancy() {
    CUmodule module;
    int blocks = -1, grid = -1, block = -1;
    size_t shared = 77;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    CUfunction axpy = function_of(module);
    OK("cuOccupancyMaxActiveBlocksPerMultiprocessor", &blocks, axpy, 128, (size_t)0);
    REQUIRE(blocks >= 1 && blocks <= 64);
    int again = -1;
    OK("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", &again, axpy, 128, (size_t)0, 0u);
    REQUIRE(again == blocks);
    OK("cuOccupancyAvailableDynamicSMemPerBlock", &shared, axpy, 1, 128);
    REQUIRE(shared >= 16 << 10 && shared != 77);
    OK("cuOccupancyMaxPotentialBlockSize", &grid, &block, axpy, (CUoccupancyB2DSize)0, (size_t)0, 0);
    REQUIRE(grid >= 1 && block >= 32 && block <= 1024);
    grid = block = -1;
    OK("cuOccupancyMaxPotentialBlockSizeWithFlags", &grid, &block, axpy, (CUoccupancyB2DSize)0, (size_t)0, 64, 0u);
    REQUIRE(grid >= 1 && block >= 1 && block <= 64);

    // Clusters of one block are what every device has.
    CUlaunchAttribute one = {};
    one.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    one.value.clusterDim.x = one.value.clusterDim.y = one.value.clusterDim.z = 1;
    CUlaunchConfig config = {};
    config.gridDimX = 64, config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = 128, config.blockDimY = config.blockDimZ = 1;
    config.attrs = &one, config.numAttrs = 1;
    int processors = 0, clusters = -1, size = -1;
    OK("cuDeviceGetAttribute", &processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, (CUdevice)0);
    if (has("cuOccupancyMaxActiveClusters")) {
        OK("cuOccupancyMaxActiveClusters", &clusters, axpy, (const CUlaunchConfig *)&config);
        REQUIRE(clusters >= 1 && clusters <= blocks * processors);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuOccupancyMaxActiveClusters", (int *)nullptr, axpy, (const CUlaunchConfig *)&config);
    }
    if (has("cuOccupancyMaxPotentialClusterSize")) {
        OK("cuOccupancyMaxPotentialClusterSize", &size, axpy, (const CUlaunchConfig *)&config);
        REQUIRE(size >= 1 && size <= 16);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuOccupancyMaxPotentialClusterSize", &size, axpy, (const CUlaunchConfig *)nullptr);
    }
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUcontext context;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    std::vector<unsigned> numbers(COUNT);
    for (unsigned i = 0; i < COUNT; i++) numbers[i] = i;
    OK("cuMemAlloc_v2", &in, COUNT * sizeof(unsigned));
    OK("cuMemAlloc_v2", &out, COUNT * sizeof(unsigned));
    OK("cuMemcpyHtoD_v2", in, (const void *)numbers.data(), COUNT * sizeof(unsigned));
    OK("cuMemsetD32_v2", out, 0xDEADu, (size_t)COUNT);
    modules();
    limited_registers();
    functions();
    linkers();
    libraries();
    occupancy();
    return pass("modules, libraries, functions, launches, occupancy");
}
