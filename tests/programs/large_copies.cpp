// Copies from the device and to it that are larger than one frame, with what may go wrong around them: sizes and offsets of all kinds, memory that is overwritten
// behind a copy in its stream, or freed at once, sources of all kinds, a stream that another thread lets go, and several threads.
//
//   large_copies                            checks
//   large_copies time MIB ROUNDS            prints how long a copy to the device and one from it take, in microseconds, a line a round
//   large_copies fault [to]                 copies, breaks its context, copies again, from the device or to it: the error, and nothing else
#include "driver.h"

#include <chrono>
#include <functional>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

const char *const PROGRAM = "large_copies";

static const size_t MIB = 1 << 20;

static uint8_t byte_at(uint64_t seed, size_t place) { return (uint8_t)((place * 2654435761u + seed * 97) >> 13); }

static std::vector<uint8_t> pattern(uint64_t seed, size_t length) {
    std::vector<uint8_t> bytes(length);
    for (size_t i = 0; i < length; i++) bytes[i] = byte_at(seed, i);
    return bytes;
}

static void compare(int line, const uint8_t *got, const uint8_t *wanted, size_t length) {
    if (!std::memcmp(got, wanted, length)) return;
    for (size_t i = 0; i < length; i++)
        if (got[i] != wanted[i]) fail(line, "byte " + std::to_string(i) + " of " + std::to_string(length), got[i]);
}

static void sizes_and_offsets() {
    static const size_t SIZES[] = {1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 4 * MIB, 8 * MIB + 4095, 13 * MIB + 1};
    static const size_t OFFSETS[] = {0, 4095, MIB + 3};
    const size_t whole = 16 * MIB;
    CUdeviceptr memory;
    OK("cuMemAlloc_v2", &memory, whole);
    std::vector<uint8_t> all = pattern(1, whole), got(whole + 64);
    OK("cuMemcpyHtoD_v2", memory, (const void *)all.data(), whole);
    for (size_t size : SIZES)
        for (size_t offset : OFFSETS) {
            std::fill(got.begin(), got.end(), 0xA5);
            uint8_t *place = got.data() + offset % 7;
            OK("cuMemcpyDtoH_v2", (void *)place, memory + offset, size);
            compare(__LINE__, place, all.data() + offset, size);
            if (place[size] != 0xA5) fail(__LINE__, "a byte behind the copy");
        }
    OK("cuMemFree_v2", memory);
}

// To the device: all of the bytes, and nothing beside them.
static void sizes_and_offsets_to() {
    static const size_t SIZES[] = {MIB, MIB + 1, 4 * MIB, 4 * MIB + 1, 8 * MIB + 4095, 13 * MIB + 1};
    static const size_t OFFSETS[] = {0, MIB + 3};
    const size_t whole = 16 * MIB, around = 64;
    CUdeviceptr memory;
    OK("cuMemAlloc_v2", &memory, whole);
    std::vector<uint8_t> got(whole), edge(around, 0xA5);
    for (size_t size : SIZES)
        for (size_t offset : OFFSETS) {
            std::vector<uint8_t> bytes = pattern(size + offset, size + 7);
            const uint8_t *source = bytes.data() + offset % 7;
            OK("cuMemsetD8_v2", memory, (unsigned char)0xA5, whole);
            OK("cuMemcpyHtoD_v2", memory + offset, (const void *)source, size);
            OK("cuMemcpyDtoH_v2", (void *)got.data(), memory + offset, size);
            compare(__LINE__, got.data(), source, size);
            OK("cuMemcpyDtoH_v2", (void *)got.data(), memory + offset + size, around);
            compare(__LINE__, got.data(), edge.data(), around);
            if (!offset) continue;
            OK("cuMemcpyDtoH_v2", (void *)got.data(), memory + offset - around, around);
            compare(__LINE__, got.data(), edge.data(), around);
        }
    OK("cuMemFree_v2", memory);
}

static uint8_t *mapped(size_t size, int flags, int file) {
    void *place = mmap(nullptr, size, PROT_READ | (file < 0 ? PROT_WRITE : 0), MAP_PRIVATE | flags, file, 0);
    if (place == MAP_FAILED) fail(__LINE__, "mmap");
    return (uint8_t *)place;
}

