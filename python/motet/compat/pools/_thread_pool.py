"""`multiprocessing.pool.ThreadPool`, on motet's threads."""

from __future__ import annotations

from multiprocessing import pool
from typing import TYPE_CHECKING, Any

from motet._executor.executor import Executor

from ._pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Stock: Any = pool.ThreadPool


class ThreadPool(Pool, _Stock):  # type: ignore[misc]
    """`multiprocessing.pool.ThreadPool` on motet's threads; of Python's class it also is one. Thread-safe.

    Args:
        processes: How many threads; None: as many as processors that this process may use.
        initializer: Called with `initargs` in each thread before its first call.
    """

    _ships = False

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        Pool.__init__(self, processes, initializer, initargs)

    def _make_executor(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], calls: int | None
    ) -> Executor:
        return Executor(
            "threads",
            self._processes,
            initializer=initializer,
            initargs=initargs,
            thread_name_prefix="PoolWorker",
        )

    @property
    def _pool(self) -> list[Any]:
        return list(self._executor._threads)

    def _end_workers(self) -> None:
        # Threads cannot be ended by force: what runs, ends when it does.
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _end_at_exit(self) -> None:
        # Nobody waits for Python's threads of pools at the exit.
        self._executor.shutdown(wait=False, kill=True)
