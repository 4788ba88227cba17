// What the toolkit's headers make of: functions of single and double precision, half, bfloat16 and pairs of them, integers, video,
// atomics of every type and scope, cooperative groups, barriers and pipelines of libcu++, tensor cores. Against the same by the host.
#include "check.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

const char *const PROGRAM = "intrinsics";
namespace cg = cooperative_groups;
using bf16 = __nv_bfloat16;

static int checks = 0;
static int architecture = 0;

__global__ void which_architecture(int *out) {
#ifdef __CUDA_ARCH__
    *out = __CUDA_ARCH__;
#endif
}

// Device memory with the host's copy of it.
template <class T> struct Buffer {
    std::vector<T> host;
    T *device;
    explicit Buffer(size_t n) : host(n) {
        CHECK(cudaMalloc(&device, n * sizeof(T)));
        CHECK(cudaMemset(device, 0, n * sizeof(T)));
    }
    ~Buffer() { cudaFree(device); }
    T *up() {
        CHECK(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
        return device;
    }
    std::vector<T> &down() {
        CHECK(cudaMemcpy(host.data(), device, host.size() * sizeof(T), cudaMemcpyDeviceToHost));
        return host;
    }
};

static bool near(double got, double want, double relative) {
    if (std::isnan(want) || std::isinf(want)) return std::isnan(want) ? std::isnan(got) : got == want;
    return std::fabs(got - want) <= relative * std::fabs(want) + relative * 1e-3;
}

// Numbers of everyday size, of both signs, in an order that `step` tells.
template <class T> std::vector<T> values(int step = 3) {
    std::vector<T> made;
    for (int i = 0; i < 300; i++) made.push_back((T)(((i * step * 37) % 601 - 300) / 16.0f + 0.03125f));
    return made;
}

// The same expression on device and host.
template <class F, class T, class R> __global__ void apply(const T *a, const T *b, R *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = F::of(a[i], b[i]);
}

template <class T> double number(T value) { return (double)value; }
template <> double number(__half value) { return (double)__half2float(value); }
template <> double number(bf16 value) { return (double)__bfloat162float(value); }

template <class F, class T> void function(const char *name, const std::vector<T> &a, const std::vector<T> &b, double relative) {
    using R = decltype(F::of(T(), T()));
    int n = (int)a.size();
    Buffer<T> left(n), right(n);
    Buffer<R> out(n);
    left.host = a, right.host = b;
    apply<F, T, R><<<(n + 127) / 128, 128>>>(left.up(), right.up(), out.device, n);
    CHECK(cudaDeviceSynchronize());
    out.down();
    for (int i = 0; i < n; i++) {
        double got = number(out.host[i]), want = number(F::of(a[i], b[i]));
        REQUIRE(near(got, want, relative), "%s of %g, %g is %.17g, not %.17g", name, number(a[i]), number(b[i]), got, want);
    }
    checks++;
}

// Expressions that are compared, each in a type of its own: a kernel's type has to be known outside of functions.
static std::vector<void (*)()> functions;
struct Registration {
    explicit Registration(void (*check)()) { functions.push_back(check); }
};
#define JOINED(a, b) a##b
#define FUNCTION(label, T, expression, relative) FUNCTION_NUMBERED(__COUNTER__, label, T, expression, relative)
#define FUNCTION_NUMBERED(count, label, T, expression, relative) FUNCTION_NAMED(JOINED(F, count), JOINED(R, count), label, T, expression, relative)
#define FUNCTION_NAMED(F, R, label, T, expression, relative)                             \
    struct F {                                                                           \
        static __host__ __device__ auto of(T a, T b) { return (void)b, expression; }     \
    };                                                                                   \
    static Registration R([] { function<F, T>(label, values<T>(), values<T>(7), relative); });
#define MATHS(T, suffix, relative)                                                                                   \
    FUNCTION("sin", T, sin##suffix(a), relative)                                                                     \
    FUNCTION("cos", T, cos##suffix(a * 1000), relative * 1000)                                                       \
    FUNCTION("tan", T, tan##suffix(a), relative)                                                                     \
    FUNCTION("asin", T, asin##suffix(a / 100), relative)                                                             \
    FUNCTION("acos", T, acos##suffix(a / 100), relative)                                                             \
    FUNCTION("atan2", T, atan2##suffix(a, b), relative)                                                              \
    FUNCTION("sinh", T, sinh##suffix(a / 10), relative)                                                              \
    FUNCTION("tanh", T, tanh##suffix(a), relative)                                                                   \
    FUNCTION("exp", T, exp##suffix(a), relative)                                                                     \
    FUNCTION("exp2", T, exp2##suffix(a), relative)                                                                   \
    FUNCTION("expm1", T, expm1##suffix(a), relative)                                                                 \
    FUNCTION("log", T, log##suffix(a), relative)                                                                     \
    FUNCTION("log1p", T, log1p##suffix(a * a), relative)                                                             \
    FUNCTION("log2", T, log2##suffix(a * a), relative)                                                               \
    FUNCTION("pow", T, pow##suffix(a * a + 1, b / 10), relative * 10)                                                \
    FUNCTION("cbrt", T, cbrt##suffix(a), relative)                                                                   \
    FUNCTION("hypot", T, hypot##suffix(a, b), relative)                                                              \
    FUNCTION("erf", T, erf##suffix(a), relative)                                                                     \
    FUNCTION("erfc", T, erfc##suffix(a / 10), relative * 10)                                                         \
    FUNCTION("tgamma", T, tgamma##suffix(a * a / 100 + 1), relative * 100)                                           \
    FUNCTION("lgamma", T, lgamma##suffix(a * a + 2), relative * 10)                                                  \
    FUNCTION("j0", T, j0##suffix(a), relative * 1000)                                                                \
    FUNCTION("fmod", T, fmod##suffix(a, b), relative)                                                                \
    FUNCTION("remainder", T, remainder##suffix(a, b), relative)                                                      \
    FUNCTION("fma", T, fma##suffix(a, b, a), relative)                                                               \
    FUNCTION("sqrt", T, sqrt##suffix(a), 0)                                                                          \
    FUNCTION("quotient", T, a / b, 0)                                                                                \
    FUNCTION("rint", T, rint##suffix(a), 0)                                                                          \
    FUNCTION("round", T, round##suffix(a), 0)                                                                        \
    FUNCTION("trunc", T, trunc##suffix(a), 0)                                                                        \
    FUNCTION("ldexp", T, ldexp##suffix(a, (int)b % 8), 0)                                                            \
    FUNCTION("nextafter", T, nextafter##suffix(a, b), 0)                                                             \
    FUNCTION("fdim", T, fdim##suffix(a, b), 0)                                                                       \
    FUNCTION("copysign", T, copysign##suffix(a, b), 0)                                                               \
    FUNCTION("ilogb", T, ilogb##suffix(a + 1000), 0)                                                                 \
    FUNCTION("llrint", T, (long long)llrint##suffix(a * 1000), 0)

MATHS(float, f, 4e-6)
MATHS(double, , 1e-14)

// The host has no fused product of these; by way of singles it is rounded twice.
static __host__ __device__ __half fused(__half a, __half b, __half c) {
#ifdef __CUDA_ARCH__
    return __hfma(a, b, c);
#else
    return __float2half(fmaf(__half2float(a), __half2float(b), __half2float(c)));
#endif
}
static __host__ __device__ bf16 fused(bf16 a, bf16 b, bf16 c) {
#if __CUDA_ARCH__ >= 800
    return __hfma(a, b, c);
#else
    return __float2bfloat16(fmaf(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
#endif
}

#define HALF(T, prefix, relative)                                                \
    FUNCTION(#T " add", T, __hadd(a, b), relative)                               \
    FUNCTION(#T " sub", T, __hsub(a, b), relative)                               \
    FUNCTION(#T " mul", T, __hmul(a, b), relative)                               \
    FUNCTION(#T " fma", T, fused(a, b, a), 1e-2)                                 \
    FUNCTION(#T " div", T, __hdiv(a, b), relative)                               \
    FUNCTION(#T " max", T, __hmax(a, b), relative)                               \
    FUNCTION(#T " min", T, __hmin(a, b), relative)                               \
    FUNCTION(#T " neg", T, __hneg(a), relative)                                  \
    FUNCTION(#T " abs", T, __habs(a), relative)                                  \
    FUNCTION(#T " less", T, (int)__hlt(a, b), 0)                                 \
    FUNCTION(#T " unequal", T, (int)__hne(a, b), 0)                              \
    FUNCTION(#T " to int", T, prefix##2int_rz(a), 0)
HALF(__half, __half, 0)
// Without instructions of its own, before 8.0, bfloat16 is rounded once more.
HALF(bf16, __bfloat16, architecture < 800 ? 1e-2 : 0)

FUNCTION("quotient", long long, a * 1000003 / (b | 1), 0)
FUNCTION("rest", unsigned long long, a * 1000003 % (b | 1), 0)
FUNCTION("quotient of 128 bits", long long, (long long)(((__int128)a * 0x123456789abcdefll * b) / ((__int128)a * 77 | 1)), 0)
FUNCTION("short", short, (short)(a * b + (a >> 2)), 0)
FUNCTION("byte", signed char, (signed char)(a * b - (b << 1)), 0)

// What has no twin on the host: one value for each thread, told by a formula.
__global__ void single_instructions(unsigned *out) {
    unsigned t = threadIdx.x, x = t * 0x9e3779b9u, y = ~x * 77u;
    unsigned *mine = out + t * 24;
    mine[0] = __brev(x), mine[1] = __clz(x), mine[2] = __ffs(x), mine[3] = __popc(x);
    mine[4] = __byte_perm(x, y, 0x5140), mine[5] = __funnelshift_l(x, y, t), mine[6] = __funnelshift_rc(x, y, t);
    mine[7] = __umulhi(x, y), mine[8] = (unsigned)__mulhi((int)x, (int)y), mine[9] = (unsigned)(__umul64hi(~0ull / (t + 1), x) >> 7);
    mine[10] = __usad(x, y, t), mine[11] = __uhadd(x, y), mine[12] = __urhadd(x, y), mine[13] = __umul24(x, y);
    mine[14] = __dp4a(x, y, t), mine[15] = __vadd4(x, y), mine[16] = __vabsdiffu4(x, y), mine[17] = __vmaxu2(x, y);
    mine[18] = __vcmpgtu4(x, y), mine[19] = __vavgu4(x, y), mine[20] = __vsubus2(x, y), mine[21] = (unsigned)__sad((int)x, (int)y, t);
    mine[22] = __float_as_uint(__fadd_rz((float)x, 0.7f)), mine[23] = (unsigned)__double2ll_ru((double)x / 3);
}

static unsigned by_bytes(unsigned x, unsigned y, std::function<unsigned(unsigned, unsigned)> join) {
    unsigned result = 0;
    for (int i = 0; i < 32; i += 8) result |= (join(x >> i & 255, y >> i & 255) & 255) << i;
    return result;
}

static void check_single_instructions() {
    Buffer<unsigned> out(32 * 24);
    single_instructions<<<1, 32>>>(out.device);
    CHECK(cudaDeviceSynchronize());
    out.down();
    for (unsigned t = 0; t < 32; t++) {
        unsigned x = t * 0x9e3779b9u, y = ~x * 77u, want[24], reversed = 0, dp = t;
        for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
        for (int i = 0; i < 32; i += 8) dp += (x >> i & 255) * (y >> i & 255);
        uint64_t pair = (uint64_t)y << 32 | x;
        unsigned short high = y >> 16, low = (unsigned short)y;
        want[0] = reversed, want[1] = x ? __builtin_clz(x) : 32, want[2] = x ? __builtin_ctz(x) + 1 : 0, want[3] = __builtin_popcount(x);
        want[4] = (x & 255) | (y & 255) << 8 | (x >> 8 & 255) << 16 | (y >> 8 & 255) << 24;
        want[5] = (unsigned)(pair << (t & 31) >> 32), want[6] = (unsigned)(pair >> (t < 32 ? t : 32));
        want[7] = (unsigned)((uint64_t)x * y >> 32), want[8] = (unsigned)((int64_t)(int)x * (int)y >> 32);
        want[9] = (unsigned)((uint64_t)((unsigned __int128)(~0ull / (t + 1)) * x >> 64) >> 7);
        want[10] = (x > y ? x - y : y - x) + t, want[11] = (unsigned)(((uint64_t)x + y) >> 1), want[12] = (unsigned)(((uint64_t)x + y + 1) >> 1);
        want[13] = (x & 0xffffff) * (y & 0xffffff), want[14] = dp;
        want[15] = by_bytes(x, y, [](unsigned a, unsigned b) { return a + b; });
        want[16] = by_bytes(x, y, [](unsigned a, unsigned b) { return a > b ? a - b : b - a; });
        want[17] = (x >> 16 > high ? x >> 16 : high) << 16 | ((x & 0xffff) > low ? x & 0xffff : low);
        want[18] = by_bytes(x, y, [](unsigned a, unsigned b) { return a > b ? 255u : 0u; });
        want[19] = by_bytes(x, y, [](unsigned a, unsigned b) { return (a + b + 1) / 2; });
        want[20] = (x >> 16 > high ? (x >> 16) - high : 0) << 16 | ((x & 0xffff) > low ? (x & 0xffff) - low : 0);
        want[21] = (unsigned)(std::llabs((long long)(int)x - (int)y) + t);
        double exact = (double)(float)x + (double)0.7f;
        float toward_zero = (float)exact;
        if ((double)toward_zero > exact) toward_zero = std::nextafter(toward_zero, 0.0f);
        std::memcpy(&want[22], &toward_zero, 4);
        want[23] = (unsigned)(long long)std::ceil((double)x / 3);
        for (int i = 0; i < 24; i++) REQUIRE(out.host[t * 24 + i] == want[i], "instruction %d of thread %u: %#x, not %#x", i, t, out.host[t * 24 + i], want[i]);
    }
    checks++;
}

struct Totals {
    int add, low, high, scoped;
    unsigned long long wide, wide_high, exchanged;
    float single;
    double twice;
    unsigned short counter;
    __half half;
    __half2 pair;
    bf16 brain;
    unsigned shared_sum, warp_sum;
    float lowest;
};

__global__ void atomics(Totals *to, cuda::atomic<long long, cuda::thread_scope_device> *counter, int threads) {
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    __shared__ unsigned inside;
    if (threadIdx.x == 0) inside = 0;
    __syncthreads();
    if (t < threads) {
        atomicAdd(&to->add, t), atomicMin(&to->low, -t), atomicMax(&to->high, t), atomicAdd_system(&to->scoped, 1);
        atomicAdd(&to->wide, (unsigned long long)t << 20), atomicMax(&to->wide_high, (unsigned long long)t << 33);
        atomicOr(&to->exchanged, 1ull << (t % 64));
        atomicAdd(&to->single, 0.5f), atomicAdd(&to->twice, 0.25);
        atomicAdd(&to->half, __float2half(1)), atomicAdd(&to->pair, __floats2half2_rn(1, 2)), atomicAdd(&to->brain, __float2bfloat16(1));
        atomicAdd_block(&inside, 3);
        unsigned short seen = to->counter, before;
        do before = seen, seen = atomicCAS(&to->counter, before, (unsigned short)(before + 1));
        while (seen != before);
        int *place = (int *)&to->lowest, old = *place;
        while (-(float)t < __int_as_float(old)) {
            int assumed = old;
            old = atomicCAS(place, assumed, __float_as_int(-(float)t));
            if (old == assumed) break;
        }
        counter->fetch_add(t, cuda::memory_order_relaxed);
        // One lane adds for those who are here.
        cg::coalesced_group here = cg::coalesced_threads();
        if (here.thread_rank() == 0) atomicAdd(&to->warp_sum, here.size());
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&to->shared_sum, inside);
}

static void check_atomics() {
    const int threads = 200;
    Buffer<Totals> totals(1);
    Buffer<cuda::atomic<long long, cuda::thread_scope_device>> counter(1);
    atomics<<<4, 64>>>(totals.device, counter.device, threads);
    CHECK(cudaDeviceSynchronize());
    const Totals &got = totals.down()[0];
    long long sum = threads * (threads - 1) / 2;
    REQUIRE(got.add == sum && got.low == 1 - threads && got.high == threads - 1 && got.scoped == threads, "integers: %d %d %d %d", got.add, got.low, got.high, got.scoped);
    REQUIRE(got.wide == (unsigned long long)sum << 20 && got.wide_high == (unsigned long long)(threads - 1) << 33 && got.exchanged == ~0ull, "64 bits");
    REQUIRE(got.single == threads / 2 && got.twice == threads / 4, "floating point: %g %g", got.single, got.twice);
    REQUIRE(got.counter == threads && got.lowest == 1 - threads, "loops of atomicCAS: %d %g", got.counter, got.lowest);
    REQUIRE(__half2float(got.half) == threads && __low2float(got.pair) == threads && __high2float(got.pair) == 2 * threads && __bfloat162float(got.brain) == threads, "16 bits");
    REQUIRE(got.shared_sum == 3 * threads && got.warp_sum == threads, "groups: %u %u", got.shared_sum, got.warp_sum);
    REQUIRE(counter.down()[0].load() == sum, "cuda::atomic");
    checks++;
}

// The barrier is initialised by a thread, as its documentation says.
#pragma nv_diag_suppress 20054

// One block of 128: what groups of every kind compute.
__global__ void groups(const int *values, int *out) {
    cg::thread_block block = cg::this_thread_block();
    __shared__ int staged[128];
    cg::memcpy_async(block, staged, values, sizeof staged);
    cg::wait(block);
    int t = block.thread_rank(), mine = staged[t];
    auto warp = cg::tiled_partition<32>(block);
    auto eight = cg::tiled_partition<8>(warp);
    out[t] = cg::reduce(eight, mine, cg::plus<int>());
    out[128 + t] = cg::reduce(warp, mine, cg::greater<int>());
    out[256 + t] = cg::inclusive_scan(warp, mine);
    auto odd = cg::binary_partition(warp, t % 2 == 1);
    out[384 + t] = cg::reduce(odd, mine, cg::plus<int>());
    auto alike = cg::labeled_partition(warp, t % 5);
    out[512 + t] = alike.size() * 1000 + alike.meta_group_rank();
    out[640 + t] = eight.shfl_xor(mine, 3) + warp.ballot(mine > 0) * 7 + warp.any(t == 77) + (int)warp.match_any(mine);
    __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
    if (t == 0) init(&barrier, 128);
    block.sync();
    staged[t] = mine * 3;
    barrier.arrive_and_wait();
    out[768 + t] = staged[(t + 50) % 128];
    block.sync();
    auto pipeline = cuda::make_pipeline();
    pipeline.producer_acquire();
    cuda::memcpy_async(staged + t, values + 127 - t, sizeof(int), pipeline);
    pipeline.producer_commit();
    pipeline.consumer_wait();
    out[896 + t] = staged[t];
    pipeline.consumer_release();
}

static void check_groups() {
    Buffer<int> values(128), out(1024);
    for (int t = 0; t < 128; t++) values.host[t] = (t * 37) % 41 - 20;
    groups<<<1, 128>>>(values.up(), out.device);
    CHECK(cudaDeviceSynchronize());
    out.down();
    const std::vector<int> &v = values.host;
    for (int t = 0; t < 128; t++) {
        int want[8] = {}, warp = t / 32 * 32;
        unsigned positive = 0, alike = 0, same = 0;
        want[1] = INT_MIN;
        for (int i = warp; i < warp + 32; i++) {
            if (i / 8 == t / 8) want[0] += v[i];
            want[1] = std::max(want[1], v[i]);
            if (i <= t) want[2] += v[i];
            if (i % 2 == t % 2) want[3] += v[i];
            if (i % 5 == t % 5) alike++;
            if (v[i] > 0) positive |= 1u << (i - warp);
            if (v[i] == v[t]) same |= 1u << (i - warp);
        }
        want[5] = v[t ^ 3] + (int)(positive * 7) + (warp == 64) + (int)same;
        want[6] = v[(t + 50) % 128] * 3, want[7] = v[127 - t];
        for (int i : {0, 1, 2, 3, 5, 6, 7}) REQUIRE(out.host[i * 128 + t] == want[i], "group %d of thread %d: %d, not %d", i, t, out.host[i * 128 + t], want[i]);
        REQUIRE(out.host[512 + t] / 1000 == (int)alike, "labeled_partition of thread %d: %d", t, out.host[512 + t]);
    }
    checks++;
}

__global__ void of_a_grid(unsigned *counts, unsigned *out) {
    cg::grid_group grid = cg::this_grid();
    atomicAdd(counts, 1);
    grid.sync();
    if (grid.thread_rank() == 0) *out = *(volatile unsigned *)counts;
    grid.sync();
    atomicAdd(out, 1);
}

static void check_grid() {
    Buffer<unsigned> counts(1), out(1);
    void *arguments[] = {&counts.device, &out.device};
    CHECK(cudaLaunchCooperativeKernel((void *)of_a_grid, 3, 64, arguments));
    CHECK(cudaDeviceSynchronize());
    REQUIRE(out.down()[0] == 2 * 3 * 64, "a grid counts %u", out.host[0]);
    checks++;
}

// Where there is no such type, its place is taken.
#if __CUDA_ARCH__ >= 800
using Tf32 = nvcuda::wmma::precision::tf32;
#else
struct Tf32;
#endif

// Warps and tensor cores: D = A · B + C of M × N × K, by rows.
template <class In, class Stored, class Out, int M, int N, int K, int MIN> __global__ void tensor(const Stored *a, const Stored *b, Out *c) {
#if __CUDA_ARCH__ >= 750
    using namespace nvcuda::wmma;
    if constexpr (__CUDA_ARCH__ >= MIN) {
        fragment<matrix_a, M, N, K, In, row_major> left;
        fragment<matrix_b, M, N, K, In, col_major> right;
        fragment<accumulator, M, N, K, Out> sum;
        load_matrix_sync(left, a, K);
        load_matrix_sync(right, b, K);
        load_matrix_sync(sum, c, N, mem_row_major);
        mma_sync(sum, left, right, sum);
        for (int i = 0; i < sum.num_elements; i++) sum.x[i] = sum.x[i] + sum.x[i];
        store_matrix_sync(c, sum, N, mem_row_major);
    }
#endif
}

template <class In, class Stored, class Out, int M, int N, int K, int MIN = 750> void check_tensor(const char *name) {
    if (architecture < MIN) return;
    Buffer<Stored> a(M * K), b(K * N);
    Buffer<Out> c(M * N);
    Random random(M * K + sizeof(Out));
    // Small whole numbers: exact in every type and in any order.
    for (Stored &value : a.host) value = (Stored)(float)(random.next() % 7);
    for (Stored &value : b.host) value = (Stored)(float)(random.next() % 5);
    for (Out &value : c.host) value = (Out)(float)(random.next() % 9);
    std::vector<double> want(M * N);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = number(c.host[i * N + j]);
            for (int k = 0; k < K; k++) sum += number(a.host[i * K + k]) * number(b.host[j * K + k]);
            want[i * N + j] = 2 * sum;
        }
    tensor<In, Stored, Out, M, N, K, MIN><<<1, 32>>>(a.up(), b.up(), c.up());
    CHECK(cudaDeviceSynchronize());
    c.down();
    for (int i = 0; i < M * N; i++) REQUIRE(number(c.host[i]) == want[i], "%s: element %d is %g, not %g", name, i, number(c.host[i]), want[i]);
    checks++;
}

// Calls that go through tables, the stack and the heap.
struct Shape {
    __device__ virtual int area() const = 0;
    __device__ virtual ~Shape() {}
};
struct Square : Shape {
    int side;
    __device__ explicit Square(int side) : side(side) {}
    __device__ int area() const override { return side * side; }
};
struct Strip : Shape {
    int length;
    __device__ explicit Strip(int length) : length(length) {}
    __device__ int area() const override { return 2 * length; }
};
__device__ __noinline__ int ackermann(int m, int n) { return m == 0 ? n + 1 : ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1)); }
__global__ void calls(int *out) {
    int t = threadIdx.x;
    Shape *shape = t % 3 == 0 ? (Shape *)new Square(t) : new Strip(t);
    int table[16];
    for (int i = 0; i < 16; i++) table[(i * 5) % 16] = i * t;
    int (*join)(int, int) = t % 2 ? [](int a, int b) { return a + b; } : [](int a, int b) { return a - b; };
    int chosen;
    switch (t % 7) {
    case 0: chosen = t * 3; break;
    case 1: chosen = t ^ 21; break;
    case 2: chosen = __clz(t); break;
    case 3: chosen = t * t; break;
    case 4: chosen = -t; break;
    case 5: chosen = t << 3; break;
    default: chosen = 99;
    }
    out[t] = shape->area() + join(table[t % 16], ackermann(1, t % 4)) + chosen;
    delete shape;
}

static void check_calls() {
    Buffer<int> out(64);
    calls<<<1, 64>>>(out.device);
    CHECK(cudaDeviceSynchronize());
    out.down();
    for (int t = 0; t < 64; t++) {
        int area = t % 3 == 0 ? t * t : 2 * t, element = 0, other = t % 4 + 2;
        for (int i = 0; i < 16; i++)
            if ((i * 5) % 16 == t % 16) element = i * t;
        int chosen[] = {t * 3, t ^ 21, t ? __builtin_clz(t) : 32, t * t, -t, t << 3, 99};
        int want = area + (t % 2 ? element + other : element - other) + chosen[t % 7];
        REQUIRE(out.host[t] == want, "calls of thread %d: %d, not %d", t, out.host[t], want);
    }
    checks++;
}

int main() {
    Buffer<int> compiled(1);
    which_architecture<<<1, 1>>>(compiled.device);
    CHECK(cudaDeviceSynchronize());
    architecture = compiled.down()[0];
    for (auto check : functions) check();
    check_single_instructions();
    check_atomics();
    check_groups();
    check_grid();
    check_calls();
    check_tensor<__half, __half, float, 16, 16, 16>("halves to singles");
    check_tensor<__half, __half, __half, 32, 8, 16>("halves to halves");
    check_tensor<__half, __half, float, 8, 32, 16>("halves, wide");
    check_tensor<signed char, signed char, int, 16, 16, 16>("bytes");
    check_tensor<unsigned char, unsigned char, int, 32, 8, 16>("unsigned bytes");
    check_tensor<bf16, bf16, float, 16, 16, 16, 800>("bfloat16");
    check_tensor<Tf32, float, float, 16, 16, 8, 800>("tf32");
    check_tensor<double, double, double, 8, 8, 4, 800>("doubles");
    return pass("for %d: %d checks", architecture, checks);
}
