"""The process that runs one test module on the loop: `python -m conformance_harness.child REQUEST`.

One module for each process: a hang, a crash or a leaked thread stays with its module.
"""

import importlib
import json
import os
import sys
import unittest
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

from . import executors, loky_pools, multiprocessing_pools
from .loops import CountingFactory, factory_of, install
from .native_tasks import factory_with_native_tasks, put_classes_in_place
from .recording import Recorder
from .replacements import CPYTHON_REPLACEMENTS, replace_classes
from .streams import use_native_streams
from .suites import CPYTHON, SUITES, Suite


def main() -> None:
    request: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    suite = SUITES[request["suite"]]
    sys.path[:0] = suite.prepare()
    make_loop = factory_of(request["loop"])
    factory = CountingFactory(factory_with_native_tasks(make_loop) if suite.native_tasks else make_loop)
    with open(request["lines"], "a") as lines, open(request["hang"], "w") as hang:
        recorder = Recorder(suite, factory, lines, hang, request["timeout"])
        recorder.arm()
        install(factory)
        _run(suite, request, recorder, factory)
        recorder.write("complete")
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a failed test left behind would keep a normal exit waiting.
    os._exit(0)


def _run(suite: Suite, request: dict[str, Any], recorder: Recorder, factory: CountingFactory) -> None:
    if suite.package.startswith("test."):
        _leave_out_resources()
    if suite.loky_pools:
        _run_loky(suite, request, recorder, factory)
        return
    if suite.executors is not None:
        executors.use_motet_for_suite(suite.executors, factory.count)
    if suite.multiprocessing_pools:
        multiprocessing_pools.use_motet_for_suite(factory.count)
    if suite.native_streams:
        use_native_streams()
    if suite.native_tasks:
        put_classes_in_place(request["module"])
    try:
        module = importlib.import_module(f"{suite.package}.{request['module']}")
    except unittest.SkipTest as reason:
        recorder.write("end", test=request["module"], outcome="skipped", detail=str(reason), made_loop=False)
        return
    if suite is CPYTHON and request["module"] in CPYTHON_REPLACEMENTS:
        replace_classes(module, CPYTHON_REPLACEMENTS[request["module"]], factory)
    chosen = unittest.TestSuite()
    for case in _test_cases(suite, module):
        tests = unittest.TestSuite()
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            assert isinstance(test, unittest.TestCase)
            name = recorder.name_of(test)
            if name in request["done"]:
                continue
            if any(fnmatchcase(name, pattern) for pattern in request["leave_out"]):
                recorder.write("left out", test=name)
            else:
                tests.addTest(test)
        chosen.addTest(tests)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        chosen.run(recorder)


def _run_loky(suite: Suite, request: dict[str, Any], recorder: Recorder, factory: CountingFactory) -> None:
    # Only for this suite: what pytest imports is none of the others' business.
    from .pytest_recording import PytestRecorder, run_module

    home = Path(sys.path[0])
    loky_pools.use_motet_for_suite(home, factory.count)
    module = request["module"]
    plugin = PytestRecorder(module, request["done"], request["leave_out"], recorder, factory)
    run_module(home, suite.package, plugin, module, ["--skip-high-memory", "--loky-verbosity=30"])


def _leave_out_resources() -> None:
    support: Any = importlib.import_module("test.support")
    # What the suite's own runner does without -u: no test that wants the network, much time or much memory.
    support.use_resources = {}


def _test_cases(suite: Suite, module: ModuleType) -> Iterator[type[unittest.TestCase]]:
    for _, value in sorted(vars(module).items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and suite.concerns_loop(value):
            yield value


if __name__ == "__main__":
    main()
