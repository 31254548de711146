"""`motet.map` on worker processes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import RunProgram
from motet._executor import pools

pytestmark = [
    pytest.mark.thread_unsafe(reason="each thread would start workers of its own"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left() -> Iterator[None]:
    yield
    pools.end_all()


def square(number: int) -> int:
    return number * number


def refuse_17(number: int) -> int:
    if number == 17:
        raise LookupError("on purpose")
    return number


class Counting:
    """Numbers, and how many were taken."""

    def __init__(self, end: int) -> None:
        self.taken = 0
        self.end = end

    def __iter__(self) -> Iterator[int]:
        for number in range(self.end):
            self.taken += 1
            yield number


def test_results_come_in_order() -> None:
    assert list(motet.map(square, range(50_000), workers=2)) == [n * n for n in range(50_000)]


def test_results_as_they_come_are_all_there() -> None:
    found = list(motet.map(square, range(50_000), workers=2, ordered=False))
    assert sorted(found) == [n * n for n in range(50_000)]


def test_results_as_they_come_do_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def wait_if_first(number: int) -> int:
        if number == 0:
            gate.read_text()
        return number

    results = motet.map(wait_if_first, range(20), workers=2, ordered=False, chunk=1)
    others = [next(results) for _ in range(19)]
    gate.write_text("go")
    assert sorted(others) == list(range(1, 20))
    assert list(results) == [0]


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_nothing_in_nothing_out(chunk: int | None) -> None:
    assert list(motet.map(square, [], chunk=chunk)) == []


def test_several_iterables_end_with_the_shortest() -> None:
    assert list(motet.map(pow, [2, 3, 4], iter([5, 6]), workers=1)) == [32, 729]
    assert list(motet.map(max, [1, 5], [2, 4], [3, 3], chunk=2, workers=1)) == [3, 5]


def test_functions_that_workers_cannot_import() -> None:
    factor = 3
    assert list(motet.map(lambda number: factor * number, range(5), workers=1)) == [0, 3, 6, 9, 12]


def test_a_large_function_goes_to_the_workers_once() -> None:
    table = bytes(range(256)) * 40_000
    assert list(motet.map(lambda place: table[place], range(1000), workers=2)) == list(table[:1000])


def test_a_method_of_an_object_as_it_was_when_the_mapping_began() -> None:
    class Shift:
        by = 1

        def shift(self, number: int) -> int:
            return number + self.by

    shift = Shift()
    results = motet.map(shift.shift, range(1000), workers=1)
    assert next(results) == 1
    shift.by = 2
    assert list(results) == list(range(2, 1001))


# ---- lazy and bounded ----


def test_nothing_is_taken_before_a_result_is_asked_for() -> None:
    numbers = Counting(10)
    results = motet.map(square, numbers)
    assert numbers.taken == 0
    results.close()
    assert numbers.taken == 0


def test_no_more_is_taken_than_the_buffer_holds() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2, buffer=30)
    for done in range(1, 500):
        next(results)
        # What is being delivered has left the buffer, a chunk at a time.
        assert numbers.taken <= done + 30 + 30
    results.close()


def test_without_a_buffer_no_more_is_taken_than_some_chunks() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2, chunk=5)
    for done in range(1, 500):
        next(results)
        assert numbers.taken <= done + 5 * (4 * 2 + 1)
    results.close()


def test_many_items_take_no_more_memory_than_few(run_program: RunProgram) -> None:
    program = """
        import resource, sys, motet
        def grown(count):
            for _ in motet.map(len, (b"%0500d" % n for n in range(count)), workers=2):
                pass
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown(100_000)
        few = grown(100_000)
        print(grown(500_000) - few)
    """
    done = run_program(program, timeout=110)
    assert done.returncode == 0, done.stderr
    # All of the items would be 250 MB.
    assert int(done.stdout) < 60_000


# ---- errors ----


def test_an_exception_is_raised_in_its_place_and_says_whose_it_is() -> None:
    found = []
    with pytest.raises(LookupError, match="on purpose") as raised:
        for result in motet.map(refuse_17, range(1000), workers=2):
            found.append(result)
    assert found == list(range(17))
    assert raised.value.__notes__ == ["motet.map: item 17 (argument 17)"]


def test_the_item_is_told_in_few_words() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        list(motet.map(int, ["x" * 1000], [10], workers=1))
    (note,) = raised.value.__notes__
    assert note.startswith("motet.map: item 0 (arguments 'xxx")
    assert note.endswith("', 10)")
    assert len(note) < 150


@pytest.mark.parametrize("chunk", [None, 1, 7, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_exceptions_as_results_and_left_out(chunk: int | None, ordered: bool) -> None:
    found = list(motet.map(refuse_17, range(50), workers=2, chunk=chunk, ordered=ordered, on_error="return"))
    (error,) = (result for result in found if isinstance(result, LookupError))
    assert error.__notes__ == ["motet.map: item 17 (argument 17)"]
    if ordered:
        assert found.index(error) == 17
    others = [n for n in range(50) if n != 17]
    assert sorted(result for result in found if result is not error) == others
    skipped = motet.map(refuse_17, range(50), workers=2, chunk=chunk, ordered=ordered, on_error="skip")
    assert sorted(skipped) == others


def test_a_function_that_raises_stop_iteration_ends_nothing_silently() -> None:
    def stop(number: int) -> int:
        if number == 3:
            raise StopIteration
        return number

    found = list(motet.map(stop, range(6), workers=1, chunk=6, on_error="return"))
    assert [type(result) for result in found] == [int, int, int, RuntimeError, int, int]


def test_what_is_no_exception_is_always_raised() -> None:
    def leave(number: int) -> int:
        raise SystemExit(number)

    with pytest.raises(SystemExit):
        list(motet.map(leave, range(6), workers=1, on_error="skip"))


def test_an_exception_of_the_iterable_is_its_own() -> None:
    def numbers() -> Iterator[int]:
        yield from range(10)
        raise LookupError("the iterable's own")

    found = []
    with pytest.raises(LookupError, match="own") as raised:
        for result in motet.map(square, numbers(), workers=2, on_error="skip"):
            found.append(result)
    assert found == [n * n for n in range(10)]
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("chunk", [None, 1, 3, 6])
def test_arguments_and_results_that_cannot_travel_cost_their_item_alone(chunk: int | None) -> None:
    def lock_for_3(number: object) -> object:
        return threading.Lock() if number == 3 else number

    items = [1, threading.Lock(), 2, 3, 4, 5]
    found = list(motet.map(lock_for_3, items, workers=1, chunk=chunk, on_error="return"))
    assert found[::2] == [1, 2, 4]
    assert isinstance(found[1], motet.NotShippable)
    assert isinstance(found[3], motet.NotShippable)
    assert found[5] == 5
    assert list(motet.map(lock_for_3, items, workers=1, chunk=chunk, on_error="skip")) == [1, 2, 4, 5]
    some = []
    with pytest.raises(motet.NotShippable, match="result"):
        for result in motet.map(lock_for_3, items[2:], workers=1, chunk=chunk):
            some.append(result)
    assert some == [2]


def test_a_function_that_cannot_travel() -> None:
    lock = threading.Lock()
    with pytest.raises(motet.NotShippable, match="lock"):
        next(motet.map(lambda number: lock, [1], workers=1))


def test_a_worker_that_dies_costs_its_chunk() -> None:
    def die_at_3(number: int) -> int:
        if number == 3:
            os._exit(1)
        return number

    found = list(motet.map(die_at_3, range(6), workers=2, chunk=2, on_error="return"))
    assert found[:2] + found[4:] == [0, 1, 4, 5]
    assert [type(result) for result in found[2:4]] == [motet.WorkerDied] * 2
    with pytest.raises(motet.WorkerDied, match="die_at_3") as raised:
        list(motet.map(die_at_3, range(6), workers=2, chunk=6))
    assert raised.value.__notes__ == ["motet.map: one of the items 0 to 5"]


# ---- attempts ----


@pytest.mark.parametrize("timeout", [None, 60])
def test_failed_calls_are_tried_again(tmp_path: Path, timeout: float | None) -> None:
    def fail_twice(number: int) -> int:
        for attempt in (1, 2):
            try:
                (tmp_path / f"{number}-{attempt}").mkdir()
            except FileExistsError:
                continue
            raise LookupError(f"attempt {attempt}")
        return number

    assert list(motet.map(fail_twice, range(5), workers=2, retries=2, timeout=timeout)) == list(range(5))
    with pytest.raises(LookupError, match="attempt 2"):
        list(motet.map(fail_twice, [7], workers=2, retries=1, timeout=timeout))


def test_a_call_that_takes_too_long_is_stopped_alone() -> None:
    event = "__import__('time').sleep(%d)"
    found = list(
        motet.map(eval, [event % 0, event % 600, event % 0], workers=2, timeout=0.5, on_error="return")
    )
    assert isinstance(found[1], motet.CallTimeout)
    assert found[::2] == [None, None]


# ---- ends ----


def test_an_iterator_that_is_dropped_takes_no_more() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2)
    next(results)
    taken, watched = numbers.taken, weakref.ref(numbers)
    del results, numbers
    gc.collect()
    assert watched() is None
    assert taken < 10**6


def test_closing_stops_the_calls_that_run(tmp_path: Path) -> None:
    def wait_for_ever(number: int) -> int:
        if number:
            (tmp_path / f"{number} {os.getpid()}").touch()
            threading.Event().wait()
        return number

    results = motet.map(wait_for_ever, range(100), workers=2, chunk=1)
    next(results)
    while not list(tmp_path.iterdir()):
        pass
    results.close()
    assert list(results) == []
    # The next mapping has workers of its own, or those that were freed.
    assert list(motet.map(square, range(5), workers=2)) == [0, 1, 4, 9, 16]


def test_workers_are_used_again_in_the_same_surroundings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def who(_: int) -> int:
        return os.getpid()

    first = set(motet.map(who, range(1), workers=1))
    assert set(motet.map(who, range(1), workers=1)) == first
    monkeypatch.setenv("MOTET_TEST_OF_MAP", "there")
    assert set(motet.map(who, range(1), workers=1)) != first
    assert list(motet.map(os.getenv, ["MOTET_TEST_OF_MAP"], workers=1)) == ["there"]


def test_mappings_within_each_other() -> None:
    pairs = zip(
        motet.map(square, range(500), workers=1), motet.map(square, range(500), workers=1), strict=True
    )
    assert all(one == other for one, other in pairs)


def test_an_initializer_runs_in_the_workers() -> None:
    def prepare(word: str) -> None:
        os.environ["MOTET_TEST_OF_MAP"] = word

    found = list(
        motet.map(os.getenv, ["MOTET_TEST_OF_MAP"] * 10, workers=2, initializer=prepare, initargs=("ready",))
    )
    assert found == ["ready"] * 10

    def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(BrokenExecutor, match="initializer"):
        list(motet.map(square, range(10), workers=2, initializer=fail, on_error="skip"))


# ---- asynchronous functions ----


async def slow_square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


def test_asynchronous_functions_run_on_a_loop() -> None:
    assert list(motet.map(slow_square, range(500))) == [n * n for n in range(500)]
    assert sorted(motet.map(slow_square, range(50), ordered=False)) == [n * n for n in range(50)]


def test_no_more_asynchronous_calls_at_once_than_workers() -> None:
    now = most = 0

    async def count(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return number

    assert list(motet.map(count, range(50), workers=7)) == list(range(50))
    assert most == 7


def test_asynchronous_failures_timeouts_and_attempts() -> None:
    attempts: dict[int, int] = {}

    async def fail_once(number: int) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        if attempts[number] == 1:
            raise LookupError("on purpose")
        if number == 3:
            await asyncio.sleep(600)
        return number

    found: list[Any] = list(motet.map(fail_once, range(5), retries=1, timeout=0.2, on_error="return"))
    assert isinstance(found[3], motet.CallTimeout)
    assert found[:3] + found[4:] == [0, 1, 2, 4]
    attempts.clear()
    with pytest.raises(LookupError) as raised:
        list(motet.map(fail_once, range(5)))
    assert raised.value.__notes__ == ["motet.map: item 0 (argument 0)"]


def test_closing_cancels_asynchronous_calls() -> None:
    cancelled = []

    async def wait(number: int) -> int:
        if number:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)
        return number

    results = motet.map(wait, range(10), workers=5)
    assert next(results) == 0
    results.close()
    assert len(cancelled) >= 4
    assert "motet.map" not in [thread.name for thread in threading.enumerate()]


# ---- bad arguments ----


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((3, []), {}, TypeError, "function is a int"),
        ((square,), {}, TypeError, "an iterable at least"),
        ((square, 3), {}, TypeError, "not iterable"),
        ((square, []), {"on": "mars"}, ValueError, "on must be one of 'auto', 'processes'"),
        ((square, []), {"on_error": "ignore"}, ValueError, "on_error must be one of 'raise'"),
        ((square, []), {"workers": 0}, ValueError, "workers must be 1 at least, not 0"),
        ((square, []), {"buffer": 0}, ValueError, "buffer must be 1 at least, not 0"),
        ((square, []), {"buffer": 1.5}, TypeError, "buffer must be a whole number"),
        ((square, []), {"chunk": True}, TypeError, "chunk must be a whole number"),
        ((square, []), {"retries": -1}, ValueError, "retries must be 0 at least"),
        ((square, []), {"timeout": 0}, ValueError, "timeout must be more than 0"),
        ((square, []), {"timeout": "1"}, TypeError, "timeout must be a number"),
        ((square, []), {"timeout": 1, "chunk": 2}, ValueError, "chunk must be 1"),
        ((square, []), {"initializer": 1}, TypeError, "initializer is a int"),
        ((slow_square, []), {"on": "processes"}, ValueError, "on an event loop, not on 'processes'"),
    ],
)
@pytest.mark.parametrize("name", ["map", "amap"])
def test_bad_arguments_are_told_at_the_call(
    name: str, arguments: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        getattr(motet, name)(*arguments, **options)


def test_asynchronous_iterables_are_for_amap() -> None:
    async def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match=r"use motet\.amap"):
        motet.map(square, numbers())  # type: ignore[call-overload]


def test_not_on_the_thread_of_a_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"motet\.amap"):
            motet.map(square, [1])

    asyncio.run(main())
