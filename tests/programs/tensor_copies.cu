// Asynchronous copies of compute capability 9.0, as the toolkit's headers make them: bytes in bulk to and from shared memory, barriers that count them, words to
// another block of a cluster, and tiles of a matrix by a tensor map.
#include <vector>

#include <cooperative_groups.h>
#include <cuda.h>
#include <cuda/barrier>
#include <cuda/ptx>

#include "check.h"

const char *const PROGRAM = "tensor_copies";

namespace cg = cooperative_groups;
namespace ptx = cuda::ptx;
using barrier = cuda::barrier<cuda::thread_scope_block>;

// Anything that must hold, in its own words.
#define HOLDS(condition) REQUIRE(condition, "line %d: %s", __LINE__, #condition)

static const int THREADS = 128, COUNT = 1024;

// Adds one to a block's numbers, and their sum by words to `sums`.
__global__ void add_one(int *numbers, int *sums) {
    __shared__ alignas(16) int tile[COUNT];
    __shared__ alignas(16) int twice[4];
#pragma nv_diag_suppress static_var_with_dynamic_init
    __shared__ barrier bar;
    if (threadIdx.x == 0) init(&bar, blockDim.x);
    __syncthreads();
    int *mine = numbers + blockIdx.x * COUNT;
    barrier::arrival_token token;
    if (threadIdx.x == 0) {
        cuda::memcpy_async(tile, mine, cuda::aligned_size_t<16>(sizeof tile), bar);
        token = bar.arrive();
    } else {
        token = bar.arrive();
    }
    bar.wait(std::move(token));
    for (int i = threadIdx.x; i < COUNT; i += blockDim.x) tile[i] += 1;
    if (threadIdx.x < 4) twice[threadIdx.x] = tile[threadIdx.x];
    ptx::fence_proxy_async(ptx::space_shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::cp_async_bulk(ptx::space_global, ptx::space_shared, mine, tile, sizeof tile);
        ptx::cp_reduce_async_bulk(ptx::space_global, ptx::space_shared, ptx::op_add, sums, twice, sizeof twice);
        ptx::cp_async_bulk_commit_group();
        ptx::cp_async_bulk_wait_group_read(ptx::n32_t<0>());
    }
}

// The same by parities, in two stages: while one half is worked on, the other one is on its way.
__global__ void staged(const int *in, int *out, int stages) {
    __shared__ alignas(16) int tile[2][COUNT];
    __shared__ uint64_t bars[2];
    const uint32_t BYTES = sizeof tile[0];
    if (threadIdx.x == 0) {
        for (auto &bar : bars) ptx::mbarrier_init(&bar, 1);
        ptx::fence_proxy_async(ptx::space_shared);
    }
    __syncthreads();
    auto fetch = [&](int stage) {
        ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &bars[stage % 2], BYTES);
        ptx::cp_async_bulk(ptx::space_cluster, ptx::space_global, tile[stage % 2], in + stage * COUNT, BYTES, &bars[stage % 2]);
    };
    if (threadIdx.x == 0) fetch(0);
    int sum = 0;
    for (int stage = 0; stage < stages; stage++) {
        if (threadIdx.x == 0 && stage + 1 < stages) fetch(stage + 1);
        while (!ptx::mbarrier_try_wait_parity(&bars[stage % 2], stage / 2 % 2)) {}
        for (int i = threadIdx.x; i < COUNT; i += blockDim.x) sum += tile[stage % 2][i] * (stage + 1);
        __syncthreads();
    }
    atomicAdd(out, sum);
}

