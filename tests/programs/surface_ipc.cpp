// Memory and events that two processes share: the first exports, and starts itself as the second, which opens, reads by copies and by a kernel, writes,
// waits, and closes. Each function is checked by what the one finds of the other's.
//
//   surface_ipc [--without NAME]… [--pretend NAME]
#include "driver.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

const char *const PROGRAM = "surface_ipc";

static const size_t BYTES = 4096, LARGE = 5 << 20;

static std::vector<unsigned char> pattern(unsigned seed, size_t bytes) {
    std::vector<unsigned char> made(bytes);
    for (size_t i = 0; i < bytes; i++) made[i] = (unsigned char)(seed * 37 + i * 11 + i / 256);
    return made;
}

static void write(CUdeviceptr to, const std::vector<unsigned char> &bytes) {
    OK("cuMemcpyHtoD_v2", to, (const void *)bytes.data(), bytes.size());
    OK("cuCtxSynchronize");
}

static std::vector<unsigned char> read(CUdeviceptr from, size_t bytes) {
    std::vector<unsigned char> got(bytes, 0xEE);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), from, bytes);
    return got;
}

// Handles travel as letters.
template <typename Handle> static std::string letters(const Handle &handle) {
    std::string text;
    char two[3];
    for (unsigned char byte : handle.reserved) {
        std::snprintf(two, sizeof two, "%02x", byte);
        text += two;
    }
    return text;
}

template <typename Handle = CUipcMemHandle> static Handle handle_of(const char *text) {
    Handle handle;
    for (size_t i = 0; i < sizeof handle.reserved; i++) {
        unsigned byte = 0;
        REQUIRE(std::sscanf(text + 2 * i, "%2x", &byte) == 1);
        handle.reserved[i] = (char)byte;
    }
    return handle;
}

// One byte between the two processes, by standard output's neighbours: who has something to say writes it, who waits reads it.
static const int TO_CHILD = 100, FROM_PARENT = 101, TO_PARENT = 102, FROM_CHILD = 103;

static void say(int to) { REQUIRE(::write(to, "x", (size_t)1) == 1); }

static void hear(int from) {
    char byte;
    REQUIRE(::read(from, &byte, (size_t)1) == 1);
}

// A record of an event, or a wait for it, in a stream; or in a graph that is launched into that.
struct Marker {
    CUevent event;
    CUgraphExec record = nullptr, wait = nullptr;

    // Nodes for both, one after the other.
    void make_graphs() {
        for (bool is_record : {true, false}) {
            CUgraph graph;
            CUgraphNode node;
            OK("cuGraphCreate", &graph, 0u);
            OK(is_record ? "cuGraphAddEventRecordNode" : "cuGraphAddEventWaitNode", &node, graph, (const CUgraphNode *)nullptr, (size_t)0, event);
            OK("cuGraphInstantiateWithFlags", is_record ? &record : &wait, graph, 0ull);
            OK("cuGraphDestroy", graph);
        }
    }

    void record_in(CUstream stream) const {
        if (record)
            OK("cuGraphLaunch", record, stream);
        else
            OK("cuEventRecord", event, stream);
    }

    void wait_in(CUstream stream) const {
        if (wait)
            OK("cuGraphLaunch", wait, stream);
        else
            OK("cuStreamWaitEvent", stream, event, 0u);
    }

    void end() const {
        for (CUgraphExec made : {record, wait})
            if (made) OK("cuGraphExecDestroy", made);
    }
};

// The second process's part: `held` is recorded behind a kernel that waits for a word, which only this process writes, once it has seen that nothing is reached.
static void wait_for_the_other(const Marker &held, CUdeviceptr word, unsigned written) {
    CUstream stream;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    hear(FROM_PARENT);
    GIVES(CUDA_ERROR_NOT_READY, "cuEventQuery", held.event);
    held.wait_in(stream);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
    say(TO_PARENT);
    OK("cuEventSynchronize", held.event);
    OK("cuEventQuery", held.event);
    OK("cuStreamSynchronize", stream);
    // What the other stream wrote before its record is there.
    unsigned value = 0;
    OK("cuMemcpyDtoH_v2", (void *)&value, word, sizeof value);
    REQUIRE(value == written);
    // And the other way round.
    held.record_in(stream);
    OK("cuStreamSynchronize", stream);
    OK("cuEventQuery", held.event);
    say(TO_PARENT);
    OK("cuStreamDestroy_v2", stream);
}

