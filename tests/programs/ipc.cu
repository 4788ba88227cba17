// Memory of one process used in another, by the runtime: the first exports a handle and starts itself as the second, which opens it, computes in it with
// a kernel, and closes it.
#include <cstring>
#include <string>
#include <vector>

#include <spawn.h>
#include <sys/wait.h>

#include "check.h"

extern char **environ;

const char *const PROGRAM = "ipc";

static const int COUNT = 100000;

__global__ void scale(int *values, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = values[i] * 2 + 1;
}

static int second(const char *letters) {
    cudaIpcMemHandle_t handle;
    for (size_t i = 0; i < sizeof handle.reserved; i++) {
        unsigned byte = 0;
        REQUIRE(std::sscanf(letters + 2 * i, "%2x", &byte) == 1, "no handle");
        handle.reserved[i] = (char)byte;
    }
    int *values = nullptr;
    CHECK(cudaIpcOpenMemHandle((void **)&values, handle, cudaIpcMemLazyEnablePeerAccess));
    scale<<<(COUNT + 255) / 256, 256>>>(values, COUNT);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaIpcCloseMemHandle(values));
    return 0;
}

int main(int count, char **arguments) {
    if (count > 1) return second(arguments[1]);
    int *values = nullptr;
    std::vector<int> host(COUNT), back(COUNT);
    for (int i = 0; i < COUNT; i++) host[i] = i * 3;
    CHECK(cudaMalloc(&values, COUNT * sizeof(int)));
    CHECK(cudaMemcpy(values, host.data(), COUNT * sizeof(int), cudaMemcpyHostToDevice));
    cudaIpcMemHandle_t handle;
    CHECK(cudaIpcGetMemHandle(&handle, values));
    std::string letters;
    char two[3];
    for (unsigned char byte : handle.reserved) {
        std::snprintf(two, sizeof two, "%02x", byte);
        letters += two;
    }
    char *given[] = {arguments[0], &letters[0], nullptr};
    pid_t process;
    int status = 0;
    REQUIRE(posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, given, environ) == 0, "no second process");
    REQUIRE(waitpid(process, &status, 0) == process && status == 0, "the second process: status %d", status);
    CHECK(cudaMemcpy(back.data(), values, COUNT * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < COUNT; i++) REQUIRE(back[i] == host[i] * 2 + 1, "[%d]: %d", i, back[i]);
    CHECK(cudaFree(values));
    return pass("%d values", COUNT);
}
