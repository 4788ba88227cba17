#!/usr/bin/env python3
"""HMAC-MD2 by RFC 1319 and RFC 2104, and the message that the test in `validity.rs` describes."""

import struct


def digits_of_pi():
    """The permutation of RFC 1319, made as its errata describe: a shuffle driven by the digits of pi."""
    digits = spigot()
    table = list(range(256))
    for i in range(1, 256):
        j = draw(digits, i + 1)
        table[j], table[i] = table[i], table[j]
    return table


def spigot():
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), (10 * (3 * q + r)) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2


def draw(digits, n):
    x, y = next(digits), 10
    if n > 10:
        x, y = x * 10 + next(digits), 100
    if n > 100:
        x, y = x * 10 + next(digits), 1000
    limit = n * (y // n)
    return x % n if x < limit else draw(digits, n)


S = digits_of_pi()


def md2(data):
    pad = 16 - len(data) % 16
    data += bytes([pad]) * pad
    checksum, last = bytearray(16), 0
    for block in range(0, len(data), 16):
        for i in range(16):
            checksum[i] ^= S[data[block + i] ^ last]
            last = checksum[i]
    data += checksum
    state = bytearray(48)
    for block in range(0, len(data), 16):
        for i in range(16):
            state[16 + i] = data[block + i]
            state[32 + i] = state[16 + i] ^ state[i]
        t = 0
        for round_ in range(18):
            for i in range(48):
                t = state[i] = state[i] ^ S[t]
            t = (t + round_) % 256
    return bytes(state[:16])


def hmac(key, message):
    inner = bytes(byte ^ 0x36 for byte in key)
    outer = bytes(byte ^ 0x5C for byte in key)
    return md2(outer + md2(inner + message))


assert md2(b"").hex() == "8350e5a3e24c153df2275c9f80692773"
assert md2(b"message digest").hex() == "ab4f496bfb2a530b219ff33031fe06b0"

key = bytes.fromhex("146addae53a9a752aa0841360bf55a9f")
message = struct.pack("<IIIIQQQQ", 13000, 13002, 4242, 0x87654321,
                      0x7F0012345678, 0x7F0012349ABC, 0x7F0010000010, 1_700_000_000)
for seed, bus in ((0x10, 1), (0xF8, 2)):
    message += bytes((seed + i) % 256 for i in range(16)) + struct.pack("<iii", 0, bus, 3)
print(", ".join(f"0x{word:016X}" for word in struct.unpack("<QQ", hmac(key, message))))
