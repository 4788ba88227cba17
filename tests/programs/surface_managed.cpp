// Managed memory: what the host writes a kernel reads at the same address, and the other way round; and what is said of it.
#include <atomic>
#include <thread>

#include "driver.h"

const char *const PROGRAM = "surface_managed";

// `bump` adds to a managed variable that many times one, and stores where it is.
static const char *const VARIABLES = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .global .attribute(.managed) .align 4 .u32 counter = 40;
.visible .global .align 4 .u32 plain = 41;
.visible .global .attribute(.managed) .align 8 .b8 table[40000];

.visible .entry bump(.param .u32 by, .param .u32 at)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    ld.param.u32 %r1, [by];
    ld.global.u32 %r2, [counter];
    add.u32 %r2, %r2, %r1;
    st.global.u32 [counter], %r2;
    ld.param.u32 %r3, [at];
    mul.wide.u32 %rd1, %r3, 4;
    mov.u64 %rd2, table;
    add.s64 %rd3, %rd2, %rd1;
    st.global.u32 [%rd3], %r2;
    ret;
}

// Follows a list: each element is an address of the next and a number, to which it adds one.
.visible .entry follow(.param .u64 first)
{
    .reg .pred %p;
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [first];
again:
    setp.eq.u64 %p, %rd1, 0;
    @%p bra done;
    ld.u32 %r1, [%rd1+8];
    add.u32 %r1, %r1, 1;
    st.u32 [%rd1+8], %r1;
    ld.u64 %rd1, [%rd1];
    bra again;
done:
    ret;
}
)";

static CUcontext context;
static CUstream stream;
static CUfunction axpy, bump, follow;
static bool is_concurrent;

