// Checkpoints: this process suspends a second one, which it starts from its own file, while that one computes, waits, forks and ends, and at last itself.
// What is in the second one's memory, and whether its calls wait, that one tells by pipes, which no driver knows.
//
//   surface_checkpoint [--without NAME]… [--pretend NAME]
#include "driver.h"

#include <chrono>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

const char *const PROGRAM = "surface_checkpoint";

static const unsigned COUNT = 1024;
static const size_t BYTES = COUNT * 4, EDGE = 1 << 20;

static const int TO_CHILD = 100, FROM_PARENT = 101, TO_PARENT = 102, FROM_CHILD = 103;

static void say(int to, char what) { REQUIRE(::write(to, &what, (size_t)1) == 1); }

static char hear(int from) {
    char what;
    REQUIRE(::read(from, &what, (size_t)1) == 1);
    return what;
}

// Whether the second process says something within so many milliseconds.
static bool hears_within(int milliseconds) {
    pollfd polled = {FROM_CHILD, POLLIN, 0};
    return poll(&polled, 1, milliseconds) == 1;
}

static long milliseconds() {
    using namespace std::chrono;
    return (long)duration_cast<std::chrono::milliseconds>(steady_clock::now().time_since_epoch()).count();
}

static std::vector<unsigned> pattern(unsigned seed, size_t words) {
    std::vector<unsigned> made(words);
    for (size_t i = 0; i < words; i++) made[i] = (unsigned)(seed * 7919 + i * 31);
    return made;
}

static void write(CUdeviceptr to, const std::vector<unsigned> &words) { OK("cuMemcpyHtoD_v2", to, (const void *)words.data(), words.size() * 4); }

static std::vector<unsigned> read(CUdeviceptr from, size_t words) {
    std::vector<unsigned> got(words, 0xEEEEEEEE);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), from, words * 4);
    return got;
}

// More than half of the device: two of them have no room.
static size_t most_of_the_device() {
    size_t total = 0;
    OK("cuDeviceTotalMem_v2", &total, (CUdevice)0);
    return total / 8 * 5 / EDGE * EDGE;
}

// ---- The second process -------------------------------------------------------------------------------------------

static void tell_that_it_ran(void *) { say(TO_PARENT, 'h'); }

struct Child {
    CUcontext context;
    CUstream stream, other;
    CUmodule module;
    CUfunction axpy, slow;
    CUdeviceptr in, out, word, gate, large;
    unsigned *pinned;
    size_t most = most_of_the_device();
    unsigned round = 0;

    Child() {
        OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
        OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
        OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
        OK("cuModuleLoadData", &module, (const void *)PTX);
        OK("cuModuleGetFunction", &axpy, module, "axpy");
        OK("cuModuleGetFunction", &slow, module, "slow");
        for (CUdeviceptr *made : {&in, &out, &word, &gate}) OK("cuMemAlloc_v2", made, BYTES);
        OK("cuMemAlloc_v2", &large, most);
        OK("cuMemHostAlloc", (void **)&pinned, BYTES, (unsigned)CU_MEMHOSTALLOC_DEVICEMAP);
        for (unsigned i = 0; i < COUNT; i++) pinned[i] = i * 5;
        write(in, pattern(1, COUNT));
        write(large, pattern(2, EDGE / 4));
        write(large + most - EDGE, pattern(3, EDGE / 4));
        OK("cuMemsetD32_v2", gate, 0u, (size_t)1);
        OK("cuCtxSynchronize");
    }

    void launch(CUfunction function, void **parameters, unsigned blocks) const {
        OK("cuLaunchKernel", function, blocks, 1u, 1u, 128u, 1u, 1u, 0u, stream, parameters, (void **)nullptr);
    }

