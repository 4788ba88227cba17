// What networks spend their time in, for `bench soft`; `network.ptx` is this file through nvcc 13.0.88:
//     nvcc -ptx -arch=compute_80 network.cu -o network.ptx
#include <cuda_fp16.h>
#include <mma.h>

constexpr unsigned FULL = 0xFFFFFFFFu;

// A value of all threads of a block of 256: eight warps.
template <class Join> __device__ float of_block(float value, Join join) {
    __shared__ float parts[8];
    for (int offset = 16; offset > 0; offset /= 2) value = join(value, __shfl_xor_sync(FULL, value, offset));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[threadIdx.x % 8];
    for (int offset = 4; offset > 0; offset /= 2) value = join(value, __shfl_xor_sync(FULL, value, offset));
    __syncthreads();
    return value;
}
__device__ float sum_of_block(float value) {
    return of_block(value, [](float a, float b) { return a + b; });
}

// *sum += the sum of n values.
extern "C" __global__ void reduction(const float *values, float *sum, unsigned n) {
    float mine = 0;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) mine += values[i];
    mine = sum_of_block(mine);
    if (threadIdx.x == 0) atomicAdd(sum, mine);
}

// A block for each row of 1024.
extern "C" __global__ void softmax(const float *in, float *out) {
    in += blockIdx.x * 1024, out += blockIdx.x * 1024;
    float values[4], highest = -INFINITY, total = 0;
    for (int i = 0; i < 4; i++) highest = fmaxf(highest, values[i] = in[threadIdx.x + 256 * i]);
    highest = of_block(highest, [](float a, float b) { return fmaxf(a, b); });
    for (int i = 0; i < 4; i++) total += values[i] = __expf(values[i] - highest);
    total = 1 / sum_of_block(total);
    for (int i = 0; i < 4; i++) out[threadIdx.x + 256 * i] = values[i] * total;
}

// A block for each row of 1024.
extern "C" __global__ void layer_norm(const float *in, const float *weights, const float *shifts, float *out) {
    in += blockIdx.x * 1024, out += blockIdx.x * 1024;
    float values[4], total = 0, squares = 0;
    for (int i = 0; i < 4; i++) total += values[i] = in[threadIdx.x + 256 * i];
    float mean = sum_of_block(total) / 1024;
    for (int i = 0; i < 4; i++) values[i] -= mean, squares += values[i] * values[i];
    float scale = rsqrtf(sum_of_block(squares) / 1024 + 1e-5f);
    for (int i = 0; i < 4; i++) {
        int at = threadIdx.x + 256 * i;
        out[at] = values[i] * scale * weights[at] + shifts[at];
    }
}

// 3 × 3, 16 channels to 16, of images of 34 × 34 whose result is 32 × 32; blocks of 32 × 8 threads, grid (4 stripes, channels, images).
extern "C" __global__ void convolution(const float *in, const float *weights, const float *bias, float *out) {
    unsigned x = threadIdx.x, y = blockIdx.x * 8 + threadIdx.y, to = blockIdx.y, image = blockIdx.z;
    float sum = bias[to];
    for (int from = 0; from < 16; from++) {
        const float *window = in + ((image * 16 + from) * 34 + y) * 34 + x, *weight = weights + (to * 16 + from) * 9;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) sum += window[i * 34 + j] * weight[i * 3 + j];
    }
    out[((image * 16 + to) * 32 + y) * 32 + x] = fmaxf(sum, 0);
}

// Square matrices of halves, their product of singles: a warp for each 16 × 32; blocks of 128 threads for 32 × 64.
extern "C" __global__ void matmul_mma(const __half *a, const __half *b, float *c, unsigned n) {
    using namespace nvcuda::wmma;
    unsigned warp = threadIdx.x / 32, row = blockIdx.y * 32 + warp / 2 * 16, column = blockIdx.x * 64 + warp % 2 * 32;
    fragment<matrix_a, 16, 16, 16, __half, row_major> left;
    fragment<matrix_b, 16, 16, 16, __half, row_major> right;
    fragment<accumulator, 16, 16, 16, float> sums[2];
    fill_fragment(sums[0], 0), fill_fragment(sums[1], 0);
    for (unsigned k = 0; k < n; k += 16) {
        load_matrix_sync(left, a + row * n + k, n);
        for (int i = 0; i < 2; i++) {
            load_matrix_sync(right, b + k * n + column + i * 16, n);
            mma_sync(sums[i], left, right, sums[i]);
        }
    }
    for (int i = 0; i < 2; i++) store_matrix_sync(c + row * n + column + i * 16, sums[i], n, mem_row_major);
}
