// Two devices by the runtime: peer access, a kernel that reads the other device's memory, copies between the two, also in a graph.
#include <vector>

#include "check.h"

const char *const PROGRAM = "peer";

__global__ void scale(int *out, const int *in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] * 2 + 1;
}

int main() {
    const int n = 100000;
    const size_t bytes = n * sizeof(int);
    int devices = 0, can = 0;
    CHECK(cudaGetDeviceCount(&devices));
    if (devices < 2) fail("needs two devices, there is %d", devices);
    CHECK(cudaDeviceCanAccessPeer(&can, 0, 1));
    REQUIRE(can == 1, "device 0 cannot reach device 1");
    int *memory[2];
    std::vector<int> values(n), got(n);
    for (int i = 0; i < n; i++) values[i] = i * 3;
    for (int device = 0; device < 2; device++) {
        CHECK(cudaSetDevice(device));
        CHECK(cudaMalloc(&memory[device], bytes));
    }
    CHECK(cudaMemcpy(memory[1], values.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaSetDevice(0));
    CHECK(cudaMemcpyPeer(memory[0], 0, memory[1], 1, bytes));
    CHECK(cudaMemcpy(got.data(), memory[0], bytes, cudaMemcpyDeviceToHost));
    REQUIRE(got == values, "a copy brought other values");
    CHECK(cudaDeviceEnablePeerAccess(1, 0));
    EXPECT(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
    EXPECT(cudaGetLastError(), cudaErrorPeerAccessAlreadyEnabled);
    scale<<<(n + 255) / 256, 256>>>(memory[0], memory[1], n);
    CHECK(cudaMemcpy(got.data(), memory[0], bytes, cudaMemcpyDefault));
    for (int i = 0; i < n; i++) REQUIRE(got[i] == values[i] * 2 + 1, "[%d]: %d", i, got[i]);
    // And back to the other device, as a graph.
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemcpyPeerAsync(memory[1], 1, memory[0], 0, bytes, stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaSetDevice(1));
    CHECK(cudaMemcpy(got.data(), memory[1], bytes, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) REQUIRE(got[i] == values[i] * 2 + 1, "[%d]: %d", i, got[i]);
    CHECK(cudaSetDevice(0));
    CHECK(cudaDeviceDisablePeerAccess(1));
    return pass("%d values", n);
}
