// Signals: the program's are its own.
#include "guest.h"

#include <atomic>
#include <csignal>
#include <dirent.h>
#include <fstream>
#include <sys/syscall.h>
#include <sys/time.h>
#include <thread>

static std::atomic<long> delivered, elsewhere;
static long main_thread;

static void handler(int) {
    delivered++;
    if (syscall(SYS_gettid) != main_thread) elsewhere++;
}

static void install(int signal, int flags) {
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    REQUIRE(sigaction(signal, &action, nullptr) == 0);
}

// The names and blocked signals of all threads of this process.
static void check_threads_of_the_library() {
    DIR *tasks = opendir("/proc/self/task");
    int ours = 0;
    while (dirent *task = readdir(tasks)) {
        std::ifstream status("/proc/self/task/" + std::string(task->d_name) + "/status");
        std::string line;
        bool is_ours = false;
        while (std::getline(status, line)) {
            if (line.rfind("Name:", 0) == 0) is_ours = line.find("gpurun-") != std::string::npos;
            if (is_ours && line.rfind("SigBlk:", 0) == 0) {
                unsigned long blocked = std::stoul(line.substr(7), nullptr, 16);
                // All but SIGKILL, SIGSTOP, and the two that the C library keeps for itself.
                unsigned long most = ~0ul & ~(1ul << (SIGKILL - 1)) & ~(1ul << (SIGSTOP - 1)) & ~(3ul << 31);
                REQUIRE((blocked & most) == most);
                ours++;
            }
        }
    }
    closedir(tasks);
    REQUIRE(ours >= 2);
}

static void compare_dispositions(bool remember) {
    static struct sigaction before[65];
    static sigset_t mask_before;
    sigset_t mask;
    REQUIRE(pthread_sigmask(SIG_SETMASK, nullptr, remember ? &mask_before : &mask) == 0);
    for (int signal = 1; signal <= 64; signal++) {
        struct sigaction now = {};
        if (sigaction(signal, nullptr, &now) != 0) continue;
        if (remember) before[signal] = now;
        REQUIRE(now.sa_handler == before[signal].sa_handler && now.sa_flags == before[signal].sa_flags);
        if (!remember) REQUIRE(sigismember(&mask, signal) == sigismember(&mask_before, signal));
    }
}

// Handlers, masks and interrupted calls: a timer every millisecond while the driver is loaded, connected and used.
static void own() {
    main_thread = syscall(SYS_gettid);
    install(SIGALRM, 0);
    install(SIGUSR1, 0);
    install(SIGCHLD, SA_RESTART);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGWINCH);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    compare_dispositions(true);
    itimerval often = {{0, 1000}, {0, 1000}}, never = {};
    REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
    open_driver();
    CHECK(begin());
    for (int flags : {0, SA_RESTART}) {
        install(SIGALRM, flags);
        long since = delivered;
        while (delivered < since + 100) CHECK(work(70000));
    }
    REQUIRE(setitimer(ITIMER_REAL, &never, nullptr) == 0);
    install(SIGALRM, 0);
    // Sent to the process while this thread blocks it: a thread of the library would take it.
    long since = delivered;
    for (int i = 0; i < 20; i++) {
        REQUIRE(kill(getpid(), SIGUSR1) == 0);
        CHECK(work());
    }
    REQUIRE(delivered == since);
    compare_dispositions(false);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    REQUIRE(pthread_sigmask(SIG_UNBLOCK, &set, nullptr) == 0);
    REQUIRE(delivered == since + 1 && elsewhere == 0);
    check_threads_of_the_library();
    CHECK(work());
    pass();
}

// Works until the server is gone; whoever runs this kills it after the first line. SIGPIPE would end it.
static void pipe_case() {
    signal(SIGPIPE, SIG_DFL);
    open_driver();
    CHECK(begin());
    CUdeviceptr data;
    CHECK(CALL(cuMemAlloc)(&data, 4096));
    std::printf("working\n");
    std::fflush(stdout);
    CUresult result = CUDA_SUCCESS;
    while (!result) result = launch(data, 1000);
    // Sends of every kind on a connection that is over.
    for (int i = 0; i < 100; i++) REQUIRE(launch(data, 1000) != CUDA_SUCCESS && work() != CUDA_SUCCESS);
    pass();
}

int main(int count, char **arguments) { return run_case(count, arguments, {{"own", own}, {"pipe", pipe_case}}); }
