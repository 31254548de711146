"""`motet.Executor`."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .calls import Call, Options
from .processes import ProcessWorkers
from .worker import Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

_open: weakref.WeakSet[Executor] = weakref.WeakSet()


class Executor(concurrent.futures.Executor):
    def __init__(
        self,
        on: str = "auto",
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        preload: Iterable[str] = (),
        timeout: float | None = None,
        retries: int = 0,
        strict: bool = False,
    ) -> None:
        self._options = Options(timeout, retries)
        count = max_workers or os.cpu_count() or 1
        self._max_workers = count
        self._workers = ProcessWorkers(count, Setup(initializer, initargs, None), tuple(preload), "motet", strict)
        self._closed = False
        _open.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        call = None if self._options.is_plain() else Call(self._options, fn)
        return self._workers.submit(fn, args, kwargs, call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        if cancel_futures:
            for future in self._workers.pool.withdraw_all():
                future.cancel()
                future.set_running_or_notify_cancel()
        self._workers.close()
        if wait and self._workers.thread is not None:
            self._workers.thread.join()


def _end() -> None:
    for executor in list(_open):
        executor.shutdown()


threading._register_atexit(_end)  # type: ignore[attr-defined]
