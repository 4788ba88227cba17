#!/usr/bin/env python3
"""Counts what a capture of Ethernet has of RoCE v2 (UDP to port 4791) and of TCP; fails if most bytes are not RoCE's."""

import struct
import sys


def packets(path):
    """The captured bytes and the original length of each packet."""
    with open(path, "rb") as capture:
        magic = capture.read(24)[:4]
        order = "<" if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        while len(header := capture.read(16)) == 16:
            _, _, captured, length = struct.unpack(order + "4I", header)
            yield capture.read(captured), length


def kind(packet):
    """What a packet is: `roce`, `tcp` or `other`."""
    if packet[12:14] != b"\x08\x00":
        return "other"
    protocol, transport = packet[23], 14 + (packet[14] & 15) * 4
    if protocol == 17 and packet[transport + 2 : transport + 4] == struct.pack(">H", 4791):
        return "roce"
    return "tcp" if protocol == 6 else "other"


def main():
    counts = {"roce": [0, 0], "tcp": [0, 0], "other": [0, 0]}
    for packet, length in packets(sys.argv[1]):
        count = counts[kind(packet)]
        count[0] += 1
        count[1] += length
    for name, (number, total) in counts.items():
        print(f"{name}: {number} packets, {total} bytes")
    if counts["roce"][1] < 10 * counts["tcp"][1]:
        sys.exit("the frames did not travel by RoCE v2")
    print("ok the wire carries RoCE v2: UDP to port 4791")


main()
