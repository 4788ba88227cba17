// Physical memory and memory pools that two processes share by descriptors: the first exports, and starts itself as the second, which gets the descriptors
// through a socket, imports, reads, writes. What is only a descriptor any more is memory still.
//
//   surface_sharing [--without NAME]… [--pretend NAME]
#include "driver.h"

#include <thread>

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

extern char **environ;

const char *const PROGRAM = "surface_sharing";

static const unsigned DESCRIPTOR = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
// The second process's end of the socket.
static const int TO_PARENT = 100;

static size_t piece;

static CUmemAllocationProp exportable() {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    return properties;
}

static CUmemGenericAllocationHandle create() {
    auto wanted = exportable();
    CUmemGenericAllocationHandle made = 0;
    OK("cuMemCreate", &made, piece, (const CUmemAllocationProp *)&wanted, 0ull);
    return made;
}

static int exported_of(CUmemGenericAllocationHandle memory) {
    int descriptor = -1;
    OK("cuMemExportToShareableHandle", (void *)&descriptor, memory, DESCRIPTOR, 0ull);
    REQUIRE(descriptor >= 0);
    return descriptor;
}

static CUmemGenericAllocationHandle imported(int descriptor) {
    CUmemGenericAllocationHandle memory = 0;
    OK("cuMemImportFromShareableHandle", &memory, (void *)(intptr_t)descriptor, DESCRIPTOR);
    REQUIRE(memory);
    return memory;
}

static CUdeviceptr mapped(CUmemGenericAllocationHandle memory) {
    CUdeviceptr start = 0;
    OK("cuMemAddressReserve", &start, piece, (size_t)0, (CUdeviceptr)0, 0ull);
    OK("cuMemMap", start, piece, (size_t)0, memory, 0ull);
    CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, {0}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    OK("cuMemSetAccess", start, piece, (const CUmemAccessDesc *)&access, (size_t)1);
    return start;
}

static void unmap(CUdeviceptr start) {
    OK("cuMemUnmap", start, piece);
    OK("cuMemAddressFree", start, piece);
}

static void fill(CUdeviceptr start, unsigned value, size_t bytes = piece) {
    OK("cuMemsetD32_v2", start, value, bytes / 4);
    OK("cuCtxSynchronize");
}

static bool is_full_of(CUdeviceptr start, unsigned value, size_t bytes = piece) {
    std::vector<unsigned> words(bytes / 4, ~value);
    OK("cuMemcpyDtoH_v2", (void *)words.data(), start, bytes);
    for (unsigned word : words)
        if (word != value) return false;
    return true;
}

// A word, and descriptors with it.
static void send(int socket, const std::vector<int> &descriptors) {
    char byte = 'x', space[CMSG_SPACE(2 * sizeof(int))] = {};
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        size_t bytes = descriptors.size() * sizeof(int);
        message.msg_control = space, message.msg_controllen = CMSG_SPACE(bytes);
        cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
    }
    REQUIRE(sendmsg(socket, &message, MSG_NOSIGNAL) == 1);
}

static std::vector<int> receive(int socket) {
    char byte, space[CMSG_SPACE(2 * sizeof(int))] = {};
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    message.msg_control = space, message.msg_controllen = sizeof space;
    REQUIRE(recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1);
    std::vector<int> descriptors;
    if (cmsghdr *header = CMSG_FIRSTHDR(&message)) {
        descriptors.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        std::memcpy(descriptors.data(), CMSG_DATA(header), descriptors.size() * sizeof(int));
    }
    return descriptors;
}

// A kernel reads the one and writes the other.
static void compute(CUdeviceptr out, CUdeviceptr in, size_t bytes) {
    CUmodule module;
    CUfunction function;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &function, module, "axpy");
    unsigned words = bytes / 4, factor = 3;
    void *parameters[] = {&out, &in, &words, &factor};
    OK("cuLaunchKernel", function, (words + 255) / 256, 1u, 1u, 256u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters,
       (void **)nullptr);
    OK("cuCtxSynchronize");
}

