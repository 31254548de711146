"""`call_soon_threadsafe`, and what other methods do in a wrong thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function returns or raises in another thread."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    return outcome[0]


def test_a_sleeping_loop_is_woken(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran_in: list[int] = []

        def end() -> None:
            ran_in.append(threading.get_ident())
            loop.stop()

        timer = threading.Timer(0.05, loop.call_soon_threadsafe, [end])
        timer.start()
        # Nothing else would ever end this run.
        loop.run_forever()
        timer.join()
        assert ran_in == [threading.get_ident()]


def test_nothing_is_lost_and_order_is_kept_for_each_thread(make_loop: MakeLoop) -> None:
    count, threads = 2000, 4
    with closing(make_loop()) as loop:
        received: list[list[int]] = [[] for _ in range(threads)]
        arrived = 0

        def receive(thread: int, number: int) -> None:
            nonlocal arrived
            received[thread].append(number)
            arrived += 1
            if arrived == count * threads:
                loop.stop()

        def send(thread: int) -> None:
            for number in range(count):
                loop.call_soon_threadsafe(receive, thread, number)

        senders = [threading.Thread(target=send, args=[thread]) for thread in range(threads)]
        for sender in senders:
            sender.start()
        loop.run_forever()
        for sender in senders:
            sender.join()
    assert received == [list(range(count))] * threads


def test_what_is_sent_before_the_run_runs(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[str] = []
        in_thread(lambda: loop.call_soon_threadsafe(ran.append, "sent"))
        loop.call_soon_threadsafe(ran.append, "own")
        loop.run_until_complete(asyncio.sleep(0))
    assert ran == ["sent", "own"]


def test_what_is_sent_can_be_cancelled(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[str] = []
        handle = in_thread(lambda: loop.call_soon_threadsafe(ran.append, "sent"))
        handle.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
    assert ran == []


def test_a_closed_loop_refuses(make_loop: MakeLoop) -> None:
    loop = make_loop()
    loop.close()
    error = in_thread(lambda: loop.call_soon_threadsafe(print))
    assert isinstance(error, RuntimeError)
    assert str(error) == "Event loop is closed"


def test_other_threads_may_schedule_outside_debug_mode() -> None:
    """asyncio calls it undefined; motet sends it to the loop's thread."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        ran: list[str] = []
        cancelled: list[asyncio.TimerHandle] = []

        def schedule() -> None:
            loop.call_soon(ran.append, "soon")
            loop.call_later(0, ran.append, "later")
            cancelled.append(loop.call_later(3600, ran.append, "cancelled"))
            cancelled[0].cancel()

        await asyncio.to_thread(schedule)
        await asyncio.sleep(0.02)
        assert cancelled[0].cancelled()
        assert loop.statistics()["timers_pending"] == 0
        return ran

    assert motet.run(main()) == ["soon", "later"]


def test_a_timer_cancelled_by_another_thread_does_not_fire() -> None:
    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        timer = loop.call_later(3600, print)
        await asyncio.to_thread(timer.cancel)
        await asyncio.sleep(0)
        return loop.statistics()

    assert motet.run(main())["timers_pending"] == 0


def test_methods_that_cannot_be_sent_raise_in_a_wrong_thread() -> None:
    class Receiver(asyncio.Protocol):
        pass

    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        server = await loop.create_server(Receiver, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(Receiver, *server.sockets[0].getsockname())
        calls: dict[str, Callable[[], Any]] = {
            "write": lambda: transport.write(b"data"),
            "writelines": lambda: transport.writelines([b"data"]),
            "close": transport.close,
            "abort": transport.abort,
            "pause_reading": transport.pause_reading,
            "add_reader": lambda: loop.add_reader(0, print),
            "statistics": loop.statistics,
        }
        outcomes = {name: await loop.run_in_executor(None, in_thread, call) for name, call in calls.items()}
        assert not transport.is_closing()
        transport.abort()
        server.close()
        await server.wait_closed()
        return outcomes

    outcomes = motet.run(main())
    for name, outcome in outcomes.items():
        assert isinstance(outcome, RuntimeError), name
        assert "another thread" in str(outcome), name


def test_a_running_loop_cannot_be_run_by_another_thread(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:

        async def main() -> Any:
            return await asyncio.to_thread(in_thread, loop.run_forever)

        error = loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    assert isinstance(error, RuntimeError)
    assert str(error) == "This event loop is already running"


def test_a_loop_may_move_between_runs(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        here = loop.run_until_complete(asyncio.sleep(0, "here"))
        there = in_thread(lambda: loop.run_until_complete(asyncio.sleep(0.001, "there")))
    assert (here, there) == ("here", "there")


def test_coroutines_can_be_sent_to_a_running_loop(make_loop: MakeLoop) -> None:
    loop = make_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "result"), loop)
        assert future.result(30) == "result"
        failing = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.Event().wait(), 0.01), loop)
        with pytest.raises(TimeoutError):
            failing.result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_starting_and_closing_race_with_senders() -> None:
    """A sender holds the loop's state for a moment; running and closing must wait for it, not fail."""
    for _ in range(20):
        loop = motet.new_event_loop()
        finished = threading.Event()

        def send(loop: motet.EventLoop = loop, finished: threading.Event = finished) -> None:
            while not finished.is_set():
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError:
                    return

        senders = [threading.Thread(target=send) for _ in range(2)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(3):
                loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        finally:
            finished.set()
            for sender in senders:
                sender.join()
        assert loop.is_closed()
