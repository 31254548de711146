"""Locks, semaphores, events and barriers, for threads and tasks alike."""

from collections.abc import Generator
from typing import Any, Self

from motet._motet import BarrierCore, EventCore, LockCore, SemaphoreCore

__all__ = ["Barrier", "Event", "Lock", "RLock", "Semaphore"]


class Lock(LockCore):
    """A lock that one thread or task holds at a time, in the order in which they came.

    With the methods of `threading.Lock`, and as `with lock:` and `async with lock:`. Anybody may release it.
    """

    __slots__ = ()

    def __new__(cls) -> Self:
        return super().__new__(cls, False)

    def __repr__(self) -> str:
        return f"<motet.{type(self).__name__} {'locked' if self.locked() else 'unlocked'}>"


class RLock(Lock):
    """A lock that its owner, a thread or a task, may acquire again, and releases as often.

    Tasks are told apart, also those of one thread.
    """

    __slots__ = ()

    def __new__(cls) -> Self:
        return LockCore.__new__(cls, True)


class Semaphore(SemaphoreCore):
    """So many threads and tasks may go on at the same time; the others wait in the order in which they came.

    Args:
        value: how many.
        bounded: whether it is an error to release more often than was acquired.
    """

    __slots__ = ()

    def __new__(cls, value: int = 1, *, bounded: bool = False) -> Self:
        return super().__new__(cls, value, bounded)

    def __repr__(self) -> str:
        return f"<motet.Semaphore value={self.value}>"


class Event(EventCore):
    """A flag that any number of threads and tasks can wait for.

    `wait(timeout)` blocks, `await event.await_(timeout)` and `await event` do not.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, bool]:
        return self.await_().__await__()

    def __repr__(self) -> str:
        return f"<motet.Event {'set' if self.is_set() else 'not set'}>"


class Barrier(BarrierCore):
    """So many threads and tasks wait for one another, then all go on; again and again.

    As `threading.Barrier`: who stops waiting, by a timeout or because it is cancelled, breaks it for all.

    Args:
        parties: how many.
    """

    __slots__ = ()

    def __new__(cls, parties: int) -> Self:
        return super().__new__(cls, parties)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others.

        Returns:
            A number from 0 on, in the order in which they came; each is given once.

        Raises:
            BrokenBarrier: it is broken; TimeoutError: it took too long, and the barrier is broken now.
        """
        try:
            return self._wait(timeout)
        except BaseException:
            self.abort()
            raise

    async def await_(self, timeout: float | None = None) -> int:
        """As `wait`, awaited."""
        try:
            return await self._await(timeout)
        except BaseException:
            self.abort()
            raise

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"{self.n_waiting}/{self.parties}"
        return f"<motet.Barrier {state}>"
