// A graph captured out of two streams, with copies from and to pinned memory and a function of the program: launched again and again while the
// memory changes, updated by another capture, and compared with the same work without a graph.
#include <cstring>
#include <vector>

#include "check.h"

const char *const PROGRAM = "graphs";

static const int COUNT = 5000;

__global__ void scale(const float *in, float *out, float factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) out[i] = in[i] * factor;
}

__global__ void add(const float *a, const float *b, float *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) out[i] = a[i] + b[i];
}

static void called(void *count) { ++*(int *)count; }

struct Work {
    float *in, *out;       // pinned
    float *a, *b, *c;      // on the device
    int calls = 0;
    cudaStream_t first, second;
    cudaEvent_t fork, join;

    // Twice the input and `factor` times the input, in two streams, added.
    void capture(float factor, cudaGraph_t *graph) {
        const size_t bytes = COUNT * sizeof(float);
        const int blocks = (COUNT + 255) / 256;
        CHECK(cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal));
        CHECK(cudaMemcpyAsync(a, in, bytes, cudaMemcpyHostToDevice, first));
        CHECK(cudaEventRecord(fork, first));
        CHECK(cudaStreamWaitEvent(second, fork, 0));
        scale<<<blocks, 256, 0, first>>>(a, b, 2.0f);
        scale<<<blocks, 256, 0, second>>>(a, c, factor);
        CHECK(cudaEventRecord(join, second));
        CHECK(cudaStreamWaitEvent(first, join, 0));
        add<<<blocks, 256, 0, first>>>(b, c, a);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(out, a, bytes, cudaMemcpyDeviceToHost, first));
        CHECK(cudaLaunchHostFunc(first, called, &calls));
        cudaStreamCaptureStatus status;
        CHECK(cudaStreamIsCapturing(second, &status));
        REQUIRE(status == cudaStreamCaptureStatusActive, "the second stream is not captured");
        CHECK(cudaStreamEndCapture(first, graph));
    }

    void check(cudaGraphExec_t exec, float factor, unsigned seed) {
        Random random(seed);
        for (int i = 0; i < COUNT; i++) in[i] = random.uniform();
        std::memset(out, 0, COUNT * sizeof(float));
        int before = calls;
        CHECK(cudaGraphLaunch(exec, seed % 2 ? first : second));
        CHECK(cudaDeviceSynchronize());
        REQUIRE(calls == before + 1, "the function was called %d times", calls - before);
        for (int i = 0; i < COUNT; i++) {
            float expected = in[i] * 2.0f + in[i] * factor;
            REQUIRE(out[i] == expected, "launch %u: out[%d] is %g, expected %g", seed, i, out[i], expected);
        }
    }
};

int main() {
    Work work;
    const size_t bytes = COUNT * sizeof(float);
    CHECK(cudaMallocHost((void **)&work.in, bytes));
    CHECK(cudaMallocHost((void **)&work.out, bytes));
    for (float **each : {&work.a, &work.b, &work.c}) CHECK(cudaMalloc((void **)each, bytes));
    CHECK(cudaStreamCreateWithFlags(&work.first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&work.second, cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&work.fork, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&work.join, cudaEventDisableTiming));
    cudaGraph_t graph, other;
    work.capture(3.0f, &graph);
    REQUIRE(work.calls == 0, "a captured function was called");
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    REQUIRE(nodes == 6, "%zu nodes", nodes);
    cudaGraphExec_t exec;
    CHECK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    for (unsigned seed = 1; seed <= 4; seed++) work.check(exec, 3.0f, seed);
    work.capture(0.5f, &other);
    cudaGraphExecUpdateResultInfo info;
    CHECK(cudaGraphExecUpdate(exec, other, &info));
    for (unsigned seed = 5; seed <= 6; seed++) work.check(exec, 0.5f, seed);
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaGraphDestroy(other));
    work.check(exec, 0.5f, 7);
    CHECK(cudaGraphExecDestroy(exec));
    return pass("%d launches of a captured graph, %zu nodes", work.calls, nodes);
}
