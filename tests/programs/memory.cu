// Device memory: many sizes at once, memset of each width, copies inside the device, pitched copies, symbols,
// pageable asynchronous copies, frees behind copies, and out of memory followed by all of it coming back.
#include "check.h"

#include <cstring>
#include <vector>

const char *const PROGRAM = "memory";

__device__ int table[1000];
__constant__ int factors[16];

__global__ void multiply_table() {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < 1000) table[i] *= factors[i % 16];
}

static size_t free_bytes() {
    size_t free_now = 0, total = 0;
    CHECK(cudaMemGetInfo(&free_now, &total));
    REQUIRE(free_now <= total, "%zu bytes free of %zu", free_now, total);
    return free_now;
}

// Live side by side: each keeps its own byte, so overlaps show. Every second is freed on the way.
static void many_sizes() {
    struct Block {
        unsigned char *at;
        size_t bytes;
        unsigned char mark;
    };
    std::vector<Block> blocks;
    const size_t sizes[] = {1, 3, 255, 256, 257, 4095, 65536, 1 << 20, (2 << 20) - 1, (2 << 20) + 1, 5000000};
    for (int round = 0; round < 6; round++) {
        for (size_t bytes : sizes) {
            Block block = {nullptr, bytes, (unsigned char)(blocks.size() * 37 + 1)};
            CHECK(cudaMalloc(&block.at, bytes));
            REQUIRE((uintptr_t)block.at % 256 == 0, "%p is not aligned", (void *)block.at);
            CHECK(cudaMemset(block.at, block.mark, bytes));
            blocks.push_back(block);
        }
        for (size_t i = round; i < blocks.size(); i += 2) {
            CHECK(cudaFree(blocks[i].at));
            blocks.erase(blocks.begin() + i);
        }
    }
    for (const Block &block : blocks) {
        std::vector<unsigned char> bytes(block.bytes);
        CHECK(cudaMemcpy(bytes.data(), block.at, block.bytes, cudaMemcpyDeviceToHost));
        // The bytes are here, so what the stream did before is done.
        CHECK(cudaStreamQuery(0));
        for (size_t i = 0; i < block.bytes; i++)
            REQUIRE(bytes[i] == block.mark, "byte %zu of %zu is %d, expected %d", i, block.bytes, bytes[i], block.mark);
        CHECK(cudaFree(block.at));
    }
    CHECK(cudaFree(nullptr));
}

// Device to device, at odd offsets, and an interior pointer to the host.
static void copies() {
    constexpr size_t N = 100001;
    std::vector<unsigned char> in(N), out(N, 0);
    for (size_t i = 0; i < N; i++) in[i] = (unsigned char)(i * 7 + i / 256);
    unsigned char *a, *b;
    CHECK(cudaMalloc(&a, N));
    CHECK(cudaMalloc(&b, N));
    CHECK(cudaMemcpy(a, in.data(), N, cudaMemcpyHostToDevice));
    CHECK(cudaMemset(b, 0, N));
    CHECK(cudaMemcpy(b + 5, a + 1, N - 10, cudaMemcpyDeviceToDevice));
    CHECK(cudaMemcpy(out.data(), b + 5, N - 10, cudaMemcpyDefault));
    REQUIRE(std::memcmp(out.data(), in.data() + 1, N - 10) == 0, "device to device copy differs");
    // Pageable asynchronous copies: the source may change at once, the destination is complete on return.
    for (int round = 0; round < 20; round++) {
        std::vector<unsigned char> source(in);
        source[round] ^= 0x55;
        CHECK(cudaMemcpyAsync(a, source.data(), N, cudaMemcpyHostToDevice, 0));
        std::memset(source.data(), 0, N);
        CHECK(cudaMemcpyAsync(out.data(), a, N, cudaMemcpyDeviceToHost, 0));
        REQUIRE(out[round] == (in[round] ^ 0x55) && out[N - 1] == in[N - 1], "pageable copy, round %d", round);
    }
    CHECK(cudaMemcpy(a, nullptr, 0, cudaMemcpyHostToDevice));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
}

