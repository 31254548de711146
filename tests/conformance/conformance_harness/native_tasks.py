"""CPython's tests of tasks and futures, with motet's in the place of those that asyncio has in C.

The test modules take the classes to test from `asyncio.tasks._CTask` and `asyncio.futures._CFuture`, names
that are there for them alone; other tests take what the loop makes, and get a loop with motet's task factory.
"""

import asyncio
import unittest
from asyncio import futures, tasks
from typing import Any

from .loops import LoopFactory

MODULES = [
    "test_context", "test_eager_task_factory", "test_free_threading", "test_futures", "test_futures2",
    "test_graph", "test_locks", "test_queues", "test_runners", "test_staggered", "test_taskgroups",
    "test_tasks", "test_threads", "test_timeouts", "test_waitfor",
]  # fmt: skip

# The others name these classes only to replace asyncio's by them, where one is to be derived from the other.
_MODULES_THAT_TEST_CLASSES = (
    "test_eager_task_factory", "test_free_threading", "test_futures", "test_futures2", "test_tasks",
)  # fmt: skip

_CLASS_ATTRIBUTES = ("Task", "Future", "cls")


def factory_with_native_tasks(factory: LoopFactory) -> LoopFactory:
    """Loops of `factory` that make motet's tasks."""
    import motet

    def make_loop() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_task_factory(motet.task_factory)
        return loop

    return make_loop


def put_classes_in_place(module: str) -> None:
    """Have the test module, which is imported next, test motet's classes if it tests classes."""
    import motet

    if module not in _MODULES_THAT_TEST_CLASSES:
        return
    tasks_module: Any = tasks
    futures_module: Any = futures
    tasks_module._CTask = motet.Task
    futures_module._CFuture = motet.Future


def concerns_native_tasks(case: type[unittest.TestCase]) -> bool:
    """Whether a test class takes what the loop makes, or names one of motet's classes."""
    import motet

    named = [getattr(case, name) for name in _CLASS_ATTRIBUTES if isinstance(getattr(case, name, None), type)]
    return not named or any(issubclass(value, (motet.Task, motet.Future)) for value in named)
