"""Threads hammer `call_soon_threadsafe` on a sleeping and on a busy loop; many loops run side by side."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import motet
import pytest

pytestmark = pytest.mark.thread_unsafe(reason="starts threads of its own")

THREADS = 8
CALLS = 20_000


class Ledger:
    """What has arrived from each thread, and whether in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.next = [0] * THREADS
        self.disordered = 0

    def receive(self, thread: int, number: int) -> None:
        if number != self.next[thread]:
            self.disordered += 1
        self.next[thread] += 1
        if self.next == [CALLS] * THREADS:
            self.loop.stop()

    def send(self, thread: int) -> None:
        for number in range(CALLS):
            self.loop.call_soon_threadsafe(self.receive, thread, number)


@pytest.mark.parametrize("busy", [False, True], ids=["sleeping", "busy"])
def test_nothing_is_lost_and_order_is_kept(busy: bool) -> None:
    with closing(motet.new_event_loop()) as loop:
        ledger = Ledger(loop)
        if busy:

            def again() -> None:
                loop.call_soon(again)

            again()
        senders = [threading.Thread(target=ledger.send, args=[thread]) for thread in range(THREADS)]
        for sender in senders:
            loop.call_soon(sender.start)
        guard = loop.call_later(120, loop.stop)
        loop.run_forever()
        guard.cancel()
        for sender in senders:
            sender.join()
    assert ledger.next == [CALLS] * THREADS
    assert ledger.disordered == 0


def test_single_wake_ups_are_never_lost() -> None:
    """Each call waits for the loop's answer before the next, so that the loop goes to sleep in between."""
    with closing(motet.new_event_loop()) as loop:
        runner = threading.Thread(target=loop.run_forever)
        runner.start()
        missed = 0
        for _ in range(3000):
            heard = threading.Event()
            loop.call_soon_threadsafe(heard.set)
            missed += not heard.wait(30)
        loop.call_soon_threadsafe(loop.stop)
        runner.join(30)
    assert missed == 0


def test_many_loops_in_threads() -> None:
    async def converse(number: int) -> list[bytes]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(b"%d: %s" % (number, line))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            lines = []
            for turn in range(100):
                writer.write(b"%d\n" % turn)
                lines.append(await reader.readline())
                await asyncio.sleep(0)
            writer.close()
            await writer.wait_closed()
        return lines

    with ThreadPoolExecutor(THREADS) as pool:
        for round_of_loops in range(5):
            numbers = range(round_of_loops * THREADS, (round_of_loops + 1) * THREADS)
            for number, lines in zip(
                numbers, pool.map(lambda number: motet.run(converse(number)), numbers), strict=True
            ):
                assert lines == [b"%d: %d\n" % (number, turn) for turn in range(100)]


def test_loops_send_to_each_other() -> None:
    """A ring of loops in threads passes a number round."""
    turns = 2000
    with closing(motet.new_event_loop()) as first, closing(motet.new_event_loop()) as second:
        loops = [first, second]
        passed: list[int] = []

        def take(number: int) -> None:
            passed.append(number)
            if number == turns:
                for loop in loops:
                    loop.call_soon_threadsafe(loop.stop)
            else:
                loops[number % 2].call_soon_threadsafe(take, number + 1)

        runners = [threading.Thread(target=loop.run_forever) for loop in loops]
        first.call_soon_threadsafe(take, 0)
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join(60)
        assert not any(runner.is_alive() for runner in runners)
    assert passed == list(range(turns + 1))