// The second process.
static int child() {
    auto descriptors = receive(TO_PARENT);
    REQUIRE(descriptors.size() == 2);
    CUmemGenericAllocationHandle kept = imported(descriptors[0]), left = imported(descriptors[1]);
    for (int descriptor : descriptors) close(descriptor);
    CUmemAllocationProp told{};
    OK("cuMemGetAllocationPropertiesFromHandle", &told, kept);
    REQUIRE(told.type == CU_MEM_ALLOCATION_TYPE_PINNED && told.location.type == CU_MEM_LOCATION_TYPE_DEVICE && told.location.id == 0);
    CUdeviceptr first = mapped(kept), second = mapped(left);
    REQUIRE(first != second);
    REQUIRE(is_full_of(first, 11) && is_full_of(second, 12));
    compute(first, second, piece);
    send(TO_PARENT, {});
    // What the first process writes now is seen here.
    receive(TO_PARENT);
    REQUIRE(is_full_of(first, 13));
    unmap(first), unmap(second);
    OK("cuMemRelease", kept);
    OK("cuMemRelease", left);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemRelease", left);
    send(TO_PARENT, {});
    return 0;
}

static pid_t start(int count, char **arguments, int theirs, const char *part) {
    std::vector<char *> given{arguments[0], (char *)part};
    for (int i = 1; i < count; i++) given.push_back(arguments[i]);
    given.push_back(nullptr);
    REQUIRE(dup2(theirs, TO_PARENT) == TO_PARENT);
    pid_t process;
    std::fflush(stdout);
    REQUIRE(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, given.data(), environ) == 0);
    close(TO_PARENT);
    return process;
}

static void share_with_another(int count, char **arguments) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    pid_t process = start(count, arguments, ends[1], "--child");
    close(ends[1]);
    CUmemGenericAllocationHandle kept = create(), left = create();
    CUdeviceptr first = mapped(kept), second = mapped(left);
    fill(first, 11), fill(second, 12);
    int descriptors[2] = {exported_of(kept), exported_of(left)};
    // Of the second there are only descriptors from now on.
    unmap(second);
    OK("cuMemRelease", left);
    send(ends[0], {descriptors[0], descriptors[1]});
    for (int descriptor : descriptors) close(descriptor);
    receive(ends[0]);
    REQUIRE(is_full_of(first, 12 * 3 + 5));
    fill(first, 13);
    send(ends[0], {});
    receive(ends[0]);
    int status = 0;
    REQUIRE(waitpid(process, &status, 0) == process && status == 0);
    REQUIRE(is_full_of(first, 13));
    unmap(first);
    OK("cuMemRelease", kept);
    close(ends[0]);
}

// Within one process: what only a descriptor is left of can be had again.
static void share_with_itself() {
    CUmemGenericAllocationHandle memory = create();
    CUdeviceptr start = mapped(memory);
    fill(start, 21);
    int descriptor = exported_of(memory), again = exported_of(memory);
    REQUIRE(descriptor != again);
    close(again);
    unmap(start);
    OK("cuMemRelease", memory);
    memory = imported(descriptor);
    start = mapped(memory);
    REQUIRE(is_full_of(start, 21));
    unmap(start);
    OK("cuMemRelease", memory);
    close(descriptor);
}

// What nobody has a descriptor of any more is given back: twice the device's memory in turn, an eighth at a time.
static void come_and_go() {
    size_t free = 0, total = 0;
    OK("cuMemGetInfo_v2", &free, &total);
    auto wanted = exportable();
    for (int round = 0; round < 16; round++) {
        CUmemGenericAllocationHandle memory = 0;
        OK("cuMemCreate", &memory, total / 8 / piece * piece, (const CUmemAllocationProp *)&wanted, 0ull);
        int descriptor = exported_of(memory);
        OK("cuMemRelease", memory);
        close(descriptor);
    }
}

static const size_t SMALL = 4096, LARGE = 5 << 20;

// What the first process says of a pool: three pointers, of which the first two are of small allocations.
struct Pointers {
    CUmemPoolPtrExportData beside, small, large;
};