// out[i] = in[i] * factor + 5
static void launch(CUdeviceptr out, CUdeviceptr in, unsigned n, unsigned factor) {
    void *parameters[] = {&out, &in, &n, &factor};
    OK("cuLaunchKernel", axpy, (n + 127) / 128, 1u, 1u, 128u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
}

template <typename T> static T *managed(size_t count, unsigned flags = CU_MEM_ATTACH_GLOBAL) {
    CUdeviceptr at = 0;
    OK("cuMemAllocManaged", &at, count * sizeof(T), flags);
    REQUIRE(at);
    return (T *)(uintptr_t)at;
}

static CUdeviceptr address(const void *pointer) { return (CUdeviceptr)(uintptr_t)pointer; }

// Rounds of a kernel with the host before and after, the kernel's result being the next round's source.
static void both_ways(unsigned n) {
    unsigned *in = managed<unsigned>(n), *out = managed<unsigned>(n);
    for (unsigned round = 1; round <= 4; round++) {
        for (unsigned i = 0; i < n; i++) in[i] = round == 3 && i % 97 ? in[i] : i * round;
        std::vector<unsigned> expected(in, in + n);
        launch(address(out), address(in), n, 3);
        if (round == 2) launch(address(out), address(out), n, 1);
        if (round % 2) OK("cuStreamSynchronize", stream);
        else OK("cuCtxSynchronize");
        for (unsigned i = 0; i < n; i++) REQUIRE(out[i] == expected[i] * 3 + (round == 2 ? 10 : 5));
    }
    // Copies and fills take it as what either pointer says.
    std::vector<unsigned> copy(n);
    OK("cuMemsetD32_v2", address(in), 9u, (size_t)n);
    OK("cuMemcpyDtoH_v2", (void *)copy.data(), address(in), (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) REQUIRE(copy[i] == 9 && in[i] == 9);
    for (unsigned i = 0; i < n; i++) in[i] = i;
    OK("cuMemcpyHtoD_v2", address(out), (const void *)in, (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) REQUIRE(out[i] == i);
    for (unsigned i = 0; i < n; i++) out[i] = i + 7;
    OK("cuMemcpyDtoH_v2", (void *)copy.data(), address(out), (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) REQUIRE(copy[i] == i + 7);
    OK("cuMemcpy", address(in), address(out), (size_t)n * 4);
    OK("cuCtxSynchronize");
    for (unsigned i = 0; i < n; i++) REQUIRE(in[i] == i + 7);
    OK("cuMemFree_v2", address(in));
    OK("cuMemFree_v2", address(out));
    FAILS("cuMemFree_v2", address(out));
}

// A synchronous copy waits for what is before it in its stream, however small it is and wherever it goes: then managed memory is the host's.
static void behind_a_copy() {
    unsigned *memory = managed<unsigned>(1000), count = 1000, factor = 2, small[4] = {1, 2, 3, 4};
    CUdeviceptr at = address(memory), elsewhere = 0;
    OK("cuMemAlloc_v2", &elsewhere, sizeof small);
    for (unsigned i = 0; i < count; i++) memory[i] = i;
    void *parameters[] = {&at, &at, &count, &factor};
    for (unsigned round = 1; round <= 3; round++) {
        std::vector<unsigned> before(memory, memory + count);
        OK("cuLaunchKernel", axpy, 8u, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters, (void **)nullptr);
        OK("cuMemcpyHtoD_v2", elsewhere, (const void *)small, sizeof small);
        for (unsigned i = 0; i < count; i++) {
            REQUIRE(memory[i] == before[i] * 2 + 5);
            memory[i] += round;
        }
    }
    OK("cuMemFree_v2", elsewhere);
    OK("cuMemFree_v2", at);
}

struct Element {
    Element *next;
    unsigned number;
};

// Many small allocations that point to each other.
static void list() {
    Element *first = nullptr;
    for (unsigned i = 0; i < 500; i++) {
        Element *element = managed<Element>(1);
        *element = {first, i};
        first = element;
    }
    for (unsigned round = 1; round <= 2; round++) {
        void *parameters[] = {&first};
        OK("cuLaunchKernel", follow, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
        OK("cuStreamSynchronize", stream);
        unsigned number = 499;
        for (Element *element = first; element; element = element->next) REQUIRE(element->number == number-- + round);
    }
    while (first) {
        Element *next = first->next;
        OK("cuMemFree_v2", address(first));
        first = next;
    }
}

template <typename T> static T attribute(CUpointer_attribute wanted, CUdeviceptr at) {
    T value{};
    OK("cuPointerGetAttribute", (void *)&value, wanted, at);
    return value;
}

static void variables(CUmodule module) {
    CUdeviceptr counter = 0, plain = 0, table = 0;
    size_t size = 0;
    OK("cuModuleGetGlobal_v2", &counter, &size, module, (const char *)"counter");
    REQUIRE(size == 4);
    OK("cuModuleGetGlobal_v2", &plain, &size, module, (const char *)"plain");
    OK("cuModuleGetGlobal_v2", &table, &size, module, (const char *)"table");
    REQUIRE(size == 40000);
    REQUIRE(attribute<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED, counter) == 1);
    REQUIRE(attribute<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED, plain) == 0);
    unsigned *own = (unsigned *)(uintptr_t)counter, *words = (unsigned *)(uintptr_t)table;
    REQUIRE(*own == 40);
    for (unsigned round = 0; round < 3; round++) {
        *own += 100;
        unsigned before = *own, by = round + 1, at = round * 4000;
        void *parameters[] = {&by, &at};
        OK("cuLaunchKernel", bump, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
        OK("cuStreamSynchronize", stream);
        REQUIRE(*own == before + by && words[at] == before + by);
    }
}

// A library's, which the newer runtimes ask so.
static void variables_of_library() {
    CUlibrary library;
    CUkernel kernel;
    CUdeviceptr counter = 0, plain = 0;
    size_t size = 0;
    OK("cuLibraryLoadData", &library, (const void *)VARIABLES, (CUjit_option *)nullptr, (void **)nullptr, 0u, (CUlibraryOption *)nullptr,
       (void **)nullptr, 0u);
    OK("cuLibraryGetManaged", &counter, &size, library, (const char *)"counter");
    REQUIRE(counter && size == 4);
    FAILS("cuLibraryGetManaged", &plain, &size, library, (const char *)"plain");
    OK("cuLibraryGetKernel", &kernel, library, (const char *)"bump");
    unsigned *own = (unsigned *)(uintptr_t)counter;
    REQUIRE(*own == 40);
    *own = 50;
    unsigned by = 3, at = 0;
    void *parameters[] = {&by, &at};
    OK("cuLaunchKernel", (CUfunction)kernel, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
    OK("cuStreamSynchronize", stream);
    REQUIRE(*own == 53);
    OK("cuLibraryUnload", library);
}

// A library's variable, looked up in its module, goes with the library: nobody looks for changes of it any more.
static void variables_of_librarys_module() {
    CUlibrary library;
    CUmodule module;
    CUdeviceptr counter = 0;
    size_t size = 0;
    OK("cuLibraryLoadData", &library, (const void *)VARIABLES, (CUjit_option *)nullptr, (void **)nullptr, 0u, (CUlibraryOption *)nullptr,
       (void **)nullptr, 0u);
    OK("cuLibraryGetModule", &module, library);
    OK("cuModuleGetGlobal_v2", &counter, &size, module, (const char *)"counter");
    REQUIRE(counter && size == 4 && *(unsigned *)(uintptr_t)counter == 40);
    OK("cuLibraryUnload", library);
    both_ways(1000);
}

// Two threads that look a variable up first both find what is in it, and what the one writes the other does not undo.
static void looked_up_by_two() {
    for (unsigned round = 0; round < 30; round++) {
        CUmodule module;
        OK("cuModuleLoadData", &module, (const void *)VARIABLES);
        std::atomic<int> ready{0}, seen{0};
        auto look = [&](unsigned at) {
            OK("cuCtxSetCurrent", context);
            CUdeviceptr counter = 0, table = 0;
            size_t size = 0;
            ready++;
            while (ready < 2) {}
            OK("cuModuleGetGlobal_v2", &counter, &size, module, (const char *)"counter");
            REQUIRE(*(unsigned *)(uintptr_t)counter == 40);
            OK("cuModuleGetGlobal_v2", &table, &size, module, (const char *)"table");
            unsigned *words = (unsigned *)(uintptr_t)table;
            words[at] = at;
            seen++;
            while (seen < 2) {}
            REQUIRE(words[1000] == 1000 && words[9000] == 9000);
        };
        std::thread second([&] { look(9000); });
        look(1000);
        second.join();
        OK("cuModuleUnload", module);
    }
}

static void attributes() {
    unsigned *memory = managed<unsigned>(1000);
    CUdeviceptr at = address(memory + 10);
    REQUIRE(attribute<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED, at) == 1);
    REQUIRE(attribute<void *>(CU_POINTER_ATTRIBUTE_HOST_POINTER, at) == memory + 10);
    REQUIRE(attribute<CUdeviceptr>(CU_POINTER_ATTRIBUTE_DEVICE_POINTER, at) == at);
    REQUIRE(attribute<CUdeviceptr>(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, at) == address(memory));
    CUdeviceptr device = 0;
    OK("cuMemAlloc_v2", &device, (size_t)100);
    REQUIRE(attribute<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED, device) == 0);
    OK("cuMemFree_v2", device);
    OK("cuMemFree_v2", address(memory));
    FAILS("cuMemAllocManaged", &at, (size_t)100, 0u);
    FAILS("cuMemAllocManaged", &at, (size_t)100, (unsigned)CU_MEM_ATTACH_SINGLE);
    FAILS("cuMemAllocManaged", &at, (size_t)0, (unsigned)CU_MEM_ATTACH_GLOBAL);
}

static int range_attribute(CUmem_range_attribute wanted, CUdeviceptr at, size_t bytes) {
    int value = 77;
    OK("cuMemRangeGetAttribute", (void *)&value, (size_t)4, wanted, at, bytes);
    return value;
}

// Advice is remembered. What asks for a place on a device that cannot share memory while it works is refused.
static void advice(CUdevice device) {
    const size_t bytes = 1 << 20;
    CUdeviceptr at = address(managed<char>(bytes)), plain = 0;
    OK("cuMemAlloc_v2", &plain, bytes);
    REQUIRE(range_attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, at, bytes) == 0);
    OK("cuMemAdvise", at, bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device);
    REQUIRE(range_attribute(CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, at, bytes) == 1);
    CUmemLocation host{}, here{};
    host.type = CU_MEM_LOCATION_TYPE_HOST;
    here.type = CU_MEM_LOCATION_TYPE_DEVICE;
    here.id = device;
    OK("cuMemAdvise_v2", at, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, host);
    REQUIRE(range_attribute(CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, at, bytes) == CU_DEVICE_CPU);
    FAILS("cuMemAdvise", plain, bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device);
    FAILS("cuMemAdvise_v2", at, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CUmemLocation{});
    int mostly = 77, accessed[3] = {77, 77, 77};
    void *places[] = {&mostly, accessed};
    size_t sizes[] = {4, 12};
    CUmem_range_attribute wanted[] = {CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY};
    OK("cuMemAdvise", at, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, (CUdevice)CU_DEVICE_CPU);
    OK("cuMemRangeGetAttributes", (void **)places, (size_t *)sizes, (CUmem_range_attribute *)wanted, (size_t)2, at, bytes);
    REQUIRE(mostly == 1 && accessed[0] == CU_DEVICE_CPU && accessed[1] == CU_DEVICE_INVALID);
    FAILS("cuMemPrefetchAsync", plain, bytes, device, stream);
    FAILS("cuMemPrefetchAsync_v2", at, bytes + 1, host, 0u, stream);
    if (is_concurrent) {
        OK("cuMemPrefetchAsync", at, bytes, device, stream);
        REQUIRE(range_attribute(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, at, bytes) == device);
        OK("cuMemPrefetchAsync_v2", at, bytes, host, 0u, stream);
        REQUIRE(range_attribute(CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, at, bytes) == CU_DEVICE_CPU);
        OK("cuMemAdvise_v2", at, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, here);
    } else {
        GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMemPrefetchAsync", at, bytes, device, stream);
        GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMemPrefetchAsync_v2", at, bytes, here, 0u, stream);
        GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMemAdvise", at, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device);
    }
    OK("cuMemFree_v2", plain);
    OK("cuMemFree_v2", at);
    FAILS("cuMemRangeGetAttribute", (void *)&mostly, (size_t)4, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, at, bytes);
}

// Memory of one stream is the host's when that stream is idle, whatever others do.
static void attachment() {
    const unsigned n = 1000;
    unsigned *own = managed<unsigned>(n, CU_MEM_ATTACH_HOST), *other = managed<unsigned>(n);
    CUstream second;
    OK("cuStreamCreate", &second, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamAttachMemAsync", stream, address(own), (size_t)0, (unsigned)CU_MEM_ATTACH_SINGLE);
    OK("cuStreamSynchronize", stream);
    CUdeviceptr at = address(other);
    unsigned count = n, factor = 1;
    void *parameters[] = {&at, &at, &count, &factor};
    OK("cuLaunchKernel", axpy, 8u, 1u, 1u, 128u, 1u, 1u, 0u, second, (void **)parameters, (void **)nullptr);
    for (unsigned i = 0; i < n; i++) own[i] = i;
    launch(address(own), address(own), n, 2);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(own[i] == i * 2 + 5);
    OK("cuStreamSynchronize", second);
    FAILS("cuStreamAttachMemAsync", stream, address(own), (size_t)0, 0u);
    FAILS("cuStreamAttachMemAsync", stream, address(own), (size_t)8, (unsigned)CU_MEM_ATTACH_GLOBAL);
    FAILS("cuStreamAttachMemAsync", (CUstream) nullptr, address(own), (size_t)0, (unsigned)CU_MEM_ATTACH_SINGLE);
    OK("cuStreamAttachMemAsync", stream, address(own), (size_t)n * 4, (unsigned)CU_MEM_ATTACH_GLOBAL);
    OK("cuMemFree_v2", address(own));
    OK("cuMemFree_v2", address(other));
    OK("cuStreamDestroy_v2", second);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUdevice device = 0;
    CUmodule module, variable_module;
    OK("cuInit", 0u);
    OK("cuDeviceGet", &device, 0);
    int can = 0, concurrent = 0;
    OK("cuDeviceGetAttribute", &can, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, device);
    OK("cuDeviceGetAttribute", &concurrent, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, device);
    REQUIRE(can == 1);
    is_concurrent = concurrent;
    OK("cuDevicePrimaryCtxRetain", &context, device);
    OK("cuCtxSetCurrent", context);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &axpy, module, (const char *)"axpy");
    OK("cuModuleLoadData", &variable_module, (const void *)VARIABLES);
    OK("cuModuleGetFunction", &bump, variable_module, (const char *)"bump");
    OK("cuModuleGetFunction", &follow, variable_module, (const char *)"follow");
    both_ways(1000);
    both_ways(1200000);
    behind_a_copy();
    list();
    attributes();
    advice(device);
    attachment();
    variables(variable_module);
    variables_of_library();
    variables_of_librarys_module();
    looked_up_by_two();
    OK("cuModuleUnload", variable_module);
    return pass("managed memory");
}
