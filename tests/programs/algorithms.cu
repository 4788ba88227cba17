// CUB's and Thrust's algorithms, whose kernels use most of what a compiler can emit: against the standard library's.
#include "check.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include <cub/cub.cuh>
#include <thrust/binary_search.h>
#include <thrust/copy.h>
#include <thrust/device_vector.h>
#include <thrust/extrema.h>
#include <thrust/reduce.h>
#include <thrust/scan.h>
#include <thrust/sequence.h>
#include <thrust/set_operations.h>
#include <thrust/sort.h>
#include <thrust/transform_reduce.h>
#include <thrust/unique.h>

const char *const PROGRAM = "algorithms";

template <class T> using Device = thrust::device_vector<T>;
template <class T> T *raw(Device<T> &vector) { return thrust::raw_pointer_cast(vector.data()); }
template <class T> std::vector<T> host(const Device<T> &vector) {
    std::vector<T> values(vector.size());
    thrust::copy(vector.begin(), vector.end(), values.begin());
    return values;
}

static int checks = 0;

template <class T> void same(const char *what, size_t n, const std::vector<T> &got, const std::vector<T> &want) {
    REQUIRE(got.size() == want.size(), "%s of %zu: %zu values, not %zu", what, n, got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++)
        REQUIRE(got[i] == want[i], "%s of %zu: value %zu is %g, not %g", what, n, i, (double)got[i], (double)want[i]);
    checks++;
}

// Calls an algorithm of CUB twice: for the size of its storage, and to do it.
template <class F> void with_storage(F algorithm) {
    size_t bytes = 0;
    CHECK(algorithm(nullptr, bytes));
    Device<char> storage(bytes + 1);
    CHECK(algorithm((void *)raw(storage), bytes));
    CHECK(cudaDeviceSynchronize());
}

// Values of type T; few different ones where `few`.
template <class T> std::vector<T> values(size_t n, bool few = false) {
    Random random((uint32_t)n + sizeof(T));
    std::vector<T> made(n);
    for (T &value : made) {
        uint32_t bits = random.next();
        value = few ? (T)(bits >> 29) : (T)((double)(int32_t)bits / (sizeof(T) < 4 ? 1 << 24 : 1 << 8));
    }
    return made;
}

template <class T> void sorts(size_t n) {
    std::vector<T> keys = values<T>(n), ordered = keys;
    Device<T> in(keys), out(n);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceRadixSort::SortKeys(storage, bytes, raw(in), raw(out), (int)n);
    });
    std::sort(ordered.begin(), ordered.end());
    same("SortKeys", n, host(out), ordered);

    Device<uint32_t> numbers(n), moved(n);
    thrust::sequence(numbers.begin(), numbers.end());
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceRadixSort::SortPairsDescending(storage, bytes, raw(in), raw(out), raw(numbers), raw(moved), (int)n);
    });
    std::vector<uint32_t> places(n);
    std::iota(places.begin(), places.end(), 0);
    std::stable_sort(places.begin(), places.end(), [&](uint32_t a, uint32_t b) { return keys[a] > keys[b]; });
    same("SortPairsDescending", n, host(moved), places);

    Device<T> merged(keys);
    thrust::stable_sort(merged.begin(), merged.end(), thrust::greater<T>());
    std::stable_sort(ordered.begin(), ordered.end(), std::greater<T>());
    same("stable_sort", n, host(merged), ordered);
}

struct Even {
    template <class T> __host__ __device__ bool operator()(T value) const { return (long long)value % 2 == 0; }
};

