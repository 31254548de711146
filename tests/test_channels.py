"""Channels by themselves: what they keep, refuse, tell and let go of."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import motet
import pytest
from bodies import LIMIT


class Thing:
    """Something that a weak reference can tell the end of."""


def test_items_come_out_in_order() -> None:
    channel = motet.Channel[int](3)
    for number in range(3):
        channel.put(number)
    assert len(channel) == 3
    assert [channel.get() for _ in range(3)] == [0, 1, 2]
    assert bool(channel)


@pytest.mark.parametrize("capacity", [-1, -(2**70), 2**70])
def test_a_capacity_that_none_can_have(capacity: int) -> None:
    with pytest.raises((ValueError, TypeError), match="capacity must"):
        motet.Channel(capacity)


@pytest.mark.parametrize("capacity", [1.5, "8", True, object()])
def test_a_capacity_that_is_no_number(capacity: Any) -> None:
    with pytest.raises(TypeError, match="capacity must be a number of items or None"):
        motet.Channel(capacity)


def test_a_policy_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"overflow must be one of \"wait\", .*, not \"block\""):
        motet.Channel(1, overflow="block")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("-inf")])
def test_a_timeout_that_is_no_time(timeout: float) -> None:
    channel = motet.Channel[int](1)
    with pytest.raises(ValueError, match="timeout must be a number of seconds that is not negative"):
        channel.get(timeout)
    with pytest.raises(ValueError, match="timeout must be"):
        channel.aput(1, timeout=timeout)
    with pytest.raises(TypeError):
        channel.get("1")  # type: ignore[arg-type]


def test_arguments_that_are_not_there() -> None:
    channel = motet.Channel[int](1)
    with pytest.raises(TypeError, match="needs an item"):
        channel.put()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'wait'"):
        channel.put(1, wait=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="too many arguments"):
        channel.get(1, 2)  # type: ignore[call-arg]


def test_a_time_of_centuries_is_for_ever() -> None:
    channel = motet.Channel[int](1)
    threading.Timer(0.05, channel.put, (1,)).start()
    assert channel.get(timeout=1e300) == 1


def test_what_cannot_wait_says_so() -> None:
    channel = motet.Channel[int](1)
    with pytest.raises(motet.Empty):
        channel.try_get()
    channel.try_put(1)
    with pytest.raises(motet.Full):
        channel.try_put(2)
    with pytest.raises(TimeoutError):
        channel.put(2, timeout=0)
    assert channel.try_get() == 1


@pytest.mark.parametrize(
    ("overflow", "left", "dropped"), [("drop_newest", [0, 1], 3), ("drop_oldest", [3, 4], 3)]
)
def test_what_is_dropped_for_want_of_room(overflow: Any, left: list[int], dropped: int) -> None:
    channel = motet.Channel[int](2, overflow=overflow)
    for number in range(5):
        channel.put(number)
    assert channel.statistics()["dropped"] == dropped
    channel.close()
    assert list(channel) == left


def test_what_is_dropped_lives_no_longer() -> None:
    channel = motet.Channel[Thing](1, overflow="drop_oldest")
    first = Thing()
    gone = weakref.ref(first)
    channel.put(first)
    del first
    channel.put(Thing())
    assert gone() is None


def test_a_put_that_fails_for_want_of_room() -> None:
    channel = motet.Channel[int](1, overflow="error")
    channel.put(1)
    with pytest.raises(motet.Full):
        channel.put(2)

    async def main() -> None:
        with pytest.raises(motet.Full):
            await channel.aput(2)

    motet.run(main())


def test_a_closed_channel_gives_what_it_has() -> None:
    channel = motet.Channel[int](None)
    channel.put(1)
    assert channel.close()
    assert not channel.close()
    assert channel.closed
    with pytest.raises(motet.Closed):
        channel.put(2)
    with pytest.raises(motet.Closed):
        channel.try_put(2)
    assert channel.get() == 1
    for get in (channel.get, channel.try_get):
        with pytest.raises(motet.Closed) as caught:
            get()
        assert caught.value.__cause__ is None


def test_the_reason_reaches_both_sides() -> None:
    channel = motet.Channel[int](1)
    reason = ValueError("disk full")
    channel.put(1)
    channel.close(reason)
    items = iter(channel)
    assert next(items) == 1
    with pytest.raises(motet.Closed) as caught:
        next(items)
    assert caught.value.__cause__ is reason
    with pytest.raises(motet.Closed) as caught:
        channel.put(2)
    assert caught.value.__cause__ is reason


@pytest.mark.parametrize("reason", ["disk full", ValueError, 1])
def test_a_reason_that_is_no_exception(reason: Any) -> None:
    channel = motet.Channel[int](1)
    with pytest.raises(TypeError, match="a channel is closed with an exception or None"):
        channel.close(reason)
    assert not channel.closed


def test_iteration_in_tasks() -> None:
    async def main() -> list[int]:
        channel = motet.Channel[int](1)

        async def produce() -> None:
            for number in range(5):
                await channel.aput(number)
            channel.close()

        producing = asyncio.create_task(produce())
        found = [number async for number in channel]
        await producing
        return found

    assert motet.run(main()) == list(range(5))


def test_statistics_tell_who_waits() -> None:
    channel = motet.Channel[int](0)

    async def main() -> dict[str, Any]:
        task = asyncio.create_task(channel.aget(), name="reader")  # type: ignore[arg-type]
        thread = threading.Thread(target=channel.get, name="helper", daemon=True)
        thread.start()
        while channel.statistics()["waiting_to_get"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        found = channel.statistics()
        await channel.aput(1)
        await channel.aput(2)
        await task
        thread.join(LIMIT)
        return found

    found = motet.run(main())
    assert {row["who"] for row in found["waiters"]} == {"task 'reader'", "thread 'helper'"}
    assert {row["wants"] for row in found["waiters"]} == {"get"}
    assert all(0 <= row["seconds"] < LIMIT for row in found["waiters"])
    assert (found["length"], found["capacity"], found["closed"]) == (0, 0, False)


def test_a_channel_that_is_in_itself_is_collected() -> None:
    channel = motet.Channel[Any](2)
    channel.put(channel)
    item = Thing()
    channel.put(item)
    gone = [weakref.ref(channel), weakref.ref(item)]
    del channel, item
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_task_that_waits_is_kept_alive_by_its_channel() -> None:
    channel, found = motet.Channel[int](0), []

    async def wait() -> None:
        found.append(await channel.aget())

    async def main() -> None:
        asyncio.ensure_future(wait())  # noqa: RUF006
        await asyncio.sleep(0.01)
        gc.collect()
        await channel.aput(7)
        await asyncio.sleep(0.01)

    motet.run(main())
    assert found == [7]


def test_a_task_that_nothing_can_wake_is_collected() -> None:
    messages = []

    async def wait(channel: motet.Channel[int]) -> None:
        await channel.aget()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: messages.append(context["message"]))
        channel = motet.Channel[int](0)
        asyncio.ensure_future(wait(channel))  # noqa: RUF006
        await asyncio.sleep(0.01)
        gone = weakref.ref(channel)
        del channel
        gc.collect()
        assert gone() is None

    motet.run(main())
    assert messages == ["Task was destroyed but it is pending!"]


def test_a_channel_of_a_type() -> None:
    assert motet.Channel[int].__origin__ is motet.Channel  # type: ignore[attr-defined]
    assert isinstance(motet.Channel[int](1), motet.Channel)
    assert "capacity=1 length=0 open" in repr(motet.Channel[int](1))


def test_many_threads_at_both_ends() -> None:
    channel = motet.Channel[int](4)
    found: list[int] = []

    def produce(start: int) -> None:
        for number in range(start, start + 500):
            channel.put(number)

    def consume() -> None:
        mine = list(channel)
        # In the order in which each producer put them.
        for start in range(0, 2000, 500):
            own = [number for number in mine if start <= number < start + 500]
            assert own == sorted(own)
        found.extend(mine)

    producers = [threading.Thread(target=produce, args=(start,)) for start in range(0, 2000, 500)]
    consumers = [threading.Thread(target=consume) for _ in range(3)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join(LIMIT)
    channel.close()
    for thread in consumers:
        thread.join(LIMIT)
    assert sorted(found) == list(range(2000))
    statistics = channel.statistics()
    assert (statistics["put"], statistics["got"], statistics["length"]) == (2000, 2000, 0)
