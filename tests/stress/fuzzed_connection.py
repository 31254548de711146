"""One connection of the fuzz: the protocols that check what they are told, and a peer that misbehaves.

The program's side is a transport of the loop under test. The peer is a bare socket that is polled, so that no
code of a loop is between it and what the transport does.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress

PERIOD = 251
_LONG = bytes(range(PERIOD)) * 1300
LARGEST = len(_LONG) - PERIOD
RESET = struct.pack("ii", 1, 0)
METHODS = ["data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost"]


class Injected(Exception):
    """Raised in a callback of a protocol, on purpose."""


def pattern(place: int, length: int) -> bytes:
    """Bytes that tell their place in the stream."""
    return _LONG[place % PERIOD : place % PERIOD + length]


def random_size(generator: random.Random) -> int:
    return generator.choice(
        [generator.randrange(10), generator.randrange(3000), generator.randrange(50_000, LARGEST)]
    )


class Connection:
    """The program's side: what its protocols have heard, and whether that can be right."""

    def __init__(self, generator: random.Random, peer: Peer) -> None:
        self.generator = generator
        self.peer = peer
        self.transport: asyncio.Transport
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.error: Exception | None = None
        self.received = 0
        self.written = 0
        self.ended = False
        self.paused = False
        # What the program has done that excuses missing bytes.
        self.broken = False
        # The method that raises when it is called next, and how often one has.
        self.armed = ""
        self.raised = 0
        self.wrong: list[str] = []

    def expect(self, condition: bool, what: str) -> None:
        if not condition:
            self.wrong.append(what)

    def heard(self, method: str) -> None:
        self.expect(self.made.is_set(), f"{method} before connection_made")
        self.expect(not self.lost.is_set(), f"{method} after connection_lost")

    def fire(self, method: str) -> None:
        if self.armed == method:
            self.armed = ""
            self.raised += 1
            # After these the transport must end the connection.
            self.broken |= method in ("data_received", "eof_received")
            raise Injected(method)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.expect(not self.made.is_set(), "connection_made twice")
        self.transport = transport
        self.made.set()

    def data(self, data: bytes) -> None:
        self.heard("data_received")
        self.expect(not self.ended, "data after the end")
        self.expect(not self.paused, "data while reading is paused")
        self.expect(len(data) > 0, "no data")
        for start in range(0, len(data), LARGEST):
            piece = data[start : start + LARGEST]
            self.expect(piece == pattern(self.received, len(piece)), f"wrong bytes at {self.received}")
            self.received += len(piece)
        if self.generator.random() < 0.1:
            self.pause(self.generator.random() * 0.003)
        self.fire("data_received")

    def pause(self, seconds: float) -> None:
        """Reads nothing for a while."""
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self.resume)

    def resume(self) -> None:
        self.paused = False
        # asyncio tells of the end once more where reading goes on after it.
        if not self.ended:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        self.heard("eof_received")
        self.expect(not self.ended, "eof_received twice")
        self.expect(not self.paused, "eof_received while reading is paused")
        self.ended = True
        self.expect(
            self.received == self.peer.sent, f"{self.received} of {self.peer.sent} bytes before the end"
        )
        self.fire("eof_received")
        return self.generator.random() < 0.5

    def pause_writing(self) -> None:
        self.heard("pause_writing")
        self.expect(self.writable.is_set(), "pause_writing twice")
        self.writable.clear()
        self.fire("pause_writing")

    def resume_writing(self) -> None:
        self.heard("resume_writing")
        self.expect(not self.writable.is_set(), "resume_writing without pause_writing")
        self.writable.set()
        self.fire("resume_writing")

    def connection_lost(self, error: Exception | None) -> None:
        self.heard("connection_lost")
        self.error = error
        self.lost.set()
        self.writable.set()
        self.expect(error is None or isinstance(error, OSError | Injected), f"ended by {error!r}")
        self.fire("connection_lost")


class Plain(asyncio.Protocol):
    """Hears of a connection by `data_received`."""

    def __init__(self, connection: Connection) -> None:
        self.connection_made = connection.connection_made  # type: ignore[method-assign]
        self.data_received = connection.data  # type: ignore[assignment,method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]


class Buffered(asyncio.BufferedProtocol):
    """Hears of a connection by buffers of ever another size."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.buffer = bytearray()
        self.connection_made = connection.connection_made  # type: ignore[method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(self.connection.generator.choice([1, 100, 5000, max(sizehint, 1), 300_000]))
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.connection.data(bytes(memoryview(self.buffer)[:count]))


class Peer:
    """The other side: a bare socket that sends and reads in random pieces, and ends in a random way."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.sock: socket.socket
        self.sent = 0
        self.received = 0
        # Whether the program's end came, after all it has sent.
        self.at_end = False
        # Whether this side has ended as it should.
        self.orderly = False
        self.wrong: list[str] = []

    async def run(self, sock: socket.socket) -> None:
        """Converses for a while and ends the connection."""
        self.sock = sock
        with sock, suppress(OSError):
            for _ in range(self.generator.randrange(12)):
                step = self.generator.choice([self.send, self.send, self.read_some, self.rest])
                await step()
            if self.generator.random() < 0.6:
                await self.end_well()
            elif self.generator.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def send(self) -> None:
        """Sends a piece of some size; reads where there is no room: the program may wait for that."""
        data = memoryview(pattern(self.sent, random_size(self.generator)))
        while data:
            try:
                count = self.sock.send(data)
            except BlockingIOError:
                await self.read_some()
                continue
            self.sent += count
            data = data[count:]

    async def read_some(self) -> None:
        size = self.generator.choice([1, 700, 300_000])
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            await self.rest()
            return
        expected = pattern(self.received, len(data))
        if data != expected:
            self.wrong.append(f"wrong bytes at {self.received} of the peer")
        self.received += len(data)
        if not data:
            self.at_end = True
            await self.rest()

    async def rest(self) -> None:
        await asyncio.sleep(self.generator.choice([0, 0.0005, 0.002]))

    async def end_well(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        self.orderly = True
        while not self.at_end:
            await self.read_some()