// The same by streams, then by graphs.
static void wait_for_the_other(char *handle, CUdeviceptr word) {
    Marker held{};
    CUevent again = nullptr;
    CUipcEventHandle opened = handle_of<CUipcEventHandle>(handle), own = {};
    OK("cuIpcOpenEventHandle", &held.event, opened);
    REQUIRE(held.event);
    wait_for_the_other(held, word, 9);
    held.make_graphs();
    wait_for_the_other(held, word, 10);
    held.end();
    FAILS("cuIpcGetEventHandle", &own, held.event);
    OK("cuEventCreate", &again, (unsigned)CU_EVENT_DISABLE_TIMING);
    memset(&own, 7, sizeof own);
    GIVES(CUDA_ERROR_INVALID_HANDLE, "cuIpcGetEventHandle", &own, again);
    const CUipcEventHandle none = {};
    REQUIRE(!memcmp(&own, &none, sizeof own));
    OK("cuEventDestroy_v2", held.event);
    opened.reserved[10] ^= 1, opened.reserved[30] ^= 1;
    FAILS("cuIpcOpenEventHandle", &held.event, opened);
}

// The first process's part: a stream that is held, and the event behind; the second process sees both, and lets neither go.
static void hold_the_other(const Marker &marker, CUdeviceptr word, unsigned written) {
    CUdeviceptr gate;
    CUstream stream;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemAlloc_v2", &gate, BYTES);
    OK("cuMemsetD32_v2", gate, 0u, (size_t)4);
    OK("cuCtxSynchronize");
    OK("cuStreamWaitValue32_v2", stream, gate, 1u, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
    OK("cuMemsetD32Async", word, written, (size_t)1, stream);
    marker.record_in(stream);
    GIVES(CUDA_ERROR_NOT_READY, "cuEventQuery", marker.event);
    say(TO_CHILD);
    hear(FROM_CHILD);
    GIVES(CUDA_ERROR_NOT_READY, "cuEventQuery", marker.event);
    OK("cuMemsetD32_v2", gate, 1u, (size_t)1);
    OK("cuEventSynchronize", marker.event);
    hear(FROM_CHILD);
    marker.wait_in(stream);
    OK("cuStreamSynchronize", stream);
    OK("cuStreamDestroy_v2", stream);
    OK("cuMemFree_v2", gate);
}

// A second process that ends while a stream of its is held. It records behind what nobody writes, and then, in another stream, once more; the later record lets nobody go who waits
// for the earlier one, and its end lets everybody go.
static int lost(char *handle) {
    CUevent held = nullptr;
    CUstream stuck, free;
    CUdeviceptr never;
    OK("cuIpcOpenEventHandle", &held, handle_of<CUipcEventHandle>(handle));
    OK("cuStreamCreate", &stuck, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuStreamCreate", &free, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemAlloc_v2", &never, BYTES);
    OK("cuMemsetD32_v2", never, 0u, (size_t)4);
    OK("cuCtxSynchronize");
    OK("cuStreamWaitValue32_v2", stuck, never, 1u, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
    OK("cuEventRecord", held, stuck);
    say(TO_PARENT);
    hear(FROM_PARENT);
    OK("cuEventRecord", held, free);
    OK("cuStreamSynchronize", free);
    say(TO_PARENT);
    hear(FROM_PARENT);
    return 1;
}

// The second process.
static int child(char **handles) {
    CUipcMemHandle small[2] = {handle_of(handles[0]), handle_of(handles[1])}, large = handle_of(handles[2]);
    const unsigned lazily = CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS;
    CUdeviceptr first = 0, second = 0, third = 0, again = 0, base = 0, own = 0;
    size_t size = 0;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuIpcOpenMemHandle_v2", &first, small[0], 0u);
    OK("cuIpcOpenMemHandle_v2", &first, small[0], lazily);
    OK("cuIpcOpenMemHandle", &second, small[1], lazily);
    OK("cuIpcOpenMemHandle_v2", &third, large, lazily);
    REQUIRE(first && second && third && first != second);
    REQUIRE(read(first, BYTES) == pattern(1, BYTES) && read(second, BYTES) == pattern(2, BYTES));
    REQUIRE(read(third, LARGE) == pattern(3, LARGE));
    OK("cuMemGetAddressRange_v2", &base, &size, first + 100);
    REQUIRE(base == first && size == BYTES);
    // Opened once more it is at the same place, and is closed as often.
    OK("cuIpcOpenMemHandle_v2", &again, small[0], lazily);
    REQUIRE(again == first);
    OK("cuIpcCloseMemHandle", again);
    REQUIRE(read(first, BYTES) == pattern(1, BYTES));
    FAILS("cuMemFree_v2", first);
    // Only the context that has opened it opens it once more.
    CUcontext other, popped;
    OK("cuCtxCreate_v2", &other, 0u, (CUdevice)0);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuIpcOpenMemHandle_v2", &again, small[0], lazily);
    OK("cuCtxPopCurrent_v2", &popped);
    // A kernel reads the one and writes the other.
    CUmodule module;
    CUfunction function;
    OK("cuModuleLoadData", &module, (const void *)PTX);
    OK("cuModuleGetFunction", &function, module, "axpy");
    unsigned count = BYTES / 4, factor = 3;
    void *parameters[] = {&second, &first, &count, &factor};
    OK("cuLaunchKernel", function, (count + 127) / 128, 1u, 1u, 128u, 1u, 1u, 0u, (CUstream) nullptr, (void **)parameters,
       (void **)nullptr);
    OK("cuCtxSynchronize");
    write(third, pattern(7, LARGE));
    OK("cuIpcCloseMemHandle", first);
    OK("cuIpcCloseMemHandle", second);
    OK("cuIpcCloseMemHandle", third);
    for (CUdeviceptr closed : {first, second, third}) {
        FAILS("cuMemGetAddressRange_v2", &base, &size, closed);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuIpcCloseMemHandle", closed);
    }
    // What is closed can be opened anew, also in another context; and is closed with that.
    OK("cuCtxPushCurrent_v2", other);
    OK("cuIpcOpenMemHandle_v2", &again, large, lazily);
    REQUIRE(read(again, LARGE) == pattern(7, LARGE));
    OK("cuCtxDestroy_v2", other);
    FAILS("cuMemGetAddressRange_v2", &base, &size, again);
    OK("cuIpcOpenMemHandle_v2", &again, large, lazily);
    REQUIRE(read(again, LARGE) == pattern(7, LARGE));
    // What another process has given out is not ours to give.
    FAILS("cuIpcGetMemHandle", &small[1], again);
    OK("cuMemAlloc_v2", &own, BYTES);
    wait_for_the_other(handles[3], again);
    large.reserved[20] ^= 1, large.reserved[5] ^= 1;
    FAILS("cuIpcOpenMemHandle_v2", &third, large, lazily);
    return 0;
}

static pid_t start(int count, char **arguments, const std::vector<std::string> &handles) {
    std::vector<char *> given{arguments[0], (char *)"--child"};
    for (auto &handle : handles) given.push_back((char *)handle.c_str());
    for (int i = 1; i < count; i++) given.push_back(arguments[i]);
    given.push_back(nullptr);
    int to_child[2], to_parent[2];
    REQUIRE(pipe(to_child) == 0 && pipe(to_parent) == 0);
    REQUIRE(dup2(to_child[1], TO_CHILD) > 0 && dup2(to_child[0], FROM_PARENT) > 0);
    REQUIRE(dup2(to_parent[1], TO_PARENT) > 0 && dup2(to_parent[0], FROM_CHILD) > 0);
    pid_t process;
    std::fflush(stdout);
    REQUIRE(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, given.data(), environ) == 0);
    // Its end is then heard.
    for (int ours : {to_child[0], to_child[1], to_parent[0], to_parent[1], FROM_PARENT, TO_PARENT}) close(ours);
    return process;
}

static void end(pid_t process) {
    int status = 0;
    REQUIRE(waitpid(process, &status, 0) == process);
    if (status != 0) fail(__LINE__, "the second process failed", status);
}

int main(int count, char **arguments) {
    char **handles = nullptr;
    if (count > 5 && !std::strcmp(arguments[1], "--child")) {
        handles = arguments + 2;
        arguments += 5, count -= 5;
        // Nobody else ends it if the first process fails.
        REQUIRE(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    }
    open_driver(count, arguments);
    CUcontext context;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    if (handles) return std::strcmp(handles[0], "lost") ? child(handles) : lost(handles[3]);
    CUdeviceptr small[2], large, opened = 0;
    CUipcMemHandle handle[3] = {};
    OK("cuMemAlloc_v2", &small[0], BYTES);
    OK("cuMemAlloc_v2", &small[1], BYTES);
    OK("cuMemAlloc_v2", &large, LARGE);
    write(small[0], pattern(1, BYTES));
    write(small[1], pattern(2, BYTES));
    write(large, pattern(3, LARGE));
    OK("cuIpcGetMemHandle", &handle[0], small[0]);
    OK("cuIpcGetMemHandle", &handle[1], small[1]);
    OK("cuIpcGetMemHandle", &handle[2], large);
    REQUIRE(std::memcmp(&handle[0], &handle[1], sizeof handle[0]));
    FAILS("cuIpcGetMemHandle", &handle[0], (CUdeviceptr)4096);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuIpcOpenMemHandle_v2", &opened, handle[2], (unsigned)CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    CUevent event = nullptr, opened_event = nullptr;
    CUipcEventHandle event_handle = {};
    CUstream stream;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuEventCreate", &event, (unsigned)CU_EVENT_INTERPROCESS);
    OK("cuEventCreate", &event, (unsigned)(CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuIpcGetEventHandle", &event_handle, event);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, "cuIpcOpenEventHandle", &opened_event, event_handle);
    OK("cuEventQuery", event);
    pid_t process = start(count, arguments, {letters(handle[0]), letters(handle[1]), letters(handle[2]), letters(event_handle)});
    Marker marker{event};
    hold_the_other(marker, large, 9);
    marker.make_graphs();
    hold_the_other(marker, large, 10);
    marker.end();
    end(process);
    OK("cuEventSynchronize", event);
    process = start(count, arguments, {"lost", "", "", letters(event_handle)});
    hear(FROM_CHILD);
    GIVES(CUDA_ERROR_NOT_READY, "cuEventQuery", event);
    OK("cuStreamWaitEvent", stream, event, 0u);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
    say(TO_CHILD);
    hear(FROM_CHILD);
    OK("cuEventSynchronize", event);
    // Long enough for a wait that polls to have looked again.
    for (int i = 0; i < 200; i++) read(large, BYTES);
    GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
    REQUIRE(kill(process, SIGKILL) == 0 && waitpid(process, nullptr, 0) == process);
    OK("cuStreamSynchronize", stream);
    OK("cuEventDestroy_v2", event);
    std::vector<unsigned> before(BYTES / 4), after(BYTES / 4);
    auto bytes = pattern(1, BYTES);
    std::memcpy(before.data(), bytes.data(), BYTES);
    OK("cuMemcpyDtoH_v2", (void *)after.data(), small[1], BYTES);
    for (size_t i = 0; i < after.size(); i++) REQUIRE(after[i] == before[i] * 3 + 5);
    auto last = pattern(7, LARGE);
    std::memcpy(last.data(), "\x0a\0\0", 4);
    REQUIRE(read(large, LARGE) == last);
    OK("cuMemFree_v2", small[0]);
    OK("cuMemFree_v2", small[1]);
    OK("cuMemFree_v2", large);
    return pass("memory and events of another process");
}
