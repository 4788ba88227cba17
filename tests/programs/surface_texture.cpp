// Texture and surface objects: what a kernel reads by their values, and what is told of them.
#include "driver.h"

const char *const PROGRAM = "surface_texture";

// `sample` reads a texture at one place; `ask` asks a texture and a surface for their sizes; `change` reads, writes and reduces a word of a surface.
static const char *const KERNELS = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry sample(.param .u64 out, .param .u64 texture, .param .f32 x, .param .f32 y)
{
    .reg .f32 %f<7>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.u64 %rd3, [texture];
    ld.param.f32 %f1, [x];
    ld.param.f32 %f2, [y];
    tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [%rd3, {%f1, %f2}];
    st.global.v4.f32 [%rd2], {%f3, %f4, %f5, %f6};
    ret;
}

.visible .entry ask(.param .u64 out, .param .u64 texture, .param .u64 surface)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.u64 %rd3, [texture];
    ld.param.u64 %rd4, [surface];
    txq.width.b32 %r1, [%rd3];
    txq.height.b32 %r2, [%rd3];
    suq.width.b32 %r3, [%rd4];
    suq.height.b32 %r4, [%rd4];
    st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4};
    ret;
}

.visible .entry change(.param .u64 surface)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [surface];
    mov.u32 %r1, 8;
    mov.u32 %r2, 3;
    suld.b.2d.b32.trap {%r3}, [%rd1, {%r1, %r2}];
    add.u32 %r3, %r3, 1000;
    sust.b.2d.b32.trap [%rd1, {%r1, %r2}], {%r3};
    sured.b.add.2d.u32.trap [%rd1, {%r1, %r2}], 5;
    ret;
}
)";

static CUdeviceptr out, memory;
static CUfunction sample, ask, change;

static void launch(CUfunction function, void **parameters) {
    OK("cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, (CUstream) nullptr, parameters, (void **)nullptr);
    OK("cuCtxSynchronize");
}

static std::vector<float> sampled(CUtexObject texture, float x, float y) {
    void *parameters[] = {&out, &texture, &x, &y};
    launch(sample, parameters);
    std::vector<float> got(4);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), out, (size_t)16);
    return got;
}

