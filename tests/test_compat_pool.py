"""`multiprocessing.Pool` and `ThreadPool`, Python's beside motet's: same calls, results and exceptions."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from executor_helpers import LIMIT
from motet.compat import pools

pytestmark = [
    pytest.mark.thread_unsafe(reason="each thread would start workers of its own"),
    pytest.mark.timeout(240),
]

MakePool = Callable[..., Any]

# Children by spawn, since pytest's process has threads, which a fork would not have.
PROCESSES: dict[str, MakePool] = {
    "python": multiprocessing.get_context("spawn").Pool,
    "motet": pools.Pool,
}
THREADS: dict[str, MakePool] = {
    "python-threads": multiprocessing.pool.ThreadPool,
    "motet-threads": pools.ThreadPool,
}
BOTH = {**PROCESSES, **THREADS}


@pytest.fixture(params=BOTH)
def make_pool(request: pytest.FixtureRequest) -> MakePool:
    return BOTH[request.param]


@pytest.fixture(params=PROCESSES)
def make_process_pool(request: pytest.FixtureRequest) -> MakePool:
    return PROCESSES[request.param]


@pytest.fixture(scope="module", params=BOTH)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A pool of two workers for tests that leave it as it is."""
    with BOTH[request.param](2) as made:
        yield made
    made.join()


def square(number: int) -> int:
    return number * number


def fail_at(bad: int, number: int) -> int:
    if number == bad:
        raise KeyError(bad)
    return number


