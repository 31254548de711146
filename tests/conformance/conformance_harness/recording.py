"""A unittest result that writes each test's start and end as a JSON line, and ends a process that hangs.

Lines are flushed as they are written, so that after a hang or a crash the last started test is known.
"""

import faulthandler
import gc
import json
import traceback
import unittest
from types import TracebackType
from typing import IO, Any, TypeAlias

from .loops import CountingFactory
from .suites import Suite

ErrorInformation: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
)

DETAIL_LIMIT = 20_000


class Recorder(unittest.TestResult):
    """Writes one `start` and one `end` line for each test."""

    def __init__(
        self, suite: Suite, factory: CountingFactory, lines: IO[str], hang: IO[str], timeout: float
    ) -> None:
        super().__init__()
        self._suite = suite
        self._factory = factory
        self._lines = lines
        self._hang = hang
        self._timeout = timeout
        self._current: unittest.TestCase | None = None
        self._outcome = "passed"
        self._details: list[str] = []
        self._loops_before = 0

    def write(self, event: str, **values: Any) -> None:
        """Append one line."""
        self._lines.write(json.dumps({"event": event, **values}) + "\n")
        self._lines.flush()

    def name_of(self, test: unittest.TestCase) -> str:
        """The test's name as the expectations write it."""
        return self._suite.short_name(test.id())

    def arm(self) -> None:
        """From now on the process may take `timeout` seconds until the next call."""
        faulthandler.dump_traceback_later(self._timeout, exit=True, file=self._hang)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = test
        self._outcome, self._details = "passed", []
        self._loops_before = self._factory.created
        self.write("start", test=self.name_of(test))
        self.arm()

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._write_end(test, self._factory.created > self._loops_before)
        self._current = None
        if self._outcome == "failed":
            # What a failed test left open would warn in a later test, some of which count warnings.
            gc.collect()
        self.arm()

    def addFailure(self, test: unittest.TestCase, err: ErrorInformation) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", "".join(traceback.format_exception(*err)))

    def addError(self, test: unittest.TestCase, err: ErrorInformation) -> None:
        super().addError(test, err)
        self._note(test, "failed", "".join(traceback.format_exception(*err)))

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ErrorInformation | None
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "failed", "the suite itself expects this test to fail, and it passed")

    def _note(self, test: unittest.TestCase, outcome: str, detail: str) -> None:
        if self._current is None:
            # A class or module that failed or was skipped as a whole: unittest starts no test for it.
            self._outcome, self._details = outcome, [detail]
            self._write_end(test, False)
            return
        if self._outcome != "failed":
            self._outcome = outcome
        self._details.append(detail)

    def _write_end(self, test: unittest.TestCase, made_loop: bool) -> None:
        detail = "\n".join(self._details)[-DETAIL_LIMIT:]
        self.write("end", test=self.name_of(test), outcome=self._outcome, detail=detail, made_loop=made_loop)
