// Images of every kind, functions by name, and where their parameters are.
#include "report.h"

// Offset and size of each parameter, by whichever function tells.
template <typename Ask> static std::string parameters(Ask ask) {
    std::string text;
    for (size_t index = 0; index < 16; index++) {
        size_t offset = 0, size = 0;
        CUresult result = ask(index, &offset, &size);
        if (result != CUDA_SUCCESS) return text + "then " + name_of(result);
        text += format("%zu:%zu ", offset, size);
    }
    return text;
}

static const char *const LAYOUT = "0:1 4:4 8:5 16:8 24:24 48:2 then CUDA_ERROR_INVALID_VALUE";
static const char *const NONE = "then CUDA_ERROR_INVALID_VALUE";

static std::string parameters_of(CUmodule module, const char *name) {
    CUfunction function = nullptr;
    CUresult result = CU(cuModuleGetFunction, &function, module, name);
    if (result != CUDA_SUCCESS) return name_of(result);
    return parameters([&](size_t index, size_t *offset, size_t *size) { return CU(cuFuncGetParamInfo, function, index, offset, size); });
}

static void launches(Setup &setup, CUfunction function, const std::string &name) {
    char a = 1;
    int b = 2;
    struct {
        char bytes[5];
    } c = {{0, 0, 0, 0, 3}};
    struct {
        double values[3];
    } d = {{4, 5, 6}};
    short e = 7;
    double got = 0;
    check(name + ".pointers", CUDA_SUCCESS, setup.launch(function, nullptr, {&a, &b, &c, &setup.words, &d, &e}));
    CU(cuMemcpyDtoH, &got, setup.words, 8);
    check(name + ".pointers-value", "28", format("%g", got));
    struct {
        char a, pad[3];
        int b;
        char c[8];
        CUdeviceptr out;
        double d[3];
        short e;
    } packed = {10, {}, 20, {0, 0, 0, 0, 30}, setup.words, {40, 50, 60}, 70};
    size_t exactly = 50;
    void *exact[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &exactly, CU_LAUNCH_PARAM_END};
    check(name + ".buffer", CUDA_SUCCESS, CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, exact));
    CU(cuMemcpyDtoH, &got, setup.words, 8);
    check(name + ".buffer-value", "280", format("%g", got));
    // Too short, with the padding of a structure, too long.
    for (size_t bytes : {(size_t)48, sizeof packed, (size_t)4096}) {
        std::vector<char> buffer(4096);
        std::copy((char *)&packed, (char *)&packed + sizeof packed, buffer.begin());
        void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer.data(), CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
        observe(name + format(".buffer-of-%zu", bytes), CU(cuLaunchKernel, function, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
        CU(cuCtxSynchronize);
    }
}

static void module_of(Setup &setup, const std::string &file) {
    std::string image = read_image(file);
    if (image.empty()) return note("image", "%s is not in this bundle", file.c_str());
    CUmodule module = nullptr;
    double started = seconds();
    CUresult result = CU(cuModuleLoadData, &module, image.data());
    // The software GPU executes no machine code.
    if (result == CUDA_ERROR_NO_BINARY_FOR_GPU && is_lenient_run()) return skip(file, name_of(result));
    if (!works(file, result)) return;
    note(file, "loaded in %.2f ms", (seconds() - started) * 1e3);
    check(file + ".parameters", LAYOUT, parameters_of(module, "layout"));
    check(file + ".no-parameters", NONE, parameters_of(module, "nothing"));
    CUfunction function = nullptr;
    check(file + ".unknown-name", CUDA_ERROR_NOT_FOUND, CU(cuModuleGetFunction, &function, module, "no_such_kernel"));
    CU(cuModuleGetFunction, &function, module, "layout");
    launches(setup, function, file);
    CUdeviceptr variable = 0;
    size_t bytes = 0;
    check(file + ".variable", CUDA_SUCCESS, CU(cuModuleGetGlobal, &variable, &bytes, module, "offset"));
    check(file + ".variable-bytes", "4", format("%zu", bytes));
    check(file + ".no-variable", CUDA_ERROR_NOT_FOUND, CU(cuModuleGetGlobal, &variable, &bytes, module, "no_such_variable"));
    for (int attribute = 0; attribute < 4; attribute++) {
        int value = -1;
        CU(cuFuncGetAttribute, &value, (CUfunction_attribute)attribute, function);
        if (attribute != 0) observe(file + format(".attribute-%d", attribute), format("%d", value));
    }
    int blocks = 0;
    observe(file + ".occupancy", CU(cuOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, function, 128, 0));
    observe(file + ".occupancy-is", format("%d", blocks));
    check(file + ".unload", CUDA_SUCCESS, CU(cuModuleUnload, module));
}

static void library_of(Setup &setup, const std::string &image) {
    CUlibrary library = nullptr;
    CUkernel kernel = nullptr;
    CUfunction function = nullptr;
    CUcontext none = nullptr;
    if (!works("library", CU(cuLibraryLoadData, &library, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0))) return;
    check("library.unknown-name", CUDA_ERROR_NOT_FOUND, CU(cuLibraryGetKernel, &kernel, library, "no_such_kernel"));
    if (!works("library.kernel", CU(cuLibraryGetKernel, &kernel, library, "layout"))) return;
    auto ask = [&](size_t index, size_t *offset, size_t *size) { return CU(cuKernelGetParamInfo, kernel, index, offset, size); };
    check("library.parameters", LAYOUT, parameters(ask));
    CU(cuCtxPopCurrent, &none);
    observe("library.parameters-without-context", parameters(ask));
    CU(cuCtxPushCurrent, setup.context);
    // A kernel may stand where a function is asked.
    launches(setup, (CUfunction)kernel, "library.as-function");
    observe("library.attribute-of-kernel-as-function", [&] {
        int value = 0;
        return CU(cuFuncGetAttribute, &value, CU_FUNC_ATTRIBUTE_NUM_REGS, (CUfunction)kernel);
    }());
    check("library.function", CUDA_SUCCESS, CU(cuKernelGetFunction, &function, kernel));
    launches(setup, function, "library.function");
    CUdeviceptr variable = 0;
    size_t bytes = 0;
    check("library.variable", CUDA_SUCCESS, CU(cuLibraryGetGlobal, &variable, &bytes, library, "offset"));
    check("library.unload", CUDA_SUCCESS, CU(cuLibraryUnload, library));
}

static void bad_images(const std::string &image) {
    CUmodule module = nullptr;
    std::string broken = image.substr(0, image.size() / 2) + "nonsense here" + '\0', text = "no image at all";
    check("bad.ptx", CUDA_ERROR_INVALID_PTX, CU(cuModuleLoadData, &module, broken.data()));
    observe("bad.text", CU(cuModuleLoadData, &module, text.data()));
    std::string zeros(4096, '\0');
    observe("bad.zeros", CU(cuModuleLoadData, &module, zeros.data()));
    observe("bad.null", CU(cuModuleLoadData, &module, nullptr));
    CUlibrary library = nullptr;
    observe("bad.library-of-broken-ptx", CU(cuLibraryLoadData, &library, broken.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    // Machine code of another architecture.
    for (const char *name : {"kernels.sm_75.cubin", "kernels.sm_80.cubin", "kernels.sm_86.cubin", "kernels.sm_90.cubin"}) {
        std::string other = read_image(name);
        if (!other.empty()) observe(std::string("bad.") + name, CU(cuModuleLoadData, &module, other.data()));
    }
}

void check_modules() {
    Setup setup;
    if (!setup.is_good) return;
    CUmoduleLoadingMode mode = (CUmoduleLoadingMode)0;
    CU(cuModuleGetLoadingMode, &mode);
    observe("loading-mode", format("%d", (int)mode));
    module_of(setup, "kernels.ptx");
    module_of(setup, "kernels.fatbin");
    module_of(setup, format("kernels.sm_%d%d.cubin", setup.attribute(75), setup.attribute(76)));
    if (setup.attribute(75) == 7) module_of(setup, "kernels.compute_70.ptx");
    std::string image = read_image("kernels.fatbin");
    if (!image.empty()) library_of(setup, image);
    bad_images(read_image("kernels.ptx"));
}
