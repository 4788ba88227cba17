// cuBLAS: a handle, a stream of ours, vectors moved by its own helpers, one product of matrices.
#include "check.h"

#include <vector>

#include <cublas_v2.h>

const char *const PROGRAM = "cublas";
static const int N = 64;

static void check_product(const std::vector<float> &a, const std::vector<float> &b, const std::vector<float> &c) {
    // Column-major, as the library has it.
    for (int column = 0; column < N; column++)
        for (int row = 0; row < N; row++) {
            float sum = 0;
            for (int k = 0; k < N; k++) sum += a[k * N + row] * b[column * N + k];
            REQUIRE(close(c[column * N + row], sum), "element %d, %d is %g, expected %g", row, column,
                    c[column * N + row], sum);
        }
}

int main() {
    cublasHandle_t handle;
    CHECK(cublasCreate(&handle));
    int version = 0;
    CHECK(cublasGetVersion(handle, &version));
    REQUIRE(version / 10000 == CUBLAS_VER_MAJOR, "version %d", version);
    cudaStream_t stream, its_stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cublasSetStream(handle, stream));
    CHECK(cublasGetStream(handle, &its_stream));
    REQUIRE(its_stream == stream, "another stream comes back");

    std::vector<float> a(N * N), b(N * N), c(N * N);
    for (int i = 0; i < N * N; i++) a[i] = (float)(i % 7) - 3, b[i] = (float)(i % 5) - 2;
    float *device[3];
    for (float *&matrix : device) CHECK(cudaMalloc((void **)&matrix, N * N * sizeof(float)));
    CHECK(cublasSetMatrix(N, N, sizeof(float), a.data(), N, device[0], N));
    CHECK(cublasSetMatrix(N, N, sizeof(float), b.data(), N, device[1], N));
    CHECK(cublasGetMatrix(N, N, sizeof(float), device[0], N, c.data(), N));
    REQUIRE(c == a, "a matrix does not come back as it went");

    Refusal refusal;
    const float one = 1, none = 0;
    COMPUTE(refusal, cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, N, N, N, &one, device[0], N, device[1], N, &none,
                                 device[2], N));
    COMPUTE(refusal, cudaStreamSynchronize(stream));
    if (!refusal) {
        CHECK(cublasGetMatrix(N, N, sizeof(float), device[2], N, c.data(), N));
        check_product(a, b, c);
    }
    for (float *matrix : device) CHECK(cudaFree(matrix));
    CHECK(cublasDestroy(handle));
    CHECK(cudaStreamDestroy(stream));
    return verdict(refusal, "version %d", version);
}
