// Multicast objects: memory of two devices under one address. Each function is checked by what `multimem` instructions then read and write in the memory of both, in one process and
// in two, of which each adds a device and binds memory of it.
//
//   surface_multicast [--without NAME]… [--pretend NAME]
#include "driver.h"

#include <atomic>
#include <thread>

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

extern char **environ;

const char *const PROGRAM = "surface_multicast";

static const unsigned DESCRIPTOR = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
// The second process's end of the socket.
static const int TO_PARENT = 100;

static const char *const MULTIMEM = R"(
.version 8.1
.target sm_90
.address_size 64

// out[i] = the sum of all devices' in[i]; each a vector of four.
.visible .entry sum(.param .u64 out, .param .u64 in)
{
    .reg .b32 %r<4>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    mov.u32 %r0, %ctaid.x;
    mov.u32 %r1, %ntid.x;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r0, %r0, %r1, %r2;
    ld.param.u64 %rd0, [out];
    ld.param.u64 %rd1, [in];
    mad.wide.u32 %rd0, %r0, 16, %rd0;
    mad.wide.u32 %rd1, %r0, 16, %rd1;
    multimem.ld_reduce.relaxed.sys.global.add.v4.f32 {%f0, %f1, %f2, %f3}, [%rd1];
    st.global.v4.f32 [%rd0], {%f0, %f1, %f2, %f3};
    ret;
}

// Every device's to[i] = value + i.
.visible .entry spread(.param .u64 to, .param .f32 value)
{
    .reg .b32 %r<4>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    mov.u32 %r0, %ctaid.x;
    mov.u32 %r1, %ntid.x;
    mov.u32 %r2, %tid.x;
    mad.lo.u32 %r0, %r0, %r1, %r2;
    ld.param.u64 %rd0, [to];
    mad.wide.u32 %rd0, %r0, 4, %rd0;
    ld.param.f32 %f0, [value];
    cvt.rn.f32.u32 %f1, %r0;
    add.f32 %f0, %f0, %f1;
    multimem.st.relaxed.sys.global.f32 [%rd0], %f0;
    ret;
}

// Every device's to[0] += 1, by every thread.
.visible .entry count(.param .u64 to)
{
    .reg .b64 %rd<2>;
    ld.param.u64 %rd0, [to];
    multimem.red.release.sys.global.add.u32 [%rd0], 1;
    ret;
}

// A plain store.
.visible .entry plain(.param .u64 to)
{
    .reg .b64 %rd<2>;
    ld.param.u64 %rd0, [to];
    st.global.u32 [%rd0], 1;
    ret;
}
)";

static CUcontext contexts[2];
static CUmodule modules[2];
static size_t piece;
static const unsigned FLOATS = 4096;

static void use(int device) { OK("cuCtxSetCurrent", contexts[device]); }

static void load(int device) {
    OK("cuDevicePrimaryCtxRetain", &contexts[device], (CUdevice)device);
    use(device);
    OK("cuModuleLoadData", &modules[device], (const void *)MULTIMEM);
}

static CUresult launched(int device, const char *name, unsigned threads, std::vector<void *> parameters) {
    CUfunction function;
    use(device);
    OK("cuModuleGetFunction", &function, modules[device], name);
    OK("cuLaunchKernel", function, (threads + 255) / 256, 1u, 1u, threads < 256 ? threads : 256u, 1u, 1u, 0u, (CUstream) nullptr,
       (void **)parameters.data(), (void **)nullptr);
    return call("cuCtxSynchronize");
}

static void launch(int device, const char *name, unsigned threads, std::vector<void *> parameters) {
    CUresult result = launched(device, name, threads, parameters);
    if (result != CUDA_SUCCESS) fail(__LINE__, name, result);
}

static CUmulticastObjectProp team(unsigned devices, size_t size, unsigned types = DESCRIPTOR) {
    CUmulticastObjectProp wanted{};
    wanted.numDevices = devices, wanted.size = size, wanted.handleTypes = types;
    return wanted;
}

static CUmemGenericAllocationHandle object(unsigned devices, size_t size, unsigned types = DESCRIPTOR) {
    auto wanted = team(devices, size, types);
    CUmemGenericAllocationHandle made = 0;
    OK("cuMulticastCreate", &made, (const CUmulticastObjectProp *)&wanted);
    REQUIRE(made);
    return made;
}

static CUmemGenericAllocationHandle memory_of(int device, size_t size, unsigned types = DESCRIPTOR) {
    CUmemAllocationProp wanted{};
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
    wanted.requestedHandleTypes = (CUmemAllocationHandleType)types;
    CUmemGenericAllocationHandle made = 0;
    OK("cuMemCreate", &made, size, (const CUmemAllocationProp *)&wanted, 0ull);
    return made;
}