static void copied(int line, const uint8_t *source, size_t size) {
    CUdeviceptr memory;
    std::vector<uint8_t> got(size, 1);
    OK("cuMemAlloc_v2", &memory, size);
    OK("cuMemsetD8_v2", memory, (unsigned char)0xA5, size);
    OK("cuMemcpyHtoD_v2", memory, (const void *)source, size);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
    compare(line, got.data(), source, size);
    OK("cuMemFree_v2", memory);
}

// Memory that may be read where it is, and such as may not, or only up to a place in its middle.
static void sources() {
    const size_t size = 10 * MIB;
    void *pinned;
    OK("cuMemHostAlloc", &pinned, size, 0u);
    std::vector<uint8_t> bytes = pattern(9, size);
    std::memcpy(pinned, bytes.data(), size);
    copied(__LINE__, (uint8_t *)pinned, size);
    OK("cuMemFreeHost", pinned);
    uint8_t *partly = mapped(size, MAP_ANONYMOUS, -1);
    copied(__LINE__, partly, size);
    std::memcpy(partly, bytes.data(), 6 * MIB);
    copied(__LINE__, partly, size);
    munmap(partly, size);
    int program = open("/proc/self/exe", O_RDONLY);
    off_t length = program < 0 ? 0 : lseek(program, 0, SEEK_END);
    if (length <= 0) fail(__LINE__, "this program's file");
    uint8_t *text = mapped((size_t)length, 0, program);
    std::vector<uint8_t> repeated;
    while (repeated.size() < size) repeated.insert(repeated.end(), text, text + length);
    copied(__LINE__, repeated.data(), size);
    munmap(text, (size_t)length);
    close(program);
    // A child has the same pages for a while.
    pid_t child = fork();
    if (!child) {
        pause();
        _exit(0);
    }
    copied(__LINE__, bytes.data(), size);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    copied(__LINE__, bytes.data(), size);
}

// What was put into the stream before a copy to the device is overwritten by it, and what is put there later overwrites it.
static void in_their_order() {
    const size_t size = 9 * MIB + 5;
    CUdeviceptr memory;
    OK("cuMemAlloc_v2", &memory, size);
    for (unsigned round = 0; round < 3; round++) {
        std::vector<uint8_t> bytes = pattern(round + 20, size), got(size);
        OK("cuMemsetD8Async", memory, (unsigned char)0x11, size, (CUstream) nullptr);
        OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
        OK("cuMemsetD8Async", memory + MIB, (unsigned char)0x22, MIB, (CUstream) nullptr);
        // The program's memory is its own again.
        std::vector<uint8_t> wanted = bytes;
        std::fill(bytes.begin(), bytes.end(), 0x33);
        std::fill(wanted.begin() + MIB, wanted.begin() + 2 * MIB, 0x22);
        OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
        compare(__LINE__, got.data(), wanted.data(), size);
    }
    OK("cuMemFree_v2", memory);
}

// The copy's stream waits for a value that another thread writes: the copy waits with it, and nothing else does.
static void held_by_a_value(CUcontext context) {
    const size_t size = 6 * MIB;
    CUdeviceptr memory, flag;
    CUstream other;
    OK("cuMemAlloc_v2", &memory, size);
    OK("cuMemAlloc_v2", &flag, (size_t)4);
    OK("cuStreamCreate", &other, (unsigned)CU_STREAM_NON_BLOCKING);
    std::vector<uint8_t> bytes = pattern(30, size), got(size);
    for (unsigned round = 1; round < 4; round++) {
        OK("cuStreamWaitValue32_v2", (CUstream) nullptr, flag, (cuuint32_t)round, (unsigned)CU_STREAM_WAIT_VALUE_GEQ);
        std::thread lets_go([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            OK("cuCtxSetCurrent", context);
            OK("cuStreamWriteValue32_v2", other, flag, (cuuint32_t)round, 0u);
        });
        OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
        lets_go.join();
        OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
        compare(__LINE__, got.data(), bytes.data(), size);
    }
    OK("cuStreamDestroy_v2", other);
    OK("cuMemFree_v2", flag);
    OK("cuMemFree_v2", memory);
}