    // All that it has, and a kernel with a variable of its module.
    void check() {
        unsigned count = COUNT, factor = ++round + 1;
        void *parameters[] = {&out, &in, &count, &factor};
        launch(axpy, parameters, COUNT / 128);
        OK("cuStreamSynchronize", stream);
        auto before = pattern(1, COUNT), after = read(out, COUNT);
        for (unsigned i = 0; i < COUNT; i++) REQUIRE(after[i] == before[i] * factor + 5);
        REQUIRE(read(in, COUNT) == before);
        REQUIRE(read(large, EDGE / 4) == pattern(2, EDGE / 4));
        REQUIRE(read(large + most - EDGE, EDGE / 4) == pattern(3, EDGE / 4));
        for (unsigned i = 0; i < COUNT; i++) REQUIRE(pinned[i] == i * 5);
    }

    void run_slowly(unsigned value) {
        unsigned rounds = SLOW;
        OK("cuMemsetD32_v2", word, 0u, (size_t)1);
        OK("cuCtxSynchronize");
        void *parameters[] = {&word, &rounds, &value};
        OK("cuLaunchKernel", slow, 1u, 1u, 1u, 1u, 1u, 1u, 0u, stream, (void **)parameters, (void **)nullptr);
    }

    void hold() {
        OK("cuMemsetD32_v2", gate, 0u, (size_t)1);
        OK("cuCtxSynchronize");
        OK("cuStreamWaitValue32_v2", stream, gate, 1u, (unsigned)CU_STREAM_WAIT_VALUE_EQ);
        OK("cuMemsetD32Async", word, 77u, (size_t)1, stream);
        GIVES(CUDA_ERROR_NOT_READY, "cuStreamQuery", stream);
    }

    void let_go() {
        OK("cuMemsetD32Async", gate, 1u, (size_t)1, other);
        OK("cuStreamSynchronize", stream);
        REQUIRE(read(word, 1)[0] == 77);
    }

    // A child of a process that has initialised the driver cannot use it, and does not wait for that.
    void fork_once() {
        pid_t forked = fork();
        if (forked == 0) {
            CUdevice device;
            _Exit(call("cuCtxGetDevice", &device) == CUDA_ERROR_NOT_INITIALIZED ? 7 : 8);
        }
        int status = 0;
        REQUIRE(waitpid(forked, &status, 0) == forked && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }

    int obey() {
        for (;;) {
            char what = hear(FROM_PARENT);
            switch (what) {
            case 'c': check(); break;
            case 's': run_slowly(41); break;
            case 'S': REQUIRE(read(word, 1)[0] == 41); break;
            case 'w': hold(); break;
            case 'g': let_go(); break;
            case 'H':
                run_slowly(42);
                OK("cuLaunchHostFunc", stream, (CUhostFn)tell_that_it_ran, (void *)nullptr);
                OK("cuMemsetD32Async", word, 43u, (size_t)1, stream);
                break;
            case 'I': REQUIRE(read(word, 1)[0] == 43); break;
            case 'f': fork_once(); break;
            case 'e': return 0;
            default: fail(__LINE__, "an unknown order", what);
            }
            say(TO_PARENT, what);
        }
    }
};

// A third process: it tries to lock the second, without an end.
static int lock_for_ever(int pid) {
    call("cuCheckpointProcessLock", pid, (CUcheckpointLockArgs *)nullptr);
    return 1;
}

// ---- The first process --------------------------------------------------------------------------------------------

static pid_t start(int count, char **arguments, std::vector<std::string> role) {
    std::vector<char *> given{arguments[0]};
    for (auto &word : role) given.push_back((char *)word.c_str());
    for (int i = 1; i < count; i++) given.push_back(arguments[i]);
    given.push_back(nullptr);
    pid_t process;
    std::fflush(stdout);
    REQUIRE(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, given.data(), environ) == 0);
    return process;
}

