// `driver_check GROUP --images FOLDER [--lenient]`: what this project assumes of a CUDA driver, asked of the one that
// `libcuda.so.1` is. `--lenient`: CUDA_ERROR_NOT_SUPPORTED skips a check instead of failing it, for a driver that says what it lacks.
// `driver_check --list` names the groups. Exit status 0: the group ran to its end, whatever it found; 1: it could not.
#include "report.h"

#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

Driver driver;
std::string image_folder = ".";
static bool is_lenient = false;
static int checks = 0;

const std::vector<Group> GROUPS = {
    {"start", "before cuInit, and finding functions", check_start},
    {"context", "contexts, limits, memory that a context takes", check_context},
    {"windows", "address hints at the windows", check_windows},
    {"mapping", "memory mapped at chosen addresses", check_mapping},
    {"copies", "what waits, and how fast copies are", check_copies},
    {"completion", "streams that write their progress to pinned memory", check_completion},
    {"held", "what waits while a stream is held", check_held},
    {"capture", "stream capture", check_capture},
    {"modules", "images, functions, parameters", check_modules},
    {"tables", "the private tables", check_tables},
    {"table-calls", "the private functions that few clients call", check_table_calls},
    {"wrong-calls", "what wrong calls answer", check_wrong_calls},
    {"null-arguments", "nulls where something has to be", check_null_arguments},
    {"freed-stream", "a destroyed stream", check_freed_stream},
    {"freed-event", "a destroyed event", check_freed_event},
    {"freed-module", "an unloaded module", check_freed_module},
    {"freed-context", "a destroyed context", check_freed_context},
    {"fault-address", "a kernel out of bounds", check_fault_address},
    {"fault-misaligned", "a misaligned store", check_fault_misaligned},
    {"fault-trap", "a trap", check_fault_trap},
};

std::string format(const char *text, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(line, sizeof line, text, arguments);
    va_end(arguments);
    return line;
}

std::string hexadecimal(unsigned long long value) { return format("0x%llx", value); }

std::string name_of(CUresult result) {
    const char *name = nullptr;
    if (result == CUDA_SUCCESS) return "success";
    if (CU(cuGetErrorName, result, &name) != CUDA_SUCCESS || !name) return format("error_%d", (int)result);
    return name;
}

// One write a line, so that what was said before a crash is there.
static void line(const std::string &text) {
    std::fputs((text + "\n").c_str(), stdout);
    std::fflush(stdout);
}

static void verdict(const std::string &name, const std::string &expected, const std::string &got, const char *word) {
    checks++;
    line("check " + name + ": expected " + expected + ", got " + got + " " + word);
}

static bool is_skipped(CUresult got) { return is_lenient && got == CUDA_ERROR_NOT_SUPPORTED; }

void check(const std::string &name, const std::string &expected, const std::string &got) {
    verdict(name, expected, got, expected == got ? "OK" : "DIFFERS");
}

void check(const std::string &name, CUresult expected, CUresult got) { check_any(name, {expected}, got); }

void check_any(const std::string &name, std::initializer_list<CUresult> expected, CUresult got) {
    std::string words;
    bool is_expected = false;
    for (CUresult one : expected) {
        words += (words.empty() ? "" : " or ") + name_of(one);
        is_expected |= one == got;
    }
    verdict(name, words, name_of(got), is_expected ? "OK" : is_skipped(got) ? "SKIPPED" : "DIFFERS");
}

void check_yes(const std::string &name, bool got) { check(name, std::string("yes"), got ? "yes" : "no"); }

void observe(const std::string &name, const std::string &got) { verdict(name, "anything", got, "OK"); }

void observe(const std::string &name, CUresult got) {
    verdict(name, "anything", name_of(got), is_skipped(got) ? "SKIPPED" : "OK");
}

bool is_lenient_run() { return is_lenient; }

void skip(const std::string &name, const std::string &why) { verdict(name, "anything", why, "SKIPPED"); }

void note(const std::string &name, const char *text, ...) {
    char words[1024];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(words, sizeof words, text, arguments);
    va_end(arguments);
    line("note " + name + ": " + words);
}

