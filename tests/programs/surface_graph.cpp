// Graphs and stream capture: each function is checked by what a launch of the graph does, or by what is told of it.
#include <atomic>
#include <thread>

#include "driver.h"

const char *const PROGRAM = "surface_graph";

// Appends a decimal digit to a number: what has run, and in which order.
static const char *const APPEND = R"(
.version 7.0
.target sm_70
.address_size 64
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
)";

static CUcontext context;
static CUfunction function;
static CUstream stream, other;
static CUdeviceptr at, copy;

static void clear() {
    OK("cuMemsetD32_v2", at, 0u, (size_t)1);
    OK("cuMemsetD32_v2", copy, 0u, (size_t)1);
    OK("cuCtxSynchronize");
}

static unsigned value(CUdeviceptr place) {
    unsigned got = 0;
    OK("cuMemcpyDtoH_v2", (void *)&got, place, (size_t)4);
    return got;
}

// What appends a digit. The parameters are the node's own once it is made.
struct Digit {
    CUdeviceptr place = at;
    unsigned digit;
    void *parameters[2] = {&place, &digit};
    explicit Digit(unsigned digit) : digit(digit) {}
    CUDA_KERNEL_NODE_PARAMS_v1 old() {
        CUDA_KERNEL_NODE_PARAMS_v1 node = {};
        node.func = function;
        node.gridDimX = node.gridDimY = node.gridDimZ = node.blockDimX = node.blockDimY = node.blockDimZ = 1;
        node.kernelParams = parameters;
        return node;
    }
    CUDA_KERNEL_NODE_PARAMS node() {
        CUDA_KERNEL_NODE_PARAMS node = {};
        node.func = function;
        node.gridDimX = node.gridDimY = node.gridDimZ = node.blockDimX = node.blockDimY = node.blockDimZ = 1;
        node.kernelParams = parameters;
        return node;
    }
    void launch(CUstream in) {
        OK("cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, in, (void **)parameters, (void **)0);
    }
};

using Nodes = std::vector<CUgraphNode>;

static CUgraph empty_graph() {
    CUgraph graph = nullptr;
    OK("cuGraphCreate", &graph, 0u);
    REQUIRE(graph);
    return graph;
}

static CUgraphNode add_digit(CUgraph graph, unsigned digit, Nodes before = {}) {
    CUgraphNode node = nullptr;
    auto parameters = Digit(digit).node();
    Digit own(digit);
    parameters.kernelParams = own.parameters;
    OK("cuGraphAddKernelNode_v2", &node, graph, (const CUgraphNode *)before.data(), before.size(), (const CUDA_KERNEL_NODE_PARAMS *)&parameters);
    REQUIRE(node);
    return node;
}

static CUgraphExec instantiate(CUgraph graph) {
    CUgraphExec exec = nullptr;
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    REQUIRE(exec);
    return exec;
}

// What a launch of the graph makes of zero.
static unsigned launched(CUgraphExec exec) {
    clear();
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    return value(at);
}

// What a graph does.
static unsigned does(CUgraph graph) {
    CUgraphExec exec = instantiate(graph);
    unsigned result = launched(exec);
    OK("cuGraphExecDestroy", exec);
    return result;
}

static Nodes nodes_of(CUgraph graph) {
    size_t count = 77;
    OK("cuGraphGetNodes", graph, (CUgraphNode *)0, &count);
    Nodes nodes(count);
    OK("cuGraphGetNodes", graph, nodes.data(), &count);
    REQUIRE(count == nodes.size());
    return nodes;
}

static CUDA_MEMCPY3D row(CUmemorytype from, const void *host_from, CUdeviceptr device_from, CUmemorytype to, void *host_to, CUdeviceptr device_to) {
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = from;
    copy.srcHost = host_from;
    copy.srcDevice = device_from;
    copy.dstMemoryType = to;
    copy.dstHost = host_to;
    copy.dstDevice = device_to;
    copy.WidthInBytes = 4;
    copy.Height = copy.Depth = 1;
    return copy;
}

static CUDA_MEMCPY3D on_device(CUdeviceptr to, CUdeviceptr from) { return row(CU_MEMORYTYPE_DEVICE, nullptr, from, CU_MEMORYTYPE_DEVICE, nullptr, to); }

static CUDA_MEMSET_NODE_PARAMS_v1 filled(CUdeviceptr place, unsigned value) {
    CUDA_MEMSET_NODE_PARAMS_v1 fill = {};
    fill.dst = place;
    fill.value = value;
    fill.elementSize = 4;
    fill.width = fill.height = 1;
    return fill;
}

static std::atomic<unsigned> calls;
static void add_to_calls(void *amount) { calls += (unsigned)(uintptr_t)amount; }

static CUDA_HOST_NODE_PARAMS_v1 calling(unsigned amount) {
    CUDA_HOST_NODE_PARAMS_v1 host = {};
    host.fn = add_to_calls;
    host.userData = (void *)(uintptr_t)amount;
    return host;
}

static const CUgraphNode *const NONE = nullptr;

// One graph with a node of each kind, one behind the other, and everything that is told of and changed in it.
static void kinds() {
    CUgraph graph = empty_graph();
    Nodes nodes(7);
    CUDA_MEMSET_NODE_PARAMS_v1 fill = filled(at, 4);
    OK("cuGraphAddMemsetNode", &nodes[0], graph, NONE, (size_t)0, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
    Digit one(1);
    auto old = one.old();
    OK("cuGraphAddKernelNode", &nodes[1], graph, (const CUgraphNode *)&nodes[0], (size_t)1, (const CUDA_KERNEL_NODE_PARAMS_v1 *)&old);
    Digit two(2);
    auto kernel = two.node();
    OK("cuGraphAddKernelNode_v2", &nodes[2], graph, (const CUgraphNode *)&nodes[1], (size_t)1, (const CUDA_KERNEL_NODE_PARAMS *)&kernel);
    // The parameters were copied.
    one.digit = two.digit = 9;
    CUDA_HOST_NODE_PARAMS_v1 host = calling(3);
    OK("cuGraphAddHostNode", &nodes[3], graph, (const CUgraphNode *)&nodes[2], (size_t)1, (const CUDA_HOST_NODE_PARAMS_v1 *)&host);
    OK("cuGraphAddEmptyNode", &nodes[4], graph, (const CUgraphNode *)&nodes[3], (size_t)1);
    CUDA_MEMCPY3D moved = on_device(copy, at);
    OK("cuGraphAddMemcpyNode", &nodes[5], graph, (const CUgraphNode *)&nodes[4], (size_t)1, (const CUDA_MEMCPY3D *)&moved, context);
    CUgraph inner = empty_graph();
    CUgraphNode innermost = add_digit(inner, 3);
    OK("cuGraphAddChildGraphNode", &nodes[6], graph, (const CUgraphNode *)&nodes[5], (size_t)1, inner);
    const CUgraphNodeType types[] = {CU_GRAPH_NODE_TYPE_MEMSET, CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_HOST,
                                     CU_GRAPH_NODE_TYPE_EMPTY,  CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_GRAPH};
    for (size_t i = 0; i < nodes.size(); i++) {
        auto type = (CUgraphNodeType)77;
        OK("cuGraphNodeGetType", nodes[i], &type);
        REQUIRE(nodes[i] && type == types[i]);
    }
    // The graph in it is a copy, which can be changed where it is.
    auto ninth = Digit(9), seventh = Digit(7);
    auto nine = ninth.node(), seven = seventh.node();
    OK("cuGraphKernelNodeSetParams_v2", innermost, (const CUDA_KERNEL_NODE_PARAMS *)&nine);
    CUgraph copied = nullptr;
    OK("cuGraphChildGraphNodeGetGraph", nodes[6], &copied);
    REQUIRE(copied && copied != inner);
    CUgraphExec exec = instantiate(graph);
    calls = 0;
    REQUIRE(launched(exec) == 4123 && value(copy) == 412 && calls == 3);
    REQUIRE(launched(exec) == 4123 && value(copy) == 412 && calls == 6);
    OK("cuGraphKernelNodeSetParams_v2", nodes_of(copied)[0], (const CUDA_KERNEL_NODE_PARAMS *)&seven);
    REQUIRE(launched(exec) == 4123);
    REQUIRE(does(graph) == 4127);

    // What a launchable graph is told anew.
    CUDA_MEMSET_NODE_PARAMS_v1 fill_5 = filled(at, 5);
    OK("cuGraphExecMemsetNodeSetParams", exec, nodes[0], (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill_5, context);
    Digit six(6);
    auto old_six = six.old();
    OK("cuGraphExecKernelNodeSetParams", exec, nodes[1], (const CUDA_KERNEL_NODE_PARAMS_v1 *)&old_six);
    OK("cuGraphExecKernelNodeSetParams_v2", exec, nodes[2], (const CUDA_KERNEL_NODE_PARAMS *)&nine);
    CUDA_HOST_NODE_PARAMS_v1 host_100 = calling(100);
    OK("cuGraphExecHostNodeSetParams", exec, nodes[3], (const CUDA_HOST_NODE_PARAMS_v1 *)&host_100);
    calls = 0;
    REQUIRE(launched(exec) == 5693 && value(copy) == 569 && calls == 100);
    OK("cuGraphExecChildGraphNodeSetParams", exec, nodes[6], inner);
    REQUIRE(launched(exec) == 5699);
    CUDA_MEMCPY3D back = on_device(at, copy);
    OK("cuGraphExecMemcpyNodeSetParams", exec, nodes[5], (const CUDA_MEMCPY3D *)&back, context);
    REQUIRE(launched(exec) == 9);
    CUgraphNodeParams any = {};
    any.type = CU_GRAPH_NODE_TYPE_MEMCPY;
    any.memcpy.copyParams = moved;
    OK("cuGraphExecNodeSetParams", exec, nodes[5], &any);
    REQUIRE(launched(exec) == 5699 && value(copy) == 569);
    // A node of another kind, and one of another graph, are not changed so.
    FAILS("cuGraphExecHostNodeSetParams", exec, nodes[4], (const CUDA_HOST_NODE_PARAMS_v1 *)&host);
    FAILS("cuGraphExecKernelNodeSetParams_v2", exec, innermost, (const CUDA_KERNEL_NODE_PARAMS *)&nine);
    unsigned enabled = 77;
    OK("cuGraphNodeGetEnabled", exec, nodes[2], &enabled);
    REQUIRE(enabled == 1);
    OK("cuGraphNodeSetEnabled", exec, nodes[2], 0u);
    OK("cuGraphNodeGetEnabled", exec, nodes[2], &enabled);
    REQUIRE(enabled == 0 && launched(exec) == 569);

    // What the graph's nodes do: as it was made, and changed.
    CUDA_KERNEL_NODE_PARAMS_v1 got_old = {};
    OK("cuGraphKernelNodeGetParams", nodes[1], &got_old);
    REQUIRE(got_old.func && got_old.gridDimX == 1 && *(unsigned *)got_old.kernelParams[1] == 1);
    CUDA_KERNEL_NODE_PARAMS got = {};
    OK("cuGraphKernelNodeGetParams_v2", nodes[2], &got);
    REQUIRE((got.func || got.kern) && got.blockDimZ == 1 && *(unsigned *)got.kernelParams[1] == 2);
    CUDA_MEMSET_NODE_PARAMS_v1 got_fill = {};
    OK("cuGraphMemsetNodeGetParams", nodes[0], &got_fill);
    REQUIRE(got_fill.dst == at && got_fill.value == 4 && got_fill.elementSize == 4);
    CUDA_MEMCPY3D got_copy = {};
    OK("cuGraphMemcpyNodeGetParams", nodes[5], &got_copy);
    REQUIRE(got_copy.srcDevice == at && got_copy.dstDevice == copy && got_copy.WidthInBytes == 4);
    CUDA_HOST_NODE_PARAMS_v1 got_host = {};
    OK("cuGraphHostNodeGetParams", nodes[3], &got_host);
    REQUIRE(got_host.fn == add_to_calls && got_host.userData == (void *)3);
    OK("cuGraphMemsetNodeSetParams", nodes[0], (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill_5);
    OK("cuGraphKernelNodeSetParams", nodes[1], (const CUDA_KERNEL_NODE_PARAMS_v1 *)&old_six);
    OK("cuGraphHostNodeSetParams", nodes[3], (const CUDA_HOST_NODE_PARAMS_v1 *)&host_100);
    any = {};
    any.type = CU_GRAPH_NODE_TYPE_KERNEL;
    std::memcpy(&any.kernel, &nine, sizeof nine);
    OK("cuGraphNodeSetParams", nodes[2], &any);
    REQUIRE(does(graph) == 5697);
    OK("cuGraphMemcpyNodeSetParams", nodes[5], (const CUDA_MEMCPY3D *)&back);
    calls = 0;
    clear();
    OK("cuMemsetD32_v2", copy, 8u, (size_t)1);
    OK("cuCtxSynchronize");
    CUgraphExec changed = instantiate(graph);
    OK("cuGraphLaunch", changed, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(value(at) == 87 && calls == 100);
    OK("cuGraphExecDestroy", changed);
    FAILS("cuGraphLaunch", changed, stream);
    FAILS("cuGraphUpload", changed, stream);
    OK("cuGraphUpload", exec, stream);
    // Without its first node.
    OK("cuGraphDestroyNode", nodes[0]);
    REQUIRE(nodes_of(graph).size() == 6);
    FAILS("cuGraphNodeGetType", nodes[0], (CUgraphNodeType *)&any.type);
    OK("cuGraphDestroy", inner);
    OK("cuGraphDestroy", graph);
    FAILS("cuGraphClone", &graph, graph);
    // An executable graph needs no other.
    REQUIRE(launched(exec) == 569);
    OK("cuGraphExecDestroy", exec);
}

static void attributes() {
    CUgraph graph = empty_graph();
    CUgraphNode first = add_digit(graph, 1), second = add_digit(graph, 2, {first});
    CUkernelNodeAttrValue value = {}, got = {};
    value.cooperative = 1;
    OK("cuGraphKernelNodeSetAttribute", first, CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE, (const CUkernelNodeAttrValue *)&value);
    OK("cuGraphKernelNodeGetAttribute", first, CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE, &got);
    REQUIRE(got.cooperative == 1);
    OK("cuGraphKernelNodeGetAttribute", second, CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE, &got);
    REQUIRE(got.cooperative == 0);
    OK("cuGraphKernelNodeCopyAttributes", second, first);
    OK("cuGraphKernelNodeGetAttribute", second, CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE, &got);
    REQUIRE(got.cooperative == 1 && does(graph) == 12);
    OK("cuGraphDestroy", graph);
}

static void edges() {
    CUgraph graph = empty_graph();
    // Made in the wrong order, connected afterwards.
    CUgraphNode third = add_digit(graph, 3), first = add_digit(graph, 1), second = add_digit(graph, 2, {first});
    size_t count = 77;
    OK("cuGraphGetRootNodes", graph, (CUgraphNode *)0, &count);
    REQUIRE(count == 2);
    OK("cuGraphAddDependencies", graph, (const CUgraphNode *)&second, (const CUgraphNode *)&third, (size_t)1);
    REQUIRE(does(graph) == 123);
    OK("cuGraphRemoveDependencies", graph, (const CUgraphNode *)&second, (const CUgraphNode *)&third, (size_t)1);
    FAILS("cuGraphRemoveDependencies", graph, (const CUgraphNode *)&second, (const CUgraphNode *)&third, (size_t)1);
    CUgraphEdgeData plain = {};
    OK("cuGraphAddDependencies_v2", graph, (const CUgraphNode *)&third, (const CUgraphNode *)&first, (const CUgraphEdgeData *)&plain, (size_t)1);
    REQUIRE(does(graph) == 312);
    OK("cuGraphRemoveDependencies_v2", graph, (const CUgraphNode *)&third, (const CUgraphNode *)&first, (const CUgraphEdgeData *)&plain, (size_t)1);
    OK("cuGraphAddDependencies", graph, (const CUgraphNode *)&second, (const CUgraphNode *)&third, (size_t)1);
    REQUIRE(does(graph) == 123);
    CUgraphNode from[4] = {}, to[4] = {};
    CUgraphEdgeData data[4];
    for (const char *name : {"cuGraphGetEdges", "cuGraphGetEdges_v2"}) {
        std::memset(data, 0x55, sizeof data);
        count = 4;
        if (std::strstr(name, "_v2"))
            OK(name, graph, from, to, data, &count);
        else
            OK(name, graph, from, to, &count);
        REQUIRE(count == 2);
        bool one = from[0] == first;
        REQUIRE(from[!one] == first && to[!one] == second && from[one] == second && to[one] == third);
        REQUIRE(!std::strstr(name, "_v2") || data[0].type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT);
    }
    CUgraphNode one[2] = {};
    for (const char *name : {"cuGraphNodeGetDependencies", "cuGraphNodeGetDependencies_v2"}) {
        count = 2, one[0] = nullptr;
        if (std::strstr(name, "_v2"))
            OK(name, second, one, data, &count);
        else
            OK(name, second, one, &count);
        REQUIRE(count == 1 && one[0] == first);
    }
    for (const char *name : {"cuGraphNodeGetDependentNodes", "cuGraphNodeGetDependentNodes_v2"}) {
        count = 2, one[0] = nullptr;
        if (std::strstr(name, "_v2"))
            OK(name, second, one, data, &count);
        else
            OK(name, second, one, &count);
        REQUIRE(count == 1 && one[0] == third);
    }
    CUgraph around = nullptr;
    OK("cuGraphNodeGetContainingGraph", second, &around);
    REQUIRE(around == graph);
    unsigned local[2] = {77, 77}, ids[2] = {};
    unsigned long long tools[2] = {};
    OK("cuGraphNodeGetLocalId", third, &local[0]);
    OK("cuGraphNodeGetLocalId", first, &local[1]);
    REQUIRE(local[0] == 0 && local[1] == 1);
    OK("cuGraphNodeGetToolsId", third, &tools[0]);
    OK("cuGraphNodeGetToolsId", first, &tools[1]);
    REQUIRE(tools[0] && tools[1] && tools[0] != tools[1]);
    // A circle is found when it would have to run.
    OK("cuGraphAddDependencies", graph, (const CUgraphNode *)&third, (const CUgraphNode *)&first, (size_t)1);
    CUgraphExec exec = nullptr;
    FAILS("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    OK("cuGraphRemoveDependencies", graph, (const CUgraphNode *)&third, (const CUgraphNode *)&first, (size_t)1);

    CUgraph clone = nullptr;
    OK("cuGraphClone", &clone, graph);
    REQUIRE(clone && clone != graph && does(clone) == 123);
    OK("cuGraphGetId", graph, &ids[0]);
    OK("cuGraphGetId", clone, &ids[1]);
    REQUIRE(ids[0] && ids[1] && ids[0] != ids[1]);
    CUgraphNode twin = nullptr;
    OK("cuGraphNodeFindInClone", &twin, second, clone);
    REQUIRE(twin && twin != second);
    OK("cuGraphDestroyNode", twin);
    REQUIRE(does(graph) == 123 && nodes_of(clone).size() == 2);
    FAILS("cuGraphNodeFindInClone", &twin, second, clone);
    char path[] = "/tmp/surface_graph.XXXXXX";
    int file = mkstemp(path);
    OK("cuGraphDebugDotPrint", graph, (const char *)path, 0u);
    char text[4096] = {};
    REQUIRE(read(file, text, sizeof text - 1) > 0);
    REQUIRE(std::strstr(text, "digraph") && std::strstr(text, "->"));
    REQUIRE(std::strstr(text, "append") && !std::strstr(text, "block"));
    OK("cuGraphDebugDotPrint", graph, (const char *)path, (unsigned)CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE);
    REQUIRE(pread(file, text, sizeof text - 1, 0) > 0);
    REQUIRE(std::strstr(text, "append") && std::strstr(text, "block"));
    close(file);
    unlink(path);
    OK("cuGraphDestroy", clone);
    OK("cuGraphDestroy", graph);
}

static void other_ways_to_add() {
    CUgraph graph = empty_graph();
    CUgraphNode first = nullptr, second = nullptr;
    Digit one(1), two(2);
    auto kernel = one.node();
    CUgraphNodeParams any = {};
    any.type = CU_GRAPH_NODE_TYPE_KERNEL;
    std::memcpy(&any.kernel, &kernel, sizeof kernel);
    OK("cuGraphAddNode", &first, graph, NONE, (size_t)0, &any);
    kernel = two.node();
    std::memcpy(&any.kernel, &kernel, sizeof kernel);
    CUgraphEdgeData plain = {};
    OK("cuGraphAddNode_v2", &second, graph, (const CUgraphNode *)&first, (const CUgraphEdgeData *)&plain, (size_t)1, &any);
    REQUIRE(first && second && does(graph) == 12);

    // The newest forms: a node is made, told, and made another.
    CUgraph newest = empty_graph();
    CUgraphNode made = nullptr;
    CUcontext other = nullptr, current = nullptr;
    CUgraphNodeParams told;
    kernel = one.node();
    std::memcpy(&any.kernel, &kernel, sizeof kernel);
    OK("cuGraphAddNode_v3", &made, newest, NONE, (const CUgraphEdgeData *)nullptr, (size_t)0, &any);
    REQUIRE(made && does(newest) == 1);
    std::memset(&told, 0x77, sizeof told);
    OK("cuGraphNodeGetParams", made, &told);
    REQUIRE(told.type == CU_GRAPH_NODE_TYPE_KERNEL && told.kernel.func == kernel.func && told.kernel.gridDimX == kernel.gridDimX);
    kernel = two.node();
    std::memcpy(&any.kernel, &kernel, sizeof kernel);
    OK("cuGraphNodeSetParams_v2", made, &any);
    REQUIRE(does(newest) == 2);
    OK("cuCtxCreate_v2", &other, 0u, (CUdevice)0);
    OK("cuCtxPopCurrent_v2", &current);
    any.kernel.ctx = other;
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuGraphAddNode_v3", &made, newest, NONE, (const CUgraphEdgeData *)nullptr, (size_t)0, &any);
    any.kernel.ctx = nullptr;
    OK("cuCtxDestroy_v2", other);
    OK("cuGraphDestroy", newest);

    CUgraphExec exec = nullptr;
    CUgraphNode wrong = (CUgraphNode)(uintptr_t)0x77;
    char log[16] = "?";
    for (const char *name : {"cuGraphInstantiate", "cuGraphInstantiate_v2"}) {
        exec = nullptr;
        OK(name, &exec, graph, &wrong, log, sizeof log);
        REQUIRE(exec && launched(exec) == 12 && !wrong);
        OK("cuGraphExecDestroy", exec);
    }
    CUDA_GRAPH_INSTANTIATE_PARAMS how = {};
    how.flags = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    how.result_out = (CUgraphInstantiateResult)77;
    exec = nullptr;
    OK("cuGraphInstantiateWithParams", &exec, graph, &how);
    REQUIRE(exec && how.result_out == CUDA_GRAPH_INSTANTIATE_SUCCESS && launched(exec) == 12);
    cuuint64_t flags = 77;
    OK("cuGraphExecGetFlags", exec, &flags);
    REQUIRE(flags == CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    unsigned ids[2] = {};
    CUgraphExec twin = instantiate(graph);
    OK("cuGraphExecGetId", exec, &ids[0]);
    OK("cuGraphExecGetId", twin, &ids[1]);
    REQUIRE(ids[0] && ids[1] && ids[0] != ids[1]);

    // A graph of the same shape, and others.
    CUgraph like = empty_graph(), unlike = empty_graph(), kind = empty_graph();
    add_digit(like, 5, {add_digit(like, 4)});
    add_digit(unlike, 5), add_digit(unlike, 4);
    CUgraphNode last = nullptr, before = add_digit(kind, 4);
    OK("cuGraphAddEmptyNode", &last, kind, (const CUgraphNode *)&before, (size_t)1);
    CUgraphExecUpdateResultInfo info = {};
    OK("cuGraphExecUpdate_v2", exec, like, &info);
    REQUIRE(info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS && launched(exec) == 45);
    GIVES(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "cuGraphExecUpdate_v2", exec, unlike, &info);
    REQUIRE(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    GIVES(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "cuGraphExecUpdate_v2", exec, kind, &info);
    REQUIRE(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED && launched(exec) == 45);
    auto result = (CUgraphExecUpdateResult)77;
    OK("cuGraphExecUpdate", twin, like, &wrong, &result);
    REQUIRE(result == CU_GRAPH_EXEC_UPDATE_SUCCESS && launched(twin) == 45);
    for (CUgraph each : {graph, like, unlike, kind}) OK("cuGraphDestroy", each);
    for (CUgraphExec each : {exec, twin}) OK("cuGraphExecDestroy", each);
}

// Copies from and to the program's memory take what it holds at each launch.
static void host_memory() {
    unsigned *pinned = nullptr, plain[2] = {7, 0};
    OK("cuMemAllocHost_v2", (void **)&pinned, (size_t)8);
    CUgraph graph = empty_graph();
    CUgraphNode in = nullptr, out = nullptr, plain_out = nullptr;
    CUDA_MEMCPY3D to = row(CU_MEMORYTYPE_HOST, pinned, 0, CU_MEMORYTYPE_DEVICE, nullptr, at);
    CUDA_MEMCPY3D from = row(CU_MEMORYTYPE_DEVICE, nullptr, at, CU_MEMORYTYPE_HOST, pinned + 1, 0);
    CUDA_MEMCPY3D from_plain = row(CU_MEMORYTYPE_DEVICE, nullptr, at, CU_MEMORYTYPE_HOST, plain + 1, 0);
    OK("cuGraphAddMemcpyNode", &in, graph, NONE, (size_t)0, (const CUDA_MEMCPY3D *)&to, context);
    CUgraphNode digit = add_digit(graph, 3, {in});
    OK("cuGraphAddMemcpyNode", &out, graph, (const CUgraphNode *)&digit, (size_t)1, (const CUDA_MEMCPY3D *)&from, context);
    OK("cuGraphAddMemcpyNode", &plain_out, graph, (const CUgraphNode *)&out, (size_t)1, (const CUDA_MEMCPY3D *)&from_plain, context);
    CUgraphExec exec = instantiate(graph);
    for (unsigned i = 1; i < 5; i++) {
        pinned[0] = i, pinned[1] = plain[1] = 0;
        OK("cuGraphLaunch", exec, stream);
        OK("cuStreamSynchronize", stream);
        REQUIRE(pinned[1] == i * 10 + 3 && plain[1] == i * 10 + 3);
    }
    // A function of the program that writes what a copy behind it takes.
    static unsigned *word;
    word = pinned;
    CUDA_HOST_NODE_PARAMS_v1 host = {};
    host.fn = [](void *) { *word = 88; };
    CUgraphNode writes = nullptr;
    OK("cuGraphAddHostNode", &writes, graph, NONE, (size_t)0, (const CUDA_HOST_NODE_PARAMS_v1 *)&host);
    OK("cuGraphAddDependencies", graph, (const CUgraphNode *)&writes, (const CUgraphNode *)&in, (size_t)1);
    pinned[0] = 1;
    REQUIRE(does(graph) == 883 && pinned[1] == 883);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);
    OK("cuMemFreeHost", (void *)pinned);
}

static void events() {
    CUevent first = nullptr, second = nullptr, got = nullptr;
    OK("cuEventCreate", &first, 0u);
    OK("cuEventCreate", &second, 0u);
    CUgraph graph = empty_graph();
    CUgraphNode digit = add_digit(graph, 1), records = nullptr, waits = nullptr;
    OK("cuGraphAddEventRecordNode", &records, graph, (const CUgraphNode *)&digit, (size_t)1, second);
    OK("cuGraphAddEventWaitNode", &waits, graph, (const CUgraphNode *)&records, (size_t)1, second);
    OK("cuGraphEventRecordNodeSetEvent", records, first);
    OK("cuGraphEventWaitNodeSetEvent", waits, first);
    OK("cuGraphEventRecordNodeGetEvent", records, &got);
    REQUIRE(got == first);
    got = nullptr;
    OK("cuGraphEventWaitNodeGetEvent", waits, &got);
    REQUIRE(got == first);
    CUgraphExec exec = instantiate(graph);
    float milliseconds = -1;
    FAILS("cuEventElapsedTime", &milliseconds, first, first);
    REQUIRE(launched(exec) == 1);
    OK("cuEventSynchronize", first);
    OK("cuEventElapsedTime", &milliseconds, first, first);
    REQUIRE(milliseconds == 0);
    FAILS("cuEventElapsedTime", &milliseconds, second, second);
    OK("cuGraphExecEventRecordNodeSetEvent", exec, records, second);
    OK("cuGraphExecEventWaitNodeSetEvent", exec, waits, second);
    FAILS("cuGraphExecEventWaitNodeSetEvent", exec, digit, second);
    REQUIRE(launched(exec) == 1);
    OK("cuEventElapsedTime", &milliseconds, second, second);
    REQUIRE(milliseconds == 0);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);
}

// What works within a device alone, launched again and again: a library may then leave it to the device. Branches, a graph in the graph, what is
// disabled, copies of boxes and fills; changes in between, and the end of a graph that is still under way.
static void within_the_device() {
    clear();
    CUdeviceptr from = 0, to = 0;
    OK("cuMemAlloc_v2", &from, (size_t)(16 * 8 * 4));
    OK("cuMemAlloc_v2", &to, (size_t)(16 * 8 * 4));
    unsigned filled[8][16];
    for (int i = 0; i < 8 * 16; i++) filled[i / 16][i % 16] = 1000 + i;
    OK("cuMemcpyHtoD_v2", from, (const void *)filled, sizeof filled);

    CUgraph graph = empty_graph(), inner = empty_graph();
    CUgraphNode three = add_digit(inner, 3), four = add_digit(inner, 4, {three});
    (void)four;
    CUgraphNode one = add_digit(graph, 1), child = nullptr, box = nullptr, clears = nullptr, join = nullptr;
    OK("cuGraphAddChildGraphNode", &child, graph, (const CUgraphNode *)&one, (size_t)1, inner);
    CUDA_MEMCPY3D copies = {};
    copies.srcMemoryType = copies.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copies.srcDevice = from, copies.dstDevice = to;
    copies.srcXInBytes = 8, copies.srcY = 1, copies.dstXInBytes = 4, copies.dstY = 2;
    copies.srcPitch = copies.dstPitch = 64, copies.WidthInBytes = 16, copies.Height = 3, copies.Depth = 1;
    CUDA_MEMSET_NODE_PARAMS_v1 fill = {};
    fill.dst = to, fill.elementSize = 4, fill.value = 5, fill.width = 16 * 8, fill.height = 1;
    OK("cuGraphAddMemsetNode", &clears, graph, NONE, (size_t)0, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
    OK("cuGraphAddMemcpyNode", &box, graph, (const CUgraphNode *)&clears, (size_t)1, (const CUDA_MEMCPY3D *)&copies, context);
    CUgraphNode ends[] = {child, box};
    OK("cuGraphAddEmptyNode", &join, graph, (const CUgraphNode *)ends, (size_t)2);
    CUgraphNode six = add_digit(graph, 6, {join});
    CUgraphExec exec = instantiate(graph);

    auto check = [&](unsigned expected, unsigned around) {
        unsigned got[8][16];
        REQUIRE(launched(exec) == expected);
        OK("cuMemcpyDtoH_v2", (void *)got, to, sizeof got);
        for (unsigned y = 0; y < 8; y++)
            for (unsigned x = 0; x < 16; x++) {
                bool in = y >= 2 && y < 5 && x >= 1 && x < 5;
                REQUIRE(got[y][x] == (in ? filled[y - 1][x + 1] : around));
            }
        OK("cuMemsetD32_v2", to, 0u, (size_t)(16 * 8));
        OK("cuCtxSynchronize");
    };
    for (int i = 0; i < 4; i++) check(1346, 5);
    Digit seven(7);
    CUDA_KERNEL_NODE_PARAMS changed = seven.node();
    OK("cuGraphExecKernelNodeSetParams_v2", exec, six, (const CUDA_KERNEL_NODE_PARAMS *)&changed);
    for (int i = 0; i < 4; i++) check(1347, 5);
    OK("cuGraphNodeSetEnabled", exec, six, 0u);
    for (int i = 0; i < 4; i++) check(134, 5);
    fill.value = 9;
    OK("cuGraphExecMemsetNodeSetParams", exec, clears, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
    for (int i = 0; i < 4; i++) check(134, 9);
    OK("cuGraphNodeSetEnabled", exec, six, 1u);
    CUgraphExecUpdateResultInfo result = {};
    OK("cuGraphExecUpdate_v2", exec, graph, &result);
    for (int i = 0; i < 4; i++) check(1346, 5);

    // Many launches, and the graph's end while they are under way.
    clear();
    CUgraph digit = empty_graph();
    add_digit(digit, 1);
    CUgraphExec many = instantiate(digit);
    for (int i = 0; i < 9; i++) OK("cuGraphLaunch", many, i % 2 ? other : stream);
    OK("cuGraphExecDestroy", many);
    OK("cuCtxSynchronize");
    REQUIRE(value(at) == 111111111);

    // Fills and copies of nothing, and what depends on a node and on an empty graph behind it.
    CUgraph nothing = empty_graph(), hollow = empty_graph();
    CUgraphNode first = add_digit(nothing, 2), blank = nullptr, empties = nullptr;
    OK("cuGraphAddChildGraphNode", &blank, nothing, (const CUgraphNode *)&first, (size_t)1, hollow);
    fill.width = 0, copies.Depth = 0;
    OK("cuGraphAddMemsetNode", &empties, nothing, NONE, (size_t)0, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
    add_digit(nothing, 8, {first, blank, empties});
    CUgraphExec hollows = instantiate(nothing);
    for (int i = 0; i < 3; i++) REQUIRE(launched(hollows) == 28);
    OK("cuGraphExecDestroy", hollows);
    for (CUgraph each : {graph, inner, digit, nothing, hollow}) OK("cuGraphDestroy", each);
    OK("cuGraphExecDestroy", exec);
    for (CUdeviceptr each : {from, to}) OK("cuMemFree_v2", each);
}

// Memory of a graph's own.
static const size_t OWN = 4 << 20;

static cuuint64_t own_bytes(unsigned attribute) {
    cuuint64_t bytes = 77;
    OK("cuDeviceGetGraphMemAttribute", (CUdevice)0, attribute, (void *)&bytes);
    return bytes;
}

// A graph that allocates, and fills what it has allocated with nines.
static CUgraph allocating(CUdeviceptr &address, CUgraphNode *node = nullptr) {
    CUgraph graph = empty_graph();
    CUgraphNode made = nullptr, fills = nullptr;
    CUDA_MEM_ALLOC_NODE_PARAMS parameters = {};
    parameters.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    parameters.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    parameters.bytesize = OWN;
    OK("cuGraphAddMemAllocNode", &made, graph, NONE, (size_t)0, &parameters);
    address = parameters.dptr;
    REQUIRE(address);
    CUDA_MEM_ALLOC_NODE_PARAMS told = {};
    OK("cuGraphMemAllocNodeGetParams", made, &told);
    REQUIRE(told.dptr == address && told.bytesize == OWN && told.poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE);
    CUDA_MEMSET_NODE_PARAMS_v1 fill = {};
    fill.dst = address, fill.elementSize = 4, fill.value = 9, fill.width = OWN / 4, fill.height = 1;
    OK("cuGraphAddMemsetNode", &fills, graph, (const CUgraphNode *)&made, (size_t)1, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, context);
    if (node) *node = made;
    return graph;
}

static CUgraph captured_free(CUdeviceptr address) {
    CUgraph graph = nullptr;
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK("cuMemFreeAsync", address, stream);
    OK("cuStreamEndCapture", stream, &graph);
    return graph;
}

static void memory_of_its_own() {
    REQUIRE(own_bytes(0) == 0);
    // Allocated and freed within: by capture, again and again.
    clear();
    CUdeviceptr inside = 0, address = 0;
    CUgraph graph = nullptr;
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK("cuMemAllocAsync", &inside, OWN, stream);
    REQUIRE(inside);
    OK("cuMemsetD32Async", inside, 5u, OWN / 4, stream);
    OK("cuMemcpyDtoDAsync_v2", at, (CUdeviceptr)(inside + OWN - 4), (size_t)4, stream);
    OK("cuMemFreeAsync", inside, stream);
    OK("cuStreamEndCapture", stream, &graph);
    std::vector<CUgraphNode> nodes(4);
    size_t count = 4;
    OK("cuGraphGetNodes", graph, nodes.data(), &count);
    REQUIRE(count == 4);
    const unsigned kinds[] = {CU_GRAPH_NODE_TYPE_MEM_ALLOC, CU_GRAPH_NODE_TYPE_MEMSET, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEM_FREE};
    for (size_t i = 0; i < 4; i++) {
        CUgraphNodeType type = {};
        OK("cuGraphNodeGetType", nodes[i], &type);
        REQUIRE(type == kinds[i]);
    }
    REQUIRE(own_bytes(0) == OWN && own_bytes(1) == OWN && own_bytes(2) == OWN);
    CUgraphExec exec = instantiate(graph);
    for (int i = 0; i < 4; i++) REQUIRE(launched(exec) == 5);
    // It is nobody else's to free, and there cannot be two of it.
    CUgraph copy_of = nullptr;
    CUgraphExec second = nullptr;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFree_v2", inside);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFreeAsync", inside, stream);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuGraphClone", &copy_of, graph);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuGraphInstantiateWithFlags", &second, graph, 0ull);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuGraphDestroyNode", nodes[1]);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphExecDestroy", instantiate(graph));
    OK("cuGraphDestroy", graph);
    REQUIRE(own_bytes(0) == 0 && own_bytes(1) == OWN);
    cuuint64_t none = 0;
    OK("cuDeviceSetGraphMemAttribute", (CUdevice)0, 1u, (void *)&none);
    REQUIRE(own_bytes(1) == 0);
    OK("cuDeviceGraphMemTrim", (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuDeviceGraphMemTrim", (CUdevice)99);
    FAILS("cuMemsetD8_v2", inside, (unsigned char)0, (size_t)1);

    // What a launch leaves is the program's until it is freed.
    CUgraphNode allocates = nullptr;
    graph = allocating(address, &allocates);
    exec = instantiate(graph);
    OK("cuGraphLaunch", exec, stream);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(value(address + OWN - 4) == 9);
    OK("cuMemFreeAsync", address, stream);
    OK("cuGraphLaunch", exec, stream);
    OK("cuMemFree_v2", address);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFree_v2", address);
    // Another graph may free it, each time that it was allocated.
    CUgraph freeing = captured_free(address);
    count = 1;
    OK("cuGraphGetNodes", freeing, nodes.data(), &count);
    CUdeviceptr told = 0;
    OK("cuGraphMemFreeNodeGetParams", nodes[0], &told);
    REQUIRE(told == address);
    CUgraphExec frees = instantiate(freeing);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuGraphLaunch", frees, stream);
    for (int i = 0; i < 3; i++) {
        OK("cuGraphLaunch", exec, stream);
        OK("cuGraphLaunch", frees, stream);
    }
    // It cannot become part of another graph.
    CUgraph other_graph = empty_graph();
    CUgraphNode child = nullptr;
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuGraphAddChildGraphNode", &child, other_graph, NONE, (size_t)0, graph);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuGraphLaunch", exec, stream);
    CUgraph ended = nullptr;
    (void)call("cuStreamEndCapture", stream, &ended);
    if (ended) OK("cuGraphDestroy", ended);
    // Only what a graph has allocated is freed by one; and a node frees what an update may not change.
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuGraphAddMemFreeNode", &child, other_graph, NONE, (size_t)0, at);
    OK("cuGraphAddMemFreeNode", &child, other_graph, NONE, (size_t)0, address);
    CUdeviceptr elsewhere = 0;
    CUgraph twin = allocating(elsewhere);
    CUgraphExecUpdateResultInfo result = {};
    FAILS("cuGraphExecUpdate_v2", exec, twin, &result);
    REQUIRE(result.result == CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED);
    // What was left outlives the graphs.
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    for (CUgraph each : {graph, twin, other_graph, freeing}) OK("cuGraphDestroy", each);
    OK("cuGraphExecDestroy", exec);
    REQUIRE(value(address) == 9 && own_bytes(0) == OWN);
    OK("cuMemFreeAsync", address, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(own_bytes(0) == 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuGraphLaunch", frees, stream);
    OK("cuGraphExecDestroy", frees);

    // A graph that frees on launch; parameters of any node.
    graph = allocating(address);
    OK("cuGraphInstantiateWithFlags", &exec, graph, (unsigned long long)CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    for (int i = 0; i < 4; i++) OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(value(address) == 9);
    OK("cuMemFreeAsync", address, stream);
    OK("cuStreamSynchronize", stream);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);
    if (has("cuGraphAddNode")) {
        CUgraphNodeParams any = {};
        any.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
        any.alloc.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
        any.alloc.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
        any.alloc.bytesize = OWN;
        graph = empty_graph();
        OK("cuGraphAddNode", &child, graph, NONE, (size_t)0, &any);
        REQUIRE(any.alloc.dptr);
        CUgraphNodeParams free = {};
        free.type = CU_GRAPH_NODE_TYPE_MEM_FREE;
        free.free.dptr = any.alloc.dptr;
        OK("cuGraphAddNode", &allocates, graph, (const CUgraphNode *)&child, (size_t)1, &free);
        OK("cuGraphDestroy", graph);
        // No other kind of node becomes one.
        graph = empty_graph();
        child = add_digit(graph, 1);
        any.alloc.dptr = 0;
        if (has("cuGraphNodeSetParams")) {
            FAILS("cuGraphNodeSetParams", child, &any);
            REQUIRE(!any.alloc.dptr && own_bytes(0) == 0);
        }
        OK("cuGraphDestroy", graph);
    }
    REQUIRE(own_bytes(0) == 0);

    // It ends with its context.
    CUcontext own = nullptr;
    CUstream of_own = nullptr;
    OK("cuCtxCreate_v2", &own, 0u, (CUdevice)0);
    OK("cuStreamCreate", &of_own, (unsigned)CU_STREAM_NON_BLOCKING);
    CUcontext before = context;
    context = own;
    graph = allocating(address);
    context = before;
    exec = instantiate(graph);
    OK("cuGraphLaunch", exec, of_own);
    OK("cuStreamSynchronize", of_own);
    REQUIRE(own_bytes(0) == OWN);
    OK("cuCtxDestroy_v2", own);
    OK("cuCtxSetCurrent", context);
    REQUIRE(own_bytes(0) == 0);
    FAILS("cuMemFree_v2", address);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
    REQUIRE(own_bytes(0) == 0);
    OK("cuMemsetD32_v2", copy, 0u, (size_t)1);
}

// Another stream's launch of the same graph waits for the first launch, and for nothing that was put behind it.
static void relaunches() {
    if (!has("cuStreamWaitValue32_v2")) return;
    clear();
    CUgraph graph = empty_graph();
    add_digit(graph, 4);
    CUgraphExec exec = instantiate(graph);
    for (unsigned round = 1; round < 4; round++) {
        OK("cuGraphLaunch", exec, stream);
        OK("cuStreamWaitValue32_v2", stream, copy, round, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
        OK("cuGraphLaunch", exec, other);
        OK("cuStreamWriteValue32_v2", other, copy, round, 0u);
        OK("cuStreamSynchronize", stream);
        OK("cuStreamSynchronize", other);
    }
    REQUIRE(value(at) == 444444);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);
}

static void memory_operations() {
    if (!has("cuGraphAddBatchMemOpNode")) return;
    CUgraph graph = empty_graph();
    CUgraphNode node = nullptr;
    CUstreamBatchMemOpParams write[2] = {};
    for (int i = 0; i < 2; i++) {
        write[i].operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
        write[i].writeValue.address = i ? copy : at;
        write[i].writeValue.value = 11 + i;
    }
    CUDA_BATCH_MEM_OP_NODE_PARAMS parameters = {};
    parameters.ctx = context;
    parameters.count = 2;
    parameters.paramArray = write;
    OK("cuGraphAddBatchMemOpNode", &node, graph, NONE, (size_t)0, (const CUDA_BATCH_MEM_OP_NODE_PARAMS *)&parameters);
    CUgraphExec exec = instantiate(graph);
    REQUIRE(launched(exec) == 11 && value(copy) == 12);
    CUDA_BATCH_MEM_OP_NODE_PARAMS got = {};
    OK("cuGraphBatchMemOpNodeGetParams", node, &got);
    REQUIRE(got.count == 2 && got.paramArray[1].writeValue.address == copy && got.paramArray[1].writeValue.value == 12);
    write[0].writeValue.value = 21;
    OK("cuGraphExecBatchMemOpNodeSetParams", exec, node, (const CUDA_BATCH_MEM_OP_NODE_PARAMS *)&parameters);
    REQUIRE(launched(exec) == 21);
    write[0].writeValue.value = 31;
    OK("cuGraphBatchMemOpNodeSetParams", node, (const CUDA_BATCH_MEM_OP_NODE_PARAMS *)&parameters);
    REQUIRE(does(graph) == 31);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);
}

static void user_objects() {
    CUuserObject object = nullptr;
    calls = 0;
    OK("cuUserObjectCreate", &object, (void *)1, (CUhostFn)add_to_calls, 1u, (unsigned)CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
    REQUIRE(object);
    OK("cuUserObjectRetain", object, 2u);
    CUgraph graph = empty_graph();
    add_digit(graph, 1);
    OK("cuGraphRetainUserObject", graph, object, 2u, 0u);
    // The graph has two, the program three.
    OK("cuUserObjectRelease", object, 3u);
    REQUIRE(calls == 0);
    OK("cuGraphReleaseUserObject", graph, object, 1u);
    REQUIRE(calls == 0);
    CUgraphExec exec = instantiate(graph);
    OK("cuGraphReleaseUserObject", graph, object, 1u);
    FAILS("cuGraphReleaseUserObject", graph, object, 1u);
    REQUIRE(calls == 0 && launched(exec) == 1 && calls == 0);
    OK("cuGraphLaunch", exec, stream);
    OK("cuGraphExecDestroy", exec);
    OK("cuStreamSynchronize", stream);
    REQUIRE(calls == 1);
    // The last reference is the program's.
    OK("cuUserObjectCreate", &object, (void *)10, (CUhostFn)add_to_calls, 2u, (unsigned)CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
    OK("cuUserObjectRelease", object, 1u);
    REQUIRE(calls == 1);
    OK("cuUserObjectRetain", object, 1u);
    OK("cuUserObjectRelease", object, 1u);
    REQUIRE(calls == 1);
    OK("cuUserObjectRelease", object, 1u);
    REQUIRE(calls == 11);
    OK("cuGraphDestroy", graph);
}

static CUstreamCaptureStatus status_of(CUstream of) {
    auto status = (CUstreamCaptureStatus)77;
    OK("cuStreamIsCapturing", of, &status);
    return status;
}

static CUgraph end_capture(CUstream of = nullptr) {
    CUgraph graph = nullptr;
    OK("cuStreamEndCapture", of ? of : stream, &graph);
    REQUIRE(graph);
    return graph;
}

static void captures() {
    CUevent fork = nullptr, join = nullptr;
    OK("cuEventCreate", &fork, 0u);
    OK("cuEventCreate", &join, 0u);
    clear();
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    OK("cuMemsetD32Async", at, 4u, (size_t)1, stream);
    OK("cuEventRecord", fork, stream);
    OK("cuStreamWaitEvent", other, fork, 0u);
    Digit(1).launch(other);
    OK("cuEventRecord", join, other);
    OK("cuStreamWaitEvent", stream, join, 0u);
    Digit(2).launch(stream);
    OK("cuMemcpyDtoDAsync_v2", copy, at, (size_t)4, stream);
    OK("cuLaunchHostFunc", stream, (CUhostFn)add_to_calls, (void *)5);
    REQUIRE(status_of(stream) == CU_STREAM_CAPTURE_STATUS_ACTIVE && status_of(other) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    GIVES(CUDA_ERROR_CAPTURED_EVENT, "cuEventQuery", join);
    auto status = (CUstreamCaptureStatus)77;
    cuuint64_t id = 0, again = 0, third = 0;
    CUgraph inside = nullptr;
    const CUgraphNode *before = nullptr;
    const CUgraphEdgeData *data = nullptr;
    size_t count = 0;
    OK("cuStreamGetCaptureInfo", stream, &status, &id);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id);
    status = (CUstreamCaptureStatus)77;
    OK("cuStreamGetCaptureInfo_v2", stream, &status, &again, &inside, &before, &count);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && again == id && inside && count == 1 && before);
    status = (CUstreamCaptureStatus)77, count = 0;
    OK("cuStreamGetCaptureInfo_v3", other, &status, &third, &inside, &before, &data, &count);
    REQUIRE(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && third == id && count == 1);
    calls = 0;
    CUgraph graph = end_capture();
    REQUIRE(graph == inside && status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE && status_of(other) == CU_STREAM_CAPTURE_STATUS_NONE);
    REQUIRE(value(at) == 0 && calls == 0 && nodes_of(graph).size() == 5);
    CUgraphExec exec = instantiate(graph);
    for (unsigned i = 1; i <= 3; i++) REQUIRE(launched(exec) == 412 && value(copy) == 412 && calls == i * 5);
    // Two launches of one graph are not done at the same time, in whatever streams.
    for (int i = 0; i < 20; i++) OK("cuGraphLaunch", exec, i % 2 ? other : stream);
    OK("cuCtxSynchronize");
    REQUIRE(value(copy) == 412 && calls == 115);
    OK("cuGraphDestroy", graph);

    // The old form; a launch that is captured; dependencies that the program sets.
    OK("cuStreamBeginCapture", stream);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamGetCaptureInfo_v2", stream, &status, &again, &inside, &before, &count);
    CUgraphNode launched_node = before[0], added = add_digit(inside, 7, {launched_node});
    OK("cuStreamUpdateCaptureDependencies", stream, &added, (size_t)1, (unsigned)CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    Digit(8).launch(stream);
    CUgraphNode behind = nullptr;
    OK("cuStreamGetCaptureInfo_v2", stream, &status, &again, &inside, &before, &count);
    behind = before[0];
    CUgraphNode previous[2] = {};
    count = 2;
    OK("cuGraphNodeGetDependencies", behind, previous, &count);
    REQUIRE(count == 1 && previous[0] == added);
    CUgraphNode last = add_digit(inside, 9, {behind});
    OK("cuStreamUpdateCaptureDependencies_v2", stream, &last, (const CUgraphEdgeData *)0, (size_t)1, (unsigned)CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    OK("cuStreamGetCaptureInfo_v2", stream, &status, &again, &inside, &before, &count);
    REQUIRE(count == 1 && before[0] == last);
    graph = end_capture();
    size_t edges = 0;
    OK("cuGraphGetEdges", graph, (CUgraphNode *)0, (CUgraphNode *)0, &edges);
    REQUIRE(edges == 3 && does(graph) == 412789);
    // Into a graph that is there.
    OK("cuStreamBeginCaptureToGraph", stream, graph, (const CUgraphNode *)&last, (const CUgraphEdgeData *)0, (size_t)1, CU_STREAM_CAPTURE_MODE_GLOBAL);
    Digit(1).launch(stream);
    REQUIRE(end_capture() == graph && does(graph) == 4127891);
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);

    // Events that are nodes.
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuEventRecordWithFlags", join, stream, (unsigned)CU_EVENT_RECORD_EXTERNAL);
    OK("cuStreamWaitEvent", stream, join, (unsigned)CU_EVENT_WAIT_EXTERNAL);
    graph = end_capture();
    auto nodes = nodes_of(graph);
    auto type = (CUgraphNodeType)77;
    REQUIRE(nodes.size() == 2);
    OK("cuGraphNodeGetType", nodes[0], &type);
    REQUIRE(type == CU_GRAPH_NODE_TYPE_EVENT_RECORD);
    OK("cuGraphDestroy", graph);
}

// Streams of several contexts in one capture: each node is done in its own, in whichever the graph is launched. A stream that is destroyed meanwhile leaves
// what it did.
static void captures_of_contexts() {
    CUcontext second = nullptr;
    CUmodule module = nullptr;
    CUfunction there_function = nullptr;
    CUstream there = nullptr, brief = nullptr;
    CUevent fork = nullptr, join = nullptr, joined = nullptr;
    CUdeviceptr there_at = 0;
    unsigned digit = 7;
    OK("cuEventCreate", &fork, 0u);
    OK("cuEventCreate", &joined, 0u);
    OK("cuStreamCreate", &brief, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuCtxCreate_v2", &second, 0u, (CUdevice)0);
    OK("cuModuleLoadData", &module, (const void *)APPEND);
    OK("cuModuleGetFunction", &there_function, module, "append");
    OK("cuMemAlloc_v2", &there_at, (size_t)256);
    OK("cuStreamCreate", &there, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuEventCreate", &join, 0u);
    OK("cuCtxSetCurrent", context);
    clear();

    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    Digit(1).launch(stream);
    OK("cuEventRecord", fork, stream);
    OK("cuCtxSetCurrent", second);
    OK("cuStreamWaitEvent", there, fork, 0u);
    OK("cuMemcpyDtoDAsync_v2", there_at, at, (size_t)4, there);
    void *parameters[] = {&there_at, &digit};
    OK("cuLaunchKernel", there_function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, there, parameters, (void **)0);
    OK("cuEventRecord", join, there);
    OK("cuCtxSetCurrent", context);
    OK("cuStreamWaitEvent", brief, fork, 0u);
    Digit(2).launch(brief);
    OK("cuEventRecord", joined, brief);
    OK("cuStreamDestroy_v2", brief);
    OK("cuStreamWaitEvent", stream, joined, 0u);
    OK("cuStreamWaitEvent", stream, join, 0u);
    OK("cuMemcpyDtoDAsync_v2", copy, there_at, (size_t)4, stream);
    Digit(3).launch(stream);
    CUgraph graph = end_capture();
    REQUIRE(nodes_of(graph).size() == 6);
    CUgraphExec exec = instantiate(graph);
    // Where two nodes may be done in any order, what they do tells which it was.
    auto is_done = [&] {
        unsigned result = value(at);
        REQUIRE(result == 123);
        return value(copy) == 17 || value(copy) == 127;
    };
    for (int i = 0; i < 3; i++) REQUIRE(launched(exec) == 123 && is_done());
    clear();
    OK("cuCtxSetCurrent", second);
    OK("cuGraphLaunch", exec, there);
    OK("cuStreamSynchronize", there);
    OK("cuCtxSetCurrent", context);
    REQUIRE(is_done());
    // As a part of another one; and alike.
    CUgraph around = empty_graph();
    CUgraphNode child = nullptr;
    OK("cuGraphAddChildGraphNode", &child, around, NONE, (size_t)0, graph);
    REQUIRE(does(around) == 123 && is_done());
    OK("cuGraphDestroy", around);
    CUgraphExecUpdateResultInfo info = {};
    OK("cuGraphExecUpdate_v2", exec, graph, &info);
    REQUIRE(launched(exec) == 123 && is_done());
    OK("cuGraphDestroy", graph);
    OK("cuGraphExecDestroy", exec);

    // A node for a context that is not the current one.
    CUDA_MEMSET_NODE_PARAMS_v1 fill = {};
    fill.dst = there_at, fill.value = 5, fill.elementSize = 4, fill.width = 1, fill.height = 1;
    CUgraphNode node = nullptr;
    graph = empty_graph();
    OK("cuGraphAddMemsetNode", &node, graph, NONE, (size_t)0, (const CUDA_MEMSET_NODE_PARAMS_v1 *)&fill, second);
    REQUIRE(does(graph) == 0 && value(there_at) == 5);
    exec = instantiate(graph);
    REQUIRE(launched(exec) == 0);
    OK("cuGraphDestroy", graph);
    OK("cuCtxDestroy_v2", second);
    OK("cuGraphExecDestroy", exec);
    OK("cuCtxSetCurrent", context);
    OK("cuEventDestroy_v2", fork);
    OK("cuEventDestroy_v2", joined);
}

// What a graph cannot have spoils the capture, which then ends without a graph.
template <typename Call> static void spoils(CUstream of, CUresult error, Call &&act) {
    CUgraph graph = (CUgraph)(uintptr_t)0x77;
    OK("cuStreamBeginCapture_v2", of, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuMemsetD32Async", at, 1u, (size_t)1, of);
    CUresult result = act();
    if (result != error) fail(__LINE__, "it must spoil the capture with " + std::to_string(error), result);
    REQUIRE(status_of(of) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuMemsetD32Async", at, 1u, (size_t)1, of);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "cuStreamEndCapture", of, &graph);
    REQUIRE(!graph && status_of(of) == CU_STREAM_CAPTURE_STATUS_NONE);
}

static void violations() {
    CUevent event = nullptr;
    CUstream blocking = nullptr;
    CUgraph graph = nullptr;
    OK("cuEventCreate", &event, 0u);
    OK("cuStreamCreate", &blocking, 0u);
    spoils(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return call("cuStreamSynchronize", stream); });
    spoils(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return call("cuStreamQuery", stream); });
    spoils(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return call("cuCtxSynchronize"); });
    OK("cuEventRecord", event, other);
    spoils(stream, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, [&] { return call("cuStreamWaitEvent", stream, event, 0u); });
    spoils(blocking, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, [] { return call("cuMemsetD32_v2", at, 0u, (size_t)1); });
    // A stream that does not block has nothing to do with the legacy stream; a stream that was not joined is missed.
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuMemsetD32_v2", at, 0u, (size_t)1);
    OK("cuEventRecord", event, stream);
    OK("cuStreamWaitEvent", other, event, 0u);
    OK("cuMemsetD32Async", at, 1u, (size_t)1, other);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "cuStreamEndCapture", stream, &graph);
    // Two captures do not become one; another stream does not end it.
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuStreamBeginCapture_v2", other, CU_STREAM_CAPTURE_MODE_RELAXED);
    GIVES(CUDA_ERROR_ILLEGAL_STATE, "cuStreamBeginCapture_v2", other, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuEventRecord", event, stream);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_MERGE, "cuStreamWaitEvent", other, event, 0u);
    FAILS("cuStreamEndCapture", stream, &graph);
    FAILS("cuStreamEndCapture", other, &graph);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuEventRecord", event, stream);
    OK("cuStreamWaitEvent", other, event, 0u);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "cuStreamEndCapture", other, &graph);
    FAILS("cuStreamEndCapture", stream, &graph);
    // Nor another thread.
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    std::thread([&] {
        OK("cuCtxSetCurrent", context);
        GIVES(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "cuStreamEndCapture", stream, &graph);
    }).join();
    FAILS("cuStreamEndCapture", stream, &graph);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "cuStreamBeginCapture_v2", (CUstream)0, CU_STREAM_CAPTURE_MODE_RELAXED);
    // Without the stream in which it began it is over, for the other streams too.
    OK("cuStreamBeginCapture_v2", blocking, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuEventRecord", event, blocking);
    OK("cuStreamWaitEvent", other, event, 0u);
    OK("cuStreamDestroy_v2", blocking);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    if (has("capture modes")) REQUIRE(status_of(other) == CU_STREAM_CAPTURE_STATUS_NONE);
    OK("cuGraphDestroy", end_capture());
}

// Calls that could wait for the device: whose capture they spoil depends on the capture's mode and the thread's.
static void modes() {
    if (!has("capture modes")) return;
    struct Case {
        CUstreamCaptureMode of_capture, of_thread;
        bool is_own_thread, is_forbidden;
    };
    const Case cases[] = {
        {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL, true, true},
        {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL, false, true},
        {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, true, true},
        {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, false, false},
        {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED, true, false},
        {CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_GLOBAL, true, true},
        {CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_GLOBAL, false, false},
        {CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_CAPTURE_MODE_GLOBAL, true, false},
        {CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_CAPTURE_MODE_GLOBAL, false, false},
    };
    for (const Case &each : cases) {
        OK("cuStreamBeginCapture_v2", stream, each.of_capture);
        auto act = [&] {
            CUdeviceptr memory = 0;
            CUstreamCaptureMode mode = each.of_thread;
            OK("cuCtxSetCurrent", context);
            OK("cuThreadExchangeStreamCaptureMode", &mode);
            REQUIRE(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
            CUresult result = call("cuMemAlloc_v2", &memory, (size_t)256);
            OK("cuThreadExchangeStreamCaptureMode", &mode);
            REQUIRE(mode == each.of_thread);
            REQUIRE(result == (each.is_forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS));
        };
        if (each.is_own_thread)
            act();
        else
            std::thread(act).join();
        CUgraph graph = nullptr;
        CUresult ended = call("cuStreamEndCapture", stream, &graph);
        REQUIRE(ended == (each.is_forbidden ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS));
        if (graph) OK("cuGraphDestroy", graph);
    }
}

// At a distance: an event that was destroyed is an error of the launch and of nothing else, and a launch into a capture takes a child as it was
// instantiated.
static void names() {
    if (!has("what nodes name")) return;
    CUgraph graph = empty_graph(), child = empty_graph(), into = nullptr, inner = nullptr;
    CUgraphNode node, first = add_digit(child, 1);
    CUevent event;
    OK("cuEventCreate", &event, (unsigned)CU_EVENT_DISABLE_TIMING);
    OK("cuGraphAddEventRecordNode", &node, graph, NONE, (size_t)0, event);
    CUgraphExec exec = instantiate(graph);
    OK("cuGraphLaunch", exec, stream);
    OK("cuEventDestroy_v2", event);
    GIVES(CUDA_ERROR_INVALID_HANDLE, "cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
    graph = empty_graph();
    OK("cuGraphAddChildGraphNode", &node, graph, NONE, (size_t)0, child);
    exec = instantiate(graph);
    OK("cuGraphChildGraphNodeGetGraph", node, &inner);
    size_t one = 1;
    OK("cuGraphGetNodes", inner, &first, &one);
    Digit seven(7);
    auto seventh = seven.old();
    OK("cuGraphKernelNodeSetParams", first, (const CUDA_KERNEL_NODE_PARAMS_v1 *)&seventh);
    OK("cuStreamBeginCapture_v2", stream, (int)CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamEndCapture", stream, &into);
    OK("cuGraphExecDestroy", exec);
    REQUIRE(does(into) == 1);
    OK("cuGraphDestroy", into);
    OK("cuGraphDestroy", child);
    OK("cuGraphDestroy", graph);
}

int main(int argc, char **argv) {
    open_driver(argc, argv);
    CUdevice device = -1;
    CUmodule module = nullptr;
    OK("cuInit", 0u);
    OK("cuDeviceGet", &device, 0);
    OK("cuDevicePrimaryCtxRetain", &context, device);
    OK("cuCtxSetCurrent", context);
    OK("cuModuleLoadData", &module, (const void *)APPEND);
    OK("cuModuleGetFunction", &function, module, "append");
    OK("cuMemAlloc_v2", &at, (size_t)256);
    OK("cuMemAlloc_v2", &copy, (size_t)256);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    kinds();
    attributes();
    edges();
    other_ways_to_add();
    host_memory();
    events();
    relaunches();
    within_the_device();
    memory_of_its_own();
    memory_operations();
    user_objects();
    captures();
    captures_of_contexts();
    violations();
    modes();
    names();
    return pass("graphs as they were made, changed and captured");
}
