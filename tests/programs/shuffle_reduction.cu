// A sum in three levels: warp shuffles, shared memory across warps, one atomic for each block.
// Integers, so the result is exact whatever the order; also ballot, any, all, and the other shuffles.
#include "check.h"

#include <vector>

const char *const PROGRAM = "shuffle_reduction";
constexpr unsigned FULL = 0xFFFFFFFFu;

__global__ void reduce(const int *values, size_t n, unsigned long long *total, int *largest) {
    __shared__ long long sums[32];
    __shared__ int maxima[32];
    long long sum = 0;
    int most = INT_MIN;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        sum += values[i];
        most = max(most, values[i]);
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_down_sync(FULL, sum, offset);
        most = max(most, __shfl_xor_sync(FULL, most, offset));
    }
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (lane == 0) sums[warp] = sum, maxima[warp] = most;
    __syncthreads();
    if (warp != 0) return;
    sum = lane < warps ? sums[lane] : 0;
    most = lane < warps ? maxima[lane] : INT_MIN;
    for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_down_sync(FULL, sum, offset);
        most = max(most, __shfl_xor_sync(FULL, most, offset));
    }
    if (lane == 0) {
        atomicAdd(total, (unsigned long long)sum);
        atomicMax(largest, most);
    }
}

// One warp; each lane writes what it saw, so that the host can say which lane is wrong.
__global__ void votes(unsigned *out) {
    unsigned lane = threadIdx.x;
    unsigned odd = __ballot_sync(FULL, lane & 1);
    unsigned scan = lane;
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned below = __shfl_up_sync(FULL, scan, offset);
        if (lane >= offset) scan += below;
    }
    unsigned rotated = __shfl_sync(FULL, lane * 3, (lane + 5) % 32);
    unsigned in_eights = __shfl_sync(FULL, lane, 1, 8);
    unsigned flags = (__any_sync(FULL, lane == 31) ? 1 : 0) | (__all_sync(FULL, lane < 31) ? 2 : 0);
    unsigned *mine = out + lane * 5;
    mine[0] = odd, mine[1] = scan, mine[2] = rotated, mine[3] = in_eights, mine[4] = flags;
}

static void run(size_t n, unsigned blocks, unsigned threads) {
    std::vector<int> values(n);
    Random random((uint32_t)n + threads);
    unsigned long long expected = 0;
    int most = INT_MIN;
    for (int &x : values) {
        x = (int)random.next();
        expected += (unsigned long long)(long long)x;
        most = x > most ? x : most;
    }
    int *dv, *dm;
    unsigned long long *dt, total;
    CHECK(cudaMalloc(&dv, n * sizeof(int)));
    CHECK(cudaMalloc(&dt, sizeof total));
    CHECK(cudaMalloc(&dm, sizeof most));
    CHECK(cudaMemcpy(dv, values.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dt, 0, sizeof total));
    CHECK(cudaMemset(dm, 0x80, sizeof most));
    reduce<<<blocks, threads>>>(dv, n, dt, dm);
    CHECK(cudaGetLastError());
    int got_most;
    CHECK(cudaMemcpy(&total, dt, sizeof total, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(&got_most, dm, sizeof got_most, cudaMemcpyDeviceToHost));
    REQUIRE(total == expected, "n %zu, %u x %u: sum %lld, expected %lld", n, blocks, threads, total, expected);
    REQUIRE(got_most == most, "n %zu, %u x %u: maximum %d, expected %d", n, blocks, threads, got_most, most);
    CHECK(cudaFree(dv));
    CHECK(cudaFree(dt));
    CHECK(cudaFree(dm));
}

static void check_votes() {
    unsigned *device, got[32 * 5];
    CHECK(cudaMalloc(&device, sizeof got));
    votes<<<1, 32>>>(device);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(got, device, sizeof got, cudaMemcpyDeviceToHost));
    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned expected[5] = {0xAAAAAAAAu, lane * (lane + 1) / 2, (lane + 5) % 32 * 3, lane / 8 * 8 + 1, 1};
        for (int i = 0; i < 5; i++)
            REQUIRE(got[lane * 5 + i] == expected[i], "vote %d of lane %u is %u, expected %u", i, lane,
                    got[lane * 5 + i], expected[i]);
    }
    CHECK(cudaFree(device));
}

int main() {
    run(1, 1, 32);
    run(1000, 3, 96);
    run(65537, 7, 256);
    run(1 << 20, 64, 1024);
    check_votes();
    return pass("4 sums of up to %d integers, votes and shuffles", 1 << 20);
}
