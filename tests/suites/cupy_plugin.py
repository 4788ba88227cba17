"""A plugin of pytest that runs a project's own tests on our devices.

Expected failures: the sections of the file that GPURUN_SUITE_EXPECTED names, for the ways in GPURUN_SUITE_WAY. A line is the end of a test's name, whose failure must
happen: a line whose test passes fails the run, and so does one that names no test of a file that is run. A line that begins with `error: ` is a part of what failures
say, whatever their names: such a failure may happen. Any other failure fails the run.

Random input: CuPy's tests take it from NumPy. cuRAND is machine code alone, which the software GPU does not execute, and most tests that use it are about
something else.
"""

import os
from pathlib import Path

import cupy
import numpy
import pytest

RANDOM = ("rand", "randint", "randn", "random", "random_sample", "uniform", "normal")

ERROR = "error: "


def from_numpy(make):
    def made(*args, dtype=None, **options):
        array = cupy.asarray(make(*args, **options))
        return array if dtype is None else array.astype(dtype)

    return made


for _name in RANDOM:
    setattr(cupy.random, _name, from_numpy(getattr(numpy.random, _name)))


def expected(way):
    """Reasons by the ends of test names, and by what failures say."""
    names, errors, reason, counts = {}, {}, None, False
    for line in Path(os.environ["GPURUN_SUITE_EXPECTED"]).read_text().splitlines():
        if line.startswith("[") and line.endswith("]"):
            ways, _, reason = line[1:-1].partition(": ")
            counts = way in ways.split()
        elif line.startswith(ERROR) and counts:
            errors[line.removeprefix(ERROR)] = reason
        elif line and not line.startswith("#") and counts:
            names[line] = reason
    return names, errors


NAMES, ERRORS = expected(os.environ["GPURUN_SUITE_WAY"])


def pytest_collection_modifyitems(items):
    files = {item.path.name for item in items}
    missing = {name for name in NAMES if name.partition("::")[0] in files}
    for item in items:
        for name in (item.nodeid, item.nodeid.partition("[")[0]):
            end = name.rpartition("/")[2]
            if reason := NAMES.get(end):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                missing.discard(end)
                break
    if missing:
        raise pytest.UsageError(f"no such tests: {sorted(missing)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and call.excinfo is not None:
        # CuPy's helpers put what was raised into a message of their own.
        told = call.excinfo.exconly()
        for error, reason in ERRORS.items():
            if error in told:
                report.outcome, report.wasxfail = "skipped", reason
                break
    return report