static pid_t start_child(int count, char **arguments) {
    int to_child[2], to_parent[2];
    REQUIRE(pipe(to_child) == 0 && pipe(to_parent) == 0);
    REQUIRE(dup2(to_child[1], TO_CHILD) > 0 && dup2(to_child[0], FROM_PARENT) > 0);
    REQUIRE(dup2(to_parent[1], TO_PARENT) > 0 && dup2(to_parent[0], FROM_CHILD) > 0);
    pid_t process = start(count, arguments, {"--child", "-"});
    // Its end is then heard.
    for (int ours : {to_child[0], to_child[1], to_parent[0], to_parent[1], FROM_PARENT, TO_PARENT}) close(ours);
    REQUIRE(hear(FROM_CHILD) == 'r');
    return process;
}

static void have(char what) {
    say(TO_CHILD, what);
    REQUIRE(hear(FROM_CHILD) == what);
}

static unsigned state_of(pid_t process) {
    CUprocessState state = (CUprocessState)99;
    OK("cuCheckpointProcessGetState", (int)process, &state);
    return (unsigned)state;
}

static const unsigned RUNNING = CU_PROCESS_STATE_RUNNING, LOCKED = CU_PROCESS_STATE_LOCKED, CHECKPOINTED = CU_PROCESS_STATE_CHECKPOINTED;

static CUresult lock(pid_t process, unsigned timeout = 0) {
    CUcheckpointLockArgs args = {};
    args.timeoutMs = timeout;
    return call("cuCheckpointProcessLock", (int)process, &args);
}

static CUresult checkpoint(pid_t process) { return call("cuCheckpointProcessCheckpoint", (int)process, (CUcheckpointCheckpointArgs *)nullptr); }
static CUresult restore(pid_t process) { return call("cuCheckpointProcessRestore", (int)process, (CUcheckpointRestoreArgs *)nullptr); }
static CUresult unlock(pid_t process) { return call("cuCheckpointProcessUnlock", (int)process, (CUcheckpointUnlockArgs *)nullptr); }

