// cuBLASLt: a handle, descriptors, the heuristic's choice, one product of half-precision matrices.
#include "check.h"

#include <vector>

#include <cublasLt.h>
#include <cuda_fp16.h>

const char *const PROGRAM = "cublaslt";
static const int N = 128;
static const size_t WORKSPACE = 4 << 20;

int main() {
    cublasLtHandle_t handle;
    CHECK(cublasLtCreate(&handle));
    size_t version = cublasLtGetVersion();
    REQUIRE(version / 10000 == CUBLAS_VER_MAJOR, "version %zu", version);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));

    std::vector<__half> ones((size_t)N * N, __float2half(1.0f)), product((size_t)N * N);
    void *a, *b, *c, *workspace;
    size_t bytes = ones.size() * sizeof(__half);
    for (void **matrix : {&a, &b, &c}) CHECK(cudaMalloc(matrix, bytes));
    CHECK(cudaMalloc(&workspace, WORKSPACE));
    CHECK(cudaMemcpyAsync(a, ones.data(), bytes, cudaMemcpyHostToDevice, stream));
    CHECK(cudaMemcpyAsync(b, ones.data(), bytes, cudaMemcpyHostToDevice, stream));

    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t layout;
    cublasLtMatmulPreference_t preference;
    CHECK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CHECK(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16F, N, N, N));
    CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE,
                                               sizeof WORKSPACE));
    cublasLtMatmulHeuristicResult_t choice;
    int found = 0;
    Refusal refusal;
    COMPUTE(refusal, cublasLtMatmulAlgoGetHeuristic(handle, operation, layout, layout, layout, layout, preference, 1,
                                                    &choice, &found));
    const float one = 1, none = 0;
    COMPUTE(refusal, cublasLtMatmul(handle, operation, &one, a, layout, b, layout, &none, c, layout, c, layout,
                                    &choice.algo, workspace, WORKSPACE, stream));
    COMPUTE(refusal, cudaStreamSynchronize(stream));
    if (!refusal) {
        CHECK(cudaMemcpy(product.data(), c, bytes, cudaMemcpyDeviceToHost));
        for (__half element : product) REQUIRE(__half2float(element) == N, "an element is %g", __half2float(element));
    }
    for (void *memory : {a, b, c, workspace}) CHECK(cudaFree(memory));
    CHECK(cublasLtMatmulPreferenceDestroy(preference));
    CHECK(cublasLtMatrixLayoutDestroy(layout));
    CHECK(cublasLtMatmulDescDestroy(operation));
    CHECK(cublasLtDestroy(handle));
    CHECK(cudaStreamDestroy(stream));
    return verdict(refusal, "version %zu, %d algorithms offered", version, found);
}