template <class T> void sums(size_t n) {
    std::vector<T> given = values<T>(n, true), want(n);
    Device<T> in(given), out(n), one(1);
    with_storage([&](void *storage, size_t &bytes) { return cub::DeviceReduce::Sum(storage, bytes, raw(in), raw(one), (int)n); });
    same("Sum", n, host(one), {std::accumulate(given.begin(), given.end(), T())});
    with_storage([&](void *storage, size_t &bytes) { return cub::DeviceReduce::Max(storage, bytes, raw(in), raw(one), (int)n); });
    same("Max", n, host(one), {*std::max_element(given.begin(), given.end())});
    with_storage([&](void *storage, size_t &bytes) { return cub::DeviceScan::InclusiveSum(storage, bytes, raw(in), raw(out), (int)n); });
    std::partial_sum(given.begin(), given.end(), want.begin());
    same("InclusiveSum", n, host(out), want);
    thrust::exclusive_scan(in.begin(), in.end(), out.begin(), T(3));
    std::exclusive_scan(given.begin(), given.end(), want.begin(), T(3));
    same("exclusive_scan", n, host(out), want);

    Device<int> count(1);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceSelect::If(storage, bytes, raw(in), raw(out), raw(count), (int)n, Even());
    });
    want.clear();
    std::copy_if(given.begin(), given.end(), std::back_inserter(want), Even());
    out.resize(count[0]);
    same("Select", n, host(out), want);
    out.resize(n);

    // Runs of the same value: as many as `unique` leaves.
    std::vector<T> runs = given;
    runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
    Device<int> lengths(n);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceRunLengthEncode::Encode(storage, bytes, raw(in), raw(out), raw(lengths), raw(count), (int)n);
    });
    out.resize(count[0]);
    same("Encode", n, host(out), runs);
    REQUIRE((size_t)thrust::reduce(lengths.begin(), lengths.begin() + count[0]) == n, "the runs of %zu are not as long", n);
    Device<T> kept(given);
    kept.erase(thrust::unique(kept.begin(), kept.end()), kept.end());
    same("unique", n, host(kept), runs);

    Device<T> keys(n), totals(n);
    auto ends = thrust::reduce_by_key(in.begin(), in.end(), in.begin(), keys.begin(), totals.begin());
    keys.resize(ends.first - keys.begin());
    same("reduce_by_key", n, host(keys), runs);
}

static void histograms(size_t n) {
    std::vector<uint8_t> given = values<uint8_t>(n);
    std::vector<int> want(256);
    for (uint8_t value : given) want[value]++;
    Device<uint8_t> in(given);
    Device<int> counts(256);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceHistogram::HistogramEven(storage, bytes, raw(in), raw(counts), 257, 0, 256, (int)n);
    });
    same("HistogramEven", n, host(counts), want);
}

static void segments(size_t n) {
    std::vector<int> given = values<int>(n, true), offsets, want;
    for (size_t at = 0; at < n; at += 1 + at % 97) offsets.push_back((int)at);
    offsets.push_back((int)n);
    size_t count = offsets.size() - 1;
    for (size_t i = 0; i < count; i++) want.push_back(std::accumulate(given.begin() + offsets[i], given.begin() + offsets[i + 1], 0));
    Device<int> in(given), places(offsets), out(count);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceSegmentedReduce::Sum(storage, bytes, raw(in), raw(out), (int)count, raw(places), raw(places) + 1);
    });
    same("SegmentedReduce", n, host(out), want);
    for (size_t i = 0; i < count; i++) std::sort(given.begin() + offsets[i], given.begin() + offsets[i + 1]);
    Device<int> ordered(n);
    with_storage([&](void *storage, size_t &bytes) {
        return cub::DeviceSegmentedSort::SortKeys(storage, bytes, raw(in), raw(ordered), (int)n, (int)count, raw(places), raw(places) + 1);
    });
    same("SegmentedSort", n, host(ordered), given);
}

static void sets(size_t n) {
    std::vector<int> left = values<int>(n), right = values<int>(n / 2 + 1), want;
    right.insert(right.end(), left.begin(), left.begin() + n / 3);
    std::sort(left.begin(), left.end());
    std::sort(right.begin(), right.end());
    Device<int> a(left), b(right), out(left.size() + right.size());
    out.resize(thrust::set_intersection(a.begin(), a.end(), b.begin(), b.end(), out.begin()) - out.begin());
    std::set_intersection(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(want));
    same("set_intersection", n, host(out), want);
    out.resize(left.size() + right.size());
    thrust::merge(a.begin(), a.end(), b.begin(), b.end(), out.begin());
    want.resize(left.size() + right.size());
    std::merge(left.begin(), left.end(), right.begin(), right.end(), want.begin());
    same("merge", n, host(out), want);
    Device<int> places(right.size());
    thrust::lower_bound(a.begin(), a.end(), b.begin(), b.end(), places.begin());
    std::vector<int> bounds;
    for (int value : right) bounds.push_back((int)(std::lower_bound(left.begin(), left.end(), value) - left.begin()));
    same("lower_bound", n, host(places), bounds);
}

int main() {
    for (size_t n : {1, 100, 5000, 30000}) {
        sorts<int8_t>(n), sorts<uint16_t>(n), sorts<float>(n), sorts<int64_t>(n);
        // Few small numbers, so that sums of floating point are exact in any order.
        sums<int>(n), sums<float>(n), sums<double>(n);
        histograms(n), segments(n), sets(n);
    }
    return pass("%d results", checks);
}
