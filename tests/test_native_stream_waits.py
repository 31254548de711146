"""What a native stream's methods return to be awaited: a coroutine, and the future that a task waits for."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import motet
import pytest
from stream_helpers import connected, echo, run


class Refusing:
    def __eq__(self, other: object) -> bool:
        raise LookupError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class Counting:
    """Equal to whatever it is compared with; what it does meanwhile is done behind the wait's back."""

    def __init__(self, wait: Any) -> None:
        self.wait = wait
        self.compared = 0

    def __call__(self, _: object) -> None:
        self.compared += 100

    def __eq__(self, other: object) -> bool:
        self.compared += 1
        self.wait.add_done_callback(self)
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_callback_that_cannot_be_compared_loses_nobody_else() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        wait = reader.readline()
        assert wait.send(None) is wait
        called: list[object] = []
        wait.add_done_callback(called.append)
        with pytest.raises(LookupError, match="not to be compared"):
            wait.remove_done_callback(Refusing())
        reader.feed_data(b"line\n")
        await asyncio.sleep(0)
        assert called == [wait]
        wait.close()

    run(main())


def test_callbacks_are_removed_by_equality() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        wait = reader.readline()
        assert wait.send(None) is wait
        called: list[object] = []
        for _ in range(2):
            wait.add_done_callback(called.append)
        assert wait.remove_done_callback(print) == 0
        assert wait.remove_done_callback(called.append) == 2
        # What is added while it compares stays.
        wait.add_done_callback(called.append)
        counting = Counting(wait)
        assert wait.remove_done_callback(counting) == 1
        assert counting.compared == 1
        reader.feed_data(b"line\n")
        await asyncio.sleep(0)
        assert counting.compared == 101
        assert not called
        with pytest.raises(StopIteration):
            wait.send(None)

    run(main())


def test_a_wait_that_another_thread_ends_at_once_is_woken() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        done = False

        def feed() -> None:
            while not done:
                if reader._waiter is not None:
                    reader.feed_data(b"line\n")
                elif with_gil:
                    time.sleep(0)

        feeding = threading.Thread(target=feed)
        feeding.start()
        try:
            for _ in range(200 if with_gil else 60_000):
                async with asyncio.timeout(10):
                    assert await reader.readline() == b"line\n"
        finally:
            done = True
            feeding.join()

    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    run(main())


def test_drains_that_have_nothing_to_wait_for_are_told_apart() -> None:
    async def main() -> None:
        async with connected(motet, echo) as (_, one), connected(motet, echo) as (_, two):
            for writers in (one, two), (one, one):
                drains = [writer.drain() for writer in writers]
                assert len(set(drains)) == 2
                assert [await drain for drain in drains] == [None, None]
                completed = list(asyncio.as_completed([writer.drain() for writer in writers]))
                assert [await drain for drain in completed] == [None, None]
                assert await asyncio.gather(*(writer.drain() for writer in writers)) == [None, None]
                tasks = [asyncio.create_task(writer.drain()) for writer in writers]
                assert await asyncio.wait(tasks) == (set(tasks), set())
            assert await asyncio.wait_for(one.drain(), 1) is None
            assert await asyncio.shield(one.drain()) is None
            drain = one.drain()
            del drains, drain, completed, tasks
            # Nobody has it: a loop of writes and drains makes no objects.
            assert len({id(one.drain()) for _ in range(10)}) == 1

    run(main())


def test_what_ends_a_read_has_the_value_in_its_arguments() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(2**20, asyncio.get_running_loop())
        kept = []
        for line in [b"one\n", b"two\n", b"three\n", b"four\n", b"x" * 70_000 + b"\n", b"six\n"] * 2:
            # The interpreter itself takes the value out of an exception that may then be used again.
            reader.feed_data(line * 2)
            assert await reader.readline() == line
            with pytest.raises(StopIteration) as stopped:
                next(reader.readline())
            assert (stopped.value.value, stopped.value.args) == (line, (line,))
            kept.append((line, stopped.value, stopped.value.args))
        for line, stop, arguments in kept:
            assert (stop.value, stop.args, arguments) == (line, (line,), (line,))

    run(main())
