// Host memory that the device reaches: what the one side writes the other sees, at the points where CUDA says so, and flags while work runs.
#include <atomic>
#include <thread>

#include <sys/mman.h>

#include "driver.h"

const char *const PROGRAM = "surface_host";

// `wait_for` spins until a word of the host is `value`, then adds one to the next word and copies the sum to a third.
static const char *const WAITING = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry wait_for(.param .u64 words, .param .u32 value)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [words];
    cvta.to.global.u64 %rd2, %rd1;
    ld.param.u32 %r1, [value];
again:
    ld.volatile.global.u32 %r2, [%rd2];
    setp.ne.u32 %p, %r2, %r1;
    @%p bra again;
    ld.volatile.global.u32 %r3, [%rd2+4];
    add.u32 %r3, %r3, 1;
    st.volatile.global.u32 [%rd2+64], %r3;
    ret;
}
)";

// `unused` is given an address that it does not use.
static const char *const UNUSED = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry unused(.param .u64 address)
{
    ret;
}
)";

static CUcontext context;
static CUstream stream;
static CUfunction axpy, wait_for, unused;

static CUdeviceptr address(const void *pointer) { return (CUdeviceptr)(uintptr_t)pointer; }

// out[i] = in[i] * factor + 5
static void launch(CUdeviceptr out, CUdeviceptr in, unsigned n, unsigned factor) {
    void *parameters[] = {&out, &in, &n, &factor};
    OK("cuLaunchKernel", axpy, (n + 127) / 128, 1u, 1u, 128u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
}

static unsigned *pinned(size_t bytes) {
    void *memory = nullptr;
    OK("cuMemHostAlloc", &memory, bytes, (unsigned)CU_MEMHOSTALLOC_DEVICEMAP);
    REQUIRE(memory);
    return (unsigned *)memory;
}

static CUdeviceptr reached(void *memory) {
    CUdeviceptr at = 0;
    OK("cuMemHostGetDevicePointer_v2", &at, memory, 0u);
    REQUIRE(at);
    return at;
}

// A kernel reads what the host wrote before the launch, also the second time, and the host what it wrote, after each kind of wait.
static void both_ways(unsigned n) {
    unsigned *in = pinned(n * 4), *out = pinned(n * 4);
    CUdeviceptr device_in = reached(in), device_out = reached(out);
    CUevent event;
    OK("cuEventCreate", &event, (unsigned)CU_EVENT_DISABLE_TIMING);
    for (unsigned round = 1; round <= 5; round++) {
        for (unsigned i = 0; i < n; i++) in[i] = round == 4 && i % 97 ? in[i] : i * round;
        std::vector<unsigned> expected(in, in + n);
        launch(device_out, device_in, n, 3);
        OK("cuEventRecord", event, stream);
        if (round == 1) OK("cuStreamSynchronize", stream);
        if (round == 2) OK("cuCtxSynchronize");
        if (round == 3) OK("cuEventSynchronize", event);
        if (round == 4)
            while (call("cuEventQuery", event) == CUDA_ERROR_NOT_READY) {}
        if (round == 5)
            while (call("cuStreamQuery", stream) == CUDA_ERROR_NOT_READY) {}
        for (unsigned i = 0; i < n; i++) REQUIRE(out[i] == expected[i] * 3 + 5);
    }
    OK("cuEventDestroy_v2", event);
    OK("cuMemFreeHost", (void *)in);
    FAILS("cuMemHostGetDevicePointer_v2", &device_in, (void *)in, 0u);
    OK("cuMemFreeHost", (void *)out);
}

// What the host writes beside what the device writes, in the same words' neighbours, stays.
static void side_by_side() {
    const unsigned n = 1024;
    unsigned *words = pinned(n * 8);
    CUdeviceptr at = reached(words);
    for (unsigned i = 0; i < n; i++) words[i] = i;
    launch(at + n * 4, at, n, 2);
    for (unsigned i = 0; i < n; i++) words[i] = 7000 + i;
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[i] == 7000 + i);
    launch(at + n * 4, at, n, 1);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[n + i] == 7005 + i);
    OK("cuMemFreeHost", (void *)words);
}

