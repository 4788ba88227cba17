// Loading and limits: opened and closed in every manner, and with little of everything.
#include "guest.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/resource.h>
#include <thread>

static void reopen() {
    for (int flags : {RTLD_NOW | RTLD_LOCAL, RTLD_LAZY | RTLD_LOCAL, RTLD_NOW | RTLD_DEEPBIND, RTLD_LAZY | RTLD_GLOBAL}) {
        void *library = open_driver(flags);
        CHECK(begin());
        CHECK(work());
        REQUIRE(dlclose(library) == 0);
    }
    pass();
}

// The last handle is closed while threads are inside.
static void close_while_calling() {
    void *library = open_driver();
    CHECK(begin());
    std::atomic<bool> over{false};
    std::atomic<int> calls{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back([&] {
            while (!over) {
                CHECK(work());
                calls++;
            }
        });
    while (calls < 10) std::this_thread::yield();
    REQUIRE(dlclose(library) == 0);
    int since = calls;
    while (calls < since + 30) std::this_thread::yield();
    over = true;
    for (std::thread &thread : threads) thread.join();
    pass();
}

static void limit(__rlimit_resource_t what, rlim_t most) {
    rlimit limit = {most, most};
    REQUIRE(setrlimit(what, &limit) == 0);
}

// Address space for a program, but not for windows of a terabyte.
static void little_address_space() {
    limit(RLIMIT_AS, 2ul << 30);
    open_driver();
    CHECK(begin());
    for (int i = 0; i < 20; i++) CHECK(work(70000));
    pass();
}

// Only few descriptors, most of them in use.
static void few_descriptors() {
    limit(RLIMIT_NOFILE, 20);
    while (open("/dev/null", O_RDONLY) < 12) {}
    open_driver();
    CHECK(begin());
    for (int i = 0; i < 20; i++) CHECK(work());
    pass();
}

// None left: an error, and the program can go on.
static void no_descriptors() {
    open_driver();
    limit(RLIMIT_NOFILE, 20);
    while (open("/dev/null", O_RDONLY) >= 0) {}
    REQUIRE(begin() != CUDA_SUCCESS);
    REQUIRE(work() != CUDA_SUCCESS);
    pass();
}

// No thread can be started: an error, and the program can go on. Root has no such limit.
static void no_threads() {
    if (getuid() == 0) REQUIRE(setgid(65534) == 0 && setuid(65534) == 0);
    limit(RLIMIT_NPROC, 1);
    open_driver();
    EXPECT(begin(), CUDA_ERROR_OPERATING_SYSTEM);
    EXPECT(CALL(cuInit)(0), CUDA_ERROR_OPERATING_SYSTEM);
    pass();
}

int main(int count, char **arguments) {
    return run_case(count, arguments,
                    {{"reopen", reopen},
                     {"close-while-calling", close_while_calling},
                     {"little-address-space", little_address_space},
                     {"few-descriptors", few_descriptors},
                     {"no-descriptors", no_descriptors},
                     {"no-threads", no_threads}});
}
