// Slot 1 of the private table D4082055, calculated as `driver-api/src/private_tables/validity.rs` does it, from what the driver says of itself
// elsewhere: an HMAC-MD2 (RFC 1319, RFC 2104) with a fixed key.
#include "tables.h"

#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cstring>

using Bytes = std::vector<unsigned char>;
using Digest = std::array<unsigned char, 16>;

// The permutation of RFC 1319, made of the digits of pi.
static const unsigned char PI[256] = {
#include "md2_table.inc"
};

static Digest md2(Bytes data) {
    size_t padding = 16 - data.size() % 16;
    data.insert(data.end(), padding, (unsigned char)padding);
    unsigned char checksum[16] = {}, last = 0, state[48] = {};
    for (size_t block = 0; block < data.size(); block += 16)
        for (int i = 0; i < 16; i++) last = checksum[i] ^= PI[data[block + i] ^ last];
    data.insert(data.end(), checksum, checksum + 16);
    for (size_t block = 0; block < data.size(); block += 16) {
        for (int i = 0; i < 16; i++) {
            state[16 + i] = data[block + i];
            state[32 + i] = state[16 + i] ^ state[i];
        }
        unsigned char t = 0;
        for (int round = 0; round < 18; round++) {
            for (unsigned char &byte : state) t = byte ^= PI[t];
            t = (unsigned char)(t + round);
        }
    }
    Digest digest;
    std::copy(state, state + 16, digest.begin());
    return digest;
}

static Digest hmac(const Bytes &message) {
    const unsigned char key[16] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52, 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};
    Bytes inner, outer;
    for (unsigned char byte : key) {
        inner.push_back(byte ^ 0x36);
        outer.push_back(byte ^ 0x5c);
    }
    inner.insert(inner.end(), message.begin(), message.end());
    Digest first = md2(inner);
    outer.insert(outer.end(), first.begin(), first.end());
    return md2(outer);
}

template <typename T> static void append(Bytes &message, T value) {
    const unsigned char *bytes = (const unsigned char *)&value;
    message.insert(message.end(), bytes, bytes + sizeof value);
}

static Bytes question(const Table &runtime, const Table &validity, unsigned version, unsigned long long when) {
    Bytes message;
    int driver_version = 0, devices = 0;
    CU(cuDriverGetVersion, &driver_version);
    CU(cuDeviceGetCount, &devices);
    append(message, (unsigned)driver_version);
    append(message, version);
    append(message, (unsigned)getpid());
    append(message, (unsigned)pthread_self());
    append(message, (unsigned long long)runtime.slots);
    append(message, (unsigned long long)validity.slots);
    append(message, (unsigned long long)validity.slots[1]);
    append(message, when);
    for (int device = 0; device < devices; device++) {
        CUuuid uuid;
        std::memset(&uuid, 0, sizeof uuid);
        CU(cuDeviceGetUuid, &uuid, device);
        append(message, uuid);
        for (int attribute : {50, 33, 34}) {
            int number = 0;
            CU(cuDeviceGetAttribute, &number, (CUdevice_attribute)attribute, device);
            append(message, number);
        }
    }
    return message;
}

void check_validity(const Table &runtime, const Table &validity) {
    if (!runtime.slots || !validity.slots) return;
    auto ask = (CUresult(*)(unsigned, unsigned long long, unsigned long long *))validity.slots[1];
    const unsigned long long when = 1700000000, constant = 0x8ED383AA1F4CD1E8;
    for (unsigned version : {12080u, 13000u}) {
        unsigned long long words[2] = {};
        check(format("validity.%u", version), CUDA_SUCCESS, ask(version, when, words));
        check_yes(format("validity.%u-is-the-constant", version), words[0] == 0x3341181C03CB675C && words[1] == constant);
        ask(version + 1, when, words);
        check_yes(format("validity.%u-is-the-constant", version + 1), words[0] == 0x1841181C03CB675C && words[1] == constant);
        ask(version + 2, when, words);
        Digest expected = hmac(question(runtime, validity, version + 2, when));
        check_yes(format("validity.%u-is-as-calculated", version + 2), std::memcmp(words, expected.data(), 16) == 0);
    }
}
