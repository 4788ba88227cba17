// Core dumps of the GPU: what is set of them, who is told, and the file that a kernel leaves which faults.
#include "driver.h"

#include <sys/stat.h>

const char *const PROGRAM = "surface_coredump";

// A block of 64 threads fills shared memory with its numbers; one thread writes where nothing is.
static const char *const WILD = R"(
.version 7.0
.target sm_70
.address_size 64

.visible .entry wild(.param .u64 where)
{
    .reg .pred %p;
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    .shared .align 4 .b8 numbers[256];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, numbers;
    mad.lo.u32 %r2, %r1, 4, %r2;
    st.shared.u32 [%r2], %r1;
    bar.sync 0;
    setp.ne.u32 %p, %r1, 37;
    @%p bra done;
    ld.param.u64 %rd1, [where];
    st.global.u32 [%rd1], %r1;
done:
    ret;
}
)";

static const CUcoredumpSettings ENABLE = CU_COREDUMP_ENABLE_ON_EXCEPTION, FLAGS = CU_COREDUMP_GENERATION_FLAGS;
static const unsigned SKIP_ABORT = 1u << 4, GZIP = 1u << 6, LOG_ONLY = 1u << 31, LIGHT = 0x12f;

template <typename T> static T value_of(const char *function, CUcoredumpSettings which) {
    T value = T(0x77);
    size_t size = sizeof value;
    OK(function, which, (void *)&value, &size);
    REQUIRE(size == sizeof value);
    return value;
}

static std::string name_of(const char *function, CUcoredumpSettings which) {
    char name[1024];
    size_t size = sizeof name;
    std::memset(name, 'x', sizeof name);
    OK(function, which, (void *)name, &size);
    REQUIRE(size == std::strlen(name) + 1);
    return name;
}

template <typename T> static CUresult give(const char *function, CUcoredumpSettings which, T value) {
    size_t size = sizeof value;
    return call(function, which, (void *)&value, &size);
}

static CUresult give_name(const char *function, CUcoredumpSettings which, const std::string &name) {
    size_t size = name.size() + 1;
    return call(function, which, (void *)name.c_str(), &size);
}

static const char *const GET = "cuCoredumpGetAttributeGlobal", *const SET = "cuCoredumpSetAttributeGlobal";
static const char *const GET_HERE = "cuCoredumpGetAttribute", *const SET_HERE = "cuCoredumpSetAttribute";

static void sizes(const char *function) {
    const size_t expected[] = {0, 1, 1, 1, 1, 1024, 1024, 4};
    bool is_here = !std::strcmp(function, SET_HERE);
    for (int which = 1; which < 8; which++) {
        bool is_global = is_here && (which == CU_COREDUMP_ENABLE_USER_TRIGGER || which == CU_COREDUMP_PIPE);
        size_t size = 99;
        CUresult result = call(function, (CUcoredumpSettings)which, (void *)nullptr, &size);
        REQUIRE(result == (is_global ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS));
        REQUIRE(is_global || size == expected[which]);
    }
    size_t size = 8;
    unsigned char bytes[8];
    GIVES(CUDA_ERROR_INVALID_VALUE, function, (CUcoredumpSettings)0, (void *)bytes, &size);
    GIVES(CUDA_ERROR_INVALID_VALUE, function, (CUcoredumpSettings)8, (void *)bytes, &size);
    GIVES(CUDA_ERROR_INVALID_VALUE, function, ENABLE, (void *)bytes, (size_t *)nullptr);
    size = 3;
    GIVES(CUDA_ERROR_INVALID_VALUE, function, FLAGS, (void *)bytes, &size);
}