def failing_items(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("no more items")


def results_of(iterator: Iterator[Any]) -> list[Any]:
    """What an iterator gives: results, and the exceptions' representations."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as error:
            found.append(repr(error))


def test_apply(pool: Any) -> None:
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    assert pool.apply_async(int, ("11",), {"base": 2}).get(LIMIT) == 3


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("size", [None, 1, 3, 1000])
def test_map_and_starmap(count: int, size: int | None, pool: Any) -> None:
    squares = [number * number for number in range(count)]
    assert pool.map(square, range(count), size) == squares
    assert pool.map(square, iter(range(count)), chunksize=size) == squares
    assert pool.map_async(square, range(count), chunksize=size).get(LIMIT) == squares
    pairs = [(number, 2) for number in range(count)]
    assert pool.starmap(pow, pairs, chunksize=size) == squares
    assert pool.starmap_async(pow, iter(pairs), size).get(LIMIT) == squares


@pytest.mark.parametrize("count", [0, 1, 10])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_imap(count: int, size: int, pool: Any) -> None:
    squares = [number * number for number in range(count)]
    assert list(pool.imap(square, iter(range(count)), size)) == squares
    assert sorted(pool.imap_unordered(square, range(count), chunksize=size)) == squares


def test_an_exhausted_iterator_stays_so(pool: Any) -> None:
    for iterator in (pool.imap(square, [1]), pool.imap_unordered(square, [1])):
        assert (next(iterator), next(iterator, None), next(iterator, None)) == (1, None, None)


def test_exceptions_of_calls(pool: Any) -> None:
    with pytest.raises(KeyError, match="2"):
        pool.apply(fail_at, (2, 2))
    with pytest.raises(KeyError, match="2"):
        pool.apply_async(fail_at, (2, 2)).get(LIMIT)
    for size in (None, 1, 4):
        with pytest.raises(KeyError, match="2"):
            pool.map(partial(fail_at, 2), range(8), size)
    with pytest.raises(TypeError):
        pool.starmap(square, [(1, 2)])


def test_exceptions_in_iterators_stand_in_their_places(pool: Any) -> None:
    call = partial(fail_at, 2)
    assert results_of(pool.imap(call, range(4))) == [0, 1, "KeyError(2)", 3]
    found = results_of(pool.imap_unordered(call, range(4)))
    assert sorted(map(str, found)) == ["0", "1", "3", "KeyError(2)"]
    # A chunk fails as a whole; the generator over all chunks ends with it.
    assert results_of(pool.imap(call, range(8), 2)) == [0, 1, "KeyError(2)"]


def test_exceptions_of_the_items(pool: Any) -> None:
    with pytest.raises(LookupError, match="no more items"):
        pool.map(square, failing_items(3), 1)
    assert results_of(pool.imap(square, failing_items(3))) == [0, 1, 4, "LookupError('no more items')"]
    assert results_of(pool.imap(square, failing_items(0))) == ["LookupError('no more items')"]
    found = results_of(pool.imap_unordered(square, failing_items(3)))
    assert sorted(map(str, found)) == ["0", "1", "4", "LookupError('no more items')"]


@pytest.mark.parametrize("size", [0, -1])
def test_chunks_of_nothing(size: int, pool: Any) -> None:
    for method in (pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="Chunksize must be 1"):
            method(square, [1], size)


def wait_for_file(path: Path) -> None:
    until = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_results_that_are_not_there_yet(pool: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    result = pool.apply_async(wait_for_file, (go_on,))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    go_on.touch()
    result.wait(LIMIT)
    assert result.ready()
    assert result.successful()
    assert result.get() is None
    failed = pool.apply_async(fail_at, (1, 1))
    failed.wait(LIMIT)
    assert not failed.successful()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_iterator_that_waits_too_long_goes_on(method: str, pool: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    results = getattr(pool, method)(wait_for_file, [go_on, go_on])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    go_on.touch()
    for _ in range(2):
        assert results.next(LIMIT) is None
    with pytest.raises(StopIteration):
        results.next(LIMIT)


def test_callbacks_come_before_the_result(pool: Any) -> None:
    told: list[Any] = []
    given = {"callback": told.append, "error_callback": lambda error: told.append(repr(error))}
    pool.apply_async(square, (3,), **given).wait(LIMIT)
    pool.apply_async(fail_at, (3, 3), **given).wait(LIMIT)
    pool.map_async(square, range(4), 1, **given).wait(LIMIT)
    pool.map_async(partial(fail_at, 1), range(4), 1, **given).wait(LIMIT)
    pool.starmap_async(pow, [(2, 3)], **given).wait(LIMIT)
    assert told == [9, "KeyError(3)", [0, 1, 4, 9], "KeyError(1)", [8]]


def test_arguments_that_make_no_sense(make_pool: MakePool) -> None:
    for count in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            make_pool(count)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make_pool(1, initializer=1)


@pytest.mark.parametrize("value", [0, -1, 0.5, "12"])
def test_lifetimes_that_make_no_sense(value: object, make_process_pool: MakePool) -> None:
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        make_process_pool(1, maxtasksperchild=value)


def calls_of(pool: Any) -> list[Callable[[], object]]:
    return [
        lambda: pool.apply(square, (1,)),
        lambda: pool.apply_async(square, (1,)),
        lambda: pool.map(square, [1]),
        lambda: pool.map_async(square, [1]),
        lambda: pool.starmap(pow, [(1, 2)]),
        lambda: pool.starmap_async(pow, [(1, 2)]),
        lambda: pool.imap(square, [1]),
        lambda: pool.imap(square, [1], 2),
        lambda: pool.imap_unordered(square, [1]),
        pool.__enter__,
    ]


def test_a_closed_pool_does_what_it_has(make_pool: MakePool) -> None:
    pool = make_pool(2)
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    one, all_of_them = pool.apply_async(square, (7,)), pool.map_async(square, range(100), 1)
    iterated = pool.imap(square, (number for number in range(100)))
    pool.close()
    pool.close()
    for call in calls_of(pool):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    pool.join()
    assert one.get(LIMIT) == 49
    assert all_of_them.get(LIMIT) == list(iterated) == [number * number for number in range(100)]
    assert "state=CLOSE" in repr(pool)


def test_the_end_of_with_terminates(make_pool: MakePool) -> None:
    with make_pool(2) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
    for call in calls_of(pool):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    pool.terminate()


def test_a_terminated_pool_does_not_go_on(make_process_pool: MakePool) -> None:
    pool = make_process_pool(2)
    pool.map_async(time.sleep, [600] * 1000, chunksize=1)
    pool.imap(time.sleep, iter([600] * 1000))
    pool.terminate()
    pool.join()


def test_pools_do_not_travel(pool: Any) -> None:
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes"):
        pickle.dumps(pool)


_given: list[object] = []


def keep(*values: object) -> None:
    _given[:] = values


def given(_: object) -> list[object]:
    return _given


def test_initializers(make_pool: MakePool) -> None:
    with make_pool(2, keep, (1, "two")) as pool:
        assert pool.map(given, range(20), 1) == [[1, "two"]] * 20
    pool.join()


def process(_: object) -> int:
    return os.getpid()


def test_workers_are_replaced_after_so_many_calls(make_process_pool: MakePool) -> None:
    with make_process_pool(1, maxtasksperchild=2) as pool:
        seen = [pool.apply(process, (0,)) for _ in range(6)]
        assert [len(set(seen[n : n + 2])) for n in (0, 2, 4)] == [1, 1, 1]
        assert len(set(seen)) == 3
        # A chunk counts as one call.
        assert len(set(pool.map(process, range(40), chunksize=20))) == 1
    pool.join()


def test_what_cannot_be_sent(make_process_pool: MakePool) -> None:
    with make_process_pool(1) as pool:
        for call in (pool.apply, lambda *given: pool.apply_async(*given).get(LIMIT), pool.map):
            with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object"):
                call(square, [threading.Lock()])
        for call in (pool.apply, lambda *given: pool.apply_async(*given).get(LIMIT)):
            with pytest.raises(multiprocessing.pool.MaybeEncodingError, match=r"_thread.lock"):
                call(threading.Lock)
        assert pool.apply(square, (2,)) == 4
    pool.join()


def test_a_forgotten_pool_warns(make_pool: MakePool) -> None:
    pool = make_pool(1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        pool.__del__()
    pool.terminate()
    pool.join()


def test_workers_have_names_and_numbers(make_process_pool: MakePool) -> None:
    with make_process_pool(1) as pool:
        name, number = pool.apply(worker_name)
        assert name.endswith(f"PoolWorker-{number}")
        assert [found.pid for found in pool._pool] == [pool.apply(os.getpid)]
    pool.join()


def worker_name() -> tuple[str, int]:
    process: Any = multiprocessing.current_process()
    return process.name, process._identity[-1]


def test_motets_pools_are_pools_of_pythons_class() -> None:
    with pools.Pool(1) as processes, pools.ThreadPool(1) as threads:
        assert isinstance(processes, multiprocessing.pool.Pool)
        assert isinstance(threads, multiprocessing.pool.ThreadPool)
        assert isinstance(processes.apply_async(int), multiprocessing.pool.AsyncResult)
        assert isinstance(processes.imap(int, []), multiprocessing.pool.IMapIterator)
    processes.join()
    threads.join()