// What is put into a stream behind a copy does not change what the copy sees, and finds the memory its own.
static void overwritten_behind() {
    const size_t size = 9 * MIB + 5;
    CUstream stream;
    CUdeviceptr memory;
    void *pinned;
    OK("cuStreamCreate", &stream, (unsigned)CU_STREAM_NON_BLOCKING);
    OK("cuMemAlloc_v2", &memory, size);
    OK("cuMemHostAlloc", &pinned, size * 3, 0u);
    std::vector<uint8_t> first = pattern(2, size), got(size);
    OK("cuMemcpyHtoD_v2", memory, (const void *)first.data(), size);
    uint8_t *parts = (uint8_t *)pinned;
    OK("cuMemcpyDtoHAsync_v2", (void *)parts, memory, size, stream);
    OK("cuMemsetD8Async", memory, (unsigned char)0x11, size, stream);
    OK("cuMemcpyDtoHAsync_v2", (void *)(parts + size), memory, size, stream);
    OK("cuMemsetD8Async", memory, (unsigned char)0x22, size, stream);
    OK("cuMemcpyDtoHAsync_v2", (void *)(parts + 2 * size), memory, size, stream);
    OK("cuMemsetD8Async", memory, (unsigned char)0x33, size, stream);
    OK("cuStreamSynchronize", stream);
    compare(__LINE__, parts, first.data(), size);
    for (unsigned round = 1; round < 3; round++) {
        std::vector<uint8_t> wanted(size, (uint8_t)(round * 0x11));
        compare(__LINE__, parts + round * size, wanted.data(), size);
    }
    OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
    std::vector<uint8_t> last(size, 0x33);
    compare(__LINE__, got.data(), last.data(), size);
    OK("cuMemFreeHost", pinned);
    OK("cuMemFree_v2", memory);
    OK("cuStreamDestroy_v2", stream);
}

// Memory that is freed behind a copy, and made anew at once: the copy has the old bytes.
static void freed_behind() {
    const size_t size = 6 * MIB;
    CUstream stream;
    void *pinned;
    OK("cuStreamCreate", &stream, 0u);
    OK("cuMemHostAlloc", &pinned, size, 0u);
    for (unsigned round = 0; round < 6; round++) {
        CUdeviceptr memory, other;
        OK("cuMemAlloc_v2", &memory, size);
        OK("cuMemsetD8Async", memory, (unsigned char)round, size, stream);
        OK("cuMemcpyDtoHAsync_v2", pinned, memory, size, stream);
        OK("cuMemFree_v2", memory);
        OK("cuMemAlloc_v2", &other, size);
        OK("cuMemsetD8_v2", other, (unsigned char)0xFF, size);
        OK("cuStreamSynchronize", stream);
        std::vector<uint8_t> wanted(size, (uint8_t)round);
        compare(__LINE__, (uint8_t *)pinned, wanted.data(), size);
        OK("cuMemFree_v2", other);
    }
    OK("cuMemFreeHost", pinned);
    OK("cuStreamDestroy_v2", stream);
}

static void one_thread(CUcontext context, unsigned number) {
    const size_t size = (2 + number) * MIB + number;
    OK("cuCtxSetCurrent", context);
    CUstream stream;
    CUdeviceptr memory;
    void *pinned;
    OK("cuStreamCreate", &stream, (unsigned)(number % 2 ? CU_STREAM_NON_BLOCKING : 0));
    OK("cuMemAlloc_v2", &memory, size);
    OK("cuMemHostAlloc", &pinned, size, 0u);
    std::vector<uint8_t> got(size);
    for (unsigned round = 0; round < 3; round++) {
        std::vector<uint8_t> bytes = pattern(number * 100 + round, size);
        OK("cuMemcpyHtoDAsync_v2", memory, (const void *)bytes.data(), size, stream);
        OK("cuMemcpyDtoHAsync_v2", pinned, memory, size, stream);
        OK("cuMemcpyDtoHAsync_v2", (void *)got.data(), memory, size, stream);
        OK("cuStreamSynchronize", stream);
        compare(__LINE__, (uint8_t *)pinned, bytes.data(), size);
        compare(__LINE__, got.data(), bytes.data(), size);
        bytes = pattern(number * 100 + round + 50, size);
        OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
        OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
        compare(__LINE__, got.data(), bytes.data(), size);
    }
    OK("cuMemFreeHost", pinned);
    OK("cuMemFree_v2", memory);
    OK("cuStreamDestroy_v2", stream);
}

