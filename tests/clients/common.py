"""What the clients share: checks by name, and lines that must be the same directly and at a distance."""

import hashlib
import sys

import numpy

CHECKED = []


def show(name, *values):
    """A line of what was computed, to be compared between two runs: the bits of arrays, anything else as it prints."""
    shown = []
    for value in values:
        if isinstance(value, numpy.ndarray):
            value = f"{value.dtype}{list(value.shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
        shown.append(str(value))
    print(f"{name}: {' '.join(shown)}", flush=True)


def close(name, found, expected, **tolerance):
    """An array as numpy computes it; with no tolerance, the same bits."""
    found, expected = numpy.asarray(found), numpy.asarray(expected)
    same = numpy.allclose(found, expected, **tolerance) if tolerance else numpy.array_equal(found, expected)
    if found.shape != expected.shape or not same:
        fail(f"{name}: {found.ravel()[:4]} … where numpy has {expected.ravel()[:4]} …")
    CHECKED.append(name)
    show(name, found)


def true(name, condition, *values):
    """A condition, and what goes with it."""
    if not condition:
        fail(f"{name} does not hold: {values}")
    CHECKED.append(name)
    show(name, *values)


def raises(name, kind, text, function):
    """A call that must fail with an exception of this kind, which says this."""
    try:
        function()
    except kind as error:
        if text not in str(error):
            fail(f"{name}: it says {error}")
        CHECKED.append(name)
        show(name, kind.__name__)
        return
    fail(f"{name} succeeds")


def fail(why):
    print(f"FAIL {why}", flush=True)
    sys.exit(1)


def passed(client):
    print(f"PASS {client} {len(CHECKED)} checks", flush=True)