// Each block sends a word for each thread to the next one of its cluster, and its first one a piece of device memory to all.
__global__ void __cluster_dims__(4, 1, 1) between_blocks(const int *in, int *out) {
    __shared__ alignas(16) int words[THREADS], piece[THREADS];
    __shared__ uint64_t bar;
    cg::cluster_group cluster = cg::this_cluster();
    unsigned rank = cluster.block_rank(), next = (rank + 1) % cluster.num_blocks();
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(&bar, 1);
        ptx::fence_mbarrier_init(ptx::sem_release, ptx::scope_cluster);
        ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &bar, sizeof words + sizeof piece);
    }
    cluster.sync();
    int *there = cluster.map_shared_rank(words, next);
    uint64_t *bar_there = cluster.map_shared_rank(&bar, next);
    ptx::st_async(there + threadIdx.x, (int)(rank * 1000 + threadIdx.x), bar_there);
    if (rank == 0 && threadIdx.x == 0) {
        // The headers have the copy to several blocks for sm_90a only.
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;"
                     :
                     : "r"((unsigned)__cvta_generic_to_shared(piece)), "l"(in), "r"((unsigned)sizeof piece),
                       "r"((unsigned)__cvta_generic_to_shared(&bar)), "h"((unsigned short)15)
                     : "memory");
    }
    while (!ptx::mbarrier_try_wait_parity(ptx::sem_acquire, ptx::scope_cluster, &bar, 0)) {}
    out[blockIdx.x * THREADS + threadIdx.x] = words[threadIdx.x] + piece[threadIdx.x];
    cluster.sync();
}

static const int TILE = 32;

// Transposes a tile of a matrix: rows of 128 bytes, whose pieces are swapped by the copies and found again by the same rule.
__global__ void transpose(const __grid_constant__ CUtensorMap from, const __grid_constant__ CUtensorMap to, const __grid_constant__ CUtensorMap sum) {
    __shared__ alignas(1024) int in[TILE][TILE];
    __shared__ alignas(1024) int out[TILE][TILE];
    __shared__ uint64_t bar;
    int x = blockIdx.x * TILE, y = blockIdx.y * TILE;
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(&bar, 1);
        ptx::fence_proxy_async(ptx::space_shared);
        ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &bar, sizeof in);
        const int32_t place[2] = {x, y};
        ptx::cp_async_bulk_tensor(ptx::space_cluster, ptx::space_global, in, &from, place, &bar);
    }
    __syncthreads();
    while (!ptx::mbarrier_try_wait_parity(&bar, 0)) {}
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        int row = i / TILE, column = i % TILE;
        auto swapped = [](int row, int column) { return ((column / 4) ^ (row % 8)) * 4 + column % 4; };
        out[column][swapped(column, row)] = in[row][swapped(row, column)];
    }
    ptx::fence_proxy_async(ptx::space_shared);
    __syncthreads();
    if (threadIdx.x == 0) {
        const int32_t place[2] = {y, x};
        ptx::cp_async_bulk_tensor(ptx::space_global, ptx::space_shared, &to, place, out);
        const int32_t origin[2] = {0, 0};
        ptx::cp_reduce_async_bulk_tensor(ptx::space_global, ptx::space_shared, ptx::op_add, &sum, origin, out);
        ptx::cp_async_bulk_commit_group();
        ptx::cp_async_bulk_wait_group(ptx::n32_t<0>());
    }
}

static std::vector<int> from_device(const int *device, size_t count) {
    std::vector<int> host(count);
    CHECK(cudaMemcpy(host.data(), device, count * sizeof(int), cudaMemcpyDeviceToHost));
    return host;
}

static int *to_device(const std::vector<int> &host) {
    int *device;
    CHECK(cudaMalloc(&device, host.size() * sizeof(int)));
    CHECK(cudaMemcpy(device, host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice));
    return device;
}

static std::vector<int> noise(size_t count) {
    Random random(7);
    std::vector<int> all(count);
    for (int &word : all) word = (int)(random.next() >> 12);
    return all;
}

