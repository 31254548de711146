"""`concurrent.futures.ThreadPoolExecutor`, on motet's threads; what others with threads are made of."""

from __future__ import annotations

import itertools
from concurrent.futures import thread
from typing import TYPE_CHECKING, Any, ClassVar

from motet._executor import machine
from motet._executor.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from motet._executor.executor import Place

# Python's own, also once this one stands in its place.
STOCK: Any = thread.ThreadPoolExecutor

_numbers = itertools.count()


class ThreadedExecutor(Executor):
    """`motet.Executor` with the arguments of Python's executors that have threads. Thread-safe.

    Args:
        max_workers: How many threads at most; None: four more than the processors that this process may use,
            but no more than 32.
        thread_name_prefix: What threads are called.
        initializer: Called with `initargs` in each thread before its first call.
    """

    _place: ClassVar[Place]
    _name: ClassVar[str]
    _stops_what_is_cancelled = False

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(
            self._place,
            min(32, machine.usable_cpus() + 4) if max_workers is None else max_workers,
            thread_name_prefix=thread_name_prefix or f"{self._name}-{next(_numbers)}",
            initializer=initializer,
            initargs=initargs,
        )


class ThreadPoolExecutor(ThreadedExecutor, STOCK):  # type: ignore[misc]
    """`motet.Executor` on threads, with the arguments of Python's class; it also is one. Thread-safe."""

    _place = "threads"
    _name = "ThreadPoolExecutor"
