"""What the Python clients share: what they need, and what they save for the comparison."""

import argparse
import importlib.util
import json
import sys
import time

NOT_INSTALLED = 77


def need(*modules):
    """Ends the client as "not installed" if a module is not there; one that is there and fails to import is a failure."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            print(f"no module named {module}")
            sys.exit(NOT_INSTALLED)


class Results:
    """Numbers to compare, and times."""

    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--save", required=True)
        self.path = parser.parse_args().save
        self.values, self.times, self.section = {}, {}, "start"

    def add(self, name, values):
        """`values`: a number, or anything with `flatten` and `tolist`, at most 65536 numbers of it."""
        if hasattr(values, "flatten"):
            values = values.flatten()[:65536].tolist()
        elif not isinstance(values, list):
            values = [values]
        self.values[name] = [float(value) for value in values]

    def begin(self, section):
        """Says what comes, so that a failure's place is known."""
        self.section = section
        print(f"section {section}", flush=True)

    def time(self, name, function, repeat):
        """The median time of a call, in seconds."""
        times = []
        for _ in range(repeat):
            started = time.perf_counter()
            function()
            times.append(time.perf_counter() - started)
        self.times[name] = sorted(times)[len(times) // 2]

    def save(self):
        with open(self.path, "w") as file:
            json.dump({"values": self.values, "times": self.times}, file)
        print(f"PASS {len(self.values)} results", flush=True)
