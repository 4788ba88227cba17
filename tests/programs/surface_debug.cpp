// The driver's log: what a program can read of what went wrong, and how it is told.
#include "driver.h"

const char *const PROGRAM = "surface_debug";

static std::vector<std::string> told;
static CUresult inside = CUDA_SUCCESS;
static int unexpected;

// What a function of the program is told: each line, and no call of the driver in it.
static void listen(void *data, int level, char *message, size_t length) {
    CUdevice device;
    if (data != (void *)&told || std::strlen(message) != length || level < 0 || level > 1) unexpected++;
    inside = call("cuCtxGetDevice", &device);
    told.push_back(message);
}

// A call that goes wrong, whose name the log then has.
static void go_wrong() {
    size_t bytes;
    GIVES(CUDA_ERROR_INVALID_DEVICE, "cuDeviceTotalMem_v2", &bytes, (CUdevice)99);
}

static bool names_it(const std::string &text) { return text.find("cuDeviceTotalMem_v2") != std::string::npos; }

static std::string dumped(unsigned *place) {
    std::vector<char> buffer(30000, 'x');
    size_t size = buffer.size();
    OK("cuLogsDumpToMemory", place, buffer.data(), &size, 0u);
    REQUIRE(size < buffer.size() && buffer[size] == 0);
    return std::string(buffer.data(), size);
}

static std::string contents(const char *path) {
    std::string text;
    if (FILE *file = std::fopen(path, "r")) {
        char buffer[4096];
        while (size_t got = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, got);
        std::fclose(file);
    }
    return text;
}

static void logs() {
    unsigned place = 0x77777777, before;
    OK("cuLogsCurrent", &place, 0u);
    before = place;
    REQUIRE(dumped(&place).empty() && place == before);
    go_wrong();
    std::string text = dumped(&place);
    REQUIRE(names_it(text) && text.back() == '\n' && place != before);
    REQUIRE(dumped(&place).empty());
    REQUIRE(names_it(dumped(nullptr)));
    // From the place that was kept it can be read again, whole or as much as fits.
    place = before;
    size_t size = 20;
    char small[200];
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuLogsDumpToMemory", &place, small, &size, 0u);
    REQUIRE(size == 0);
    for (int i = 0; i < 5; i++) go_wrong();
    place = before;
    size = sizeof small;
    OK("cuLogsDumpToMemory", &place, small, &size, 0u);
    REQUIRE(size > 0 && size < sizeof small && std::strlen(small) == size && names_it(small));
    char path[] = "/tmp/surface_debug.XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0);
    place = before;
    OK("cuLogsDumpToFile", &place, (const char *)path, 0u);
    text = contents(path);
    REQUIRE(names_it(text) && dumped(&place).empty());
    GIVES(CUDA_ERROR_INVALID_VALUE, "cuLogsDumpToFile", (unsigned *)nullptr, "/nowhere/at/all", 0u);
    close(file);
    unlink(path);
}

static void callbacks() {
    void *handle = nullptr;
    OK("cuLogsRegisterCallback", listen, (void *)&told, &handle);
    REQUIRE(handle);
    go_wrong();
    REQUIRE(!told.empty() && names_it(told.back()) && !unexpected);
    REQUIRE(inside == CUDA_ERROR_NOT_PERMITTED);
    OK("cuLogsUnregisterCallback", handle);
    size_t count = told.size();
    go_wrong();
    REQUIRE(told.size() == count);
    FAILS("cuLogsUnregisterCallback", handle);
}

int main(int count, char **arguments) {
    open_driver(count, arguments);
    OK("cuInit", 0u);
    logs();
    callbacks();
    return pass("the driver's log");
}
