// An all-reduce as libraries do it with multicast objects: each device sums its part of what all have by `multimem.ld_reduce` and gives every device the sum by `multimem.st`, between
// barriers of both devices' kernels that are counted by `multimem.red`. Singles, halves and bfloat16, the latter two added as singles.
#include <vector>

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <dlfcn.h>

#include "check.h"

const char *const PROGRAM = "multicast";

static const int DEVICES = 2;
static const unsigned BLOCKS = 4, THREADS = 128;

enum Kind { SINGLES, HALVES, BRAINS };

// One more of every device's counter for this block, and a wait for all devices' of this round.
__device__ void barrier(unsigned *all, unsigned *own, unsigned round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned seen;
        asm volatile("multimem.red.release.sys.global.add.u32 [%0], %1;" ::"l"(all + blockIdx.x), "r"(1u) : "memory");
        asm volatile("fence.proxy.alias;" ::: "memory");
        do asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(seen) : "l"(own + blockIdx.x) : "memory");
        while (seen < round * DEVICES);
    }
    __syncthreads();
}

template <Kind kind> __device__ uint4 sum(const void *at) {
    uint4 got;
    if (kind == SINGLES)
        asm volatile("multimem.ld_reduce.relaxed.sys.global.add.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(got.x), "=r"(got.y), "=r"(got.z), "=r"(got.w)
                     : "l"(at)
                     : "memory");
    else if (kind == HALVES)
        asm volatile("multimem.ld_reduce.relaxed.sys.global.add.acc::f32.v4.f16x2 {%0, %1, %2, %3}, [%4];"
                     : "=r"(got.x), "=r"(got.y), "=r"(got.z), "=r"(got.w)
                     : "l"(at)
                     : "memory");
    else
        asm volatile("multimem.ld_reduce.relaxed.sys.global.add.acc::f32.v4.bf16x2 {%0, %1, %2, %3}, [%4];"
                     : "=r"(got.x), "=r"(got.y), "=r"(got.z), "=r"(got.w)
                     : "l"(at)
                     : "memory");
    return got;
}

// `all` is the address of the object, `own` that of this device's memory in it; counters stand behind the numbers.
template <Kind kind> __global__ void all_reduce(char *all, char *own, unsigned vectors, unsigned device, unsigned round) {
    size_t counters = (size_t)vectors * 16;
    barrier((unsigned *)(all + counters), (unsigned *)(own + counters), 2 * round + 1);
    for (unsigned i = device + DEVICES * (blockIdx.x * blockDim.x + threadIdx.x); i < vectors; i += DEVICES * gridDim.x * blockDim.x) {
        void *at = all + (size_t)i * 16;
        uint4 value = sum<kind>(at);
        asm volatile("multimem.st.relaxed.sys.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(__uint_as_float(value.x)),
                     "f"(__uint_as_float(value.y)), "f"(__uint_as_float(value.z)), "f"(__uint_as_float(value.w))
                     : "memory");
    }
    barrier((unsigned *)(all + counters), (unsigned *)(own + counters), 2 * round + 2);
}