#define ANSWERS(code, expression)                                            \
    do {                                                                     \
        CUresult got = (expression);                                         \
        if (got != (code)) fail(__LINE__, #expression " must give " #code, got); \
    } while (0)

static void moves(pid_t process) {
    ANSWERS(CUDA_SUCCESS, lock(process, 10000));
    REQUIRE(state_of(process) == LOCKED);
    ANSWERS(CUDA_SUCCESS, checkpoint(process));
    REQUIRE(state_of(process) == CHECKPOINTED);
    ANSWERS(CUDA_SUCCESS, restore(process));
    REQUIRE(state_of(process) == LOCKED);
    ANSWERS(CUDA_SUCCESS, unlock(process));
    REQUIRE(state_of(process) == RUNNING);
}

// Before this process has initialised the driver.
static void without_a_device(pid_t child) {
    CUprocessState state;
    int thread = -1;
    REQUIRE(state_of(child) == RUNNING);
    OK("cuCheckpointProcessGetRestoreThreadId", (int)child, &thread);
    REQUIRE(thread > 0 && access(("/proc/" + std::to_string(child) + "/task/" + std::to_string(thread)).c_str(), F_OK) == 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessGetState", (int)child, (CUprocessState *)nullptr);
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessGetRestoreThreadId", (int)child, (int *)nullptr);
    // Nobody, nobody, a process without a driver, and this one, which has not initialised it.
    for (int process : {0, -7, 1, (int)getpid()}) {
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessGetState", process, &state);
        GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessGetRestoreThreadId", process, &thread);
        ANSWERS(CUDA_ERROR_INVALID_VALUE, lock(process));
        ANSWERS(CUDA_ERROR_INVALID_VALUE, unlock(process));
    }
    CUcheckpointLockArgs lock_args = {};
    lock_args.reserved0 = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessLock", (int)child, &lock_args);
    CUcheckpointCheckpointArgs checkpoint_args = {};
    checkpoint_args.reserved[7] = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessCheckpoint", (int)child, &checkpoint_args);
    // Since CUDA 13.4 the first word says where custom storage is to be told.
    void *storage = nullptr;
    void **place = &storage;
    checkpoint_args = {};
    std::memcpy(&checkpoint_args, &place, sizeof place);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuCheckpointProcessCheckpoint", (int)child, &checkpoint_args);
    CUcheckpointRestoreArgs restore_args = {};
    ((char *)&restore_args)[63] = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessRestore", (int)child, &restore_args);
    restore_args = {};
    restore_args.gpuPairsCount = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessRestore", (int)child, &restore_args);
    CUcheckpointUnlockArgs unlock_args = {};
    unlock_args.reserved[7] = 1;
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuCheckpointProcessUnlock", (int)child, &unlock_args);
    for (CUresult (*wrong)(pid_t) : {checkpoint, restore, unlock}) ANSWERS(CUDA_ERROR_ILLEGAL_STATE, wrong(child));
    ANSWERS(CUDA_SUCCESS, lock(child));
    REQUIRE(state_of(child) == LOCKED);
    ANSWERS(CUDA_ERROR_ILLEGAL_STATE, lock(child));
    ANSWERS(CUDA_ERROR_ILLEGAL_STATE, restore(child));
    // Its calls wait, whatever it has begun to do; and a child of its does not.
    say(TO_CHILD, 'f');
    REQUIRE(hear(FROM_CHILD) == 'f');
    say(TO_CHILD, 'c');
    REQUIRE(!hears_within(300));
    ANSWERS(CUDA_SUCCESS, unlock(child));
    REQUIRE(state_of(child) == RUNNING);
    REQUIRE(hear(FROM_CHILD) == 'c');
    ANSWERS(CUDA_ERROR_ILLEGAL_STATE, unlock(child));
    moves(child);
    have('c');
}

// What one has given up another can have, and the first only if it is there again.
static void memory_changes_hands(pid_t child) {
    const size_t most = most_of_the_device();
    CUdeviceptr own = 0;
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, "cuMemAlloc_v2", &own, most);
    ANSWERS(CUDA_SUCCESS, lock(child, 10000));
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, "cuMemAlloc_v2", &own, most);
    ANSWERS(CUDA_SUCCESS, checkpoint(child));
    for (CUresult (*wrong)(pid_t) : {checkpoint, unlock}) ANSWERS(CUDA_ERROR_ILLEGAL_STATE, wrong(child));
    ANSWERS(CUDA_ERROR_ILLEGAL_STATE, lock(child));
    say(TO_CHILD, 'c');
    OK("cuMemAlloc_v2", &own, most);
    write(own, pattern(9, EDGE / 4));
    write(own + most - EDGE, pattern(10, EDGE / 4));
    REQUIRE(read(own, EDGE / 4) == pattern(9, EDGE / 4));
    ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, restore(child));
    REQUIRE(state_of(child) == CHECKPOINTED);
    REQUIRE(read(own + most - EDGE, EDGE / 4) == pattern(10, EDGE / 4));
    OK("cuMemFree_v2", own);
    CUuuid uuid = {};
    OK("cuDeviceGetUuid_v2", &uuid, (CUdevice)0);
    CUcheckpointGpuPair pair = {uuid, uuid};
    CUcheckpointRestoreArgs args = {};
    args.gpuPairs = &pair, args.gpuPairsCount = 1;
    // A GPU that is not there, and one that is not named.
    memset(&pair.newUuid, 0x5a, sizeof uuid);
    FAILS("cuCheckpointProcessRestore", (int)child, &args);
    REQUIRE(state_of(child) == CHECKPOINTED);
    pair.newUuid = uuid;
    OK("cuCheckpointProcessRestore", (int)child, &args);
    REQUIRE(state_of(child) == LOCKED);
    REQUIRE(!hears_within(200));
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, "cuMemAlloc_v2", &own, most);
    ANSWERS(CUDA_SUCCESS, unlock(child));
    REQUIRE(hear(FROM_CHILD) == 'c');
}

