// What the CUDA runtime turns the driver's answers into: lines like those of the driver checks (driver/report.h), for each cudart.
#include <cstdio>

#include <cuda_runtime.h>

static int checks = 0;

static void line(const char *name, const char *got) {
    checks++;
    std::printf("check %s: expected anything, got %s OK\n", name, got);
    std::fflush(stdout);
}

static void answer(const char *name, cudaError_t got) { line(name, cudaGetErrorName(got)); }

__global__ void store(int *place, int value) { *place = value; }

static void shape(const char *name, dim3 blocks, dim3 threads, size_t shared) {
    static int *place = nullptr;
    if (!place && cudaMalloc(&place, 4) != cudaSuccess) return answer("shape.memory", cudaGetLastError());
    store<<<blocks, threads, shared>>>(place, 1);
    answer(name, cudaGetLastError());
    cudaDeviceSynchronize();
    cudaGetLastError();
}

int main() {
    int version = 0;
    cudaRuntimeGetVersion(&version);
    std::printf("note runtime: %d\n", version);
    answer("set-device", cudaSetDevice(0));
    shape("shape.good", 1, 1, 0);
    shape("shape.no-blocks", 0, 1, 0);
    shape("shape.no-threads", 1, 0, 0);
    shape("shape.too-many-threads", 1, 2048, 0);
    shape("shape.too-many-threads-in-z", 1, dim3(1, 1, 128), 0);
    shape("shape.too-many-blocks-in-y", dim3(1, 70000, 1), 1, 0);
    shape("shape.too-much-shared", 1, 1, 100 << 20);
    shape("shape.more-shared-than-the-default", 1, 1, 60 << 10);
    int *memory = nullptr;
    answer("allocate.nothing", cudaMalloc(&memory, 0));
    answer("allocate.too-much", cudaMalloc(&memory, (size_t)1 << 50));
    answer("free.null", cudaFree(nullptr));
    answer("free.nowhere", cudaFree((void *)0x1000));
    answer("copy.bad-direction", cudaMemcpy(&version, &version, 4, (cudaMemcpyKind)99));
    answer("copy.host-as-device", cudaMemcpy(&version, (void *)0x1000, 4, cudaMemcpyDeviceToHost));
    answer("event.null", cudaEventQuery(nullptr));
    answer("stream.flags", cudaStreamCreateWithFlags((cudaStream_t *)&memory, 64));
    answer("host.free-foreign", cudaFreeHost(&version));
    answer("peer.self", cudaDeviceEnablePeerAccess(0, 0));
    answer("device.too-high", cudaSetDevice(1000));
    cudaGetLastError();
    answer("last", cudaGetLastError());
    std::printf("end runtime: %d checks\n", checks);
    return 0;
}
