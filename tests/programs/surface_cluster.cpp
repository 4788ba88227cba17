// Launches in clusters on a device of compute capability 9.0 and more: by an attribute, by what a kernel requires, in streams and graphs; what is told of
// functions and devices; what is refused.
#include "driver.h"

const char *const PROGRAM = "surface_cluster";

static const char *const HEAD = R"(
.version 7.8
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 more[];
)";

// Each block gives its place to the next one of its cluster, and stores what it got with the cluster's size.
static const char *const BODY = R"(
{
    .shared .align 4 .b32 cell;
    .reg .b32 %r<8>;
    .reg .b64 %rd<4>;
    mov.u32 %r0, %cluster_ctarank;
    mov.u32 %r1, %cluster_nctarank;
    add.u32 %r2, %r0, 1;
    rem.u32 %r2, %r2, %r1;
    mov.u32 %r3, cell;
    mapa.shared::cluster.u32 %r3, %r3, %r2;
    mov.u32 %r4, %clusterid.x;
    mad.lo.u32 %r4, %r4, 100, %r0;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    st.shared::cluster.b32 [%r3], %r4;
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    ld.shared.b32 %r5, [cell];
    mad.lo.u32 %r5, %r1, 10000, %r5;
    ld.param.u64 %rd0, [out];
    mov.u32 %r6, %ctaid.x;
    mad.wide.u32 %rd1, %r6, 4, %rd0;
    st.global.b32 [%rd1], %r5;
    ret;
}
)";

// The module: kernels that differ in what they say of their clusters.
static std::string text() {
    std::string all = HEAD;
    const char *const kernels[][2] = {
        {"ring", ""}, {"must", ".explicitcluster"}, {"two", ".explicitcluster .reqnctapercluster 2, 1, 1"}, {"four", ".maxclusterrank 4"}};
    for (auto &[name, directives] : kernels)
        all += std::string(".visible .entry ") + name + "(.param .u64 out) " + directives + BODY;
    return all;
}

static CUdevice device;
static CUcontext context;
static CUmodule module;
static CUdeviceptr out;
static const unsigned BLOCKS = 32;

static CUfunction function(const char *name) {
    CUfunction found = nullptr;
    OK("cuModuleGetFunction", &found, module, name);
    return found;
}

