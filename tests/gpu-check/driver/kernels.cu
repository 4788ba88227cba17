// The kernels of the driver checks: compiled to PTX, to machine code of each architecture, and to a fatbin of all.
// What the checks know of them stands with their use.

extern "C" {

__device__ int offset = 5;

__global__ void add(int *values, int count, int amount) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) values[index] += amount + offset;
}

// Stays on the device for so many nanoseconds, then stores.
__global__ void wait_then_store(int *place, int value, unsigned long long nanoseconds) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
    *place = value;
}

struct Odd {
    char bytes[5];
};
struct Wide {
    double values[3];
};

// Parameters at offsets 0, 4, 8, 16, 24, 48 of sizes 1, 4, 5, 8, 24, 2.
__global__ void layout(char a, int b, Odd c, double *out, Wide d, short e) {
    *out = a + b + c.bytes[4] + d.values[0] + d.values[1] + d.values[2] + e;
}

__global__ void nothing() {}

__global__ void store_at(int *place, int value) { *place = value; }

__global__ void trap_here() { asm volatile("trap;"); }
}
