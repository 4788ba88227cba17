// Graphs with conditions: which bodies a launch does, and how often; what may be made of such graphs, and what may not.
#include "driver.h"

const char *const PROGRAM = "surface_conditional";

// As frameworks ship it: the function of the device runtime is declared, without an end, and nothing is linked with the module.
static const char *const KERNELS = R"(
.version 7.0
.target sm_70
.address_size 64
.extern .func cudaGraphSetConditional
(
    .param .b64 cudaGraphSetConditional_param_0,
    .param .b32 cudaGraphSetConditional_param_1
)

.visible .entry append(.param .u64 at, .param .u32 digit)
{
    .reg .b64 %a; .reg .b32 %v, %d;
    ld.param.u64 %a, [at];
    ld.param.u32 %d, [digit];
    cvta.to.global.u64 %a, %a;
    ld.global.u32 %v, [%a];
    mad.lo.u32 %v, %v, 10, %d;
    st.global.u32 [%a], %v;
    ret;
}
.visible .entry choose(.param .u64 handle, .param .u64 from)
{
    .reg .b64 %h, %f; .reg .b32 %v;
    ld.param.u64 %h, [handle];
    ld.param.u64 %f, [from];
    cvta.to.global.u64 %f, %f;
    ld.global.u32 %v, [%f];
    { .param .b64 param0; .param .b32 param1;
      st.param.b64 [param0+0], %h;
      st.param.b32 [param1+0], %v;
      call.uni cudaGraphSetConditional, (param0, param1); }
    ret;
}
.visible .entry count_down(.param .u64 handle, .param .u64 left)
{
    .reg .b64 %h, %l; .reg .b32 %v;
    ld.param.u64 %h, [handle];
    ld.param.u64 %l, [left];
    cvta.to.global.u64 %l, %l;
    ld.global.u32 %v, [%l];
    sub.u32 %v, %v, 1;
    st.global.u32 [%l], %v;
    { .param .b64 param0; .param .b32 param1;
      st.param.b64 [param0+0], %h;
      st.param.b32 [param1+0], %v;
      call.uni cudaGraphSetConditional, (param0, param1); }
    ret;
}
)";

using Nodes = std::vector<CUgraphNode>;

static CUcontext context;
static CUfunction append, choose, count_down;
static CUstream stream, other;
static CUdeviceptr at, word, left, copied;

static void store(CUdeviceptr place, unsigned value) {
    OK("cuMemsetD32_v2", place, value, (size_t)1);
    OK("cuCtxSynchronize");
}

static unsigned value(CUdeviceptr place) {
    unsigned got = 0;
    OK("cuMemcpyDtoH_v2", (void *)&got, place, (size_t)4);
    return got;
}

static CUgraph empty_graph() {
    CUgraph graph = nullptr;
    OK("cuGraphCreate", &graph, 0u);
    return graph;
}

static CUDA_KERNEL_NODE_PARAMS kernel(CUfunction function, void **parameters) {
    CUDA_KERNEL_NODE_PARAMS node = {};
    node.func = function;
    node.gridDimX = node.gridDimY = node.gridDimZ = node.blockDimX = node.blockDimY = node.blockDimZ = 1;
    node.kernelParams = parameters;
    return node;
}

static CUgraphNode add_kernel(CUgraph graph, CUfunction function, void **parameters, Nodes before) {
    CUgraphNode node = nullptr;
    auto described = kernel(function, parameters);
    OK("cuGraphAddKernelNode_v2", &node, graph, (const CUgraphNode *)before.data(), before.size(),
       (const CUDA_KERNEL_NODE_PARAMS *)&described);
    return node;
}

static CUgraphNode add_digit(CUgraph graph, unsigned digit, Nodes before = {}) {
    void *parameters[] = {&at, &digit};
    return add_kernel(graph, append, parameters, before);
}