static CUarray array_of(size_t width, size_t height, CUarray_format format, unsigned channels, unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR shape = {};
    shape.Width = width, shape.Height = height, shape.Format = format, shape.NumChannels = channels, shape.Flags = flags;
    CUarray array = nullptr;
    OK("cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&shape);
    return array;
}

static CUDA_TEXTURE_DESC reading(CUfilter_mode filter, unsigned flags) {
    CUDA_TEXTURE_DESC how = {};
    for (auto &mode : how.addressMode) mode = CU_TR_ADDRESS_MODE_CLAMP;
    how.filterMode = filter, how.flags = flags;
    return how;
}

static CUtexObject create(const CUDA_RESOURCE_DESC &what, const CUDA_TEXTURE_DESC &how, const CUDA_RESOURCE_VIEW_DESC *view) {
    CUtexObject texture = 0;
    OK("cuTexObjectCreate", &texture, (const CUDA_RESOURCE_DESC *)&what, (const CUDA_TEXTURE_DESC *)&how, view);
    REQUIRE(texture);
    return texture;
}

static void textures() {
    const size_t width = 16, height = 8;
    CUarray array = array_of(width, height, CU_AD_FORMAT_FLOAT, 1, 0);
    std::vector<float> image(width * height);
    for (size_t i = 0; i < image.size(); i++) image[i] = (float)(i * 4);
    copy_rows(array, nullptr, image.data(), width * 4, height);
    CUDA_RESOURCE_DESC what = {}, told = {};
    what.resType = CU_RESOURCE_TYPE_ARRAY, what.res.array.hArray = array;
    CUDA_TEXTURE_DESC how = reading(CU_TR_FILTER_MODE_LINEAR, 0), how_told = {};
    CUtexObject texture = create(what, how, nullptr);
    REQUIRE(sampled(texture, 3.5f, 2.5f)[0] == image[2 * width + 3]);
    REQUIRE(sampled(texture, 4.0f, 2.5f)[0] == (image[2 * width + 3] + image[2 * width + 4]) / 2);
    REQUIRE(sampled(texture, 100.0f, 2.5f)[0] == image[2 * width + 15]);
    OK("cuTexObjectGetResourceDesc", &told, texture);
    REQUIRE(told.resType == CU_RESOURCE_TYPE_ARRAY && told.res.array.hArray == array);
    OK("cuTexObjectGetTextureDesc", &how_told, texture);
    REQUIRE(how_told.filterMode == CU_TR_FILTER_MODE_LINEAR && how_told.addressMode[1] == CU_TR_ADDRESS_MODE_CLAMP);
    // Another texture of the same array, which reads the floats as four bytes.
    CUDA_RESOURCE_VIEW_DESC view = {}, view_told = {};
    view.format = CU_RES_VIEW_FORMAT_UINT_4X8, view.width = width, view.height = height;
    CUtexObject bytes = create(what, reading(CU_TR_FILTER_MODE_POINT, 0), &view);
    REQUIRE(bytes != texture);
    OK("cuTexObjectGetResourceViewDesc", &view_told, bytes);
    REQUIRE(view_told.format == CU_RES_VIEW_FORMAT_UINT_4X8 && view_told.width == width);
    unsigned char of_float[4];
    std::memcpy(of_float, &image[width + 5], 4);
    auto got = sampled(bytes, 5.5f, 1.5f);
    for (int i = 0; i < 4; i++) REQUIRE(got[i] == of_float[i] / 255.0f);
    OK("cuTexObjectDestroy", bytes);
    FAILS("cuTexObjectGetTextureDesc", &how_told, bytes);
    OK("cuTexObjectDestroy", texture);
    OK("cuArrayDestroy", array);
}

static void rows_in_memory() {
    const size_t width = 20, height = 6, pitch = 128;
    std::vector<float> image(pitch / 4 * height);
    for (size_t i = 0; i < image.size(); i++) image[i] = (float)(i + 1);
    OK("cuMemcpyHtoD_v2", memory, (const void *)image.data(), pitch * height);
    OK("cuCtxSynchronize");
    CUDA_RESOURCE_DESC what = {};
    what.resType = CU_RESOURCE_TYPE_PITCH2D;
    what.res.pitch2D.devPtr = memory, what.res.pitch2D.format = CU_AD_FORMAT_FLOAT, what.res.pitch2D.numChannels = 1;
    what.res.pitch2D.width = width, what.res.pitch2D.height = height, what.res.pitch2D.pitchInBytes = pitch;
    CUtexObject texture = create(what, reading(CU_TR_FILTER_MODE_POINT, CU_TRSF_NORMALIZED_COORDINATES), nullptr);
    REQUIRE(sampled(texture, 7.5f / width, 4.5f / height)[0] == image[4 * pitch / 4 + 7]);
    OK("cuTexObjectDestroy", texture);
    // Pinned memory, which the device reaches because a texture names it.
    void *pinned = nullptr;
    OK("cuMemHostAlloc", &pinned, pitch * height, (unsigned)CU_MEMHOSTALLOC_DEVICEMAP);
    for (auto &value : image) value += 1000;
    std::memcpy(pinned, image.data(), pitch * height);
    what.res.pitch2D.devPtr = (CUdeviceptr)(uintptr_t)pinned;
    texture = create(what, reading(CU_TR_FILTER_MODE_POINT, CU_TRSF_NORMALIZED_COORDINATES), nullptr);
    REQUIRE(sampled(texture, 7.5f / width, 4.5f / height)[0] == image[4 * pitch / 4 + 7]);
    OK("cuTexObjectDestroy", texture);
    FAILS("cuTexObjectDestroy", texture);
    OK("cuMemFreeHost", pinned);
    CUtexObject none = 0;
    CUDA_TEXTURE_DESC how = reading(CU_TR_FILTER_MODE_POINT, 0);
    // Memory that is nobody's.
    what.res.pitch2D.devPtr = 0x1000;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuTexObjectCreate", &none, (const CUDA_RESOURCE_DESC *)&what,
          (const CUDA_TEXTURE_DESC *)&how, (const CUDA_RESOURCE_VIEW_DESC *)nullptr);
}

