"""Cancelled connects and transports closed at random, while numbers of descriptors are reused.

Each client sends its own number in every message, and so does the server's answer: a byte that reaches the
wrong connection is found. The run is repeatable but for the timing of the system: `MOTET_STRESS_SEED` chooses
it, `MOTET_STRESS_SECONDS` its length.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
from contextlib import suppress

import motet
import pytest
from dose import SEED, seconds

CLIENTS = 40
WORD = struct.Struct(">Q")

pytestmark = pytest.mark.thread_unsafe(reason="long, and busy with descriptors")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Answering(asyncio.Protocol):
    """The server's side: every word of a connection must be its first one; sends each back."""

    def __init__(self, wrong: list[str], generator: random.Random) -> None:
        self.wrong = wrong
        self.generator = generator
        self.first: bytes | None = None
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        whole = len(data) // WORD.size * WORD.size
        self.rest = data[whole:]
        for place in range(0, whole, WORD.size):
            word = data[place : place + WORD.size]
            if self.first is None:
                self.first = word
            if word != self.first:
                self.wrong.append(f"the connection of {self.first!r} has received {word!r}")
        self.transport.write(data[:whole])
        if self.generator.random() < 0.02:
            if self.generator.random() < 0.5:
                self.transport.abort()
            else:
                self.transport.close()


class Stress:
    """The clients' side, and what has been counted."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.wrong: list[str] = []
        self.numbers = 0
        self.answered = 0
        self.cancelled = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.numbers += 1
        word = WORD.pack(self.numbers)
        for _ in range(self.generator.randrange(8)):
            count = self.generator.choice([1, 1, 10, 5000])
            for _ in range(self.generator.choice([1, 3])):
                writer.write(word * count)
            if self.generator.random() < 0.1:
                writer.transport.abort()
                return
            answer = await reader.readexactly(len(word) * count)
            if answer != word * count:
                self.wrong.append(f"client {word!r} has received another's bytes")
            self.answered += count

    async def connect_once(self, address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        try:
            await self.converse(reader, writer)
        finally:
            writer.close()

    async def client(self, address: tuple[str, int], end: float) -> None:
        while time.monotonic() < end:
            limit = self.generator.choice([0, 0.0002, 0.001, 0.02, 5])
            try:
                async with asyncio.timeout(limit):
                    await self.connect_once(address)
            except TimeoutError:
                self.cancelled += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0)


async def stress(seconds: float, seed: int) -> tuple[Stress, dict[str, object]]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, motet.EventLoop)
    stress = Stress(random.Random(seed))
    reports: list[object] = []
    loop.set_exception_handler(lambda _, details: reports.append(details))
    before = open_descriptors()
    server = await loop.create_server(
        lambda: Answering(stress.wrong, stress.generator), "127.0.0.1", 0, backlog=1024
    )
    address = server.sockets[0].getsockname()
    end = time.monotonic() + seconds
    await asyncio.gather(*(stress.client(address, end) for _ in range(CLIENTS)))
    server.close()
    server.abort_clients()
    await asyncio.wait_for(server.wait_closed(), 30)
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while open_descriptors() > before:  # noqa: ASYNC110, nothing tells of it
                await asyncio.sleep(0.01)
    left = open_descriptors() - before
    return stress, {"reports": reports, "left": left}


def test_every_byte_reaches_its_own_connection() -> None:
    result, rest = motet.run(stress(seconds(10), SEED))
    assert result.wrong == []
    assert rest == {"reports": [], "left": 0}
    # The run was worth something.
    assert result.answered > 1000
    assert result.cancelled > 10