// All of it works before the driver is initialised.
static void of_the_application() {
    sizes(GET);
    sizes(SET);
    REQUIRE(!value_of<bool>(GET, ENABLE) && value_of<bool>(GET, CU_COREDUMP_TRIGGER_HOST));
    REQUIRE(!value_of<bool>(GET, CU_COREDUMP_LIGHTWEIGHT) && !value_of<bool>(GET, CU_COREDUMP_ENABLE_USER_TRIGGER));
    REQUIRE(value_of<unsigned>(GET, FLAGS) == 0);
    char host[256];
    REQUIRE(gethostname(host, sizeof host) == 0);
    std::string end = ".cuda." + std::string(host) + "." + std::to_string(getpid());
    REQUIRE(name_of(GET, CU_COREDUMP_FILE) == "core" + end && name_of(GET, CU_COREDUMP_PIPE) == "corepipe" + end);
    // The deprecated attributes are flags.
    REQUIRE(give(SET, CU_COREDUMP_TRIGGER_HOST, false) == CUDA_SUCCESS);
    REQUIRE(give(SET, CU_COREDUMP_LIGHTWEIGHT, true) == CUDA_SUCCESS);
    REQUIRE(value_of<unsigned>(GET, FLAGS) == (SKIP_ABORT | LIGHT));
    REQUIRE(give(SET, FLAGS, SKIP_ABORT) == CUDA_SUCCESS && !value_of<bool>(GET, CU_COREDUMP_LIGHTWEIGHT));
    REQUIRE(give(SET, FLAGS, 1u << 20) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE(give(SET, CU_COREDUMP_ENABLE_USER_TRIGGER, false) == CUDA_SUCCESS);
    REQUIRE(give(SET, CU_COREDUMP_ENABLE_USER_TRIGGER, true) == CUDA_ERROR_NOT_SUPPORTED);
    REQUIRE(give_name(SET, CU_COREDUMP_PIPE, "a pipe") == CUDA_SUCCESS && name_of(GET, CU_COREDUMP_PIPE) == "a pipe");
    REQUIRE(give_name(SET, CU_COREDUMP_FILE, std::string(1023, 'x')) == CUDA_SUCCESS);
    REQUIRE(give_name(SET, CU_COREDUMP_FILE, std::string(1024, 'x')) == CUDA_ERROR_INVALID_VALUE);
    REQUIRE(give_name(SET, CU_COREDUMP_FILE, "") == CUDA_ERROR_INVALID_VALUE);
    size_t size = 100;
    char name[100];
    GIVES(CUDA_ERROR_INVALID_VALUE, GET, CU_COREDUMP_FILE, (void *)name, &size);
}

static std::vector<std::string> told;
static CUresult inside = CUDA_SUCCESS;
static void *first;

static void note(const char *what, void *data, int pid, CUdevice device) {
    if (pid != getpid() || device != 0) fail(__LINE__, "another process or device");
    told.push_back(std::string(what) + (const char *)data);
}
static void started(void *data, int pid, CUdevice device) {
    note("start ", data, pid, device);
    inside = call("cuCoredumpDeregisterStartCallback", first);
}
static void completed(void *data, int pid, CUdevice device) { note("complete ", data, pid, device); }

static std::string folder;

static std::string contents(const std::string &path) {
    std::string text;
    if (FILE *file = std::fopen(path.c_str(), "r")) {
        char buffer[4096];
        while (size_t got = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, got);
        std::fclose(file);
    }
    return text;
}

// A context whose kernel writes where nothing is.
static CUcontext faulted(unsigned flags, void (*before)() = nullptr, bool waits = true) {
    CUcontext context;
    CUmodule module;
    CUfunction wild;
    CUdeviceptr memory, where = 0x10000;
    OK("cuCtxCreate_v2", &context, flags, (CUdevice)0);
    if (before) before();
    OK("cuModuleLoadData", &module, (const void *)WILD);
    OK("cuModuleGetFunction", &wild, module, "wild");
    OK("cuMemAlloc_v2", &memory, (size_t)1 << 16);
    OK("cuMemsetD32_v2", memory, 0xfeedbeefu, (size_t)1 << 14);
    void *parameters[] = {&where};
    OK("cuLaunchKernel", wild, 1u, 1u, 1u, 64u, 1u, 1u, 0u, (CUstream)0, parameters, (void **)nullptr);
    if (waits) GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, "cuCtxSynchronize");
    return context;
}

