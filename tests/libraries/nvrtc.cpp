// NVRTC: source to PTX, loaded through the driver API and run. This one computes on every device that takes PTX.
#include "check.h"

#include <string>
#include <vector>

#include <cuda.h>
#include <nvrtc.h>

const char *const PROGRAM = "nvrtc";
static const int N = 1000;
static const char *const SOURCE =
    "extern \"C\" __global__ void scale(float *data, float by, int n) {\n"
    "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    if (i < n) data[i] = data[i] * by + sqrtf((float)i);\n"
    "}\n";

static std::string compiled(int major, int minor) {
    nvrtcProgram program;
    CHECK(nvrtcCreateProgram(&program, SOURCE, "scale.cu", 0, nullptr, nullptr));
    std::string target = "--gpu-architecture=compute_" + std::to_string(major) + std::to_string(minor);
    const char *options[] = {target.c_str()};
    CHECK(nvrtcCompileProgram(program, 1, options));
    size_t size = 0;
    CHECK(nvrtcGetPTXSize(program, &size));
    std::string ptx(size, '\0');
    CHECK(nvrtcGetPTX(program, ptx.data()));
    CHECK(nvrtcDestroyProgram(&program));
    return ptx;
}

int main() {
    int major = 0, minor = 0;
    CHECK(nvrtcVersion(&major, &minor));
    REQUIRE(major == CUDA_VERSION / 1000, "version %d.%d", major, minor);
    // cudart makes the primary context, and makes it current.
    CHECK(cudaFree(nullptr));
    std::string ptx = compiled(8, 0);
    CUmodule module;
    CUfunction function;
    CHECK(cuModuleLoadData(&module, ptx.c_str()));
    CHECK(cuModuleGetFunction(&function, module, "scale"));
    std::vector<float> data(N);
    for (int i = 0; i < N; i++) data[i] = (float)i;
    CUdeviceptr device;
    CHECK(cuMemAlloc(&device, N * sizeof(float)));
    CHECK(cuMemcpyHtoD(device, data.data(), N * sizeof(float)));
    float by = 2;
    int count = N;
    void *arguments[] = {&device, &by, &count};
    CHECK(cuLaunchKernel(function, (N + 127) / 128, 1, 1, 128, 1, 1, 0, nullptr, arguments, nullptr));
    CHECK(cuMemcpyDtoH(data.data(), device, N * sizeof(float)));
    for (int i = 0; i < N; i++)
        REQUIRE(close(data[i], (float)i * 2 + std::sqrt((float)i)), "element %d is %g", i, data[i]);
    CHECK(cuMemFree(device));
    CHECK(cuModuleUnload(module));
    return verdict(Refusal{}, "version %d.%d, %zu bytes of PTX", major, minor, ptx.size());
}
