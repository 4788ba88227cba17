// Ends of a program: from any thread, from handlers and destructors, with work in flight, by exec.
#include "guest.h"

#include <atomic>
#include <csignal>
#include <pthread.h>
#include <thread>

static CUdeviceptr kept;

static void use() {
    open_driver();
    CHECK(begin());
    CHECK(CALL(cuMemAlloc)(&kept, 1 << 20));
    CHECK(work());
}

// What a handler or destructor at the end does with the device.
static void tidy_up() {
    // Which thread runs it is not always the one that began.
    CHECK(CALL(cuCtxSetCurrent)(context));
    CHECK(CALL(cuMemFree)(kept));
    CHECK(work());
    pass();
}

struct AtEnd {
    bool is_wanted = false;
    ~AtEnd() {
        if (is_wanted) tidy_up();
    }
};
// Made before `main`, so destroyed after every handler that is registered in it.
static AtEnd at_end;

static void static_destructor() {
    at_end.is_wanted = true;
    use();
}

static void late_static_destructor() {
    use();
    static AtEnd late;
    late.is_wanted = true;
}

static void handler_before() {
    REQUIRE(atexit(tidy_up) == 0);
    use();
}

static void handler_after() {
    use();
    REQUIRE(atexit(tidy_up) == 0);
}

static void exit_in_handler() {
    use();
    REQUIRE(atexit([] {
                CHECK(work());
                pass();
                _exit(7);
            }) == 0);
}

static void exit_of_a_thread() {
    use();
    std::thread([] {
        CHECK(work());
        pass();
        exit(7);
    }).join();
}

static void end_of_the_main_thread() {
    use();
    std::thread([] {
        for (int i = 0; i < 50; i++) CHECK(work());
        pass();
    }).detach();
    pthread_exit(nullptr);
}

// The exit handlers run on the last thread, which is the library's; the device can be used in them all the same.
static void end_of_all_threads() {
    use();
    REQUIRE(atexit(tidy_up) == 0);
    pthread_exit(nullptr);
}

// Threads are inside the library while the process ends. What they get does not matter, as long as they do not crash.
static void exit_while_calling() {
    use();
    static std::atomic<int> running{0};
    for (int i = 0; i < 4; i++)
        std::thread([] {
            while (work() == CUDA_SUCCESS) running++;
        }).detach();
    while (running < 8) std::this_thread::yield();
    pass();
    exit(7);
}

static void quick() {
    use();
    pass();
    quick_exit(7);
}

static void at_once() {
    use();
    pass();
    _exit(7);
}

static void aborted() {
    use();
    pass();
    abort();
}

static void busy() {
    use();
    for (int i = 0; i < 2000; i++) CHECK(launch(kept, 1000));
    pass();
}

static void after_exec() {
    use();
    pass();
}

static void exec() {
    use();
    char self[] = "/proc/self/exe", name[] = "after-exec", *arguments[] = {self, name, nullptr};
    execv(self, arguments);
    fail(__LINE__, "execv", -1);
}

struct OfThread {
    CUdeviceptr memory = 0;
    ~OfThread() {
        CHECK(CALL(cuMemFree)(memory));
        CHECK(work());
    }
};

static pthread_key_t key;

static void of_key(void *) {
    CHECK(work());
    CUdeviceptr memory;
    CHECK(CALL(cuMemAlloc)(&memory, 4096));
    CHECK(CALL(cuMemFree)(memory));
    pass();
}

// Destructors of a thread's own variables, in whichever order they come.
static void thread_destructors() {
    use();
    REQUIRE(pthread_key_create(&key, of_key) == 0);
    std::thread([] {
        thread_local OfThread early;
        REQUIRE(pthread_setspecific(key, &key) == 0);
        CHECK(CALL(cuCtxSetCurrent)(context));
        CHECK(CALL(cuMemAlloc)(&early.memory, 4096));
        CHECK(work());
    }).join();
    CHECK(work());
}

int main(int count, char **arguments) {
    return run_case(count, arguments,
                    {{"static-destructor", static_destructor},
                     {"late-static-destructor", late_static_destructor},
                     {"handler-before", handler_before},
                     {"handler-after", handler_after},
                     {"exit-in-handler", exit_in_handler},
                     {"exit-of-a-thread", exit_of_a_thread},
                     {"end-of-the-main-thread", end_of_the_main_thread},
                     {"end-of-all-threads", end_of_all_threads},
                     {"exit-while-calling", exit_while_calling},
                     {"quick", quick},
                     {"at-once", at_once},
                     {"aborted", aborted},
                     {"busy", busy},
                     {"exec", exec},
                     {"after-exec", after_exec},
                     {"thread-destructors", thread_destructors}});
}
