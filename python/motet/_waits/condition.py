"""Conditions: those who hold a lock wait until somebody says that something has changed."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from motet._motet import ConditionCore

from .locks import Lock, RLock

__all__ = ["Condition"]


class Condition(ConditionCore):
    """A condition with its lock, for threads and tasks alike; as those of `threading` and `asyncio`.

    `with condition:` and `async with condition:` hold the lock. A notification that was meant for somebody
    who stops waiting goes to the next.

    Args:
        lock: the lock; an `RLock` of its own if None.
    """

    __slots__ = ("_lock",)
    _lock: Lock

    def __new__(cls, lock: Lock | None = None) -> Self:
        self = super().__new__(cls)
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f"a condition needs a motet.Lock or motet.RLock, not {type(lock).__name__}")
        self._lock = RLock() if lock is None else lock
        return self

    @property
    def lock(self) -> Lock:
        """The lock."""
        return self._lock

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for a notification, acquire the lock; False if there was none in time."""
        self._require_lock()
        waiting = self._begin(timeout)
        depth = self._lock._release_all()
        notified = False
        try:
            notified = self._wait(waiting)
        finally:
            try:
                self._acquire_again(depth)
            except BaseException:
                self._pass_on(notified)
                raise
        return notified

    async def await_(self, timeout: float | None = None) -> bool:
        """As `wait`, awaited."""
        self._require_lock()
        waiting = self._begin(timeout)
        depth = self._lock._release_all()
        notified = False
        try:
            notified = await waiting
        finally:
            try:
                await self._aacquire_again(depth)
            except BaseException:
                self._pass_on(notified)
                raise
        return notified

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until the predicate is true; whether it was in time."""
        until = None if timeout is None else time.monotonic() + timeout
        while not predicate():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return bool(predicate())
            self.wait(left)
        return True

    async def await_for(self, predicate: Callable[[], object], timeout: float | None = None) -> bool:
        """As `wait_for`, awaited."""
        until = None if timeout is None else time.monotonic() + timeout
        while not predicate():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return bool(predicate())
            await self.await_(left)
        return True

    def notify(self, n: int = 1) -> None:
        """Tell `n` of those who wait, the first first. The lock must be held."""
        self._require_lock()
        self._notify(n)

    def notify_all(self) -> None:
        """Tell all who wait. The lock must be held."""
        self.notify(sys.maxsize)

    def statistics(self) -> dict[str, Any]:
        """Who holds the lock, and who waits for what."""
        found = self._lock.statistics()
        return {**found, "waiters": self._waiters() + found["waiters"]}

    def _require_lock(self) -> None:
        if not self._lock.locked():
            raise RuntimeError(
                "the lock of the condition must be held: use 'with condition:' or 'async with'"
            )

    def _pass_on(self, notified: bool) -> None:
        # Who was told, and is interrupted before it can go on, is not the one to act.
        if notified:
            self._notify(1)

    def _acquire_again(self, depth: int) -> None:
        interrupted = None
        for _ in range(depth):
            while True:
                try:
                    self._lock.acquire()
                    break
                except BaseException as error:
                    # By a signal: the caller's block ends by releasing the lock, so it must be held.
                    interrupted = error
        if interrupted is not None:
            raise interrupted

    async def _aacquire_again(self, depth: int) -> None:
        trio: Any = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_task():
            with trio.CancelScope(shield=True):
                for _ in range(depth):
                    await self._lock.aacquire()
            return
        # A task of asyncio's runs here.
        asyncio: Any = sys.modules["asyncio"]
        cancelled = None
        for _ in range(depth):
            while True:
                try:
                    await self._lock.aacquire()
                    break
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    async def __aenter__(self) -> bool:
        return await self._lock.aacquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __repr__(self) -> str:
        return f"<motet.Condition of {self._lock!r}>"
