// C = A·B by tiles in shared memory, with barriers, for shapes that do not fill the tiles.
// Static shared memory for one kernel, dynamic for the other.
#include "check.h"

#include <cmath>
#include <vector>

const char *const PROGRAM = "tiled_matmul";
constexpr int TILE = 16;

__device__ float dot_of_tiles(const float *a, const float *b, float *tile_a, float *tile_b, int m, int n, int k) {
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    int here = threadIdx.y * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < k; start += TILE) {
        int ka = start + threadIdx.x, kb = start + threadIdx.y;
        tile_a[here] = row < m && ka < k ? a[(size_t)row * k + ka] : 0.0f;
        tile_b[here] = kb < k && column < n ? b[(size_t)kb * n + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) sum += tile_a[threadIdx.y * TILE + i] * tile_b[i * TILE + threadIdx.x];
        __syncthreads();
    }
    return sum;
}

__device__ void store(float *c, float sum, int m, int n) {
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    if (row < m && column < n) c[(size_t)row * n + column] = sum;
}

__global__ void matmul_static(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float tile_a[TILE * TILE], tile_b[TILE * TILE];
    store(c, dot_of_tiles(a, b, tile_a, tile_b, m, n, k), m, n);
}

__global__ void matmul_dynamic(const float *a, const float *b, float *c, int m, int n, int k) {
    extern __shared__ float tiles[];
    store(c, dot_of_tiles(a, b, tiles, tiles + TILE * TILE, m, n, k), m, n);
}

static void run(int m, int n, int k) {
    std::vector<float> a((size_t)m * k), b((size_t)k * n), c((size_t)m * n);
    Random random(m * 31 + n * 7 + k);
    for (float &x : a) x = random.uniform();
    for (float &x : b) x = random.uniform();
    float *da, *db, *dc;
    CHECK(cudaMalloc(&da, a.size() * sizeof(float)));
    CHECK(cudaMalloc(&db, b.size() * sizeof(float)));
    CHECK(cudaMalloc(&dc, c.size() * sizeof(float)));
    CHECK(cudaMemcpy(da, a.data(), a.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(db, b.data(), b.size() * sizeof(float), cudaMemcpyHostToDevice));
    dim3 grid((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), block(TILE, TILE);
    for (int variant = 0; variant < 2; variant++) {
        CHECK(cudaMemset(dc, 0xFF, c.size() * sizeof(float)));
        if (variant == 0)
            matmul_static<<<grid, block>>>(da, db, dc, m, n, k);
        else
            matmul_dynamic<<<grid, block, 2 * TILE * TILE * sizeof(float)>>>(da, db, dc, m, n, k);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpy(c.data(), dc, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
        for (int row = 0; row < m; row++)
            for (int column = 0; column < n; column++) {
                double expected = 0.0;
                for (int i = 0; i < k; i++) expected += (double)a[(size_t)row * k + i] * b[(size_t)i * n + column];
                float got = c[(size_t)row * n + column];
                REQUIRE(std::fabs(got - expected) <= 1e-4 * std::sqrt((double)k) + 1e-6,
                        "%dx%dx%d variant %d: (%d,%d) is %g, expected %g", m, n, k, variant, row, column, got, expected);
            }
    }
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
}

int main() {
    const int shapes[][3] = {{1, 1, 1}, {16, 16, 16}, {17, 15, 33}, {64, 96, 48}, {1, 100, 257}, {130, 70, 129}};
    for (const int *shape : shapes) run(shape[0], shape[1], shape[2]);
    return pass("%zu shapes, static and dynamic shared memory", sizeof shapes / sizeof *shapes);
}
