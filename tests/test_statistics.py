"""`statistics()`: every count against one that is made independently."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing
from typing import Any

import motet

COUNTS = {
    "turns",
    "polls",
    "callbacks",
    "timers_fired",
    "tasks_started",
    "connections_opened",
    "connections_accepted",
    "processes_started",
    "bytes_received",
    "bytes_sent",
    "callbacks_ready",
    "timers_pending",
    "descriptors",
}


def difference(before: dict[str, Any], after: dict[str, Any], name: str) -> Any:
    return after[name] - before[name]


def test_every_number_is_there_from_the_beginning() -> None:
    with closing(motet.new_event_loop()) as loop:
        statistics = loop.statistics()
        others = {"busy_seconds", "idle_seconds", "lag", "blocked", "files", "tls"}
        assert statistics.keys() == COUNTS | others
        assert [statistics[name] for name in COUNTS] == [0] * len(COUNTS)
        assert statistics["lag"] == {"p50": 0, "p99": 0, "max": 0, "count": 0}
        assert statistics["blocked"] == []
        assert statistics["files"] is None


def test_callbacks_timers_and_tasks_are_counted() -> None:
    async def nothing() -> None:
        """Ends in its first step."""

    with closing(motet.new_event_loop()) as loop:
        # Opens what the first run opens.
        loop.run_until_complete(nothing())
        before = loop.statistics()
        ran: list[int] = []
        for number in range(100):
            loop.call_soon(ran.append, number)
        for number in range(20):
            loop.call_later(0.001, ran.append, number)
        kept = loop.call_later(3600, ran.append, 1)
        loop.call_later(3600, ran.append, 1).cancel()
        for _ in range(7):
            loop.create_task(nothing())
        assert loop.statistics()["callbacks_ready"] == 107
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        after = loop.statistics()
        assert len(ran) == 120
        # The seven tasks' steps and the stop.
        assert difference(before, after, "callbacks") == 120 + 7 + 1
        assert difference(before, after, "timers_fired") == 21
        assert difference(before, after, "tasks_started") == 7
        assert after["timers_pending"] == 1
        assert after["callbacks_ready"] == 0
        assert difference(before, after, "polls") >= 2
        assert difference(before, after, "turns") >= 2
        kept.cancel()
        assert loop.statistics()["timers_pending"] == 0


def test_connections_and_bytes_are_counted() -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def ask(address: tuple[str, int], size: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(bytes(size // 2))
        writer.write(bytes(size - size // 2))
        await reader.readexactly(size)
        writer.close()
        await writer.wait_closed()

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        before = loop.statistics()
        address = server.sockets[0].getsockname()
        await asyncio.gather(*(ask(address, size) for size in sizes))
        await asyncio.sleep(0.02)
        after = loop.statistics()
        server.close()
        await server.wait_closed()
        return before, after

    sizes = [1, 10, 1000, 100_000, 1_000_000]
    before, after = motet.run(main())
    assert difference(before, after, "connections_opened") == len(sizes)
    assert difference(before, after, "connections_accepted") == len(sizes)
    # Each byte goes there and back, over two transports of the same loop.
    assert difference(before, after, "bytes_sent") == 2 * sum(sizes)
    assert difference(before, after, "bytes_received") == 2 * sum(sizes)
    assert difference(before, after, "descriptors") == 0


def test_socket_calls_are_counted() -> None:
    async def main(here: socket.socket, there: socket.socket) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        sending = loop.create_task(loop.sock_sendall(there, bytes(1_000_000)))
        received = 0
        while received < 400_000:
            received += len(await loop.sock_recv(here, 50_000))
        buffer = bytearray(50_000)
        while received < 1_000_000:
            received += await loop.sock_recv_into(here, buffer)
        await sending
        return loop.statistics()

    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        statistics = motet.run(main(here, there))
    assert statistics["bytes_sent"] == 1_000_000
    assert statistics["bytes_received"] == 1_000_000


def test_times_add_up() -> None:
    with closing(motet.new_event_loop()) as loop:

        async def main() -> None:
            await asyncio.sleep(0.2)
            time.sleep(0.1)  # noqa: ASYNC251, the loop is to be busy

        began = time.monotonic()
        loop.run_until_complete(main())
        took = time.monotonic() - began
        statistics = loop.statistics()
    assert statistics["idle_seconds"] >= 0.19
    assert statistics["busy_seconds"] >= 0.1
    assert statistics["idle_seconds"] + statistics["busy_seconds"] <= took
    lag = statistics["lag"]
    assert 0 < lag["p50"] <= lag["p99"] <= lag["max"]
    assert lag["max"] >= 0.1
    assert lag["count"] > 0


def test_they_can_be_asked_for_after_close() -> None:
    loop = motet.new_event_loop()
    loop.call_later(3600, print)
    loop.run_until_complete(asyncio.sleep(0))
    before = loop.statistics()
    loop.close()
    after = loop.statistics()
    for name in ("turns", "polls", "callbacks", "tasks_started", "busy_seconds", "idle_seconds"):
        assert after[name] == before[name]
    for name in ("descriptors", "timers_pending", "callbacks_ready"):
        assert after[name] == 0