static CUdeviceptr mapped(CUmemGenericAllocationHandle handle, size_t size, std::vector<int> devices) {
    CUdeviceptr start = 0;
    OK("cuMemAddressReserve", &start, size, (size_t)0, (CUdeviceptr)0, 0ull);
    OK("cuMemMap", start, size, (size_t)0, handle, 0ull);
    std::vector<CUmemAccessDesc> access;
    for (int device : devices) access.push_back({{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
    OK("cuMemSetAccess", start, size, (const CUmemAccessDesc *)access.data(), access.size());
    return start;
}

static void unmap(CUdeviceptr start, size_t size) {
    OK("cuMemUnmap", start, size);
    OK("cuMemAddressFree", start, size);
}

static void write(int device, CUdeviceptr to, float first, float step) {
    std::vector<float> numbers(FLOATS);
    for (unsigned i = 0; i < FLOATS; i++) numbers[i] = first + step * i;
    use(device);
    OK("cuMemcpyHtoD_v2", to, (const void *)numbers.data(), FLOATS * sizeof(float));
    OK("cuCtxSynchronize");
}

static bool holds(int device, CUdeviceptr from, float first, float step) {
    std::vector<float> numbers(FLOATS, -1);
    use(device);
    OK("cuMemcpyDtoH_v2", (void *)numbers.data(), from, FLOATS * sizeof(float));
    for (unsigned i = 0; i < FLOATS; i++)
        if (numbers[i] != first + step * i) return false;
    return true;
}

static unsigned word(int device, CUdeviceptr from) {
    unsigned found = ~0u;
    use(device);
    OK("cuMemcpyDtoH_v2", (void *)&found, from, sizeof found);
    return found;
}

// What both devices have is summed by either, and what one writes both have.
static void reduce_and_spread(CUdeviceptr both, CUdeviceptr first, CUdeviceptr second) {
    for (int device = 0; device < 2; device++) {
        CUdeviceptr out = 0;
        write(0, first, 1, 1), write(1, second, 2, 3);
        use(device);
        OK("cuMemAlloc_v2", &out, FLOATS * sizeof(float));
        launch(device, "sum", FLOATS / 4, {&out, &both});
        REQUIRE(holds(device, out, 3, 4));
        float value = 7 + device;
        launch(device, "spread", FLOATS, {&both, &value});
        REQUIRE(holds(0, first, value, 1) && holds(1, second, value, 1));
        write(0, first, 0, 0), write(1, second, 0, 0);
        launch(device, "count", 512, {&both});
        REQUIRE(word(0, first) == 512 && word(1, second) == 512);
        OK("cuMemFree_v2", out);
    }
}

static void granularity() {
    size_t least = 0, best = 0;
    auto wanted = team(2, 2 << 20);
    const CUmulticastObjectProp *properties = &wanted;
    OK("cuMulticastGetGranularity", &least, properties, CU_MULTICAST_GRANULARITY_MINIMUM);
    OK("cuMulticastGetGranularity", &best, properties, CU_MULTICAST_GRANULARITY_RECOMMENDED);
    REQUIRE(least > 0 && best >= least && best % least == 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastGetGranularity", &least, properties, 2u);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastGetGranularity", (size_t *)nullptr, properties, 0u);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastGetGranularity", &least, (const CUmulticastObjectProp *)nullptr, 0u);
    piece = least;
    // Physical memory has a granularity of its own.
    CUmemAllocationProp memory{};
    memory.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    memory.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    size_t other = 0;
    OK("cuMemGetAllocationGranularity", &other, (const CUmemAllocationProp *)&memory, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    if (other > piece) piece = other;
}

static void wrong_objects() {
    CUmemGenericAllocationHandle made = 0;
    auto wanted = team(2, piece);
    const CUmulticastObjectProp *properties = &wanted;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", (CUmemGenericAllocationHandle *)nullptr, properties);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", &made, (const CUmulticastObjectProp *)nullptr);
    wanted.numDevices = 0;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", &made, properties);
    wanted = team(2, piece + 1);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", &made, properties);
    wanted = team(2, 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", &made, properties);
    wanted = team(2, piece);
    wanted.flags = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastCreate", &made, properties);
}

// A team that is complete, made in turn.
static CUmemGenericAllocationHandle complete(size_t size, unsigned types = DESCRIPTOR) {
    CUmemGenericAllocationHandle both = object(2, size, types);
    OK("cuMulticastAddDevice", both, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastAddDevice", both, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMulticastAddDevice", both, (CUdevice)2);
    OK("cuMulticastAddDevice", both, (CUdevice)1);
    return both;
}

static void by_handles() {
    CUmemGenericAllocationHandle both = complete(2 * piece), first = memory_of(0, 2 * piece), second = memory_of(1, piece), retained = 0;
    // The second half of one device's memory, and all of the other's.
    OK("cuMulticastBindMem", both, (size_t)0, first, piece, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, (size_t)0, first, (size_t)0, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem_v2", both, (CUdevice)0, (size_t)0, second, (size_t)0, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMulticastBindMem_v2", both, (CUdevice)2, (size_t)0, second, (size_t)0, piece, 0ull);
    OK("cuMulticastBindMem_v2", both, (CUdevice)1, (size_t)0, second, (size_t)0, piece, 0ull);
    for (size_t wrong : {(size_t)1, 2 * piece}) {
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, wrong, second, (size_t)0, piece, 0ull);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, piece, second, wrong, piece, 0ull);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, piece, second, (size_t)0, wrong, 0ull);
    }
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, piece, second, (size_t)0, piece, 1ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", both, piece, both, (size_t)0, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", second, piece, second, (size_t)0, piece, 0ull);
    CUdeviceptr at_first = mapped(first, 2 * piece, {0}), at_second = mapped(second, piece, {1}), at_both = mapped(both, 2 * piece, {0, 1});
    // Handles are needed no longer.
    OK("cuMemRelease", first);
    OK("cuMemRelease", second);
    OK("cuMemRelease", both);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastUnbind", both, (CUdevice)0, (size_t)0, piece);
    reduce_and_spread(at_both, at_first + piece, at_second);
    unsigned long long access = 0;
    CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, {1}};
    OK("cuMemGetAccess", &access, (const CUmemLocation *)&here, at_both);
    REQUIRE(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    // No copy reads or writes there.
    use(0);
    FAILS("cuMemcpyDtoH_v2", (void *)&access, at_both, sizeof access);
    FAILS("cuMemsetD32_v2", at_both, 1u, (size_t)1);
    // What is mapped can be had again, and unbound.
    OK("cuMemRetainAllocationHandle", &retained, (void *)at_both);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastUnbind", retained, (CUdevice)0, piece, piece);
    OK("cuMulticastUnbind", retained, (CUdevice)0, (size_t)0, piece);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastUnbind", retained, (CUdevice)0, (size_t)0, piece);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMulticastUnbind", retained, (CUdevice)2, (size_t)0, piece);
    CUmemGenericAllocationHandle again = 0;
    OK("cuMemRetainAllocationHandle", &again, (void *)at_first);
    // The first half now.
    OK("cuMulticastBindMem", retained, (size_t)0, again, (size_t)0, piece, 0ull);
    reduce_and_spread(at_both, at_first, at_second);
    unmap(at_first, 2 * piece), unmap(at_second, piece);
    OK("cuMemRelease", again);
    OK("cuMemRelease", retained);
    unmap(at_both, 2 * piece);
}

