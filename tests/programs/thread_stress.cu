// Many host threads, each doing a seeded mix of everything that one thread can ask of a device, over buffers of its own and over a few that
// all share: allocations, frees, copies of every kind, fills, launches, events, streams. Whatever the timing, what the memory
// holds in the end is the same: a thread orders its own work by streams and events, and what is shared is only added to.
//   thread_stress [THREADS [STEPS [SEED [FILE]]]]   default 32 40 1; the final memory is written to FILE
#include "check.h"

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

const char *const PROGRAM = "thread_stress";
constexpr int SLOTS = 4, STREAMS = 3, SHARED = 3, SHARED_WORDS = 512;
constexpr unsigned MOST_WORDS = 4096, LARGE_WORDS = 600000;

__global__ void mix(unsigned *values, unsigned n, unsigned key) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = (values[i] ^ key) * 2654435761u + i;
}

__global__ void add_to_shared(unsigned *shared, const unsigned *values, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(shared + i % SHARED_WORDS, values[i]);
}

struct Slot {
    unsigned *device = nullptr;
    unsigned words = 0;
    // Where its last work is, and an event behind it.
    int stream = 0;
    cudaEvent_t last = nullptr;
};

class Worker {
    Random random;
    unsigned **shared;
    Slot slots[SLOTS];
    cudaStream_t streams[STREAMS];
    unsigned *pinned;
    cudaEvent_t pinned_is_free;

    unsigned below(unsigned most) { return random.next() % most; }

    void open_stream(int index) {
        if (below(4) == 0) CHECK(cudaStreamCreateWithPriority(&streams[index], cudaStreamNonBlocking, -1));
        else CHECK(cudaStreamCreateWithFlags(&streams[index], below(2) ? cudaStreamNonBlocking : cudaStreamDefault));
    }

    void open(Slot &slot) {
        slot.words = below(12) == 0 ? LARGE_WORDS : 1 + below(MOST_WORDS);
        CHECK(cudaMalloc(&slot.device, slot.words * sizeof(unsigned)));
        slot.stream = below(STREAMS);
        CHECK(cudaMemsetAsync(slot.device, below(256), slot.words * sizeof(unsigned), streams[slot.stream]));
        behind(slot);
    }

    // From now on the slot's work is in this stream, behind what there is.
    cudaStream_t enter(Slot &slot, int stream) {
        if (stream != slot.stream) CHECK(cudaStreamWaitEvent(streams[stream], slot.last, 0));
        slot.stream = stream;
        return streams[stream];
    }

    void behind(Slot &slot) { CHECK(cudaEventRecord(slot.last, streams[slot.stream])); }

    void launch(Slot &slot) {
        cudaStream_t stream = enter(slot, below(STREAMS));
        for (unsigned times = 1 + below(6); times > 0; times--) {
            mix<<<(slot.words + 127) / 128, 128, 0, stream>>>(slot.device, slot.words, random.next());
            CHECK(cudaGetLastError());
        }
        behind(slot);
    }

    void add(Slot &slot) {
        cudaStream_t stream = enter(slot, below(STREAMS));
        unsigned words = slot.words < MOST_WORDS ? slot.words : MOST_WORDS;
        add_to_shared<<<(words + 255) / 256, 256, 0, stream>>>(shared[below(SHARED)], slot.device, words);
        CHECK(cudaGetLastError());
        behind(slot);
    }

    void copy_in(Slot &slot) {
        cudaStream_t stream = enter(slot, below(STREAMS));
        unsigned words = slot.words < MOST_WORDS ? slot.words : MOST_WORDS, first = random.next();
        if (below(2)) {
            CHECK(cudaEventSynchronize(pinned_is_free));
            for (unsigned i = 0; i < words; i++) pinned[i] = first + i * i;
            CHECK(cudaMemcpyAsync(slot.device, pinned, words * sizeof(unsigned), cudaMemcpyHostToDevice, stream));
            CHECK(cudaEventRecord(pinned_is_free, stream));
        } else {
            std::vector<unsigned> values(words);
            for (unsigned i = 0; i < words; i++) values[i] = first - i;
            CHECK(cudaMemcpyAsync(slot.device, values.data(), words * sizeof(unsigned), cudaMemcpyHostToDevice, stream));
            // The device may still have to take the bytes.
            CHECK(cudaStreamSynchronize(stream));
        }
        behind(slot);
    }

    void copy_within(Slot &to, Slot &from) {
        if (&to == &from) return;
        int index = below(STREAMS);
        cudaStream_t stream = enter(to, index);
        enter(from, index);
        unsigned words = to.words < from.words ? to.words : from.words;
        CHECK(cudaMemcpyAsync(to.device, from.device, words * sizeof(unsigned), cudaMemcpyDeviceToDevice, stream));
        behind(to);
        behind(from);
    }

