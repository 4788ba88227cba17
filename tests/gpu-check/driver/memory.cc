// Addresses and memory: hints at the windows, memory mapped at chosen addresses, what waits for the device, and speeds.
#include "report.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

// The windows that the client proposes (client-shim/src/memory/windows.rs).
static const CUdeviceptr WINDOWS[] = {0x200000000000, 0x300000000000, 0x100000000000, 0x080000000000};
static const size_t SIZES[] = {(size_t)1 << 40, (size_t)1 << 38};
static const size_t CHUNK = 2 << 20;

static std::string reserve(CUdeviceptr hint, size_t size, CUdeviceptr *got) {
    CUresult result = CU(cuMemAddressReserve, got, size, 0, hint, 0);
    if (result != CUDA_SUCCESS) return name_of(result);
    return *got == hint ? "there" : "elsewhere";
}

static void hints(const char *when) {
    for (CUdeviceptr window : WINDOWS)
        for (size_t size : SIZES) {
            CUdeviceptr got = 0;
            double started = seconds();
            std::string answer = reserve(window, size, &got);
            std::string name = std::string(when) + "." + hexadecimal(window) + "." + format("%zuGiB", size >> 30);
            if (answer == name_of(CUDA_ERROR_NOT_SUPPORTED)) {
                skip(name, answer);
                continue;
            }
            check(name, "there", answer);
            if (size == SIZES[0]) note(name, "%.2f ms, at %s", (seconds() - started) * 1e3, hexadecimal(got).c_str());
            if (got) CU(cuMemAddressFree, got, size);
        }
}