// Memory that is named by addresses: of the program's own, and of a pool.
static void by_addresses() {
    CUmemGenericAllocationHandle both = complete(piece), first = memory_of(0, 2 * piece);
    CUdeviceptr at_first = mapped(first, 2 * piece, {0}), pooled = 0, plain = 0;
    CUmemPoolProps properties{};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {1}};
    CUmemoryPool pool;
    use(1);
    OK("cuMemPoolCreate", &pool, (const CUmemPoolProps *)&properties);
    OK("cuMemAllocFromPoolAsync", &pooled, piece, pool, (CUstream) nullptr);
    OK("cuMemAlloc_v2", &plain, piece);
    OK("cuCtxSynchronize");
    REQUIRE(pooled % piece == 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindAddr", both, (size_t)0, plain, piece, 0ull);
    CUdeviceptr nothing = 0;
    OK("cuMemAddressReserve", &nothing, piece, (size_t)0, (CUdeviceptr)0, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindAddr", both, (size_t)0, nothing, piece, 0ull);
    OK("cuMemAddressFree", nothing, piece);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindAddr", both, (size_t)0, at_first + 256, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindAddr", both, (size_t)0, at_first, piece, 1ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindAddr_v2", both, (CUdevice)0, (size_t)0, pooled, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuMulticastBindAddr_v2", both, (CUdevice)2, (size_t)0, pooled, piece, 0ull);
    OK("cuMulticastBindAddr", both, (size_t)0, at_first + piece, piece, 0ull);
    OK("cuMulticastBindAddr_v2", both, (CUdevice)1, (size_t)0, pooled, piece, 0ull);
    CUdeviceptr at_both = mapped(both, piece, {0, 1});
    reduce_and_spread(at_both, at_first + piece, pooled);
    OK("cuMulticastUnbind", both, (CUdevice)1, (size_t)0, piece);
    use(1);
    OK("cuMemFree_v2", pooled);
    OK("cuMemFree_v2", plain);
    OK("cuMemPoolDestroy", pool);
    unmap(at_both, piece), unmap(at_first, 2 * piece);
    OK("cuMemRelease", both);
    OK("cuMemRelease", first);
}