    // What comes out goes in again, changed.
    void round_trip(Slot &slot) {
        cudaStream_t stream = enter(slot, below(STREAMS));
        unsigned words = slot.words < MOST_WORDS ? slot.words : MOST_WORDS;
        CHECK(cudaEventSynchronize(pinned_is_free));
        CHECK(cudaMemcpyAsync(pinned, slot.device, words * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (unsigned i = 0; i < words; i++) pinned[i] = pinned[i] * 31 + i;
        CHECK(cudaMemcpyAsync(slot.device, pinned, words * sizeof(unsigned), cudaMemcpyHostToDevice, stream));
        CHECK(cudaEventRecord(pinned_is_free, stream));
        behind(slot);
    }

    void fill(Slot &slot) {
        cudaStream_t stream = enter(slot, below(STREAMS));
        unsigned from = below(slot.words);
        CHECK(cudaMemsetAsync(slot.device + from, below(256), (slot.words - from) * sizeof(unsigned), stream));
        behind(slot);
    }

    void renew(Slot &slot) {
        CHECK(cudaFree(slot.device));
        open(slot);
    }

    void renew_stream() {
        int index = below(STREAMS);
        // What was put into it still runs, and the events behind it stand for it.
        CHECK(cudaStreamDestroy(streams[index]));
        open_stream(index);
        for (Slot &slot : slots)
            if (slot.stream == index) CHECK(cudaStreamWaitEvent(streams[index], slot.last, 0));
    }

    void look(Slot &slot) {
        cudaError_t ready = cudaEventQuery(slot.last);
        if (ready != cudaErrorNotReady) CHECK(ready);
        ready = cudaStreamQuery(streams[below(STREAMS)]);
        if (ready != cudaErrorNotReady) CHECK(ready);
        // Being not ready is no error that stays.
        (void)cudaGetLastError();
    }

  public:
    Worker(unsigned seed, unsigned **shared) : random(seed), shared(shared) {}

    void run(int steps, std::vector<unsigned> &result) {
        CHECK(cudaSetDevice(0));
        CHECK(cudaMallocHost(&pinned, MOST_WORDS * sizeof(unsigned)));
        CHECK(cudaEventCreateWithFlags(&pinned_is_free, cudaEventDisableTiming));
        for (int index = 0; index < STREAMS; index++) open_stream(index);
        for (Slot &slot : slots) {
            CHECK(cudaEventCreateWithFlags(&slot.last, below(2) ? cudaEventDisableTiming : cudaEventDefault));
            open(slot);
        }
        for (int step = 0; step < steps; step++) {
            Slot &slot = slots[below(SLOTS)];
            switch (below(12)) {
            case 0: case 1: case 2: launch(slot); break;
            case 3: case 4: add(slot); break;
            case 5: case 6: copy_in(slot); break;
            case 7: copy_within(slot, slots[below(SLOTS)]); break;
            case 8: round_trip(slot); break;
            case 9: fill(slot); break;
            case 10: if (below(2)) renew(slot); else renew_stream(); break;
            default: look(slot);
            }
        }
        for (Slot &slot : slots) {
            CHECK(cudaEventSynchronize(slot.last));
            size_t before = result.size();
            result.resize(before + slot.words);
            CHECK(cudaMemcpy(&result[before], slot.device, slot.words * sizeof(unsigned), cudaMemcpyDeviceToHost));
            CHECK(cudaFree(slot.device));
            CHECK(cudaEventDestroy(slot.last));
        }
        for (cudaStream_t stream : streams) CHECK(cudaStreamDestroy(stream));
        CHECK(cudaEventDestroy(pinned_is_free));
        CHECK(cudaFreeHost(pinned));
    }
};

int main(int count, char **arguments) {
    int threads = count > 1 ? std::atoi(arguments[1]) : 32, steps = count > 2 ? std::atoi(arguments[2]) : 40;
    unsigned seed = count > 3 ? std::atoi(arguments[3]) : 1;
    unsigned *shared[SHARED];
    for (unsigned *&words : shared) {
        CHECK(cudaMalloc(&words, SHARED_WORDS * sizeof(unsigned)));
        CHECK(cudaMemset(words, 0, SHARED_WORDS * sizeof(unsigned)));
    }
    CHECK(cudaDeviceSynchronize());
    std::vector<std::vector<unsigned>> results(threads + 1);
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; thread++)
        running.emplace_back([&, thread] { Worker(seed * 1000 + thread, shared).run(steps, results[thread]); });
    for (std::thread &thread : running) thread.join();
    CHECK(cudaDeviceSynchronize());
    for (unsigned *words : shared) {
        size_t before = results[threads].size();
        results[threads].resize(before + SHARED_WORDS);
        CHECK(cudaMemcpy(&results[threads][before], words, SHARED_WORDS * sizeof(unsigned), cudaMemcpyDeviceToHost));
        CHECK(cudaFree(words));
    }
    std::FILE *file = count > 4 ? std::fopen(arguments[4], "wb") : nullptr;
    REQUIRE(count <= 4 || file, "cannot write %s", arguments[4]);
    size_t words = 0;
    for (const std::vector<unsigned> &result : results) {
        words += result.size();
        if (file) REQUIRE(std::fwrite(result.data(), 4, result.size(), file) == result.size(), "cannot write the memory");
    }
    REQUIRE(!file || std::fclose(file) == 0, "cannot write the memory");
    return pass("%d threads, %d steps each, seed %u, %zu words", threads, steps, seed, words);
}