static CUgraphNode add_choice(CUgraph graph, CUgraphConditionalHandle handle, Nodes before = {}) {
    void *parameters[] = {&handle, &word};
    return add_kernel(graph, choose, parameters, before);
}

static CUgraphNode add_count(CUgraph graph, CUgraphConditionalHandle handle, CUdeviceptr counter, Nodes before = {}) {
    void *parameters[] = {&handle, &counter};
    return add_kernel(graph, count_down, parameters, before);
}

static CUgraphConditionalHandle handle_of(CUgraph graph, unsigned value = 0, unsigned flags = CU_GRAPH_COND_ASSIGN_DEFAULT) {
    CUgraphConditionalHandle handle = 0;
    OK("cuGraphConditionalHandleCreate", &handle, graph, context, value, flags);
    REQUIRE(handle);
    return handle;
}

static CUgraphNodeParams described(CUgraphConditionalHandle handle, CUgraphConditionalNodeType type, unsigned size) {
    CUgraphNodeParams parameters = {};
    parameters.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
    parameters.conditional.handle = handle;
    parameters.conditional.type = type;
    parameters.conditional.size = size;
    parameters.conditional.ctx = context;
    return parameters;
}

static CUresult try_to_add(CUgraph graph, CUgraphNodeParams *parameters, Nodes before = {}) {
    CUgraphNode node = nullptr;
    return call("cuGraphAddNode_v2", &node, graph, (const CUgraphNode *)before.data(), (const CUgraphEdgeData *)0, before.size(), parameters);
}

struct Condition {
    CUgraphNode node = nullptr;
    std::vector<CUgraph> bodies;
};

static Condition add_condition(CUgraph graph, CUgraphConditionalHandle handle, CUgraphConditionalNodeType type, unsigned size, Nodes before = {}) {
    Condition condition;
    auto parameters = described(handle, type, size);
    OK("cuGraphAddNode_v2", &condition.node, graph, (const CUgraphNode *)before.data(), (const CUgraphEdgeData *)0, before.size(), &parameters);
    REQUIRE(condition.node && parameters.conditional.phGraph_out);
    for (unsigned body = 0; body < size; body++) {
        REQUIRE(parameters.conditional.phGraph_out[body]);
        condition.bodies.push_back(parameters.conditional.phGraph_out[body]);
    }
    return condition;
}

static CUgraphExec instantiate(CUgraph graph) {
    CUgraphExec exec = nullptr;
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    return exec;
}

// What a launch of the graph makes of zero, with a value for those who choose.
static unsigned launched(CUgraphExec exec, unsigned chosen = 0, unsigned times = 0) {
    store(at, 0), store(word, chosen), store(left, times);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    return value(at);
}

static void end(CUgraphExec exec, CUgraph graph) {
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
}

static void branches() {
    CUgraph graph = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph);
    CUgraphNode first = add_choice(graph, handle, {add_digit(graph, 1)});
    Condition one = add_condition(graph, handle, CU_GRAPH_COND_TYPE_IF, 1, {first});
    add_digit(one.bodies[0], 3, {add_digit(one.bodies[0], 2)});
    add_digit(graph, 4, {one.node});
    CUgraphExec exec = instantiate(graph);
    for (unsigned chosen : {1u, 0u, 0u, 77u}) REQUIRE(launched(exec, chosen) == (chosen ? 1234 : 14));
    end(exec, graph);

    // With what is done otherwise, and without a kernel that sets the condition.
    for (unsigned value : {0u, 1u}) {
        graph = empty_graph();
        Condition two = add_condition(graph, handle_of(graph, value), CU_GRAPH_COND_TYPE_IF, 2);
        add_digit(two.bodies[0], 5), add_digit(two.bodies[1], 6);
        exec = instantiate(graph);
        for (int launch = 0; launch < 3; launch++) REQUIRE(launched(exec) == (value ? 5 : 6));
        end(exec, graph);
    }
}

