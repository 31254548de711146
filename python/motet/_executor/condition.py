"""The condition of a future, for `wait()` and `as_completed()` over very many.

Python's own costs 1.5 KiB and two microseconds each; most are acquired once or twice, and never
waited for.
"""

import threading
from collections import deque
from typing import Any


class FutureCondition(threading.Condition):
    """A `threading.Condition` with an RLock, which makes nothing else until a thread waits for it."""

    __slots__ = ("_lock", "_made")

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()
        # The locks of the threads that wait.
        self._made: deque[Any] | None = None

    @property
    def _waiters(self) -> "deque[Any]":
        # Only looked at by who has the lock.
        if self._made is None:
            self._made = deque()
        return self._made

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires the lock; as `threading.RLock.acquire`."""
        return self._lock.acquire(blocking, timeout)  # type: ignore[no-any-return]

    def release(self) -> None:
        """Releases the lock; RuntimeError if this thread does not have it."""
        self._lock.release()

    def notify(self, n: int = 1) -> None:
        """Wakes up to n of the threads that wait; RuntimeError if this thread does not have the lock."""
        if self._made is not None or not self._is_owned():
            super().notify(n)

    def notify_all(self) -> None:
        """Wakes all threads that wait; RuntimeError if this thread does not have the lock."""
        self.notify(len(self._made or ()))

    def _release_save(self) -> Any:
        return self._lock._release_save()

    def _acquire_restore(self, state: Any) -> None:
        self._lock._acquire_restore(state)

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[no-any-return]
