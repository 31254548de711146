"""`motet.amap`: mappings that tasks of asyncio go through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import motet
import pytest
import trio
from conftest import MakeLoop
from map_helpers import no_workers_left as no_workers_left
from map_helpers import pytestmark as pytestmark


def run(make_loop: MakeLoop, main: Any) -> Any:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main)


def square(number: int) -> int:
    return number * number


async def slow_square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


async def counting(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("function", [square, slow_square])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("source", [range, counting])
def test_all_results_come(make_loop: MakeLoop, function: Any, ordered: bool, source: Any) -> None:
    async def main() -> list[int]:
        return [n async for n in motet.amap(function, source(3000), workers=2, ordered=ordered)]

    found = run(make_loop, main())
    assert (found if ordered else sorted(found)) == [n * n for n in range(3000)]


@pytest.mark.parametrize("source", [range, counting])
def test_nothing_in_nothing_out(make_loop: MakeLoop, source: Any) -> None:
    async def main() -> list[int]:
        return [n async for n in motet.amap(slow_square, source(0))]

    assert run(make_loop, main()) == []


def test_several_iterables_of_both_kinds(make_loop: MakeLoop) -> None:
    async def main() -> list[int]:
        return [n async for n in motet.amap(pow, counting(10), [2, 3, 4], workers=1)]

    assert run(make_loop, main()) == [0, 1, 16]


def test_the_loop_goes_on_meanwhile(make_loop: MakeLoop) -> None:
    async def main() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(turn())
        async for _ in motet.amap(square, range(100_000), workers=2):
            pass
        task.cancel()
        return turns

    assert run(make_loop, main()) > 10


def test_a_result_does_not_wait_for_the_next_item(make_loop: MakeLoop) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def questions() -> AsyncIterator[int]:
            for number in range(20):
                yield number
                # The next question depends on the answer.
                await answered.wait()
                answered.clear()

        async for _ in motet.amap(square, questions(), workers=2):
            answered.set()

    run(make_loop, main())


@pytest.mark.parametrize("function", [square, slow_square])
def test_no_more_is_taken_than_the_buffer_holds(make_loop: MakeLoop, function: Any) -> None:
    taken = 0

    async def numbers() -> AsyncIterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async def main() -> None:
        done = 0
        async with aclosing(motet.amap(function, numbers(), workers=2, buffer=10)) as results:
            async for _ in results:
                done += 1
                assert taken <= done + 10 + 10
                if done == 200:
                    break

    run(make_loop, main())


@pytest.mark.parametrize("is_async", [True, False])
def test_errors_in_each_mode(make_loop: MakeLoop, is_async: bool) -> None:
    def divide(number: int) -> float:
        return 6 / number

    async def slow_divide(number: int) -> float:
        return 6 / number

    function: Any = slow_divide if is_async else divide

    async def main() -> None:
        found = [n async for n in motet.amap(function, [1, 0, 2], workers=1, on_error="return")]
        assert found[::2] == [6, 3]
        assert isinstance(found[1], ZeroDivisionError)
        assert found[1].__notes__ == ["motet.amap: item 1 (argument 0)"]
        assert [n async for n in motet.amap(function, [1, 0, 2], workers=1, on_error="skip")] == [6, 3]
        results = motet.amap(function, [1, 0, 2], workers=1)
        assert await anext(results) == 6
        with pytest.raises(ZeroDivisionError):
            await anext(results)

    run(make_loop, main())


def test_an_exception_of_the_iterable_is_its_own(make_loop: MakeLoop) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("the iterable's own")

    async def main() -> None:
        results = motet.amap(slow_square, numbers())
        assert [await anext(results), await anext(results)] == [1, 4]
        with pytest.raises(LookupError, match="own"):
            await anext(results)

    run(make_loop, main())


@pytest.mark.parametrize("source", [range, counting])
def test_closing_cancels_what_is_left(make_loop: MakeLoop, source: Any) -> None:
    async def main() -> None:
        ended = []

        async def wait(number: int) -> int:
            if number:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(number)
            return number

        async with aclosing(motet.amap(wait, source(100), workers=5)) as results:
            async for number in results:
                assert number == 0
                break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(make_loop, main())


def test_cancelling_the_task_cancels_the_calls(make_loop: MakeLoop) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def wait(number: int) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def consume() -> None:
            async for _ in motet.amap(wait, range(10)):
                pass

        task = asyncio.create_task(consume())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(make_loop, main())


def test_a_call_that_was_cancelled_cancels_nobody_else(make_loop: MakeLoop) -> None:
    async def give_up(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    async def main() -> None:
        found = [n async for n in motet.amap(give_up, range(3), on_error="return")]
        assert found[::2] == [0, 2]
        assert isinstance(found[1], Exception)

    run(make_loop, main())


def test_without_a_loop_of_asyncio() -> None:
    with pytest.raises(RuntimeError, match="needs an event loop of asyncio"):
        motet.amap(square, [1]).asend(None).send(None)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="trio"):
            async for _ in motet.amap(square, [1]):
                pass

    trio.run(main)


def test_an_initializer_is_for_workers() -> None:
    with pytest.raises(ValueError, match="no workers"):
        motet.amap(slow_square, [1], initializer=print)
