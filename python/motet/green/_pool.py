"""So many green threads at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

from motet import _motet
from motet._motet import GreenThread
from motet._waits.locks import Semaphore

from ._starting import join, kill

T = TypeVar("T")
U = TypeVar("U")
P = ParamSpec("P")


class Pool:
    """Runs functions in green threads, no more than `size` at a time.

    Args:
        size: how many; None for any number.
    """

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"size must be one or more, not {size}")
        self.size = size
        self._places = None if size is None else Semaphore(size)
        self._threads: set[GreenThread[Any]] = set()

    def __len__(self) -> int:
        return len(self._threads)

    def spawn(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "GreenThread[T]":
        """As `green.spawn`; waits until there is a place."""
        if self._places is not None:
            self._places.acquire()
        try:
            thread = _motet._make_green_thread(self._run, function, args, kwargs)
        except BaseException:
            self._leave(None)
            raise
        self._threads.add(thread)
        thread._start()
        return thread

    def map(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """The results of a function for each item, in their order; as many under way as there are places."""
        for thread in [self.spawn(function, item) for item in items]:
            yield thread.result()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all have ended, or for `timeout` seconds; whether they have."""
        threads = list(self._threads)
        return len(join(threads, timeout)) == len(threads)

    def kill(self, timeout: float | None = None) -> bool:
        """End all that are there, and wait for that; whether they have ended."""
        threads = list(self._threads)
        for thread in threads:
            kill(thread, timeout=0)
        return len(join(threads, timeout)) == len(threads)

    def _run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        thread = _motet._current_green_thread()
        try:
            return function(*args, **kwargs)
        finally:
            self._leave(thread)

    def _leave(self, thread: "GreenThread[Any] | None") -> None:
        if thread is not None:
            self._threads.discard(thread)
        if self._places is not None:
            self._places.release()
