"""What the tests of worker threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from motet._executor.calls import Call, Options
from motet._executor.futures import CallFuture
from motet._executor.threads import Setup, ThreadWorkers

LONG = 60


class Pool:
    """A pool with the interface of an executor, as far as a test wants it."""

    def __init__(
        self, count: int, initializer: Callable[..., object] | None = None, *initargs: object
    ) -> None:
        self.workers = ThreadWorkers(count, Setup(initializer, initargs), "test")

    def submit(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> CallFuture[Any]:
        return self.workers.submit(function, arguments, keywords, None)

    def call(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None, retries: int = 0
    ) -> CallFuture[Any]:
        return self.workers.submit(function, arguments, {}, Call(Options(timeout, retries), function))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.close()
        self.workers.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does soon."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.001)


def spin(release: threading.Event) -> str:
    """A call that runs Python all the time, so that it can be stopped."""
    while not release.is_set():
        pass
    return "released"