static void threads(CUcontext context) {
    std::vector<std::thread> all;
    for (unsigned number = 0; number < 4; number++) all.emplace_back(one_thread, context, number);
    for (auto &thread : all) thread.join();
}

// A context that ends while a copy is on its way.
static void ended_behind() {
    const size_t size = 8 * MIB;
    for (unsigned round = 0; round < 3; round++) {
        CUcontext context;
        CUdeviceptr memory;
        void *pinned;
        OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
        OK("cuMemAlloc_v2", &memory, size);
        OK("cuMemHostAlloc", &pinned, size, 0u);
        OK("cuMemsetD8_v2", memory, (unsigned char)7, size);
        OK("cuMemcpyDtoHAsync_v2", pinned, memory, size, (CUstream) nullptr);
        OK("cuCtxDestroy_v2", context);
        OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
        OK("cuMemAlloc_v2", &memory, size);
        std::vector<uint8_t> bytes = pattern(round, size);
        OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
        OK("cuMemFree_v2", memory);
        OK("cuCtxDestroy_v2", context);
    }
}

static const char *const BREAKS = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry breaks() {
    .reg .b64 %a;
    .reg .b32 %v;
    mov.b64 %a, 8;
    mov.b32 %v, 1;
    st.global.b32 [%a], %v;
    ret;
}
)";

static int fault(bool to) {
    const size_t size = 12 * MIB;
    CUdeviceptr memory;
    CUmodule module;
    CUfunction breaks;
    OK("cuMemAlloc_v2", &memory, size);
    std::vector<uint8_t> bytes = pattern(5, size), got(size);
    OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
    OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
    compare(__LINE__, got.data(), bytes.data(), size);
    OK("cuModuleLoadData", &module, (const void *)BREAKS);
    OK("cuModuleGetFunction", &breaks, module, "breaks");
    OK("cuLaunchKernel", breaks, 1u, 1u, 1u, 1u, 1u, 1u, 0u, (CUstream) nullptr, (void **)nullptr, (void **)nullptr);
    if (to)
        GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, "cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
    else
        GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, "cuMemcpyDtoH_v2", (void *)got.data(), memory, size);
    GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, "cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size);
    return pass("fault");
}

static double microseconds(const std::function<void()> &body) {
    auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

static int time_them(size_t size, int rounds) {
    CUdeviceptr memory;
    OK("cuMemAlloc_v2", &memory, size);
    std::vector<uint8_t> bytes = pattern(5, size), got(size, 1);
    for (int round = 0; round < rounds; round++) {
        double to = microseconds([&] { OK("cuMemcpyHtoD_v2", memory, (const void *)bytes.data(), size); });
        double from = microseconds([&] { OK("cuMemcpyDtoH_v2", (void *)got.data(), memory, size); });
        std::printf("to %.0f from %.0f\n", to, from);
        std::fflush(stdout);
    }
    compare(__LINE__, got.data(), bytes.data(), size);
    OK("cuMemFree_v2", memory);
    return pass("timed");
}

int main(int count, char **arguments) {
    char *none[] = {arguments[0], nullptr};
    open_driver(1, none);
    CUcontext context;
    OK("cuInit", 0u);
    OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
    if (count > 3 && !std::strcmp(arguments[1], "time"))
        return time_them(std::strtoull(arguments[2], nullptr, 10) * MIB, std::atoi(arguments[3]));
    if (count > 1 && !std::strcmp(arguments[1], "fault")) return fault(count > 2);
    sizes_and_offsets();
    sizes_and_offsets_to();
    sources();
    in_their_order();
    held_by_a_value(context);
    overwritten_behind();
    freed_behind();
    threads(context);
    ended_behind();
    return pass("sizes, sources, streams, frees, threads, contexts");
}
