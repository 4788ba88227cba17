"""Runs modules of the tests that a package has: `run_unittests.py RESULTS PACKAGE MODULE…`.

RESULTS gets a line for each test as it ends, `OUTCOME<tab>TEST<tab>WHY`, and `end` as the last one: a process that dies has none.
"""

import faulthandler
import sys
import unittest


class Recorder(unittest.TestResult):
    def __init__(self, package, lines):
        super().__init__()
        self.package = package
        self.lines = lines
        self.has_failed = False

    def say(self, outcome, test, why=""):
        name = test.id().removeprefix(f"{self.package}.")
        self.lines.write(f"{outcome}\t{name}\t{' '.join(str(why).split())[:300]}\n")
        self.lines.flush()

    def fail(self, test, error):
        self.has_failed = True
        print(f"{test.id()}\n{self._exc_info_to_string(error, test)}", file=sys.stderr)
        self.say("failed", test, error[1])

    def startTest(self, test):
        super().startTest(test)
        self.has_failed = False

    def addSuccess(self, test):
        self.say("passed", test)

    def addError(self, test, error):
        self.fail(test, error)

    def addFailure(self, test, error):
        self.fail(test, error)

    def addSubTest(self, test, subtest, error):
        # One line for a test, however many of its parts fail; the runner calls it a success only if none does.
        if error is not None and not self.has_failed:
            self.fail(test, error)

    def addSkip(self, test, reason):
        self.say("skipped", test, reason)

    def addExpectedFailure(self, test, error):
        self.say("passed", test, "fails, as the suite expects")

    def addUnexpectedSuccess(self, test):
        self.say("failed", test, "passes, which the suite does not expect")


def main():
    results, package, *modules = sys.argv[1:]
    faulthandler.enable()
    if package.startswith("numba.cuda"):
        from numba.cuda.testing import CUDATestCase

        # Its own runner sets it by an option.
        CUDATestCase._dump_failed_filechecks = False
    suite = unittest.defaultTestLoader.loadTestsFromNames(f"{package}.{name}" for name in modules)
    with open(results, "w", encoding="utf-8") as lines:
        suite.run(Recorder(package, lines))
        lines.write("end\n")


# The processes that tests start import this file again.
if __name__ == "__main__":
    main()