// Memory of the program's own, not of whole pages, by the address that it has here, without asking for another.
static void registered() {
    const unsigned n = 3000;
    std::vector<unsigned> own(2 * n + 3000);
    unsigned *words = own.data() + 1001;
    OK("cuMemHostRegister_v2", (void *)words, (size_t)n * 8, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    for (unsigned i = 0; i < n; i++) words[i] = i ^ 0x55;
    launch(address(words + n), address(words), n, 4);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[n + i] == (i ^ 0x55) * 4 + 5);
    OK("cuMemHostUnregister", (void *)words);
    CUdeviceptr at = 0;
    FAILS("cuMemHostGetDevicePointer_v2", &at, (void *)words, 0u);
}

// Registered memory that goes without being unregistered: a program's mistake, and no reason to die of it.
static void unmapped() {
    const size_t bytes = 1 << 16;
    void *own = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(own != MAP_FAILED);
    unsigned *words = (unsigned *)own, *other = pinned(4096);
    OK("cuMemHostRegister_v2", own, bytes, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    launch(address(words + 1024), address(words), 1024, 4);
    OK("cuStreamSynchronize", stream);
    REQUIRE(words[1024] == 5 && munmap(own, bytes) == 0);
    CUdeviceptr at = reached(other);
    other[0] = 3;
    launch(at + 4, at, 1, 4);
    OK("cuStreamSynchronize", stream);
    REQUIRE(other[1] == 17);
    OK("cuMemFreeHost", (void *)other);
    // What comes to its place later is other memory.
    OK("cuMemHostUnregister", own);
    void *again = mmap(own, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE(again == own);
    OK("cuMemHostRegister_v2", own, bytes, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    for (unsigned i = 0; i < 1024; i++) words[i] = i;
    launch(address(words + 1024), address(words), 1024, 4);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < 1024; i++) REQUIRE(words[1024 + i] == i * 4 + 5);
    OK("cuMemHostUnregister", own);
    munmap(own, bytes);
}

// Ranges of the program's own whose ends and beginnings are near to each other: one goes, the other stays.
static void neighbours() {
    void *own = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(own != MAP_FAILED);
    unsigned *first = (unsigned *)own, *second = first + 8;
    for (bool is_second_first : {false, true}) {
        for (unsigned i = 0; i < 12; i++) first[i] = i;
        OK("cuMemHostRegister_v2", (void *)first, (size_t)32, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
        OK("cuMemHostRegister_v2", (void *)second, (size_t)16, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
        if (is_second_first) reached(second);
        reached(first), reached(second);
        launch(address(second), address(first), 4, 2);
        OK("cuStreamSynchronize", stream);
        for (unsigned i = 0; i < 4; i++) REQUIRE(second[i] == i * 2 + 5);
        OK("cuMemHostUnregister", (void *)first);
        launch(address(second), address(second), 4, 3);
        OK("cuStreamSynchronize", stream);
        for (unsigned i = 0; i < 4; i++) REQUIRE(second[i] == (i * 2 + 5) * 3 + 5);
        OK("cuMemHostUnregister", (void *)second);
        for (unsigned i = 4; i < 8; i++) REQUIRE(first[i] == i);
    }
    munmap(own, 4096);
}

// Memory of one context that another uses goes with its own alone, and what goes with a context can be pinned again.
static void of_contexts(CUdevice device) {
    const unsigned n = 1000;
    unsigned *words = pinned(n * 8);
    void *own = mmap(nullptr, n * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(own != MAP_FAILED);
    unsigned *others = (unsigned *)own;
    CUcontext other;
    CUmodule module;
    CUfunction there;
    OK("cuCtxCreate_v2", &other, 0u, device);
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &there, module, (const char *)"axpy");
    OK("cuMemHostRegister_v2", own, (size_t)n * 8, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    for (unsigned i = 0; i < n; i++) words[i] = others[i] = i;
    for (unsigned *in : {words, others}) {
        CUdeviceptr from = reached(in), to = from + n * 4;
        unsigned count = n, factor = 2;
        void *parameters[] = {&to, &from, &count, &factor};
        OK("cuLaunchKernel", there, 8u, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters, (void **)nullptr);
    }
    OK("cuCtxDestroy_v2", other);
    OK("cuCtxSetCurrent", context);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[n + i] == i * 2 + 5 && others[n + i] == i * 2 + 5);
    launch(address(words + n), address(words), n, 3);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[n + i] == i * 3 + 5);
    // Whether it went with its context or not.
    (void)call("cuMemHostUnregister", own);
    OK("cuMemHostRegister_v2", own, (size_t)n * 8, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    launch(address(others + n), address(others), n, 4);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(others[n + i] == i * 4 + 5);
    OK("cuMemHostUnregister", own);
    OK("cuMemFreeHost", (void *)words);
    munmap(own, n * 8);
}

// Two threads that ask for the same memory at once both get it, with what is in it.
static void asked_by_two() {
    for (unsigned round = 1; round <= 100; round++) {
        unsigned *words = pinned(8192);
        words[0] = round;
        std::atomic<int> ready{0};
        auto ask = [&](unsigned out) {
            OK("cuCtxSetCurrent", context);
            ready++;
            while (ready < 2) {}
            CUdeviceptr at = reached(words);
            launch(at + out * 4, at, 1, 2);
            OK("cuStreamSynchronize", stream);
            REQUIRE(words[out] == round * 2 + 5);
        };
        std::thread second([&] { ask(200); });
        ask(100);
        second.join();
        OK("cuMemFreeHost", (void *)words);
    }
}

// Memory is given back while another thread names its address to a kernel that does not use it.
static void named_while_freed() {
    std::atomic<CUdeviceptr> named{0};
    std::atomic<bool> is_over{false};
    std::thread second([&] {
        OK("cuCtxSetCurrent", context);
        // A free waits for what was launched before it: a few, also where each takes a millisecond.
        for (unsigned launches = 0; !is_over; launches++) {
            CUdeviceptr at = named;
            void *parameters[] = {&at};
            OK("cuLaunchKernel", unused, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
            if (launches % 16 == 15) OK("cuStreamSynchronize", stream);
        }
    });
    for (unsigned round = 0; round < 200; round++) {
        unsigned *words = pinned(1 << 20);
        named = address(words);
        words[0] = round;
        if (round % 2) reached(words);
        OK("cuMemFreeHost", (void *)words);
    }
    is_over = true;
    second.join();
    OK("cuStreamSynchronize", stream);
}

// Copies and fills do not forbid the program to touch managed memory; a synchronous fill of it is done; a free shows what a kernel has written.
static void managed_between() {
    unsigned *words = nullptr, values[256] = {};
    CUdeviceptr apart = 0, managed = 0;
    OK("cuMemAllocManaged", &managed, sizeof values, (unsigned)CU_MEM_ATTACH_GLOBAL);
    OK("cuMemAlloc_v2", &apart, sizeof values);
    words = (unsigned *)managed;
    OK("cuMemcpyHtoD_v2", apart, (const void *)values, sizeof values);
    for (unsigned i = 0; i < 256; i++) words[i] = i;
    OK("cuMemsetD32Async", apart, 1u, (size_t)256, stream);
    words[7] = 70;
    launch(managed, managed, 256, 2);
    OK("cuMemFree_v2", apart);
    for (unsigned i = 0; i < 256; i++) REQUIRE(words[i] == (i == 7 ? 70 : i) * 2 + 5);
    OK("cuMemsetD32_v2", managed, 9u, (size_t)256);
    REQUIRE(words[0] == 9 && words[255] == 9);
    // A free does not spoil a capture that allows it.
    CUgraph graph = nullptr;
    OK("cuMemAlloc_v2", &apart, sizeof values);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    OK("cuMemFree_v2", apart);
    OK("cuStreamEndCapture", stream, &graph);
    OK("cuGraphDestroy", graph);
    OK("cuMemFree_v2", managed);
}

// A graph whose kernel names pinned memory that is given back and pinned again at the same place, which its launches then reach.
static void in_a_graph() {
    unsigned *words = nullptr;
    const size_t bytes = 1 << 16;
    void *own = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(own != MAP_FAILED);
    words = (unsigned *)own;
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    OK("cuMemHostRegister_v2", own, bytes, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    launch(address(words + 1024), address(words), 1024, 4);
    OK("cuStreamEndCapture", stream, &graph);
    OK("cuGraphInstantiateWithFlags", &exec, graph, 0ull);
    for (unsigned round = 1; round <= 4; round++) {
        for (unsigned i = 0; i < 1024; i++) words[i] = i * round;
        OK("cuGraphLaunch", exec, stream);
        OK("cuStreamSynchronize", stream);
        for (unsigned i = 0; i < 1024; i++) REQUIRE(words[1024 + i] == i * round * 4 + 5);
        if (round < 3) continue;
        OK("cuMemHostUnregister", own);
        // By the form of before CUDA 6.5.
        OK("cuMemHostRegister", own, bytes, (unsigned)CU_MEMHOSTREGISTER_DEVICEMAP);
    }
    OK("cuMemHostUnregister", own);
    OK("cuGraphExecDestroy", exec);
    OK("cuGraphDestroy", graph);
    munmap(own, bytes);
}

// Copies and fills take it as memory of the device, at their place in the stream.
static void copied() {
    const unsigned n = 50000;
    unsigned *words = pinned(n * 4), *other = pinned(n * 4);
    CUdeviceptr at = reached(words), device = 0;
    reached(other);
    OK("cuMemAlloc_v2", &device, (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) words[i] = i;
    launch(at, at, n, 2);
    OK("cuMemcpyHtoDAsync_v2", device, (const void *)words, (size_t)n * 4, stream);
    OK("cuMemsetD32Async", at, 9u, (size_t)n, stream);
    OK("cuMemcpyDtoHAsync_v2", (void *)other, device, (size_t)n * 4, stream);
    launch(device, address(other), n, 1);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[i] == 9 && other[i] == i * 2 + 5);
    std::vector<unsigned> read(n);
    OK("cuMemcpyDtoH_v2", (void *)read.data(), device, (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) REQUIRE(read[i] == i * 2 + 10);
    OK("cuMemcpy", at, device, (size_t)n * 4);
    OK("cuStreamSynchronize", (CUstream) nullptr);
    for (unsigned i = 0; i < n; i++) REQUIRE(words[i] == i * 2 + 10);
    OK("cuMemFree_v2", device);
    OK("cuMemFreeHost", (void *)words);
    OK("cuMemFreeHost", (void *)other);
}

static CUDA_MEMCPY2D rectangle(size_t width, size_t height) {
    CUDA_MEMCPY2D copy = {};
    copy.srcPitch = copy.dstPitch = copy.WidthInBytes = width, copy.Height = height;
    return copy;
}

// Boxes take it so too: between a kernel that writes it and an array, and between an array and a kernel that reads it.
static void in_boxes() {
    const size_t row = 1024, rows = 200;
    const unsigned n = row * rows / 4;
    unsigned *words = pinned(n * 4), *other = pinned(n * 4);
    CUdeviceptr at = reached(words), last = reached(other), device = 0;
    CUDA_ARRAY_DESCRIPTOR shape = {};
    shape.Width = row / 4, shape.Height = rows, shape.Format = CU_AD_FORMAT_UNSIGNED_INT32, shape.NumChannels = 1;
    CUarray array = nullptr;
    OK("cuArrayCreate_v2", &array, (const CUDA_ARRAY_DESCRIPTOR *)&shape);
    OK("cuMemAlloc_v2", &device, (size_t)n * 4);
    auto in = rectangle(row, rows), out = in, plain = in;
    in.srcMemoryType = out.dstMemoryType = CU_MEMORYTYPE_HOST;
    in.dstMemoryType = out.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    in.srcHost = words, in.dstArray = out.srcArray = array, out.dstHost = other;
    for (unsigned i = 0; i < n; i++) words[i] = i;
    launch(at, at, n, 2);
    OK("cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *)&in, stream);
    OK("cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *)&out, stream);
    launch(device, last, n, 3);
    OK("cuStreamSynchronize", stream);
    for (unsigned i = 0; i < n; i++) REQUIRE(other[i] == i * 2 + 5);
    std::vector<unsigned> got(n);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), device, (size_t)n * 4);
    for (unsigned i = 0; i < n; i++) REQUIRE(got[i] == (i * 2 + 5) * 3 + 5);
    // What lands in it by a synchronous copy is there when the copy returns.
    std::memset(other, 0, n * 4);
    OK("cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&out);
    for (unsigned i = 0; i < n; i++) REQUIRE(other[i] == i * 2 + 5);
    plain.srcMemoryType = plain.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    plain.srcDevice = device, plain.dstDevice = last;
    OK("cuMemcpy2D_v2", (const CUDA_MEMCPY2D *)&plain);
    for (unsigned i = 0; i < n; i++) REQUIRE(other[i] == (i * 2 + 5) * 3 + 5);
    OK("cuMemFree_v2", device);
    OK("cuArrayDestroy", array);
    OK("cuMemFreeHost", (void *)words);
    OK("cuMemFreeHost", (void *)other);
}

// A kernel waits for a flag that the host sets while it runs, and the host for one that the kernel sets, with no call between.
static void flags() {
    unsigned *words = pinned(4096);
    volatile unsigned *seen = words;
    CUdeviceptr at = reached(words);
    for (unsigned round = 1; round <= 3; round++) {
        unsigned value = round;
        void *parameters[] = {&at, &value};
        OK("cuLaunchKernel", wait_for, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
        GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
        seen[1] = round * 100;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        seen[0] = round;
        while (seen[16] != round * 100 + 1) {}
        OK("cuStreamSynchronize", stream);
    }
    // The same by what streams wait for and write.
    if (call("cuStreamWaitValue32_v2", stream, at, 70u, (unsigned)CU_STREAM_WAIT_VALUE_EQ) == CUDA_SUCCESS) {
        OK("cuStreamWriteValue32_v2", stream, at + 128, 71u, 0u);
        GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
        seen[0] = 70;
        while (seen[32] != 71) {}
        OK("cuStreamSynchronize", stream);
    }
    OK("cuMemFreeHost", (void *)words);
}

static void abilities(CUdevice device) {
    for (CUdevice_attribute wanted :
         {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM}) {
        int value = 0;
        OK("cuDeviceGetAttribute", &value, wanted, device);
        REQUIRE(value == 1);
    }
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    CUdevice device = 0;
    CUmodule module;
    OK("cuInit", 0u);
    OK("cuDeviceGet", &device, 0);
    OK("cuDevicePrimaryCtxRetain", &context, device);
    OK("cuCtxSetCurrent", context);
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &axpy, module, (const char *)"axpy");
    OK("cuModuleLoadData", &module, (const void *)WAITING);
    OK("cuModuleGetFunction", &wait_for, module, (const char *)"wait_for");
    OK("cuModuleLoadData", &module, (const void *)UNUSED);
    OK("cuModuleGetFunction", &unused, module, (const char *)"unused");
    abilities(device);
    both_ways(1000);
    both_ways(300000);
    side_by_side();
    registered();
    in_a_graph();
    managed_between();
    unmapped();
    neighbours();
    of_contexts(device);
    asked_by_two();
    named_while_freed();
    copied();
    in_boxes();
    flags();
    return pass("mapped host memory");
}
