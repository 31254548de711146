"""Where programs look for Python's pools, and what they find there once `install()` was called.

Each class is put in place right after the import of the module that has Python's, and before anybody gets
that module. Nothing is imported for a program that has no pools.
"""

from __future__ import annotations

import sys

from motet import _exit, _imports

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

# What processes share. multiprocessing makes them so that they travel to any worker, or to forks alone.
_SHARED = (
    "Barrier", "BoundedSemaphore", "Condition", "Event", "JoinableQueue", "Lock", "Queue", "RLock",
    "Semaphore", "SimpleQueue", "Array", "RawArray", "RawValue", "Value",
)  # fmt: skip

_installed = False


def install() -> None:
    """Have programs find motet's pools where they look for Python's, from now on and in workers too.

    That is in `concurrent.futures` (`ProcessPoolExecutor`, `ThreadPoolExecutor`) and in `multiprocessing`
    (`Pool`, `pool.Pool`, `pool.ThreadPool`, `dummy.Pool`, and `Pool` of every context). A module that has
    taken a class before keeps Python's. Calling it again changes nothing. Thread-safe.
    """
    global _installed
    if _installed:
        return
    _installed = True
    _imports.after("concurrent.futures.thread", _replace_thread_executor)
    _imports.after("concurrent.futures.process", _replace_process_executor)
    _imports.after("concurrent.futures.interpreter", _restore_interpreter_executor)
    _imports.after("multiprocessing", _let_all_workers_share)
    _imports.after("multiprocessing.pool", _replace_pools)


def preload() -> tuple[str, ...]:
    """What the workers of a pool are to import, so that programs find motet's pools there as well."""
    return (f"{__package__}._everywhere",) if _installed else ()


def _replace_thread_executor() -> None:
    _replace("ThreadPoolExecutor", "concurrent.futures.thread", "concurrent.futures")


def _replace_process_executor() -> None:
    _replace("ProcessPoolExecutor", "concurrent.futures.process", "concurrent.futures")


def _replace_pools() -> None:
    _replace("Pool", "multiprocessing.pool")
    _replace("ThreadPool", "multiprocessing.pool")


def _replace(name: str, *modules: str) -> None:
    package = sys.modules[str(__package__)]
    _exit.load(str(__package__))
    for module in modules:
        sys.modules[module].__dict__[name] = getattr(package, name)


def _restore_interpreter_executor() -> None:
    # It is made of Python's executor of threads, private parts included.
    from ._thread_executor import STOCK

    executor: Any = sys.modules["concurrent.futures.interpreter"]
    executor.InterpreterPoolExecutor.__bases__ = (STOCK,)


def _let_all_workers_share() -> None:
    """Have locks, queues and the like travel to motet's workers also where the program would be forked.

    Those of the spawn context do, and are for forks just as well.
    """
    multiprocessing: Any = sys.modules["multiprocessing"]
    spawn, fork = (multiprocessing.get_context(method) for method in ("spawn", "fork"))
    for name in _SHARED:
        make = getattr(spawn, name)
        for place in (multiprocessing, fork):
            place.__dict__[name] = make
