"""Peers that do not read, and slow programs: memory stays within the limits that the program has set."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from clean_run import run_clean
from conftest import MakeLoop
from memory import resident

CONNECTIONS = 50
PIECE = bytes(16 * 1024)
HIGH = 64 * 1024
# What one read may bring at once.
READ = 256 * 1024
# What the loop itself and the allocator need on top, however many connections there are.
SLACK = 8 * 1024 * 1024

pytestmark = pytest.mark.thread_unsafe(reason="measures the process's memory")


@contextmanager
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets with little room in the kernel."""
    with ExitStack() as stack:
        made = []
        for _ in range(CONNECTIONS):
            here, there = socket.socketpair()
            stack.enter_context(there)
            for sock in (here, there):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            made.append((here, there))
        yield made


async def settle() -> None:
    """Lets everything happen that will happen without the peers."""
    for _ in range(20):
        await asyncio.sleep(0.005)


def test_writers_that_drain_queue_no_more_than_the_limit(make_loop: MakeLoop) -> None:
    async def write_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(PIECE)
            await writer.drain()

    async def main() -> None:
        with pairs() as sockets:
            before = resident()
            writers = []
            for here, _ in sockets:
                _, writer = await asyncio.open_connection(sock=here)
                writer.transport.set_write_buffer_limits(HIGH)
                writers.append(writer)
            tasks = [asyncio.create_task(write_on(writer)) for writer in writers]
            await settle()
            sizes = [writer.transport.get_write_buffer_size() for writer in writers]
            grown = resident() - before
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for writer in writers:
                writer.transport.abort()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        # All have come to the limit, and none has gone on after it.
        assert min(sizes) > HIGH - len(PIECE)
        assert max(sizes) <= HIGH + len(PIECE)
        assert grown < CONNECTIONS * (HIGH + len(PIECE)) + SLACK

    run_clean(make_loop, main)


class Pausing(asyncio.Protocol):
    """Writes whenever it may, and not when it is told to pause."""

    def __init__(self) -> None:
        self.paused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(HIGH, HIGH // 2)

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.paused -= 1

    def write_on(self) -> None:
        while not self.paused:
            self.transport.write(PIECE)


def test_protocols_that_pause_queue_no_more_than_the_limit(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pairs() as sockets:
            before = resident()
            protocols = []
            for here, there in sockets:
                _, protocol = await loop.create_connection(Pausing, sock=here)
                protocols.append((protocol, there))
            highest = 0
            for _ in range(10):
                for protocol, there in protocols:
                    protocol.write_on()
                    highest = max(highest, protocol.transport.get_write_buffer_size())
                    # A slow reader takes a little.
                    with suppress(BlockingIOError):
                        there.recv(len(PIECE))
                await asyncio.sleep(0.001)
            grown = resident() - before
            for protocol, _ in protocols:
                protocol.transport.abort()
            await settle()
        assert HIGH - len(PIECE) < highest <= HIGH + len(PIECE)
        assert grown < CONNECTIONS * (HIGH + len(PIECE)) + SLACK

    run_clean(make_loop, main)


def test_readers_that_wait_hold_no_more_than_their_limit(make_loop: MakeLoop) -> None:
    """A stream's reader pauses its transport at twice its limit: the rest stays with the peer."""

    async def flood(sock: socket.socket) -> int:
        sent = 0
        for _ in range(500):
            with suppress(BlockingIOError):
                sent += sock.send(PIECE)
            await asyncio.sleep(0)
        return sent

    async def main() -> None:
        with pairs() as sockets:
            before = resident()
            streams = [await asyncio.open_connection(sock=here, limit=HIGH) for here, _ in sockets]
            sent = await asyncio.gather(*(flood(there) for _, there in sockets))
            await settle()
            held = [len(reader._buffer) for reader, _ in streams]  # type: ignore[attr-defined]
            grown = resident() - before
            for (reader, _), (_, there), count in zip(streams, sockets, sent, strict=True):
                there.close()
                assert len(await reader.read()) == count
            for _, writer in streams:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        assert min(held) > 2 * HIGH
        assert max(held) <= 2 * HIGH + READ
        assert grown < CONNECTIONS * (2 * HIGH + READ) + SLACK

    run_clean(make_loop, main)
