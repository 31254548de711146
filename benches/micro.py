"""The microbenchmarks of one event loop in a process of its own; prints nanoseconds per operation as JSON.

The garbage collector stays on, as it is in the programs that these figures stand for; it runs once before
each sample, so that no sample pays for the one before.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import statistics
import threading
from collections.abc import Callable
from time import perf_counter_ns

from harness import loops, rows

Loop = asyncio.AbstractEventLoop
SAMPLES_AT_LEAST = 3
GATHERED = 1_000
BURST = 1_000
TIMERS_PER_TURN = 1_000


def _nothing() -> None:
    pass


async def _trivial() -> None:
    pass


def call_soon_chain(loop: Loop, count: int) -> int:
    """Each callback schedules the next; one operation is one callback."""
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            loop.stop()

    begin = perf_counter_ns()
    loop.call_soon(step)
    loop.run_forever()
    return perf_counter_ns() - begin


def call_soon_bulk(loop: Loop, count: int) -> int:
    """All callbacks are scheduled, then all run; one operation is scheduling and running one."""
    begin = perf_counter_ns()
    for _ in range(count):
        loop.call_soon(_nothing)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return perf_counter_ns() - begin


def sleep_zero(loop: Loop, count: int) -> int:
    """One operation is one `await asyncio.sleep(0)` in one task."""

    async def main() -> int:
        begin = perf_counter_ns()
        for _ in range(count):
            await asyncio.sleep(0)
        return perf_counter_ns() - begin

    return loop.run_until_complete(main())


def create_task(loop: Loop, count: int) -> int:
    """One operation makes a task of a coroutine that does nothing, and awaits it."""

    async def main() -> int:
        begin = perf_counter_ns()
        for _ in range(count):
            await loop.create_task(_trivial())
        return perf_counter_ns() - begin

    return loop.run_until_complete(main())


def gather(loop: Loop, count: int) -> int:
    """One operation is one of the 1,000 coroutines of a `gather`."""

    async def main() -> int:
        begin = perf_counter_ns()
        for _ in range(count // GATHERED):
            await asyncio.gather(*[_trivial() for _ in range(GATHERED)])
        return perf_counter_ns() - begin

    return loop.run_until_complete(main())


def queues(loop: Loop, count: int) -> int:
    """One operation is a round trip between two tasks: two puts and two gets, over one queue each way."""

    async def main() -> int:
        there: asyncio.Queue[int] = asyncio.Queue()
        back: asyncio.Queue[int] = asyncio.Queue()

        async def answer() -> None:
            for _ in range(count):
                await back.put(await there.get())

        answering = loop.create_task(answer())
        begin = perf_counter_ns()
        for number in range(count):
            await there.put(number)
            await back.get()
        elapsed = perf_counter_ns() - begin
        await answering
        return elapsed

    return loop.run_until_complete(main())


def call_later_cancel(loop: Loop, count: int) -> int:
    """One operation sets a timer of half a minute and cancels it; every 1,000 the loop takes a turn."""

    async def main() -> int:
        begin = perf_counter_ns()
        for _ in range(count // TIMERS_PER_TURN):
            for _ in range(TIMERS_PER_TURN):
                loop.call_later(30.0, _nothing).cancel()
            await asyncio.sleep(0)
        return perf_counter_ns() - begin

    return loop.run_until_complete(main())


def threadsafe_own(loop: Loop, count: int) -> int:
    """As `call_soon` in bulk, through `call_soon_threadsafe` from the loop's own thread."""
    begin = perf_counter_ns()
    for _ in range(count):
        loop.call_soon_threadsafe(_nothing)
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    return perf_counter_ns() - begin


def threadsafe_other(loop: Loop, count: int) -> int:
    """Another thread sends bursts of 1,000 callbacks, each burst once the one before has run."""
    ran = threading.Event()

    def produce() -> None:
        try:
            for _ in range(count // BURST):
                ran.clear()
                for _ in range(BURST - 1):
                    loop.call_soon_threadsafe(_nothing)
                loop.call_soon_threadsafe(ran.set)
                ran.wait()
        finally:
            loop.call_soon_threadsafe(loop.stop)

    producer = threading.Thread(target=produce)
    begin = perf_counter_ns()
    producer.start()
    loop.run_forever()
    elapsed = perf_counter_ns() - begin
    producer.join()
    return elapsed


BENCHMARKS: dict[str, tuple[Callable[[Loop, int], int], int]] = {
    rows.CHAIN: (call_soon_chain, 50_000),
    rows.BULK: (call_soon_bulk, 100_000),
    rows.SLEEP: (sleep_zero, 30_000),
    rows.CREATE_TASK: (create_task, 15_000),
    rows.GATHER: (gather, 15_000),
    rows.QUEUES: (queues, 10_000),
    rows.TIMER: (call_later_cancel, 50_000),
    rows.THREADSAFE_OWN: (threadsafe_own, 50_000),
    rows.THREADSAFE_OTHER: (threadsafe_other, 20_000),
}


def measure(loop: Loop, function: Callable[[Loop, int], int], count: int, seconds: float) -> float:
    """Return the median of as many samples as fit into `seconds`, after one that is thrown away."""
    function(loop, count)
    samples: list[float] = []
    deadline = perf_counter_ns() + seconds * 1e9
    while len(samples) < SAMPLES_AT_LEAST or perf_counter_ns() < deadline:
        gc.collect()
        samples.append(function(loop, count) / count)
    return statistics.median(samples)


def main() -> None:
    """Run every microbenchmark on the loop named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", choices=loops.LOOPS, required=True)
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="time for each benchmark (default: %(default)s)"
    )
    parser.add_argument(
        "--cpu", type=int, help="run on this processor, except where two threads are measured"
    )
    parser.add_argument("--row", action="append", choices=BENCHMARKS, help="only this row; repeatable")
    parser.add_argument("--native-tasks", action="store_true", help="with the loop's own tasks (motet)")
    arguments = parser.parse_args()
    every_cpu = os.sched_getaffinity(0)
    loop = loops.new_event_loop(arguments.loop)
    if arguments.native_tasks:
        loop.set_task_factory(importlib.import_module(arguments.loop).task_factory)
    outcome: dict[str, dict[str, float] | str] = {}
    for row in arguments.row or BENCHMARKS:
        function, count = BENCHMARKS[row]
        alone = arguments.cpu is not None and row != rows.THREADSAFE_OTHER
        os.sched_setaffinity(0, {arguments.cpu} if alone else every_cpu)
        try:
            outcome[row] = {rows.NANOSECONDS: measure(loop, function, count, arguments.seconds)}
        except Exception as error:
            outcome[row] = f"{type(error).__name__}: {error}"
    loop.close()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
