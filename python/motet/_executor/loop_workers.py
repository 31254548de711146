"""The place of coroutine functions: an event loop in a thread, with the interface of other workers."""

from __future__ import annotations

import asyncio
import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from .coroutines import Caller, LoopThread
from .futures import CallFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .calls import Call

# Calls at the same time: as many connections as HTTP clients usually keep.
TASKS = 100


class _Call:
    """A call on its way."""

    __slots__ = ("end", "future", "is_running", "task", "what")

    def __init__(self, future: CallFuture[Any], what: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.future = future
        self.what = what
        # It may wait for others to end.
        self.task: asyncio.Task[Any] | None = None
        self.is_running = False
        self.end: BaseException | None = None


class LoopWorkers:
    """Calls of coroutine functions, so many at once. Thread-safe. Futures ask it about their calls."""

    broken = None

    def __init__(self, limit: int | None, name: str) -> None:
        self._name = name
        self._room = asyncio.Semaphore(limit or TASKS)
        self._thread: LoopThread | None = None
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._submitted = self._finished = 0
        self._closing = False
        # Signal handlers may cancel.
        self._idle = threading.Condition(threading.RLock())

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call."""
        number = next(self._numbers)
        future: CallFuture[Any] = CallFuture(origin=self, number=number)
        with self._idle:
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                self._thread = LoopThread(self._name)
            self._calls[number] = _Call(future, partial(_run, function, arguments, keywords, call))
            self._submitted += 1
            self._thread.loop.call_soon_threadsafe(self._start, number)
        return future

    def close(self) -> None:
        """No more calls come: the loop ends when all is done."""
        with self._idle:
            self._closing = True
        self._end_if_over()

    def join(self) -> None:
        """Wait until all is done, after `close`."""
        if self._thread is None or self._thread.is_current():
            return
        with self._idle:
            while self._calls:
                self._idle.wait()
        self._end_if_over()

    def withdraw_all(self) -> list[CallFuture[Any]]:
        """Take back the calls that have not begun, the oldest first."""
        with self._idle:
            waiting = [(number, call.future) for number, call in self._calls.items() if not call.is_running]
            return [future for number, future in waiting if self._withdraw(number)]

    def kill_all(self) -> None:
        """Cancel all that has begun."""
        for number in list(self._calls):
            self._kill(number)

    def unfinished(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    def statistics(self) -> dict[str, Any]:
        """Counts of calls: `submitted`, `finished`, `queued`, `running`."""
        with self._idle:
            running = sum(call.is_running for call in self._calls.values())
            return {
                "submitted": self._submitted,
                "finished": self._finished,
                "queued": len(self._calls) - running,
                "running": running,
            }

    # ---- on the loop ----

    def _start(self, number: int) -> None:
        call = self._calls.get(number)
        if call is not None:
            call.task = asyncio.get_running_loop().create_task(self._carry_out(number, call))
            call.task.add_done_callback(partial(self._end, number))

    async def _carry_out(self, number: int, call: _Call) -> Any:
        async with self._room:
            with self._idle:
                if number not in self._calls:
                    # Taken back just now.
                    return None
                call.is_running = True
            try:
                return await call.what()
            except (SystemExit, KeyboardInterrupt) as error:
                # From a task they would end the loop, and all calls with it.
                call.end = error

    def _end(self, number: int, task: asyncio.Task[Any]) -> None:
        call = self._calls.get(number)
        # One that was taken back has been told of.
        if call is not None:
            error = call.end or (None if task.cancelled() else task.exception())
            self._finished += 1
            if task.cancelled():
                call.future._end_cancelled()
            elif error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result(task.result())
            with self._idle:
                del self._calls[number]
                self._idle.notify_all()
        self._end_if_over()

    def _drop(self, call: _Call) -> None:
        if call.task is not None:
            call.task.cancel()
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._closing and not self._calls and self._thread is not None:
            self._thread.close()

    # ---- for futures ----

    def _withdraw(self, number: int) -> bool:
        with self._idle:
            call = self._calls.get(number)
            if call is None or call.is_running or self._thread is None:
                return False
            del self._calls[number]
            self._idle.notify_all()
            self._thread.loop.call_soon_threadsafe(self._drop, call)
        return True

    def _is_running(self, number: int) -> bool:
        call = self._calls.get(number)
        return call is not None and call.is_running

    def _kill(self, number: int) -> bool:
        with self._idle:
            call = self._calls.get(number)
            if call is None or call.task is None or self._thread is None:
                return False
            self._thread.loop.call_soon_threadsafe(call.task.cancel)
        return True


async def _run(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    call: Call | None,
) -> Any:
    if call is None:
        return await function(*arguments, **keywords)
    caller = Caller(partial(function, **keywords), 1, call.options.timeout, call.options.retries, str(call))
    return await caller.call(arguments)