bool works(const std::string &name, CUresult got) {
    if (got != CUDA_SUCCESS) check(name, CUDA_SUCCESS, got);
    return got == CUDA_SUCCESS;
}

double seconds() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string read_image(const std::string &name) {
    std::ifstream file(image_folder + "/" + name, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    return file ? bytes.str() + '\0' : std::string();
}

Setup::Setup(bool with_kernels) {
    if (!works("setup.init", CU(cuInit, 0)) || !works("setup.device", CU(cuDeviceGet, &device, 0)) ||
        !works("setup.retain", CU(cuDevicePrimaryCtxRetain, &context, device)) ||
        !works("setup.current", CU(cuCtxSetCurrent, context)) || !works("setup.memory", CU(cuMemAlloc, &words, 1 << 20)))
        return;
    if (with_kernels) {
        // The older text is for devices that the newer compiler no longer knows.
        std::string image = read_image(attribute(75) == 7 && attribute(76) == 0 ? "kernels.compute_70.ptx" : "kernels.ptx");
        if (image.empty()) {
            check("setup.image", std::string("kernels.ptx"), "no such file in " + image_folder);
            return;
        }
        if (!works("setup.module", CU(cuModuleLoadData, &module, image.data()))) return;
        for (auto [name, place] : {std::pair<const char *, CUfunction *>{"add", &add},
                                   {"wait_then_store", &wait_then_store},
                                   {"nothing", &nothing},
                                   {"store_at", &store_at}})
            if (!works(std::string("setup.") + name, CU(cuModuleGetFunction, place, module, name))) return;
    }
    is_good = true;
}

int Setup::attribute(int number) const {
    int value = -1;
    return CU(cuDeviceGetAttribute, &value, (CUdevice_attribute)number, device) == CUDA_SUCCESS ? value : -1;
}

CUresult Setup::launch(CUfunction function, CUstream stream, std::vector<void *> parameters, unsigned blocks,
                       unsigned threads) {
    return CU(cuLaunchKernel, function, blocks, 1, 1, threads, 1, 1, 0, stream, parameters.data(), nullptr);
}

CUresult Setup::keep_busy(CUstream stream, double how_long, int value) {
    unsigned long long nanoseconds = (unsigned long long)(how_long * 1e9);
    return launch(wait_then_store, stream, {&words, &value, &nanoseconds});
}

#define QUOTE_(name) #name
#define QUOTE(name) QUOTE_(name)

static bool open_driver() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        std::fprintf(stderr, "driver_check: %s\n", dlerror());
        return false;
    }
#define DRIVER_FIND(name)                                                          \
    driver.name = (decltype(driver.name))dlsym(library, QUOTE(name));              \
    if (!driver.name) note("missing", "%s", QUOTE(name));
    DRIVER_FUNCTIONS(DRIVER_FIND)
    driver.create_context = (decltype(driver.create_context))dlsym(library, "cuCtxCreate_v2");
    if (!driver.create_context) note("missing", "cuCtxCreate_v2");
    return true;
}

static int run(const char *name) {
    for (const Group &group : GROUPS) {
        if (std::strcmp(group.name, name) != 0) continue;
        if (!open_driver()) return 1;
        group.run();
        line(format("end %s: %d checks", name, checks));
        return 0;
    }
    std::fprintf(stderr, "driver_check: no group %s\n", name);
    return 1;
}

int main(int count, char **arguments) {
    const char *group = nullptr;
    for (int i = 1; i < count; i++) {
        std::string word = arguments[i];
        if (word == "--list") {
            for (const Group &one : GROUPS) std::printf("%s\t%s\n", one.name, one.what);
            return 0;
        } else if (word == "--lenient") {
            is_lenient = true;
        } else if (word == "--images" && i + 1 < count) {
            image_folder = arguments[++i];
        } else {
            group = arguments[i];
        }
    }
    if (!group) {
        std::fprintf(stderr, "usage: driver_check GROUP --images FOLDER [--lenient] | --list\n");
        return 1;
    }
    return run(group);
}