static void destroy(CUcontext context) {
    call("cuCtxDestroy_v2", context);
    CUcontext other;
    OK("cuCtxGetCurrent", &other);
    REQUIRE(other != context);
}

static void of_a_context() {
    CUcontext context;
    bool value;
    size_t size = 1;
    GIVES(CUDA_ERROR_INVALID_CONTEXT, GET_HERE, ENABLE, (void *)&value, &size);
    GIVES(CUDA_ERROR_INVALID_CONTEXT, SET_HERE, ENABLE, (void *)&value, &size);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, "cuCtxCreate_v2", &context, 0x40u, (CUdevice)0);
    REQUIRE(give_name(SET, CU_COREDUMP_FILE, folder + "/inherited") == CUDA_SUCCESS);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    sizes(GET_HERE);
    sizes(SET_HERE);
    // It begins with the application's, and is its own from then on.
    REQUIRE(name_of(GET_HERE, CU_COREDUMP_FILE) == folder + "/inherited");
    REQUIRE(value_of<unsigned>(GET_HERE, FLAGS) == SKIP_ABORT && !value_of<bool>(GET_HERE, ENABLE));
    REQUIRE(name_of(GET_HERE, CU_COREDUMP_PIPE) == "a pipe");
    REQUIRE(give_name(SET_HERE, CU_COREDUMP_FILE, "own") == CUDA_SUCCESS);
    REQUIRE(give(SET_HERE, FLAGS, SKIP_ABORT | GZIP) == CUDA_SUCCESS);
    REQUIRE(give(SET_HERE, ENABLE, true) == CUDA_SUCCESS && value_of<bool>(GET_HERE, ENABLE));
    REQUIRE(give(SET_HERE, ENABLE, false) == CUDA_SUCCESS && !value_of<bool>(GET_HERE, ENABLE));
    REQUIRE(value_of<unsigned>(GET_HERE, FLAGS) == (SKIP_ABORT | GZIP) && value_of<unsigned>(GET, FLAGS) == SKIP_ABORT);
    REQUIRE(name_of(GET_HERE, CU_COREDUMP_FILE) == "own" && name_of(GET, CU_COREDUMP_FILE) == folder + "/inherited");
    destroy(context);
    OK("cuCtxCreate_v2", &context, (unsigned)CU_CTX_COREDUMP_ENABLE, (CUdevice)0);
    unsigned flags;
    OK("cuCtxGetFlags", &flags);
    REQUIRE(flags & CU_CTX_COREDUMP_ENABLE);
    REQUIRE(value_of<bool>(GET_HERE, ENABLE) && !value_of<bool>(GET, ENABLE));
    destroy(context);
}

static void *registered(const char *function, void (*callback)(void *, int, CUdevice), const char *data) {
    void *handle = nullptr;
    OK(function, callback, (void *)data, &handle);
    REQUIRE(handle);
    return handle;
}

// Not enabled: a fault leaves nothing, and nobody is told.
static void nothing_unasked() {
    destroy(faulted(0));
    REQUIRE(told.empty() && contents(folder + "/inherited").empty());
}

