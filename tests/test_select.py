"""The first of several operations; the others have not happened."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import motet
import pytest
import trio
from bodies import LIMIT
from conftest import MakeLoop


def test_what_can_be_done_at_once() -> None:
    full, empty = motet.Channel[int](1), motet.Channel[int](1)
    full.put(1)
    assert motet.select(empty.getting(), full.getting()) == (1, 1)
    found = motet.select(full.getting(), empty.putting(5))
    assert (found.which, found.value) == (1, None)
    assert empty.get() == 5
    # Several: the first that was named.
    full.put(2)
    empty.put(3)
    assert motet.select(empty.getting(), full.getting()) == (0, 3)
    assert len(full) == 1


def test_what_another_thread_does() -> None:
    channel, event, lock = motet.Channel[int](0), motet.Event(), motet.Lock()
    lock.acquire()
    semaphore = motet.Semaphore(0)
    cases: list[tuple[Any, tuple[int, Any]]] = [
        (lambda: channel.put(9), (0, 9)),
        (event.set, (1, True)),
        (lock.release, (2, True)),
        (semaphore.release, (3, True)),
    ]
    for act, expected in cases:
        threading.Timer(0.02, act).start()
        operations = channel.getting(), event.waiting(), lock.acquiring(), semaphore.acquiring()
        assert motet.select(*operations, timeout=LIMIT) == expected
        event.clear()
    assert lock.locked()
    assert semaphore.value == 0
    for statistics in (channel.statistics(), event.statistics(), lock.statistics(), semaphore.statistics()):
        assert statistics["waiters"] == []


def test_time_is_one_of_the_things_to_wait_for() -> None:
    channel = motet.Channel[int](0)
    begun = time.monotonic()
    assert motet.select(channel.getting(), motet.after(0.02), motet.after(LIMIT)) == (1, None)
    assert time.monotonic() - begun >= 0.02
    with pytest.raises(TimeoutError):
        motet.select(channel.getting(), motet.after(LIMIT), timeout=0.01)
    with pytest.raises(TimeoutError):
        motet.select(channel.getting(), timeout=0)


def test_two_selects_meet() -> None:
    one, other = motet.Channel[int](0), motet.Channel[int](0)

    def answer() -> None:
        for number in range(200):
            which, value = motet.select(one.getting(), other.putting(number), timeout=LIMIT)
            if which == 0:
                got.append(value)
            else:
                given.append(number)

    got: list[int] = []
    given: list[int] = []
    thread = threading.Thread(target=answer)
    thread.start()
    got_here, given_here = [], []
    for number in range(200):
        which, value = motet.select(other.getting(), one.putting(number), timeout=LIMIT)
        if which == 0:
            got_here.append(value)
        else:
            given_here.append(number)
    thread.join(LIMIT)
    assert (got, given) == (given_here, got_here)
    assert len(got) + len(given) == 200


def test_in_tasks_of_any_loop(make_loop: MakeLoop) -> None:
    async def main() -> None:
        channel, event = motet.Channel[int](0), motet.Event()
        waiting = asyncio.ensure_future(_aselect(channel.getting(), event.waiting()))
        await asyncio.sleep(0.01)
        await channel.aput(3)
        assert await waiting == (0, 3)
        waiting = asyncio.ensure_future(_aselect(channel.getting(), event.waiting()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert channel.statistics()["waiters"] == event.statistics()["waiters"] == []
        with pytest.raises(TimeoutError):
            await motet.aselect(channel.getting(), event.waiting(), timeout=0.01)
        assert await motet.aselect(channel.getting(), motet.after(0.01), timeout=LIMIT) == (1, None)
        event.set()
        assert await motet.aselect(channel.getting(), event.waiting()) == (1, True)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


async def _aselect(*operations: motet.Wait[Any]) -> motet.Selected:
    return await motet.aselect(*operations, timeout=LIMIT)


def test_in_tasks_of_trio() -> None:
    async def main() -> None:
        channel, event = motet.Channel[int](0), motet.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(motet.Channel.aput, channel, 4)
            assert await motet.aselect(event.waiting(), channel.getting(), timeout=LIMIT) == (1, 4)
        with trio.move_on_after(0.01) as scope:
            await motet.aselect(event.waiting(), channel.getting())
        assert scope.cancelled_caught
        assert await motet.aselect(event.waiting(), motet.after(0.01)) == (1, None)
        with pytest.raises(TimeoutError):
            await motet.aselect(event.waiting(), channel.getting(), timeout=0.01)
        assert channel.statistics()["waiters"] == event.statistics()["waiters"] == []

    trio.run(main)


def test_a_closed_channel_ends_the_select() -> None:
    channel, event = motet.Channel[int](0), motet.Event()
    threading.Timer(0.02, channel.close).start()
    with pytest.raises(motet.Closed):
        motet.select(event.waiting(), channel.getting(), timeout=LIMIT)


def test_what_is_no_operation() -> None:
    channel = motet.Channel[int](0)
    with pytest.raises(TypeError, match="needs one operation at least"):
        motet.select()
    with pytest.raises(TypeError, match="operation 1 of the select must be something like channel"):
        motet.select(channel.getting(), channel)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not builtin_function_or_method"):
        motet.select(channel.getting)  # type: ignore[arg-type]


def test_an_operation_is_for_one_select() -> None:
    channel = motet.Channel[int](1)
    getting = channel.getting()
    with pytest.raises(TimeoutError):
        motet.select(getting, timeout=0)
    with pytest.raises(ValueError, match="awaited or selected before; make a new one each time"):
        motet.select(getting, timeout=0)
    getting = channel.getting()
    with pytest.raises(ValueError, match="operation 1 of the select was awaited or selected before"):
        motet.select(getting, getting)
    # It was refused before anything began.
    channel.put(1)
    assert motet.select(getting) == (0, 1)
