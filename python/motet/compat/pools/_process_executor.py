"""`concurrent.futures.ProcessPoolExecutor`, on motet's worker processes."""

from __future__ import annotations

from concurrent.futures import process
from typing import TYPE_CHECKING, Any

from motet._executor.executor import Executor

from . import _places

if TYPE_CHECKING:
    from collections.abc import Callable

_Stock: Any = process.ProcessPoolExecutor


class ProcessPoolExecutor(Executor, _Stock):  # type: ignore[misc]
    """`motet.Executor` on processes, with the arguments of Python's class; it also is one. Thread-safe.

    As with Python's, a worker that dies breaks the pool for good: all calls raise `BrokenProcessPool`.

    Args:
        max_workers: How many processes at most; None: as many as processors that this process may use.
        mp_context: Accepted and ignored: workers are always forked from a fresh process with one thread.
        initializer: Called with `initargs` in each process before its first call.
        max_tasks_per_child: Calls after which a process is replaced.
    """

    _stops_what_is_cancelled = False

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(
            "processes",
            max_workers,
            mp_context=mp_context,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            preload=_places.preload(),
            strict=True,
        )