static void loops() {
    CUgraph graph = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph, 1);
    Condition loop = add_condition(graph, handle, CU_GRAPH_COND_TYPE_WHILE, 1, {add_digit(graph, 1)});
    add_digit(loop.bodies[0], 7, {add_count(loop.bodies[0], handle, left)});
    add_digit(graph, 2, {loop.node});
    CUgraphExec exec = instantiate(graph);
    REQUIRE(launched(exec, 0, 3) == 17772);
    // The default is assigned again, although the condition was zero at the end.
    REQUIRE(launched(exec, 0, 1) == 172);
    // Several launches that wait for each other.
    store(at, 0), store(left, 1);
    OK("cuGraphLaunch", exec, stream);
    OK("cuMemsetD32Async", left, 2u, (size_t)1, stream);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(value(at) == 1721772);
    // What is launched lives on without the graph.
    OK("cuGraphDestroy", graph);
    REQUIRE(launched(exec, 0, 2) == 1772);
    OK("cuGraphExecDestroy", exec);
}

static void switches() {
    CUgraph graph = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph);
    Condition chosen = add_condition(graph, handle, CU_GRAPH_COND_TYPE_SWITCH, 3, {add_choice(graph, handle)});
    add_digit(chosen.bodies[0], 4), add_digit(chosen.bodies[2], 6);
    // The one between has something that leaves no digit.
    CUgraphNode node = nullptr;
    OK("cuGraphAddEmptyNode", &node, chosen.bodies[1], (const CUgraphNode *)0, (size_t)0);
    CUgraphExec exec = instantiate(graph);
    const unsigned expected[] = {4, 0, 6, 0};
    for (unsigned value : {2u, 0u, 1u, 3u}) REQUIRE(launched(exec, value) == expected[value]);
    end(exec, graph);
}