#define DRIVER(name, ...)                                                                                              \
    do {                                                                                                               \
        auto function = (decltype(&name))dlsym(driver, #name);                                                         \
        REQUIRE(function, "libcuda.so.1 has no " #name);                                                               \
        CUresult result = function(__VA_ARGS__);                                                                       \
        REQUIRE(result == CUDA_SUCCESS, #name ": %d", (int)result);                                                    \
    } while (0)

template <typename Number> static float number(Number value) { return (float)value; }

// What each device begins with: small whole numbers, so that sums are exact.
template <typename Number> static std::vector<Number> numbers(size_t count, int device) {
    std::vector<Number> made(count);
    for (size_t i = 0; i < count; i++) made[i] = (Number)(float)((int)((i * 7 + device * 5) % 61) - 30);
    return made;
}

int main() {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    REQUIRE(driver, "%s", dlerror());
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    if (devices < DEVICES) fail("needs two devices, there is %d", devices);
    for (int device = 0; device < DEVICES; device++) {
        int can = 0;
        DRIVER(cuDeviceGetAttribute, &can, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, device);
        REQUIRE(can == 1, "device %d has no multicast", device);
        CHECK(cudaSetDevice(device));
        CHECK(cudaFree(nullptr));
    }
    CUmulticastObjectProp wanted = {};
    wanted.numDevices = DEVICES, wanted.size = 1;
    size_t piece = 0;
    DRIVER(cuMulticastGetGranularity, &piece, &wanted, CU_MULTICAST_GRANULARITY_RECOMMENDED);
    wanted.size = piece;
    CUmemGenericAllocationHandle object, memory[DEVICES];
    DRIVER(cuMulticastCreate, &object, &wanted);
    for (int device = 0; device < DEVICES; device++) DRIVER(cuMulticastAddDevice, object, device);
    CUdeviceptr own[DEVICES], all;
    CUmemAccessDesc access[DEVICES];
    for (int device = 0; device < DEVICES; device++) {
        CUmemAllocationProp properties = {};
        properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
        properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE, properties.location.id = device;
        access[device].location = properties.location, access[device].flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        DRIVER(cuMemCreate, &memory[device], piece, &properties, 0);
        DRIVER(cuMemAddressReserve, &own[device], piece, piece, 0, 0);
        DRIVER(cuMemMap, own[device], piece, 0, memory[device], 0);
        DRIVER(cuMemSetAccess, own[device], piece, &access[device], 1);
        DRIVER(cuMulticastBindMem, object, 0, memory[device], 0, piece, 0);
    }
    DRIVER(cuMemAddressReserve, &all, piece, piece, 0, 0);
    DRIVER(cuMemMap, all, piece, 0, object, 0);
    DRIVER(cuMemSetAccess, all, piece, access, DEVICES);

    cudaStream_t streams[DEVICES];
    for (int device = 0; device < DEVICES; device++) {
        CHECK(cudaSetDevice(device));
        CHECK(cudaStreamCreateWithFlags(&streams[device], cudaStreamNonBlocking));
    }
    auto reduce = [&](auto kernel, auto zero, unsigned vectors) {
        using Number = decltype(zero);
        size_t count = (size_t)vectors * 16 / sizeof(Number), bytes = (size_t)vectors * 16;
        for (int device = 0; device < DEVICES; device++) {
            CHECK(cudaSetDevice(device));
            auto values = numbers<Number>(count, device);
            CHECK(cudaMemcpy((void *)own[device], values.data(), bytes, cudaMemcpyHostToDevice));
            CHECK(cudaMemset((void *)(own[device] + bytes), 0, BLOCKS * sizeof(unsigned)));
            CHECK(cudaDeviceSynchronize());
        }
        // Each round doubles the sums, on both.
        const unsigned rounds = 3;
        for (unsigned round = 0; round < rounds; round++)
            for (int device = 0; device < DEVICES; device++) {
                CHECK(cudaSetDevice(device));
                kernel<<<BLOCKS, THREADS, 0, streams[device]>>>((char *)all, (char *)own[device], vectors, device, round);
                CHECK(cudaGetLastError());
            }
        for (int device = 0; device < DEVICES; device++) {
            CHECK(cudaSetDevice(device));
            CHECK(cudaStreamSynchronize(streams[device]));
            std::vector<Number> got(count), first = numbers<Number>(count, 0), second = numbers<Number>(count, 1);
            CHECK(cudaMemcpy(got.data(), (void *)own[device], bytes, cudaMemcpyDeviceToHost));
            for (size_t i = 0; i < count; i++) {
                float want = (number(first[i]) + number(second[i])) * 4;
                REQUIRE(number(got[i]) == want, "device %d [%zu]: %g, not %g", device, i, number(got[i]), want);
            }
        }
    };
    const unsigned vectors = 5000;
    reduce(all_reduce<SINGLES>, 0.0f, vectors);
    reduce(all_reduce<HALVES>, __half(), vectors);
    reduce(all_reduce<BRAINS>, __nv_bfloat16(), vectors);

    DRIVER(cuMemUnmap, all, piece);
    DRIVER(cuMemAddressFree, all, piece);
    for (int device = 0; device < DEVICES; device++) {
        DRIVER(cuMulticastUnbind, object, device, 0, piece);
        DRIVER(cuMemUnmap, own[device], piece);
        DRIVER(cuMemAddressFree, own[device], piece);
        DRIVER(cuMemRelease, memory[device]);
    }
    DRIVER(cuMemRelease, object);
    return pass("%u vectors of three types", vectors);
}
