// c = a + b: allocation, pageable copies both ways, one launch, for sizes on and off every boundary.
#include "check.h"

#include <vector>

const char *const PROGRAM = "vector_add";

__global__ void add(const float *a, const float *b, float *c, size_t n) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

static void run(size_t n) {
    std::vector<float> a(n), b(n), c(n, -1.0f);
    Random random((uint32_t)n);
    for (size_t i = 0; i < n; i++) a[i] = random.uniform(), b[i] = random.uniform();
    float *da, *db, *dc;
    size_t bytes = n * sizeof(float);
    CHECK(cudaMalloc(&da, bytes));
    CHECK(cudaMalloc(&db, bytes));
    CHECK(cudaMalloc(&dc, bytes));
    CHECK(cudaMemcpy(da, a.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(db, b.data(), bytes, cudaMemcpyHostToDevice));
    add<<<(unsigned)((n + 255) / 256), 256>>>(da, db, dc, n);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(c.data(), dc, bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++)
        REQUIRE(c[i] == a[i] + b[i], "n %zu: element %zu is %g, expected %g", n, i, c[i], a[i] + b[i]);
    CHECK(cudaFree(da));
    CHECK(cudaFree(db));
    CHECK(cudaFree(dc));
}

int main() {
    const size_t sizes[] = {1, 31, 32, 33, 255, 257, 1000, 65536, 1000003};
    for (size_t n : sizes) run(n);
    return pass("%zu sizes up to %zu", sizeof sizes / sizeof *sizes, sizes[8]);
}
