// Texture and surface references: what a module's variables are bound to, how they read, and what is told of them.
#include "driver.h"

const char *const PROGRAM = "surface_reference";

// `sample` reads `picture` at one place, `sample_level` one of its levels, `number` an element of `line`; `paint` stores a word in `canvas`.
static const char *const KERNELS = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .global .texref picture;
.visible .global .texref line;
.visible .global .surfref canvas;

.visible .entry sample(.param .u64 out, .param .f32 x, .param .f32 y)
{
    .reg .f32 %f<7>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.f32 %f1, [x];
    ld.param.f32 %f2, [y];
    tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [picture, {%f1, %f2}];
    st.global.v4.f32 [%rd2], {%f3, %f4, %f5, %f6};
    ret;
}

.visible .entry sample_level(.param .u64 out, .param .f32 x, .param .f32 y, .param .f32 level)
{
    .reg .f32 %f<8>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.f32 %f1, [x];
    ld.param.f32 %f2, [y];
    ld.param.f32 %f7, [level];
    tex.level.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [picture, {%f1, %f2}], %f7;
    st.global.v4.f32 [%rd2], {%f3, %f4, %f5, %f6};
    ret;
}

.visible .entry number(.param .u64 out, .param .s32 index)
{
    .reg .b32 %r<6>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.s32 %r1, [index];
    tex.1d.v4.u32.s32 {%r2, %r3, %r4, %r5}, [line, {%r1}];
    st.global.v4.u32 [%rd2], {%r2, %r3, %r4, %r5};
    ret;
}

.visible .entry paint(.param .u32 value)
{
    .reg .b32 %r<4>;
    ld.param.u32 %r1, [value];
    mov.u32 %r2, 8;
    mov.u32 %r3, 3;
    sust.b.2d.b32.trap [canvas, {%r2, %r3}], {%r1};
    ret;
}
)";

static const size_t WIDTH = 16, HEIGHT = 8;
static CUmodule module;
static CUdeviceptr out, memory;
static CUfunction sample, sample_level, number, paint;
static CUtexref picture, line;
static CUsurfref canvas;

