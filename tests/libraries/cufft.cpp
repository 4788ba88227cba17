// cuFFT: a plan of one dimension, a stream of ours, forward and inverse.
#include "check.h"

#include <vector>

#include <cufft.h>

const char *const PROGRAM = "cufft";
static const int N = 1024;

int main() {
    int version = 0;
    CHECK(cufftGetVersion(&version));
    REQUIRE(version / 1000 == CUFFT_VER_MAJOR, "version %d", version);
    cufftComplex *data;
    std::vector<cufftComplex> signal(N), back(N);
    for (int i = 0; i < N; i++) signal[i] = {(float)(i % 9) - 4, (float)(i % 4)};
    CHECK(cudaMalloc((void **)&data, N * sizeof *data));
    CHECK(cudaMemcpy(data, signal.data(), N * sizeof *data, cudaMemcpyHostToDevice));
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));

    cufftHandle plan;
    size_t workspace = 0;
    CHECK(cufftCreate(&plan));
    CHECK(cufftSetStream(plan, stream));
    CHECK(cufftEstimate1d(N, CUFFT_C2C, 1, &workspace));
    Refusal refusal;
    COMPUTE(refusal, cufftMakePlan1d(plan, N, CUFFT_C2C, 1, &workspace));
    COMPUTE(refusal, cufftExecC2C(plan, data, data, CUFFT_FORWARD));
    COMPUTE(refusal, cufftExecC2C(plan, data, data, CUFFT_INVERSE));
    COMPUTE(refusal, cudaStreamSynchronize(stream));
    if (!refusal) {
        CHECK(cudaMemcpy(back.data(), data, N * sizeof *data, cudaMemcpyDeviceToHost));
        for (int i = 0; i < N; i++)
            REQUIRE(close(back[i].x / N, signal[i].x) && close(back[i].y / N, signal[i].y), "element %d: %g, %g", i,
                    back[i].x / N, back[i].y / N);
    }
    CHECK(cufftDestroy(plan));
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(data));
    return verdict(refusal, "version %d", version);
}
