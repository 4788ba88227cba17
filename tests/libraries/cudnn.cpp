// cuDNN: a handle, a stream of ours, descriptors, a softmax.
#include "check.h"

#include <vector>

#include <cudnn.h>

const char *const PROGRAM = "cudnn";
static const int IMAGES = 4, CHANNELS = 8;

int main() {
    size_t version = cudnnGetVersion();
    REQUIRE(version / 10000 == CUDNN_MAJOR, "version %zu", version);
    cudnnHandle_t handle;
    cudaStream_t stream, its_stream;
    CHECK(cudnnCreate(&handle));
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudnnSetStream(handle, stream));
    CHECK(cudnnGetStream(handle, &its_stream));
    REQUIRE(its_stream == stream, "another stream comes back");
    cudnnTensorDescriptor_t tensor;
    CHECK(cudnnCreateTensorDescriptor(&tensor));
    CHECK(cudnnSetTensor4dDescriptor(tensor, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, IMAGES, CHANNELS, 1, 1));
    size_t bytes = 0;
    CHECK(cudnnGetTensorSizeInBytes(tensor, &bytes));
    REQUIRE(bytes == IMAGES * CHANNELS * sizeof(float), "a tensor of %zu bytes", bytes);

    std::vector<float> in(IMAGES * CHANNELS), out(IMAGES * CHANNELS);
    for (size_t i = 0; i < in.size(); i++) in[i] = (float)(i % 5);
    void *x, *y;
    CHECK(cudaMalloc(&x, bytes));
    CHECK(cudaMalloc(&y, bytes));
    CHECK(cudaMemcpyAsync(x, in.data(), bytes, cudaMemcpyHostToDevice, stream));
    const float one = 1, none = 0;
    Refusal refusal;
    COMPUTE(refusal, cudnnSoftmaxForward(handle, CUDNN_SOFTMAX_ACCURATE, CUDNN_SOFTMAX_MODE_CHANNEL, &one, tensor, x,
                                         &none, tensor, y));
    COMPUTE(refusal, cudaStreamSynchronize(stream));
    if (!refusal) {
        CHECK(cudaMemcpy(out.data(), y, bytes, cudaMemcpyDeviceToHost));
        for (int image = 0; image < IMAGES; image++) {
            float sum = 0;
            for (int channel = 0; channel < CHANNELS; channel++) sum += out[image * CHANNELS + channel];
            REQUIRE(close(sum, 1), "image %d sums up to %g", image, sum);
        }
    }
    CHECK(cudaFree(x));
    CHECK(cudaFree(y));
    CHECK(cudnnDestroyTensorDescriptor(tensor));
    CHECK(cudnnDestroy(handle));
    CHECK(cudaStreamDestroy(stream));
    return verdict(refusal, "version %zu", version);
}