static void launch(CUfunction function, void **parameters, CUstream stream = nullptr) {
    OK("cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, parameters, (void **)nullptr);
}

template <typename T> static std::vector<T> stored() {
    std::vector<T> got(4);
    OK("cuCtxSynchronize");
    OK("cuMemcpyDtoH_v2", (void *)got.data(), out, (size_t)16);
    return got;
}

static float sampled(float x, float y) {
    void *parameters[] = {&out, &x, &y};
    launch(sample, parameters);
    return stored<float>()[0];
}

static float sampled_level(float x, float y, float level) {
    void *parameters[] = {&out, &x, &y, &level};
    launch(sample_level, parameters);
    return stored<float>()[0];
}

static std::vector<unsigned> numbers(int index) {
    void *parameters[] = {&out, &index};
    launch(number, parameters);
    return stored<unsigned>();
}

static CUDA_ARRAY3D_DESCRIPTOR shape(CUarray_format format, unsigned flags) {
    CUDA_ARRAY3D_DESCRIPTOR shape = {};
    shape.Width = WIDTH, shape.Height = HEIGHT, shape.Format = format, shape.NumChannels = 1, shape.Flags = flags;
    return shape;
}

static std::vector<float> image(float first) {
    std::vector<float> image(WIDTH * HEIGHT);
    for (size_t i = 0; i < image.size(); i++) image[i] = first + (float)(i * 4);
    return image;
}

static CUarray array_of(float first) {
    CUDA_ARRAY3D_DESCRIPTOR of = shape(CU_AD_FORMAT_FLOAT, 0);
    CUarray array = nullptr;
    OK("cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&of);
    copy_rows(array, nullptr, image(first).data(), WIDTH * 4, HEIGHT);
    return array;
}

static void handles() {
    CUtexref again = nullptr;
    CUsurfref none = nullptr;
    OK("cuModuleGetTexRef", &picture, module, "picture");
    OK("cuModuleGetTexRef", &line, module, "line");
    OK("cuModuleGetTexRef", &again, module, "picture");
    REQUIRE(picture && line && picture != line && again == picture);
    OK("cuModuleGetSurfRef", &canvas, module, "canvas");
    REQUIRE(canvas);
    GIVES(CUDA_ERROR_NOT_FOUND, "cuModuleGetTexRef", &again, module, "canvas");
    GIVES(CUDA_ERROR_NOT_FOUND, "cuModuleGetSurfRef", &none, module, "picture");
    // What is bound to nothing tells of nothing.
    CUarray array = nullptr;
    CUmipmappedArray mipmapped = nullptr;
    CUdeviceptr address = 0;
    FAILS("cuTexRefGetArray", &array, picture);
    FAILS("cuTexRefGetMipmappedArray", &mipmapped, picture);
    FAILS("cuTexRefGetAddress_v2", &address, picture);
    FAILS("cuSurfRefGetArray", &array, canvas);
}

static void arrays() {
    CUarray array = array_of(0), other = array_of(1000), told = nullptr;
    OK("cuTexRefSetArray", picture, array, (unsigned)CU_TRSA_OVERRIDE_FORMAT);
    OK("cuTexRefGetArray", &told, picture);
    REQUIRE(told == array);
    CUarray_format format = CU_AD_FORMAT_HALF;
    int channels = 0;
    OK("cuTexRefGetFormat", &format, &channels, picture);
    REQUIRE(format == CU_AD_FORMAT_FLOAT && channels == 1);
    std::vector<float> of = image(0);
    REQUIRE(sampled(3.5f, 2.5f) == of[2 * WIDTH + 3]);
    // Between two elements, once it is filtered.
    CUfilter_mode filter = (CUfilter_mode)77;
    OK("cuTexRefSetFilterMode", picture, CU_TR_FILTER_MODE_LINEAR);
    OK("cuTexRefGetFilterMode", &filter, picture);
    REQUIRE(filter == CU_TR_FILTER_MODE_LINEAR);
    REQUIRE(sampled(4.0f, 2.5f) == (of[2 * WIDTH + 3] + of[2 * WIDTH + 4]) / 2);
    OK("cuTexRefSetFilterMode", picture, CU_TR_FILTER_MODE_POINT);
    // From 0 to 1, and outside: the border, or from the other side again.
    unsigned flags = 77;
    OK("cuTexRefSetFlags", picture, (unsigned)CU_TRSF_NORMALIZED_COORDINATES);
    OK("cuTexRefGetFlags", &flags, picture);
    REQUIRE(flags == CU_TRSF_NORMALIZED_COORDINATES);
    REQUIRE(sampled(3.5f / WIDTH, 2.5f / HEIGHT) == of[2 * WIDTH + 3]);
    OK("cuTexRefSetAddressMode", picture, 0, CU_TR_ADDRESS_MODE_WRAP);
    REQUIRE(sampled(1 + 3.5f / WIDTH, 2.5f / HEIGHT) == of[2 * WIDTH + 3]);
    OK("cuTexRefSetAddressMode", picture, 0, CU_TR_ADDRESS_MODE_BORDER);
    CUaddress_mode mode = (CUaddress_mode)77;
    OK("cuTexRefGetAddressMode", &mode, picture, 0);
    REQUIRE(mode == CU_TR_ADDRESS_MODE_BORDER);
    float border[4] = {7.5f, 1, 2, 3}, border_told[4] = {};
    OK("cuTexRefSetBorderColor", picture, (float *)border);
    OK("cuTexRefGetBorderColor", (float *)border_told, picture);
    REQUIRE(!std::memcmp(border, border_told, sizeof border));
    REQUIRE(sampled(1 + 3.5f / WIDTH, 2.5f / HEIGHT) == 7.5f);
    OK("cuTexRefSetMaxAnisotropy", picture, 4u);
    int anisotropy = 77;
    OK("cuTexRefGetMaxAnisotropy", &anisotropy, picture);
    REQUIRE(anisotropy == 4);
    OK("cuTexRefSetMaxAnisotropy", picture, 8u);
    OK("cuTexRefGetMaxAnisotropy", &anisotropy, picture);
    REQUIRE(anisotropy == 8);
    OK("cuTexRefSetFlags", picture, 0u);
    // A launch has what was bound at the call, although it begins after something else was bound.
    CUstream stream = nullptr;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemsetD32_v2", memory, 0u, (size_t)1);
    OK("cuCtxSynchronize");
    OK("cuStreamWaitValue32_v2", stream, memory, (cuuint32_t)1, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
    float x = 5.5f, y = 1.5f;
    void *parameters[] = {&out, &x, &y};
    launch(sample, parameters, stream);
    OK("cuTexRefSetArray", picture, other, (unsigned)CU_TRSA_OVERRIDE_FORMAT);
    CUstream release = nullptr;
    OK("cuStreamCreate", &release, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamWriteValue32_v2", release, memory, (cuuint32_t)1, 0u);
    REQUIRE(stored<float>()[0] == of[WIDTH + 5]);
    REQUIRE(sampled(x, y) == of[WIDTH + 5] + 1000);
    OK("cuStreamDestroy_v2", release);
    OK("cuStreamDestroy_v2", stream);
    OK("cuArrayDestroy", other);
    OK("cuArrayDestroy", array);
}

static void levels() {
    CUDA_ARRAY3D_DESCRIPTOR of = shape(CU_AD_FORMAT_FLOAT, 0);
    CUmipmappedArray mipmapped = nullptr, told = nullptr;
    OK("cuMipmappedArrayCreate", &mipmapped, (const CUDA_ARRAY3D_DESCRIPTOR *)&of, 3u);
    for (unsigned level = 0; level < 3; level++) {
        CUarray array = nullptr;
        OK("cuMipmappedArrayGetLevel", &array, mipmapped, level);
        std::vector<float> values(WIDTH * HEIGHT, (float)(10 * (level + 1)));
        copy_rows(array, nullptr, values.data(), (WIDTH >> level) * 4, HEIGHT >> level);
    }
    OK("cuTexRefSetMipmappedArray", picture, mipmapped, (unsigned)CU_TRSA_OVERRIDE_FORMAT);
    OK("cuTexRefGetMipmappedArray", &told, picture);
    REQUIRE(told == mipmapped);
    CUarray array = nullptr;
    FAILS("cuTexRefGetArray", &array, picture);
    OK("cuTexRefSetFlags", picture, (unsigned)CU_TRSF_NORMALIZED_COORDINATES);
    float least = 77, most = 77, bias = 77;
    OK("cuTexRefSetMipmapLevelClamp", picture, 0.0f, 2.0f);
    OK("cuTexRefGetMipmapLevelClamp", &least, &most, picture);
    REQUIRE(least == 0 && most == 2);
    CUfilter_mode filter = (CUfilter_mode)77;
    OK("cuTexRefSetMipmapFilterMode", picture, CU_TR_FILTER_MODE_LINEAR);
    OK("cuTexRefGetMipmapFilterMode", &filter, picture);
    REQUIRE(filter == CU_TR_FILTER_MODE_LINEAR);
    REQUIRE(sampled_level(0.5f, 0.5f, 1) == 20 && sampled_level(0.5f, 0.5f, 1.5f) == 25);
    OK("cuTexRefSetMipmapLevelBias", picture, 0.5f);
    OK("cuTexRefGetMipmapLevelBias", &bias, picture);
    REQUIRE(bias == 0.5f);
    REQUIRE(sampled_level(0.5f, 0.5f, 1) == 25 && sampled_level(0.5f, 0.5f, 9) == 30);
    OK("cuTexRefSetMipmapLevelClamp", picture, 1.0f, 1.0f);
    REQUIRE(sampled_level(0.5f, 0.5f, 0) == 20 && sampled_level(0.5f, 0.5f, 9) == 20);
    OK("cuTexRefSetFlags", picture, 0u);
    OK("cuMipmappedArrayDestroy", mipmapped);
}

static void lines_and_rows() {
    std::vector<unsigned char> bytes(4096);
    for (size_t i = 0; i < bytes.size(); i++) bytes[i] = (unsigned char)(i * 7 + i / 256);
    OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), bytes.size());
    OK("cuCtxSynchronize");
    size_t offset = 77;
    CUdeviceptr address = 0;
    CUarray_format format = CU_AD_FORMAT_FLOAT;
    int channels = 0;
    OK("cuTexRefSetFormat", line, CU_AD_FORMAT_UNSIGNED_INT8, 4);
    OK("cuTexRefGetFormat", &format, &channels, line);
    REQUIRE(format == CU_AD_FORMAT_UNSIGNED_INT8 && channels == 4);
    OK("cuTexRefSetFlags", line, (unsigned)CU_TRSF_READ_AS_INTEGER);
    OK("cuTexRefSetAddress_v2", &offset, line, memory, (size_t)1024);
    REQUIRE(offset == 0);
    OK("cuTexRefGetAddress_v2", &address, line);
    REQUIRE(address == memory);
    auto got = numbers(9);
    for (int i = 0; i < 4; i++) REQUIRE(got[i] == bytes[36 + i]);
    REQUIRE(numbers(256)[0] == 0 && numbers(-1)[0] == 0);
    // An address that is not aligned: told by how much, or refused.
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuTexRefSetAddress_v2", (size_t *)nullptr, line, memory + 16, (size_t)1024);
    OK("cuTexRefSetAddress_v2", &offset, line, memory + 16, (size_t)1024);
    REQUIRE(offset == 16);
    REQUIRE(numbers(4)[0] == bytes[16]);
    OK("cuTexRefSetFormat", line, CU_AD_FORMAT_UNSIGNED_INT16, 1);
    REQUIRE(numbers(8)[0] == bytes[16] + 256u * bytes[17]);
    // Rows with a pitch, in both versions of the function.
    const size_t pitch = 128;
    CUDA_ARRAY_DESCRIPTOR rows = {};
    rows.Width = 20, rows.Height = 6, rows.Format = CU_AD_FORMAT_UNSIGNED_INT8, rows.NumChannels = 1;
    OK("cuTexRefSetMipmapLevelClamp", picture, 0.0f, 0.0f);
    OK("cuTexRefSetAddress2D_v3", picture, (const CUDA_ARRAY_DESCRIPTOR *)&rows, memory, pitch);
    OK("cuTexRefGetAddress_v2", &address, picture);
    REQUIRE(address == memory);
    REQUIRE(sampled(7.5f, 4.5f) == bytes[4 * pitch + 7] / 255.0f);
    OK("cuTexRefSetAddress2D_v2", picture, (const CUDA_ARRAY_DESCRIPTOR *)&rows, memory + 1024, pitch);
    REQUIRE(sampled(7.5f, 4.5f) == bytes[1024 + 4 * pitch + 7] / 255.0f);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuTexRefSetAddress2D_v3", picture, (const CUDA_ARRAY_DESCRIPTOR *)&rows, memory + 16, pitch);
}

static void surfaces() {
    CUDA_ARRAY3D_DESCRIPTOR of = shape(CU_AD_FORMAT_UNSIGNED_INT32, CUDA_ARRAY3D_SURFACE_LDST);
    CUarray array = nullptr, plain = array_of(0), told = nullptr;
    OK("cuArray3DCreate_v2", &array, (const CUDA_ARRAY3D_DESCRIPTOR *)&of);
    std::vector<unsigned> image(WIDTH * HEIGHT, 5), got(WIDTH * HEIGHT);
    copy_rows(array, nullptr, image.data(), WIDTH * 4, HEIGHT);
    FAILS("cuSurfRefSetArray", canvas, plain, 0u);
    OK("cuSurfRefSetArray", canvas, array, 0u);
    OK("cuSurfRefGetArray", &told, canvas);
    REQUIRE(told == array);
    unsigned value = 4711;
    void *parameters[] = {&value};
    launch(paint, parameters);
    copy_rows(nullptr, array, got.data(), WIDTH * 4, HEIGHT);
    image[3 * WIDTH + 2] = value;
    REQUIRE(got == image);
    OK("cuArrayDestroy", plain);
    OK("cuArrayDestroy", array);
}

static void of_no_module() {
    CUtexref made = nullptr;
    OK("cuTexRefCreate", &made);
    REQUIRE(made && made != picture && made != line);
    OK("cuTexRefSetFlags", made, (unsigned)CU_TRSF_READ_AS_INTEGER);
    unsigned flags = 77;
    OK("cuTexRefGetFlags", &flags, made);
    REQUIRE(flags == CU_TRSF_READ_AS_INTEGER);
    // Kernels have their module's references; others they cannot be given.
    OK("cuParamSetTexRef", sample, CU_PARAM_TR_DEFAULT, picture);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuParamSetTexRef", sample, 0, picture);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuParamSetTexRef", sample, CU_PARAM_TR_DEFAULT, made);
    OK("cuTexRefDestroy", made);
    FAILS("cuTexRefSetFlags", made, 0u);
}

// A library's module has references of its own, which end with the library.
static void of_a_library() {
    CUlibrary loaded = nullptr;
    CUmodule of = nullptr;
    CUfunction function = nullptr;
    CUtexref theirs = nullptr;
    CUarray array = array_of(2000), told = nullptr;
    OK("cuLibraryLoadData", &loaded, (const void *)KERNELS, (CUjit_option *)nullptr, (void **)nullptr, 0u,
       (CUlibraryOption *)nullptr, (void **)nullptr, 0u);
    OK("cuLibraryGetModule", &of, loaded);
    OK("cuModuleGetTexRef", &theirs, of, "picture");
    OK("cuModuleGetFunction", &function, of, "sample");
    REQUIRE(theirs && theirs != picture);
    OK("cuTexRefSetArray", theirs, array, (unsigned)CU_TRSA_OVERRIDE_FORMAT);
    OK("cuTexRefGetArray", &told, theirs);
    REQUIRE(told == array);
    float x = 3.5f, y = 2.5f;
    void *parameters[] = {&out, &x, &y};
    launch(function, parameters);
    REQUIRE(stored<float>()[0] == image(2000)[2 * WIDTH + 3]);
    OK("cuLibraryUnload", loaded);
    FAILS("cuTexRefGetArray", &told, theirs);
    OK("cuArrayDestroy", array);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    CUcontext context = nullptr;
    OK("cuDevicePrimaryCtxRetain", &context, 0);
    OK("cuCtxSetCurrent", context);
    OK("cuMemAlloc_v2", &out, (size_t)64);
    OK("cuMemAlloc_v2", &memory, (size_t)4096);
    OK("cuModuleLoadData", &module, (const void *)KERNELS);
    OK("cuModuleGetFunction", &sample, module, "sample");
    OK("cuModuleGetFunction", &sample_level, module, "sample_level");
    OK("cuModuleGetFunction", &number, module, "number");
    OK("cuModuleGetFunction", &paint, module, "paint");
    handles();
    arrays();
    levels();
    lines_and_rows();
    surfaces();
    of_no_module();
    of_a_library();
    // References end with their module.
    OK("cuModuleUnload", module);
    unsigned flags = 0;
    FAILS("cuTexRefGetFlags", &flags, picture);
    return pass("references to arrays, levels, memory and surfaces");
}
