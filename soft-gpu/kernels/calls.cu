// Kernels of the executor's tests of calls through pointers, of the device's heap and of cooperative launches; `calls.ptx` is this file through
// nvcc 13.0.88:
//     nvcc -ptx -arch=compute_80 calls.cu -o calls.ptx
#include <cooperative_groups.h>
#include <cstdlib>
namespace cg = cooperative_groups;
typedef int (*binary_t)(int, int);
__device__ __noinline__ int plus(int a, int b) { return a + b; }
__device__ __noinline__ int minus(int a, int b) { return a - b; }
__device__ __noinline__ int times(int a, int b) { return a * b; }
__device__ int power(int a, int b);
__device__ binary_t operations[4] = {plus, minus, times, power};
__device__ __noinline__ int power(int a, int b) { return b <= 0 ? 1 : operations[2](a, power(a, b - 1)); }
// A call through a table of functions that differs from lane to lane.
extern "C" __global__ void through_table(int *out) { int t = threadIdx.x; out[t] = operations[t & 3](t, 3); }
// A pointer chosen in the kernel, and one that came as a parameter.
extern "C" __global__ void through_parameter(binary_t f, int *out) { int t = threadIdx.x; binary_t g = t % 3 ? f : times; out[t] = g(t, 5); }
extern "C" __global__ void address_of(binary_t *out) { out[0] = plus; out[1] = minus; }
struct Shape { __device__ virtual float area() const = 0; __device__ virtual ~Shape() {} float scale; };
struct Square : Shape { float side; __device__ float area() const override { return side * side * scale; } };
struct Circle : Shape { float radius; __device__ float area() const override { return 3.0f * radius * radius * scale; } };
// Virtual functions, with objects made and ended on the device.
extern "C" __global__ void virtuals(float *out) {
  int t = threadIdx.x + blockIdx.x * blockDim.x; Shape *s;
  if (t & 1) { Square *q = new Square; q->side = t; s = q; } else { Circle *c = new Circle; c->radius = t; s = c; }
  if (!s) { out[t] = -1; return; }
  s->scale = 2; out[t] = s->area(); delete s;
}
// Lists that one launch makes and the next one reads and frees.
struct Node { Node *next; int value; };
__device__ Node *heads[64];
extern "C" __global__ void make_lists(int length) {
  int t = threadIdx.x; Node *head = nullptr;
  for (int i = 0; i < length; i++) { Node *node = (Node *)malloc(sizeof(Node)); node->next = head; node->value = t * 100 + i; head = node; }
  heads[t] = head;
}
extern "C" __global__ void free_lists(int *sums) {
  int t = threadIdx.x, sum = 0;
  for (Node *node = heads[t]; node;) { Node *next = node->next; sum += node->value; free(node); node = next; }
  sums[t] = sum;
}
// How often a thread gets `size` bytes before there are none left.
extern "C" __global__ void exhaust(unsigned size, int *out) { int n = 0; void *p; while ((p = malloc(size))) { *(volatile char *)p = 1; n++; } out[threadIdx.x] = n; }
extern "C" __global__ void use_after_free(int *out) { int *p = (int *)malloc(256); *p = 5; out[0] = *p; }
extern "C" __global__ void double_free(int *out) { void *p = malloc(64); free(p); free(p); out[0] = 1; }
extern "C" __global__ void on_stack(int n, int *out) { int *p = (int *)alloca(n * sizeof(int) * (1 + threadIdx.x % 2)); for (int i = 0; i < n; i++) p[i] = i * threadIdx.x; int s = 0; for (int i = n; i--;) s += p[i]; out[threadIdx.x] = s; }
extern "C" __global__ void grid_sums(int *values, int *rounds, int n) {
  cg::grid_group grid = cg::this_grid();
  int t = grid.thread_rank(), all = grid.size();
  for (int r = 0; r < n; r++) { int next = values[(t + 1) % all]; grid.sync(); values[t] += next; grid.sync(); }
  if (t == 0) rounds[0] = grid.is_valid(), rounds[1] = grid.num_blocks();
}
extern "C" __global__ void grid_tail(int *out) {
  cg::grid_group grid = cg::this_grid(); auto token = grid.barrier_arrive(); atomicAdd(out, 1); grid.barrier_wait(std::move(token)); out[1 + grid.thread_rank()] = *(volatile int *)out;
}
