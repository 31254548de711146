"""motet's executors in the place of those of `concurrent.futures`, for a suite of these.

A class is replaced before the suite is imported, in its own process and in the interpreters that it starts.
"""

import importlib
import os
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from motet.compat import pools
from motet.compat.pools._thread_executor import ThreadedExecutor

from .paths import CONFORMANCE

# Read by `startup/sitecustomize.py`: the kind.
VARIABLE = "MOTET_CONFORMANCE_POOLS"


class InterpreterPoolExecutor(ThreadedExecutor):
    """With the arguments of Python's class."""

    _place = "interpreters"
    _name = "InterpreterPoolExecutor"


@dataclass(frozen=True)
class Kind:
    """A class of Python's: what stands for it, where programs find it, the modules that test it."""

    stand_in: type[futures.Executor]
    home: str
    modules: tuple[str, ...]


_COMMON = ("test_as_completed", "test_init", "test_shutdown", "test_wait")

KINDS = {
    "processes": Kind(pools.ProcessPoolExecutor, "process", (*_COMMON, "test_deadlock", "test_process_pool")),
    "threads": Kind(pools.ThreadPoolExecutor, "thread", (*_COMMON, "test_thread_pool")),
    "interpreters": Kind(
        InterpreterPoolExecutor, "interpreter", ("test_as_completed", "test_init", "test_interpreter_pool")
    ),
}


def use_motet(kind: str, on_made: Callable[[], object] = int) -> None:
    """Put motet's class where programs look for Python's; `on_made` is called for each executor made."""
    chosen = KINDS[kind]

    def make(self: Any, *arguments: Any, **named: Any) -> None:
        on_made()
        chosen.stand_in.__init__(self, *arguments, **named)

    stand_in = type(chosen.stand_in.__name__, (chosen.stand_in,), {"__init__": make, "__module__": __name__})
    for module in (futures, importlib.import_module(f"concurrent.futures.{chosen.home}")):
        module.__dict__[stand_in.__name__] = stand_in


def use_motet_for_suite(kind: str, on_made: Callable[[], object]) -> None:
    """Do so for the suite, which is imported next."""
    use_motet(kind, on_made)
    helper: Any = importlib.import_module("test.support.script_helper")
    run = helper.run_python_until_end

    def run_with_motet(*arguments: str, **environment: str) -> Any:
        search_path = os.pathsep.join([str(CONFORMANCE / "conformance_harness/startup"), str(CONFORMANCE)])
        return run(*arguments, **{"PYTHONPATH": search_path, VARIABLE: kind, **environment})

    helper.run_python_until_end = run_with_motet


def concerns(kind: str) -> Callable[[type[object]], bool]:
    """What tells whether a test class tests the class that was replaced, or runs tests of those that do."""

    def concerns_it(case: type[object]) -> bool:
        executor = getattr(case, "executor_type", None)
        if executor is None:
            return kind == "processes" and case.__name__ == "FailingInitializerResourcesTest"
        return isinstance(executor, type) and issubclass(executor, KINDS[kind].stand_in)

    return concerns_it