// Pieces of one pool can be imported in different contexts, also where their owner has them side by side.
static void import_in_two_contexts(CUmemoryPool pool, Pointers &pointers) {
    CUcontext second, popped;
    CUdeviceptr small = 0, beside = 0, again = 0;
    OK("cuMemPoolImportPointer", &small, pool, &pointers.small);
    OK("cuCtxCreate_v2", &second, 0u, (CUdevice)0);
    OK("cuMemPoolImportPointer", &beside, pool, &pointers.beside);
    OK("cuMemPoolImportPointer", &again, pool, &pointers.small);
    REQUIRE(is_full_of(beside, 30, SMALL) && is_full_of(again, 33, SMALL));
    OK("cuMemFree_v2", beside);
    OK("cuMemFree_v2", again);
    OK("cuCtxPopCurrent_v2", &popped);
    REQUIRE(popped == second && is_full_of(small, 33, SMALL));
    OK("cuMemFree_v2", small);
    // One that another thread has ended gets nothing.
    OK("cuCtxPushCurrent_v2", second);
    std::thread([&] { OK("cuCtxDestroy_v2", second); }).join();
    GIVES(CUDA_ERROR_CONTEXT_IS_DESTROYED, "cuMemPoolImportPointer", &again, pool, &pointers.small);
    OK("cuCtxPopCurrent_v2", &popped);
}

