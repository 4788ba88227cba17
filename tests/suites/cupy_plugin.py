"""A plugin of pytest that runs a project's own tests on our devices.

Expected failures: the lines of the file that GPURUN_SUITE_EXPECTED names, of the ways in GPURUN_SUITE_WAY, are failures that must happen. A test that fails
without such a line fails the run, and so do a line whose test passes and a line that names no test.

Random input: CuPy's tests take it from NumPy. cuRAND is machine code alone, which the software GPU does not execute, and most tests that use it are about
something else.
"""

import os
from pathlib import Path

import cupy
import numpy
import pytest

RANDOM = ("rand", "randint", "randn", "random", "random_sample", "uniform", "normal")


def from_numpy(make):
    def made(*args, dtype=None, **options):
        array = cupy.asarray(make(*args, **options))
        return array if dtype is None else array.astype(dtype)

    return made


for _name in RANDOM:
    setattr(cupy.random, _name, from_numpy(getattr(numpy.random, _name)))


def expected(way):
    """Reasons by the ends of test names."""
    reasons, reason, counts = {}, None, False
    for line in Path(os.environ["GPURUN_SUITE_EXPECTED"]).read_text().splitlines():
        if line.startswith("[") and line.endswith("]"):
            ways, _, reason = line[1:-1].partition(": ")
            counts = way in ways.split()
        elif line and not line.startswith("#") and counts:
            reasons[line] = reason
    return reasons


def pytest_collection_modifyitems(items):
    missing = expected(os.environ["GPURUN_SUITE_WAY"])
    reasons = dict(missing)
    for item in items:
        for name in (item.nodeid, item.nodeid.partition("[")[0]):
            if reason := reasons.get(name.rpartition("/")[2]):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                missing.pop(name.rpartition("/")[2], None)
                break
    if missing:
        raise pytest.UsageError(f"no such tests: {sorted(missing)}")
