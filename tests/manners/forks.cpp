// Children: before and after the driver is initialised, with and without handlers, of many threads, and longer-lived than their parent.
#include "guest.h"

#include <atomic>
#include <csignal>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>

extern char **environ;

// Most seconds for a child: one that waits for a lock for ever is ended by this, and seen to be.
static const unsigned CHILD_LIMIT = 60;

static void reap(pid_t child) {
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    if (status != 0) fail(__LINE__, "a child ended with this status", status);
}

static bool holds_a_socket() {
    for (int number = 3; number < 2000; number++) {
        char path[64], target[64] = "";
        std::snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        if (readlink(path, target, sizeof target - 1) > 0 && std::strncmp(target, "socket:", 7) == 0) return true;
    }
    return false;
}

static void nothing_works() {
    int count;
    CUdeviceptr data;
    EXPECT(CALL(cuDeviceGetCount)(&count), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(CALL(cuInit)(0), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(CALL(cuMemAlloc)(&data, 64), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(work(), CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(refused(), CUDA_ERROR_NOT_INITIALIZED);
    REQUIRE(!holds_a_socket());
}

// Both sides begin on their own, and work at the same time.
static void before() {
    open_driver();
    pid_t child = fork();
    CHECK(begin());
    for (int i = 0; i < 50; i++) CHECK(work());
    if (child == 0) exit(0);
    reap(child);
    CHECK(work());
    pass();
}

static void after() {
    open_driver();
    CHECK(begin());
    CHECK(work());
    pid_t child = fork();
    if (child == 0) {
        nothing_works();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            nothing_works();
            _exit(0);
        }
        reap(grandchild);
        // All exit handlers and finalisers.
        exit(0);
    }
    for (int i = 0; i < 50; i++) CHECK(work());
    reap(child);
    CHECK(work());
    pass();
}

// A parent that has only asked for the version: the child is free to begin.
static void connected() {
    open_driver();
    int version;
    void *function;
    CUdriverProcAddressQueryResult status;
    CHECK(CALL(cuDriverGetVersion)(&version));
    CHECK(CALL(cuGetProcAddress)("cuMemAlloc", &function, 12000, 0, &status));
    REQUIRE(holds_a_socket());
    pid_t child = fork();
    if (child == 0) REQUIRE(!holds_a_socket());
    CHECK(begin());
    for (int i = 0; i < 50; i++) CHECK(work());
    if (child == 0) exit(0);
    reap(child);
    CHECK(work());
    pass();
}

// Many forks while other threads are inside the library: no lock of theirs may be waited for in a child.
static void threads() {
    open_driver();
    CHECK(begin());
    std::atomic<bool> over{false};
    std::vector<std::thread> workers;
    for (int i = 0; i < 3; i++)
        workers.emplace_back([&] {
            while (!over) {
                CHECK(work());
                EXPECT(refused(), CUDA_ERROR_NOT_SUPPORTED);
            }
        });
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(CHILD_LIMIT);
            nothing_works();
            const void *table;
            CUuuid unknown = {};
            REQUIRE(CALL(cuGetExportTable)(&table, &unknown) != CUDA_SUCCESS);
            if (i % 2) _exit(0);
            exit(0);
        }
        reap(child);
    }
    over = true;
    for (std::thread &worker : workers) worker.join();
    CHECK(work());
    pass();
}

// Forks while other threads connect: whatever the parent's threads hold, the child begins afresh.
static void connecting() {
    open_driver();
    std::vector<std::thread> threads;
    std::atomic<int> running{0};
    for (int i = 0; i < 3; i++)
        threads.emplace_back([&] {
            running++;
            int version;
            CHECK(CALL(cuDriverGetVersion)(&version));
        });
    while (running < 3) std::this_thread::yield();
    std::vector<pid_t> children;
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(CHILD_LIMIT);
            CHECK(begin());
            CHECK(work());
            exit(0);
        }
        children.push_back(child);
    }
    for (pid_t child : children) reap(child);
    for (std::thread &thread : threads) thread.join();
    CHECK(begin());
    CHECK(work());
    pass();
}

// A child that the C library knows nothing of: no handler has run in it.
static pid_t bare_fork() { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static void bare() {
    open_driver();
    CHECK(begin());
    pid_t child = bare_fork();
    if (child == 0) {
        int count;
        EXPECT(CALL(cuDeviceGetCount)(&count), CUDA_ERROR_NOT_INITIALIZED);
        nothing_works();
        _exit(0);
    }
    for (int i = 0; i < 20; i++) CHECK(work());
    reap(child);
    CHECK(work());
    pass();
}

// Holds memory, makes a child that lives until its standard input ends, and waits to be killed.
static void orphan(pid_t (*make)()) {
    open_driver();
    CHECK(begin());
    CUdeviceptr held;
    CHECK(CALL(cuMemAlloc)(&held, 512u << 20));
    CHECK(CALL(cuCtxSynchronize)());
    pid_t child = make();
    if (child == 0) {
        char byte;
        while (read(0, &byte, 1) > 0) {}
        _exit(0);
    }
    REQUIRE(child > 0);
    std::printf("holding\n");
    std::fflush(stdout);
    for (;;) pause();
}

static pid_t spawn_cat() {
    char name[] = "cat", *arguments[] = {name, nullptr};
    pid_t child;
    return posix_spawnp(&child, name, nullptr, nullptr, arguments, environ) == 0 ? child : -1;
}

static pid_t vfork_cat() {
    pid_t child = vfork();
    if (child == 0) {
        execlp("cat", "cat", (char *)nullptr);
        _exit(127);
    }
    return child;
}

int main(int count, char **arguments) {
    return run_case(count, arguments,
                    {{"before", before},
                     {"after", after},
                     {"connected", connected},
                     {"threads", threads},
                     {"connecting", connecting},
                     {"bare", bare},
                     {"orphan-fork", [] { orphan(fork); }},
                     {"orphan-bare", [] { orphan(bare_fork); }},
                     {"orphan-spawn", [] { orphan(spawn_cat); }},
                     {"orphan-vfork", [] { orphan(vfork_cat); }}});
}
