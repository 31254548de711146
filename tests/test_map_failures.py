"""`motet.map` where calls fail, workers die and arguments are wrong."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import motet
import pytest
from map_helpers import no_workers_left as no_workers_left
from map_helpers import pytestmark as pytestmark


def square(number: int) -> int:
    return number * number


def refuse_17(number: int) -> int:
    if number == 17:
        raise LookupError("on purpose")
    return number


# ---- errors ----


def test_an_exception_is_raised_in_its_place_and_says_whose_it_is() -> None:
    results = motet.map(refuse_17, range(1000), workers=2, on="processes")
    assert [next(results) for _ in range(17)] == list(range(17))
    with pytest.raises(LookupError, match="on purpose") as raised:
        next(results)
    assert raised.value.__notes__ == ["motet.map: item 17 (argument 17)"]


def test_the_item_is_told_in_few_words() -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        list(motet.map(int, ["x" * 1000], [10], workers=1, on="processes"))
    (note,) = raised.value.__notes__
    assert note.startswith("motet.map: item 0 (arguments 'xxx")
    assert note.endswith("', 10)")
    assert len(note) < 150


@pytest.mark.parametrize("chunk", [None, 1, 7, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_exceptions_as_results_and_left_out(chunk: int | None, ordered: bool) -> None:
    found: list[Any] = list(
        motet.map(
            refuse_17, range(50), workers=2, chunk=chunk, ordered=ordered, on_error="return", on="processes"
        )
    )
    (error,) = (result for result in found if isinstance(result, LookupError))
    assert error.__notes__ == ["motet.map: item 17 (argument 17)"]
    if ordered:
        assert found.index(error) == 17
    others = [n for n in range(50) if n != 17]
    assert sorted(result for result in found if result is not error) == others
    skipped = motet.map(
        refuse_17, range(50), workers=2, chunk=chunk, ordered=ordered, on_error="skip", on="processes"
    )
    assert sorted(skipped) == others


def test_a_function_that_raises_stop_iteration_ends_nothing_silently() -> None:
    def stop(number: int) -> int:
        if number == 3:
            raise StopIteration
        return number

    found = list(motet.map(stop, range(6), workers=1, chunk=6, on_error="return", on="processes"))
    assert [type(result) for result in found] == [int, int, int, RuntimeError, int, int]


def test_what_is_no_exception_is_always_raised() -> None:
    def leave(number: int) -> int:
        raise SystemExit(number)

    with pytest.raises(SystemExit):
        list(motet.map(leave, range(6), workers=1, on_error="skip", on="processes"))


def test_an_exception_of_the_iterable_is_its_own() -> None:
    def numbers() -> Iterator[int]:
        yield from range(10)
        raise LookupError("the iterable's own")

    results = motet.map(square, numbers(), workers=2, on_error="skip", on="processes")
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    with pytest.raises(LookupError, match="own") as raised:
        next(results)
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("chunk", [None, 1, 3, 6])
def test_arguments_and_results_that_cannot_travel_cost_their_item_alone(chunk: int | None) -> None:
    def lock_for_3(number: object) -> object:
        return threading.Lock() if number == 3 else number

    items = [1, threading.Lock(), 2, 3, 4, 5]
    found = list(motet.map(lock_for_3, items, workers=1, chunk=chunk, on_error="return", on="processes"))
    assert found[::2] == [1, 2, 4]
    assert isinstance(found[1], motet.NotShippable)
    assert isinstance(found[3], motet.NotShippable)
    assert found[5] == 5
    assert list(motet.map(lock_for_3, items, workers=1, chunk=chunk, on_error="skip", on="processes")) == [
        1,
        2,
        4,
        5,
    ]
    results = motet.map(lock_for_3, items[2:], workers=1, chunk=chunk, on="processes")
    assert next(results) == 2
    with pytest.raises(motet.NotShippable, match="result"):
        next(results)


def test_a_function_that_cannot_travel() -> None:
    lock = threading.Lock()
    with pytest.raises(motet.NotShippable, match="lock"):
        next(motet.map(lambda number: lock, [1], workers=1, on="processes"))


def test_a_worker_that_dies_costs_its_chunk() -> None:
    def die_at_3(number: int) -> int:
        if number == 3:
            os._exit(1)
        return number

    found: list[Any] = list(
        motet.map(die_at_3, range(6), workers=2, chunk=2, on_error="return", on="processes")
    )
    assert found[:2] + found[4:] == [0, 1, 4, 5]
    assert [type(result) for result in found[2:4]] == [motet.WorkerDied] * 2
    with pytest.raises(motet.WorkerDied, match="die_at_3") as raised:
        list(motet.map(die_at_3, range(6), workers=2, chunk=6, on="processes"))
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

    assert list(
        motet.map(fail_twice, range(5), workers=2, retries=2, timeout=timeout, on="processes")
    ) == list(range(5))
    with pytest.raises(LookupError, match="attempt 2"):
        list(motet.map(fail_twice, [7], workers=2, retries=1, timeout=timeout, on="processes"))


def test_a_call_that_takes_too_long_is_stopped_alone() -> None:
    event = "__import__('time').sleep(%d)"
    found = list(
        motet.map(
            eval,
            [event % 0, event % 600, event % 0],
            workers=2,
            timeout=0.5,
            on_error="return",
            on="processes",
        )
    )
    assert isinstance(found[1], motet.CallTimeout)
    assert found[::2] == [None, None]


# ---- bad arguments ----


async def slow(number: int) -> int:
    return number


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
        ((slow, []), {"on": "processes"}, ValueError, "on an event loop, not on 'processes'"),
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
        motet.map(square, numbers(), on="processes")


def test_not_on_the_thread_of_a_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"motet\.amap"):
            motet.map(square, [1], on="processes")

    asyncio.run(main())