// Who binds or maps waits until the team is complete.
static void wait_for_the_team() {
    CUmemGenericAllocationHandle both = object(2, piece), first = memory_of(0, piece), second = memory_of(1, piece);
    OK("cuMulticastAddDevice", both, (CUdevice)0);
    std::atomic<int> done{0};
    CUdeviceptr start = 0;
    OK("cuMemAddressReserve", &start, piece, (size_t)0, (CUdeviceptr)0, 0ull);
    std::thread binds([&] {
        OK("cuMulticastBindMem", both, (size_t)0, first, (size_t)0, piece, 0ull);
        done++;
    });
    std::thread maps([&] {
        OK("cuMemMap", start, piece, (size_t)0, both, 0ull);
        done++;
    });
    usleep(100000);
    REQUIRE(done == 0);
    // Others go on.
    use(0);
    OK("cuCtxSynchronize");
    OK("cuMulticastAddDevice", both, (CUdevice)1);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastAddDevice", both, (CUdevice)1);
    binds.join(), maps.join();
    OK("cuMulticastBindMem", both, (size_t)0, second, (size_t)0, piece, 0ull);
    unmap(start, piece);
    OK("cuMemRelease", both);
    OK("cuMemRelease", first);
    OK("cuMemRelease", second);
}

// Objects of this process alone take any memory; those for others only what others may have.
static void sharing_is_asked_for() {
    CUmemGenericAllocationHandle shared = complete(piece), own = complete(piece, 0), memory = memory_of(0, piece, 0);
    int descriptor = -1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMulticastBindMem", shared, (size_t)0, memory, (size_t)0, piece, 0ull);
    OK("cuMulticastBindMem", own, (size_t)0, memory, (size_t)0, piece, 0ull);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemExportToShareableHandle", (void *)&descriptor, own, DESCRIPTOR, 0ull);
    CUmemAllocationProp told{};
    FAILS("cuMemGetAllocationPropertiesFromHandle", &told, own);
    for (auto handle : {shared, own, memory}) OK("cuMemRelease", handle);
}

// What is bound is charged until it is bound no more, and then it is there again: twice the memory of the devices, an eighth at a time.
static void come_and_go() {
    size_t free = 0, total = 0;
    use(0);
    OK("cuMemGetInfo_v2", &free, &total);
    size_t eighth = total / 8 / piece * piece;
    for (int round = 0; round < 16; round++) {
        CUmemGenericAllocationHandle both = complete(eighth), memory = memory_of(0, eighth);
        OK("cuMulticastBindMem", both, (size_t)0, memory, (size_t)0, eighth, 0ull);
        OK("cuMemRelease", memory);
        size_t left = 0;
        OK("cuMemGetInfo_v2", &left, &total);
        REQUIRE(left + eighth <= free);
        if (round % 2) OK("cuMulticastUnbind", both, (CUdevice)0, (size_t)0, eighth);
        OK("cuMemRelease", both);
    }
}

// A word, and a descriptor with it.
static void send(int socket, int descriptor = -1) {
    char byte = 'x', space[CMSG_SPACE(sizeof(int))] = {};
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = space, message.msg_controllen = sizeof space;
        cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    REQUIRE(sendmsg(socket, &message, MSG_NOSIGNAL) == 1);
}

static int receive(int socket) {
    char byte, space[CMSG_SPACE(sizeof(int))] = {};
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    message.msg_control = space, message.msg_controllen = sizeof space;
    REQUIRE(recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1);
    int descriptor = -1;
    if (cmsghdr *header = CMSG_FIRSTHDR(&message)) std::memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
    return descriptor;
}

