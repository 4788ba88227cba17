// Blocks of a cluster through cooperative groups: a histogram whose bins lie in the shared memory of all of them, as the CUDA programming guide shows it.
#include <cooperative_groups.h>

#include <vector>

#include "check.h"

const char *const PROGRAM = "clusters";

// Anything that must hold, in its own words.
#define HOLDS(condition) REQUIRE(condition, "line %d: %s", __LINE__, #condition)

namespace cg = cooperative_groups;

static const int THREADS = 128;

// Counts in the shared memory of the cluster's blocks, each of which has `own` of the bins; then adds them up in `bins`.
__global__ void histogram(unsigned *bins, int own, const unsigned *input, size_t count) {
    extern __shared__ unsigned counts[];
    cg::cluster_group cluster = cg::this_cluster();
    for (int bin = threadIdx.x; bin < own; bin += blockDim.x) counts[bin] = 0;
    cluster.sync();
    const int all = own * cluster.num_blocks();
    for (size_t index = cg::this_grid().thread_rank(); index < count; index += cg::this_grid().num_threads()) {
        int bin = input[index] % all;
        unsigned *there = cluster.map_shared_rank(counts, bin / own);
        atomicAdd(there + bin % own, 1);
    }
    cluster.sync();
    unsigned *mine = bins + cluster.block_rank() * own;
    for (int bin = threadIdx.x; bin < own; bin += blockDim.x) atomicAdd(mine + bin, counts[bin]);
}

// Who everybody is, told by the group; each block reads the word of the one across. Its size is the compiler's.
__global__ void __cluster_dims__(2, 2, 1) across(int *out) {
    __shared__ int word;
    cg::cluster_group cluster = cg::this_cluster();
    dim3 place = cluster.block_index(), size = cluster.dim_blocks();
    if (threadIdx.x == 0) word = place.x + 10 * place.y + 100 * cluster.block_rank();
    auto token = cluster.barrier_arrive();
    bool good = size.x == 2 && size.y == 2 && size.z == 1 && cluster.num_threads() == 4 * blockDim.x && cg::cluster_group::num_blocks() == 4;
    cluster.barrier_wait(std::move(token));
    unsigned other = cluster.block_rank() ^ 3;
    int *there = cluster.map_shared_rank(&word, other);
    good = good && cluster.query_shared_rank(there) == other && cluster.query_shared_rank(&word) == cluster.block_rank();
    if (threadIdx.x == 0) out[blockIdx.y * gridDim.x + blockIdx.x] = good ? *there : -1;
    // Nobody ends while others read.
    cluster.sync();
}

static void count(int blocks, int size, int own) {
    const size_t COUNT = 40000;
    std::vector<unsigned> input(COUNT), want(own * size), found(own * size);
    unsigned seed = 12345;
    for (auto &word : input) {
        seed = seed * 1664525 + 1013904223;
        word = seed >> 7;
        want[word % want.size()]++;
    }
    unsigned *device_input, *bins;
    CHECK(cudaMalloc(&device_input, COUNT * sizeof *device_input));
    CHECK(cudaMalloc(&bins, want.size() * sizeof *bins));
    CHECK(cudaMemcpy(device_input, input.data(), COUNT * sizeof *device_input, cudaMemcpyHostToDevice));
    CHECK(cudaMemset(bins, 0, want.size() * sizeof *bins));
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute[1];
    attribute[0].id = cudaLaunchAttributeClusterDimension;
    attribute[0].val.clusterDim = {(unsigned)size, 1, 1};
    config.gridDim = blocks, config.blockDim = THREADS, config.dynamicSmemBytes = own * sizeof(unsigned);
    config.attrs = attribute, config.numAttrs = 1;
    if (config.dynamicSmemBytes > 48 << 10)
        CHECK(cudaFuncSetAttribute(histogram, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)config.dynamicSmemBytes));
    int active = 0, largest = 0;
    CHECK(cudaOccupancyMaxActiveClusters(&active, histogram, &config));
    CHECK(cudaOccupancyMaxPotentialClusterSize(&largest, histogram, &config));
    HOLDS(active >= 1 && largest >= 8);
    CHECK(cudaLaunchKernelEx(&config, histogram, bins, own, (const unsigned *)device_input, COUNT));
    CHECK(cudaMemcpy(found.data(), bins, want.size() * sizeof *bins, cudaMemcpyDeviceToHost));
    HOLDS(found == want);
    // Not as many blocks as whole clusters have.
    if (size > 1) {
        config.gridDim = blocks + 1;
        HOLDS(cudaLaunchKernelEx(&config, histogram, bins, own, (const unsigned *)device_input, COUNT) == cudaErrorInvalidClusterSize);
        HOLDS(cudaGetLastError() == cudaErrorInvalidClusterSize);
    }
    CHECK(cudaFree(device_input));
    CHECK(cudaFree(bins));
}

static void places() {
    const dim3 GRID(6, 4);
    std::vector<int> found(GRID.x * GRID.y);
    int *out;
    CHECK(cudaMalloc(&out, found.size() * sizeof *out));
    across<<<GRID, THREADS>>>(out);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(found.data(), out, found.size() * sizeof *out, cudaMemcpyDeviceToHost));
    for (unsigned y = 0; y < GRID.y; y++)
        for (unsigned x = 0; x < GRID.x; x++) {
            int other = (int)(x % 2 + 2 * (y % 2)) ^ 3;
            HOLDS(found[y * GRID.x + x] == other % 2 + 10 * (other / 2) + 100 * other);
        }
    CHECK(cudaFree(out));
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, across));
    HOLDS(attributes.requiredClusterWidth == 2 && attributes.requiredClusterHeight == 2 && attributes.clusterDimMustBeSet);
}

int main() {
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    HOLDS(properties.major >= 9 && properties.clusterLaunch);
    count(16, 1, 512);
    count(16, 2, 256);
    count(32, 8, 100);
    // More bins than one block has memory for.
    count(4, 2, 25000);
    places();
    return pass("a histogram over clusters");
}