// Who cannot give a piece up while a stream is captured has it still.
static void free_in_a_capture(CUmemoryPool pool, Pointers &pointers, CUstream stream) {
    CUdeviceptr small = 0;
    CUgraph graph;
    OK("cuMemPoolImportPointer", &small, pool, &pointers.small);
    OK("cuStreamBeginCapture_v2", stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    CUresult freed = call("cuMemFree_v2", small);
    // A wait for the stream makes its capture invalid.
    if (call("cuStreamEndCapture", stream, &graph) == CUDA_SUCCESS) OK("cuGraphDestroy", graph);
    if (freed != CUDA_SUCCESS) {
        REQUIRE(is_full_of(small, 33, SMALL));
        OK("cuMemFree_v2", small);
    }
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFree_v2", small);
}

// Nobody waits who gives up a pool, whatever its streams wait for; what is still there can be freed.
static void destroy_without_waiting(CUmemoryPool pool, Pointers &pointers, CUstream stream) {
    CUdeviceptr gate = 0, small = 0, large = 0;
    OK("cuMemAlloc_v2", &gate, SMALL);
    fill(gate, 0, SMALL);
    OK("cuMemPoolImportPointer", &small, pool, &pointers.small);
    OK("cuMemPoolImportPointer", &large, pool, &pointers.large);
    OK("cuStreamWaitValue32_v2", stream, gate, 1u, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
    OK("cuMemFreeAsync", small, stream);
    // Who waits for ever fails by this signal.
    alarm(20);
    OK("cuMemPoolDestroy", pool);
    OK("cuMemFreeAsync", large, stream);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
    alarm(0);
    OK("cuMemsetD32_v2", gate, 1u, (size_t)1);
    OK("cuStreamSynchronize", stream);
    for (CUdeviceptr gone : {small, large}) GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFree_v2", gone);
    OK("cuMemFree_v2", gate);
}

// The second process, of a pool.
static int child_of_pool() {
    auto descriptors = receive(TO_PARENT);
    REQUIRE(descriptors.size() == 1);
    Pointers pointers;
    REQUIRE(recv(TO_PARENT, &pointers, sizeof pointers, 0) == sizeof pointers);
    CUmemoryPool pool = nullptr, of = nullptr;
    OK("cuMemPoolImportFromShareableHandle", &pool, (void *)(intptr_t)descriptors[0], DESCRIPTOR, 0ull);
    REQUIRE(pool);
    close(descriptors[0]);
    CUstream stream;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    // It gives no memory.
    CUdeviceptr small = 0, large = 0, own = 0;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemAllocFromPoolAsync", &own, SMALL, pool, stream);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuDeviceSetMemPool", (CUdevice)0, pool);
    CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    OK("cuMemPoolGetAccess", &access, pool, &here);
    REQUIRE(access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    OK("cuMemPoolImportPointer", &small, pool, &pointers.small);
    OK("cuMemPoolImportPointer", &large, pool, &pointers.large);
    REQUIRE(small && large && small != large);
    REQUIRE(is_full_of(small, 31, SMALL) && is_full_of(large, 32, LARGE));
    OK("cuPointerGetAttribute", (void *)&of, (int)CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, small);
    REQUIRE(of == pool);
    compute(large, small, SMALL);
    fill(small, 33, SMALL);
    send(TO_PARENT, {});
    // What the first process writes now is seen here.
    receive(TO_PARENT);
    REQUIRE(is_full_of(large + SMALL, 34, SMALL));
    // One is given up in a stream, the other at once, each once.
    OK("cuMemFreeAsync", small, stream);
    OK("cuMemFree_v2", large);
    OK("cuStreamSynchronize", stream);
    CUdeviceptr base;
    size_t size;
    for (CUdeviceptr gone : {small, large}) {
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemFree_v2", gone);
        FAILS("cuMemGetAddressRange_v2", &base, &size, gone);
    }
    // And can be had again.
    OK("cuMemPoolImportPointer", &small, pool, &pointers.small);
    REQUIRE(is_full_of(small, 33, SMALL));
    OK("cuMemFree_v2", small);
    import_in_two_contexts(pool, pointers);
    free_in_a_capture(pool, pointers, stream);
    destroy_without_waiting(pool, pointers, stream);
    FAILS("cuMemPoolImportPointer", &small, pool, &pointers.small);
    send(TO_PARENT, {});
    return 0;
}

static void share_a_pool(int count, char **arguments) {
    int kinds = 0, descriptor = -1;
    OK("cuDeviceGetAttribute", &kinds, (int)CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES, (CUdevice)0);
    REQUIRE(kinds & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    CUmemPoolProps wanted{};
    wanted.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    wanted.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    CUmemoryPool pool = nullptr, unshared = nullptr;
    CUstream stream;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemPoolCreate", &pool, (const CUmemPoolProps *)&wanted);
    CUdeviceptr small, large, beside;
    OK("cuMemAllocFromPoolAsync", &beside, SMALL, pool, stream);
    OK("cuMemAllocFromPoolAsync", &small, SMALL, pool, stream);
    OK("cuMemAllocFromPoolAsync", &large, LARGE, pool, stream);
    OK("cuStreamSynchronize", stream);
    fill(beside, 30, SMALL), fill(small, 31, SMALL), fill(large, 32, LARGE);
    Pointers pointers{};
    OK("cuMemPoolExportToShareableHandle", (void *)&descriptor, pool, DESCRIPTOR, 0ull);
    OK("cuMemPoolExportPointer", &pointers.beside, beside);
    OK("cuMemPoolExportPointer", &pointers.small, small);
    OK("cuMemPoolExportPointer", &pointers.large, large);
    REQUIRE(descriptor >= 0);
    // Neither of a pool that was made for this process alone, nor of what is of no pool.
    CUdeviceptr plain;
    CUmemPoolPtrExportData data;
    int none;
    OK("cuDeviceGetDefaultMemPool", &unshared, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemPoolExportToShareableHandle", (void *)&none, unshared, DESCRIPTOR, 0ull);
    OK("cuMemAlloc_v2", &plain, SMALL);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuMemPoolExportPointer", &data, plain);
    OK("cuMemFree_v2", plain);
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    pid_t process = start(count, arguments, ends[1], "--child-of-pool");
    close(ends[1]);
    send(ends[0], {descriptor});
    REQUIRE(::send(ends[0], &pointers, sizeof pointers, MSG_NOSIGNAL) == sizeof pointers);
    close(descriptor);
    receive(ends[0]);
    REQUIRE(is_full_of(large, 31 * 3 + 5, SMALL) && is_full_of(small, 33, SMALL) && is_full_of(beside, 30, SMALL));
    fill(large + SMALL, 34, SMALL);
    send(ends[0], {});
    receive(ends[0]);
    int status = 0;
    REQUIRE(waitpid(process, &status, 0) == process && status == 0);
    REQUIRE(is_full_of(small, 33, SMALL));
    for (CUdeviceptr mine : {beside, small, large}) OK("cuMemFreeAsync", mine, stream);
    OK("cuStreamSynchronize", stream);
    OK("cuMemPoolDestroy", pool);
    close(ends[0]);
}

int main(int count, char **arguments) {
    std::string part = count > 1 ? arguments[1] : "";
    bool is_child = part == "--child" || part == "--child-of-pool";
    if (is_child) arguments++, count--;
    open_driver(count, arguments);
    CUcontext context;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    int has_descriptors = 0;
    OK("cuDeviceGetAttribute", &has_descriptors, (int)CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, (CUdevice)0);
    REQUIRE(has_descriptors == 1);
    auto wanted = exportable();
    OK("cuMemGetAllocationGranularity", &piece, (const CUmemAllocationProp *)&wanted, 0u);
    if (is_child) return part == "--child" ? child() : child_of_pool();
    share_with_another(count, arguments);
    share_with_itself();
    come_and_go();
    share_a_pool(count, arguments);
    return pass("physical memory and a pool of another process");
}
