"""`call_soon`: order, rounds, arguments, cancellation."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop


def run_ready(loop: asyncio.AbstractEventLoop) -> None:
    """Runs one round of what is ready now."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_callbacks_run_in_the_order_of_scheduling(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[int] = []
        for number in range(1000):
            loop.call_soon(ran.append, number)
        run_ready(loop)
    assert ran == list(range(1000))


def test_what_a_round_schedules_runs_in_the_next_one(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[str] = []

        def first() -> None:
            ran.append("first")
            loop.call_soon(ran.append, "scheduled by first")

        loop.call_soon(first)
        loop.call_soon(ran.append, "second")
        run_ready(loop)
        assert ran == ["first", "second"]
        run_ready(loop)
    assert ran == ["first", "second", "scheduled by first"]


def test_stop_finishes_the_round(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[int] = []
        loop.call_soon(loop.stop)
        loop.call_soon(ran.append, 1)
        loop.run_forever()
    assert ran == [1]


@pytest.mark.parametrize("count", range(8))
def test_any_number_of_arguments_arrives(count: int) -> None:
    with closing(motet.new_event_loop()) as loop:
        seen: list[tuple[Any, ...]] = []
        loop.call_soon(lambda *arguments: seen.append(arguments), *range(count))
        loop.call_later(0, lambda *arguments: seen.append(arguments), *range(count))
        loop.run_until_complete(asyncio.sleep(0.01))
    assert seen == [tuple(range(count))] * 2


def test_none_is_an_argument_like_any_other() -> None:
    with closing(motet.new_event_loop()) as loop:
        seen: list[tuple[Any, ...]] = []
        loop.call_soon(lambda *arguments: seen.append(arguments), None, 1, None)
        run_ready(loop)
    assert seen == [(None, 1, None)]


def test_a_cancelled_callback_does_not_run(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[str] = []
        handle = loop.call_soon(ran.append, "cancelled")
        loop.call_soon(ran.append, "kept")
        assert not handle.cancelled()
        handle.cancel()
        assert handle.cancelled()
        handle.cancel()
        run_ready(loop)
    assert ran == ["kept"]


def test_a_callback_that_has_run_can_be_called_cancelled(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        handles = [loop.call_soon(int), loop.call_later(0, int), loop.call_soon(lambda: handles[2].cancel())]
        run_ready(loop)
        loop.run_until_complete(asyncio.sleep(0.001))
        for handle in handles[:2]:
            assert not handle.cancelled()
            handle.cancel()
        assert [handle.cancelled() for handle in handles] == [True] * 3


def test_a_callback_cancels_a_later_one_of_its_round(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[str] = []
        handles: list[asyncio.Handle] = []
        loop.call_soon(lambda: handles[0].cancel())
        handles.append(loop.call_soon(ran.append, "victim"))
        run_ready(loop)
    assert ran == []


def test_a_callback_that_cancels_itself_has_run() -> None:
    with closing(motet.new_event_loop()) as loop:
        ran: list[str] = []
        handles: list[motet.Handle] = []

        def cancel_itself() -> None:
            handles[0].cancel()
            ran.append("ran")

        handles.append(loop.call_soon(cancel_itself))
        run_ready(loop)
        run_ready(loop)
    assert ran == ["ran"]


def test_a_kept_handle_is_never_another_callbacks() -> None:
    with closing(motet.new_event_loop()) as loop:
        ran: list[int] = []
        kept = [loop.call_soon(ran.append, number) for number in range(100)]
        run_ready(loop)
        fresh = [loop.call_soon(ran.append, number) for number in range(100, 200)]
        assert not set(map(id, kept)) & set(map(id, fresh))
        for handle in kept:
            handle.cancel()
        run_ready(loop)
    assert ran == list(range(200))


def test_callbacks_and_arguments_are_let_go_after_the_run() -> None:
    class Argument:
        pass

    with closing(motet.new_event_loop()) as loop:
        arguments = [Argument() for _ in range(3)]
        references = [weakref.ref(argument) for argument in arguments]
        handles = [
            loop.call_soon(lambda _: None, arguments[0]),
            loop.call_soon(lambda _: None, arguments[1]),
            loop.call_later(3600, lambda _: None, arguments[2]),
        ]
        handles[1].cancel()
        handles[2].cancel()
        del arguments
        run_ready(loop)
        gc.collect()
        assert [reference() for reference in references] == [None] * 3
        assert len(handles) == 3


def test_a_cycle_through_a_dropped_loop_is_collected() -> None:
    class Owner:
        pass

    def make() -> weakref.ref[Any]:
        loop = motet.new_event_loop()
        owner: Any = Owner()
        owner.handle = loop.call_soon(lambda: owner)
        owner.timer = loop.call_later(3600, lambda: owner)
        owner.loop = loop
        loop.close()
        return weakref.ref(owner)

    reference = make()
    gc.collect()
    assert reference() is None


def test_ready_callbacks_do_not_starve_timers(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        running = True

        def again() -> None:
            if running:
                loop.call_soon(again)

        def end() -> None:
            nonlocal running
            running = False
            loop.stop()

        again()
        loop.call_later(0.02, end)
        loop.run_forever()
    assert not running


def test_handles_are_known_to_asyncio_by_their_methods() -> None:
    with closing(motet.new_event_loop()) as loop:
        handle = loop.call_soon(print)
        timer = loop.call_later(10, print)
        assert isinstance(handle, motet.Handle)
        assert isinstance(timer, motet.TimerHandle)
        assert "print" in repr(handle)
        assert f"when={timer.when()}" in repr(timer)
        handle.cancel()
        timer.cancel()
        assert "cancelled" in repr(handle)
        assert "cancelled" in repr(timer)