// A configuration with room for some attributes.
struct Config {
    CUlaunchAttribute attributes[4] = {};
    CUlaunchConfig config = {};
    explicit Config(unsigned blocks, unsigned cluster = 0) {
        config.gridDimX = blocks, config.gridDimY = config.gridDimZ = 1;
        config.blockDimX = 64, config.blockDimY = config.blockDimZ = 1;
        config.attrs = attributes;
        if (cluster) {
            CUlaunchAttribute &size = add(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
            size.value.clusterDim.x = cluster, size.value.clusterDim.y = size.value.clusterDim.z = 1;
        }
    }
    CUlaunchAttribute &add(int id) {
        CUlaunchAttribute &added = attributes[config.numAttrs++];
        added.id = (CUlaunchAttributeID)id;
        return added;
    }
    const CUlaunchConfig *get() {
        config.attrs = attributes;
        return &config;
    }
};

static CUresult launch(CUfunction kernel, Config config) {
    void *parameters[] = {&out};
    return call("cuLaunchKernelEx", config.get(), kernel, (void **)parameters, (void **)nullptr);
}

static CUresult launch_plain(CUfunction kernel, unsigned blocks) {
    void *parameters[] = {&out};
    return call("cuLaunchKernel", kernel, blocks, 1u, 1u, 64u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters, (void **)nullptr);
}

static void clear() { OK("cuMemsetD32_v2", out, 0xffffffffu, (size_t)BLOCKS); }

// What so many blocks have left, in clusters of this size.
static bool is_there(unsigned blocks, unsigned cluster) {
    unsigned found[BLOCKS];
    OK("cuMemcpyDtoH_v2", (void *)found, out, sizeof found);
    for (unsigned block = 0; block < BLOCKS; block++) {
        unsigned before = (block % cluster + cluster - 1) % cluster;
        unsigned want = block < blocks ? cluster * 10000 + block / cluster * 100 + before : 0xffffffffu;
        if (found[block] != want) return false;
    }
    clear();
    return true;
}

static int attribute(CUdevice_attribute id) {
    int value = -1;
    OK("cuDeviceGetAttribute", &value, id, device);
    return value;
}

static int attribute(CUfunction kernel, CUfunction_attribute id) {
    int value = -1;
    OK("cuFuncGetAttribute", &value, id, kernel);
    return value;
}

static void sizes() {
    CUfunction ring = function("ring");
    for (unsigned cluster : {1u, 2u, 4u, 8u}) {
        REQUIRE(launch(ring, Config(16, cluster)) == CUDA_SUCCESS);
        REQUIRE(is_there(16, cluster));
    }
    REQUIRE(launch_plain(ring, 5) == CUDA_SUCCESS && is_there(5, 1));
    REQUIRE(launch(ring, Config(5)) == CUDA_SUCCESS && is_there(5, 1));
    // The same launch again, which a library in front of the driver need not ask about.
    for (int again = 0; again < 3; again++) {
        REQUIRE(launch(ring, Config(8, 4)) == CUDA_SUCCESS);
        REQUIRE(launch(ring, Config(6, 4)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
        REQUIRE(is_there(8, 4));
    }
    Config flat(8, 2);
    flat.attributes[0].value.clusterDim.y = 2;
    REQUIRE(launch(ring, flat) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    flat.attributes[0].value.clusterDim.y = 0;
    REQUIRE(launch(ring, flat) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    // All blocks at once, in clusters.
    Config together(4, 2);
    together.add(CU_LAUNCH_ATTRIBUTE_COOPERATIVE).value.cooperative = 1;
    REQUIRE(launch(ring, together) == CUDA_SUCCESS && is_there(4, 2));
    // As much shared memory as there is, in each of them.
    int most = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) - attribute(ring, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
    REQUIRE(most > 200 << 10);
    OK("cuFuncSetAttribute", ring, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most);
    Config large(8, 8);
    large.config.sharedMemBytes = most;
    REQUIRE(launch(ring, large) == CUDA_SUCCESS && is_there(8, 8));
}

static void larger_ones() {
    CUfunction ring = function("ring"), four = function("four");
    int size = -1;
    const auto LARGER = CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
    REQUIRE(attribute(ring, LARGER) == 0 && launch(ring, Config(16, 16)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    OK("cuOccupancyMaxPotentialClusterSize", &size, ring, Config(16).get());
    REQUIRE(size == 8);
    Config allowed(16, 16);
    allowed.add(17).value.pad[0] = 2;  // CU_LAUNCH_ATTRIBUTE_PORTABLE_CLUSTER_SIZE_MODE, ALLOW_NON_PORTABLE
    REQUIRE(launch(ring, allowed) == CUDA_SUCCESS && is_there(16, 16));
    allowed.attributes[1].value.pad[0] = 7;
    REQUIRE(launch(ring, allowed) == CUDA_ERROR_INVALID_VALUE);

    OK("cuFuncSetAttribute", ring, LARGER, 1);
    REQUIRE(attribute(ring, LARGER) == 1);
    REQUIRE(launch(ring, Config(16, 16)) == CUDA_SUCCESS && is_there(16, 16));
    REQUIRE(launch(ring, Config(32, 32)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    OK("cuOccupancyMaxPotentialClusterSize", &size, ring, Config(16).get());
    REQUIRE(size == 16);
    allowed.attributes[1].value.pad[0] = 1;
    REQUIRE(launch(ring, allowed) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    OK("cuFuncSetAttribute", ring, LARGER, 0);
    REQUIRE(launch(ring, Config(16, 16)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute", ring, LARGER, 2);

    REQUIRE(launch(four, Config(8, 4)) == CUDA_SUCCESS && is_there(8, 4));
    REQUIRE(launch(four, Config(8, 8)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    OK("cuOccupancyMaxPotentialClusterSize", &size, four, Config(16).get());
    REQUIRE(size == 4);
}

static void required_ones() {
    CUfunction ring = function("ring"), must = function("must"), two = function("two");
    const auto WIDTH = CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH, HEIGHT = CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT,
               DEPTH = CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH;
    REQUIRE(attribute(must, CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET) == 1 && attribute(must, WIDTH) == 0);
    REQUIRE(launch_plain(must, 4) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    REQUIRE(launch(must, Config(4, 4)) == CUDA_SUCCESS && is_there(4, 4));

    REQUIRE(attribute(two, WIDTH) == 2 && attribute(two, HEIGHT) == 1 && attribute(two, DEPTH) == 1);
    REQUIRE(launch_plain(two, 6) == CUDA_SUCCESS && is_there(6, 2));
    REQUIRE(launch(two, Config(6, 2)) == CUDA_SUCCESS && is_there(6, 2));
    REQUIRE(launch(two, Config(8, 4)) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    GIVES(CUDA_ERROR_NOT_PERMITTED, "cuFuncSetAttribute", two, WIDTH, 4);
    int size = -1, count = -1;
    OK("cuOccupancyMaxPotentialClusterSize", &size, two, Config(16).get());
    OK("cuOccupancyMaxActiveClusters", &count, two, Config(16).get());
    REQUIRE(size == 2 && count >= 1);

    REQUIRE(attribute(ring, CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET) == 0 && attribute(ring, WIDTH) == 0);
    for (auto dimension : {WIDTH, HEIGHT, DEPTH}) OK("cuFuncSetAttribute", ring, dimension, dimension == WIDTH ? 4 : 1);
    REQUIRE(attribute(ring, WIDTH) == 4 && attribute(ring, DEPTH) == 1);
    REQUIRE(launch_plain(ring, 8) == CUDA_SUCCESS && is_there(8, 4));
    OK("cuFuncSetAttribute", ring, DEPTH, 0);
    REQUIRE(launch_plain(ring, 8) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    for (auto dimension : {WIDTH, HEIGHT}) OK("cuFuncSetAttribute", ring, dimension, 0);
    REQUIRE(launch_plain(ring, 8) == CUDA_SUCCESS && is_there(8, 1));
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute", ring, WIDTH, -1);

    const auto POLICY = CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
    OK("cuFuncSetAttribute", ring, POLICY, (int)CU_CLUSTER_SCHEDULING_POLICY_SPREAD);
    REQUIRE(attribute(ring, POLICY) == CU_CLUSTER_SCHEDULING_POLICY_SPREAD);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute", ring, POLICY, 77);
}

static void occupancy() {
    CUfunction ring = function("ring");
    int one = -1, four = -1, count = -1;
    OK("cuOccupancyMaxActiveClusters", &one, ring, Config(16, 1).get());
    OK("cuOccupancyMaxActiveClusters", &four, ring, Config(16, 4).get());
    REQUIRE(one >= four && four >= 1);
    GIVES(CUDA_ERROR_INVALID_CLUSTER_SIZE, "cuOccupancyMaxActiveClusters", &count, ring, Config(16).get());
    GIVES(CUDA_ERROR_INVALID_CLUSTER_SIZE, "cuOccupancyMaxActiveClusters", &count, ring, Config(16, 32).get());
}

static void graphs() {
    CUfunction ring = function("ring"), two = function("two");
    CUstream stream = nullptr;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_DEFAULT);
    void *parameters[] = {&out};
    CUDA_KERNEL_NODE_PARAMS node = {};
    node.func = ring;
    node.gridDimX = 8, node.gridDimY = node.gridDimZ = node.blockDimY = node.blockDimZ = 1, node.blockDimX = 64;
    node.kernelParams = parameters;
    CUgraph graph = nullptr;
    CUgraphNode first = nullptr, second = nullptr;
    CUgraphExec exec = nullptr;
    OK("cuGraphCreate", &graph, 0u);
    OK("cuGraphAddKernelNode_v2", &first, graph, (const CUgraphNode *)nullptr, (size_t)0, (const CUDA_KERNEL_NODE_PARAMS *)&node);
    const auto SIZE = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    CUlaunchAttributeValue value = {};
    value.clusterDim.x = 4, value.clusterDim.y = value.clusterDim.z = 1;
    OK("cuGraphKernelNodeSetAttribute", first, SIZE, (const CUlaunchAttributeValue *)&value);
    std::memset(&value, 0, sizeof value);
    OK("cuGraphKernelNodeGetAttribute", first, SIZE, &value);
    REQUIRE(value.clusterDim.x == 4 && value.clusterDim.y == 1 && value.clusterDim.z == 1);
    // Parameters leave it as it is.
    node.gridDimX = 16;
    OK("cuGraphKernelNodeSetParams_v2", first, (const CUDA_KERNEL_NODE_PARAMS *)&node);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(is_there(16, 4));
    OK("cuGraphExecDestroy", exec);

    OK("cuGraphAddKernelNode_v2", &second, graph, (const CUgraphNode *)&first, (size_t)1, (const CUDA_KERNEL_NODE_PARAMS *)&node);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(is_there(16, 1));
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphKernelNodeCopyAttributes", second, first);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    REQUIRE(is_there(16, 4));
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);

    // A captured launch keeps its clusters, and what its kernel requires.
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    Config config(24, 8);
    config.config.hStream = stream;
    REQUIRE(launch(ring, config) == CUDA_SUCCESS);
    OK("cuLaunchKernel", two, 6u, 1u, 1u, 64u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
    OK("cuStreamEndCapture", stream, &graph);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    OK("cuGraphLaunch", exec, stream);
    OK("cuStreamSynchronize", stream);
    unsigned found[BLOCKS];
    OK("cuMemcpyDtoH_v2", (void *)found, out, sizeof found);
    REQUIRE(found[0] == 20001 && found[5] == 20200 && found[6] == 80005 && found[23] == 80206);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
    OK("cuStreamDestroy_v2", stream);
}

int main(int argc, char **argv) {
    open_driver(argc, argv);
    OK("cuInit", 0u);
    OK("cuDeviceGet", &device, 0);
    OK("cuDevicePrimaryCtxRetain", &context, device);
    OK("cuCtxPushCurrent_v2", context);
    REQUIRE(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 9);
    REQUIRE(attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH) == 1 && attribute(CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED) == 1);
    OK("cuModuleLoadData", &module, (const void *)text().c_str());
    OK("cuMemAlloc_v2", &out, (size_t)(BLOCKS * 4));
    clear();
    sizes();
    larger_ones();
    required_ones();
    occupancy();
    graphs();
    OK("cuMemFree_v2", out);
    OK("cuModuleUnload", module);
    return pass("clusters");
}