static void dumps() {
    const char *start = "cuCoredumpRegisterStartCallback", *complete = "cuCoredumpRegisterCompleteCallback";
    const char *no_start = "cuCoredumpDeregisterStartCallback", *no_complete = "cuCoredumpDeregisterCompleteCallback";
    first = registered(start, started, "a");
    void *gone = registered(start, started, "b"), *last = registered(complete, completed, "c");
    void *also = registered(complete, completed, "d");
    OK(complete, completed, (void *)"e", (void **)nullptr);
    GIVES(CUDA_ERROR_INVALID_VALUE, start, (void (*)(void *, int, CUdevice))nullptr, (void *)nullptr, (void **)nullptr);
    GIVES(CUDA_ERROR_INVALID_VALUE, complete, (void (*)(void *, int, CUdevice))nullptr, (void *)nullptr, (void **)nullptr);
    GIVES(CUDA_ERROR_INVALID_VALUE, no_start, last);
    GIVES(CUDA_ERROR_INVALID_VALUE, no_complete, first);
    nothing_unasked();
    OK(no_start, gone);
    OK(no_complete, also);
    GIVES(CUDA_ERROR_INVALID_VALUE, no_start, gone);

    REQUIRE(give_name(SET, CU_COREDUMP_FILE, folder + "/%p-%%.core") == CUDA_SUCCESS);
    std::string path = folder + "/" + std::to_string(getpid()) + "-%.core";
    CUcontext context = faulted(CU_CTX_COREDUMP_ENABLE);
    REQUIRE((told == std::vector<std::string>{"start a", "complete c", "complete e"}));
    REQUIRE(inside == CUDA_ERROR_NOT_PERMITTED);
    std::string dump = contents(path);
    REQUIRE(dump.size() > 1 << 16 && dump.substr(0, 4) == "\177ELF");
    REQUIRE((unsigned char)dump[18] == 190 && dump[16] == 4);
    // The module's text, the name of the kernel, the memory.
    REQUIRE(dump.find("visible .entry wild") != std::string::npos);
    REQUIRE(dump.find("kernel `wild`: illegal address 0x10000") != std::string::npos);
    REQUIRE(dump.find("\xef\xbe\xed\xfe\xef\xbe\xed\xfe") != std::string::npos);
    struct stat about;
    REQUIRE(stat(path.c_str(), &about) == 0 && (about.st_mode & 0777) == 0600);
    // What is set can be read of a context that has faulted.
    REQUIRE(value_of<bool>(GET_HERE, ENABLE));
    destroy(context);

    told.clear();
    REQUIRE(give(SET, ENABLE, true) == CUDA_SUCCESS);
    REQUIRE(give(SET, FLAGS, SKIP_ABORT | GZIP | LIGHT) == CUDA_SUCCESS);
    destroy(faulted(0));
    std::string packed = contents(path + ".gz");
    REQUIRE(packed.size() > 100 && packed.size() < 1 << 16 && packed.substr(0, 2) == "\x1f\x8b");
    REQUIRE(told.size() == 3);

    // No file, and nobody is told; set for the context alone.
    REQUIRE(unlink(path.c_str()) == 0);
    destroy(faulted(0, [] { REQUIRE(give(SET_HERE, FLAGS, SKIP_ABORT | LOG_ONLY) == CUDA_SUCCESS); }));
    REQUIRE(told.size() == 3 && contents(path).empty());
    destroy(faulted(0, [] { REQUIRE(give(SET_HERE, ENABLE, false) == CUDA_SUCCESS); }));
    REQUIRE(told.size() == 3 && contents(path).empty());
    // A folder that is not there: it begins, and does not come to its end.
    destroy(faulted(0, [] { REQUIRE(give_name(SET_HERE, CU_COREDUMP_FILE, "/nowhere/at/all") == CUDA_SUCCESS); }));
    REQUIRE(told.size() == 4 && told.back() == "start a");
    // A context that ends while its kernel runs.
    REQUIRE(unlink((path + ".gz").c_str()) == 0);
    destroy(faulted(0, nullptr, false));
    REQUIRE(told.size() == 7 && !contents(path + ".gz").empty());
    REQUIRE(unlink((path + ".gz").c_str()) == 0);
    OK(no_start, first);
    OK(no_complete, last);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    char name[] = "/tmp/surface_coredump.XXXXXX";
    REQUIRE(mkdtemp(name));
    folder = name;
    of_the_application();
    OK("cuInit", 0u);
    of_a_context();
    dumps();
    REQUIRE(rmdir(name) == 0);
    return pass("core dumps");
}