// Things that could make a driver answer otherwise.
static void odd_hints() {
    CUdeviceptr first = 0, second = 0;
    if (reserve(WINDOWS[0], SIZES[1], &first) != "there") return;
    observe("odd.where-one-is", reserve(WINDOWS[0], SIZES[1], &second));
    if (second) CU(cuMemAddressFree, second, SIZES[1]);
    CU(cuMemAddressFree, first, SIZES[1]);
    void *place = mmap((void *)WINDOWS[1], CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CUdeviceptr third = 0;
    observe("odd.where-the-process-has-pages", reserve(WINDOWS[1], SIZES[1], &third));
    if (third) CU(cuMemAddressFree, third, SIZES[1]);
    munmap(place, CHUNK);
    CUdeviceptr fourth = 0;
    observe("odd.not-aligned", reserve(WINDOWS[0] + 4096, CHUNK, &fourth));
    if (fourth) CU(cuMemAddressFree, fourth, CHUNK);
    for (int bits = 41; bits <= 47; bits++) {
        CUdeviceptr any = 0;
        CUresult result = CU(cuMemAddressReserve, &any, (size_t)1 << bits, 0, 0, 0);
        note("odd.largest", "2^%d bytes: %s at %s", bits, name_of(result).c_str(), hexadecimal(any).c_str());
        if (result != CUDA_SUCCESS) break;
        CU(cuMemAddressFree, any, (size_t)1 << bits);
    }
}

void check_windows() {
    if (!works("init", CU(cuInit, 0))) return;
    hints("before-context");
    CUdeviceptr kept[4] = {};
    for (int i = 0; i < 4; i++) reserve(WINDOWS[i], SIZES[0], &kept[i]);
    Setup setup(false);
    if (!setup.is_good) return;
    size_t left = 0, total = 0;
    CU(cuMemGetInfo, &left, &total);
    note("with-context", "%.1f MiB are not free with four windows and a context", (double)(total - left) / (1 << 20));
    bool is_outside = true;
    for (CUdeviceptr window : kept) is_outside &= setup.words < window || setup.words >= window + SIZES[0];
    check_yes("plain-memory-lies-outside", is_outside);
    for (int i = 0; i < 4; i++)
        if (kept[i]) CU(cuMemAddressFree, kept[i], SIZES[0]);
    hints("after-context");
    odd_hints();
}

static CUmemAllocationProp properties(const Setup &setup, bool is_plain) {
    CUmemAllocationProp wanted;
    std::memset(&wanted, 0, sizeof wanted);
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    wanted.location.id = setup.device;
    if (!is_plain) {
        if (setup.attribute(103) == 1) wanted.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        wanted.allocFlags.gpuDirectRDMACapable = setup.attribute(110) == 1;
    }
    return wanted;
}

static CUresult map_at(const Setup &setup, CUdeviceptr address, size_t size, CUmemGenericAllocationHandle *handle) {
    CUmemAllocationProp wanted = properties(setup, false);
    CUmemAccessDesc access = {wanted.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = CU(cuMemCreate, handle, size, &wanted, 0);
    // As the worker does: what cannot be exported is made plain.
    CUmemAllocationProp plain = properties(setup, true);
    if (result != CUDA_SUCCESS) result = CU(cuMemCreate, handle, size, &plain, 0);
    if (result == CUDA_SUCCESS) result = CU(cuMemMap, address, size, 0, *handle, 0);
    if (result == CUDA_SUCCESS) result = CU(cuMemSetAccess, address, size, &access, 1);
    return result;
}

static void use(Setup &setup, CUdeviceptr base) {
    // Two chunks side by side are one range for everything.
    const int count = 1000;
    CUdeviceptr middle = base + CHUNK - count * 2;
    check("use.fill-across", CUDA_SUCCESS, CU(cuMemsetD32, middle, 7, count));
    int amount = 1, number = count;
    check("use.kernel-across", CUDA_SUCCESS, setup.launch(setup.add, nullptr, {&middle, &number, &amount}, 8, 128));
    std::vector<int> got(count);
    check("use.copy-out-across", CUDA_SUCCESS, CU(cuMemcpyDtoH, got.data(), middle, count * 4));
    check_yes("use.values", got.front() == 13 && got.back() == 13);
    check("use.copy-in-across", CUDA_SUCCESS, CU(cuMemcpyHtoD, middle, got.data(), count * 4));
    check("use.copy-inside-across", CUDA_SUCCESS, CU(cuMemcpyDtoD, base, middle, count * 4));
    CUmemorytype kind = (CUmemorytype)0;
    observe("use.memory-type", CU(cuPointerGetAttribute, &kind, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, base + 64));
    observe("use.memory-type-is", format("%d", (int)kind));
    CUcontext context = nullptr;
    observe("use.context-attribute", CU(cuPointerGetAttribute, &context, CU_POINTER_ATTRIBUTE_CONTEXT, base));
    observe("use.free-as-plain", CU(cuMemFree, base));
}

static void misuse(const Setup &setup, CUdeviceptr base) {
    CUmemAllocationProp wanted = properties(setup, true);
    CUmemGenericAllocationHandle handle = 0;
    observe("misuse.create-64KiB", CU(cuMemCreate, &handle, 64 << 10, &wanted, 0));
    if (!works("misuse.create", CU(cuMemCreate, &handle, CHUNK, &wanted, 0))) return;
    observe("misuse.map-where-mapped", CU(cuMemMap, base, CHUNK, 0, handle, 0));
    observe("misuse.map-outside", CU(cuMemMap, 0x600000000000, CHUNK, 0, handle, 0));
    observe("misuse.unmap-part", CU(cuMemUnmap, base, 4096));
    CUmemAccessDesc access = {wanted.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    observe("misuse.access-part", CU(cuMemSetAccess, base, 4096, &access, 1));
    check("misuse.release-unmapped", CUDA_SUCCESS, CU(cuMemRelease, handle));
}

static void unmapping(Setup &setup, CUdeviceptr base, CUmemGenericAllocationHandle second) {
    CUstream stream = nullptr;
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    // Release before unmap, and an unmap while an unrelated kernel runs.
    check("unmap.release-first", CUDA_SUCCESS, CU(cuMemRelease, second));
    check("unmap.busy", CUDA_SUCCESS, setup.keep_busy(stream, 0.3));
    double started = seconds();
    check("unmap.unmap", CUDA_SUCCESS, CU(cuMemUnmap, base + CHUNK, CHUNK));
    double took = seconds() - started;
    observe("unmap.waits-for-kernels", took > 0.2 ? "yes" : "no");
    note("unmap.time-while-busy", "%.3f ms of 300", took * 1e3);
    started = seconds();
    CUmemGenericAllocationHandle handle = 0;
    check("unmap.map-while-busy", CUDA_SUCCESS, map_at(setup, base + 4 * CHUNK, CHUNK, &handle));
    note("unmap.map-time-while-busy", "%.3f ms", (seconds() - started) * 1e3);
    check("unmap.synchronize", CUDA_SUCCESS, CU(cuStreamSynchronize, stream));
    CU(cuMemUnmap, base + 4 * CHUNK, CHUNK);
    CU(cuMemRelease, handle);
    CU(cuStreamDestroy, stream);
}

static void mapping_speed(const Setup &setup, CUdeviceptr base) {
    const int count = 256;
    std::vector<CUmemGenericAllocationHandle> handles(count);
    double started = seconds();
    int made = 0;
    while (made < count && map_at(setup, base + (8 + made) * CHUNK, CHUNK, &handles[made]) == CUDA_SUCCESS) made++;
    double mapped = seconds();
    for (int i = 0; i < made; i++) {
        CU(cuMemUnmap, base + (8 + i) * CHUNK, CHUNK);
        CU(cuMemRelease, handles[i]);
    }
    note("speed.chunk", "%d chunks of 2 MiB: %.1f us to create, map and open, %.1f us to unmap and release", made,
         (mapped - started) * 1e6 / count, (seconds() - mapped) * 1e6 / count);
    CUdeviceptr plain = 0;
    started = seconds();
    for (int i = 0; i < count; i++)
        if (CU(cuMemAlloc, &plain, CHUNK) == CUDA_SUCCESS) CU(cuMemFree, plain);
    note("speed.plain", "cuMemAlloc and cuMemFree of 2 MiB: %.1f us", (seconds() - started) * 1e6 / count);
}

void check_mapping() {
    if (!works("init", CU(cuInit, 0))) return;
    CUdeviceptr base = 0;
    // As the worker does: the window first, then the context.
    CUresult reserved = CU(cuMemAddressReserve, &base, SIZES[1], 0, WINDOWS[0], 0);
    if (reserved == CUDA_ERROR_NOT_SUPPORTED) {
        skip("reserve", name_of(reserved));
        return;
    }
    if (!works("reserve", reserved)) return;
    Setup setup;
    if (!setup.is_good) return;
    CUmemAllocationProp plain = properties(setup, true), best = properties(setup, false);
    for (auto [name, wanted] : {std::pair<const char *, CUmemAllocationProp *>{"plain", &plain}, {"best", &best}}) {
        size_t least = 0, recommended = 0;
        CU(cuMemGetAllocationGranularity, &least, wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
        CU(cuMemGetAllocationGranularity, &recommended, wanted, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
        check_yes(std::string("granularity.divides-2MiB.") + name, least != 0 && CHUNK % least == 0);
        note(std::string("granularity.") + name, "%zu, recommended %zu", least, recommended);
        CUmemGenericAllocationHandle handle = 0;
        CUresult made = CU(cuMemCreate, &handle, CHUNK, wanted, 0);
        // Without the best kind there is still the plain one.
        if (wanted == &plain) check("create.plain", CUDA_SUCCESS, made);
        else observe("create.best", made);
        if (made == CUDA_SUCCESS) CU(cuMemRelease, handle);
    }
    CUmemGenericAllocationHandle first = 0, second = 0;
    if (!works("map.first", map_at(setup, base, CHUNK, &first))) return;
    if (!works("map.second", map_at(setup, base + CHUNK, CHUNK, &second))) return;
    use(setup, base);
    misuse(setup, base);
    unmapping(setup, base, second);
    mapping_speed(setup, base);
    check("unmap.first", CUDA_SUCCESS, CU(cuMemUnmap, base, CHUNK));
    check("release.first", CUDA_SUCCESS, CU(cuMemRelease, first));
    check("map.again", CUDA_SUCCESS, map_at(setup, base, CHUNK, &first));
    check("map.again-usable", CUDA_SUCCESS, CU(cuMemsetD8, base, 1, CHUNK));
}

static double speed(bool to_device, CUdeviceptr device, void *host, size_t bytes) {
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double started = seconds();
        CUresult result = to_device ? CU(cuMemcpyHtoD, device, host, bytes) : CU(cuMemcpyDtoH, host, device, bytes);
        double rate = (double)bytes / (seconds() - started) / 1e9;
        if (result != CUDA_SUCCESS) return 0;
        best = rate > best ? rate : best;
    }
    return best;
}

static void speeds() {
    const size_t bytes = 64 << 20;
    CUdeviceptr device = 0;
    if (!works("speed.memory", CU(cuMemAlloc, &device, bytes))) return;
    void *pageable = nullptr, *pinned = nullptr;
    if (posix_memalign(&pageable, 4096, bytes) != 0) return;
    std::memset(pageable, 1, bytes);
    double started = seconds();
    CUresult result = CU(cuMemHostAlloc, &pinned, bytes, 0);
    note("speed.pin", "%s, %.1f ms for 64 MiB", name_of(result).c_str(), (seconds() - started) * 1e3);
    note("speed.pageable", "%.2f GB/s in, %.2f GB/s out", speed(true, device, pageable, bytes), speed(false, device, pageable, bytes));
    if (pinned) note("speed.pinned", "%.2f GB/s in, %.2f GB/s out", speed(true, device, pinned, bytes), speed(false, device, pinned, bytes));
    started = seconds();
    result = CU(cuMemHostRegister, pageable, bytes, 0);
    observe("register", result);
    if (result == CUDA_SUCCESS) {
        note("speed.register", "%.1f ms for 64 MiB", (seconds() - started) * 1e3);
        note("speed.registered", "%.2f GB/s in, %.2f GB/s out", speed(true, device, pageable, bytes), speed(false, device, pageable, bytes));
        observe("register.again", CU(cuMemHostRegister, pageable, bytes, 0));
        check("register.end", CUDA_SUCCESS, CU(cuMemHostUnregister, pageable));
    }
    CU(cuMemFreeHost, pinned);
    free(pageable);
    CU(cuMemFree, device);
}

void check_copies() {
    Setup setup;
    if (!setup.is_good) return;
    CUstream stream = nullptr;
    CUdeviceptr other = 0;
    int *pinned = nullptr, pageable = 0;
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    CU(cuMemAlloc, &other, 4 << 20);
    CU(cuMemHostAlloc, (void **)&pinned, 4096, 0);
    *pinned = 0;
    // Each behind a kernel in its stream, or beside it: whether the kernel still runs when the call is back. What seems to have waited for a
    // short one may only have been slow, so it is asked again with a long one.
    CUresult then = CUDA_SUCCESS;
    auto behind = [&](const char *name, const char *expected, std::function<CUresult()> call) {
        std::string answer = "waits";
        for (double busy : {0.2, 1.0}) {
            if (!works(std::string(name) + ".busy", setup.keep_busy(stream, busy, 42))) return;
            double started = seconds();
            CUresult result = call();
            bool is_early = seconds() - started < busy / 2;
            then = CU(cuStreamQuery, stream);
            if (is_early && then == CUDA_ERROR_NOT_READY) answer = "returns";
            CU(cuStreamSynchronize, stream);
            if (!works(std::string(name) + ".result", result)) return;
            if (answer == "returns" || (expected && answer == expected)) break;
        }
        if (expected) check(name, expected, answer);
        else observe(name, answer);
    };
    behind("pageable-out", "waits", [&] { return CU(cuMemcpyDtoHAsync, &pageable, setup.words, 4, stream); });
    check_yes("pageable-out.is-complete", pageable == 42);
    observe("pageable-out.query-then", then);
    behind("pinned-out", "returns", [&] { return CU(cuMemcpyDtoHAsync, pinned, setup.words, 4, stream); });
    check_yes("pinned-out.complete-after-synchronize", *pinned == 42);
    behind("pinned-in", "returns", [&] { return CU(cuMemcpyHtoDAsync, other, pinned, 4, stream); });
    behind("pageable-in-4", nullptr, [&] { return CU(cuMemcpyHtoDAsync, other, &pageable, 4, stream); });
    std::vector<char> large(4 << 20);
    behind("pageable-in-4MiB", nullptr, [&] { return CU(cuMemcpyHtoDAsync, other, large.data(), large.size(), stream); });
    CUdeviceptr made = 0;
    behind("allocate", "returns", [&] { return CU(cuMemAlloc, &made, 4 << 20); });
    behind("free", "waits", [&] {
        // Nothing may be freed twice when it is asked again.
        CUdeviceptr gone = made;
        made = 0;
        if (!gone) CU(cuMemAlloc, &gone, 4 << 20);
        return CU(cuMemFree, gone);
    });
    behind("fill", "returns", [&] { return CU(cuMemsetD32Async, setup.words + 4096, 1, 16, stream); });
    // The legacy stream does not wait for a non-blocking one.
    behind("legacy-copy-out", "returns", [&] { return CU(cuMemcpyDtoH, &pageable, setup.words + 8192, 4); });
    speeds();
}
