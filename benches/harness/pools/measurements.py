"""What is measured of a pool, one function for each row, in a process of its own."""

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.pools import contenders, jobs, rows
from harness.pools.contenders import Futures
from harness.pools.recovery import recovery_time
from harness.pools.rows import Sizes

MOST_CALLS = 100_000
MOST_ROUND_TRIPS = 2_000
LEAST_ROUND_TRIPS = 20
NAP = 0.001
KEYS = 16
TURNS = 9
PAGE = os.sysconf("SC_PAGE_SIZE")

Values = dict[str, float]
Run = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterable[Any]]


def no_op(pool: Futures, sizes: Sizes) -> Values:
    """Measure calls that do nothing: submit all, then wait for all. Every pool gets as many as it can do."""
    pool.run(jobs.nothing, [()] * 100)
    count = 128
    while True:
        begin = time.perf_counter()
        pool.run(jobs.nothing, [()] * count)
        elapsed = time.perf_counter() - begin
        if elapsed >= sizes.seconds or count >= MOST_CALLS:
            return {rows.CALLS_PER_SECOND: count / elapsed, "calls": count}
        count = min(MOST_CALLS, count * 2)


def round_trip(pool: Futures, sizes: Sizes) -> Values:
    """Measure calls one after the other."""
    for _ in range(LEAST_ROUND_TRIPS):
        pool.call(jobs.nothing)
    samples: list[float] = []
    deadline = time.perf_counter() + sizes.seconds
    while len(samples) < LEAST_ROUND_TRIPS or (
        time.perf_counter() < deadline and len(samples) < MOST_ROUND_TRIPS
    ):
        begin = time.perf_counter()
        pool.call(jobs.nothing)
        samples.append(time.perf_counter() - begin)
    return {rows.MICROSECONDS: statistics.median(samples) * 1e6}


def dictionaries(pool: Futures, sizes: Sizes) -> Values:
    """Measure calls with a dictionary of 1 KiB as argument and as result, no two of them the same object."""
    size = 1024 // KEYS - 8
    calls = [
        ({f"k{key}": f"{number:>{size}}{key}" for key in range(KEYS)},)
        for number in range(sizes.dictionaries)
    ]
    pool.run(jobs.nothing, [()] * 100)
    begin = time.perf_counter()
    results = pool.run(jobs.same, calls)
    elapsed = time.perf_counter() - begin
    _check(results[-1], calls[-1][0])
    return {rows.CALLS_PER_SECOND: len(calls) / elapsed}


