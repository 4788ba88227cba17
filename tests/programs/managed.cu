// Managed memory by the runtime: a list and an array that host and kernels both build on, and managed variables.
#include "check.h"

const char *const PROGRAM = "managed";

static const int COUNT = 300000;

struct Element {
    Element *next;
    int number;
};

__managed__ int sum = 7;
__managed__ int table[5000];
__managed__ Element *first;

__global__ void twice(int *numbers) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < COUNT) numbers[i] *= 2;
}

__global__ void add_up() {
    for (Element *element = first; element; element = element->next) {
        sum += element->number;
        table[element->number] = element->number + 1;
        element->number *= 10;
    }
}

int main() {
    int *numbers;
    CHECK(cudaMallocManaged(&numbers, COUNT * sizeof(int)));
    for (int i = 0; i < COUNT; i++) numbers[i] = i;
    for (int round = 1; round <= 3; round++) {
        twice<<<(COUNT + 255) / 256, 256>>>(numbers);
        CHECK(cudaDeviceSynchronize());
        for (int i = 0; i < COUNT; i++) {
            REQUIRE(numbers[i] == (i + round - 1) * 2, "round %d: %d of %d", round, numbers[i], i);
            numbers[i] = i + round;
        }
    }
    cudaPointerAttributes attributes{};
    CHECK(cudaPointerGetAttributes(&attributes, numbers + 3));
    REQUIRE(attributes.type == cudaMemoryTypeManaged, "type %d", attributes.type);
    REQUIRE(attributes.devicePointer == numbers + 3 && attributes.hostPointer == numbers + 3, "pointers");
    CHECK(cudaFree(numbers));

    REQUIRE(sum == 7, "the variable begins with %d", sum);
    int expected = 7;
    for (int i = 0; i < 200; i++) {
        Element *element;
        CHECK(cudaMallocManaged(&element, sizeof(Element)));
        *element = {first, i};
        first = element;
        expected += i;
    }
    add_up<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    REQUIRE(sum == expected, "the sum is %d, not %d", sum, expected);
    for (int i = 0; i < 200; i++) REQUIRE(table[i] == i + 1, "the table has %d at %d", table[i], i);
    int number = 199;
    for (Element *element = first; element; element = element->next, number--)
        REQUIRE(element->number == number * 10, "an element is %d, not %d", element->number, number * 10);
    sum = 0;
    add_up<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    REQUIRE(sum == (expected - 7) * 10, "then the sum is %d", sum);
    while (first) {
        Element *next = first->next;
        CHECK(cudaFree(first));
        first = next;
    }
    return pass("a list of 200 elements, %d numbers and three managed variables", COUNT);
}