// What runs is waited for, for as long as was said.
static void work_is_let_finish(pid_t child, int count, char **arguments) {
    have('s');
    ANSWERS(CUDA_SUCCESS, lock(child, 30000));
    ANSWERS(CUDA_SUCCESS, unlock(child));
    have('S');
    // A function of the program's, which runs while this one waits.
    have('H');
    ANSWERS(CUDA_SUCCESS, lock(child, 30000));
    REQUIRE(hears_within(0) && hear(FROM_CHILD) == 'h');
    ANSWERS(CUDA_SUCCESS, checkpoint(child));
    ANSWERS(CUDA_SUCCESS, restore(child));
    ANSWERS(CUDA_SUCCESS, unlock(child));
    have('I');
    // Work without an end.
    have('w');
    const long before = milliseconds();
    ANSWERS(CUDA_ERROR_NOT_READY, lock(child, 250));
    const long waited = milliseconds() - before;
    REQUIRE(waited >= 250 && waited < 10000);
    REQUIRE(state_of(child) == RUNNING);
    // Who tries for ever and is killed leaves nothing locked.
    pid_t locker = start(count, arguments, {"--locker", std::to_string(child)});
    usleep(400000);
    REQUIRE(waitpid(locker, nullptr, WNOHANG) == 0 && state_of(child) == RUNNING);
    REQUIRE(kill(locker, SIGKILL) == 0 && waitpid(locker, nullptr, 0) == locker);
    have('g');
    have('c');
    moves(child);
}

// A process that suspends itself.
static void itself() {
    CUdeviceptr own;
    OK("cuMemAlloc_v2", &own, BYTES);
    write(own, pattern(5, COUNT));
    moves(getpid());
    REQUIRE(read(own, COUNT) == pattern(5, COUNT));
    OK("cuMemFree_v2", own);
}

static void is_gone(pid_t process) {
    CUprocessState state;
    const long deadline = milliseconds() + 10000;
    while (call("cuCheckpointProcessGetState", (int)process, &state) != CUDA_ERROR_INVALID_VALUE) {
        REQUIRE(milliseconds() < deadline);
        usleep(20000);
    }
    ANSWERS(CUDA_ERROR_INVALID_VALUE, unlock(process));
    CUdeviceptr own;
    OK("cuMemAlloc_v2", &own, most_of_the_device());
    OK("cuMemFree_v2", own);
}

// A suspended process can end, and can be ended.
static void ends(pid_t child, int count, char **arguments) {
    ANSWERS(CUDA_SUCCESS, lock(child, 10000));
    say(TO_CHILD, 'e');
    int status = 1;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    is_gone(child);
    child = start_child(count, arguments);
    ANSWERS(CUDA_SUCCESS, lock(child, 10000));
    ANSWERS(CUDA_SUCCESS, checkpoint(child));
    REQUIRE(kill(child, SIGKILL) == 0 && waitpid(child, nullptr, 0) == child);
    is_gone(child);
}

int main(int count, char **arguments) {
    std::string role;
    int process = 0;
    if (count > 2 && (!std::strcmp(arguments[1], "--child") || !std::strcmp(arguments[1], "--locker"))) {
        role = arguments[1], process = atoi(arguments[2]);
        arguments += 2, count -= 2;
        // Nobody else ends it if the first process fails.
        REQUIRE(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    }
    open_driver(count, arguments);
    if (role == "--locker") return lock_for_ever(process);
    if (role == "--child") {
        OK("cuInit", 0u);
        Child child;
        say(TO_PARENT, 'r');
        return child.obey();
    }
    pid_t child = start_child(count, arguments);
    without_a_device(child);
    CUcontext context;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    memory_changes_hands(child);
    work_is_let_finish(child, count, arguments);
    itself();
    ends(child, count, arguments);
    OK("cuCtxDestroy_v2", context);
    return pass("suspended, and gone on");
}
