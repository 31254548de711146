"""What a pool's methods give before the calls have ended: `AsyncResult` and iterators of results."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from itertools import chain
from multiprocessing import TimeoutError as NotInTime
from multiprocessing import pool
from typing import TYPE_CHECKING, Any

from ._calls import outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    Callback = Callable[[Any], object] | None

_StockResult: Any = pool.ApplyResult
_StockIterator: Any = pool.IMapIterator


class AsyncResult(_StockResult):  # type: ignore[misc]
    """The result of `apply_async`, now or later. Thread-safe."""

    def __init__(self, callback: Callback, error_callback: Callback) -> None:
        self._event = threading.Event()
        self._callbacks = callback, error_callback
        self._success = True
        self._value: Any = None

    def ready(self) -> bool:
        """Whether the call has ended, and its callback too."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether the call has returned.

        Raises:
            ValueError: it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, or for `timeout` seconds."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """What the call has returned or raised; waits for it.

        Raises:
            multiprocessing.TimeoutError: it has not ended after `timeout` seconds.
        """
        if not self._event.wait(timeout):
            raise NotInTime
        if self._success:
            return self._value
        raise self._value

    def _follow(self, future: Future[Any]) -> None:
        future.add_done_callback(lambda ended: self._settle(*outcome(ended)))

    def _settle(self, success: bool, value: Any) -> None:
        self._success, self._value = success, value
        callback = self._callbacks[0 if success else 1]
        self._callbacks = None, None
        try:
            if callback is not None:
                callback(value)
        finally:
            self._event.set()


class MapResult(AsyncResult):
    """The result of `map_async`: a list, once all of its chunks are done."""

    def __init__(self, chunks: int, callback: Callback, error_callback: Callback) -> None:
        super().__init__(callback, error_callback)
        self._parts: list[list[Any]] = [[] for _ in range(chunks)]
        self._left = chunks
        self._lock = threading.Lock()
        if not chunks:
            self._value = []
            self._event.set()

    def _follow_chunk(self, place: int, future: Future[Any]) -> None:
        future.add_done_callback(partial(self._take, place))

    def _take(self, place: int, future: Future[Any]) -> None:
        success, value = outcome(future)
        with self._lock:
            if success:
                self._parts[place] = value
            elif self._success:
                # The first to fail is told of.
                self._success, self._value = False, value
            self._left -= 1
            left = self._left
        if not left:
            self._settle(self._success, list(chain(*self._parts)) if self._success else self._value)
            self._parts.clear()


class IMapIterator(_StockIterator):  # type: ignore[misc]
    """The results of `imap`, in the order of the items. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Calls in the order in which their results are given.
        self._calls: deque[Future[Any]] = deque()
        # How many calls there are that have not been taken yet.
        self._left = 0
        self._complete = False
        self._error: BaseException | None = None

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; waits for it.

        Raises:
            multiprocessing.TimeoutError: it is not there after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        call = self._take(until)
        try:
            success, value = outcome(call, _left(until))
        except BaseException as error:
            # It is still the next one.
            with self._changed:
                self._calls.appendleft(call)
                self._left += 1
            if isinstance(error, TimeoutError):
                raise NotInTime from None
            raise
        if success:
            return value
        raise value

    def _take(self, until: float | None) -> Future[Any]:
        with self._changed:
            while not self._calls:
                if self._complete and not self._left:
                    error, self._error = self._error, None
                    if error is not None:
                        raise error
                    raise StopIteration
                if not self._changed.wait(_left(until)):
                    raise NotInTime
            self._left -= 1
            return self._calls.popleft()

    def _add(self, call: Future[Any]) -> None:
        with self._changed:
            self._left += 1
            self._calls.append(call)
            self._changed.notify()

    def _end(self, error: BaseException | None) -> None:
        """No more calls come; the items have ended with this error, if any."""
        with self._changed:
            self._complete, self._error = True, error
            self._changed.notify_all()


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`, as they come. Thread-safe."""

    def _add(self, call: Future[Any]) -> None:
        with self._changed:
            self._left += 1
        call.add_done_callback(self._arrived)

    def _arrived(self, call: Future[Any]) -> None:
        with self._changed:
            self._calls.append(call)
            self._changed.notify()


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