def million(pool: Futures, sizes: Sizes) -> Values:
    """Measure a map whose chunks are the library's choice."""
    pool.map(abs, range(1_000))
    begin = time.perf_counter()
    total = pool.map(abs, range(sizes.items))
    elapsed = time.perf_counter() - begin
    _check(total, sizes.items * (sizes.items - 1) // 2)
    return {rows.CALLS_PER_SECOND: sizes.items / elapsed}


def array_in(pool: Futures, sizes: Sizes) -> Values:
    """Measure a call with an array that no call had before."""
    import numpy as np

    return _argument(pool, sizes, lambda: np.ones(sizes.array_bytes // 8))


def born_in(pool: Futures, sizes: Sizes) -> Values:
    """Measure a call with an array that was born where workers see it."""
    import motet

    def make() -> Any:
        array = motet.empty(sizes.array_bytes // 8)
        array[:] = 1.0
        return array

    return _argument(pool, sizes, make)


def array_out(pool: Futures, sizes: Sizes) -> Values:
    """Measure a call that returns an array."""
    return _result(pool, sizes, jobs.kept)


def born_out(pool: Futures, sizes: Sizes) -> Values:
    """Measure a call that returns an array that was born where its parent sees it."""
    return _result(pool, sizes, jobs.kept_shared)


def _argument(pool: Futures, sizes: Sizes, make: Callable[[], Any]) -> Values:
    samples = []
    for _ in range(sizes.array_samples + 1):
        array = make()
        begin = time.perf_counter()
        answer = pool.call(jobs.ends, array)
        samples.append(time.perf_counter() - begin)
        _check(answer, 2.0)
        del array
    return {rows.MILLISECONDS: statistics.median(samples[1:]) * 1e3}


def _result(pool: Futures, sizes: Sizes, function: Callable[[int], Any]) -> Values:
    # Each of the workers makes its array before.
    pool.run(function, [(sizes.array_bytes,)] * (2 * rows.WORKERS))
    samples = []
    for _ in range(sizes.array_samples):
        begin = time.perf_counter()
        array = pool.call(function, sizes.array_bytes)
        samples.append(time.perf_counter() - begin)
        _check((float(array[-1]), array.nbytes), (1.0, sizes.array_bytes))
        del array
    return {rows.MILLISECONDS: statistics.median(samples) * 1e3}


def killed(pool: Futures, sizes: Sizes) -> Values:
    """Kill a worker under load, and see when as many calls end per millisecond as before; see `recovery`."""
    ended: list[tuple[float, Any]] = []
    for _ in range(int(sizes.kill_seconds / NAP * rows.WORKERS)):
        pool.submit(jobs.nap, (NAP,), lambda result: ended.append((time.perf_counter(), result)))
    begin = time.perf_counter()
    while time.perf_counter() < begin + sizes.kill_seconds / 2:
        time.sleep(NAP)
    victim = ended[-1][1]
    at = time.perf_counter()
    os.kill(victim, 9)
    time.sleep(sizes.kill_seconds / 2)
    return recovery_time(list(ended), at)


def queued(pool: Futures, sizes: Sizes) -> Values:
    """Measure the memory that calls take in the parent while they wait for workers, which are held up."""
    with tempfile.NamedTemporaryFile() as held:
        for _ in range(rows.WORKERS):
            pool.queue(jobs.hold, (held.name,))
        # Some more, for what is only made once.
        waiting = [pool.queue(jobs.nothing, ()) for _ in range(100)]
        time.sleep(0.5)
        gc.collect()
        before = _resident()
        begin = time.perf_counter()
        waiting += [pool.queue(jobs.nothing, ()) for _ in range(sizes.queued)]
        elapsed = time.perf_counter() - begin
        gc.collect()
        grown = _resident() - before
    return {rows.BYTES: grown / sizes.queued, "submit_us": elapsed / sizes.queued * 1e6}


def speedup(pool: Futures, sizes: Sizes) -> Values:
    """Measure calls of 1 ms of work beside the same work in this thread, by turns: processors change pace."""
    calls = [(jobs.calibrate(0.001),)] * sizes.work_calls
    times, alone = _by_turns(_alone, pool.run, calls)
    return {rows.TIMES: times, "call_ms": alone / len(calls) * 1e3}


def efficiency(pool: Futures, sizes: Sizes) -> Values:
    """Measure the same calls beside the same number of bare processes, by turns."""
    calls = [(jobs.calibrate(0.001),)] * sizes.work_calls
    bare = contenders.make(contenders.BARE, rows.WORKERS)
    part, alone = _by_turns(bare.run, pool.run, calls)
    bare.close()
    return {rows.PART: part, "call_ms": alone / len(calls) * 1e3 * rows.WORKERS}


def fresh(name: str) -> Values:
    """Measure the time from the making of a pool to its first result."""
    contenders.prepare(name)
    return {rows.MILLISECONDS: _first_result(name)[0] * 1e3}


def second(name: str) -> Values:
    """Measure the same in a process that has had such a pool before."""
    contenders.prepare(name)
    _first_result(name)[1].close()
    return {rows.MILLISECONDS: _first_result(name)[0] * 1e3}


def _first_result(name: str) -> tuple[float, Futures]:
    begin = time.perf_counter()
    pool = contenders.make(name, rows.WORKERS)
    pool.call(jobs.nothing)
    return time.perf_counter() - begin, pool


def _by_turns(one: Run, other: Run, calls: list[tuple[Any, ...]]) -> tuple[float, float]:
    """How many times as long one takes for the calls as the other, and how long it takes, in seconds.

    Medians of the turns: a machine that is shared takes processors away for some of them.
    """
    for run in (one, other):
        run(jobs.work, [(1,)] * 20)
    seconds: list[tuple[float, float]] = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        one(jobs.work, calls)
        middle = time.perf_counter()
        other(jobs.work, calls)
        seconds.append((middle - begin, time.perf_counter() - middle))
    ratios = [first / second for first, second in seconds]
    return statistics.median(ratios), statistics.median(first for first, _ in seconds)


def _alone(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [function(*arguments) for arguments in calls]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _check(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise AssertionError(f"the pool returned {str(found)[:60]} instead of {str(wanted)[:60]}")


ON_A_POOL: dict[str, Callable[[Futures, Sizes], Values]] = {
    rows.NO_OP: no_op,
    rows.ROUND_TRIP: round_trip,
    rows.DICTIONARIES: dictionaries,
    rows.MILLION: million,
    rows.ARRAY_IN: array_in,
    rows.ARRAY_OUT: array_out,
    rows.BORN_IN: born_in,
    rows.BORN_OUT: born_out,
    rows.KILLED: killed,
    rows.PER_CALL: queued,
    rows.SPEEDUP: speedup,
    rows.EFFICIENCY: efficiency,
}
STARTS: dict[str, Callable[[str], Values]] = {rows.FRESH: fresh, rows.SECOND: second}
