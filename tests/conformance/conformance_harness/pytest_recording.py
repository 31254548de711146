"""Runs a module of a suite that is written for pytest, and records its tests as `recording` does unittest's.

A test's parameters stand in round brackets after its name, for square ones mean something in patterns.
"""

import gc
import os
import sys
import traceback
from collections.abc import Generator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from .loops import CountingFactory
from .recording import DETAIL_LIMIT, Recorder


class PytestRecorder:
    """A plugin that writes one `start` and one `end` line for each test."""

    def __init__(
        self, module: str, done: list[str], leave_out: list[str], recorder: Recorder, factory: CountingFactory
    ) -> None:
        self._module = module
        self._done = done
        self._leave_out = leave_out
        self._recorder = recorder
        self._factory = factory
        self._outcome = "passed"
        self._details: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take out the tests that another process has run, and those that are to be left out."""
        chosen: list[pytest.Item] = []
        for item in items:
            name = self._name_of(item)
            if name in self._done:
                continue
            if any(fnmatchcase(name, pattern) for pattern in self._leave_out):
                self._recorder.write("left out", test=name)
            else:
                chosen.append(item)
        items[:] = chosen

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record a test with what it sets up and tears down."""
        self._outcome, self._details = "passed", []
        before, name = self._factory.created, self._name_of(item)
        self._recorder.write("start", test=name)
        self._recorder.arm()
        try:
            return (yield)
        finally:
            detail = "\n".join(self._details)[-DETAIL_LIMIT:]
            made = self._factory.created > before
            self._recorder.write("end", test=name, outcome=self._outcome, detail=detail, made_loop=made)
            self._recorder.arm()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Collect executors that the traceback of an expected error has kept, before workers are counted."""
        for place in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(place, None)
        gc.collect()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what went wrong in one part of a test."""
        report = yield
        if call.excinfo is not None:
            if report.skipped and self._outcome == "passed":
                self._outcome = "skipped"
                self._details.append(str(call.excinfo.value))
            elif report.failed:
                self._outcome = "failed"
                self._details.append(_describe(call.excinfo.value))
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported has no tests, but is a failure."""
        if report.failed:
            self._recorder.write(
                "end", test=self._module, outcome="failed", detail=report.longreprtext, made_loop=False
            )

    def _name_of(self, item: pytest.Item) -> str:
        parts = item.nodeid.split("::")[1:]
        return ".".join([self._module, *parts]).replace("[", "(").replace("]", ")")


def run_module(home: Path, package: str, plugin: PytestRecorder, module: str, options: list[str]) -> None:
    """Run the tests of `home/package/module.py` in this process, with nothing of the caller's settings."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    arguments = ["--config-file", os.devnull, "--rootdir", str(home), "--confcutdir", str(home)]
    # The recorder uses Python's fault handler itself.
    arguments += ["--capture=no", "-p", "no:cacheprovider", "-p", "no:faulthandler", *options]
    pytest.main([*arguments, str(home / package / f"{module}.py")], plugins=[plugin])


def _describe(error: BaseException) -> str:
    """The traceback without pytest's own part."""
    trace = error.__traceback__
    while trace is not None and Path(trace.tb_frame.f_code.co_filename).parent.name in ("_pytest", "pluggy"):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))
