"""The iterator of `motet.amap`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .coroutines import Caller
from .course import Course, ExecutorWorkers, Source

if TYPE_CHECKING:
    from .mapping import Plan


class _Tasks:
    """The tasks in which an asynchronous function's calls run."""

    alone = True

    def __init__(self, plan: Plan) -> None:
        self._several = len(plan.iterables) > 1
        self._caller = Caller(plan.function, plan.workers, plan.timeout, plan.retries)
        self._running: set[asyncio.Task[Any]] = set()

    def send(self, items: list[Any]) -> Any:
        """Call the function with the item."""
        arguments = items[0] if self._several else (items[0],)
        task = asyncio.create_task(self._caller.call(arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def close(self, clean: bool) -> None:
        """Nothing is to be ended: the tasks are cancelled by then."""

    async def wait(self) -> None:
        """Wait until the tasks that were cancelled have ended."""
        if self._running:
            await asyncio.wait(set(self._running))


class _AsyncSource:
    """The items of iterables some of which are asynchronous. A task takes as many as were asked for."""

    def __init__(self, iterables: tuple[Any, ...], wake: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._iterables = iterables
        self._wake = wake
        self._wanted = 0
        self._has_room = asyncio.Event()
        self._pending: list[Any] = []
        self._is_over = False
        self._task = asyncio.create_task(self._pull())

    @property
    def ended(self) -> bool:
        return self._is_over and not self._pending

    def take(self, count: int) -> list[Any]:
        """What is there, up to so many items; the others are wanted."""
        items = self._pending[:count]
        del self._pending[:count]
        self._wanted = count - len(items)
        self._has_room.set()
        return items

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _pull(self) -> None:
        try:
            steps = [_steps(iterable) for iterable in self._iterables]
            while True:
                while len(self._pending) >= self._wanted:
                    self._has_room.clear()
                    await self._has_room.wait()
                parts = []
                for step in steps:
                    parts.append(await step())
                self._pending.append(tuple(parts) if len(steps) > 1 else parts[0])
                self._wake()
        except StopAsyncIteration:
            pass
        except Exception as error:
            self.error = error
        self._is_over = True
        self._wake()


def _steps(iterable: Any) -> Callable[[], Any]:
    """What gives an awaitable for each item; its end is `StopAsyncIteration`."""
    if isinstance(iterable, AsyncIterable):
        return aiter(iterable).__anext__
    iterator: Iterator[Any] = iter(iterable)
    nothing = object()

    async def step() -> Any:
        item = next(iterator, nothing)
        if item is nothing:
            raise StopAsyncIteration
        return item

    return step


async def results(plan: Plan, items: Iterator[Any] | None) -> AsyncGenerator[Any, None]:
    """What the calls return. `items` is None if an iterable is asynchronous."""
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError(_no_loop())
    something = asyncio.Event()

    def wake() -> None:
        # From whatever thread ends a call. A closed loop has nobody who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(something.set)

    workers = _Tasks(plan) if plan.is_async else ExecutorWorkers(plan)
    source: Source | _AsyncSource | None = None
    course: Course | None = None
    error: BaseException | None = None
    try:
        source = _AsyncSource(plan.iterables, something.set) if items is None else Source(items)
        course = Course(plan, workers.send, workers.alone)
        flight = course.flight
        flight.on_arrival = something.set if plan.is_async else wake
        while True:
            something.clear()
            flight.send_returned()
            while not source.ended and (count := flight.wants()):
                begin = perf_counter()
                taken = source.take(count)
                if taken:
                    flight.add(taken)
                    course.sizer.feed(len(taken), perf_counter() - begin)
                if items is None and not taken:
                    break
                # To send takes time: others shall have their turn.
                await asyncio.sleep(0)
                if flight.look():
                    break
            if not flight.look():
                if source.ended and flight.is_over:
                    break
                await something.wait()
                continue
            found, error = course.settle(flight.take())
            for result in found:
                yield result
            if error is not None:
                raise error
        if source.error is not None:
            raise source.error
    finally:
        # The exception's traceback has this frame.
        del error
        clean = course is None or course.close()
        if isinstance(source, _AsyncSource):
            await source.close()
        if isinstance(workers, _Tasks):
            await workers.wait()
        workers.close(clean)


def _no_loop() -> str:
    trio: Any = sys.modules.get("trio")
    where = ""
    if trio is not None and trio.lowlevel.in_trio_run():
        where = "; trio's tasks can use 'await trio.to_thread.run_sync' with motet.map()"
    return f"motet.amap() needs an event loop of asyncio that runs{where}"
