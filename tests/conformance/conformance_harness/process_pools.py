"""motet's executor in the place of `concurrent.futures.ProcessPoolExecutor`, for a suite of that class.

The class is replaced before the suite is imported, in its own process and in the interpreters that it starts.
"""

import importlib
import os
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import process
from typing import Any

from motet.compat import pools

from .paths import CONFORMANCE

MODULES = [
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
]
# Read by `startup/sitecustomize.py`.
VARIABLE = "MOTET_CONFORMANCE_POOLS"

_on_made: Callable[[], object] = int


class ProcessPoolExecutor(pools.ProcessPoolExecutor):
    """motet's class; tells of each executor that is made."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        _on_made()
        super().__init__(*arguments, **named)


def use_motet() -> None:
    """Put motet's class where programs look for Python's."""
    for module in (futures, process):
        module.__dict__["ProcessPoolExecutor"] = ProcessPoolExecutor


def use_motet_for_suite(on_made: Callable[[], object]) -> None:
    """Do so for the suite, which is imported next; `on_made` is called for each executor that it makes."""
    global _on_made
    _on_made = on_made
    use_motet()
    helper: Any = importlib.import_module("test.support.script_helper")
    run = helper.run_python_until_end

    def run_with_motet(*arguments: str, **environment: str) -> Any:
        search_path = os.pathsep.join([str(CONFORMANCE / "conformance_harness/startup"), str(CONFORMANCE)])
        return run(*arguments, **{"PYTHONPATH": search_path, VARIABLE: "1", **environment})

    helper.run_python_until_end = run_with_motet


def concerns_process_pools(case: type[object]) -> bool:
    """Whether a test class tests the class that was replaced, or runs tests of those that do."""
    executor = getattr(case, "executor_type", None)
    return executor is ProcessPoolExecutor or case.__name__ == "FailingInitializerResourcesTest"
