#!/usr/bin/env python3
"""Compare two parameter files written by `train_digits.py --save`, bit for bit.

    compare_params.py A.npz B.npz

Exit 0 and one line when every array has the same name, shape, type and bytes; else exit 1 and one line
for each that differs, with how many elements and by how much.
"""

import sys

import numpy as np


def difference(a: np.ndarray, b: np.ndarray) -> str | None:
    """What sets two arrays apart, or None if they are the same bits (so -0.0 is not 0.0, and a NaN is itself)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}"
    if a.tobytes() == b.tobytes():
        return None
    bits = f"u{a.dtype.itemsize}"
    unequal = int((np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)).sum())
    worst = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
    return f"{unequal} of {a.size} elements differ, by at most {worst:.3g}"


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: compare_params.py A.npz B.npz", file=sys.stderr)
        return 2
    a, b = (np.load(path) for path in sys.argv[1:])
    if not a.files:
        print(f"{sys.argv[1]} holds no parameters", file=sys.stderr)
        return 1
    failures = [f"{name}: only in one file" for name in sorted(set(a.files) ^ set(b.files))]
    for name in sorted(set(a.files) & set(b.files)):
        if (found := difference(a[name], b[name])) is not None:
            failures.append(f"{name}: {found}")
    for failure in failures:
        print(failure)
    if failures:
        return 1
    print(f"{len(a.files)} arrays, {sum(a[name].size for name in a.files)} parameters: bit-equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