// Conditions in bodies: made for the outermost graph and for the body. In each round the inner loop counts from two.
static void nested() {
    for (bool of_body : {false, true}) {
        CUgraph graph = empty_graph();
        CUgraphConditionalHandle outer = handle_of(graph, 1);
        Condition loop = add_condition(graph, outer, CU_GRAPH_COND_TYPE_WHILE, 1);
        CUgraph body = loop.bodies[0];
        CUgraphConditionalHandle inner = handle_of(of_body ? body : graph, 1);
        CUgraphNode filled = nullptr, set = nullptr;
        CUDA_MEMSET_NODE_PARAMS_v1 fill = {};
        fill.dst = copied, fill.value = 2, fill.elementSize = 4, fill.width = fill.height = 1;
        OK("cuGraphAddMemsetNode", &filled, body, (const CUgraphNode *)0, (size_t)0, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
        // Whoever the default is assigned for, here it is not zero.
        void *parameters[] = {&inner, &copied};
        set = add_kernel(body, choose, parameters, {filled});
        Condition again = add_condition(body, inner, CU_GRAPH_COND_TYPE_WHILE, 1, {set});
        add_digit(again.bodies[0], 3, {add_count(again.bodies[0], inner, copied)});
        add_count(body, outer, left, {add_digit(body, 5, {again.node})});
        CUgraphExec exec = instantiate(graph);
        REQUIRE(launched(exec, 0, 2) == 335335);
        REQUIRE(launched(exec, 0, 1) == 335);
        end(exec, graph);
    }
}

// Graphs, copies and fills in a body.
static void bodies() {
    CUgraph inner = empty_graph(), graph = empty_graph();
    add_digit(inner, 2, {add_digit(inner, 1)});
    Condition one = add_condition(graph, handle_of(graph, 1), CU_GRAPH_COND_TYPE_IF, 1);
    CUgraph body = one.bodies[0];
    CUgraphNode child = nullptr, copy = nullptr, empty = nullptr;
    OK("cuGraphAddChildGraphNode", &child, body, (const CUgraphNode *)0, (size_t)0, inner);
    CUDA_MEMCPY3D row = {};
    row.srcMemoryType = row.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    row.srcDevice = at, row.dstDevice = copied, row.WidthInBytes = 4, row.Height = row.Depth = 1;
    OK("cuGraphAddMemcpyNode", &copy, body, (const CUgraphNode *)&child, (size_t)1, (const CUDA_MEMCPY3D *)&row, context);
    OK("cuGraphAddEmptyNode", &empty, body, (const CUgraphNode *)&copy, (size_t)1);
    add_digit(body, 3, {empty});
    CUgraphExec exec = instantiate(graph);
    store(copied, 0);
    REQUIRE(launched(exec) == 123 && value(copied) == 12);
    // Nothing else may be there.
    CUDA_HOST_NODE_PARAMS_v1 function = {};
    function.fn = [](void *) {};
    CUgraphNode node = nullptr;
    FAILS("cuGraphAddHostNode", &node, body, (const CUgraphNode *)0, (size_t)0, (const CUDA_HOST_NODE_PARAMS_v1 *)&function);
    CUevent event = nullptr;
    OK("cuEventCreate", &event, 0u);
    FAILS("cuGraphAddEventRecordNode", &node, body, (const CUgraphNode *)0, (size_t)0, event);
    OK("cuEventDestroy_v2", event);
    // Memory of its own is told when something launchable is to be made of it.
    if (has("cuMemAllocAsync")) {
        CUgraph with_memory = empty_graph(), ended = nullptr;
        Condition other = add_condition(with_memory, handle_of(with_memory, 1), CU_GRAPH_COND_TYPE_IF, 1);
        CUdeviceptr memory = 0;
        CUgraphExec none = nullptr;
        OK("cuStreamBeginCaptureToGraph", stream, other.bodies[0], (const CUgraphNode *)0, (const CUgraphEdgeData *)0, (size_t)0, CU_STREAM_CAPTURE_MODE_RELAXED);
        OK("cuMemAllocAsync", &memory, (size_t)64, stream);
        OK("cuMemFreeAsync", memory, stream);
        OK("cuStreamEndCapture", stream, &ended);
        REQUIRE(memory && ended == other.bodies[0]);
        FAILS("cuGraphInstantiateWithFlags", &none, with_memory, 0ull);
        OK("cuGraphDestroy", with_memory);
    }
    // It is the node's.
    FAILS("cuGraphDestroy", body);
    CUgraphExec alone = nullptr;
    FAILS("cuGraphInstantiateWithFlags", &alone, body, 0ull);
    OK("cuGraphDestroy", inner);
    end(exec, graph);
}

// As programs use it that capture: the condition between other work, also of the host's memory, and its body captured by another stream.
static void captured() {
    unsigned *host = nullptr;
    OK("cuMemHostAlloc", (void **)&host, (size_t)8, 0u);
    host[0] = 3, host[1] = 0;
    CUgraph graph = nullptr, same = nullptr;
    CUstreamCaptureStatus status;
    cuuint64_t id = 0;
    const CUgraphNode *before = nullptr;
    size_t count = 0;
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    OK("cuMemcpyHtoDAsync_v2", left, (const void *)&host[0], (size_t)4, stream);
    OK("cuMemsetD32Async", at, 1u, (size_t)1, stream);
    OK("cuStreamGetCaptureInfo_v2", stream, &status, &id, &graph, &before, &count);
    CUgraphConditionalHandle handle = handle_of(graph, 1);
    auto parameters = described(handle, CU_GRAPH_COND_TYPE_WHILE, 1);
    CUgraphNode node = nullptr;
    // cuda-python reads the edges, however plain they are.
    const CUgraphEdgeData *edges = nullptr;
    OK("cuStreamGetCaptureInfo_v3", stream, &status, &id, &graph, &before, &edges, &count);
    const CUgraphEdgeData plain = {};
    REQUIRE(count == 1 && edges && !std::memcmp(edges, &plain, sizeof plain));
    OK("cuGraphAddNode", &node, graph, before, count, &parameters);
    CUgraph body = parameters.conditional.phGraph_out[0];
    OK("cuStreamBeginCaptureToGraph", other, body, (const CUgraphNode *)0, (const CUgraphEdgeData *)0, (size_t)0,
       CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    unsigned digit = 2;
    void *digits[] = {&at, &digit}, *counts[] = {&handle, &left};
    OK("cuLaunchKernel", append, 1u, 1u, 1u, 1u, 1u, 1u, 0u, other, (void **)digits, (void **)0);
    OK("cuMemcpyDtoDAsync_v2", copied, at, (size_t)4, other);
    OK("cuLaunchKernel", count_down, 1u, 1u, 1u, 1u, 1u, 1u, 0u, other, (void **)counts, (void **)0);
    OK("cuStreamEndCapture", other, &same);
    REQUIRE(same == body);
    OK("cuStreamUpdateCaptureDependencies", stream, &node, (size_t)1, (unsigned)CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    digit = 3;
    OK("cuLaunchKernel", append, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)digits, (void **)0);
    OK("cuMemcpyDtoHAsync_v2", (void *)&host[1], at, (size_t)4, stream);
    OK("cuStreamEndCapture", stream, &same);
    REQUIRE(same == graph);
    CUgraphExec exec = instantiate(graph);
    for (unsigned times : {3u, 1u, 2u}) {
        host[0] = times;
        OK("cuGraphLaunch", exec, stream);
        OK("cuStreamSynchronize", stream);
        const unsigned expected[] = {0, 123, 1223, 12223};
        REQUIRE(host[1] == expected[times] && value(copied) == expected[times] / 10);
    }
    // A launch cannot be captured: the graph would be a child of another.
    OK("cuStreamBeginCapture_v2", other, CU_STREAM_CAPTURE_MODE_RELAXED);
    FAILS("cuGraphLaunch", exec, other);
    call("cuStreamEndCapture", other, &same);
    end(exec, graph);
    OK("cuMemFreeHost", (void *)host);
}

// What a driver elsewhere cannot choose around: it works, or is refused as a whole.
static void between() {
    static int calls = 0;
    CUgraph graph = empty_graph();
    Condition one = add_condition(graph, handle_of(graph, 1), CU_GRAPH_COND_TYPE_IF, 1);
    add_digit(one.bodies[0], 1);
    CUDA_HOST_NODE_PARAMS_v1 function = {};
    function.fn = [](void *) { calls++; };
    CUgraphNode host = nullptr;
    OK("cuGraphAddHostNode", &host, graph, (const CUgraphNode *)&one.node, (size_t)1, (const CUDA_HOST_NODE_PARAMS_v1 *)&function);
    Condition two = add_condition(graph, handle_of(graph, 1), CU_GRAPH_COND_TYPE_IF, 1, {host});
    add_digit(two.bodies[0], 2);
    CUgraphExec exec = nullptr;
    CUresult result = call("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    if (result == CUDA_SUCCESS) {
        REQUIRE(launched(exec) == 12 && calls == 1);
        OK("cuGraphExecDestroy", exec);
    } else {
        REQUIRE(result == CUDA_ERROR_NOT_SUPPORTED && !exec);
    }
    // Without what comes behind it, the function is only done later.
    OK("cuGraphDestroyNode", two.node);
    OK("cuGraphDestroy", graph);
    graph = empty_graph();
    one = add_condition(graph, handle_of(graph, 1), CU_GRAPH_COND_TYPE_IF, 1);
    add_digit(one.bodies[0], 3);
    OK("cuGraphAddHostNode", &host, graph, (const CUgraphNode *)&one.node, (size_t)1, (const CUDA_HOST_NODE_PARAMS_v1 *)&function);
    add_digit(graph, 4, {host});
    exec = instantiate(graph);
    calls = 0;
    REQUIRE(launched(exec) == 34 && calls == 1 && launched(exec) == 34 && calls == 2);
    end(exec, graph);
}

static void questions() {
    CUgraph graph = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph, 0, 0);
    Condition chosen = add_condition(graph, handle, CU_GRAPH_COND_TYPE_SWITCH, 4);
    CUgraphNodeType type;
    OK("cuGraphNodeGetType", chosen.node, &type);
    REQUIRE(type == CU_GRAPH_NODE_TYPE_CONDITIONAL);
    if (has("cuGraphNodeGetParams")) {
        CUgraphNodeParams told = {};
        OK("cuGraphNodeGetParams", chosen.node, &told);
        REQUIRE(told.type == CU_GRAPH_NODE_TYPE_CONDITIONAL && told.conditional.handle == handle);
        REQUIRE(told.conditional.type == CU_GRAPH_COND_TYPE_SWITCH && told.conditional.size == 4 && told.conditional.ctx == context);
        for (unsigned body = 0; body < 4; body++) REQUIRE(told.conditional.phGraph_out[body] == chosen.bodies[body]);
        FAILS("cuGraphNodeSetParams", chosen.node, &told);
    }
    CUgraphNode inside = add_digit(chosen.bodies[3], 1);
    if (has("cuGraphNodeGetContainingGraph")) {
        CUgraph around = nullptr;
        OK("cuGraphNodeGetContainingGraph", inside, &around);
        REQUIRE(around == chosen.bodies[3]);
    }
    char path[] = "/tmp/surface_conditional_XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0);
    OK("cuGraphDebugDotPrint", graph, (const char *)path, (unsigned)CU_GRAPH_DEBUG_DOT_FLAGS_CONDITIONAL_NODE_PARAMS);
    char text[4096] = {};
    REQUIRE(read(file, text, sizeof text - 1) > 0 && std::strstr(text, "switch"));
    close(file);
    unlink(path);
    OK("cuGraphDestroy", graph);
}

// Whoever has a condition is there once.
static void restrictions() {
    CUgraph graph = empty_graph(), copy = nullptr, around = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph, 1);
    CUgraphNode node = nullptr;
    CUgraphExec exec = nullptr, second = nullptr;
    // A handle that no node has.
    CUDA_GRAPH_INSTANTIATE_PARAMS how = {};
    FAILS("cuGraphInstantiateWithParams", &exec, graph, &how);
    REQUIRE(how.result_out == CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED);
    // What no node can be made of.
    auto described_as = [&](CUgraphConditionalNodeType type, unsigned size) { return described(handle, type, size); };
    for (auto wrong : {described_as(CU_GRAPH_COND_TYPE_IF, 0), described_as(CU_GRAPH_COND_TYPE_IF, 3), described_as(CU_GRAPH_COND_TYPE_WHILE, 2),
                       described_as(CU_GRAPH_COND_TYPE_SWITCH, 0), described_as((CUgraphConditionalNodeType)3, 1),
                       described(handle + 8, CU_GRAPH_COND_TYPE_IF, 1)})
        REQUIRE(try_to_add(graph, &wrong) == CUDA_ERROR_INVALID_VALUE);
    auto good = described(handle, CU_GRAPH_COND_TYPE_IF, 1);
    // A condition is of the graph of its handle.
    REQUIRE(try_to_add(around, &good) == CUDA_ERROR_INVALID_VALUE);
    Condition one = add_condition(graph, handle, CU_GRAPH_COND_TYPE_IF, 1);
    REQUIRE(try_to_add(graph, &good) == CUDA_ERROR_INVALID_VALUE);
    add_digit(one.bodies[0], 1);
    FAILS("cuGraphClone", &copy, graph);
    FAILS("cuGraphAddChildGraphNode", &node, around, (const CUgraphNode *)0, (size_t)0, graph);
    exec = instantiate(graph);
    FAILS("cuGraphInstantiateWithFlags", &second, graph, 0ull);
    REQUIRE(launched(exec) == 1);
    OK("cuGraphExecDestroy", exec);
    // Another one, of what the graph has become meanwhile.
    add_digit(one.bodies[0], 3, {add_digit(one.bodies[0], 2)});
    CUgraphNode last = add_digit(graph, 4, {one.node});
    exec = instantiate(graph);
    unsigned result = launched(exec);
    // The first digit of the body comes anywhere between the others.
    REQUIRE(result == 1234 || result == 2134 || result == 2314);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroyNode", last);
    // What is gone takes its bodies along, and the handle is free for another.
    OK("cuGraphDestroyNode", one.node);
    size_t nodes = 0;
    FAILS("cuGraphGetNodes", one.bodies[0], (CUgraphNode *)0, &nodes);
    Condition loop = add_condition(graph, handle, CU_GRAPH_COND_TYPE_WHILE, 1);
    add_digit(loop.bodies[0], 8, {add_count(loop.bodies[0], handle, left)});
    exec = instantiate(graph);
    REQUIRE(launched(exec, 0, 2) == 88);
    end(exec, graph);
    OK("cuGraphDestroy", around);
}

