// Tensor maps: opaque, so what is checked is that equal descriptions make equal maps, different ones different maps, and that wrong ones
// are refused. Devices before compute capability 9.0 have no use for them.
#include "driver.h"

const char *const PROGRAM = "surface_tensor_map";

struct alignas(64) Map {
    unsigned char bytes[128];
    Map() { std::memset(bytes, 0xee, sizeof bytes); }
    bool operator==(const Map &other) const { return !std::memcmp(bytes, other.bytes, sizeof bytes); }
};

// A tensor of 4 × 3 × 64 × 32 half-precision numbers, and boxes of it.
struct Tensor {
    CUdeviceptr address;
    cuuint32_t rank = 4;
    cuuint64_t dimensions[5] = {32, 64, 3, 4, 1};
    cuuint64_t strides[4] = {64, 64 * 64, 3 * 64 * 64, 0};
    cuuint32_t box[5] = {16, 8, 1, 1, 1};
    cuuint32_t element_strides[5] = {1, 1, 1, 1, 1};
    int lower[3] = {-1, -1, 0}, upper[3] = {1, 0, 0};
    unsigned type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16, interleave = 0, swizzle = CU_TENSOR_MAP_SWIZZLE_32B, promotion = 1, fill = 0;

    CUresult tiled(Map *map) {
        return call("cuTensorMapEncodeTiled", (CUtensorMap *)map, type, rank, (void *)address, (const cuuint64_t *)dimensions,
                    (const cuuint64_t *)strides, (const cuuint32_t *)box, (const cuuint32_t *)element_strides, interleave, swizzle,
                    promotion, fill);
    }
    CUresult columns(Map *map) {
        return call("cuTensorMapEncodeIm2col", (CUtensorMap *)map, type, rank, (void *)address, (const cuuint64_t *)dimensions,
                    (const cuuint64_t *)strides, (const int *)lower, (const int *)upper, 16u, 32u, (const cuuint32_t *)element_strides,
                    interleave, swizzle, promotion, fill);
    }
    CUresult wide(Map *map) {
        return call("cuTensorMapEncodeIm2colWide", (CUtensorMap *)map, type, rank, (void *)address, (const cuuint64_t *)dimensions,
                    (const cuuint64_t *)strides, lower[0], upper[0], 16u, 32u, (const cuuint32_t *)element_strides, interleave, 0u,
                    swizzle, promotion, fill);
    }
};

// The map of a tensor, made twice: nothing but the description is in it.
static Map made(Tensor tensor, CUresult (Tensor::*encode)(Map *)) {
    Map first, second, untouched;
    std::memset(second.bytes, 0x11, sizeof second.bytes);
    REQUIRE((tensor.*encode)(&first) == CUDA_SUCCESS);
    REQUIRE((tensor.*encode)(&second) == CUDA_SUCCESS);
    REQUIRE(first == second && !(first == untouched));
    return first;
}

static void maps(Tensor tensor, CUresult (Tensor::*encode)(Map *)) {
    Map plain = made(tensor, encode);
    Tensor other = tensor;
    other.dimensions[1] = 63;
    REQUIRE(!(made(other, encode) == plain));
    other = tensor;
    other.strides[3 - 1] *= 2;
    REQUIRE(!(made(other, encode) == plain));
    other = tensor;
    other.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    REQUIRE(!(made(other, encode) == plain));

    // An address in the place of another.
    other = tensor;
    other.address += 4096;
    Map moved = made(other, encode), replaced = plain;
    REQUIRE(!(moved == plain));
    OK("cuTensorMapReplaceAddress", (CUtensorMap *)&replaced, (void *)other.address);
    REQUIRE(replaced == moved);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuTensorMapReplaceAddress", (CUtensorMap *)&replaced, (void *)(other.address + 8));

    // The class that it has at the end is told, and asking for the small one changes nothing in a map that has it.
    unsigned effective = 77;
    replaced = plain;
    OK("cuTensorMapSetAllocationClass", (CUtensorMap *)&replaced, 1u, &effective);
    REQUIRE(effective == 1);
    OK("cuTensorMapSetAllocationClass", (CUtensorMap *)&replaced, 0u, (unsigned *)nullptr);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuTensorMapSetAllocationClass", (CUtensorMap *)&replaced, 77u, &effective);

    Map map, before;
    REQUIRE((tensor.*encode)(nullptr) == CUDA_ERROR_INVALID_VALUE);
    for (int wrong = 0; wrong < 5; wrong++) {
        other = tensor;
        if (wrong == 0) other.rank = 0;
        if (wrong == 1) other.rank = 6;
        if (wrong == 2) other.address += 8;
        if (wrong == 3) other.dimensions[2] = 0;
        if (wrong == 4) other.strides[1] += 8;
        REQUIRE((other.*encode)(&map) == CUDA_ERROR_INVALID_VALUE);
    }
    REQUIRE(map == before);
}

int main(int argc, char **argv) {
    open_driver(argc, argv);
    CUdevice device = 0;
    CUcontext context = nullptr;
    OK("cuInit", 0u);
    OK("cuDeviceGet", &device, 0);
    OK("cuDevicePrimaryCtxRetain", &context, device);
    OK("cuCtxPushCurrent_v2", context);
    Tensor tensor;
    OK("cuMemAlloc_v2", &tensor.address, (size_t)(1 << 20));
    if (has("cuTensorMapEncodeTiled")) {
        maps(tensor, &Tensor::tiled);
        Tensor other = tensor;
        other.box[1] = 257;
        Map map;
        REQUIRE(other.tiled(&map) == CUDA_ERROR_INVALID_VALUE);
        other.box[1] = 4;
        REQUIRE(!(made(other, &Tensor::tiled) == made(tensor, &Tensor::tiled)));
    }
    if (has("cuTensorMapEncodeIm2col")) {
        maps(tensor, &Tensor::columns);
        Tensor other = tensor;
        other.lower[1] = -2;
        REQUIRE(!(made(other, &Tensor::columns) == made(tensor, &Tensor::columns)));
        other.rank = 2;
        Map map;
        REQUIRE(other.columns(&map) == CUDA_ERROR_INVALID_VALUE);
    }
    if (has("cuTensorMapEncodeIm2colWide")) {
        maps(tensor, &Tensor::wide);
        Tensor other = tensor;
        other.upper[0] = 2;
        REQUIRE(!(made(other, &Tensor::wide) == made(tensor, &Tensor::wide)));
    }
    OK("cuMemFree_v2", tensor.address);
    OK("cuCtxPopCurrent_v2", &context);
    OK("cuDevicePrimaryCtxRelease_v2", device);
    return pass("tensor maps");
}
