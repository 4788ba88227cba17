// Graphs that choose on the device: Newton's method until it has come close enough, the sign by a branch, and a step of a small machine by a switch; the
// conditions are set by kernels with `cudaGraphSetConditional`, and the results are those of the same work on the host.
#include <cmath>
#include <vector>

#include "check.h"

const char *const PROGRAM = "conditional";

struct State {
    float x, square;
    unsigned rounds, which, trace;
};

__global__ void newton(State *state) {
    state->x = 0.5f * (state->x + state->square / state->x);
    state->rounds++;
}

__global__ void is_far(State *state, cudaGraphConditionalHandle loop) {
    float off = state->x * state->x - state->square;
    cudaGraphSetConditional(loop, off > 1e-4f * state->square || off < -1e-4f * state->square);
}

__global__ void is_odd(State *state, cudaGraphConditionalHandle branch) { cudaGraphSetConditional(branch, state->rounds % 2); }

__global__ void sign(State *state, float factor) { state->x *= factor; }

__global__ void which_of(State *state, cudaGraphConditionalHandle choice) { cudaGraphSetConditional(choice, state->which); }

__global__ void mark(State *state, unsigned digit) { state->trace = state->trace * 10 + digit; }

static cudaStream_t stream, inside;

// A node with a condition behind what `stream` has captured; and what is captured next comes behind it.
static std::vector<cudaGraph_t> condition(cudaGraphConditionalHandle handle, cudaGraphConditionalNodeType type, unsigned size) {
    cudaStreamCaptureStatus status;
    cudaGraph_t graph;
    const cudaGraphNode_t *before;
    size_t count;
    unsigned long long id;
#if CUDART_VERSION >= 13000
    const cudaGraphEdgeData *edges;
    CHECK(cudaStreamGetCaptureInfo(stream, &status, &id, &graph, &before, &edges, &count));
#else
    CHECK(cudaStreamGetCaptureInfo_v2(stream, &status, &id, &graph, &before, &count));
#endif
    cudaGraphNodeParams parameters = {};
    parameters.type = cudaGraphNodeTypeConditional;
    parameters.conditional.handle = handle;
    parameters.conditional.type = type;
    parameters.conditional.size = size;
    cudaGraphNode_t node;
#if CUDART_VERSION >= 13000
    CHECK(cudaGraphAddNode(&node, graph, before, edges, count, &parameters));
    CHECK(cudaStreamUpdateCaptureDependencies(stream, &node, nullptr, 1, cudaStreamSetCaptureDependencies));
#else
    CHECK(cudaGraphAddNode(&node, graph, before, count, &parameters));
    CHECK(cudaStreamUpdateCaptureDependencies(stream, &node, 1, cudaStreamSetCaptureDependencies));
#endif
    return std::vector<cudaGraph_t>(parameters.conditional.phGraph_out, parameters.conditional.phGraph_out + size);
}

static cudaGraphConditionalHandle handle(unsigned value) {
    cudaStreamCaptureStatus status;
    cudaGraph_t graph;
    unsigned long long id;
#if CUDART_VERSION >= 13000
    CHECK(cudaStreamGetCaptureInfo(stream, &status, &id, &graph));
#else
    CHECK(cudaStreamGetCaptureInfo_v2(stream, &status, &id, &graph));
#endif
    cudaGraphConditionalHandle made;
    CHECK(cudaGraphConditionalHandleCreate(&made, graph, value, cudaGraphCondAssignDefault));
    return made;
}

template <typename Work> static void body(cudaGraph_t graph, Work work) {
    CHECK(cudaStreamBeginCaptureToGraph(inside, graph, nullptr, nullptr, 0, cudaStreamCaptureModeGlobal));
    work();
    CHECK(cudaGetLastError());
    CHECK(cudaStreamEndCapture(inside, &graph));
}

static State expected_of(State state) {
    for (;;) {
        state.x = 0.5f * (state.x + state.square / state.x);
        state.rounds++;
        if (std::fabs(state.x * state.x - state.square) <= 1e-4f * state.square) break;
    }
    state.x *= state.rounds % 2 ? -1.0f : 2.0f;
    if (state.which < 3) state.trace = state.trace * 10 + 4 + state.which;
    state.trace = state.trace * 10 + 9;
    return state;
}

int main() {
    State *host, *state;
    int driver = 0;
    CHECK(cudaDriverGetVersion(&driver));
    // Else came with this one, and so did switches.
    if (driver < 12080) return pass("is not for a driver of CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    CHECK(cudaMallocHost((void **)&host, sizeof(State)));
    CHECK(cudaMalloc((void **)&state, sizeof(State)));
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&inside, cudaStreamNonBlocking));
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemcpyAsync(state, host, sizeof(State), cudaMemcpyHostToDevice, stream));
    auto loop = handle(1), branch = handle(0), choice = handle(0);
    body(condition(loop, cudaGraphCondTypeWhile, 1)[0], [&] {
        newton<<<1, 1, 0, inside>>>(state);
        is_far<<<1, 1, 0, inside>>>(state, loop);
    });
    is_odd<<<1, 1, 0, stream>>>(state, branch);
    auto signs = condition(branch, cudaGraphCondTypeIf, 2);
    body(signs[0], [&] { sign<<<1, 1, 0, inside>>>(state, -1.0f); });
    body(signs[1], [&] { sign<<<1, 1, 0, inside>>>(state, 2.0f); });
    which_of<<<1, 1, 0, stream>>>(state, choice);
    auto marks = condition(choice, cudaGraphCondTypeSwitch, 3);
    for (unsigned which = 0; which < 3; which++) body(marks[which], [&] { mark<<<1, 1, 0, inside>>>(state, 4 + which); });
    mark<<<1, 1, 0, stream>>>(state, 9u);
    CHECK(cudaMemcpyAsync(host, state, sizeof(State), cudaMemcpyDeviceToHost, stream));
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t exec;
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    unsigned rounds = 0;
    for (unsigned launch = 0; launch < 12; launch++) {
        State before = {1.0f, 2.0f + 37.5f * launch * launch, 0, launch % 4, 1};
        *host = before;
        CHECK(cudaGraphLaunch(exec, stream));
        CHECK(cudaStreamSynchronize(stream));
        State expected = expected_of(before);
        REQUIRE(host->rounds == expected.rounds && host->trace == expected.trace, "launch %u: %u rounds and trace %u, expected %u and %u", launch,
                host->rounds, host->trace, expected.rounds, expected.trace);
        REQUIRE(std::fabs(host->x - expected.x) <= 1e-5f * std::fabs(expected.x), "launch %u: %g, expected %g", launch, host->x, expected.x);
        rounds += host->rounds;
    }
    CHECK(cudaGraphExecDestroy(exec));
    return pass("%u rounds in 12 launches", rounds);
}
