"""The iterator of `motet.map`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .course import Course, ExecutorWorkers, Source

if TYPE_CHECKING:
    from .flight import Flight
    from .mapping import Plan


class _LoopWorkers:
    """The loop on which an asynchronous function's calls run."""

    alone = True

    def __init__(self, plan: Plan) -> None:
        from asyncio import run_coroutine_threadsafe

        from .coroutines import Caller, LoopThread

        self._run = run_coroutine_threadsafe
        prepare = None if plan.initializer is None else partial(plan.initializer, *plan.initargs)
        self._several = len(plan.iterables) > 1
        self._caller = Caller(plan.function, plan.workers, plan.timeout, plan.retries)
        self._thread = LoopThread("motet.map", prepare)

    def send(self, items: list[Any]) -> Any:
        """Call the function with the item."""
        call = self._caller.call(items[0] if self._several else (items[0],))
        return self._run(call, self._thread.loop)

    def close(self, clean: bool) -> None:
        """End the loop."""
        self._thread.close()


def results(plan: Plan, items: Iterator[Any]) -> Generator[Any, None, None]:
    """What the calls return, as they are asked for."""
    source = Source(items)
    workers: ExecutorWorkers | _LoopWorkers = _LoopWorkers(plan) if plan.is_async else ExecutorWorkers(plan)
    course: Course | None = None
    error: BaseException | None = None
    try:
        course = Course(plan, workers.send, workers.alone)
        flight = course.flight
        while True:
            flight.send_returned()
            _fill(course, flight, source)
            if flight.is_over:
                break
            found, error = course.settle(flight.wait())
            yield from found
            if error is not None:
                raise error
        if source.error is not None:
            raise source.error
    finally:
        # The exception's traceback has this frame.
        del error
        source.error = None
        workers.close(course is None or course.close())


def _fill(course: Course, flight: Flight, source: Source) -> None:
    """Send what there is room for; no more than one chunk while a result is ready."""
    while not source.ended:
        count = flight.wants()
        if not count:
            return
        begin = perf_counter()
        items = source.take(count)
        if items:
            flight.add(items)
            course.sizer.feed(len(items), perf_counter() - begin)
        if flight.look():
            return
