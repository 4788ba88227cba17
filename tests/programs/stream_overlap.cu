// Several streams with pinned memory and events: copy in, compute, copy out, each stream on its own slice,
// ordered across streams by events. And the rule that pinned bytes are those of the moment when the
// *stream* reaches the copy: what a stream copied out goes in again, without the host having waited.
#include "check.h"

#include <cstring>

const char *const PROGRAM = "stream_overlap";
constexpr int STREAMS = 4, SLICE = 100003, ROUNDS = 3;

__global__ void scale_and_shift(int *values, int n, int factor, int shift) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = values[i] * factor + shift;
}

__global__ void add_into(int *sum, const int *values, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] += values[i];
}

static unsigned blocks(int n) { return (n + 255) / 256; }

// Each stream works on its slice; a further stream waits for all of them by events and sums.
static void fan_in() {
    cudaStream_t streams[STREAMS], last;
    cudaEvent_t done[STREAMS], begin, end;
    int *pinned, *device, *sum, *result;
    size_t slice_bytes = SLICE * sizeof(int);
    CHECK(cudaMallocHost(&pinned, STREAMS * slice_bytes));
    CHECK(cudaMallocHost(&result, slice_bytes));
    CHECK(cudaMalloc(&device, STREAMS * slice_bytes));
    CHECK(cudaMalloc(&sum, slice_bytes));
    CHECK(cudaStreamCreateWithFlags(&last, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    for (int s = 0; s < STREAMS; s++) {
        CHECK(cudaStreamCreateWithFlags(&streams[s], cudaStreamNonBlocking));
        CHECK(cudaEventCreateWithFlags(&done[s], cudaEventDisableTiming));
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < STREAMS * SLICE; i++) pinned[i] = i % 1000 + round;
        std::memset(result, 0xFF, slice_bytes);
        CHECK(cudaEventRecord(begin, last));
        CHECK(cudaMemsetAsync(sum, 0, slice_bytes, last));
        for (int s = 0; s < STREAMS; s++) {
            int *mine = device + s * SLICE, *host = pinned + s * SLICE;
            CHECK(cudaMemcpyAsync(mine, host, slice_bytes, cudaMemcpyHostToDevice, streams[s]));
            scale_and_shift<<<blocks(SLICE), 256, 0, streams[s]>>>(mine, SLICE, s + 2, s);
            CHECK(cudaGetLastError());
            CHECK(cudaMemcpyAsync(host, mine, slice_bytes, cudaMemcpyDeviceToHost, streams[s]));
            CHECK(cudaEventRecord(done[s], streams[s]));
            CHECK(cudaStreamWaitEvent(last, done[s], 0));
            add_into<<<blocks(SLICE), 256, 0, last>>>(sum, mine, SLICE);
            CHECK(cudaGetLastError());
        }
        CHECK(cudaMemcpyAsync(result, sum, slice_bytes, cudaMemcpyDeviceToHost, last));
        CHECK(cudaEventRecord(end, last));
        // Polling must come to an end by itself, and say only these two things on the way.
        cudaError_t polled;
        while ((polled = cudaEventQuery(end)) == cudaErrorNotReady) {}
        CHECK(polled);
        CHECK(cudaStreamQuery(last));
        float elapsed_ms = -1.0f;
        CHECK(cudaEventElapsedTime(&elapsed_ms, begin, end));
        REQUIRE(elapsed_ms >= 0.0f && elapsed_ms < 60000.0f, "round %d took %g ms", round, elapsed_ms);
        for (int i = 0; i < SLICE; i++) {
            int total = 0;
            for (int s = 0; s < STREAMS; s++) {
                int expected = ((s * SLICE + i) % 1000 + round) * (s + 2) + s;
                REQUIRE(pinned[s * SLICE + i] == expected, "round %d stream %d element %d is %d, expected %d", round,
                        s, i, pinned[s * SLICE + i], expected);
                total += expected;
            }
            REQUIRE(result[i] == total, "round %d sum %d is %d, expected %d", round, i, result[i], total);
        }
    }
    for (int s = 0; s < STREAMS; s++) {
        CHECK(cudaStreamDestroy(streams[s]));
        CHECK(cudaEventDestroy(done[s]));
    }
    CHECK(cudaStreamDestroy(last));
    CHECK(cudaEventDestroy(begin));
    CHECK(cudaEventDestroy(end));
    CHECK(cudaFree(device));
    CHECK(cudaFree(sum));
    CHECK(cudaFreeHost(pinned));
    CHECK(cudaFreeHost(result));
}

// In one stream: a -> pinned -> b. When the last copy is queued, pinned still holds other bytes.
static void out_and_in_again(int n) {
    int *a, *b, *pinned, *result;
    size_t bytes = n * sizeof(int);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&a, bytes));
    CHECK(cudaMalloc(&b, bytes));
    CHECK(cudaHostAlloc(&pinned, bytes, cudaHostAllocDefault));
    CHECK(cudaMallocHost(&result, bytes));
    for (int i = 0; i < n; i++) pinned[i] = i;
    CHECK(cudaMemcpyAsync(a, pinned, bytes, cudaMemcpyHostToDevice, stream));
    for (int pass_number = 1; pass_number <= 5; pass_number++) {
        scale_and_shift<<<blocks(n), 256, 0, stream>>>(a, n, 3, 1);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(pinned, a, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaMemcpyAsync(b, pinned, bytes, cudaMemcpyHostToDevice, stream));
        scale_and_shift<<<blocks(n), 256, 0, stream>>>(b, n, 2, pass_number);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(a, b, bytes, cudaMemcpyDeviceToDevice, stream));
    }
    CHECK(cudaMemcpyAsync(result, b, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int i = 0; i < n; i++) {
        unsigned expected = i;
        for (unsigned pass_number = 1; pass_number <= 5; pass_number++) expected = (expected * 3 + 1) * 2 + pass_number;
        REQUIRE((unsigned)result[i] == expected, "n %d element %d is %d, expected %d", n, i, result[i], (int)expected);
    }
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFreeHost(pinned));
    CHECK(cudaFreeHost(result));
}

// What the host writes after the stream has passed the copy must not be what was copied.
static void host_writes_after() {
    constexpr int N = 4096;
    int *device, *pinned, back[N];
    CHECK(cudaMalloc(&device, sizeof back));
    CHECK(cudaMallocHost(&pinned, sizeof back));
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < N; i++) pinned[i] = round * N + i;
        CHECK(cudaMemcpyAsync(device, pinned, sizeof back, cudaMemcpyHostToDevice, 0));
        CHECK(cudaStreamSynchronize(0));
        std::memset(pinned, 0, sizeof back);
        CHECK(cudaMemcpy(back, device, sizeof back, cudaMemcpyDeviceToHost));
        for (int i = 0; i < N; i++) REQUIRE(back[i] == round * N + i, "round %d element %d is %d", round, i, back[i]);
    }
    CHECK(cudaFree(device));
    CHECK(cudaFreeHost(pinned));
}

int main() {
    fan_in();
    out_and_in_again(1);
    out_and_in_again(1000);
    out_and_in_again(1 << 18);
    host_writes_after();
    return pass("%d streams, %d rounds, events across streams, pinned memory out and in again", STREAMS, ROUNDS);
}
