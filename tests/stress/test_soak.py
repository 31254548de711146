"""Connections are opened, used and closed, side by side and one after the other: memory stays flat.

`MOTET_SOAK_CONNECTIONS=1000000` makes it a soak; with pytest's `-s` the figures are shown as it goes on.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import suppress
from pathlib import Path

import motet
import pytest
from clean_run import run_clean
from dose import SOAK_CONNECTIONS
from memory import resident

AT_ONCE = 50
PARTS = 10
# One address of the loopback has too few ports for a million connections that have just ended.
ADDRESSES = [f"127.0.0.{number}" for number in range(1, 9)]
# The allocator's wobbling. A leak of a hundred bytes each exceeds it.
ALLOWANCE = 1024 * 1024
BLOCKS_ALLOWED = 2_000

pytestmark = pytest.mark.thread_unsafe(reason="long, and measures the process's memory")


class Answering(asyncio.Protocol):
    """Sends back what it gets; every third connection it ends itself, every seventh by force."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        Answering.count += 1
        self.number = Answering.count

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if self.number % 7 == 0:
            self.transport.abort()
        elif self.number % 3 == 0:
            self.transport.close()


class Soak:
    """Clients that connect over TCP or a Unix socket, with streams or a protocol, ask, and end."""

    def __init__(self, port: int, path: Path) -> None:
        self.port = port
        self.path = path
        self.number = 0
        self.end = 0

    async def by_streams(self, number: int) -> None:
        if number % 2:
            reader, writer = await asyncio.open_connection(ADDRESSES[number % len(ADDRESSES)], self.port)
        else:
            reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(b"question")
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                assert await reader.readexactly(8) == b"question"
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def by_protocol(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        if number % 2:
            address = ADDRESSES[number % len(ADDRESSES)]
            transport, _ = await loop.create_connection(asyncio.Protocol, address, self.port)
        else:
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, self.path)
        transport.write(b"question")
        transport.abort()

    async def given_up(self, number: int) -> None:
        task = asyncio.create_task(self.by_streams(number))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def client(self) -> None:
        ways = [self.by_streams, self.by_protocol, self.by_streams, self.given_up]
        while self.number < self.end:
            self.number += 1
            await ways[self.number // 2 % len(ways)](self.number)

    async def go_on(self, connections: int) -> tuple[int, int]:
        """Makes that many connections; memory and the interpreter's blocks after them."""
        self.end = self.number + connections
        await asyncio.gather(*(self.client() for _ in range(AT_ONCE)))
        gc.collect()
        return resident(), sys.getallocatedblocks()


def test_memory_stays_flat(tmp_path: Path) -> None:
    figures: list[tuple[int, int]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tcp = await loop.create_server(Answering, ADDRESSES[0], 0, backlog=1000)
        port = tcp.sockets[0].getsockname()[1]
        others = await loop.create_server(Answering, ADDRESSES[1:], port, backlog=1000)
        unix = await loop.create_unix_server(Answering, tmp_path / "socket", backlog=1000)
        soak = Soak(port, tmp_path / "socket")
        for _ in range(PARTS):
            figures.append(await soak.go_on(SOAK_CONNECTIONS // PARTS))
            memory, blocks = figures[-1]
            print(f"{soak.number:,} connections: {memory / 1024:,.0f} KiB, {blocks:,} blocks", flush=True)
        for server in (tcp, others, unix):
            server.close()
            await server.wait_closed()

    run_clean(motet.new_event_loop, main, limit=24 * 3600)
    # The first ones fill the caches of the loop, of the interpreter and of the allocator.
    settled, last = figures[2], figures[-1]
    assert last[0] - settled[0] < ALLOWANCE, figures
    assert last[1] - settled[1] < BLOCKS_ALLOWED, figures