// The shape that is updated: a loop that appends a digit.
struct Shape {
    CUgraph graph = empty_graph();
    CUgraphConditionalHandle handle = handle_of(graph, 1);
    Condition loop = add_condition(graph, handle, CU_GRAPH_COND_TYPE_WHILE, 1);
    CUgraphNode count = add_count(loop.bodies[0], handle, left), digit;
    explicit Shape(unsigned digit) : digit(add_digit(loop.bodies[0], digit, {count})) {}
};

static void updates() {
    Shape one(1);
    CUgraphExec exec = instantiate(one.graph);
    REQUIRE(launched(exec, 0, 2) == 11);
    // What a node of a body does.
    unsigned digit = 2;
    void *parameters[] = {&at, &digit};
    auto changed = kernel(append, parameters);
    OK("cuGraphExecKernelNodeSetParams_v2", exec, one.digit, (const CUDA_KERNEL_NODE_PARAMS *)&changed);
    REQUIRE(launched(exec, 0, 3) == 222);
    unsigned is_enabled = 7;
    OK("cuGraphNodeSetEnabled", exec, one.digit, 0u);
    OK("cuGraphNodeGetEnabled", exec, one.digit, &is_enabled);
    REQUIRE(is_enabled == 0 && launched(exec, 0, 3) == 0);
    OK("cuGraphNodeSetEnabled", exec, one.digit, 1u);
    // All of another graph of the same shape, with a condition of its own.
    Shape two(3);
    CUgraphExecUpdateResultInfo info = {};
    OK("cuGraphExecUpdate_v2", exec, two.graph, &info);
    REQUIRE(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS && launched(exec, 0, 2) == 33);
    // The node is still that of the first graph.
    digit = 4;
    OK("cuGraphExecKernelNodeSetParams_v2", exec, one.digit, (const CUDA_KERNEL_NODE_PARAMS *)&changed);
    REQUIRE(launched(exec, 0, 2) == 44);
    add_digit(two.loop.bodies[0], 5, {two.digit});
    GIVES(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "cuGraphExecUpdate_v2", exec, two.graph, &info);
    REQUIRE(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED && launched(exec, 0, 1) == 4);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", one.graph);
    OK("cuGraphDestroy", two.graph);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, 0);
    CUmodule module = nullptr;
    OK("cuModuleLoadData", &module, (const void *)KERNELS);
    OK("cuModuleGetFunction", &append, module, "append");
    OK("cuModuleGetFunction", &choose, module, "choose");
    OK("cuModuleGetFunction", &count_down, module, "count_down");
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    for (CUdeviceptr *place : {&at, &word, &left, &copied}) OK("cuMemAlloc_v2", place, (size_t)4);
    branches();
    loops();
    switches();
    nested();
    bodies();
    captured();
    between();
    questions();
    restrictions();
    updates();
    OK("cuCtxDestroy_v2", context);
    return pass("conditions choose bodies of graphs");
}
