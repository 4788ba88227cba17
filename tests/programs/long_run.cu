// Runs for the seconds given (default 10), a small checked kernel and one line an iteration: the program
// that is killed, or whose server is. Any error ends it, with the error's name.
//   long_run [SECONDS] [MIB] [back|forth]   MIB: device memory to hold meanwhile; back: all of it is copied to the host and looked at in each iteration; forth: all of
//                                           it is copied there
#include "check.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

const char *const PROGRAM = "long_run";

__global__ void count_up(unsigned *counters) { counters[threadIdx.x] += threadIdx.x + 1; }

int main(int count, char **arguments) {
    double seconds = count > 1 ? std::atof(arguments[1]) : 10.0;
    size_t held_bytes = (count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 16) << 20;
    bool copies_back = count > 3 && std::strcmp(arguments[3], "back") == 0;
    bool copies_forth = count > 3 && std::strcmp(arguments[3], "forth") == 0;
    std::vector<unsigned char> back(copies_back || copies_forth ? held_bytes : 0);
    void *held;
    unsigned *counters, got[64];
    CHECK(cudaMalloc(&held, held_bytes));
    CHECK(cudaMemset(held, 1, held_bytes));
    CHECK(cudaMalloc(&counters, sizeof got));
    CHECK(cudaMemset(counters, 0, sizeof got));
    auto start = std::chrono::steady_clock::now();
    unsigned iteration = 0;
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
        count_up<<<1, 64>>>(counters);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpy(got, counters, sizeof got, cudaMemcpyDeviceToHost));
        iteration++;
        for (unsigned i = 0; i < 64; i++)
            REQUIRE(got[i] == iteration * (i + 1), "iteration %u: counter %u is %u", iteration, i, got[i]);
        if (copies_back) {
            unsigned char wanted = iteration & 0xFF;
            CHECK(cudaMemset(held, wanted, held_bytes));
            CHECK(cudaMemcpy(back.data(), held, held_bytes, cudaMemcpyDeviceToHost));
            for (size_t i = 0; i < held_bytes; i++)
                REQUIRE(back[i] == wanted, "iteration %u: byte %zu is %u", iteration, i, back[i]);
        }
        if (copies_forth) {
            std::fill(back.begin(), back.end(), iteration & 0xFF);
            CHECK(cudaMemcpy(held, back.data(), held_bytes, cudaMemcpyHostToDevice));
            // A sample: the other direction is another's to try.
            unsigned char ends[2][4096];
            CHECK(cudaMemcpy(ends[0], held, sizeof ends[0], cudaMemcpyDeviceToHost));
            CHECK(cudaMemcpy(ends[1], (char *)held + held_bytes - sizeof ends[1], sizeof ends[1], cudaMemcpyDeviceToHost));
            for (size_t i = 0; i < sizeof ends[0]; i++)
                REQUIRE(ends[0][i] == back[0] && ends[1][i] == back[0], "iteration %u: byte %zu is not there", iteration, i);
        }
        std::printf("iteration %u\n", iteration);
        std::fflush(stdout);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    CHECK(cudaFree(held));
    CHECK(cudaFree(counters));
    return pass("%u iterations", iteration);
}