static void surfaces() {
    const size_t width = 12, height = 5;
    CUarray array = array_of(width, height, CU_AD_FORMAT_UNSIGNED_INT32, 1, CUDA_ARRAY3D_SURFACE_LDST);
    CUarray plain = array_of(width, height, CU_AD_FORMAT_UNSIGNED_INT32, 1, 0);
    std::vector<unsigned> image(width * height);
    for (size_t i = 0; i < image.size(); i++) image[i] = (unsigned)i;
    copy_rows(array, nullptr, image.data(), width * 4, height);
    CUDA_RESOURCE_DESC what = {}, told = {};
    what.resType = CU_RESOURCE_TYPE_ARRAY, what.res.array.hArray = array;
    CUsurfObject surface = 0;
    OK("cuSurfObjectCreate", &surface, (const CUDA_RESOURCE_DESC *)&what);
    REQUIRE(surface);
    OK("cuSurfObjectGetResourceDesc", &told, surface);
    REQUIRE(told.res.array.hArray == array);
    CUtexObject texture = create(what, reading(CU_TR_FILTER_MODE_POINT, CU_TRSF_READ_AS_INTEGER), nullptr);
    void *parameters[] = {&out, &texture, &surface};
    launch(ask, parameters);
    unsigned sizes[4] = {};
    OK("cuMemcpyDtoH_v2", (void *)sizes, out, (size_t)16);
    REQUIRE(sizes[0] == width && sizes[1] == height && sizes[2] == width && sizes[3] == height);
    void *of_change[] = {&surface};
    launch(change, of_change);
    std::vector<unsigned> got(image.size());
    copy_rows(nullptr, array, got.data(), width * 4, height);
    image[3 * width + 2] += 1005;
    REQUIRE(got == image);
    OK("cuTexObjectDestroy", texture);
    OK("cuSurfObjectDestroy", surface);
    FAILS("cuSurfObjectGetResourceDesc", &told, surface);
    // An array that was not made for it.
    what.res.array.hArray = plain;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuSurfObjectCreate", &surface, (const CUDA_RESOURCE_DESC *)&what);
    OK("cuArrayDestroy", array);
    OK("cuArrayDestroy", plain);
}

static void widths() {
    size_t of_bytes = 0, of_vectors = 0;
    OK("cuDeviceGetTexture1DLinearMaxWidth", &of_bytes, CU_AD_FORMAT_UNSIGNED_INT8, 1u, (CUdevice)0);
    OK("cuDeviceGetTexture1DLinearMaxWidth", &of_vectors, CU_AD_FORMAT_FLOAT, 4u, (CUdevice)0);
    REQUIRE(of_bytes >= of_vectors && of_vectors >= 1u << 16);
    FAILS("cuDeviceGetTexture1DLinearMaxWidth", &of_bytes, CU_AD_FORMAT_UNSIGNED_INT8, 1u, (CUdevice)99);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    OK("cuDevicePrimaryCtxRetain", &context, 0);
    OK("cuCtxSetCurrent", context);
    OK("cuMemAlloc_v2", &out, (size_t)64);
    OK("cuMemAlloc_v2", &memory, (size_t)4096);
    OK("cuModuleLoadData", &module, (const void *)KERNELS);
    OK("cuModuleGetFunction", &sample, module, "sample");
    OK("cuModuleGetFunction", &ask, module, "ask");
    OK("cuModuleGetFunction", &change, module, "change");
    textures();
    rows_in_memory();
    surfaces();
    widths();
    return pass("textures of arrays and of memory, views, surfaces");
}
