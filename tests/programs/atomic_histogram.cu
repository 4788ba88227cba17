// A histogram by shared-memory atomics, merged by global ones; and compare-and-swap, exchange, and bit
// atomics under contention.
#include "check.h"

#include <cstring>
#include <vector>

const char *const PROGRAM = "atomic_histogram";
constexpr int BINS = 256;

__global__ void histogram(const unsigned char *bytes, size_t n, unsigned *bins) {
    __shared__ unsigned local[BINS];
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) local[i] = 0;
    __syncthreads();
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        atomicAdd(&local[bytes[i]], 1u);
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) atomicAdd(&bins[i], local[i]);
}

struct Shared {
    unsigned cas_count, ors, ands, xors, least, wrapped;
    int down;
    unsigned last;
};

__global__ void contend(Shared *shared) {
    unsigned id = blockIdx.x * blockDim.x + threadIdx.x;
    // An increment made of compare-and-swap: every thread must win once.
    unsigned seen = shared->cas_count, assumed;
    do {
        assumed = seen;
        seen = atomicCAS(&shared->cas_count, assumed, assumed + 1);
    } while (seen != assumed);
    atomicOr(&shared->ors, 1u << (id % 32));
    atomicAnd(&shared->ands, ~(1u << (id % 16)));
    atomicXor(&shared->xors, id);
    atomicMin(&shared->least, id + 10);
    atomicInc(&shared->wrapped, 9);
    atomicSub(&shared->down, 2);
    atomicExch(&shared->last, id);
}

static void run(size_t n, unsigned blocks, unsigned threads) {
    std::vector<unsigned char> bytes(n);
    Random random((uint32_t)n);
    unsigned expected[BINS] = {}, got[BINS];
    // Half of them in one bin, for contention.
    for (unsigned char &x : bytes) {
        unsigned value = random.next();
        x = value & 1 ? 42 : value >> 16;
        expected[x]++;
    }
    unsigned char *db;
    unsigned *dh;
    CHECK(cudaMalloc(&db, n));
    CHECK(cudaMalloc(&dh, sizeof got));
    CHECK(cudaMemcpy(db, bytes.data(), n, cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dh, 0, sizeof got));
    histogram<<<blocks, threads>>>(db, n, dh);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(got, dh, sizeof got, cudaMemcpyDeviceToHost));
    for (int i = 0; i < BINS; i++)
        REQUIRE(got[i] == expected[i], "n %zu: bin %d is %u, expected %u", n, i, got[i], expected[i]);
    CHECK(cudaFree(db));
    CHECK(cudaFree(dh));
}

static void check_contention() {
    constexpr unsigned BLOCKS = 13, THREADS = 96, ALL = BLOCKS * THREADS;
    Shared start = {0, 0, 0xFFFFFFFFu, 0, 0xFFFFFFFFu, 0, 0, 0xFFFFFFFFu}, got, *device;
    CHECK(cudaMalloc(&device, sizeof start));
    CHECK(cudaMemcpy(device, &start, sizeof start, cudaMemcpyHostToDevice));
    contend<<<BLOCKS, THREADS>>>(device);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&got, device, sizeof got, cudaMemcpyDeviceToHost));
    unsigned xors = 0;
    for (unsigned id = 0; id < ALL; id++) xors ^= id;
    REQUIRE(got.cas_count == ALL, "compare-and-swap counted %u of %u", got.cas_count, ALL);
    REQUIRE(got.ors == 0xFFFFFFFFu, "or: %08x", got.ors);
    REQUIRE(got.ands == 0xFFFF0000u, "and: %08x", got.ands);
    REQUIRE(got.xors == xors, "xor: %08x, expected %08x", got.xors, xors);
    REQUIRE(got.least == 10, "min: %u", got.least);
    REQUIRE(got.wrapped == ALL % 10, "inc: %u, expected %u", got.wrapped, ALL % 10);
    REQUIRE(got.down == -2 * (int)ALL, "sub: %d", got.down);
    REQUIRE(got.last < ALL, "exchange: %u", got.last);
    CHECK(cudaFree(device));
}

int main() {
    run(1, 1, 32);
    run(1001, 2, 100);
    run((1 << 21) + 3, 40, 256);
    check_contention();
    return pass("3 histograms of up to %d bytes, 8 atomics under contention", (1 << 21) + 3);
}
