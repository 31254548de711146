"""Random conversations of transports with peers that misbehave: every byte is checked, and what is left.

`MOTET_STRESS_SECONDS` sets how long it goes on; `MOTET_STRESS_SEED` chooses the conversations, as far as the
system's timing lets them repeat. A failure names its conversation.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import time
import weakref
from contextlib import suppress
from typing import Any

import pytest
from clean_run import run_clean
from conftest import MakeLoop
from dose import SEED, seconds
from fuzzed_connection import (
    LARGEST,
    METHODS,
    Buffered,
    Connection,
    Injected,
    Peer,
    Plain,
    pattern,
    random_size,
)

AT_ONCE = 16
# Against hanging only.
LIMIT = 60

pytestmark = pytest.mark.thread_unsafe(reason="long, and counts the process's descriptors")


class Program:
    """The program's side of one conversation: random calls of a transport's methods."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.transport = connection.transport
        self.generator = connection.generator
        self.output_ended = False

    async def run(self) -> None:
        steps = [self.write, self.write, self.write_lines, self.write_much, self.rest, self.rest, self.wait]
        steps += [self.pause, self.limit, self.change_protocol, self.arm]
        for _ in range(self.generator.randrange(20)):
            if self.transport.is_closing():
                break
            await self.generator.choice(steps)()
        await self.end()

    def piece(self) -> bytes | bytearray | memoryview:
        data = pattern(self.connection.written, random_size(self.generator))
        self.connection.written += len(data)
        return self.generator.choice([bytes, bytearray, memoryview])(data)

    def may_write(self) -> bool:
        return not self.output_ended and not self.transport.is_closing()

    async def write(self) -> None:
        if self.may_write():
            self.transport.write(self.piece())

    async def write_lines(self) -> None:
        if self.may_write():
            pieces = [self.piece() for _ in range(self.generator.randrange(4))]
            # asyncio's transport never gets done with a last piece that is empty.
            self.transport.writelines([piece for piece in pieces if piece])

    async def write_much(self) -> None:
        for _ in range(self.generator.randrange(2, 8)):
            await self.write()

    async def rest(self) -> None:
        await asyncio.sleep(self.generator.choice([0, 0, 0.001]))

    async def wait(self) -> None:
        await self.connection.writable.wait()

    async def pause(self) -> None:
        self.connection.pause(self.generator.random() * 0.003)

    async def limit(self) -> None:
        high = self.generator.choice([0, 1, 1000, 65_536, LARGEST])
        self.transport.set_write_buffer_limits(high, self.generator.choice([None, 0, high // 2, high]))

    async def change_protocol(self) -> None:
        self.transport.set_protocol(self.generator.choice([Plain, Buffered])(self.connection))

    async def arm(self) -> None:
        if self.generator.random() < 0.2:
            self.connection.armed = self.generator.choice(METHODS)

    async def end(self) -> None:
        """Ends the connection, or has the peer end it."""
        how = self.generator.choice(["close", "close", "abort", "write_eof", "wait"])
        if how == "abort":
            self.connection.broken = True
            # asyncio's fails after some ends.
            if not self.connection.lost.is_set():
                self.transport.abort()
        elif how == "write_eof":
            # asyncio's says so where the peer has reset the connection.
            with suppress(OSError):
                self.transport.write_eof()
            await self.rest()
        if how in ("write_eof", "wait"):
            # Until the peer has ended its side, and unless that has ended this one.
            while not self.connection.ended and not self.connection.lost.is_set():
                await self.rest()
        self.transport.close()
        await self.connection.lost.wait()


class Conversations:
    """All that a run does, and what it has seen."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.raised = 0
        self.count = 0
        self.complete = 0
        self.wrong: list[str] = []
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, generator: random.Random, connection: Connection) -> socket.socket:
        """Connects in one of the ways in which a program can; the peer's socket comes back."""
        loop = asyncio.get_running_loop()
        way = generator.choice(["accept", "connect", "pair"])

        def factory() -> Plain | Buffered:
            protocol = generator.choice([Plain, Buffered])(connection)
            self.alive.add(protocol)
            return protocol

        if way == "pair":
            here, there = socket.socketpair()
            await loop.create_connection(factory, sock=here)
        elif way == "connect":
            with socket.create_server(("127.0.0.1", 0)) as listening:
                await loop.create_connection(factory, *listening.getsockname())
                there = listening.accept()[0]
        else:
            server = await loop.create_server(factory, "127.0.0.1", 0)
            there = socket.create_connection(server.sockets[0].getsockname())
            await connection.made.wait()
            server.close()
        there.setblocking(False)
        if generator.random() < 0.3:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return there

    async def converse(self, number: int) -> None:
        generator = random.Random(f"{SEED}.{number}")
        peer = Peer(random.Random(f"{SEED}.{number}.peer"))
        connection = Connection(generator, peer)
        there = await self.connect(generator, connection)
        self.alive.add(connection.transport)
        async with asyncio.TaskGroup() as group:
            group.create_task(Program(connection).run())
            group.create_task(peer.run(there))
        # What a protocol raises in connection_lost is reported after that.
        await asyncio.sleep(0)
        self.judge(number, connection, peer)

    def judge(self, number: int, connection: Connection, peer: Peer) -> None:
        self.count += 1
        self.raised += connection.raised
        if peer.at_end and not connection.broken:
            self.complete += 1
            connection.expect(
                peer.received == connection.written,
                f"{peer.received} of {connection.written} bytes at an orderly end",
            )
        if peer.orderly and not connection.broken:
            connection.expect(connection.error is None, f"an orderly end with {connection.error!r}")
        connection.expect(connection.transport.get_write_buffer_size() == 0, "bytes wait after the end")
        connection.expect(connection.transport.is_closing(), "lost, but not closing")
        self.wrong += [f"conversation {number}: {what}" for what in connection.wrong + peer.wrong]

    async def go_on(self, numbers: list[int], until: float) -> None:
        while time.monotonic() < until and not self.wrong:
            number = numbers[0] = numbers[0] + 1
            try:
                async with asyncio.timeout(LIMIT):
                    await self.converse(number)
            except Exception as error:
                error.add_note(f"in conversation {number} of seed {SEED}")
                raise


def test_conversations(make_loop: MakeLoop) -> None:
    run = Conversations()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            # No exception is kept: its traceback would keep the connection.
            lambda _, details: run.reports.append(repr(details.get("exception", details["message"])))
        )
        numbers, until = [0], time.monotonic() + seconds(8)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(run.go_on(numbers, until))

    run_clean(make_loop, main)
    assert run.wrong == []
    assert [report for report in run.reports if not report.startswith(Injected.__name__)] == []
    assert len(run.reports) == run.raised
    gc.collect()
    assert len(run.alive) == 0
    # The run was worth something.
    assert run.count > 100
    assert run.complete > 30
    assert run.raised > 3
