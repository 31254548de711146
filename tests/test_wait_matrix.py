"""Every kind of body with every other over one channel, lock and event."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import motet
import pytest
from bodies import (
    CANCELLABLE,
    KINDS,
    LIMIT,
    Body,
    Script,
    acquire,
    get,
    put,
    run_plain,
    sleep,
    wait,
)

PAIRS = list(itertools.product(KINDS, KINDS))
pairs = pytest.mark.parametrize(
    ("one", "other"), PAIRS, ids=lambda kind: kind.__name__.removesuffix("Body").lower()
)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.removesuffix("Body").lower())
each_cancellable = pytest.mark.parametrize(
    "kind", CANCELLABLE, ids=lambda kind: kind.__name__.removesuffix("Body").lower()
)


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def putting(channel: motet.Channel[int], items: range) -> Script:
    for item in items:
        yield put(channel, item)
    channel.close()


def getting(channel: motet.Channel[int]) -> Script:
    found = []
    while True:
        try:
            found.append((yield get(channel)))
        except motet.Closed:
            return found


@pairs
@pytest.mark.parametrize("capacity", [0, 1, 7, None])
def test_all_arrives_in_order(one: type[Body], other: type[Body], capacity: int | None) -> None:
    channel = motet.Channel[int](capacity)
    getter = other(getting(channel)).start()
    one(putting(channel, range(300))).start().join()
    assert getter.join() == list(range(300))


@each
def test_with_the_plain_main_thread(kind: type[Body]) -> None:
    there, back = motet.Channel[int](1), motet.Channel[int](1)

    def echo() -> Script:
        while True:
            try:
                yield put(back, (yield get(there)))
            except motet.Closed:
                return

    def ask() -> Script:
        found = []
        for number in range(200):
            yield put(there, number)
            found.append((yield get(back)))
        there.close()
        return found

    body = kind(echo()).start()
    assert run_plain(ask()) == list(range(200))
    body.join()


@pairs
def test_a_put_waits_for_room(one: type[Body], other: type[Body]) -> None:
    channel = motet.Channel[int](3)
    putter = one(putting(channel, range(20))).start()
    wait_until(lambda: channel.statistics()["waiting_to_put"] == 1)
    assert (len(channel), channel.statistics()["put"]) == (3, 3)
    assert other(getting(channel)).start().join() == list(range(20))
    putter.join()


@pairs
def test_one_lock_for_both(one: type[Body], other: type[Body]) -> None:
    lock, total = motet.Lock(), [0]

    def add() -> Script:
        for number in range(100):
            yield acquire(lock)
            before = total[0]
            if number % 10 == 0:
                yield sleep(0)
            total[0] = before + 1
            lock.release()

    bodies = [one(add()).start(), other(add()).start()]
    for body in bodies:
        body.join()
    assert total == [200]
    assert not lock.locked()


@pairs
def test_one_event_for_both(one: type[Body], other: type[Body]) -> None:
    first, second = motet.Event(), motet.Event()

    def set_after(mine: motet.Event, others: motet.Event) -> Script:
        assert (yield wait(others))
        mine.set()

    def begin() -> Script:
        first.set()
        return (yield wait(second))

    late = one(set_after(second, first)).start()
    assert other(begin()).start().join() is True
    late.join()


@pairs
def test_closing_ends_the_others_waits(one: type[Body], other: type[Body]) -> None:
    empty, full = motet.Channel[int](1), motet.Channel[int](0)
    reason = ValueError("no more")

    def wait_for(operation: object) -> Script:
        try:
            yield operation  # type: ignore[misc]
        except motet.Closed as closed:
            return closed.__cause__

    getter = one(wait_for(get(empty))).start()
    putter = other(wait_for(put(full, 1))).start()
    wait_until(lambda: empty.statistics()["waiting_to_get"] + full.statistics()["waiting_to_put"] == 2)
    assert empty.close(reason)
    assert full.close(reason)
    assert getter.join() is putter.join() is reason


@each
def test_a_timeout_leaves_everything_as_it_was(kind: type[Body]) -> None:
    channel, event = motet.Channel[int](1), motet.Event()

    def late() -> Script:
        for operation in (get(channel, 0.02), get(channel, 0)):
            try:
                yield operation
            except TimeoutError:
                continue
            return "got"
        yield put(channel, 1)
        try:
            yield put(channel, 2, 0.02)
        except TimeoutError:
            return (yield wait(event, 0.01))

    assert kind(late()).start().join() is False
    assert channel.get() == 1
    found = channel.statistics()
    assert (found["put"], found["got"], found["waiting_to_put"], found["waiting_to_get"]) == (1, 1, 0, 0)


@each_cancellable
def test_a_cancelled_get_takes_nothing(kind: type[Any]) -> None:
    channel = motet.Channel[int](1)
    body = kind(getting(channel)).start()
    wait_until(lambda: channel.statistics()["waiting_to_get"] == 1)
    body.cancel()
    assert body.join() == "cancelled"
    channel.put(1, timeout=LIMIT)
    assert channel.statistics()["waiting_to_get"] == 0
    assert channel.try_get() == 1


@each_cancellable
def test_a_cancelled_put_puts_nothing(kind: type[Any]) -> None:
    channel = motet.Channel[int](0)
    body = kind(putting(channel, range(1))).start()
    wait_until(lambda: channel.statistics()["waiting_to_put"] == 1)
    body.cancel()
    assert body.join() == "cancelled"
    with pytest.raises(motet.Empty):
        channel.try_get()


@each_cancellable
@pytest.mark.parametrize("waiter", KINDS)
def test_who_is_cancelled_as_it_gets_gives_it_to_the_next(kind: type[Any], waiter: type[Body]) -> None:
    # Again and again, since the cancelling may come before, with, or after the item.
    for _ in range(10):
        channel = motet.Channel[int](0)
        first = kind(getting(channel)).start()
        wait_until(lambda channel=channel: channel.statistics()["waiting_to_get"] == 1)
        second = waiter(getting(channel)).start()
        wait_until(lambda channel=channel: channel.statistics()["waiting_to_get"] == 2)
        first.cancel()
        channel.put(1)
        channel.put(2, timeout=LIMIT)
        channel.close()
        found = first.join()
        # Whatever it has got before it was cancelled is lost with its script, which had it.
        got = second.join()
        assert sorted(got) in ([1, 2], [2]), (found, got)
        assert found in ("cancelled", [1])


@each_cancellable
def test_a_lock_goes_on_to_the_next_when_its_waiter_is_cancelled(kind: type[Any]) -> None:
    lock = motet.Lock()
    lock.acquire()

    def hold() -> Script:
        yield acquire(lock)

    first = kind(hold()).start()
    wait_until(lambda: len(lock.statistics()["waiters"]) == 1)
    held = threading.Thread(target=lock.acquire, daemon=True)
    held.start()
    wait_until(lambda: len(lock.statistics()["waiters"]) == 2)
    first.cancel()
    assert first.join() == "cancelled"
    lock.release()
    held.join(LIMIT)
    assert lock.locked()
    assert not lock.statistics()["waiters"]