// Freeing waits for the device: what was on its way to pinned memory is there.
static void freed_behind_a_copy() {
    constexpr size_t N = 8 << 20;
    unsigned char *device, *pinned;
    CHECK(cudaMallocHost(&pinned, N));
    for (int round = 1; round < 20; round++) {
        CHECK(cudaMalloc(&device, N));
        CHECK(cudaMemsetAsync(device, round, N));
        CHECK(cudaMemcpyAsync(pinned, device, N, cudaMemcpyDeviceToHost));
        CHECK(cudaFree(device));
        for (size_t i = 0; i < N; i += 4095) REQUIRE(pinned[i] == round, "byte %zu is %d in round %d", i, pinned[i], round);
    }
    CHECK(cudaFreeHost(pinned));
}

static void pitched() {
    constexpr size_t WIDTH = 300, HEIGHT = 70;
    unsigned char in[HEIGHT][WIDTH], out[HEIGHT][WIDTH + 20], *device;
    size_t pitch = 0;
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH; x++) in[y][x] = (unsigned char)(x * 3 + y * 5);
    std::memset(out, 0xEE, sizeof out);
    CHECK(cudaMallocPitch(&device, &pitch, WIDTH, HEIGHT));
    REQUIRE(pitch >= WIDTH, "pitch %zu for rows of %zu", pitch, WIDTH);
    CHECK(cudaMemcpy2D(device, pitch, in, WIDTH, WIDTH, HEIGHT, cudaMemcpyHostToDevice));
    CHECK(cudaMemset2D(device + 10 * pitch, pitch, 0x11, 100, 5));
    CHECK(cudaMemcpy2D(out, WIDTH + 20, device, pitch, WIDTH, HEIGHT, cudaMemcpyDeviceToHost));
    for (size_t y = 0; y < HEIGHT; y++)
        for (size_t x = 0; x < WIDTH + 20; x++) {
            unsigned char expected = x >= WIDTH ? 0xEE : y >= 10 && y < 15 && x < 100 ? 0x11 : in[y][x];
            REQUIRE(out[y][x] == expected, "(%zu,%zu) is %02x, expected %02x", y, x, out[y][x], expected);
        }
    CHECK(cudaFree(device));
}

static void symbols() {
    int values[1000], some_factors[16];
    for (int i = 0; i < 1000; i++) values[i] = i;
    for (int i = 0; i < 16; i++) some_factors[i] = i - 8;
    CHECK(cudaMemcpyToSymbol(table, values, sizeof values));
    CHECK(cudaMemcpyToSymbol(factors, some_factors, sizeof some_factors));
    multiply_table<<<4, 256>>>();
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyFromSymbol(values, table, sizeof values));
    for (int i = 0; i < 1000; i++) REQUIRE(values[i] == i * (i % 16 - 8), "table[%d] is %d", i, values[i]);
    void *address = nullptr;
    size_t bytes = 0;
    CHECK(cudaGetSymbolAddress(&address, table));
    CHECK(cudaGetSymbolSize(&bytes, table));
    REQUIRE(address != nullptr && bytes == sizeof values, "symbol of %zu bytes", bytes);
}

// Takes memory until there is none; all of it must come back.
static void until_none() {
    size_t before = free_bytes();
    size_t chunk = before / 8;
    std::vector<void *> chunks;
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 64 && error == cudaSuccess; i++) {
        void *at = nullptr;
        error = cudaMalloc(&at, chunk);
        if (error == cudaSuccess) chunks.push_back(at);
    }
    REQUIRE(error == cudaErrorMemoryAllocation, "taking 64 eighths of the memory: %s", cudaGetErrorName(error));
    EXPECT(cudaGetLastError(), cudaErrorMemoryAllocation);
    CHECK(cudaGetLastError());
    REQUIRE(chunks.size() >= 6 && chunks.size() <= 8, "%zu eighths fitted", chunks.size());
    REQUIRE(free_bytes() < before - chunk * (chunks.size() - 1), "the memory taken is not accounted for");
    for (void *at : chunks) CHECK(cudaFree(at));
    size_t after = free_bytes();
    REQUIRE(after + (4 << 20) >= before, "%zu bytes free, %zu before", after, before);
    void *at;
    CHECK(cudaMalloc(&at, chunk));
    CHECK(cudaFree(at));
}

int main() {
    many_sizes();
    copies();
    freed_behind_a_copy();
    pitched();
    symbols();
    until_none();
    return pass("sizes, copies, pitch, symbols, out of memory and back");
}
