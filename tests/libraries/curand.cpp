// cuRAND: a generator on the device, a seed, a stream of ours, uniform numbers.
#include "check.h"

#include <vector>

#include <curand.h>

const char *const PROGRAM = "curand";
static const int N = 4096;

int main() {
    int version = 0;
    CHECK(curandGetVersion(&version));
    REQUIRE(version / 1000 == CURAND_VER_MAJOR, "version %d", version);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    float *data;
    CHECK(cudaMalloc((void **)&data, N * sizeof(float)));
    curandGenerator_t generator = nullptr;
    Refusal refusal;
    // Looks its kernels up already.
    COMPUTE(refusal, curandCreateGenerator(&generator, CURAND_RNG_PSEUDO_PHILOX4_32_10));
    COMPUTE(refusal, curandSetPseudoRandomGeneratorSeed(generator, 1234));
    COMPUTE(refusal, curandSetStream(generator, stream));
    COMPUTE(refusal, curandGenerateUniform(generator, data, N));
    COMPUTE(refusal, cudaStreamSynchronize(stream));
    if (!refusal) {
        std::vector<float> numbers(N);
        CHECK(cudaMemcpy(numbers.data(), data, N * sizeof(float), cudaMemcpyDeviceToHost));
        double sum = 0;
        for (float number : numbers) sum += number;
        REQUIRE(std::fabs(sum / N - 0.5) < 0.05, "the mean is %g", sum / N);
    }
    if (generator) CHECK(curandDestroyGenerator(generator));
    CHECK(cudaFree(data));
    CHECK(cudaStreamDestroy(stream));
    return verdict(refusal, "version %d", version);
}
