// What programs ask about a device, printed one `field value` a line, so that a device loaded directly and
// the same device at a distance can be compared. Lines that begin with `~` may differ between runs.
#include "check.h"

const char *const PROGRAM = "device_query";

static void attribute(int device, const char *name, cudaDeviceAttr which) {
    int value = -1;
    CHECK(cudaDeviceGetAttribute(&value, which, device));
    std::printf("%s %d\n", name, value);
}
#define ATTRIBUTE(name) attribute(device, #name, cudaDevAttr##name)

static void uuid(const cudaUUID_t &id) {
    std::printf("uuid ");
    for (char byte : id.bytes) std::printf("%02x", (unsigned char)byte);
    std::printf("\n");
}

static void describe(int device) {
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, device));
    REQUIRE(p.name[0] != 0, "device %d has no name", device);
    REQUIRE(p.warpSize == 32, "warp size is %d", p.warpSize);
    REQUIRE(p.multiProcessorCount > 0, "no multiprocessors");
    REQUIRE(p.totalGlobalMem > 0, "no memory");
    std::printf("device %d\nname %s\n", device, p.name);
    uuid(p.uuid);
    std::printf("capability %d.%d\n", p.major, p.minor);
    std::printf("totalGlobalMem %zu\n", p.totalGlobalMem);
    std::printf("sharedMemPerBlock %zu\nsharedMemPerBlockOptin %zu\nsharedMemPerMultiprocessor %zu\n",
                p.sharedMemPerBlock, p.sharedMemPerBlockOptin, p.sharedMemPerMultiprocessor);
    std::printf("regsPerBlock %d\nregsPerMultiprocessor %d\n", p.regsPerBlock, p.regsPerMultiprocessor);
    std::printf("maxThreadsPerBlock %d\nmaxThreadsPerMultiProcessor %d\nmultiProcessorCount %d\n",
                p.maxThreadsPerBlock, p.maxThreadsPerMultiProcessor, p.multiProcessorCount);
    std::printf("maxThreadsDim %d %d %d\n", p.maxThreadsDim[0], p.maxThreadsDim[1], p.maxThreadsDim[2]);
    std::printf("maxGridSize %d %d %d\n", p.maxGridSize[0], p.maxGridSize[1], p.maxGridSize[2]);
    std::printf("totalConstMem %zu\nl2CacheSize %d\nmemoryBusWidth %d\nmemPitch %zu\ntextureAlignment %zu\n",
                p.totalConstMem, p.l2CacheSize, p.memoryBusWidth, p.memPitch, p.textureAlignment);
    std::printf("pci %04x:%02x:%02x\n", p.pciDomainID, p.pciBusID, p.pciDeviceID);
    std::printf("concurrentKernels %d\nasyncEngineCount %d\nunifiedAddressing %d\nECCEnabled %d\nintegrated %d\n",
                p.concurrentKernels, p.asyncEngineCount, p.unifiedAddressing, p.ECCEnabled, p.integrated);
    std::printf("canMapHostMemory %d\nmanagedMemory %d\ncooperativeLaunch %d\n", p.canMapHostMemory, p.managedMemory,
                p.cooperativeLaunch);
    ATTRIBUTE(ClockRate);
    ATTRIBUTE(MemoryClockRate);
    ATTRIBUTE(ComputeMode);
    ATTRIBUTE(ComputeCapabilityMajor);
    ATTRIBUTE(MaxBlocksPerMultiprocessor);
    ATTRIBUTE(StreamPrioritiesSupported);
    // Not true of a device at a distance, whatever it is directly.
    std::printf("~");
    ATTRIBUTE(PageableMemoryAccess);
    std::printf("~");
    ATTRIBUTE(HostNativeAtomicSupported);
    std::printf("~");
    ATTRIBUTE(ConcurrentManagedAccess);
    std::printf("~");
    ATTRIBUTE(DirectManagedMemAccessFromHost);
    char bus_id[32];
    int again = -1;
    CHECK(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device));
    CHECK(cudaDeviceGetByPCIBusId(&again, bus_id));
    REQUIRE(again == device, "bus id %s is device %d, expected %d", bus_id, again, device);
    std::printf("busId %s\n", bus_id);
}

int main() {
    int count = 0, driver = 0, runtime = 0, current = -1;
    CHECK(cudaGetDeviceCount(&count));
    REQUIRE(count > 0, "no device");
    CHECK(cudaDriverGetVersion(&driver));
    CHECK(cudaRuntimeGetVersion(&runtime));
    REQUIRE(driver / 1000 >= runtime / 1000, "driver %d is older than runtime %d", driver, runtime);
    std::printf("count %d\ndriver %d\nruntime %d\n", count, driver, runtime);
    for (int device = 0; device < count; device++) describe(device);
    CHECK(cudaGetDevice(&current));
    REQUIRE(current == 0, "the current device is %d", current);
    EXPECT(cudaSetDevice(count), cudaErrorInvalidDevice);
    CHECK(cudaSetDevice(0));
    size_t free_bytes = 0, total_bytes = 0;
    CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    REQUIRE(free_bytes <= total_bytes, "%zu bytes free of %zu", free_bytes, total_bytes);
    std::printf("~free %zu\ntotal %zu\n", free_bytes, total_bytes);
    return pass("%d device(s)", count);
}