static void bulk() {
    const int BLOCKS = 5;
    std::vector<int> numbers = noise(BLOCKS * COUNT);
    int *device = to_device(numbers), *sums = to_device(std::vector<int>(4));
    add_one<<<BLOCKS, THREADS>>>(device, sums);
    CHECK(cudaGetLastError());
    std::vector<int> found = from_device(device, numbers.size()), found_sums = from_device(sums, 4);
    int want[4] = {};
    for (size_t i = 0; i < numbers.size(); i++) {
        HOLDS(found[i] == numbers[i] + 1);
        if (i % COUNT < 4) want[i % COUNT] += found[i];
    }
    for (int i = 0; i < 4; i++) HOLDS(found_sums[i] == want[i]);

    int *out = to_device({0});
    staged<<<1, THREADS>>>(device, out, BLOCKS);
    CHECK(cudaGetLastError());
    unsigned sum = 0;
    for (size_t i = 0; i < found.size(); i++) sum += (unsigned)found[i] * (unsigned)(i / COUNT + 1);
    HOLDS((unsigned)from_device(out, 1)[0] == sum);

    int *words = to_device(std::vector<int>(8 * THREADS));
    between_blocks<<<8, THREADS>>>(device, words);
    CHECK(cudaGetLastError());
    std::vector<int> got = from_device(words, 8 * THREADS);
    for (int i = 0; i < 8 * THREADS; i++) {
        int rank = i / THREADS % 4, thread = i % THREADS;
        HOLDS(got[i] == (rank + 3) % 4 * 1000 + thread + found[thread]);
    }
    for (int *memory : {device, sums, out, words}) CHECK(cudaFree(memory));
}

typedef CUresult (*Encode)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                           const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static CUtensorMap map_of(Encode encode, int *matrix, cuuint64_t width, cuuint64_t height, cuuint64_t pitch) {
    CUtensorMap map;
    const cuuint64_t size[2] = {width, height}, stride[1] = {pitch};
    const cuuint32_t box[2] = {TILE, TILE}, steps[2] = {1, 1};
    CUresult made = encode(&map, CU_TENSOR_MAP_DATA_TYPE_INT32, 2, matrix, size, stride, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    HOLDS(made == CUDA_SUCCESS);
    return map;
}

// The last tiles reach over the edges: what is outside is zero, and is not stored.
static void tiles() {
    const int WIDTH = 100, HEIGHT = 70, PITCH = 104, PITCH_BACK = 72;
    std::vector<int> matrix = noise(HEIGHT * PITCH), sums(TILE * TILE);
    int *from = to_device(matrix), *to = to_device(std::vector<int>(WIDTH * PITCH_BACK, -1)), *sum = to_device(sums);
    void *address = nullptr;
    cudaDriverEntryPointQueryResult found;
    CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000, cudaEnableDefault, &found));
    HOLDS(found == cudaDriverEntryPointSuccess);
    Encode encode = (Encode)address;
    dim3 grid((WIDTH + TILE - 1) / TILE, (HEIGHT + TILE - 1) / TILE);
    transpose<<<grid, THREADS>>>(map_of(encode, from, WIDTH, HEIGHT, PITCH * 4), map_of(encode, to, HEIGHT, WIDTH, PITCH_BACK * 4),
                                 map_of(encode, sum, TILE, TILE, TILE * 4));
    CHECK(cudaGetLastError());
    std::vector<int> got = from_device(to, WIDTH * PITCH_BACK), got_sums = from_device(sum, sums.size());
    for (int x = 0; x < WIDTH; x++)
        for (int y = 0; y < PITCH_BACK; y++) {
            int want = y < HEIGHT ? matrix[y * PITCH + x] : -1;
            HOLDS(got[x * PITCH_BACK + y] == want);
            if (y < HEIGHT) sums[x % TILE * TILE + y % TILE] += want;
        }
    HOLDS(got_sums == sums);
    for (int *memory : {from, to, sum}) CHECK(cudaFree(memory));
}

int main() {
    bulk();
    tiles();
    return pass("bytes in bulk and tiles");
}
