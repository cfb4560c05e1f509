"""Run one module of CPython's test suite, and tell how each of its tests went: a line of JSON each, on stdout.

`python outcomes.py MODULE`, on any CPython since 3.9, in a sandbox or not. Tests print what they like: ours is on lines
of its own, behind a mark. A test is told when it begins, too, so that one that never ends has a name.
"""

import json
import os
import sys
import traceback
import unittest

MARK = "@@outcome "
REASON_LENGTH = 300
OUT = os.dup(1)  # tests may redirect theirs


def tell(name, outcome, reason=""):
    line = MARK + json.dumps([name, outcome, reason[:REASON_LENGTH]])
    os.write(OUT, ("\n" + line + "\n").encode("utf-8", "replace"))


class Outcomes(unittest.TestResult):
    """Tells each outcome as soon as it is known."""

    def startTest(self, test):
        super().startTest(test)
        tell(test.id(), "begun")

    def addSuccess(self, test):
        tell(test.id(), "passed")

    def addExpectedFailure(self, test, err):
        tell(test.id(), "passed")

    def addUnexpectedSuccess(self, test):
        tell(test.id(), "failed", "unexpected success")

    def addSkip(self, test, reason):
        tell(test.id(), "skipped", reason)

    def addError(self, test, err):
        tell(test.id(), "failed", reason_of(err))

    def addFailure(self, test, err):
        tell(test.id(), "failed", reason_of(err))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            outcome = "skipped" if issubclass(err[0], unittest.SkipTest) else "failed"
            tell(test.id(), outcome, reason_of(err))


def reason_of(err):
    """Where it was raised, and what it says."""
    frames = traceback.extract_tb(err[2])
    place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    try:
        return f"{place} {err[0].__name__}: {err[1]}"
    except Exception:
        return f"{place} {err[0].__name__}"


def main():
    """Load it and run it as CPython's own runner does, without the network and what takes much of a machine."""
    from test import support

    name = "test." + sys.argv[1]
    support.use_resources = ["cpu", "subprocess", "decimal"]
    support.verbose = 0
    try:
        module = __import__(name, fromlist=["*"])
        tests = unittest.defaultTestLoader.loadTestsFromModule(module)
    except unittest.SkipTest as error:
        tell(name, "skipped", str(error))
        return
    tests(Outcomes())
    tell(name, "ended")


if __name__ == "__main__":
    main()
