"""Runs the tests of this directory against the server in the environment, or lists them with --list.

Prints one line of JSON for each test that has ended, and for each figure that a test has measured.
"""

import json
import sys
import time
import unittest
from pathlib import Path

import support


def write(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def tests_of(suite):
    for entry in suite:
        if isinstance(entry, unittest.TestSuite):
            yield from tests_of(entry)
        else:
            yield entry


def name_of(test):
    """Returns the class of a test and its name as a sentence."""
    method = test.id().rsplit(".", 1)[-1].removeprefix("test_")
    return f"{type(test).__name__}: {method.replace('_', ' ')}"


class Report(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.problem = None

    def addError(self, test, err):
        self.problem = self._exc_info_to_string(err, test)
        super().addError(test, err)
        if not hasattr(test, "_testMethodName"):  # A fixture of a class failed, so the tests of the class do not run.
            write(fixture=str(test), problem=self.problem)

    def addFailure(self, test, err):
        self.problem = self._exc_info_to_string(err, test)
        super().addFailure(test, err)

    def stopTest(self, test):
        super().stopTest(test)
        seconds = round(time.monotonic() - self.started, 3)
        write(test=name_of(test), problem=self.problem, seconds=seconds)


suite = unittest.defaultTestLoader.discover(str(Path(__file__).parent), pattern="test_*.py")
if "--list" in sys.argv:
    for each in tests_of(suite):
        if type(each).__module__ == "unittest.loader":
            raise SystemExit(f"cannot be loaded: {each.id()}")
        write(test=name_of(each))
else:
    support.on_figure = lambda text: write(figure=text)
    suite.run(Report())
