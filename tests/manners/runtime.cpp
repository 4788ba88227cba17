// The CUDA runtime, linked statically, at the same ends and in children: what most programs use.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <cuda_runtime_api.h>
#include <sys/wait.h>
#include <unistd.h>

static std::string CASE;

static void expect(int line, cudaError_t got, cudaError_t expected) {
    if (got == expected) return;
    std::printf("FAIL %s: line %d: %s\n", CASE.c_str(), line, cudaGetErrorName(got));
    std::fflush(stdout);
    _exit(1);
}
#define CHECK(call) expect(__LINE__, call, cudaSuccess)

// A copy there and back.
static void work() {
    int numbers[1000], got[1000] = {};
    for (int i = 0; i < 1000; i++) numbers[i] = i * 3;
    void *memory;
    CHECK(cudaMalloc(&memory, sizeof numbers));
    CHECK(cudaMemcpy(memory, numbers, sizeof numbers, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(got, memory, sizeof numbers, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(memory));
    for (int i = 0; i < 1000; i++)
        if (got[i] != numbers[i]) expect(__LINE__, cudaErrorUnknown, cudaSuccess);
}

// Frees its memory when it is destroyed. The runtime may be unloading then; that is its own answer, and the only other one.
struct Holder {
    void *memory = nullptr;
    cudaStream_t stream = nullptr;
    void fill() {
        CHECK(cudaMalloc(&memory, 1 << 20));
        CHECK(cudaStreamCreate(&stream));
        work();
    }
    ~Holder() {
        if (!memory) return;
        for (cudaError_t got : {cudaFree(memory), cudaStreamDestroy(stream)})
            if (got != cudaErrorCudartUnloading) expect(__LINE__, got, cudaSuccess);
    }
};

static Holder of_program;

int main(int count, char **arguments) {
    CASE = count > 1 ? arguments[1] : "";
    if (CASE == "destructors") {
        of_program.fill();
        static Holder late;
        late.fill();
        std::thread([] {
            thread_local Holder of_thread;
            of_thread.fill();
        }).join();
        atexit(work);
    } else if (CASE == "reset") {
        of_program.memory = nullptr;
        work();
        atexit([] { CHECK(cudaDeviceReset()); });
    } else if (CASE == "fork") {
        work();
        pid_t child = fork();
        if (child == 0) {
            void *memory;
            expect(__LINE__, cudaMalloc(&memory, 100), cudaErrorInitializationError);
            exit(0);
        }
        work();
        int status;
        if (waitpid(child, &status, 0) != child || status != 0) expect(__LINE__, cudaErrorUnknown, cudaSuccess);
        work();
    } else {
        return 2;
    }
    std::printf("PASS %s\n", CASE.c_str());
    return 0;
}
