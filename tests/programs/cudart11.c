// For the variant of cudart 11.8: the two entry points that a compiler of CUDA 13 calls for `kernel<<<…>>>` and that runtime lacks, made
// of those it has. A kernel's handle is the address of its host function.
#include <cuda_runtime_api.h>

cudaError_t __cudaGetKernel(void **kernel, const void *host_function) {
    *kernel = (void *)host_function;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(void *kernel, struct dim3 grid, struct dim3 block, void **arguments, size_t shared_bytes,
                               cudaStream_t stream) {
    return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}
