// Descriptors: children get none of ours, and a number that has become the program's own never gets our bytes.
#include "guest.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static std::vector<std::string> environment() {
    std::vector<std::string> all;
    for (char **one = environ; *one; one++) all.push_back(*one);
    return all;
}

// What this program itself prints when it is started as `list`: descriptors, then the environment.
static void list() {
    for (int number = 0; number < 4096; number++)
        if (fcntl(number, F_GETFD) >= 0) std::printf("%d ", number);
    std::printf("\n");
    for (const std::string &variable : environment()) std::printf("%s\n", variable.c_str());
}

static const char *const SELF = "/proc/self/exe";
static char self[4096];

enum How { SPAWN, VFORK, SYSTEM, POPEN };

// What a child that is made this way and executes `list` prints.
static std::string child_prints(How how) {
    char path[] = "/tmp/gpurun-manners-XXXXXX", name[] = "list";
    int output = mkstemp(path);
    REQUIRE(output >= 0 && fcntl(output, F_SETFD, FD_CLOEXEC) == 0);
    char *arguments[] = {self, name, nullptr};
    std::string command = std::string("exec '") + self + "' list >" + path;
    int status = -1;
    pid_t child = 0;
    if (how == SPAWN) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, output, 1);
        REQUIRE(posix_spawn(&child, self, &actions, nullptr, arguments, environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
    } else if (how == VFORK) {
        child = vfork();
        if (child == 0) {
            dup2(output, 1);
            execv(self, arguments);
            _exit(127);
        }
    } else if (how == SYSTEM) {
        status = std::system(command.c_str());
    } else {
        FILE *stream = popen(command.c_str(), "r");
        REQUIRE(stream);
        status = pclose(stream);
    }
    if (child) REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(status == 0);
    std::string text(1 << 20, '\0');
    ssize_t length = pread(output, text.data(), text.size(), 0);
    REQUIRE(length > 0);
    text.resize((size_t)length);
    close(output);
    unlink(path);
    return text;
}

static void children() {
    REQUIRE(readlink(SELF, self, sizeof self - 1) > 0);
    const How all[] = {SPAWN, VFORK, SYSTEM, POPEN};
    std::vector<std::string> before;
    for (How how : all) before.push_back(child_prints(how));
    std::vector<std::string> variables = environment();
    open_driver();
    CHECK(begin());
    CHECK(work());
    REQUIRE(environment() == variables);
    for (How how : all) {
        REQUIRE(child_prints(how) == before[how]);
        CHECK(work());
    }
    pass();
}

static std::vector<int> sockets() {
    std::vector<int> found;
    struct stat stat;
    for (int number = 3; number < 4096; number++)
        if (fstat(number, &stat) == 0 && S_ISSOCK(stat.st_mode)) found.push_back(number);
    return found;
}

static void fails() {
    for (int i = 0; i < 20; i++) REQUIRE(work() != CUDA_SUCCESS);
}

// A program that makes itself a daemon's room closes everything it does not know.
static void close_all() {
    open_driver();
    CHECK(begin());
    CHECK(work());
    REQUIRE(!sockets().empty());
    for (int number = 3; number < 4096; number++) close(number);
    char path[] = "/tmp/gpurun-manners-XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0);
    unlink(path);
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    fails();
    struct stat stat;
    char byte;
    REQUIRE(fstat(file, &stat) == 0 && stat.st_size == 0);
    for (int end : pair) REQUIRE(recv(end, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    pass();
}

// The connection's number comes to mean a socket of the program: its peer gets nothing of ours, and what the peer has sent is still there.
static void reuse() {
    open_driver();
    CHECK(begin());
    CUdeviceptr data;
    CHECK(CALL(cuMemAlloc)(&data, 4096));
    CHECK(work());
    int pair[2];
    std::vector<int> before = sockets();
    REQUIRE(before.size() == 1);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    REQUIRE(send(pair[1], "mine", 4, 0) == 4);
    // A tick of the kernel's coarse clock is at most 10 ms: the library looks again after each.
    usleep(50000);
    REQUIRE(dup2(pair[0], before[0]) == before[0]);
    for (int i = 0; i < 100; i++) launch(data, 1000);
    fails();
    char bytes[16];
    REQUIRE(recv(pair[1], bytes, sizeof bytes, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    REQUIRE(recv(pair[0], bytes, sizeof bytes, MSG_DONTWAIT) == 4 && std::memcmp(bytes, "mine", 4) == 0);
    // Not closed, nor shut down.
    REQUIRE(send(before[0], "more", 4, 0) == 4 && recv(pair[1], bytes, sizeof bytes, 0) == 4);
    pass();
}

// Descriptor 2 has become a file of the program's data.
static void no_standard_error() {
    close(2);
    char path[] = "/tmp/gpurun-manners-XXXXXX";
    REQUIRE(mkstemp(path) == 2);
    unlink(path);
    open_driver();
    CHECK(begin());
    EXPECT(refused(), CUDA_ERROR_NOT_SUPPORTED);
    for (int number : sockets()) close(number);
    fails();
    struct stat stat;
    REQUIRE(fstat(2, &stat) == 0 && stat.st_size == 0);
    pass();
}

// Whoever runs this looks at what is printed.
static void prints() {
    open_driver();
    CHECK(begin());
    for (int i = 0; i < 3; i++) EXPECT(refused(), CUDA_ERROR_NOT_SUPPORTED);
    CHECK(work());
    pass();
}

int main(int count, char **arguments) {
    return run_case(count, arguments,
                    {{"list", list},
                     {"children", children},
                     {"close-all", close_all},
                     {"reuse", reuse},
                     {"no-standard-error", no_standard_error},
                     {"prints", prints}});
}