// What each process does with an object that both have: its own device, and memory of it.
static void take_part(int device, CUmemGenericAllocationHandle both, int socket) {
    OK("cuMulticastAddDevice", both, (CUdevice)device);
    CUmemGenericAllocationHandle memory = memory_of(device, piece);
    OK("cuMulticastBindMem", both, (size_t)0, memory, (size_t)0, piece, 0ull);
    CUdeviceptr own = mapped(memory, piece, {device}), shared = mapped(both, piece, {device}), out = 0;
    OK("cuMemRelease", memory);
    OK("cuMemRelease", both);
    use(device);
    OK("cuMemAlloc_v2", &out, FLOATS * sizeof(float));
    write(device, own, 1 + device, 1 + 2 * device);
    // Both have written; both sum; both have read.
    send(socket), receive(socket);
    launch(device, "sum", FLOATS / 4, {&out, &shared});
    REQUIRE(holds(device, out, 3, 4));
    send(socket), receive(socket);
    // In turn, what one writes the other has.
    for (int turn = 0; turn < 2; turn++) {
        float value = 40 + turn;
        if (turn == device) {
            launch(device, "spread", FLOATS, {&shared, &value});
            send(socket);
        } else {
            receive(socket);
        }
        REQUIRE(holds(device, own, value, 1));
        send(socket), receive(socket);
    }
    write(device, own, 0, 0);
    send(socket), receive(socket);
    launch(device, "count", 4096, {&shared});
    send(socket), receive(socket);
    REQUIRE(word(device, own) == 2 * 4096);
    send(socket), receive(socket);
    OK("cuMemFree_v2", out);
    unmap(own, piece), unmap(shared, piece);
}

static int child() {
    int descriptor = receive(TO_PARENT);
    REQUIRE(descriptor >= 0);
    CUmemGenericAllocationHandle both = 0;
    OK("cuMemImportFromShareableHandle", &both, (void *)(intptr_t)descriptor, DESCRIPTOR);
    close(descriptor);
    take_part(1, both, TO_PARENT);
    return 0;
}

static void share_with_another(int count, char **arguments) {
    int ends[2], descriptor = -1;
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    std::vector<char *> given{arguments[0], (char *)"--child"};
    for (int i = 1; i < count; i++) given.push_back(arguments[i]);
    given.push_back(nullptr);
    REQUIRE(dup2(ends[1], TO_PARENT) == TO_PARENT);
    pid_t process;
    std::fflush(stdout);
    REQUIRE(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, given.data(), environ) == 0);
    close(TO_PARENT), close(ends[1]);
    CUmemGenericAllocationHandle both = object(2, piece);
    OK("cuMemExportToShareableHandle", (void *)&descriptor, both, DESCRIPTOR, 0ull);
    send(ends[0], descriptor);
    close(descriptor);
    take_part(0, both, ends[0]);
    int status = 0;
    REQUIRE(waitpid(process, &status, 0) == process && status == 0);
    close(ends[0]);
}

// Addresses of an object are for `multimem` alone, and for it only where all devices have memory. Each is the end of its context.
static void what_is_no_memory() {
    CUmemGenericAllocationHandle both = complete(2 * piece), first = memory_of(0, piece), second = memory_of(1, piece);
    OK("cuMulticastBindMem", both, (size_t)0, first, (size_t)0, piece, 0ull);
    OK("cuMulticastBindMem", both, (size_t)0, second, (size_t)0, piece, 0ull);
    CUdeviceptr start = mapped(both, 2 * piece, {0, 1}), behind = start + piece;
    REQUIRE(launched(0, "plain", 1, {&start}) == CUDA_ERROR_ILLEGAL_ADDRESS);
    REQUIRE(launched(1, "count", 1, {&behind}) == CUDA_ERROR_ILLEGAL_ADDRESS);
}

int main(int count, char **arguments) {
    bool is_child = count > 1 && !std::strcmp(arguments[1], "--child");
    open_driver(count - is_child, arguments + is_child);
    // Who waits for ever fails by this signal.
    alarm(120);
    OK("cuInit", 0u);
    int devices = 0;
    OK("cuDeviceGetCount", &devices);
    if (devices != 2) fail(__LINE__, "this program needs two devices", devices);
    for (int device = 0; device < 2; device++) {
        int value = 0;
        OK("cuDeviceGetAttribute", &value, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, (CUdevice)device);
        if (value != 1) fail(__LINE__, "this program needs devices with multicast", value);
        load(device);
    }
    granularity();
    if (is_child) return child();
    wrong_objects();
    by_handles();
    by_addresses();
    wait_for_the_team();
    sharing_is_asked_for();
    come_and_go();
    share_with_another(count, arguments);
    what_is_no_memory();
    return pass("two devices, by handle and by address, in one process and in two");
}
